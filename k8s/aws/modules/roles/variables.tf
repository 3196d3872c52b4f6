# Who there is, and what they may need.

variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "namespace" {
  description = "Namespace of the release."
  type        = string
}

variable "key_arn" {
  description = "KMS key of queues, tables, bucket and secrets."
  type        = string
}

variable "queues" {
  description = "Queues by name."
  type        = map(object({ arn = string, dead_letter_arn = string }))
}

variable "tables" {
  description = "ARNs of tables, by label of the store."
  type        = map(string)
}

variable "workloads" {
  description = "What pods may do, by their service account: queues that they consume, labels of tables that they read and write."
  type = map(object({
    consumes = optional(list(string), [])
    tables   = optional(list(string), [])
  }))

  validation {
    condition = alltrue(flatten([
      for workload in values(var.workloads) : [
        for queue in workload.consumes : contains(keys(var.queues), queue)
      ]
    ]))
    error_message = "A workload consumes a queue that is not in `queues`."
  }

  validation {
    condition = alltrue(flatten([
      for workload in values(var.workloads) : [
        for table in workload.tables : contains(keys(var.tables), table)
      ]
    ]))
    error_message = "A workload uses a table that is not in `tables`."
  }
}

variable "keda" {
  description = "KEDA's operator: namespace and service account."
  type        = object({ namespace = string, service_account = string })
}

variable "external_secrets" {
  description = "The operator of External Secrets: namespace and service account."
  type        = object({ namespace = string, service_account = string })
}

variable "external_secret_arns" {
  description = "Further secrets that External Secrets reads: of cache and database."
  type        = list(string)
}

variable "has_bucket" {
  description = "Whether there is a bucket; said apart from its ARN, which no plan knows before the bucket is made."
  type        = bool
}

variable "bucket_arn" {
  description = "The bucket of the images; null: none."
  type        = string
}

variable "keep_deleted" {
  description = "Keeps a deleted secret, and its name, for 7 days."
  type        = bool
}

variable "secret_prefix" {
  description = "Prefix of the names of secrets."
  type        = string
}

variable "access_keys" {
  description = "Names of the keys of each machine's user, one or two: the first is in the secret, both are valid."
  type        = list(string)

  validation {
    condition     = length(var.access_keys) >= 1 && length(var.access_keys) <= 2
    error_message = "Give one name or two: IAM keeps no more keys of a user."
  }
}
