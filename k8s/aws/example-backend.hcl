# Where the state is: `tofu init -backend-config=FILE`. The bucket is made by hand, once:
# private, with versions, for those alone who may read the secrets.
bucket     = "example-gristmill-state"
key        = "trial.tfstate"
region     = "eu-central-1"
kms_key_id = "alias/gristmill-state"
# From 1.10 on; before, `dynamodb_table` names a table with the key `LockID`.
use_lockfile = true
