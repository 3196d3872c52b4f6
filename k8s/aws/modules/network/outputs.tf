# What others put into the network.

output "vpc_id" {
  description = "The VPC."
  value       = aws_vpc.this.id
}

output "cidr" {
  description = "Its network."
  value       = aws_vpc.this.cidr_block
}

output "zones" {
  description = "Availability zones in use."
  value       = var.zones
}

output "private_subnet_ids" {
  description = "Subnets of nodes, when there is a way out of them."
  value       = [for zone in var.zones : aws_subnet.private[zone].id]
  depends_on = [
    aws_route.internet,
    aws_route.nat,
    aws_route_table_association.private,
    aws_route_table_association.public,
    aws_vpc_endpoint.gateway,
    aws_vpc_endpoint.interface,
    aws_vpc_security_group_ingress_rule.endpoints,
  ]
}

output "private_cidrs" {
  description = "Networks of these: of nodes and pods."
  value       = [for zone in var.zones : local.private[zone]]
}

output "public_subnet_ids" {
  description = "Subnets of load balancers and NAT."
  value       = [for zone in var.zones : aws_subnet.public[zone].id]
}

output "data_subnet_ids" {
  description = "Subnets of cache and database."
  value       = [for zone in var.zones : aws_subnet.data[zone].id]
}

output "data_cidrs" {
  description = "Networks of these, for network policies."
  value       = [for zone in var.zones : local.data[zone]]
}
