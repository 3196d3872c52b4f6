"""The chart renders for every set of values, into objects that a cluster would take; and what
would not work, it refuses."""

import json
import os
import re

import jsonschema
import pytest
import yaml

import chart
import schemas


@pytest.mark.parametrize("case", chart.cases(), ids=lambda case: case.name)
def test_helm_lints_strictly(case):
    answer = chart.run([*case.command("lint", str(chart.CHART)), "--strict", "--kube-version", chart.KUBERNETES])
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert not re.search(r"\[(WARNING|ERROR)\]", answer.stdout), answer.stdout


def test_objects_are_valid(release):
    assert release.objects
    found = [f"{item['kind']}/{item['metadata']['name']}: {p}" for item in release.objects for p in schemas.problems(item)]
    assert not found, "\n".join(found)


def test_kubectl_reads_every_object(release):
    """`kubectl` parses the stream by itself, without a cluster."""
    command = [chart.KUBECTL, "label", "--local", "--dry-run=client", "-f", "-", "read=yes", "-o", "name"]
    answer = chart.run(command, input=release.text)
    assert answer.returncode == 0, answer.stderr
    assert len(answer.stdout.split()) == len(release.objects)


def test_nothing_is_left_over_of_templates(release):
    for left in ("<no value>", "%!", "{{", "&#", "map["):
        lines = [line for line in release.text.splitlines() if left in line]
        # Grafana and Prometheus have braces of their own.
        lines = [line for line in lines if not (left == "{{" and re.search(r"\{\{\s*(\$|\.|humanize|[a-z_]+\}\})", line))]
        assert not lines, lines[:5]


def test_rendering_again_gives_the_same(laptop):
    """But for generated passwords, which live in Secrets, and for what hashes them."""
    again = chart.objects_of(chart.template(chart.case("laptop")).stdout)
    for first, second in zip(laptop.objects, again, strict=True):
        if first["kind"] != "Secret":
            assert first == second


@pytest.mark.parametrize("case", chart.cases("refused"), ids=lambda case: case.name)
def test_what_would_not_work_is_refused(case):
    answer = chart.template(case)
    assert answer.returncode != 0, "it was rendered"
    assert re.search(case.head("refused"), answer.stderr), answer.stderr


def values_files():
    return sorted(chart.CHART.glob("values*.yaml"))


def test_every_value_has_a_comment():
    """Above it or behind it, above the map or the list that it is in, or where another value of
    the same name stands."""
    lines = (chart.CHART / "values.yaml").read_text().splitlines()
    bare, documented, names = [], {}, set()
    comment = False
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            comment = bool(text)
            continue
        indent = len(line) - len(line.lstrip())
        documented = {depth: held for depth, held in documented.items() if depth < indent}
        mine = comment or "#" in text or any(documented.values())
        name = re.match(r"([A-Za-z_-]+):", text)
        if name and mine:
            names.add(name[1])
        elif name and not text.endswith(":"):
            bare.append((name[1], f"{number}: {text}"))
        documented[indent] = mine
        comment = False
    lacking = [text for name, text in bare if name not in names]
    assert not lacking, "\n".join(lacking)


def test_the_schema_knows_every_value():
    """It is valid itself, and each object in it says what it takes."""
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    jsonschema.validators.validator_for(schema).check_schema(schema)
    open_objects = []

    def walk(part, path):
        if not isinstance(part, dict):
            return
        if "properties" in part and "additionalProperties" not in part and "unevaluatedProperties" not in part:
            open_objects.append(path)
        for key, value in part.get("properties", {}).items():
            walk(value, f"{path}.{key}")
        for key in ("items", "additionalProperties"):
            walk(part.get(key), f"{path}.{key}")
        for key in ("$defs", "definitions"):
            for name, value in part.get(key, {}).items():
                walk(value, f"{path}.{key}.{name}")

    walk(schema, "values")
    assert not open_objects, open_objects


@pytest.mark.parametrize("file", values_files(), ids=lambda file: file.name)
def test_values_fit_the_schema(file):
    schema = json.loads((chart.CHART / "values.schema.json").read_text())
    base = yaml.safe_load((chart.CHART / "values.yaml").read_text())
    jsonschema.validate(chart.merged(base, yaml.load(file.read_text(), Loader=chart.Loader)), schema)


def test_notes_tell_where_things_are_and_no_secret(laptop):
    command = chart.case("laptop").command("install", "demo", str(chart.CHART))
    answer = chart.run([*command, "--dry-run=client", "--namespace", chart.NAMESPACE], env={**os.environ, "KUBECONFIG": os.devnull})
    assert answer.returncode == 0, answer.stderr
    notes = answer.stdout.split("\nNOTES:\n")[1]
    for queue in laptop.values["queues"]:
        assert f"/{queue}\n" in notes and f"/{queue}-dlq" in notes, notes
    assert laptop.values["ingress"]["host"] in notes
    assert not re.search(r"\b[A-Za-z0-9]{32}\b|<no value>|%!", notes), notes
