"""Holds objects against the schemas of Kubernetes and of k8s/schemas. Unknown kinds and
unknown fields are errors."""

import functools
import json

import jsonschema
import kubernetes_validate

import chart

FOLDER = chart.ROOT / "k8s/schemas"


@functools.lru_cache(maxsize=None)
def custom():
    """Validators by API version and kind."""
    found = {}
    for path in sorted(FOLDER.glob("*.json")):
        schema = json.loads(path.read_text())
        jsonschema.Draft7Validator.check_schema(schema)
        key = (schema["x-source"]["api"], schema["title"])
        found[key] = jsonschema.Draft7Validator(schema)
    return found


def problems(item):
    """Why the object would not be accepted; empty where it would."""
    validator = custom().get((item["apiVersion"], item["kind"]))
    if validator is not None:
        return [f"{'.'.join(map(str, e.absolute_path))}: {e.message}" for e in validator.iter_errors(item)]
    try:
        kubernetes_validate.validate(item, chart.KUBERNETES, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}"]
    except kubernetes_validate.SchemaNotFoundError:
        return [f"no schema for {item['apiVersion']} {item['kind']}"]
    return []
