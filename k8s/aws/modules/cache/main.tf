# Redis for counters and sessions: TLS, a password, a replica in another zone. It
# keeps no append-only file: a failover may lose the last writes, so what must
# survive them is in DynamoDB. Cluster mode is off, because each label has a database
# of its own.

variable "name" {
  description = "Name of the replication group."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the cache."
  type        = string
}

variable "subnet_ids" {
  description = "Subnets for data."
  type        = list(string)
}

variable "client_security_group_ids" {
  description = "Security groups that reach it; by any name."
  type        = map(string)
}

variable "node_type" {
  description = "Type of a node."
  type        = string
}

variable "nodes" {
  description = "Primary and replicas, 2 to 6."
  type        = number

  validation {
    condition     = var.nodes >= 2 && var.nodes <= 6
    error_message = "Give 2 to 6: one node cannot fail over."
  }
}

variable "snapshot_days" {
  description = "Days that daily snapshots are kept, 1 to 35."
  type        = number

  validation {
    condition     = var.snapshot_days >= 1 && var.snapshot_days <= 35
    error_message = "Give 1 to 35 days."
  }
}

variable "token_update" {
  description = "What a change does to the old password: `ROTATE` leaves it valid beside the new one, `SET` ends it."
  type        = string

  validation {
    condition     = contains(["ROTATE", "SET"], var.token_update)
    error_message = "Give `ROTATE` or `SET`."
  }
}

variable "keep_deleted" {
  description = "Leaves a last snapshot, and keeps the deleted secret, and its name, for 7 days."
  type        = bool
}

variable "log_days" {
  description = "Days that the log of slow commands is kept."
  type        = number
}

variable "key_arn" {
  description = "KMS key of the data at rest, of snapshots, logs and the password."
  type        = string
}

variable "secret_name" {
  description = "Name of the secret with the password, as `external` secrets of the chart read it."
  type        = string
}

resource "random_password" "token" {
  length  = 64
  special = false
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:the cache takes the new password from this module: a rotation is `-replace` of it
  name                    = var.secret_name
  description             = "Password of the cache ${var.name}"
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.keep_deleted ? 7 : 0
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id     = aws_secretsmanager_secret.this.id
  secret_string = jsonencode({ password = random_password.token.result })
}

resource "aws_security_group" "this" {
  name        = "${var.name}-cache"
  description = "Cache: Redis from the cluster"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each                     = var.client_security_group_ids
  security_group_id            = aws_security_group.this.id
  description                  = "Redis from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 6379
  to_port                      = 6379
  referenced_security_group_id = each.value
}

resource "aws_elasticache_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_elasticache_parameter_group" "this" {
  name   = var.name
  family = "redis7"

  # Refuses writes when it is full, rather than forget.
  parameter {
    name  = "maxmemory-policy"
    value = "noeviction"
  }
}

resource "aws_cloudwatch_log_group" "slow" {
  name              = "/gristmill/${var.name}/cache"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

# An environment that is made again has a last snapshot of another name.
resource "random_id" "snapshot" {
  byte_length = 4
}

resource "aws_elasticache_replication_group" "this" {
  replication_group_id       = var.name
  description                = "Key-value stores of Gristmill"
  engine                     = "redis"
  engine_version             = "7.1"
  node_type                  = var.node_type
  num_cache_clusters         = var.nodes
  port                       = 6379
  parameter_group_name       = aws_elasticache_parameter_group.this.name
  subnet_group_name          = aws_elasticache_subnet_group.this.name
  security_group_ids         = [aws_security_group.this.id]
  automatic_failover_enabled = true
  multi_az_enabled           = true
  auto_minor_version_upgrade = true

  transit_encryption_enabled = true
  auth_token                 = random_password.token.result
  auth_token_update_strategy = var.token_update
  at_rest_encryption_enabled = true
  kms_key_id                 = var.key_arn

  snapshot_retention_limit  = var.snapshot_days
  snapshot_window           = "02:00-03:00"
  maintenance_window        = "sun:03:30-sun:04:30"
  final_snapshot_identifier = var.keep_deleted ? "${var.name}-final-${random_id.snapshot.hex}" : null

  log_delivery_configuration {
    destination      = aws_cloudwatch_log_group.slow.name
    destination_type = "cloudwatch-logs"
    log_format       = "json"
    log_type         = "slow-log"
  }
}

output "host" {
  description = "Name of the primary."
  value       = aws_elasticache_replication_group.this.primary_endpoint_address
}

output "secret_arn" {
  description = "Secret with the property `password`."
  value       = aws_secretsmanager_secret.this.arn
}
