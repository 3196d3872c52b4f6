"""Holds objects against the schemas of Kubernetes and of k8s/schemas. Unknown kinds and
unknown fields are errors; `misspelt` is what shows it."""

import copy
import functools
import json
import operator
import re

import jsonschema
import kubernetes_validate
from kubernetes_validate import utils

import chart

FOLDER = chart.ROOT / "k8s/schemas"
# The package reads its files again for every object, which is most of its time.
utils.schema_contents = functools.lru_cache(maxsize=None)(utils.schema_contents)
# Maps whose keys are the user's, not the API's.
FREE = re.compile(
    r"\.(annotations|data|elements\[\]|invocationLimits|labels|limits|matchLabels|podAnnotations|podLabels|requests"
    r"|selector|stringData|triggers\[\]\.metadata|values|valuesObject)$"
)


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


def misspelt(item):
    """The object, each time with another key of the API written wrongly: which, and the object.
    Of a list, the first entry stands for all."""
    yield from _misspelt(item, item, ())


def _misspelt(item, part, where):
    path = "".join("[]" if isinstance(key, int) else f".{key}" for key in where)
    for key, value in part.items() if isinstance(part, dict) else list(enumerate(part))[:1]:
        if isinstance(part, dict) and not FREE.search(path) and (where or key not in ("apiVersion", "kind")):
            spoilt = copy.deepcopy(item)
            inside = functools.reduce(operator.getitem, where, spoilt)
            inside[f"{key}s"] = inside.pop(key)
            yield f"{path}.{key}", spoilt
        if isinstance(value, (dict, list)):
            yield from _misspelt(item, value, (*where, key))
