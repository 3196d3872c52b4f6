# What the cluster is made of.

variable "name" {
  description = "The cluster's name."
  type        = string
}

variable "kubernetes_version" {
  description = "Minor version of Kubernetes, as `1.35`."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of control plane and nodes."
  type        = list(string)
}

variable "key_arn" {
  description = "KMS key of Secrets, logs and volumes."
  type        = string
}

variable "public_access_cidrs" {
  description = "Networks that reach the API server from the internet; empty: none, only from the VPC."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.public_access_cidrs, "0.0.0.0/0")
    error_message = "Name the networks that need it, not the whole internet."
  }
}

variable "admin_arns" {
  description = "IAM principals that administer the cluster."
  type        = set(string)
}

variable "api_client_security_group_ids" {
  description = "Security groups that reach the API server inside the VPC, as that of the bastion; by any name."
  type        = map(string)
  default     = {}
}

variable "node_groups" {
  description = "Groups of nodes; `spot` nodes may be taken away at two minutes' notice, which consumers survive."
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

  validation {
    condition     = alltrue([for group in values(var.node_groups) : group.min_size <= group.max_size])
    error_message = "min_size must not exceed max_size."
  }

  # EKS takes 63 characters, of which the provider needs 26 to make a name unique.
  validation {
    condition     = alltrue([for name in keys(var.node_groups) : can(regex("^[A-Za-z0-9][A-Za-z0-9_-]{0,35}$", name))])
    error_message = "Names of node groups have up to 36 letters, digits, hyphens and underscores."
  }

  validation {
    condition = alltrue(flatten([
      for group in values(var.node_groups) : [
        for taint in group.taints : contains(["NO_SCHEDULE", "NO_EXECUTE", "PREFER_NO_SCHEDULE"], taint.effect)
      ]
    ]))
    error_message = "A taint's effect is NO_SCHEDULE, NO_EXECUTE or PREFER_NO_SCHEDULE."
  }
}

variable "deletion_protection" {
  description = "Refuses to delete the cluster."
  type        = bool
}

variable "log_days" {
  description = "Days that the control plane's logs are kept."
  type        = number
}
