"""Alert rules by promtool, and the names of metrics in rules and dashboards."""

import json
import os
import re
import shutil

import pytest
import yaml

import chart
from conftest import required

DOCUMENTED = re.compile(r"`(gristmill_[a-z_]+)")
USED = re.compile(r"\b(gristmill_[a-z_]+)\b")
# Not ours: KEDA's, and those of kube-state-metrics.
OTHERS = re.compile(r"^(keda_|kube_|container_|up$)")


@pytest.fixture(scope="module")
def monitored():
    return chart.rendered(chart.case("monitoring"))


@pytest.fixture(scope="module")
def promtool():
    path = os.environ.get("GRISTMILL_TEST_PROMTOOL") or shutil.which("promtool")
    if not path:
        required("promtool")
    return path


@pytest.fixture(scope="module")
def rules(monitored, tmp_path_factory):
    (item,) = monitored.all("PrometheusRule")
    path = tmp_path_factory.mktemp("rules") / "rules.yaml"
    path.write_text(yaml.safe_dump(item["spec"]))
    return path


def documented():
    """What /metrics answers, by the tables of the documentation."""
    text = "".join(path.read_text() for path in sorted((chart.ROOT / "docs").glob("*.md")))
    names = set(DOCUMENTED.findall(text))
    return names | {f"{name}{part}" for name in names for part in ("_bucket", "_sum", "_count")}


def test_promtool_accepts_the_rules(promtool, rules):
    answer = chart.run([promtool, "check", "rules", "--lint=all", "--lint-fatal", str(rules)])
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_alerts_fire_when_they_should(promtool, rules, tmp_path):
    cases = yaml.safe_load((chart.TESTS / "alerts.yaml").read_text())
    plain = yaml.safe_load(rules.read_text())
    for group in plain["groups"]:
        for rule in group["rules"]:
            # Texts are not compared: promtool wants them to the letter.
            rule.pop("annotations", None)
    (tmp_path / "rules.yaml").write_text(yaml.safe_dump(plain))
    (tmp_path / "cases.yaml").write_text(yaml.safe_dump({**cases, "rule_files": [str(tmp_path / "rules.yaml")]}))
    answer = chart.run([promtool, "test", "rules", str(tmp_path / "cases.yaml")])
    assert answer.returncode == 0, answer.stdout + answer.stderr


def test_every_alert_is_tried(rules):
    cases = yaml.safe_load((chart.TESTS / "alerts.yaml").read_text())["tests"]
    tried = {one["alertname"] for case in cases for one in case["alert_rule_test"] if one.get("exp_alerts")}
    names = {rule["alert"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"] if "alert" in rule}
    assert names == tried


def test_every_alert_tells_what_to_do(rules):
    for group in yaml.safe_load(rules.read_text())["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                assert rule["labels"].get("severity") in ("warning", "critical"), rule["alert"]
                assert rule["annotations"].get("summary") and rule["annotations"].get("description"), rule["alert"]


def test_metrics_are_those_of_the_host(rules):
    text = " ".join(rule["expr"] for group in yaml.safe_load(rules.read_text())["groups"] for rule in group["rules"])
    assert set(USED.findall(text)) - documented() == set()


def dashboards():
    return sorted(chart.CHART.rglob("*.json")) if chart.CHART.is_dir() else []


@pytest.mark.parametrize("path", [path for path in dashboards() if "schema" not in path.name], ids=lambda path: path.name)
def test_dashboards_show_what_there_is(path, monitored):
    dashboard = json.loads(path.read_text())
    panels = [panel for one in dashboard["panels"] for panel in [one, *one.get("panels", [])]]
    assert len({panel["id"] for panel in panels}) == len(panels)
    expressions = [target["expr"] for panel in panels for target in panel.get("targets", [])]
    assert expressions
    assert set(USED.findall(" ".join(expressions))) - documented() == set()
    text = json.dumps(monitored.all("ConfigMap"))
    assert json.dumps(dashboard["title"])[1:-1] in text
