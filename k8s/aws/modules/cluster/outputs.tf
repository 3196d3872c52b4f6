# What pods, roles and people need to know of the cluster.

output "name" {
  description = "The cluster's name, when nodes and add-ons are there."
  value       = aws_eks_cluster.this.name
  depends_on  = [aws_eks_addon.late]
}

output "arn" {
  description = "The cluster's ARN."
  value       = aws_eks_cluster.this.arn
}

output "endpoint" {
  description = "The API server."
  value       = aws_eks_cluster.this.endpoint
}

output "security_group_id" {
  description = "Security group of nodes and pods."
  value       = aws_eks_cluster.this.vpc_config[0].cluster_security_group_id
}
