"""Templates for users: the workflow for continuous integration, and GitOps."""

import os
import re
import subprocess
import sys

import pytest
import yaml

import chart

K8S = chart.ROOT / "k8s"


def files(folder):
    return sorted([*(K8S / folder).rglob("*.yaml"), *(K8S / folder).rglob("*.yml")])


def documents(path):
    return [item for item in yaml.load_all(path.read_text(), Loader=chart.Loader) if item]


def test_there_are_templates():
    assert files("ci") and files("gitops/argocd") and files("gitops/flux")


@pytest.mark.parametrize("path", files("ci"), ids=lambda path: path.name)
def test_actionlint(path):
    programs = os.path.dirname(sys.executable)
    # It hands scripts to shellcheck, which is beside it.
    command = [os.path.join(programs, "actionlint"), "-no-color", "-shellcheck", os.path.join(programs, "shellcheck"), "-pyflakes=", str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert answer.returncode == 0, answer.stdout + answer.stderr


@pytest.mark.parametrize("path", files("ci"), ids=lambda path: path.name)
def test_a_workflow_may_do_little(path):
    """Actions by commit, permissions named, every job with a limit."""
    workflow = yaml.safe_load(path.read_text())
    assert "permissions" in workflow
    assert workflow["permissions"] in ({}, {"contents": "read"}), workflow["permissions"]
    for name, job in workflow["jobs"].items():
        if "uses" in job:
            continue
        assert job.get("timeout-minutes"), name
        for step in job["steps"]:
            if "uses" in step and not step["uses"].startswith("./"):
                assert re.search(r"@[0-9a-f]{40}$|@sha256:", step["uses"]), f"{name}: {step['uses']} is not pinned"
            # A branch's name is anybody's text.
            assert not re.search(r"\$\{\{\s*github\.(head_ref|event\.)", step.get("run", "")), f"{name}: {step.get('run')}"


@pytest.mark.parametrize("path", files("gitops"), ids=lambda path: str(path.relative_to(K8S)))
def test_gitops_objects_are_whole(path):
    for item in documents(path):
        if "apiVersion" not in item:
            continue
        assert item["kind"], path
        assert "metadata" in item or item["kind"] == "Kustomization", path
        if item["kind"] == "Secret":
            raise AssertionError(f"{path}: a Secret does not belong into Git")


def chart_values(item):
    """The values that an object gives to the chart."""
    spec = item.get("spec", {})
    if item["kind"] == "HelmRelease":
        yield spec.get("values", {})
    if item["kind"] in ("Application", "ApplicationSet"):
        spec = spec.get("template", {}).get("spec", spec)
        for source in [spec.get("source", {}), *spec.get("sources", [])]:
            helm = source.get("helm", {})
            if "valuesObject" in helm:
                yield helm["valuesObject"]
            for file in helm.get("valueFiles", []):
                if "$" not in file:
                    assert (chart.CHART / file).is_file() or (chart.ROOT / source.get("path", "")).joinpath(file).is_file(), file


@pytest.mark.parametrize("path", files("gitops"), ids=lambda path: str(path.relative_to(K8S)))
def test_gitops_values_suit_the_chart(path, tmp_path):
    """The chart takes them over values-aws.yaml. `generate` would make new passwords each time."""
    for item in documents(path):
        if "apiVersion" not in item:
            continue
        for number, values in enumerate(chart_values(item)):
            file = tmp_path / f"{number}.yaml"
            file.write_text("# with: values-aws.yaml\n" + yaml.safe_dump(values))
            release = chart.rendered(chart.Case(file))
            assert release.values["secrets"]["mode"] != "generate"


def kustomizations():
    return sorted(path.parent for path in files("gitops") if path.name == "kustomization.yaml")


@pytest.mark.parametrize("folder", kustomizations(), ids=lambda path: str(path.relative_to(K8S)))
def test_kustomizations_build(folder, tmp_path):
    """And what they give to the chart, the chart takes."""
    answer = subprocess.run([chart.KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    objects = [item for item in yaml.load_all(answer.stdout, Loader=chart.Loader) if item]
    configs = {item["metadata"]["name"]: item["data"] for item in objects if item["kind"] == "ConfigMap"}
    for item in objects:
        if item["kind"] != "HelmRelease":
            continue
        spec = item["spec"]["chart"]["spec"]
        assert (chart.ROOT / spec["chart"]).resolve() == (chart.ROOT / "k8s/chart").resolve()
        values = {}
        for file in spec["valuesFiles"]:
            values = chart.merged(values, yaml.safe_load((chart.CHART / file.removeprefix("k8s/chart/")).read_text()))
        for source in item["spec"].get("valuesFrom", []):
            values = chart.merged(values, yaml.safe_load(configs[source["name"]][source["valuesKey"]]))
        file = tmp_path / "values.yaml"
        file.write_text(yaml.safe_dump(values))
        assert chart.rendered(chart.Case(file)).objects
