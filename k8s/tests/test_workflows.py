"""Templates for users: the workflow for continuous integration, and GitOps."""

import os
import re
import subprocess
import sys

import pytest
import yaml

import chart
import schemas

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


def objects(path):
    """Those of a cluster; Kustomize's own are held against it by `test_kustomizations_build`."""
    return [item for item in documents(path) if "apiVersion" in item and "kustomize.config" not in item["apiVersion"]]


def test_each_kind_of_gitops_is_tried():
    """No Secret among them."""
    assert {item["kind"] for path in files("gitops") for item in objects(path)} == {"ApplicationSet", "AppProject", "GitRepository", "HelmRelease", "Namespace"}


def gitops():
    return [pytest.param(item, id=f"{path.parent.name}-{item['kind']}") for path in files("gitops") for item in objects(path)]


@pytest.mark.parametrize("item", gitops())
def test_gitops_objects_are_valid(item):
    assert not schemas.problems(item)


@pytest.mark.parametrize("item", gitops())
def test_a_misspelt_field_is_refused(item):
    for where, spoilt in schemas.misspelt(item):
        assert schemas.problems(spoilt), where


def test_the_project_allows_what_the_chart_makes_and_no_more():
    """But no Secret: `secrets.mode: generate` is nothing for Argo CD."""
    (project,) = [item for item in documents(K8S / "gitops/argocd/project.yaml")]
    allowed = {(one["group"], one["kind"]) for one in project["spec"]["namespaceResourceWhitelist"]}
    items = [item for case in chart.cases() for item in chart.rendered(case).objects]
    made = {(item["apiVersion"].rpartition("/")[0], item["kind"]) for item in items}
    assert allowed == made - {("", "Secret")}


def values_in(folder, files):
    values = {}
    for file in files:
        values = chart.merged(values, yaml.load((folder / file).read_text(), Loader=chart.Loader))
    return values


def assert_suits(values, folder):
    """The chart takes these values, and makes no passwords: it would make new ones each time."""
    file = folder / "values.yaml"
    file.write_text(yaml.safe_dump(values))
    release = chart.rendered(chart.Case(file))
    assert release.objects and not release.all("Secret")


def test_the_application_suits_the_chart(tmp_path):
    """With the files of the chart; those of the clusters' repository are elsewhere."""
    (item,) = [item for path in files("gitops/argocd") for item in objects(path) if item["kind"] == "ApplicationSet"]
    (source,) = [one for one in item["spec"]["template"]["spec"]["sources"] if "helm" in one]
    own = [file for file in source["helm"]["valueFiles"] if not file.startswith("$")]
    assert_suits(values_in(chart.ROOT / source["path"], own), tmp_path)


def kustomizations():
    return sorted(path.parent for path in files("gitops") if path.name == "kustomization.yaml")


@pytest.mark.parametrize("folder", kustomizations(), ids=lambda path: str(path.relative_to(K8S)))
def test_kustomizations_build(folder, tmp_path):
    """And what they give to the chart, suits it."""
    answer = subprocess.run([chart.KUBECTL, "kustomize", str(folder)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr
    built = list(yaml.load_all(answer.stdout, Loader=chart.Loader))
    assert not [problem for item in built for problem in schemas.problems(item)]
    configs = {item["metadata"]["name"]: item["data"] for item in built if item["kind"] == "ConfigMap"}
    (release,) = [item["spec"] for item in built if item["kind"] == "HelmRelease"]
    spec = release["chart"]["spec"]
    assert chart.ROOT / spec["chart"] == chart.ROOT / "k8s/chart"
    values = values_in(chart.ROOT, spec["valuesFiles"])
    for source in release["valuesFrom"]:
        values = chart.merged(values, yaml.safe_load(configs[source["name"]][source["valuesKey"]]))
    assert_suits(values, tmp_path)
