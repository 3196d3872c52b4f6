# Repositories for the image and for the application as an OCI artifact. A tag never
# changes what it names. ECR does not know what is deployed: the oldest tag goes, deployed
# or not, when so many newer ones are there that nobody goes back to it.

variable "names" {
  description = "Names of the repositories."
  type        = set(string)
}

variable "key_arn" {
  description = "KMS key of the images."
  type        = string
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
    rules = [
      {
        # Parts of a tagged image, as one for each architecture, are kept with it.
        rulePriority = 1
        description  = "Uploads without a tag go after 14 days"
        selection    = { tagStatus = "untagged", countType = "sinceImagePushed", countUnit = "days", countNumber = 14 }
        action       = { type = "expire" }
      },
      {
        rulePriority = 2
        description  = "The last 500 tags stay"
        selection    = { tagStatus = "tagged", tagPatternList = ["*"], countType = "imageCountMoreThan", countNumber = 500 }
        action       = { type = "expire" }
      },
    ]
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
