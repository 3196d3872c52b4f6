# A small environment, for trying: one NAT gateway, two zones, no standby.
#   tofu apply -var-file=example.tfvars

environment = "trial"
region      = "eu-central-1"
admin_arns  = ["arn:aws:iam::123456789012:role/administrators"]
api_cidrs   = ["192.0.2.0/24"]

zones   = ["eu-central-1a", "eu-central-1b"]
nat     = "one"
bastion = true

node_groups = {
  steady = {
    instance_types = ["t3a.large"]
    min_size       = 2
    max_size       = 4
  }
}

database = {
  instance_class = "db.t4g.micro"
  multi_az       = false
  backup_days    = 1
}

deletion_protection = false
keep_deleted        = false
