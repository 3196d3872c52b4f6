# One table for one key-value label, in the layout of Spin and Gristmill: the
# partition key `PK`; `VAL`, `VER` and `EXP` need no declaration. DynamoDB deletes an
# entry when the time in `EXP` (seconds) is over: entries of `dedup_store` have one,
# all others stay.

variable "name" {
  description = "Name of the table."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the table."
  type        = string
}

variable "deletion_protection" {
  description = "Refuses to delete the table."
  type        = bool
}

resource "aws_dynamodb_table" "this" {
  name                        = var.name
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "PK"
  deletion_protection_enabled = var.deletion_protection

  attribute {
    name = "PK"
    type = "S"
  }

  ttl {
    attribute_name = "EXP"
    enabled        = true
  }

  point_in_time_recovery {
    enabled = true
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = var.key_arn
  }
}

output "name" {
  description = "Name of the table."
  value       = aws_dynamodb_table.this.name
}

output "arn" {
  description = "ARN of the table."
  value       = aws_dynamodb_table.this.arn
}
