# PostgreSQL for accounts and catalog: encrypted, backed up, TLS only.
#
# Two users. The administrator's password is RDS's own affair, which makes it, keeps
# it in Secrets Manager and rotates it; people alone use it. The application's user
# is made by hand (k8s/aws/README.md), as only the network reaches the database; its
# password is made here, of letters and digits, so that it stands in `database_url`
# as it is, and changes by a procedure alone: pods read it when they start, and one
# that changed by itself would cut them off.

variable "name" {
  description = "Name of the instance."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the database."
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

variable "instance_class" {
  description = "Class of the instance."
  type        = string
}

variable "engine_version" {
  description = "Major version of PostgreSQL, 15 or later, which refuse connections without TLS; minor ones are installed by RDS."
  type        = string

  validation {
    condition     = can(regex("^[0-9]+$", var.engine_version)) && try(tonumber(var.engine_version) >= 15, false)
    error_message = "Give a major version from 15 on, as `17`."
  }
}

variable "apply_immediately" {
  description = "Changes at once, with their pauses, rather than in the maintenance window."
  type        = bool
}

variable "multi_az" {
  description = "Keeps a standby in another zone."
  type        = bool
}

variable "storage_gib" {
  description = "Disk in GiB, and how far it may grow by itself."
  type        = object({ initial = number, max = number })
}

variable "backup_days" {
  description = "Days that any moment can be restored, 1 to 35."
  type        = number

  validation {
    condition     = var.backup_days >= 1 && var.backup_days <= 35
    error_message = "Give 1 to 35 days."
  }
}

variable "deletion_protection" {
  description = "Refuses to delete the instance."
  type        = bool
}

variable "keep_deleted" {
  description = "Leaves a last snapshot, and keeps the deleted secret, and its name, for 7 days."
  type        = bool
}

variable "log_days" {
  description = "Days that PostgreSQL's logs are kept."
  type        = number
}

variable "secret_name" {
  description = "Name of the secret with the application's user and password, as `external` secrets of the chart read it."
  type        = string
}

variable "key_arn" {
  description = "KMS key of disk, backups, password and Performance Insights."
  type        = string
}

data "aws_partition" "current" {}

resource "random_password" "application" {
  length  = 48
  special = false
}

resource "aws_secretsmanager_secret" "this" {
  #checkov:skip=CKV2_AWS_57:pods read the password when they start: README.md has the rotation
  name                    = var.secret_name
  description             = "The application's user and password of the database ${var.name}"
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.keep_deleted ? 7 : 0
}

resource "aws_secretsmanager_secret_version" "this" {
  secret_id = aws_secretsmanager_secret.this.id
  secret_string = jsonencode({
    username = "gristmill"
    password = random_password.application.result
  })
}

data "aws_iam_policy_document" "monitoring_trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["monitoring.rds.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "monitoring" {
  name               = "${var.name}-database-monitoring"
  assume_role_policy = data.aws_iam_policy_document.monitoring_trust.json
}

resource "aws_iam_role_policy_attachment" "monitoring" {
  role       = aws_iam_role.monitoring.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AmazonRDSEnhancedMonitoringRole"
}

resource "aws_security_group" "this" {
  name        = "${var.name}-database"
  description = "Database: PostgreSQL from the cluster"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_ingress_rule" "this" {
  for_each                     = var.client_security_group_ids
  security_group_id            = aws_security_group.this.id
  description                  = "PostgreSQL from ${each.key}"
  ip_protocol                  = "tcp"
  from_port                    = 5432
  to_port                      = 5432
  referenced_security_group_id = each.value
}

resource "aws_db_subnet_group" "this" {
  name       = var.name
  subnet_ids = var.subnet_ids
}

resource "aws_db_parameter_group" "this" {
  name_prefix = "${var.name}-"
  family      = "postgres${var.engine_version}"

  # TLS is forced by default (rds.force_ssl): said here, it would be a change in every plan.

  # Slow statements, and changes of tables; never all, and never parameters, as they hold data.
  parameter {
    name  = "log_min_duration_statement"
    value = "1000"
  }

  parameter {
    name  = "log_parameter_max_length"
    value = "0"
  }

  parameter {
    name  = "log_statement"
    value = "ddl"
  }

  lifecycle {
    create_before_destroy = true
  }
}

# RDS would make them itself, without the key and without an end.
resource "aws_cloudwatch_log_group" "this" {
  for_each          = toset(["postgresql", "upgrade"])
  name              = "/aws/rds/instance/${var.name}/${each.key}"
  retention_in_days = var.log_days
  kms_key_id        = var.key_arn
}

# An environment that is made again has a last snapshot of another name.
resource "random_id" "snapshot" {
  byte_length = 4
}

resource "aws_db_instance" "this" {
  identifier                 = var.name
  engine                     = "postgres"
  engine_version             = var.engine_version
  instance_class             = var.instance_class
  db_name                    = "gristmill"
  username                   = "gristmill_admin"
  port                       = 5432
  parameter_group_name       = aws_db_parameter_group.this.name
  db_subnet_group_name       = aws_db_subnet_group.this.name
  vpc_security_group_ids     = [aws_security_group.this.id]
  publicly_accessible        = false
  multi_az                   = var.multi_az
  ca_cert_identifier         = "rds-ca-rsa2048-g1"
  auto_minor_version_upgrade = true
  # Its change is the operator's, by `database.engine_version`.
  allow_major_version_upgrade = true
  apply_immediately           = var.apply_immediately

  manage_master_user_password         = true
  master_user_secret_kms_key_id       = var.key_arn
  iam_database_authentication_enabled = true

  storage_type          = "gp3"
  allocated_storage     = var.storage_gib.initial
  max_allocated_storage = var.storage_gib.max
  storage_encrypted     = true
  kms_key_id            = var.key_arn

  backup_retention_period   = var.backup_days
  backup_window             = "01:00-02:00"
  maintenance_window        = "sun:02:30-sun:03:30"
  copy_tags_to_snapshot     = true
  deletion_protection       = var.deletion_protection
  skip_final_snapshot       = !var.keep_deleted
  final_snapshot_identifier = "${var.name}-final-${random_id.snapshot.hex}"

  enabled_cloudwatch_logs_exports = ["postgresql", "upgrade"]
  monitoring_interval             = 60
  monitoring_role_arn             = aws_iam_role.monitoring.arn
  performance_insights_enabled    = true
  performance_insights_kms_key_id = var.key_arn

  depends_on = [aws_cloudwatch_log_group.this]
}

output "host" {
  description = "Name of the server."
  value       = aws_db_instance.this.address
}

output "administrator_secret_arn" {
  description = "Secret of RDS's own, with the properties `username` and `password` of the administrator."
  value       = aws_db_instance.this.master_user_secret[0].secret_arn
}

output "secret_arn" {
  description = "Secret with the properties `username` and `password`."
  value       = aws_secretsmanager_secret.this.arn
}
