"""Each rule finds what it is for: a sound release is spoilt in one place, and the rule must
complain. What no rule notices would be no rule."""

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


def set_env(item, name, value):
    for entry in container(item)["env"]:
        if entry["name"] == name:
            entry.pop("valueFrom", None)
            entry["value"] = value
            return
    container(item)["env"].append({"name": name, "value": value})


def replace_flag(item, flag, value):
    args = container(item)["args"]
    args[args.index(flag) + 1] = value


SPOILT = {
    "pods_are_not_privileged": [
        lambda r: container(shim(r))["securityContext"].update(privileged=True),
        lambda r: pod_spec(shim(r)).update(hostNetwork=True),
        lambda r: pod_spec(shim(r))["volumes"].append({"name": "x", "hostPath": {"path": "/"}}),
        lambda r: container(shim(r))["securityContext"].pop("allowPrivilegeEscalation"),
    ],
    "pods_are_hardened": [
        lambda r: container(shim(r))["securityContext"].pop("readOnlyRootFilesystem"),
        lambda r: container(shim(r))["securityContext"]["capabilities"].update(drop=["NET_RAW"]),
        lambda r: pod_spec(shim(r))["securityContext"].pop("seccompProfile"),
        lambda r: pod_spec(shim(r))["securityContext"].pop("runAsUser"),
    ],
    "service_accounts_have_no_token": [
        lambda r: pod_spec(shim(r)).update(automountServiceAccountToken=True),
        lambda r: pod_spec(shim(r)).update(serviceAccountName="nobody"),
        lambda r: first(r, "ServiceAccount").pop("automountServiceAccountToken"),
    ],
    "containers_have_limits": [
        lambda r: container(shim(r))["resources"].pop("limits"),
        lambda r: first(r, "SpinApp")["spec"]["resources"]["limits"].pop("memory"),
        lambda r: container(shim(r))["resources"]["requests"].update(memory="9Gi"),
    ],
    "containers_have_probes": [
        lambda r: container(shim(r)).pop("readinessProbe"),
        lambda r: first(r, "SpinApp")["spec"]["checks"].pop("liveness"),
        lambda r: container(shim(r))["livenessProbe"]["httpGet"].update(path="/readyz"),
        lambda r: container(shim(r))["readinessProbe"]["httpGet"].update(port=1),
    ],
    "mounts_have_volumes": [lambda r: pod_spec(shim(r))["volumes"].pop(0)],
    "references_lead_somewhere": [
        lambda r: r.objects.remove(first(r, "Secret")),
        lambda r: first(r, "ConfigMap", lambda i: i["metadata"]["name"].endswith("variables"))["data"].clear(),
    ],
    "secrets_are_references": [
        lambda r: set_env(shim(r), "AWS_SECRET_ACCESS_KEY", "hunter22hunter22"),
        lambda r: first(r, "ConfigMap")["data"].update(x=max((v for *_, v in r.secret_values()), key=len)),
    ],
    "services_reach_pods": [
        lambda r: first(r, "Service")["spec"]["selector"].update(a="b"),
        lambda r: first(r, "Service")["spec"]["ports"][0].update(targetPort="none"),
    ],
    "selectors_match": [
        lambda r: shim(r)["spec"]["selector"]["matchLabels"].update(a="b"),
        lambda r: shim(r)["spec"]["selector"].update(matchLabels={"app.kubernetes.io/name": "gristmill"}),
    ],
    "names_and_labels_are_consistent": [
        lambda r: r.objects.append(shim(r)),
        lambda r: shim(r)["metadata"]["labels"].pop("helm.sh/chart"),
        lambda r: shim(r)["metadata"]["labels"].update({"app.kubernetes.io/component": "x"}),
    ],
    "images_are_pinned": [
        lambda r: container(shim(r)).update(image="gristmill"),
        lambda r: container(shim(r)).update(image="gristmill:latest"),
    ],
    "queues_have_consumers": [
        lambda r: r.objects.remove(shim(r)),
        lambda r: first(r, "SpinApp")["spec"]["components"].append("images-worker"),
        lambda r: first(r, "SpinApp")["spec"].pop("components"),
    ],
    "queues_have_dead_letters": [
        lambda r: r.values["queues"]["messages"].update(url="https://sqs/1/m", deadLetterUrl=""),
        lambda r: r.values["queues"].update(more={"component": "x"}),
    ],
    "scaled_objects_are_sound": [
        lambda r: first(r, "ScaledObject")["spec"]["scaleTargetRef"].update(name="nobody"),
        lambda r: first(r, "ScaledObject")["spec"]["triggers"][0]["metadata"].update(queueLenght="5"),
        lambda r: first(r, "ScaledObject")["spec"]["triggers"][0]["metadata"].pop("awsEndpoint"),
        lambda r: first(r, "ScaledObject")["spec"]["triggers"][0]["authenticationRef"].update(name="nobody"),
        lambda r: first(r, "TriggerAuthentication")["spec"]["secretTargetRef"].pop(),
        lambda r: shim(r)["spec"].update(replicas=3),
    ],
    "executors_come_first": [
        lambda r: r.objects.append(r.objects.pop(r.objects.index(first(r, "SpinAppExecutor")))),
        lambda r: first(r, "SpinApp")["spec"].update(executor="containerd-shim-spin"),
    ],
    "budgets_leave_room": [
        lambda r: first(r, "ScaledObject")["spec"].update(minReplicaCount=2),
    ],
    "drains_fit": [
        lambda r: pod_spec(shim(r)).update(terminationGracePeriodSeconds=30),
        lambda r: replace_flag(shim(r), "--grace-period", "600"),
        lambda r: shim(r)["spec"].update(strategy={"type": "Recreate"}),
    ],
    "replicas_spread": [lambda r: pod_spec(shim(r)).pop("topologySpreadConstraints")],
    "stateful_sets_keep_their_data": [
        lambda r: first(r, "StatefulSet")["spec"].pop("volumeClaimTemplates"),
        lambda r: first(r, "StatefulSet")["spec"].update(replicas=2),
    ],
    "ingress_leads_to_services": [
        lambda r: first(r, "Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"].update(name="nobody"),
    ],
    "every_route_is_published": [
        lambda r: first(r, "Ingress")["spec"]["rules"][0]["http"]["paths"].pop(0),
    ],
    "network_policies_cover_everything": [
        lambda r: [r.objects.remove(p) for p in r.all("NetworkPolicy") if network.selects(p, chart.pod_of(shim(r)))],
    ],
}


@pytest.mark.parametrize(
    ("name", "number"), [(name, number) for name, all in SPOILT.items() for number in range(len(all))]
)
def test_a_rule_notices(name, number, laptop):
    rule = getattr(policies, name)
    assert not list(rule(laptop)), "it must be sound before"
    spoilt = laptop.copy()
    SPOILT[name][number](spoilt)
    assert list(rule(spoilt))


def test_every_rule_is_tried():
    tried_elsewhere = {"embedded_stores_have_one_pod", "authorities_are_trusted"}
    assert {rule.__name__ for rule in policies.ALL} - tried_elsewhere == set(SPOILT)


def test_a_shared_volume_is_noticed(laptop):
    spoilt = laptop.copy()
    pod_spec(shim(spoilt))["volumes"].append({"name": "e", "persistentVolumeClaim": {"claimName": "e"}})
    assert list(policies.embedded_stores_have_one_pod(spoilt))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda r: first(r, "SpinAppExecutor")["spec"]["deploymentConfig"].pop("caCertSecret"),
        lambda r: first(r, "SpinAppExecutor")["spec"]["deploymentConfig"].update(installDefaultCACerts=True),
        lambda r: set_env(shim(r), "SSL_CERT_FILE", "/etc/ssl/certs/ca-certificates.crt"),
        lambda r: container(shim(r))["env"].pop([e["name"] for e in container(shim(r))["env"]].index("SSL_CERT_FILE")),
    ],
)
def test_a_stranger_who_is_trusted_is_noticed(spoil):
    release = chart.rendered(chart.case("authorities"))
    assert not list(policies.authorities_are_trusted(release))
    spoilt = release.copy()
    spoil(spoilt)
    assert list(policies.authorities_are_trusted(spoilt))


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
