"""The rules for what the chart renders, each a function that lists what breaks it.
test_policies.py applies them; test_mutations.py shows that each finds what it is for."""

import re

import chart
import network

HARMLESS_VOLUMES = {"configMap", "secret", "emptyDir", "projected", "persistentVolumeClaim", "downwardAPI"}
PROBES = ("livenessProbe", "readinessProbe")
RECOMMENDED = (
    "app.kubernetes.io/name",
    "app.kubernetes.io/instance",
    "app.kubernetes.io/version",
    "app.kubernetes.io/managed-by",
    "helm.sh/chart",
)
# KEDA 2.20, aws-sqs-queue: what the scaler reads of `metadata`.
SQS_METADATA = {
    "queueURL",
    "queueURLFromEnv",
    "queueLength",
    "activationQueueLength",
    "awsRegion",
    "awsEndpoint",
    "scaleOnInFlight",
    "scaleOnDelayed",
    "identityOwner",
}
UNITS = {"": 1, "m": 0.001, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


# Every rule.
ALL = []


def rule(function):
    ALL.append(function)
    return function


def quantity(text):
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", str(text)).groups()
    return float(number) * UNITS[unit]


def own_pods(release):
    """Pods whose spec the chart writes; SpinKube's operator writes those of SpinApps."""
    return [pod for pod in release.pods() if not pod.is_spinapp]


def label(item):
    return f"{item['kind']}/{item['metadata']['name']}"


@rule
def pods_are_not_privileged(release):
    for pod in own_pods(release):
        for field in ("hostNetwork", "hostPID", "hostIPC"):
            if pod.spec.get(field):
                yield f"{pod.name}: {field}"
        for volume in pod.spec.get("volumes", []):
            if not HARMLESS_VOLUMES & set(volume):
                yield f"{pod.name}: volume {volume}"
        for container in pod.all_containers:
            security = container.get("securityContext", {})
            if security.get("privileged"):
                yield f"{pod.name}: privileged"
            if security.get("allowPrivilegeEscalation") is not False:
                yield f"{pod.name}: {container['name']} may escalate"
            if security.get("capabilities", {}).get("add"):
                yield f"{pod.name}: {container['name']} adds capabilities"
            for port in container.get("ports", []):
                if port.get("hostPort"):
                    yield f"{pod.name}: hostPort"


@rule
def pods_are_hardened(release):
    for pod in own_pods(release):
        outer = pod.spec.get("securityContext", {})
        for container in pod.all_containers:
            security = container.get("securityContext", {})
            both = {**outer, **security}
            if not both.get("runAsNonRoot"):
                yield f"{pod.name}: {container['name']} may run as root"
            if not both.get("runAsUser"):
                yield f"{pod.name}: {container['name']} has no user"
            if not security.get("readOnlyRootFilesystem"):
                yield f"{pod.name}: {container['name']} can write its root"
            if security.get("capabilities", {}).get("drop") != ["ALL"]:
                yield f"{pod.name}: {container['name']} keeps capabilities"
            if both.get("seccompProfile", {}).get("type") != "RuntimeDefault":
                yield f"{pod.name}: {container['name']} has no seccomp profile"


@rule
def service_accounts_have_no_token(release):
    accounts = {item["metadata"]["name"]: item for item in release.all("ServiceAccount")}
    for pod in own_pods(release):
        name = pod.spec.get("serviceAccountName", "default")
        if name == "default" and release.values["serviceAccounts"]["create"]:
            yield f"{pod.name}: the namespace's default account"
        if pod.spec.get("automountServiceAccountToken") is not False:
            yield f"{pod.name}: mounts a token"
    for item in accounts.values():
        if item.get("automountServiceAccountToken") is not False:
            yield f"{label(item)}: mounts a token unless the pod refuses"
    for pod in release.pods():
        name = pod.spec.get("serviceAccountName")
        if name and release.values["serviceAccounts"]["create"] and name not in accounts:
            yield f"{pod.name}: no account {name}"
    for item in release.all("Role", "ClusterRole", "RoleBinding", "ClusterRoleBinding"):
        yield f"{label(item)}: nothing here asks the API server"


@rule
def containers_have_limits(release):
    for pod in release.pods():
        for container in pod.all_containers:
            resources = container.get("resources", {})
            requests, limits = resources.get("requests", {}), resources.get("limits", {})
            for what in ("cpu", "memory"):
                if what not in requests or what not in limits:
                    yield f"{pod.name}: {container['name']} lacks {what}"
                elif quantity(requests[what]) > quantity(limits[what]):
                    yield f"{pod.name}: {container['name']} requests more {what} than it may have"
        for volume in pod.spec.get("volumes", []):
            if "emptyDir" in volume and "sizeLimit" not in (volume["emptyDir"] or {}):
                yield f"{pod.name}: volume {volume['name']} may fill the node"


@rule
def containers_have_probes(release):
    for pod in release.pods():
        if pod.owner["kind"] in ("Job", "CronJob"):
            continue
        for container in pod.containers:
            for name in PROBES:
                probe = container.get(name)
                if not probe:
                    yield f"{pod.name}: {container['name']} has no {name}"
                    continue
                if pod.is_spinapp:
                    continue
                port = probe.get("httpGet", probe.get("tcpSocket", {})).get("port")
                if port is not None and not pod.declares(port):
                    yield f"{pod.name}: {name} asks the port {port}, which there is not"
            if not pod.is_spinapp and container.get("livenessProbe", {}).get("httpGet", {}).get("path") == "/readyz":
                yield f"{pod.name}: a server that is down would restart it"


@rule
def mounts_have_volumes(release):
    for pod in own_pods(release):
        claims = [item["metadata"]["name"] for item in pod.owner["spec"].get("volumeClaimTemplates", [])]
        volumes = {volume["name"] for volume in pod.spec.get("volumes", [])} | set(claims)
        mounted = {mount["name"] for container in pod.all_containers for mount in container.get("volumeMounts", [])}
        for name in mounted ^ volumes:
            yield f"{pod.name}: {name} is a volume or a mount, not both"
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim and not release.get("PersistentVolumeClaim", claim):
                yield f"{pod.name}: no claim {claim}"
            config = volume.get("configMap", {}).get("name")
            if config and not release.get("ConfigMap", config):
                yield f"{pod.name}: no ConfigMap {config}"


def _references(release):
    """Of pods and of KEDA: who, kind, name and key of each Secret or ConfigMap."""
    for pod in release.pods():
        for container, name, entry in pod.env():
            source = entry.get("valueFrom", {})
            for field, kind in (("secretKeyRef", "Secret"), ("configMapKeyRef", "ConfigMap")):
                if field in source:
                    yield f"{pod.name}: {name}", kind, source[field]["name"], source[field]["key"]
        for container in pod.all_containers:
            for entry in container.get("envFrom", []):
                for field, kind in (("secretRef", "Secret"), ("configMapRef", "ConfigMap")):
                    if field in entry:
                        yield f"{pod.name}: envFrom", kind, entry[field]["name"], None
        for volume in pod.spec.get("volumes", []):
            for field, kind, name in (("secret", "Secret", "secretName"), ("configMap", "ConfigMap", "name")):
                if field in volume:
                    items = volume[field].get("items") or [{"key": None}]
                    for item in items:
                        yield f"{pod.name}: volume", kind, volume[field][name], item["key"]
    for app in release.all("SpinApp"):
        secret = app["spec"].get("runtimeConfig", {}).get("loadFromSecret")
        if secret:
            yield label(app), "Secret", secret, "runtime-config.toml"
    for item in release.all("TriggerAuthentication"):
        for reference in item["spec"].get("secretTargetRef", []):
            yield label(item), "Secret", reference["name"], reference["key"]


@rule
def references_lead_somewhere(release):
    secrets = release.secret_keys()
    configs = {item["metadata"]["name"]: set(item.get("data") or {}) for item in release.all("ConfigMap")}
    elsewhere = release.values["secrets"]["mode"] == "existing"
    named = {name for name in release.values["secrets"]["names"].values() if name}
    named |= {release.values["app"]["registrySecret"], release.values["authorities"]["secret"]}
    for who, kind, name, key in _references(release):
        there = secrets if kind == "Secret" else configs
        if kind == "Secret" and (elsewhere or name in named):
            continue
        if name not in there:
            yield f"{who}: no {kind} {name}"
        elif key is not None and key not in there[name]:
            yield f"{who}: no key {key} in {kind} {name}"


@rule
def secrets_are_references(release):
    """Neither a secret's value nor a variable that is one stands outside of a Secret."""
    secret = {name for name, item in chart.manifest()["variables"].items() if item.get("secret")}
    for pod in release.pods():
        for container, name, entry in pod.env():
            plain = name.removeprefix("SPIN_VARIABLE_").lower()
            sensitive = plain in secret or re.search(r"PASSWORD|SECRET|TOKEN|ACCESS_KEY", name)
            if sensitive and entry.get("value") and not entry["value"].startswith("/"):
                yield f"{pod.name}: {name} is written out"
            if plain in secret and "configMapKeyRef" in entry.get("valueFrom", {}):
                yield f"{pod.name}: {name} comes from a ConfigMap"
        for arg in pod.args() if pod.containers else []:
            if any(f"{name}=" in arg.lower() for name in secret):
                yield f"{pod.name}: an argument with a secret"
    values = {(name, key): value for name, key, value in release.secret_values() if len(value) >= 8}
    parts = dict(values)
    for (name, key), value in values.items():
        for password in re.findall(r"://[^:/@\s]*:([^@\s]+)@", value):
            parts[name, f"{key} (password)"] = password
    for item in release.objects:
        if item["kind"] == "Secret":
            continue
        text = str(item)
        for (name, key), value in parts.items():
            if value in text:
                yield f"{label(item)}: shows {key} of {name}"


@rule
def services_reach_pods(release):
    for service in release.all("Service"):
        selector = service["spec"].get("selector")
        pods = release.selected(selector) if selector else []
        if not pods:
            yield f"{label(service)}: selects nothing"
        for pod in pods:
            for port in service["spec"]["ports"]:
                target = port.get("targetPort", port["port"])
                if not pod.declares(target):
                    yield f"{label(service)}: {pod.name} has no port {target}"
        if len(pods) > 1 and service["spec"].get("clusterIP") != "None":
            yield f"{label(service)}: mixes {sorted(pod.name for pod in pods)}"


@rule
def selectors_match(release):
    for pod in own_pods(release):
        if pod.owner["kind"] not in ("Deployment", "StatefulSet", "DaemonSet"):
            continue
        selector = pod.owner["spec"]["selector"]
        if not chart.matches(selector, pod.labels):
            yield f"{pod.name}: its selector does not match its pods"
        others = [other.name for other in release.pods() if chart.matches(selector, other.labels) and other.owner is not pod.owner]
        if others:
            yield f"{pod.name}: its selector matches {others}"
        for part in ("app.kubernetes.io/version", "helm.sh/chart"):
            if part in selector.get("matchLabels", {}):
                yield f"{pod.name}: an upgrade would change the selector"
    for item in release.all("PodMonitor", "PodDisruptionBudget"):
        if not release.selected(item["spec"]["selector"]):
            yield f"{label(item)}: selects nothing"
    for item in release.all("ServiceMonitor"):
        found = [s for s in release.all("Service") if chart.matches(item["spec"]["selector"], s["metadata"].get("labels", {}))]
        if not found:
            yield f"{label(item)}: selects no Service"
        for endpoint in item["spec"]["endpoints"]:
            for service in found:
                if "port" in endpoint and endpoint["port"] not in [p.get("name") for p in service["spec"]["ports"]]:
                    yield f"{label(item)}: {label(service)} has no port {endpoint['port']}"
    for item in release.all("PodMonitor"):
        for endpoint in item["spec"]["podMetricsEndpoints"]:
            for pod in release.selected(item["spec"]["selector"]):
                if "port" in endpoint and not pod.declares(endpoint["port"]):
                    yield f"{label(item)}: {pod.name} has no port {endpoint['port']}"


# A StatefulSet's pods have a label with a hash behind the name; SpinKube's have the key `app.NAME.status`; KEDA's
# autoscaler is `keda-hpa-NAME`, which it holds to 63 itself.
NAME_LIMITS = {"Service": 63, "Deployment": 63, "StatefulSet": 52, "SpinApp": 52, "ScaledObject": 54}


@rule
def names_and_labels_are_consistent(release):
    seen = set()
    for item in release.objects:
        key = (item["apiVersion"], item["kind"], item["metadata"]["name"])
        if key in seen:
            yield f"{label(item)}: twice"
        seen.add(key)
        namespace = item["metadata"].get("namespace", chart.NAMESPACE)
        if namespace != chart.NAMESPACE:
            yield f"{label(item)}: in the namespace {namespace}"
        limit = NAME_LIMITS.get(item["kind"], 253)
        if len(item["metadata"]["name"]) > limit:
            yield f"{label(item)}: longer than {limit}"
        labels = item["metadata"].get("labels", {})
        for name in RECOMMENDED:
            if name not in labels:
                yield f"{label(item)}: no label {name}"
        for name, value in labels.items():
            if len(str(value)) > 63 or not isinstance(value, str):
                yield f"{label(item)}: label {name}={value!r}"
        if "app.kubernetes.io/component" in labels and item["kind"] in chart.WORKLOADS:
            pod = chart.pod_of(item)
            if pod.labels.get("app.kubernetes.io/component") != labels["app.kubernetes.io/component"]:
                yield f"{label(item)}: its pods are labelled as another component"
    instances = {item["metadata"].get("labels", {}).get("app.kubernetes.io/instance") for item in release.objects}
    if len(instances) != 1:
        yield f"several instances: {instances}"


@rule
def images_are_pinned(release):
    for pod in release.pods():
        for container in pod.all_containers:
            image = container["image"]
            name = image.rsplit("/", 1)[-1]
            if "@sha256:" in image:
                if not re.search(r"@sha256:[0-9a-f]{64}$", image):
                    yield f"{pod.name}: no digest in {image}"
            elif ":" not in name or name.endswith((":latest", ":")):
                yield f"{pod.name}: {image} is not pinned"


def queue_consumers(release):
    return [pod for pod in release.pods() if pod.runs_host("up") and "sqs" in pod.values_of("--trigger")]


@rule
def queues_have_consumers(release):
    """Each queue has one consumer of its own, outside of SpinApps."""
    queued = chart.triggers("sqs")
    consumed = [component for pod in queue_consumers(release) for component in pod.components()]
    for queue in release.values["queues"].values():
        if queue.get("enabled", True) and consumed.count(queue["component"]) != 1:
            yield f"{queue['component']}: {consumed.count(queue['component'])} consumers"
    for app in release.all("SpinApp"):
        wrong = set(app["spec"].get("components", [])) & (queued | chart.triggers("cron"))
        if wrong or not app["spec"].get("components"):
            yield f"{label(app)}: runs {wrong or 'everything'}"


@rule
def queues_have_dead_letters(release):
    for name, queue in release.values["queues"].items():
        if not queue.get("enabled", True):
            continue
        if queue.get("url"):
            dead = queue.get("deadLetterUrl", "")
            if not dead or dead == queue["url"]:
                yield f"{name}: no dead-letter queue"
        else:
            created = [name for pod in release.pods() if pod.runs_host("queue") for name in pod.values_of("--create")]
            # `--create NAME` makes NAME-dlq as well.
            if name not in created:
                yield f"{name}: nobody creates it with its dead-letter queue"


@rule
def scaled_objects_are_sound(release):
    authentications = {item["metadata"]["name"]: item for item in release.all("TriggerAuthentication")}
    deployments = {item["metadata"]["name"] for item in release.all("Deployment", "SpinApp")}
    targets = []
    for item in release.all("ScaledObject"):
        spec = item["spec"]
        target = spec["scaleTargetRef"]
        targets.append(target["name"])
        # KEDA's default is a Deployment; SpinKube names a SpinApp's Deployment like it.
        if target.get("kind", "Deployment") != "Deployment" or target["name"] not in deployments:
            yield f"{label(item)}: no {target}"
        low, high = spec.get("minReplicaCount", 0), spec.get("maxReplicaCount", 100)
        if low > high or ("idleReplicaCount" in spec and spec["idleReplicaCount"] >= low):
            yield f"{label(item)}: replicas {low} to {high}"
        for trigger in spec["triggers"]:
            metadata = trigger["metadata"]
            unknown = set(metadata) - SQS_METADATA
            if trigger["type"] != "aws-sqs-queue" or unknown:
                yield f"{label(item)}: {trigger['type']} {unknown}"
            if not metadata.get("awsRegion") or not ({"queueURL", "queueURLFromEnv"} & set(metadata)):
                yield f"{label(item)}: no region or no queue"
            url = metadata.get("queueURL", "")
            # The scaler takes the queue's name from the path and the endpoint from elsewhere.
            if url and "amazonaws.com" not in url and not metadata.get("awsEndpoint"):
                yield f"{label(item)}: would ask AWS for {url}"
            reference = trigger.get("authenticationRef", {}).get("name")
            if reference not in authentications:
                yield f"{label(item)}: no TriggerAuthentication {reference}"
            else:
                spec_of = authentications[reference]["spec"]
                given = {one["parameter"] for one in spec_of.get("secretTargetRef", [])}
                if spec_of.get("podIdentity", {}).get("provider") != "aws" and not {"awsAccessKeyID", "awsSecretAccessKey"} <= given:
                    yield f"{label(item)}: {reference} gives no identity"
    for item in release.all("HorizontalPodAutoscaler"):
        target = item["spec"]["scaleTargetRef"]
        targets.append(target["name"])
        if target["name"] not in deployments or target["kind"] != "Deployment":
            yield f"{label(item)}: no {target}"
        if item["spec"].get("minReplicas", 1) > item["spec"]["maxReplicas"]:
            yield f"{label(item)}: minimum above maximum"
    for name in {name for name in targets if targets.count(name) > 1}:
        yield f"{name}: two autoscalers"
    for pod in release.pods():
        if pod.owner["metadata"]["name"] in targets and pod.owner["spec"].get("replicas") is not None:
            yield f"{pod.name}: an upgrade would reset what the autoscaler chose"


@rule
def authorities_are_trusted(release):
    """By shims and by SpinApps, where values name some."""
    secret = release.values["authorities"]["secret"]
    if not secret:
        return
    for item in release.all("SpinAppExecutor"):
        config = item["spec"]["deploymentConfig"]
        # SpinKube would fill a Secret that is not there yet with the public ones alone.
        if config.get("caCertSecret") != secret or config.get("installDefaultCACerts"):
            yield f"{label(item)}: {config}"
    for pod in release.pods():
        if not pod.runs_host("up"):
            continue
        (file,) = [entry.get("value") for _, name, entry in pod.env() if name == "SSL_CERT_FILE"] or [""]
        volumes = [one["name"] for one in pod.spec["volumes"] if one.get("secret", {}).get("secretName") == secret]
        mounts = [one["mountPath"] for c in pod.containers for one in c["volumeMounts"] if one["name"] in volumes]
        if file not in [f"{path}/ca-certificates.crt" for path in mounts]:
            yield f"{pod.name}: trusts {file or 'the public authorities alone'}"


@rule
def executors_come_first(release):
    """SpinKube refuses a SpinApp whose executor is not in its namespace yet."""
    if not release.values["spinkube"]["executor"]["create"]:
        return
    order = [(item["kind"], item["metadata"]["name"]) for item in release.objects]
    for app in release.all("SpinApp"):
        executor = ("SpinAppExecutor", app["spec"]["executor"])
        if executor not in order or order.index(executor) > order.index(("SpinApp", app["metadata"]["name"])):
            yield f"{label(app)}: no {executor[1]} before it"


# Read by nobody; a pod does not start before it can be had.
WAITS_FOR_CONFIGURATION = "SPIN_VARIABLE_RUNTIME_CONFIG_PRESENT"


@rule
def spinapps_wait_for_their_configuration(release):
    """SpinKube mounts it as optional: a pod that comes before its Secret would never have it."""
    for app in release.all("SpinApp"):
        secret = app["spec"].get("runtimeConfig", {}).get("loadFromSecret")
        waited_for = [
            entry.get("valueFrom", {}).get("secretKeyRef", {})
            for _, name, entry in chart.pod_of(app).env()
            if name == WAITS_FOR_CONFIGURATION
        ]
        if secret and waited_for != [{"name": secret, "key": "runtime-config.toml"}]:
            yield f"{label(app)}: starts without {secret}"


def replicas_of(release, pod):
    """The fewest there are."""
    name = pod.owner["metadata"]["name"]
    for item in release.all("ScaledObject"):
        if item["spec"]["scaleTargetRef"]["name"] == name:
            return item["spec"].get("minReplicaCount", 0), item["spec"].get("maxReplicaCount", 100)
    for item in release.all("HorizontalPodAutoscaler"):
        if item["spec"]["scaleTargetRef"]["name"] == name:
            return item["spec"].get("minReplicas", 1), item["spec"]["maxReplicas"]
    count = pod.owner["spec"].get("replicas", 1)
    return count, count


@rule
def budgets_leave_room(release):
    covered = []
    for item in release.all("PodDisruptionBudget"):
        for pod in release.selected(item["spec"]["selector"]):
            covered.append(pod.name)
            low, _ = replicas_of(release, pod)
            spec = item["spec"]
            if "minAvailable" in spec and not (isinstance(spec["minAvailable"], int) and spec["minAvailable"] < low):
                yield f"{label(item)}: {spec['minAvailable']} of {low} replicas: no node could be drained"
            if spec.get("maxUnavailable") in (0, "0%"):
                yield f"{label(item)}: no node could be drained"
    if release.values["podDisruptionBudget"]["enabled"]:
        for pod in release.pods():
            if replicas_of(release, pod)[0] >= 2 and pod.name not in covered:
                yield f"{pod.name}: no disruption budget"


@rule
def drains_fit(release):
    """SIGKILL comes after the drain; a roll-out takes nothing down before its successor is up."""
    for pod in release.pods():
        if not pod.runs_host("up"):
            continue
        drain = int((pod.values_of("--grace-period") or ["25"])[0])
        hook = pod.containers[0].get("lifecycle", {}).get("preStop", {})
        before = hook.get("sleep", {}).get("seconds", 0)
        if set(hook) - {"sleep"}:
            yield f"{pod.name}: there is no shell in the image for {hook}"
        if pod.spec.get("terminationGracePeriodSeconds", 30) <= drain + before:
            yield f"{pod.name}: killed before its {drain} s of drain end"
        cron = "cron" in pod.values_of("--trigger")
        strategy = pod.owner["spec"].get("strategy", {})
        if cron:
            if strategy.get("type") != "Recreate" or replicas_of(release, pod) != (1, 1):
                yield f"{pod.name}: schedules would tick twice"
        elif not pod.spec.get("volumes") or not any("persistentVolumeClaim" in v for v in pod.spec["volumes"]):
            rolling = strategy.get("rollingUpdate", {})
            if strategy.get("type") == "Recreate" or rolling.get("maxUnavailable") not in (0, "0%"):
                yield f"{pod.name}: a roll-out takes pods away first"


@rule
def replicas_spread(release):
    for pod in own_pods(release):
        low, high = replicas_of(release, pod)
        if high < 2:
            continue
        keys = {one["topologyKey"] for one in pod.spec.get("topologySpreadConstraints", [])}
        if not {"topology.kubernetes.io/zone", "kubernetes.io/hostname"} <= keys:
            yield f"{pod.name}: not spread over zones and nodes"
        for one in pod.spec.get("topologySpreadConstraints", []):
            if not chart.matches(one["labelSelector"], pod.labels):
                yield f"{pod.name}: spreads other pods than its own"


@rule
def embedded_stores_have_one_pod(release):
    claims = {}
    for pod in release.pods():
        for volume in pod.spec.get("volumes", []):
            claim = volume.get("persistentVolumeClaim", {}).get("claimName")
            if claim:
                claims.setdefault(claim, []).append(pod)
    for claim, pods in claims.items():
        if len(pods) > 1 or any(replicas_of(release, pod)[1] > 1 for pod in pods):
            yield f"{claim}: shared by {[pod.name for pod in pods]}"


@rule
def stateful_sets_keep_their_data(release):
    for item in release.all("StatefulSet"):
        spec = item["spec"]
        if not spec.get("volumeClaimTemplates"):
            yield f"{label(item)}: no volume"
        if spec.get("replicas", 1) != 1:
            yield f"{label(item)}: replicas that know nothing of each other"
        if not release.get("Service", spec.get("serviceName", "")):
            yield f"{label(item)}: no Service {spec.get('serviceName')}"


@rule
def ingress_leads_to_services(release):
    services = {item["metadata"]["name"]: item for item in release.services()}
    secrets = release.secret_keys()
    for item in release.all("Ingress"):
        for rule in item["spec"]["rules"]:
            for path in rule["http"]["paths"]:
                target = path["backend"]["service"]
                service = services.get(target["name"])
                if service is None:
                    yield f"{label(item)}: no Service {target['name']}"
                    continue
                ports = [one for one in service["spec"]["ports"] if target["port"] in ({"number": one["port"]}, {"name": one.get("name")})]
                if not ports:
                    yield f"{label(item)}: {target['name']} has no port {target['port']}"
        for entry in item["spec"].get("tls", []):
            if entry["secretName"] not in secrets and release.values["ingress"]["tls"]["issuer"] != "none":
                yield f"{label(item)}: nobody makes {entry['secretName']}"
    issuers = {(one["kind"], one["metadata"]["name"]) for one in release.all("Issuer", "ClusterIssuer")}
    for item in release.all("Certificate"):
        reference = item["spec"]["issuerRef"]
        known = (reference.get("kind", "Issuer"), reference["name"]) in issuers
        if not known and release.values["ingress"]["tls"]["issuer"] != "existing":
            yield f"{label(item)}: no {reference}"


@rule
def every_route_is_published(release):
    """What spin.toml routes to an enabled service, the Ingress leads to that service alone."""
    if not release.values["ingress"]["enabled"]:
        return
    paths = [
        (path["path"], path["pathType"], path["backend"]["service"]["name"])
        for item in release.all("Ingress")
        for rule in item["spec"]["rules"]
        for path in rule["http"]["paths"]
    ]
    running = {component: pod for pod in release.pods() for component in pod.components() if component}
    for trigger in chart.manifest()["trigger"]["http"]:
        pod, route = running.get(trigger["component"]), trigger["route"]
        if pod is None or route.startswith("/healthz/"):
            continue
        request = route.replace("/...", "/x")
        fitting = [
            (len(path), name)
            for path, kind, name in paths
            if request == path or (kind == "Prefix" and (request + "/").startswith(path.rstrip("/") + "/"))
        ]
        if not fitting:
            yield f"{route}: the Ingress does not know it"
            continue
        service = {s["metadata"]["name"]: s for s in release.services()}[max(fitting)[1]]
        if pod.name not in [one.name for one in release.selected(service["spec"]["selector"])]:
            yield f"{route}: leads to {max(fitting)[1]}"


@rule
def network_policies_cover_everything(release):
    if not release.values["networkPolicy"]["enabled"]:
        return
    policies = release.all("NetworkPolicy")
    for pod in release.pods():
        for direction in ("Ingress", "Egress"):
            if not any(
                network.selects(policy, pod) and direction in network.types(policy) for policy in policies
            ):
                yield f"{pod.name}: no policy for {direction}"
    for policy in policies:
        everything = policy["spec"]["podSelector"] in ({}, None)
        if not everything and not release.selected(policy["spec"]["podSelector"]):
            yield f"{label(policy)}: selects nothing"
        for direction, peers in (("ingress", "from"), ("egress", "to")):
            for rule in policy["spec"].get(direction) or []:
                if not rule.get(peers) or not rule.get("ports"):
                    yield f"{label(policy)}: {direction} from or to anywhere, or by any port"
