# Who may do what. Pods have roles by EKS Pod Identity: each role takes the sessions of
# one service account of this cluster alone, by the tags that EKS gives a session. SpinApps send to queues and use the
# bucket by static keys, as components sign for themselves: these keys can do that
# and nothing else.

data "aws_caller_identity" "current" {}
data "aws_region" "current" {}

locals {
  # Who has a role, by the name of it.
  pods = merge(
    { for name in keys(var.workloads) : name => { namespace = var.namespace, service_account = name } },
    { keda = var.keda, external-secrets = var.external_secrets },
  )
}

data "aws_iam_policy_document" "pod_trust" {
  for_each = local.pods

  statement {
    actions = ["sts:AssumeRole", "sts:TagSession"]
    principals {
      type        = "Service"
      identifiers = ["pods.eks.amazonaws.com"]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/eks-cluster-name"
      values   = [var.cluster_name]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-namespace"
      values   = [each.value.namespace]
    }
    condition {
      test     = "StringEquals"
      variable = "aws:RequestTag/kubernetes-service-account"
      values   = [each.value.service_account]
    }
  }
}

# --- Consumers and services, by service account.

data "aws_iam_policy_document" "workload" {
  for_each = var.workloads

  dynamic "statement" {
    for_each = length(each.value.consumes) > 0 ? [1] : []
    content {
      sid = "Consume"
      actions = [
        "sqs:ChangeMessageVisibility",
        "sqs:DeleteMessage",
        "sqs:GetQueueAttributes",
        "sqs:ReceiveMessage",
      ]
      resources = [for queue in each.value.consumes : var.queues[queue].arn]
    }
  }

  dynamic "statement" {
    for_each = length(each.value.consumes) > 0 ? [1] : []
    content {
      sid       = "DeadLetter"
      actions   = ["sqs:GetQueueUrl", "sqs:SendMessage"]
      resources = [for queue in each.value.consumes : var.queues[queue].dead_letter_arn]
    }
  }

  # No Scan: components never list keys.
  dynamic "statement" {
    for_each = length(each.value.tables) > 0 ? [1] : []
    content {
      sid = "Store"
      actions = [
        "dynamodb:BatchGetItem",
        "dynamodb:BatchWriteItem",
        "dynamodb:DeleteItem",
        "dynamodb:GetItem",
        "dynamodb:PutItem",
        "dynamodb:UpdateItem",
      ]
      resources = [for table in each.value.tables : var.tables[table]]
    }
  }

  # Tables are decrypted by DynamoDB on behalf of the caller, queues likewise.
  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [var.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values = [
        "sqs.${data.aws_region.current.region}.amazonaws.com",
        "dynamodb.${data.aws_region.current.region}.amazonaws.com",
      ]
    }
  }
}

resource "aws_iam_role" "workload" {
  for_each           = var.workloads
  name_prefix        = substr("${var.name}-${each.key}-", 0, 38)
  description        = "Pods of ${var.namespace}/${each.key}"
  assume_role_policy = data.aws_iam_policy_document.pod_trust[each.key].json
}

resource "aws_iam_role_policy" "workload" {
  for_each = var.workloads
  name     = "needs"
  role     = aws_iam_role.workload[each.key].id
  policy   = data.aws_iam_policy_document.workload[each.key].json
}

resource "aws_eks_pod_identity_association" "workload" {
  for_each        = var.workloads
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = each.key
  role_arn        = aws_iam_role.workload[each.key].arn
}

# --- KEDA: how deep the queues and their dead-letter queues are.

data "aws_iam_policy_document" "keda" {
  statement {
    sid       = "Depth"
    actions   = ["sqs:GetQueueAttributes"]
    resources = flatten([for queue in var.queues : [queue.arn, queue.dead_letter_arn]])
  }
}

resource "aws_iam_role" "keda" {
  name_prefix        = substr("${var.name}-keda-", 0, 38)
  description        = "KEDA's operator"
  assume_role_policy = data.aws_iam_policy_document.pod_trust["keda"].json
}

resource "aws_iam_role_policy" "keda" {
  name   = "needs"
  role   = aws_iam_role.keda.id
  policy = data.aws_iam_policy_document.keda.json
}

resource "aws_eks_pod_identity_association" "keda" {
  cluster_name    = var.cluster_name
  namespace       = var.keda.namespace
  service_account = var.keda.service_account
  role_arn        = aws_iam_role.keda.arn
}

# --- External Secrets: reads the secrets of this environment.

data "aws_iam_policy_document" "external_secrets" {
  statement {
    sid       = "Read"
    actions   = ["secretsmanager:DescribeSecret", "secretsmanager:GetSecretValue"]
    resources = concat(local.secret_arns, var.external_secret_arns)
  }

  statement {
    sid       = "Key"
    actions   = ["kms:Decrypt"]
    resources = [var.key_arn]
    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = ["secretsmanager.${data.aws_region.current.region}.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "external_secrets" {
  name_prefix        = substr("${var.name}-external-secrets-", 0, 38)
  description        = "The operator of External Secrets"
  assume_role_policy = data.aws_iam_policy_document.pod_trust["external-secrets"].json
}

resource "aws_iam_role_policy" "external_secrets" {
  name   = "needs"
  role   = aws_iam_role.external_secrets.id
  policy = data.aws_iam_policy_document.external_secrets.json
}

resource "aws_eks_pod_identity_association" "external_secrets" {
  cluster_name    = var.cluster_name
  namespace       = var.external_secrets.namespace
  service_account = var.external_secrets.service_account
  role_arn        = aws_iam_role.external_secrets.arn
}
