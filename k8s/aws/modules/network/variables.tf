variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "cidr" {
  description = "Network of the VPC, a /16 (or larger): private subnets get 1/16 of it, the others 1/256."
  type        = string

  validation {
    condition     = can(cidrhost(var.cidr, 0)) && tonumber(split("/", var.cidr)[1]) <= 18
    error_message = "Give an IPv4 network of /18 or larger."
  }
}

variable "zone_count" {
  description = "In how many availability zones there are subnets, 2 to 5; a region with fewer is refused."
  type        = number

  validation {
    condition     = var.zone_count >= 2 && var.zone_count <= 5 && floor(var.zone_count) == var.zone_count
    error_message = "Give 2 to 5 zones."
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
  default     = []
}

variable "cluster_name" {
  description = "Cluster whose load balancers find the subnets by tags."
  type        = string
}

variable "key_arn" {
  description = "KMS key of the flow logs."
  type        = string
}

variable "flow_log_days" {
  description = "Days that flow logs are kept."
  type        = number
  default     = 365
}
