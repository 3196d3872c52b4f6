# Versions of the tool and of its providers; the same for OpenTofu and Terraform.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 6.14, < 7.0"
    }
    random = {
      source  = "hashicorp/random"
      version = "~> 3.6"
    }
  }

  # The state holds access keys and passwords: keep it in an encrypted bucket, with a
  # lock. example-backend.hcl has what `init -backend-config=FILE` needs.
  backend "s3" {
    encrypt = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ Application = "gristmill", Environment = var.environment }, var.tags)
  }
}
