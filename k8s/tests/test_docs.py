"""What the guides under k8s/ tell users to type is understood by the programs they type it for."""

import json
import re
import shlex
import subprocess

import pytest
import yaml

import chart

K8S = chart.ROOT / "k8s"
GUIDES = sorted(path for path in K8S.rglob("*.md") if "node_modules" not in path.parts)
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")
# Spin's own, of `src/commands/registry.rs` (3.6); by whether a value follows.
SPIN = {
    ("registry", "push"): {"--from": True, "--insecure": False, "--build": False, "--cache-dir": True, "--annotation": True},
    ("registry", "login"): {"--username": True, "--password-stdin": False},
}


def commands(program):
    """Each call of the program in blocks of shell and in inline code: guide and words."""
    for path in GUIDES:
        text = path.read_text()
        lines = []
        for block in re.findall(r"```sh\n(.*?)```", text, re.S):
            lines += block.replace("\\\n", " ").splitlines()
        lines += re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S))
        for line in lines:
            line = re.sub(r"\s#\s.*$", "", line)
            for part in re.split(r"\s*(?:&&|\||;|(?<!-)-- )\s*", line):
                match = re.match(rf"(?:/usr/local/bin/)?{program}\s+(.*)", part.strip())
                if match:
                    yield path, shlex.split(match[1].replace("sha256:…", "sha256:" + 64 * "0").replace("…", "").rstrip(" &"))


def help_of(*command):
    answer = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=60)
    return answer.stdout + answer.stderr


def test_guides_lead_somewhere():
    lost = []
    for path in GUIDES:
        for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", path.read_text()):
            if "://" not in link and not (path.parent / link).exists():
                lost.append(f"{path.relative_to(K8S)}: {link}")
    assert not lost, "\n".join(lost)


def test_the_host_understands(binary):
    found = list(commands("gristmill"))
    assert found
    for path, words in found:
        answer = subprocess.run([binary, *words, "--help"], capture_output=True, text=True, timeout=60)
        assert answer.returncode == 0, f"{path.name}: gristmill {words}: {answer.stderr}"


@pytest.mark.parametrize(("program", "path"), [("helm", chart.HELM), ("kubectl", chart.KUBECTL)])
def test_flags_exist(program, path):
    known = {}
    for guide, words in commands(program):
        words = [word for word in words if word]
        if words[:1] == ["--namespace"]:
            words = words[2:]
        plain = [word for word in words if not word.startswith(("-", "$"))]
        verb = tuple(plain[:3])
        if verb[:1] == ("diff",):
            continue
        if verb not in known:
            known[verb] = "".join(help_of(path, *verb[:length]) for length in (1, 2, 3))
            known[verb] += help_of(path, "options") if program == "kubectl" else ""
        for word in words:
            for flag in FLAG.findall(word)[:1] if word.startswith("--") else []:
                assert f"--{flag}" in known[verb], f"{guide.name}: {program} {' '.join(verb)} --{flag}"


def test_the_deployer_may_make_what_the_chart_makes():
    # Sealed Secrets and GitOps do not go by this role.
    (words,) = [words for path, words in commands("kubectl") if "deployer" in words and "--verb=get,list,watch,create,update,patch,delete" in words]
    granted = {one for word in words if word.startswith("--resource=") for one in word.removeprefix("--resource=").split(",")}
    made = {(item["apiVersion"], item["kind"]) for case in chart.cases() for item in chart.rendered(case).objects}
    for version, kind in made - {("bitnami.com/v1alpha1", "SealedSecret")}:
        plural = re.sub(r"ys$", "ies", kind.lower() + "s").replace("ingresss", "ingresses")
        group = "." + version.split("/")[0] if "/" in version else ""
        assert plural + group in granted, f"{version} {kind}"
    assert len(granted) == len(made) - 1


def spin_calls():
    yield from commands("spin")
    # The workflow calls the one that it has unpacked.
    workflow = K8S / "ci/gristmill.yaml"
    for call in re.findall(r"\bspin/spin (.*?)(?: \||\n(?! ))", workflow.read_text().replace("\\\n", " ")):
        yield workflow, shlex.split(call)


def test_spin_understands():
    """Spin cannot be had here: its flags stand above."""
    found = list(spin_calls())
    assert {words[1] for _, words in found} == {"push", "login"}
    for guide, words in found:
        known, rest = SPIN[tuple(words[:2])], words[2:]
        while rest and rest[0].startswith("-"):
            flag = rest.pop(0)
            assert flag in known, f"{guide.name}: spin {words}"
            if known[flag]:
                rest.pop(0)
        assert len(rest) <= 1, f"{guide.name}: spin {words}"


def test_forwarding_forwards(binary, application, tmp_path):
    """The lines of the guide, put into the manifest: the host posts what it receives."""
    text = (K8S / "README.md").read_text()
    (snippet,) = re.findall(r"```toml\n(.*?)```", text, re.S)
    variable, options = snippet.split("\n\n", 1)
    manifest = application.read_text()
    for head, lines in (variable.split("\n", 1), options.split("\n", 1)):
        assert f"{head}\n" in manifest, head
        new = [line for line in lines.splitlines() if line and f"{line}\n" not in manifest]
        assert new, head
        manifest = manifest.replace(f"{head}\n", "\n".join([head, *new, ""]), 1)
    (tmp_path / "spin.toml").write_text(manifest)
    (tmp_path / "target").symlink_to(application.parent / "target")
    (values,) = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", text, re.S)]
    forward = values["queues"]["messages"]["forward"]
    url = f"http://gristmill-{forward['service']}.mill.svc.cluster.local{forward['path']}"
    command = [binary, "check", "--from", str(tmp_path / "spin.toml"), "--trigger", "sqs", "--json", "--variable", f"{forward['variable']}={url}"]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert answer.returncode == 0, answer.stderr
    handlers = {queue["component"]: queue["handler"] for queue in json.loads(answer.stdout)["queues"]}
    assert handlers["process-message-worker"] == url


def test_values_exist():
    values = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    for path, words in commands("helm"):
        for flag, setting in zip(words, words[1:]):
            if not flag.startswith("--set"):
                continue
            found = values
            for name in setting.split("=")[0].split("."):
                assert name in found, f"{path.name}: {setting}"
                found = found[name]
