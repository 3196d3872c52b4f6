"""The flows that are needed get through the NetworkPolicies, and no others."""

import itertools

import pytest

import chart
from network import Peer, allowed


def selector(text):
    """Labels of `key=value,…`."""
    return labels(dict(one.split("=", 1) for one in text.split(",") if one))


def labels(mapping):
    return tuple(sorted((mapping or {}).items()))


class Actors:
    """Who takes part, by what it does and not by its name."""

    def __init__(self, release):
        self.release = release
        policy = release.values["networkPolicy"]
        self.ingress = self.peer(policy["ingressController"], "the ingress controller")
        self.keda = self.peer(policy["keda"], "KEDA")
        self.prometheus = self.peer(policy["prometheus"], "Prometheus")
        self.dns = self.peer(policy["dns"], "the DNS")
        self.stranger = Peer("a pod elsewhere", "default", labels({"app": "stranger"}))
        self.neighbour = Peer("another pod of the namespace", chart.NAMESPACE, labels({"app": "neighbour"}))
        self.aws = Peer("AWS", address="52.94.5.1")
        self.metadata = Peer("the node's metadata", address="169.254.169.254")
        self.pods = release.pods()
        self.by_component = {c: pod for pod in self.pods for c in pod.components()}
        self.redis = release.server("redis")
        self.postgresql = release.server("postgresql")
        self.queue = next((pod for pod in self.pods if pod.runs_host("queue")), None)
        self.cron = next((pod for pod in self.pods if "cron" in pod.values_of("--trigger")), None)

    @staticmethod
    def peer(values, name):
        return Peer(name, values["namespace"], selector(values["pods"]))

    def http_port(self, pod):
        return 80 if pod.is_spinapp else pod.port("http")

    def workloads(self):
        """Each workload that runs components: its pod, what it uses, and the queues it asks."""
        values = self.release.values
        defaults = values["serviceDefaults"]["uses"]
        for name, service in values["services"].items():
            pod = self.by_component.get(service["components"][0])
            if service.get("enabled", True) and pod:
                yield pod, {**defaults, **service.get("uses", {})}
        for name, queue in values["queues"].items():
            pod = self.by_component.get(queue["component"])
            if queue.get("enabled", True) and pod:
                uses = {**defaults, **queue.get("uses", {}), "queues": [name]}
                forward = queue.get("forward", {})
                if queue.get("mode") == "forward":
                    uses["services"] = {forward["service"]: forward["variable"]}
                yield pod, uses
        if self.cron:
            yield self.cron, {**defaults, **values["cron"]["uses"]}


@pytest.fixture(scope="session")
def actors(release):
    if not release.values["networkPolicy"]["enabled"]:
        pytest.skip("these values have no policies")
    return Actors(release)


def needed(actors):
    """Sender, receiver, port."""
    values = actors.release.values
    redis_port, database_port = values["redis"]["port"], values["postgresql"]["port"]
    for pod, uses in actors.workloads():
        stores = [values["stores"][label]["type"] for label in uses["stores"]]
        fetched = values["app"]["from"].startswith("oci://") and pod.runs_host("up")
        if fetched or (values["bucket"]["name"] and uses["bucket"]):
            yield pod, actors.aws, 443
        if "redis" in stores:
            if actors.redis:
                yield pod, actors.redis, 6379
            for cidr in values["networkPolicy"]["redisCidrs"]:
                yield pod, Peer("Redis", address=cidr.split("/")[0]), redis_port
        if "dynamodb" in stores:
            yield pod, actors.aws, 443
        if uses["sql"] and values["database"]["type"] == "postgresql":
            if actors.postgresql:
                yield pod, actors.postgresql, 5432
            for cidr in values["networkPolicy"]["databaseCidrs"]:
                yield pod, Peer("PostgreSQL", address=cidr.split("/")[0]), database_port
        for queue in uses["queues"]:
            url = values["queues"][queue].get("url")
            yield (pod, actors.aws, 443) if url else (pod, actors.queue, 9324)
        for service in uses["services"]:
            callee = actors.by_component[values["services"][service]["components"][0]]
            yield pod, callee, actors.http_port(callee)
    for service in values["services"].values():
        pod = actors.by_component.get(service["components"][0])
        if pod and service.get("enabled", True) and values["ingress"]["enabled"]:
            yield actors.ingress, pod, actors.http_port(pod)
            for cidr in values["networkPolicy"]["ingressController"]["cidrs"]:
                yield Peer("a node's network", address=cidr.split("/")[0]), pod, actors.http_port(pod)
    if values["spinkube"]["executor"]["otlpEndpoint"]:
        collector = actors.peer(values["networkPolicy"]["otlp"], "the collector")
        port = int(values["spinkube"]["executor"]["otlpEndpoint"].rsplit(":", 1)[1])
        for app in (pod for pod in actors.pods if pod.is_spinapp):
            yield app, collector, port
    if actors.queue and values["keda"]["enabled"]:
        yield actors.keda, actors.queue, 9324
    if values["monitoring"]["podMonitor"]["enabled"] or values["monitoring"]["serviceMonitor"]["enabled"]:
        for pod in actors.pods:
            if pod.runs_host("up"):
                yield actors.prometheus, pod, pod.port("admin")


def name(end):
    return end.name


def test_needed_flows_get_through(actors):
    flows = list(needed(actors))
    assert flows
    stopped = [
        f"{name(sender)} -> {name(receiver)}:{port}"
        for sender, receiver, port in flows
        if not allowed(actors.release, sender, receiver, port)
    ]
    assert not stopped, "\n".join(stopped)


def test_whoever_connects_may_ask_the_dns(actors):
    senders = {pod.name: pod for pod, *_ in needed(actors) if isinstance(pod, chart.Pod)}
    for pod, protocol in itertools.product(senders.values(), ("UDP", "TCP")):
        assert allowed(actors.release, pod, actors.dns, 53, protocol), f"{pod.name} by {protocol}"


def leaks(actors):
    """Flows that nobody needs, between the release's own pods, by every port that there is."""
    wanted = {(name(s), name(r), p) for s, r, p in needed(actors)}
    return [
        f"{sender.name} -> {receiver.name}:{one['containerPort']}"
        for sender, receiver in itertools.permutations(actors.pods, 2)
        for one in receiver.ports()
        if (sender.name, receiver.name, one["containerPort"]) not in wanted
        and allowed(actors.release, sender, receiver, one["containerPort"])
    ]


def test_nothing_else_gets_through(actors):
    assert not leaks(actors), "\n".join(leaks(actors))


@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_a_leak_would_be_seen(laptop, direction):
    """One side is opened for everything; where the other one is open by now, something gets through."""
    opened = laptop.copy()
    for policy in opened.all("NetworkPolicy"):
        policy["spec"] = {"podSelector": {}, "policyTypes": [direction.title()], direction: [{}]}
    assert leaks(Actors(opened))


def test_strangers_reach_nothing(actors):
    for pod in actors.pods:
        for one in pod.ports():
            for stranger in (actors.stranger, actors.neighbour):
                assert not allowed(actors.release, stranger, pod, one["containerPort"]), f"{stranger.name} -> {pod.name}"


def test_the_ingress_controller_reaches_services_alone(actors):
    """Not the admin port of theirs, and no other pod."""
    for pod in actors.pods:
        for one in pod.ports():
            if one.get("name") not in ("http", "http-app"):
                assert not allowed(actors.release, actors.ingress, pod, one["containerPort"]), pod.name


def test_no_pod_leaves_without_a_reason(actors):
    """AWS for those that use it; nobody asks the node for its credentials."""
    outside = {name(sender) for sender, receiver, _ in needed(actors) if receiver is actors.aws}
    for pod in actors.pods:
        assert not allowed(actors.release, pod, actors.metadata, 80), pod.name
        if pod.name not in outside:
            assert not allowed(actors.release, pod, actors.aws, 443), pod.name
        assert not allowed(actors.release, pod, actors.aws, 22), pod.name


def verdict(actors):
    """Every flow between the actors, and whether it gets through."""
    ends = [*actors.pods, actors.ingress, actors.keda, actors.prometheus, actors.dns, actors.stranger, actors.aws]
    ports = {443: "TCP", 53: "UDP"}
    for pod in actors.pods:
        ports.update({one["containerPort"]: "TCP" for one in pod.ports()})
    return {
        (sender.name, receiver.name, port): allowed(actors.release, sender, receiver, port, protocol)
        for sender, receiver in itertools.permutations(ends, 2)
        for port, protocol in ports.items()
        if isinstance(sender, chart.Pod) or isinstance(receiver, chart.Pod)
    }


def test_every_policy_matters(laptop):
    """Without any one of them, something else would get through, or no more."""
    whole = verdict(Actors(laptop))
    for number, policy in enumerate(laptop.all("NetworkPolicy")):
        without = laptop.copy()
        without.objects.remove(without.all("NetworkPolicy")[number])
        assert verdict(Actors(without)) != whole, policy["metadata"]["name"]
