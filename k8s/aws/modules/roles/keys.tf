# Static keys for what runs in SpinApps, where the component signs for itself
# (variables `aws_access_key_id`, `s3_access_key_id`). `access_keys` rotates them;
# External Secrets brings the new one to the cluster.

locals {
  secret_arns = concat([aws_secretsmanager_secret.producer.arn], aws_secretsmanager_secret.bucket[*].arn)
}

# --- Sending to queues, and how deep they are (readiness, portal).

data "aws_iam_policy_document" "producer" {
  statement {
    sid       = "Send"
    actions   = ["sqs:GetQueueAttributes", "sqs:SendMessage"]
    resources = [for queue in var.queues : queue.arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["sqs.${data.aws_region.current.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_user" "producer" {
  #checkov:skip=CKV_AWS_273:a machine's user: components sign by static keys, single sign-on is for people
  name = "${var.name}-producer"
}

resource "aws_iam_user_policy" "producer" {
  #checkov:skip=CKV_AWS_40:the policy is of this one machine's user; a group of one would hide it
  name   = "needs"
  user   = aws_iam_user.producer.name
  policy = data.aws_iam_policy_document.producer.json
}

resource "aws_iam_access_key" "producer" {
  for_each = toset(var.access_keys)
  user     = aws_iam_user.producer.name
}

resource "aws_secretsmanager_secret" "producer" {
  #checkov:skip=CKV2_AWS_57:access keys have no rotation function: `access_keys` rotates them
  name                    = "${var.secret_prefix}/producer"
  description             = "Key that sends to the queues"
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.keep_deleted ? 7 : 0
}

resource "aws_secretsmanager_secret_version" "producer" {
  secret_id = aws_secretsmanager_secret.producer.id
  secret_string = jsonencode({
    aws_access_key_id     = aws_iam_access_key.producer[var.access_keys[0]].id
    aws_secret_access_key = aws_iam_access_key.producer[var.access_keys[0]].secret
  })
}

# --- Pictures in the bucket.

data "aws_iam_policy_document" "bucket" {
  count = var.has_bucket ? 1 : 0

  statement {
    sid       = "Pictures"
    actions   = ["s3:DeleteObject", "s3:GetObject", "s3:PutObject"]
    resources = ["${var.bucket_arn}/*"]
  }

  # Without it, an object that is not there is `403` rather than `404`.
  statement {
    sid       = "Absent"
    actions   = ["s3:ListBucket"]
    resources = [var.bucket_arn]
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["s3.${data.aws_region.current.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_user" "bucket" {
  #checkov:skip=CKV_AWS_273:a machine's user: components sign by static keys, single sign-on is for people
  count = var.has_bucket ? 1 : 0
  name  = "${var.name}-bucket"
}

resource "aws_iam_user_policy" "bucket" {
  #checkov:skip=CKV_AWS_40:the policy is of this one machine's user; a group of one would hide it
  count  = var.has_bucket ? 1 : 0
  name   = "needs"
  user   = aws_iam_user.bucket[0].name
  policy = data.aws_iam_policy_document.bucket[0].json
}

resource "aws_iam_access_key" "bucket" {
  for_each = toset(var.has_bucket ? var.access_keys : [])
  user     = aws_iam_user.bucket[0].name
}

resource "aws_secretsmanager_secret" "bucket" {
  #checkov:skip=CKV2_AWS_57:access keys have no rotation function: `access_keys` rotates them
  count                   = var.has_bucket ? 1 : 0
  name                    = "${var.secret_prefix}/bucket"
  description             = "Key that reads and writes pictures"
  kms_key_id              = var.key_arn
  recovery_window_in_days = var.keep_deleted ? 7 : 0
}

resource "aws_secretsmanager_secret_version" "bucket" {
  count     = var.has_bucket ? 1 : 0
  secret_id = aws_secretsmanager_secret.bucket[0].id
  secret_string = jsonencode({
    s3_access_key_id     = aws_iam_access_key.bucket[var.access_keys[0]].id
    s3_secret_access_key = aws_iam_access_key.bucket[var.access_keys[0]].secret
  })
}
