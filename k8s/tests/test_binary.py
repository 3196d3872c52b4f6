"""What the chart writes for the host is what the host understands; the binary itself is asked."""

import json
import re
import subprocess
import tomllib

import pytest
import yaml

import chart
import policies
import local

# Flags that `check` has of `up`, besides the ones that take no part in it.
CHECKED = {"--from", "--trigger", "--component", "--max-instance-memory", "--state-dir", "--runtime-config-file", "--max-value-bytes"}


def host_pods(release):
    return [pod for pod in release.pods() if pod.runs_host("up") or pod.runs_host("queue")]


def host_args(args):
    return args[1:] if args[0].endswith("gristmill") else args


def run(binary, *args):
    return subprocess.run([binary, *args], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="session")
def reads(binary):
    """Whether the host reads a variable of its environment: it is documented by that name, and written
    into the binary; or it is for a variable of an application."""
    written = binary.read_bytes()
    documented = "".join(path.read_text() for path in (chart.ROOT / "docs").glob("*.md"))
    declared = {f"SPIN_VARIABLE_{name.upper()}" for name in chart.manifest()["variables"]}

    def answer(name, others=()):
        return name in declared | set(others) or (f"`{name}`" in documented and name.encode() in written)

    return answer


def test_a_wrong_flag_would_be_seen(binary):
    assert run(binary, "up", "--grace-periods", "5", "--help").returncode == 2
    assert run(binary, "up", "--grace-period", "soon", "--help").returncode == 2
    assert run(binary, "up", "--grace-period", "5", "--help").returncode == 0


def test_flags_are_understood(release, binary):
    pods = host_pods(release)
    assert pods
    for pod in pods:
        answer = run(binary, *host_args(pod.args()), "--help")
        assert answer.returncode == 0, f"{pod.name}: {answer.stderr}"


def test_a_wrong_variable_would_be_seen(reads):
    assert reads("GRISTMILL_LOG") and reads("AWS_REGION") and reads("SPIN_VARIABLE_SQS_ORIGIN")
    assert not reads("GRISTMILL_LO") and not reads("AWS_REGIONS") and not reads("SPIN_VARIABLE_SQS")


def test_environment_is_understood(release, reads):
    # Of an application that is not this repository's.
    forwards = [queue["forward"]["variable"] for queue in release.values["queues"].values() if "forward" in queue]
    others = [f"SPIN_VARIABLE_{name.upper()}" for name in forwards]
    for pod in release.pods():
        if pod.is_spinapp or pod in host_pods(release):
            for _, name, _ in pod.env():
                if pod.is_spinapp and name == policies.WAITS_FOR_CONFIGURATION:
                    continue
                assert reads(name, others), f"{pod.name}: {name}"


def test_variables_reach_the_components_that_use_them(release):
    """Where the chart sets a value, every component that the manifest gives the variable has it;
    and no pod gets a secret that none of its components uses."""
    manifest = chart.manifest()
    secret = {name for name, item in manifest["variables"].items() if item.get("secret")}
    given_somewhere = {name.removeprefix("SPIN_VARIABLE_").lower() for pod in release.pods() for _, name, _ in pod.env()}
    for pod in release.pods():
        components = pod.components()
        if not components:
            continue
        text = json.dumps([manifest["component"][one] for one in components])
        text += json.dumps([manifest["application"].get("trigger", {}).get("sqs", {}).get(one) for one in components])
        used = {name for name in manifest["variables"] if re.search(r"\{\{\s*%s\s*\}\}" % name, text)}
        given = {name.removeprefix("SPIN_VARIABLE_").lower() for _, name, _ in pod.env() if name.startswith("SPIN_VARIABLE_")}
        assert not (given & secret) - used, f"{pod.name}: {(given & secret) - used}"
        lacking = (used & given_somewhere) - given
        assert not lacking, f"{pod.name}: {lacking}"


def test_components_have_the_trigger(release):
    for pod in release.pods():
        for component in pod.components():
            wanted = "http" if pod.is_spinapp else (pod.values_of("--trigger") or ["http"])[0]
            assert component in chart.triggers(wanted), f"{pod.name}: {component} has no {wanted} trigger"


def test_schedules_and_queues_all_run(laptop):
    running = [component for pod in laptop.pods() for component in pod.components()]
    assert sorted(running) == sorted(set().union(*map(chart.triggers, ("http", "sqs", "cron"))))


def runtime_configs(release):
    for kind in ("Secret", "ConfigMap"):
        for item in release.all(kind):
            text = release.file_of(kind, item["metadata"]["name"], "runtime-config.toml")
            if text:
                yield text
    for item in release.all("ExternalSecret"):
        text = item["spec"].get("target", {}).get("template", {}).get("data", {}).get("runtime-config.toml")
        if text:
            yield text


def test_runtime_configuration_defines_every_label(release):
    components = chart.manifest()["component"]
    for text in runtime_configs(release):
        config = tomllib.loads(text)
        stores = {label for one in components.values() for label in one.get("key_value_stores", [])}
        databases = {label for one in components.values() for label in one.get("sqlite_databases", [])}
        assert set(config.get("key_value_store", {})) == stores
        assert set(config.get("sqlite_database", {})) == databases
        assert set(config) <= {"key_value_store", "sqlite_database"}


@pytest.mark.parametrize("name", ["laptop", "embedded"])
def test_check_accepts_what_is_rendered(name, binary, application, tmp_path):
    """`gristmill check` with the rendered flags, environment and runtime configuration: it prints its
    report, where what the chart says is unsound has none. The Redis of the chart alone is away."""
    release = chart.rendered(chart.case(name))
    service = release.server("redis").owner["spec"]["serviceName"]
    pods = [pod for pod in release.pods() if pod.runs_host("up")]
    assert pods
    images = {release.values["image"]["repository"]: local.host_image(binary, application)}
    with local.Cluster(release, images) as cluster:
        for pod in pods:
            paths = cluster.paths(pod)
            cluster.fill(pod, paths)
            args, kept = cluster.command(pod, paths), []
            for flag, value in zip(args, [*args[1:], ""]):
                if flag in CHECKED:
                    kept += [flag, value]
            environment = {**cluster.environment(pod, paths), "AWS_EC2_METADATA_DISABLED": "true"}
            answer = subprocess.run(
                [binary, "check", "--json", *kept], env=environment, capture_output=True, text=True, timeout=120, cwd=tmp_path
            )
            assert answer.stdout, f"{pod.name}: {answer.stderr}"
            away = [one["name"] for one in json.loads(answer.stdout)["backends"] if one["problem"]]
            assert all(f"redis {service}." in name for name in away), away


def compose():
    return yaml.load((chart.ROOT / "k8s/compose.yaml").read_text(), Loader=chart.Loader)


def test_compose_is_understood_too(binary, reads):
    hosts = 0
    for name, service in compose()["services"].items():
        command = service.get("command") or []
        if "gristmill" not in str(service.get("image", "")) and "build" not in service:
            continue
        hosts += 1
        assert isinstance(command, list), f"{name}: a list needs no shell"
        if command:
            answer = run(binary, *host_args([str(part) for part in command]), "--help")
            assert answer.returncode == 0, f"{name}: {answer.stderr}"
        environment = service.get("environment") or {}
        for key in environment if isinstance(environment, dict) else [one.split("=")[0] for one in environment]:
            assert reads(key), f"{name}: {key}"
    assert hosts


def test_compose_is_hardened():
    for name, service in compose()["services"].items():
        assert service.get("read_only") is True, name
        assert service.get("cap_drop") == ["ALL"], name
        assert "no-new-privileges:true" in service.get("security_opt", []), name
        assert not service.get("privileged"), name
        for port in service.get("ports", []):
            assert str(port).startswith("127.0.0.1:"), f"{name}: {port} is open to the network"
        for key, value in (service.get("environment") or {}).items():
            # The queue here takes any key: docs/queues.md.
            if re.search("PASSWORD|SECRET", key):
                assert str(value).startswith(("${", "/run/secrets/")) or value == "local", f"{name}: {key} is written out"
