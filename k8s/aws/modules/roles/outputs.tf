# What the chart and people need to know.

output "workload_role_arns" {
  description = "Roles of pods, by service account."
  value       = { for name, role in aws_iam_role.workload : name => role.arn }
}

output "keda_role_arn" {
  description = "Role of KEDA's operator."
  value       = aws_iam_role.keda.arn
}

output "producer_secret_name" {
  description = "Secret with the key that sends to queues."
  value       = aws_secretsmanager_secret.producer.name
}

output "bucket_secret_name" {
  description = "Secret with the key of the bucket; empty: none."
  value       = var.has_bucket ? aws_secretsmanager_secret.bucket[0].name : ""
}
