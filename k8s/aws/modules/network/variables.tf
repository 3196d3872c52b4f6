# What the network is made of.

variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "cidr" {
  description = "Network of the VPC, /16 to /18: private subnets get 1/16 of it, the others 1/256."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && contains(["16", "17", "18"], split("/", var.cidr)[1])
    error_message = "Give an IPv4 network of /16, /17 or /18: AWS makes no larger VPC, and subnets need the room."
  }
}

variable "zones" {
  description = "Availability zones, 2 to 5, in an order that stays: the networks of subnets follow from it."
  type        = list(string)

  validation {
    condition     = length(var.zones) >= 2 && length(var.zones) <= 5 && length(distinct(var.zones)) == length(var.zones)
    error_message = "Give 2 to 5 different zones."
  }
}

variable "nat" {
  description = "NAT gateways: `one` for all zones, `per_zone`, or `none`."
  type        = string

  validation {
    condition     = contains(["one", "per_zone", "none"], var.nat)
    error_message = "Give `one`, `per_zone` or `none`."
  }
}

variable "interface_endpoints" {
  description = "AWS services that are reached by an endpoint in each zone, without NAT; as `sqs`, `ecr.api`."
  type        = set(string)
}

variable "cluster_name" {
  description = "Cluster whose load balancers find the subnets by tags."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the flow logs."
  type        = string
}

variable "log_days" {
  description = "Days that flow logs are kept."
  type        = number
}
