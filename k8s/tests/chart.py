"""The chart rendered by the real `helm`, and the pods that would come of it. Knows no
policy: it only says what there is."""

import base64
import copy
import dataclasses
import functools
import os
import pathlib
import re
import subprocess
import tomllib

import yaml

TESTS = pathlib.Path(__file__).resolve().parent
ROOT = TESTS.parents[1]
CHART = pathlib.Path(os.environ.get("GRISTMILL_TEST_CHART", ROOT / "k8s/chart"))
HELM = os.environ.get("GRISTMILL_TEST_HELM", "helm")
KUBECTL = os.environ.get("GRISTMILL_TEST_KUBECTL", "kubectl")
KUBERNETES = "1.35"
NAMESPACE = "mill"
# The clusters' APIs that templates may ask for.
APIS = [
    "core.spinkube.dev/v1alpha1",
    "keda.sh/v1alpha1",
    "cert-manager.io/v1",
    "monitoring.coreos.com/v1",
    "bitnami.com/v1alpha1",
    "external-secrets.io/v1",
]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job", "CronJob")
# What the operator of SpinKube gives the pods and the Service of a SpinApp.
SPINAPP_NAME = "core.spinkube.dev/app-name"
SPINAPP_PORT = {"name": "http-app", "containerPort": 80}


class Loader(yaml.SafeLoader):
    """YAML in which a key that stands twice is an error, as for the API server."""


def _mapping(loader, node, deep=False):
    seen = set()
    for key, _ in node.value:
        if key.tag == "tag:yaml.org,2002:merge":
            continue
        name = loader.construct_object(key, deep=True)
        if name in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"the key {name!r} stands twice", key.start_mark
            )
        seen.add(name)
    return yaml.SafeLoader.construct_mapping(loader, node, deep)


Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, lambda l, n: _mapping(l, n, True))


@dataclasses.dataclass(frozen=True)
class Case:
    """A file of the matrix. Its head may say `# with: values-aws.yaml` (a file of the chart
    that comes first), `# release: NAME`, and, where the chart must refuse it, `# refused: WHY`."""

    path: pathlib.Path

    @property
    def name(self):
        return self.path.stem

    def head(self, key, default=None):
        for line in self.path.read_text().splitlines():
            if line.startswith(f"# {key}: "):
                return line.removeprefix(f"# {key}: ").strip()
        return default

    def files(self):
        first = self.head("with")
        return [*([CHART / first] if first else []), self.path]

    def command(self, *verb):
        files = [part for file in self.files() for part in ("--values", str(file))]
        return [HELM, *verb, *files]


def cases(folder="matrix"):
    return [Case(path) for path in sorted((TESTS / folder).glob("*.yaml"))]


def case(name):
    return Case(TESTS / "matrix" / f"{name}.yaml")


def run(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def template(case):
    """`helm template`, as it answered."""
    apis = [part for api in APIS for part in ("--api-versions", api)]
    release = case.head("release", "demo")
    return run(
        [*case.command("template", release, str(CHART)), *apis]
        + ["--namespace", NAMESPACE, "--kube-version", KUBERNETES]
    )


def merged(base, over):
    """Helm's way to put values over values."""
    result = copy.deepcopy(base)
    for key, value in (over or {}).items():
        if value is None:
            result.pop(key, None)
        elif isinstance(value, dict) and isinstance(result.get(key), dict):
            result[key] = merged(result[key], value)
        else:
            result[key] = copy.deepcopy(value)
    return result


def objects_of(text):
    """What a stream of documents makes; of a List, its items."""
    documents = [item for item in yaml.load_all(text, Loader=Loader) if item]
    return [item for one in documents for item in (one["items"] if one["kind"] == "List" else [one])]


@functools.lru_cache(maxsize=None)
def rendered(case):
    answer = template(case)
    assert answer.returncode == 0, f"{case.name}: {answer.stderr}"
    objects = objects_of(answer.stdout)
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    for file in case.files():
        values = merged(values, yaml.safe_load(file.read_text()))
    return Release(case.name, objects, values, answer.stdout)


@functools.lru_cache(maxsize=None)
def manifest():
    """spin.toml."""
    return tomllib.loads((ROOT / "spin.toml").read_text())


def triggers(kind):
    """The components that have a trigger of this kind."""
    return {trigger["component"] for trigger in manifest()["trigger"].get(kind, [])}


@dataclasses.dataclass
class Pod:
    """A pod that a workload would make, or SpinKube's operator of a SpinApp."""

    owner: dict
    labels: dict
    spec: dict
    annotations: dict
    service_labels: dict | None = None

    @property
    def name(self):
        return f"{self.owner['kind']}/{self.owner['metadata']['name']}"

    @property
    def is_spinapp(self):
        return self.owner["kind"] == "SpinApp"

    @property
    def repository(self):
        """Of its image, without tag and digest."""
        return re.sub(r"(:[^/]*|@.*)$", "", self.containers[0]["image"])

    @property
    def containers(self):
        return self.spec.get("containers", [])

    @property
    def all_containers(self):
        return self.spec.get("initContainers", []) + self.containers

    def args(self):
        first = self.containers[0]
        return [str(arg) for arg in first.get("command", []) + first.get("args", [])]

    def values_of(self, flag):
        """What a flag of the first container is given, each time."""
        args = self.args()
        spaced = [b for a, b in zip(args, args[1:]) if a == flag]
        return spaced + [a.split("=", 1)[1] for a in args if a.startswith(flag + "=")]

    def runs_host(self, verb):
        args = self.args()
        return not self.is_spinapp and (args[:1] == [verb] or verb in args[:2])

    def components(self):
        """Those that are named, or all that have its triggers."""
        if self.is_spinapp:
            return self.owner["spec"].get("components", [])
        named = self.values_of("--component")
        return named or sorted(component for kind in self.values_of("--trigger") for component in triggers(kind))

    def ports(self):
        """What its containers declare."""
        return [one for container in self.containers for one in container.get("ports", [])]

    def declares(self, port):
        """A port, by name or number."""
        return any(port in (one.get("name"), one["containerPort"]) for one in self.ports())

    def port(self, port):
        """The number of a container's port by its name or number, else None."""
        for one in self.ports():
            if port in (one.get("name"), one["containerPort"]):
                return one["containerPort"]
        return port if isinstance(port, int) else None

    def env(self):
        """Of all containers: container, name, entry."""
        for container in self.all_containers:
            for entry in container.get("env", []):
                yield container["name"], entry["name"], entry


@dataclasses.dataclass
class Release:
    name: str
    objects: list
    values: dict
    text: str

    def __repr__(self):
        return f"<release {self.name}>"

    def __hash__(self):
        return id(self)

    def copy(self):
        return Release(self.name, copy.deepcopy(self.objects), copy.deepcopy(self.values), self.text)

    def all(self, *kinds):
        return [item for item in self.objects if item["kind"] in kinds]

    def get(self, kind, name):
        for item in self.all(kind):
            if item["metadata"]["name"] == name:
                return item
        return None

    def pods(self):
        return [pod_of(item) for item in self.objects if item["kind"] in (*WORKLOADS, "SpinApp")]

    def services(self):
        """The Services of the chart, and those that SpinKube's operator makes."""
        made = [
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {
                    "name": app["metadata"]["name"],
                    "labels": {SPINAPP_NAME: app["metadata"]["name"]},
                },
                "spec": {
                    "selector": status_of(app),
                    "ports": [{"port": 80, "targetPort": "http-app"}],
                },
            }
            for app in self.all("SpinApp")
        ]
        return self.all("Service") + made

    def server(self, name):
        """The pod of `redis` or `postgresql`, where the release has one."""
        wanted = self.values[name]["image"]["repository"]
        return next((pod for pod in self.pods() if pod.repository == wanted), None)

    def runner(self, component):
        """The pod that runs the component."""
        (found,) = [pod for pod in self.pods() if component in pod.components()]
        return found

    def selected(self, selector):
        return [pod for pod in self.pods() if matches(selector, pod.labels)]

    def secret_keys(self):
        """The Secrets that the release brings, or has made, with their keys."""
        keys = {}
        for item in self.all("Secret"):
            keys[item["metadata"]["name"]] = set(item.get("data") or {}) | set(item.get("stringData") or {})
        for item in self.all("SealedSecret"):
            template = item["spec"].get("template", {})
            keys[item["metadata"]["name"]] = set(item["spec"]["encryptedData"]) | set(template.get("data") or {})
        for item in self.all("ExternalSecret"):
            target = item["spec"].get("target", {})
            made = set((target.get("template") or {}).get("data") or {})
            if not made or target["template"].get("mergePolicy") == "Merge":
                made |= {entry["secretKey"] for entry in item["spec"].get("data", [])}
            keys[target.get("name", item["metadata"]["name"])] = made
        for item in self.all("Certificate"):
            keys[item["spec"]["secretName"]] = {"tls.crt", "tls.key", "ca.crt"}
        return keys

    def secret_values(self):
        """What must be seen in Secrets alone: name and key of each, and its text."""
        for item in self.all("Secret"):
            for key, value in (item.get("stringData") or {}).items():
                yield item["metadata"]["name"], key, value
            for key, value in (item.get("data") or {}).items():
                yield item["metadata"]["name"], key, base64.b64decode(value).decode()

    def file_of(self, kind, name, key):
        """The text of a key of a ConfigMap or Secret of this release."""
        item = self.get(kind, name)
        if item is None:
            return None
        if key in (item.get("stringData") or {}):
            return item["stringData"][key]
        value = (item.get("data") or {}).get(key)
        if value is not None and kind == "Secret":
            return base64.b64decode(value).decode()
        return value


def status_of(app):
    return {f"core.spinkube.dev/app.{app['metadata']['name']}.status": "ready"}


def pod_of(item):
    spec = item["spec"]
    if item["kind"] == "SpinApp":
        labels = {
            **spec.get("podLabels", {}),
            SPINAPP_NAME: item["metadata"]["name"],
            **status_of(item),
        }
        container = {
            "name": item["metadata"]["name"],
            "image": spec["image"],
            "ports": [SPINAPP_PORT],
            "resources": spec.get("resources", {}),
            "env": [
                {**variable, "name": f"SPIN_VARIABLE_{variable['name'].upper()}"}
                for variable in spec.get("variables", [])
            ],
            "livenessProbe": spec.get("checks", {}).get("liveness"),
            "readinessProbe": spec.get("checks", {}).get("readiness"),
            "volumeMounts": spec.get("volumeMounts", []),
        }
        made = {
            "containers": [container],
            "volumes": spec.get("volumes", []),
            "serviceAccountName": spec.get("serviceAccountName"),
        }
        return Pod(item, labels, made, spec.get("podAnnotations", {}))
    if item["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    template = spec["template"]
    metadata = template.get("metadata", {})
    return Pod(item, metadata.get("labels", {}), template["spec"], metadata.get("annotations", {}))


def matches(selector, labels):
    """A label selector: of a Service (plain), or with matchLabels and matchExpressions."""
    if selector is None:
        return False
    plain = selector if not {"matchLabels", "matchExpressions"} & set(selector) else selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in plain.items()):
        return False
    for rule in selector.get("matchExpressions") or [] if isinstance(selector, dict) else []:
        value, operator = labels.get(rule["key"]), rule["operator"]
        held = {
            "In": value in rule.get("values", []),
            "NotIn": value not in rule.get("values", []),
            "Exists": rule["key"] in labels,
            "DoesNotExist": rule["key"] not in labels,
        }[operator]
        if not held:
            return False
    return True
