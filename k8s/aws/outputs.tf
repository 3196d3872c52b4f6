# What the chart needs to know. `chart_values` is a values file of its own, given
# after values-aws.yaml; the rest is for people and other tools.

locals {
  # Databases of the cache, one for each label that is no table.
  redis_databases = { messages = 0, counters = 1, sessions = 2, images = 3 }

  chart_values = {
    image    = { repository = module.registry.urls["${local.name}/gristmill"] }
    spinkube = { image = { repository = module.registry.urls["${local.name}/gristmill-app"] } }

    aws = {
      region              = var.region
      sqsOrigin           = "https://sqs.${var.region}.amazonaws.com"
      consumerCredentials = "podIdentity"
    }

    queues = {
      for name, queue in module.queue : name => {
        url           = queue.url
        deadLetterUrl = queue.dead_letter_url
      }
    }

    stores = merge(
      {
        for label, database in local.redis_databases : label => { type = "redis", database = database }
        if !contains(var.tables, label)
      },
      { for label, table in module.table : label => { type = "dynamodb", table = table.name } },
    )

    bucket = {
      name   = var.bucket ? module.bucket[0].name : ""
      origin = "https://s3.${var.region}.amazonaws.com"
      region = var.region
    }

    queueServer = { enabled = false }
    redis       = { enabled = false, host = module.cache.host, port = 6379, tls = true }
    postgresql  = { enabled = false, host = module.database.host, port = 5432, sslmode = "require" }

    secrets = {
      mode = "external"
      external = {
        remoteKeys = merge(
          {
            producer = module.roles.producer_secret_name
            database = "${local.secret_prefix}/database"
            redis    = "${local.secret_prefix}/redis"
          },
          var.bucket ? { bucket = module.roles.bucket_secret_name } : {},
        )
      }
    }

    # The ingress controller's pods; the load balancer passes clients' addresses on (README.md).
    variables = { trusted_proxies = join(",", module.network.private_cidrs) }

    networkPolicy = {
      redisCidrs    = module.network.data_cidrs
      databaseCidrs = module.network.data_cidrs
    }
  }
}

output "chart_values" {
  description = "Values of this environment: `-raw chart_values > values-cluster.yaml`. Holds no secret."
  value       = yamlencode(local.chart_values)
}

output "cluster_name" {
  description = "For `aws eks update-kubeconfig --name`."
  value       = module.cluster.name
}

output "cluster_endpoint" {
  description = "The API server."
  value       = module.cluster.endpoint
}

output "vpc_id" {
  description = "The network."
  value       = module.network.vpc_id
}

output "zones" {
  description = "Availability zones in use."
  value       = module.network.zones
}

output "public_subnet_ids" {
  description = "Subnets for load balancers."
  value       = module.network.public_subnet_ids
}

output "bastion_instance_id" {
  description = "For `aws ssm start-session --target`; null: there is none."
  value       = var.bastion ? module.bastion[0].instance_id : null
}

output "queue_urls" {
  description = "Queues and their dead-letter queues."
  value       = { for name, queue in module.queue : name => { url = queue.url, dead_letter_url = queue.dead_letter_url } }
}

output "table_names" {
  description = "Tables by label."
  value       = { for label, table in module.table : label => table.name }
}

output "bucket_name" {
  description = "Bucket of the pictures; empty: none."
  value       = var.bucket ? module.bucket[0].name : ""
}

output "redis_host" {
  description = "The cache, port 6379, TLS."
  value       = module.cache.host
}

output "database_host" {
  description = "The database, port 5432, TLS."
  value       = module.database.host
}

output "database_administrator_secret_arn" {
  description = "Secret of the database's administrator: RDS rotates it, people alone use it."
  value       = module.database.administrator_secret_arn
}

output "registry_urls" {
  description = "Repositories of image and application."
  value       = module.registry.urls
}

output "workload_role_arns" {
  description = "Roles of pods, by service account."
  value       = module.roles.workload_role_arns
}

output "keda_role_arn" {
  description = "Role of KEDA's operator."
  value       = module.roles.keda_role_arn
}
