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

  # The state holds access keys and the password of the cache: keep it in an
  # encrypted bucket, with a lock. `init -backend-config=FILE` gives bucket, key,
  # region and kms_key_id.
  backend "s3" {
    encrypt      = true
    use_lockfile = true
  }
}

provider "aws" {
  region = var.region

  default_tags {
    tags = merge({ Application = "gristmill", Environment = var.environment }, var.tags)
  }
}
