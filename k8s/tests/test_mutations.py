"""Each rule finds what it is for: a sound release is spoilt in one place, and the rule must
complain. What no rule notices would be no rule."""

import ast
import inspect
import sys

import pytest

import chart
import network
import policies
import schemas


def first(release, kind, having=None):
    found = [item for item in release.all(kind) if having is None or having(item)]
    assert found, f"no {kind}"
    return found[0]


def shim(release):
    """A Deployment of the host that takes a queue."""
    return first(release, "Deployment", lambda item: "sqs" in chart.pod_of(item).values_of("--trigger"))


def container(item):
    return item["spec"]["template"]["spec"]["containers"][0]


def pod_spec(item):
    return item["spec"]["template"]["spec"]


def security(item):
    return container(item)["securityContext"]


def replace_flag(item, flag, value):
    args = container(item)["args"]
    args[args.index(flag) + 1] = value


def add_env(item, name, **value):
    container(item)["env"].append({"name": name, **value})


def add_volume(item, **source):
    pod_spec(item)["volumes"].append({"name": "x", **source})


def cron(release):
    return first(release, "Deployment", lambda item: "cron" in chart.pod_of(item).values_of("--trigger"))


def ingress_path(release):
    return first(release, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]


def selector(item):
    return item["spec"]["selector"]


def scaler(release):
    return first(release, "ScaledObject")["spec"]


def executor(release):
    return first(release, "SpinAppExecutor")["spec"]["deploymentConfig"]


def env_of(item, name):
    return next(entry for entry in container(item)["env"] if entry["name"] == name)


def root_may_run(release):
    for part in (security(shim(release)), pod_spec(shim(release))["securityContext"]):
        part.pop("runAsNonRoot")


def share_a_claim(release):
    add_volume(shim(release), persistentVolumeClaim={"claimName": "x"})
    add_volume(cron(release), persistentVolumeClaim={"claimName": "x"})


# Rule to a part of a complaint to what causes it: in `laptop`, or in the set of values that is named.
SPOILT = {
    "pods_are_not_privileged": {
        "hostNetwork": lambda r: pod_spec(shim(r)).update(hostNetwork=True),
        "volume {": lambda r: add_volume(shim(r), hostPath={"path": "/"}),
        "privileged": lambda r: security(shim(r)).update(privileged=True),
        "may escalate": lambda r: security(shim(r)).pop("allowPrivilegeEscalation"),
        "adds capabilities": lambda r: security(shim(r))["capabilities"].update(add=["NET_ADMIN"]),
        "hostPort": lambda r: container(shim(r))["ports"][0].update(hostPort=80),
    },
    "pods_are_hardened": {
        "may run as root": root_may_run,
        "has no user": lambda r: pod_spec(shim(r))["securityContext"].pop("runAsUser"),
        "can write its root": lambda r: security(shim(r)).pop("readOnlyRootFilesystem"),
        "keeps capabilities": lambda r: security(shim(r))["capabilities"].update(drop=["NET_RAW"]),
        "no seccomp profile": lambda r: pod_spec(shim(r))["securityContext"].pop("seccompProfile"),
    },
    "service_accounts_have_no_token": {
        "default account": lambda r: pod_spec(shim(r)).pop("serviceAccountName"),
        "Deployment/demo-gristmill-worker-images: mounts a token": lambda r: pod_spec(shim(r)).update(
            automountServiceAccountToken=True
        ),
        "unless the pod refuses": lambda r: first(r, "ServiceAccount").pop("automountServiceAccountToken"),
        "no account nobody": lambda r: pod_spec(shim(r)).update(serviceAccountName="nobody"),
        "nothing here asks": lambda r: r.objects.append({"kind": "Role", "metadata": {"name": "x"}}),
    },
    "containers_have_limits": {
        "lacks cpu": lambda r: container(shim(r))["resources"].pop("limits"),
        "lacks memory": lambda r: first(r, "SpinApp")["spec"]["resources"]["limits"].pop("memory"),
        "requests more memory": lambda r: container(shim(r))["resources"]["requests"].update(memory="9Gi"),
        "may fill the node": lambda r: add_volume(shim(r), emptyDir={}),
    },
    "containers_have_probes": {
        "has no readinessProbe": lambda r: container(shim(r)).pop("readinessProbe"),
        "has no livenessProbe": lambda r: first(r, "SpinApp")["spec"]["checks"].pop("liveness"),
        "would restart it": lambda r: container(shim(r))["livenessProbe"]["httpGet"].update(path="/readyz"),
        "asks the port 1,": lambda r: container(shim(r))["readinessProbe"]["httpGet"].update(port=1),
    },
    "mounts_have_volumes": {
        "not both": lambda r: pod_spec(shim(r))["volumes"].pop(0),
        "no claim x": lambda r: add_volume(shim(r), persistentVolumeClaim={"claimName": "x"}),
        "no ConfigMap x": lambda r: add_volume(shim(r), configMap={"name": "x"}),
    },
    "references_lead_somewhere": {
        "no Secret": lambda r: r.objects.remove(first(r, "Secret")),
        "no Secret nobody": lambda r: container(shim(r)).update(envFrom=[{"secretRef": {"name": "nobody"}}]),
        "no key": lambda r: first(r, "ConfigMap", lambda i: i["metadata"]["name"].endswith("variables"))["data"].clear(),
    },
    "secrets_are_references": {
        "is written out": lambda r: add_env(shim(r), "AWS_SECRET_ACCESS_KEY", value="hunter22hunter22"),
        "comes from a ConfigMap": lambda r: add_env(
            shim(r), "SPIN_VARIABLE_DATABASE_URL", valueFrom={"configMapKeyRef": {"name": "x", "key": "x"}}
        ),
        "an argument with a secret": lambda r: container(shim(r))["args"].append("--variable=database_url=x"),
        "shows": lambda r: first(r, "ConfigMap")["data"].update(x=max((v for *_, v in r.secret_values()), key=len)),
        "(password)": lambda r: cron(r)["metadata"]["labels"].update(
            x=r.file_of("Secret", "demo-gristmill-postgresql", "password")
        ),
    },
    "services_reach_pods": {
        "selects nothing": lambda r: selector(first(r, "Service")).update(a="b"),
        "has no port none": lambda r: first(r, "Service")["spec"]["ports"][0].update(targetPort="none"),
        "mixes": lambda r: first(r, "Service")["spec"].update(selector={"app.kubernetes.io/instance": "demo"}),
    },
    "selectors_match": {
        "does not match its pods": lambda r: selector(shim(r))["matchLabels"].update(a="b"),
        "its selector matches": lambda r: selector(shim(r)).update(matchLabels={"app.kubernetes.io/name": "gristmill"}),
        "would change the selector": lambda r: selector(shim(r))["matchLabels"].update({"helm.sh/chart": "x"}),
        "selects nothing": ("monitoring", lambda r: selector(first(r, "PodMonitor")).update(matchLabels={"a": "b"})),
        "Deployment/demo-gristmill-cron has no port none": ("monitoring", lambda r: first(r, "PodMonitor")["spec"]["podMetricsEndpoints"][0].update(port="none")),
        "selects no Service": ("service-monitor", lambda r: selector(first(r, "ServiceMonitor")).update(matchLabels={"a": "b"})),
        "Service/demo-gristmill-metrics-cron has no port none": ("service-monitor", lambda r: first(r, "ServiceMonitor")["spec"]["endpoints"][0].update(port="none")),
    },
    "names_and_labels_are_consistent": {
        "twice": lambda r: r.objects.append(shim(r)),
        "in the namespace other": lambda r: shim(r)["metadata"].update(namespace="other"),
        "longer than 63": lambda r: shim(r)["metadata"].update(name=64 * "x"),
        "StatefulSet/xxxxx": lambda r: first(r, "StatefulSet")["metadata"].update(name=53 * "x"),
        "SpinApp/xxxxx": lambda r: first(r, "SpinApp")["metadata"].update(name=53 * "x"),
        "ScaledObject/xxxxx": lambda r: first(r, "ScaledObject")["metadata"].update(name=55 * "x"),
        "no label helm.sh/chart": lambda r: shim(r)["metadata"]["labels"].pop("helm.sh/chart"),
        "label x=1": lambda r: shim(r)["metadata"]["labels"].update(x=1),
        "labelled as another": lambda r: shim(r)["metadata"]["labels"].update({"app.kubernetes.io/component": "x"}),
        "several instances": lambda r: shim(r)["metadata"]["labels"].update({"app.kubernetes.io/instance": "x"}),
    },
    "images_are_pinned": {
        "gristmill is not pinned": lambda r: container(shim(r)).update(image="gristmill"),
        "latest is not pinned": lambda r: container(shim(r)).update(image="gristmill:latest"),
        "no digest": lambda r: container(shim(r)).update(image="gristmill@sha256:beef"),
    },
    "queues_have_consumers": {
        "0 consumers": lambda r: r.objects.remove(shim(r)),
        "2 consumers": lambda r: r.objects.append(shim(r)),
        "runs {'images-worker'}": lambda r: first(r, "SpinApp")["spec"]["components"].append("images-worker"),
        "runs everything": lambda r: first(r, "SpinApp")["spec"].pop("components"),
    },
    "queues_have_dead_letters": {
        "no dead-letter queue": lambda r: r.values["queues"]["messages"].update(url="https://sqs/1/m", deadLetterUrl=""),
        "nobody creates it": lambda r: replace_flag(
            first(r, "StatefulSet", lambda item: chart.pod_of(item).runs_host("queue")), "--create", "other"
        ),
    },
    "spinapps_wait_for_their_configuration": {
        "starts without": lambda r: first(r, "SpinApp")["spec"].update(variables=[]),
        "SpinApp/demo-gristmill-auth: starts": lambda r: first(r, "SpinApp")["spec"]["variables"][-1]["valueFrom"][
            "secretKeyRef"
        ].update(optional=True),
    },
    "executors_come_first": {
        "SpinApp/demo-gristmill-auth: no": lambda r: r.objects.append(
            r.objects.pop(r.objects.index(first(r, "SpinAppExecutor")))
        ),
        "no containerd-shim-spin": lambda r: first(r, "SpinApp")["spec"].update(executor="containerd-shim-spin"),
    },
    "authorities_are_trusted": {
        "{'runtimeClassName": ("authorities", lambda r: executor(r).pop("caCertSecret")),
        "installDefaultCACerts": ("authorities", lambda r: executor(r).update(installDefaultCACerts=True)),
        "trusts the public": ("authorities", lambda r: container(shim(r))["env"].remove(env_of(shim(r), "SSL_CERT_FILE"))),
        "trusts /etc/ssl": ("authorities", lambda r: env_of(shim(r), "SSL_CERT_FILE").update(value="/etc/ssl/x")),
    },
    "scaled_objects_are_sound": {
        "no {'": lambda r: scaler(r)["scaleTargetRef"].update(name="nobody"),
        "replicas 99 to": lambda r: scaler(r).update(minReplicaCount=99),
        "queueLengths": lambda r: scaler(r)["triggers"][0]["metadata"].update(queueLengths="5"),
        "no region": lambda r: scaler(r)["triggers"][0]["metadata"].pop("awsRegion"),
        "would ask AWS": lambda r: scaler(r)["triggers"][0]["metadata"].pop("awsEndpoint"),
        "no TriggerAuthentication": lambda r: scaler(r)["triggers"][0]["authenticationRef"].update(name="nobody"),
        "gives no identity": lambda r: first(r, "TriggerAuthentication")["spec"]["secretTargetRef"].pop(),
        "HorizontalPodAutoscaler/demo-gristmill-auth: no": lambda r: first(r, "HorizontalPodAutoscaler")["spec"][
            "scaleTargetRef"
        ].update(name="nobody"),
        "minimum above": lambda r: first(r, "HorizontalPodAutoscaler")["spec"].update(minReplicas=99),
        "two autoscalers": lambda r: first(r, "HorizontalPodAutoscaler")["spec"].update(
            scaleTargetRef=scaler(r)["scaleTargetRef"]
        ),
        "reset what the autoscaler chose": lambda r: shim(r)["spec"].update(replicas=3),
    },
    "budgets_leave_room": {
        "no disruption budget": lambda r: scaler(r).update(minReplicaCount=2),
        "replicas: no node": ("available", lambda r: first(r, "PodDisruptionBudget")["spec"].update(minAvailable=9)),
        "no node": ("available", lambda r: first(r, "PodDisruptionBudget")["spec"].update(maxUnavailable=0)),
    },
    "drains_fit": {
        "killed before": lambda r: pod_spec(shim(r)).update(terminationGracePeriodSeconds=30),
        "killed before its 600 s": lambda r: replace_flag(shim(r), "--grace-period", "600"),
        "no shell in the image": lambda r: container(shim(r)).update(lifecycle={"preStop": {"exec": {"command": ["sleep"]}}}),
        "takes pods away first": lambda r: shim(r)["spec"].update(strategy={"type": "Recreate"}),
        "would tick twice": lambda r: cron(r)["spec"].update(replicas=2),
    },
    "replicas_spread": {
        "not spread": lambda r: pod_spec(shim(r)).pop("topologySpreadConstraints"),
        "other pods than its own": lambda r: pod_spec(shim(r))["topologySpreadConstraints"][0]["labelSelector"].update(
            matchLabels={"a": "b"}
        ),
    },
    "embedded_stores_have_one_pod": {"x: shared by": share_a_claim},
    "stateful_sets_keep_their_data": {
        "no volume": lambda r: first(r, "StatefulSet")["spec"].pop("volumeClaimTemplates"),
        "know nothing of each other": lambda r: first(r, "StatefulSet")["spec"].update(replicas=2),
        "no Service nobody": lambda r: first(r, "StatefulSet")["spec"].update(serviceName="nobody"),
    },
    "ingress_leads_to_services": {
        "no Service nobody": lambda r: ingress_path(r)["backend"]["service"].update(name="nobody"),
        "has no port {'number': 1}": lambda r: ingress_path(r)["backend"]["service"].update(port={"number": 1}),
        "nobody makes": ("tls-self-signed", lambda r: r.objects.remove(first(r, "Certificate"))),
        "no {'": ("tls-self-signed", lambda r: first(r, "Certificate")["spec"]["issuerRef"].update(name="nobody")),
    },
    "every_route_is_published": {
        "does not know it": lambda r: first(r, "Ingress")["spec"]["rules"][0]["http"]["paths"].pop(0),
        "leads to": lambda r: ingress_path(r)["backend"]["service"].update(name="demo-gristmill-counter"),
    },
    "network_policies_cover_everything": {
        "no policy for Ingress": lambda r: [
            r.objects.remove(p) for p in r.all("NetworkPolicy") if network.selects(p, chart.pod_of(shim(r)))
        ],
        "selects nothing": lambda r: r.all("NetworkPolicy")[-1]["spec"].update(podSelector={"matchLabels": {"a": "b"}}),
        "or by any port": lambda r: first(r, "NetworkPolicy", lambda i: i["spec"].get("ingress"))["spec"]["ingress"][0].pop(
            "ports"
        ),
    },
}


def complaints(name, complaint):
    """Of the rule, about a sound release that is spoilt."""
    rule, spoil = getattr(policies, name), SPOILT[name][complaint]
    values, spoil = spoil if isinstance(spoil, tuple) else ("laptop", spoil)
    sound = chart.rendered(chart.case(values))
    assert not list(rule(sound)), "it must be sound before"
    spoilt = sound.copy()
    spoil(spoilt)
    return list(rule(spoilt))


TRIED = [(name, complaint) for name, spoils in SPOILT.items() for complaint in spoils]


@pytest.mark.parametrize(("name", "complaint"), TRIED)
def test_a_rule_notices(name, complaint):
    found = complaints(name, complaint)
    assert any(complaint in one for one in found), found


def test_every_complaint_is_tried():
    """Each line of the rules that complains is reached by one of them."""
    complaining = {node.lineno for node in ast.walk(ast.parse(inspect.getsource(policies))) if isinstance(node, ast.Yield)}
    reached = set()

    def trace(frame, *_):
        if frame.f_code.co_filename == policies.__file__:
            reached.add(frame.f_lineno)
            return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for name, complaint in TRIED:
            complaints(name, complaint)
    finally:
        sys.settrace(before)
    lines = inspect.getsource(policies).splitlines()
    assert not complaining - reached, [lines[number - 1].strip() for number in sorted(complaining - reached)]
    assert {rule.__name__ for rule in policies.ALL} == set(SPOILT)


def test_a_misspelt_field_is_an_error_everywhere(laptop):
    """In each map whose keys the API names, once for each kind."""
    tried = set()
    for item in laptop.objects:
        for where, spoilt in schemas.misspelt(item):
            if (item["kind"], where) not in tried:
                tried.add((item["kind"], where))
                assert schemas.problems(spoilt), f"{item['kind']}{where}"
    assert {kind for kind, _ in tried} == {item["kind"] for item in laptop.objects}


@pytest.mark.parametrize("key", sorted(schemas.custom()), ids=lambda key: key[1])
def test_a_custom_resource_needs_its_fields(key):
    version, kind = key
    for spec in ({}, None, {"surplus": True}):
        assert schemas.problems({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec})


def test_an_unknown_kind_is_an_error():
    assert schemas.problems({"apiVersion": "example.com/v1", "kind": "Mill", "metadata": {"name": "x"}})
