# One queue with its dead-letter queue, as the consumer expects them: in the same
# account and region, of the same kind, with a redrive policy.

variable "name" {
  description = "Name of the queue; the dead-letter queue is NAME-dlq. A FIFO queue's ends in `.fifo`."
  type        = string
}

variable "visibility_timeout_secs" {
  description = "For how long a message that was received is hidden; the consumer renews it."
  type        = number
}

variable "retention_secs" {
  description = "For how long messages are kept, 60 to 1209600 seconds."
  type        = number
}

variable "max_receive_count" {
  description = "After so many receives, a message goes to the dead-letter queue."
  type        = number

  validation {
    condition     = var.max_receive_count >= 1 && var.max_receive_count <= 1000
    error_message = "Give 1 to 1000."
  }
}

variable "key_arn" {
  description = "KMS key of the messages."
  type        = string
}

variable "alarm_topic_arns" {
  description = "SNS topics that are told when something is in the dead-letter queue; empty: the alarm shows in CloudWatch alone."
  type        = list(string)
  default     = []
}

locals {
  # The most that SQS takes: a body of 256 KiB has attributes beside it.
  max_message_bytes = 1048576

  fifo             = endswith(var.name, ".fifo")
  dead_letter_name = local.fifo ? "${trimsuffix(var.name, ".fifo")}-dlq.fifo" : "${var.name}-dlq"
  queues           = { queue = aws_sqs_queue.this, dead_letter = aws_sqs_queue.dead_letter }
}

resource "aws_sqs_queue" "this" {
  name                              = var.name
  fifo_queue                        = local.fifo ? true : null
  visibility_timeout_seconds        = var.visibility_timeout_secs
  message_retention_seconds         = var.retention_secs
  max_message_size                  = local.max_message_bytes
  receive_wait_time_seconds         = 20
  kms_master_key_id                 = var.key_arn
  kms_data_key_reuse_period_seconds = 300

  redrive_policy = jsonencode({
    deadLetterTargetArn = aws_sqs_queue.dead_letter.arn
    maxReceiveCount     = var.max_receive_count
  })
}

# Kept for the longest time there is: they wait for a person.
resource "aws_sqs_queue" "dead_letter" {
  name                              = local.dead_letter_name
  fifo_queue                        = local.fifo ? true : null
  visibility_timeout_seconds        = 300
  message_retention_seconds         = 1209600
  max_message_size                  = local.max_message_bytes
  receive_wait_time_seconds         = 20
  kms_master_key_id                 = var.key_arn
  kms_data_key_reuse_period_seconds = 300
}

resource "aws_sqs_queue_redrive_allow_policy" "dead_letter" {
  queue_url = aws_sqs_queue.dead_letter.id
  redrive_allow_policy = jsonencode({
    redrivePermission = "byQueue"
    sourceQueueArns   = [aws_sqs_queue.this.arn]
  })
}

data "aws_iam_policy_document" "tls_only" {
  for_each = local.queues

  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["sqs:*"]
    resources = [each.value.arn]
    principals {
      type        = "AWS"
      identifiers = ["*"]
    }
    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }
}

resource "aws_sqs_queue_policy" "tls_only" {
  for_each  = local.queues
  queue_url = each.value.id
  policy    = data.aws_iam_policy_document.tls_only[each.key].json
}

resource "aws_cloudwatch_metric_alarm" "dead_letters" {
  alarm_name          = "${local.dead_letter_name}-not-empty"
  alarm_description   = "A message was rejected (its attribute gristmill.reason says why), or failed at each receive (the consumer's log does)"
  namespace           = "AWS/SQS"
  metric_name         = "ApproximateNumberOfMessagesVisible"
  dimensions          = { QueueName = aws_sqs_queue.dead_letter.name }
  statistic           = "Maximum"
  period              = 60
  evaluation_periods  = 1
  comparison_operator = "GreaterThanThreshold"
  threshold           = 0
  treat_missing_data  = "notBreaching"
  alarm_actions       = var.alarm_topic_arns
  ok_actions          = var.alarm_topic_arns
}

output "url" {
  description = "URL of the queue."
  value       = aws_sqs_queue.this.url
}

output "arn" {
  description = "ARN of the queue."
  value       = aws_sqs_queue.this.arn
}

output "dead_letter_url" {
  description = "URL of the dead-letter queue."
  value       = aws_sqs_queue.dead_letter.url
}

output "dead_letter_arn" {
  description = "ARN of the dead-letter queue."
  value       = aws_sqs_queue.dead_letter.arn
}
