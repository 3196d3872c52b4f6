# All that Gristmill needs on AWS, by concern. k8s/chart/values-aws.yaml counts on
# it; `outputs.tf` gives what only this knows.

locals {
  name          = "gristmill-${var.environment}"
  secret_prefix = local.name

  # Who reaches cache and database: the nodes, as pods have their security group.
  clients = merge(
    { cluster = module.cluster.security_group_id },
    var.bastion ? { bastion = module.bastion[0].security_group_id } : {},
  )

  # What pods may do, by service account: RELEASE-WORKLOAD, as the chart names them.
  # Of queues, the services have keys of their own (modules/roles/keys.tf).
  workloads = merge(
    {
      for name, queue in var.queues : "${var.release}-worker-${name}" => {
        consumes = [name]
        tables   = name == "messages" ? local.messages_tables : []
      }
    },
    length(local.messages_tables) == 0 ? {} : {
      "${var.release}-process-message" = { tables = local.messages_tables }
    },
    !contains(var.tables, "counters") ? {} : {
      "${var.release}-counter" = { tables = ["counters"] }
    },
    !contains(var.tables, "sessions") ? {} : {
      "${var.release}-auth" = { tables = ["sessions"] }
      "${var.release}-cron" = { tables = ["sessions"] }
    },
  )
  messages_tables = contains(var.tables, "messages") ? ["messages"] : []
}

module "key" {
  source = "./modules/key"
  name   = local.name
}

module "network" {
  source              = "./modules/network"
  name                = local.name
  cidr                = var.vpc_cidr
  zones               = var.zones
  nat                 = var.nat
  interface_endpoints = var.interface_endpoints
  cluster_name        = local.name
  key_arn             = module.key.arn
  log_days            = var.log_days
}

module "bastion" {
  count     = var.bastion ? 1 : 0
  source    = "./modules/bastion"
  name      = local.name
  vpc_id    = module.network.vpc_id
  subnet_id = module.network.private_subnet_ids[0]
  cidr      = module.network.cidr
  key_arn   = module.key.arn
}

module "cluster" {
  source              = "./modules/cluster"
  name                = local.name
  kubernetes_version  = var.kubernetes_version
  subnet_ids          = module.network.private_subnet_ids
  key_arn             = module.key.arn
  public_access_cidrs = var.api_cidrs
  admin_arns          = var.admin_arns
  node_groups         = var.node_groups
  deletion_protection = var.deletion_protection
  log_days            = var.log_days

  api_client_security_group_ids = var.bastion ? { bastion = module.bastion[0].security_group_id } : {}
}

module "queue" {
  for_each                = var.queues
  source                  = "./modules/queue"
  name                    = "${local.name}-${each.key}${each.value.fifo ? ".fifo" : ""}"
  visibility_timeout_secs = each.value.visibility_timeout_secs
  retention_secs          = each.value.retention_secs
  max_receive_count       = each.value.max_receive_count
  key_arn                 = module.key.arn
  alarm_topic_arns        = var.alarm_topic_arns
}

module "table" {
  for_each            = var.tables
  source              = "./modules/table"
  name                = "${local.name}-${each.key}"
  key_arn             = module.key.arn
  deletion_protection = var.deletion_protection
}

# Names of buckets are everybody's: the account's number makes this one unique.
data "aws_caller_identity" "current" {}

module "bucket" {
  count      = var.bucket ? 1 : 0
  source     = "./modules/bucket"
  name       = "${local.name}-images-${data.aws_caller_identity.current.account_id}"
  key_arn    = module.key.arn
  log_bucket = var.bucket_log_bucket
}

module "cache" {
  source                    = "./modules/cache"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = local.clients
  node_type                 = var.cache.node_type
  nodes                     = var.cache.nodes
  snapshot_days             = var.cache.snapshot_days
  token_update              = var.cache.token_update
  keep_deleted              = var.keep_deleted
  log_days                  = var.log_days
  key_arn                   = module.key.arn
  secret_name               = "${local.secret_prefix}/redis"
}

module "database" {
  source                    = "./modules/database"
  name                      = local.name
  vpc_id                    = module.network.vpc_id
  subnet_ids                = module.network.data_subnet_ids
  client_security_group_ids = local.clients
  instance_class            = var.database.instance_class
  engine_version            = var.database.engine_version
  apply_immediately         = var.database.apply_immediately
  storage_gib               = var.database.storage_gib
  multi_az                  = var.database.multi_az
  backup_days               = var.database.backup_days
  deletion_protection       = var.deletion_protection
  keep_deleted              = var.keep_deleted
  log_days                  = var.log_days
  key_arn                   = module.key.arn
  secret_name               = "${local.secret_prefix}/database"
}

module "registry" {
  source  = "./modules/registry"
  names   = ["${local.name}/gristmill", "${local.name}/gristmill-app"]
  key_arn = module.key.arn
}

module "roles" {
  source           = "./modules/roles"
  name             = local.name
  cluster_name     = module.cluster.name
  namespace        = var.namespace
  key_arn          = module.key.arn
  queues           = { for name, queue in module.queue : name => { arn = queue.arn, dead_letter_arn = queue.dead_letter_arn } }
  tables           = { for label, table in module.table : label => table.arn }
  workloads        = local.workloads
  keda             = var.keda
  external_secrets = var.external_secrets
  has_bucket       = var.bucket
  bucket_arn       = var.bucket ? module.bucket[0].arn : null
  secret_prefix    = local.secret_prefix
  access_keys      = var.access_keys
  keep_deleted     = var.keep_deleted

  external_secret_arns = [module.cache.secret_arn, module.database.secret_arn]
}

module "dns" {
  count          = var.hosted_zone_id == "" ? 0 : 1
  source         = "./modules/dns"
  name           = local.name
  cluster_name   = module.cluster.name
  hosted_zone_id = var.hosted_zone_id
  cert_manager   = var.cert_manager
  external_dns   = var.external_dns
}
