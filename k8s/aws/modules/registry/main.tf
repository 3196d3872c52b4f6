# Repositories for the image and for the application as an OCI artifact. A tag never
# changes what it names; old images that no deployment pinned go by themselves.

variable "names" {
  description = "Names of the repositories."
  type        = set(string)
}

variable "key_arn" {
  description = "KMS key of the images."
  type        = string
}

variable "keep" {
  description = "How many images are kept of each repository."
  type        = number
  default     = 50
}

resource "aws_ecr_repository" "this" {
  for_each             = var.names
  name                 = each.value
  image_tag_mutability = "IMMUTABLE"

  image_scanning_configuration {
    scan_on_push = true
  }

  encryption_configuration {
    encryption_type = "KMS"
    kms_key         = var.key_arn
  }
}

resource "aws_ecr_lifecycle_policy" "this" {
  for_each   = aws_ecr_repository.this
  repository = each.value.name
  policy = jsonencode({
    rules = [{
      rulePriority = 1
      description  = "The last ${var.keep}"
      selection    = { tagStatus = "any", countType = "imageCountMoreThan", countNumber = var.keep }
      action       = { type = "expire" }
    }]
  })
}

output "urls" {
  description = "Repositories as image references, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.repository_url }
}

output "arns" {
  description = "ARNs, by name."
  value       = { for name, repository in aws_ecr_repository.this : name => repository.arn }
}
