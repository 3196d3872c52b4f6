"""Images and what runs them without a cluster: linted, pinned, in step with the chart."""

import os
import re
import subprocess
import sys
import tomllib

import pytest

import chart

K8S = chart.ROOT / "k8s"
PROGRAMS = os.path.dirname(sys.executable)


def run(*command):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd=chart.ROOT)


def dockerfiles():
    return sorted(path for path in (K8S / "images").iterdir() if path.name.startswith("Dockerfile") and "ignore" not in path.name)


def scripts():
    found = [*K8S.rglob("*.sh")]
    found += [p for p in K8S.rglob("*") if p.is_file() and p.suffix == "" and p.read_bytes()[:20].startswith((b"#!/bin/sh", b"#!/usr/bin/env bash", b"#!/bin/bash"))]
    return sorted(set(found))


@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.name)
def test_hadolint(path):
    answer = run(os.path.join(PROGRAMS, "hadolint"), "--no-color", str(path))
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_shellcheck(path):
    answer = run(os.path.join(PROGRAMS, "shellcheck"), "--external-sources", str(path))
    assert answer.returncode == 0, answer.stdout
    assert os.access(path, os.X_OK), "not executable"


@pytest.mark.parametrize("path", dockerfiles(), ids=lambda path: path.name)
def test_the_image_is_small_and_not_root(path):
    text = path.read_text()
    final = text[text.rindex("\nFROM ") :]
    assert re.search(r"^FROM (scratch|\S*distroless\S*)", final, re.M)
    assert re.search(r"^USER (\d+):(\d+)$", final, re.M), "a number, which Kubernetes can check"
    assert re.search(r"^ENTRYPOINT \[", final, re.M)
    arguments = dict(re.findall(r"^ARG (\w+)=(\S+)", text, re.M))
    for image in re.findall(r"^FROM (\S+)", text, re.M):
        image = re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], image)
        stages = re.findall(r"\bAS (\w+)", text)
        assert image in ("scratch", *stages) or re.search(r":\d[\w.-]*$|@sha256:", image), image


def test_the_chart_fits_the_image(laptop):
    """User, program and manifest are where the chart looks for them."""
    (text,) = [path.read_text() for path in dockerfiles()]
    rootfs = (K8S / "images/rootfs.sh").read_text()
    user = re.findall(r"^USER (\d+):(\d+)$", text, re.M)[-1]
    assert user == (str(laptop.values["shim"]["runAsUser"]),) * 2
    for pod in laptop.pods():
        if not pod.runs_host("up"):
            continue
        program = pod.args()[0]
        assert program in ("up", "gristmill", "/usr/local/bin/gristmill"), program
        assert "/usr/local/bin/gristmill" in rootfs + text
        assert pod.values_of("--from") == ["/app/spin.toml"]
        assert "/app/spin.toml" in rootfs


def test_the_build_sees_every_package():
    """Cargo reads all members of the workspace, whatever is built."""
    workspace = tomllib.loads((chart.ROOT / "Cargo.toml").read_text())["workspace"]
    seen = (K8S / "images/Dockerfile.dockerignore").read_text().splitlines()
    for member in workspace["members"]:
        parts = member.split("/")
        assert any("!" + "/".join(parts[: n + 1]) in seen for n in range(len(parts))), member


def test_every_component_is_in_the_image():
    sources = {one["source"] for one in chart.manifest()["component"].values()}
    assert all(source.startswith("target/wasm32-wasip2/release/") for source in sources)
    assert "target/wasm32-wasip2/release" in (K8S / "images/rootfs.sh").read_text()
