# A machine inside the network for those who administer it: reached by Session
# Manager alone, so it has no open port, no key pair and no public address.

variable "name" {
  description = "Prefix of names."
  type        = string
}

variable "vpc_id" {
  description = "VPC of the machine."
  type        = string
}

variable "subnet_id" {
  description = "A private subnet; Session Manager is reached by NAT or by interface endpoints."
  type        = string
}

variable "key_arn" {
  description = "KMS key of its disk."
  type        = string
}

variable "cidr" {
  description = "Network of the VPC: cache and database are there."
  type        = string
}

data "aws_partition" "current" {}

data "aws_ssm_parameter" "image" {
  name = "/aws/service/ami-amazon-linux-latest/al2023-ami-kernel-default-arm64"
}

data "aws_iam_policy_document" "trust" {
  statement {
    actions = ["sts:AssumeRole"]
    principals {
      type        = "Service"
      identifiers = ["ec2.amazonaws.com"]
    }
  }
}

resource "aws_iam_role" "this" {
  name               = "${var.name}-bastion"
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy_attachment" "session_manager" {
  role       = aws_iam_role.this.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/AmazonSSMManagedInstanceCore"
}

resource "aws_iam_instance_profile" "this" {
  name = "${var.name}-bastion"
  role = aws_iam_role.this.name
}

resource "aws_security_group" "this" {
  name        = "${var.name}-bastion"
  description = "Bastion: nothing comes in"
  vpc_id      = var.vpc_id
}

resource "aws_vpc_security_group_egress_rule" "this" {
  for_each = {
    https    = { port = 443, cidr = "0.0.0.0/0" }
    database = { port = 5432, cidr = var.cidr }
    cache    = { port = 6379, cidr = var.cidr }
  }
  security_group_id = aws_security_group.this.id
  description       = "To ${each.key}"
  ip_protocol       = "tcp"
  from_port         = each.value.port
  to_port           = each.value.port
  cidr_ipv4         = each.value.cidr
}

resource "aws_instance" "this" {
  ami                         = data.aws_ssm_parameter.image.insecure_value
  instance_type               = "t4g.micro"
  subnet_id                   = var.subnet_id
  vpc_security_group_ids      = [aws_security_group.this.id]
  iam_instance_profile        = aws_iam_instance_profile.this.name
  associate_public_ip_address = false
  ebs_optimized               = true
  monitoring                  = true

  metadata_options {
    http_endpoint               = "enabled"
    http_tokens                 = "required"
    http_put_response_hop_limit = 1
  }

  root_block_device {
    volume_type = "gp3"
    encrypted   = true
    kms_key_id  = var.key_arn
  }

  tags = { Name = "${var.name}-bastion" }

  lifecycle {
    # A newer image does not replace a machine that is in use; `-replace` does.
    ignore_changes = [ami]
  }
}

output "instance_id" {
  description = "For `aws ssm start-session --target`."
  value       = aws_instance.this.id
}

output "security_group_id" {
  description = "Its security group."
  value       = aws_security_group.this.id
}
