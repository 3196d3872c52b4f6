"""What NetworkPolicies let through, computed as the API defines it: both the sender's egress
and the receiver's ingress must allow it, and a pod that no policy selects is open."""

import dataclasses
import ipaddress

import chart


@dataclasses.dataclass(frozen=True)
class Peer:
    """An end of a connection that the release does not render."""

    name: str
    namespace: str = ""
    labels: tuple = ()
    address: str = ""

    @property
    def is_outside(self):
        return bool(self.address)


def pod_end(pod):
    return pod.labels, chart.NAMESPACE


def end(peer):
    return (dict(peer.labels), peer.namespace) if isinstance(peer, Peer) else pod_end(peer)


def types(policy):
    return policy["spec"].get("policyTypes") or ["Ingress"] + ["Egress"] * ("egress" in policy["spec"])


def selects(policy, pod):
    return chart.matches(policy["spec"]["podSelector"] or {}, pod.labels)


def _peer_fits(rule, peer):
    if "ipBlock" in rule:
        if not (isinstance(peer, Peer) and peer.is_outside):
            return False
        address = ipaddress.ip_address(peer.address)
        block = rule["ipBlock"]
        inside = address in ipaddress.ip_network(block["cidr"])
        return inside and not any(address in ipaddress.ip_network(e) for e in block.get("except") or [])
    if isinstance(peer, Peer) and peer.is_outside:
        return False
    labels, namespace = end(peer)
    if "namespaceSelector" in rule:
        if not chart.matches(rule["namespaceSelector"] or {}, {"kubernetes.io/metadata.name": namespace}):
            return False
    elif namespace != chart.NAMESPACE:
        return False
    return "podSelector" not in rule or chart.matches(rule["podSelector"] or {}, labels)


def _port_fits(ports, port, protocol, receiver):
    if not ports:
        return True
    for one in ports:
        if one.get("protocol", "TCP") != protocol:
            continue
        wanted = one.get("port")
        if wanted is None:
            return True
        if isinstance(wanted, str):
            wanted = receiver.port(wanted) if isinstance(receiver, chart.Pod) else None
        if wanted is not None and wanted <= port <= one.get("endPort", wanted):
            return True
    return False


def _side(policies, pod, other, port, protocol, direction, receiver):
    kind, peers = ("Ingress", "from") if direction == "ingress" else ("Egress", "to")
    applying = [policy for policy in policies if selects(policy, pod) and kind in types(policy)]
    if not applying:
        return True
    for policy in applying:
        for rule in policy["spec"].get(direction) or []:
            fits = not rule.get(peers) or any(_peer_fits(one, other) for one in rule[peers])
            if fits and _port_fits(rule.get("ports"), port, protocol, receiver):
                return True
    return False


def allowed(release, sender, receiver, port, protocol="TCP"):
    """Whether a connection gets through."""
    policies = release.all("NetworkPolicy")
    out = isinstance(sender, Peer) or _side(policies, sender, receiver, port, protocol, "egress", receiver)
    into = isinstance(receiver, Peer) or _side(policies, receiver, sender, port, protocol, "ingress", receiver)
    return out and into
