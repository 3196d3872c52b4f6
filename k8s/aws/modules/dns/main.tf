# Roles for those who write to the site's DNS zone: cert-manager, which proves that
# the name is ours, and ExternalDNS, which lets it lead to the load balancer.

variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "cluster_name" {
  description = "The cluster."
  type        = string
}

variable "hosted_zone_id" {
  description = "Zone in Route 53."
  type        = string
}

variable "cert_manager" {
  description = "Namespace and service account of cert-manager."
  type        = object({ namespace = string, service_account = string })
}

variable "external_dns" {
  description = "Namespace and service account of ExternalDNS."
  type        = object({ namespace = string, service_account = string })
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}

locals {
  zone_arn = "arn:${data.aws_partition.current.partition}:route53:::hostedzone/${var.hosted_zone_id}"

  users = {
    cert-manager = merge(var.cert_manager, { record_types = ["TXT"] })
    external-dns = merge(var.external_dns, { record_types = ["A", "AAAA", "CNAME", "TXT"] })
  }
}

data "aws_iam_policy_document" "trust" {
  for_each = local.users

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

data "aws_iam_policy_document" "this" {
  #checkov:skip=CKV_AWS_356:listing zones knows no resources
  for_each = local.users

  statement {
    sid       = "Write"
    actions   = ["route53:ChangeResourceRecordSets"]
    resources = [local.zone_arn]
    condition {
      test     = "ForAllValues:StringEquals"
      variable = "route53:ChangeResourceRecordSetsRecordTypes"
      values   = each.value.record_types
    }
  }

  statement {
    sid       = "Read"
    actions   = ["route53:ListResourceRecordSets"]
    resources = [local.zone_arn]
  }

  statement {
    sid       = "Changes"
    actions   = ["route53:GetChange"]
    resources = ["arn:${data.aws_partition.current.partition}:route53:::change/*"]
  }

  statement {
    sid       = "Find"
    actions   = ["route53:ListHostedZones", "route53:ListHostedZonesByName", "route53:ListTagsForResources"]
    resources = ["*"]
  }
}

resource "aws_iam_role" "this" {
  for_each           = local.users
  name_prefix        = substr("${var.name}-${each.key}-", 0, 38)
  description        = "Pods of ${each.value.namespace}/${each.value.service_account}"
  assume_role_policy = data.aws_iam_policy_document.trust[each.key].json
}

resource "aws_iam_role_policy" "this" {
  for_each = local.users
  name     = "needs"
  role     = aws_iam_role.this[each.key].id
  policy   = data.aws_iam_policy_document.this[each.key].json
}

resource "aws_eks_pod_identity_association" "this" {
  for_each        = local.users
  cluster_name    = var.cluster_name
  namespace       = each.value.namespace
  service_account = each.value.service_account
  role_arn        = aws_iam_role.this[each.key].arn
}
