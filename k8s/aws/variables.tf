# What an environment may choose. example.tfvars has a small one.

variable "environment" {
  description = "Name of the environment, a part of all names: `production`, `staging`."
  type        = string

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.environment)) && length(var.environment) <= 16
    error_message = "Up to 16 lower-case letters, digits and single hyphens, the first a letter, the last none of the hyphens."
  }
}

variable "region" {
  description = "AWS region; none in China, where services have other domains."
  type        = string

  validation {
    condition     = !startswith(var.region, "cn-")
    error_message = "Regions in China are not supported: origins and endpoints there are not of `amazonaws.com`."
  }
}

variable "tags" {
  description = "Further tags of everything."
  type        = map(string)
  default     = {}
}

# --- Network

variable "vpc_cidr" {
  description = "Network of the VPC, /16 to /18."
  type        = string
  default     = "10.64.0.0/16"
}

variable "zones" {
  description = "Availability zones of the region, 2 to 5. New ones are added at the end: the order gives the subnets their networks."
  type        = list(string)

  validation {
    condition     = alltrue([for zone in var.zones : startswith(zone, var.region)])
    error_message = "The zones are not of the region."
  }
}

variable "nat" {
  description = "NAT gateways: `one`, `per_zone` (no zone depends on another), or `none`: then name what is needed in interface_endpoints; what has no endpoint is out of reach: public registries (mirror the operators' images), the ACME authority, Route 53, and other sites of the internet."
  type        = string
  default     = "per_zone"
}

variable "interface_endpoints" {
  description = "AWS services reached without NAT. With `nat = \"none\"`: sqs, ecr.api, ecr.dkr, sts, logs, ec2, autoscaling, eks, eks-auth, secretsmanager, and ssm, ssmmessages, ec2messages for the bastion."
  type        = set(string)
  default     = []
}

variable "bastion" {
  description = "A machine inside the network, reached by Session Manager alone."
  type        = bool
  default     = false
}

# --- Cluster

variable "kubernetes_version" {
  description = "Minor version of Kubernetes; nodes and add-ons follow. One step at a time."
  type        = string
  default     = "1.35"
}

variable "api_cidrs" {
  description = "Networks that reach the API server from the internet; empty: only the VPC."
  type        = list(string)
  default     = []
}

variable "admin_arns" {
  description = "IAM principals that administer the cluster; at least one."
  type        = set(string)

  validation {
    condition     = length(var.admin_arns) > 0
    error_message = "Without an administrator, nobody could ever enter the cluster."
  }
}

variable "node_groups" {
  description = "Groups of nodes; see modules/cluster."
  type = map(object({
    instance_types = list(string)
    spot           = optional(bool, false)
    arm64          = optional(bool, false)
    min_size       = number
    max_size       = number
    desired_size   = optional(number)
    disk_gib       = optional(number, 40)
    labels         = optional(map(string), {})
    taints = optional(list(object({
      key    = string
      value  = optional(string)
      effect = string
    })), [])
  }))
  default = {
    # Services, schedules, operators.
    steady = {
      instance_types = ["m7i.large", "m6i.large"]
      min_size       = 3
      max_size       = 9
    }
    # Consumers: a node that is taken away costs a redelivery.
    spot = {
      instance_types = ["m7i.large", "m6i.large", "m6a.large", "m5.large"]
      spot           = true
      min_size       = 0
      max_size       = 20
      labels         = { "gristmill/capacity" = "spot" }
      taints         = [{ key = "gristmill/capacity", value = "spot", effect = "NO_SCHEDULE" }]
    }
  }
}

# --- Backends

variable "queues" {
  description = "Queues by the name that the chart has for them; each gets a dead-letter queue."
  type = map(object({
    fifo                    = optional(bool, false)
    visibility_timeout_secs = optional(number, 30)
    retention_secs          = optional(number, 345600)
    max_receive_count       = optional(number, 5)
  }))
  default = {
    messages = {}
    images   = {}
  }

  validation {
    condition     = length(var.queues) > 0
    error_message = "Name at least one queue: the services' key is for queues."
  }
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told of dead letters; an encrypted one must let `cloudwatch.amazonaws.com` use its key."
  type        = list(string)
  default     = []
}

variable "tables" {
  description = "Labels of key-value stores that are DynamoDB tables. Never `images`: an item has 400 KiB at most."
  type        = set(string)
  default     = ["messages", "sessions"]

  validation {
    condition     = !contains(var.tables, "images")
    error_message = "The store `images` needs values of 8 MiB, DynamoDB has 400 KiB at most."
  }
}

variable "bucket" {
  description = "Keeps pictures in a bucket; without, in the store `images`."
  type        = bool
  default     = true
}

variable "bucket_log_bucket" {
  description = "Bucket for access logs; empty: none."
  type        = string
  default     = ""
}

variable "cache" {
  description = "Redis: type and number of nodes, days of daily snapshots, what becomes of the old password when it changes (`ROTATE`: both are valid, `SET`: the new one alone)."
  type = object({
    node_type     = string
    nodes         = number
    snapshot_days = optional(number, 7)
    token_update  = optional(string, "ROTATE")
  })
  default = { node_type = "cache.t4g.small", nodes = 2 }
}

variable "database" {
  description = "PostgreSQL: class, standby in another zone, days of backups, major version, disk in GiB and how far it may grow."
  type = object({
    instance_class = string
    multi_az       = bool
    backup_days    = number
    engine_version = optional(string, "17")
    # Else changes of class, version or parameters wait for the maintenance window.
    apply_immediately = optional(bool, false)
    storage_gib       = optional(object({ initial = number, max = number }), { initial = 20, max = 200 })
  })
  default = { instance_class = "db.t4g.medium", multi_az = true, backup_days = 14 }
}

variable "deletion_protection" {
  description = "Refuses to delete cluster, tables and database. Cache and queues know no such thing: another `environment` or kind (`fifo`) deletes a queue with its messages."
  type        = bool
  default     = true
}

variable "keep_deleted" {
  description = "Cache and database leave a last snapshot; deleted secrets, and their names, are kept for 7 days, in which no environment of that name can be made."
  type        = bool
  default     = true
}

variable "log_days" {
  description = "Days that logs are kept: control plane, network flows, database, cache; a number that CloudWatch has, as 30, 90, 365."
  type        = number
  default     = 365
}

# --- Release

variable "namespace" {
  description = "Namespace of the chart's release."
  type        = string
  default     = "gristmill"
}

variable "release" {
  description = "The chart's `gristmill.fullname`: `gristmill` for a release of that name, else RELEASE-gristmill."
  type        = string
  default     = "gristmill"
}

variable "access_keys" {
  description = "Names of the static keys of services, one or two. The first is in use. To rotate: put a new one before it, restart the Deployments, take the old one out."
  type        = list(string)
  default     = ["a"]
}

variable "keda" {
  description = "Namespace and service account of KEDA's operator."
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "keda", service_account = "keda-operator" }
}

variable "hosted_zone_id" {
  description = "Zone in Route 53 that cert-manager and ExternalDNS write to; empty: none."
  type        = string
  default     = ""
}

variable "cert_manager" {
  description = "Namespace and service account of cert-manager."
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "cert-manager", service_account = "cert-manager" }
}

variable "external_dns" {
  description = "Namespace and service account of ExternalDNS."
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "external-dns", service_account = "external-dns" }
}

variable "external_secrets" {
  description = "Namespace and service account of External Secrets' operator."
  type        = object({ namespace = string, service_account = string })
  default     = { namespace = "external-secrets", service_account = "external-secrets" }
}
