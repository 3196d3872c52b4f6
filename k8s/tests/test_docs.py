"""What the guides under k8s/ tell users to type is understood by the programs they type it for."""

import re
import shlex
import subprocess

import pytest
import yaml

import chart

K8S = chart.ROOT / "k8s"
GUIDES = sorted(path for path in K8S.rglob("*.md") if "node_modules" not in path.parts)
FLAG = re.compile(r"(?<![\w-])--([a-z][a-z-]*)")


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
