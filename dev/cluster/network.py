"""The cluster's network: a bridge on the machine, a network namespace for each node.

Every node has a namespace of its own, the first one too. So each kube-proxy writes its iptables
rules where no other cluster's does (they always use the same chain names), and removing the
namespace removes them all. Pods are routed, not bridged (CNI plugin ptp): replies to Services pass
iptables again without the br_netfilter module.
"""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Sequence
from pathlib import Path

from dev.cluster.settings import Node, Settings
from dev.cluster.shell import output, run

_HOOKS = (("filter", "FORWARD"), ("filter", "INPUT"), ("nat", "POSTROUTING"))


def create(settings: Settings) -> None:
    """Make bridge, namespaces, routes and the machine's few iptables rules; keeps what exists."""
    bridge = settings.key
    if not _link_exists(bridge):
        _ip("link", "add", bridge, "type", "bridge")
        _ip("addr", "add", f"{settings.gateway}/24", "dev", bridge)
    _ip("link", "set", bridge, "up")
    for node in settings.nodes:
        if not node.netns_path.exists():
            _create_node(settings, node)
        _ip("route", "replace", node.pod_subnet, "via", node.address)
    # The machine itself reaches Services through the first node's kube-proxy.
    _ip("route", "replace", settings.service_subnet, "via", settings.nodes[0].address)
    Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
    _create_rules(settings)


def remove(key: str) -> None:
    """Remove whatever a slot has on the machine: namespaces, links, bridge, rules."""
    for path in Path("/run/netns").glob(f"{key}-*"):
        run(["ip", "netns", "delete", path.name], check=False)
    for link in json.loads(output(["ip", "-json", "link", "show"]) or "[]"):
        if link["ifname"] == key or link["ifname"].startswith(f"{key}-v"):
            run(["ip", "link", "delete", link["ifname"]], check=False)
    _remove_rules(key)


def exists(key: str) -> bool:
    """Whether a slot's bridge is there."""
    return _link_exists(key)


def leftovers(key: str) -> list[str]:
    """What a slot still has on the machine, for tests."""
    found = [str(path) for path in Path("/run/netns").glob(f"{key}-*")]
    links = json.loads(output(["ip", "-json", "link", "show"]) or "[]")
    found += [one["ifname"] for one in links if one["ifname"].split("-")[0] == key]
    rules = run(["iptables-save"], check=False).stdout.splitlines()
    return found + [line for line in rules if f"{chain(key)} " in f"{line} "]


def foreign_overlap(network: ipaddress.IPv4Network, key: str) -> str:
    """The first route of somebody else into this network, or an empty string."""
    for route in json.loads(output(["ip", "-json", "-4", "route", "show"]) or "[]"):
        if route["dst"] == "default" or route.get("dev", "").split("-")[0] == key:
            continue
        if ipaddress.ip_network(route["dst"], strict=False).overlaps(network):
            return f"{route['dst']} dev {route.get('dev', '?')}"
    return ""


def chain(key: str) -> str:
    """Name of the cluster's iptables chains."""
    return f"{key.upper()}-CLUSTER"


def _create_node(settings: Settings, node: Node) -> None:
    """A namespace with eth0 on the bridge, forwarding between its pods and the rest."""
    _ip("netns", "add", node.netns)
    if _link_exists(node.link):
        _ip("link", "delete", node.link)
    peer = ["peer", "name", "eth0", "netns", node.netns]
    _ip("link", "add", node.link, "type", "veth", *peer)
    _ip("link", "set", node.link, "master", settings.key, "up")
    inside = ("-n", node.netns)
    _ip(*inside, "link", "set", "lo", "up")
    _ip(*inside, "addr", "add", f"{node.address}/24", "dev", "eth0")
    _ip(*inside, "link", "set", "eth0", "up")
    _ip(*inside, "route", "add", "default", "via", settings.gateway)
    for other in settings.nodes:
        if other != node:
            _ip(*inside, "route", "add", other.pod_subnet, "via", other.address)
    forward = "echo 1 > /proc/sys/net/ipv4/ip_forward"
    run(["nsenter", f"--net={node.netns_path}", "sh", "-c", forward])


def _create_rules(settings: Settings) -> None:
    """Pods may reach the machine and, behind its address, the outside."""
    name, network = chain(settings.key), str(settings.network)
    wanted: dict[str, list[Sequence[str]]] = {
        "filter": [("-s", network, "-j", "ACCEPT"), ("-d", network, "-j", "ACCEPT")],
        "nat": [("-s", network, "!", "-d", network, "-j", "MASQUERADE")],
    }
    for table, rules in wanted.items():
        if run([*_iptables(table), "-n", "-L", name], check=False).returncode != 0:
            run([*_iptables(table), "-N", name])
            for rule in rules:
                run([*_iptables(table), "-A", name, *rule])
    for table, hook in _HOOKS:
        jump = _jump(hook, settings.key)
        if run([*_iptables(table), "-C", hook, *jump], check=False).returncode != 0:
            run([*_iptables(table), "-I", hook, *jump])


def _remove_rules(key: str) -> None:
    for table, hook in _HOOKS:
        while run([*_iptables(table), "-D", hook, *_jump(hook, key)], check=False).returncode == 0:
            pass
    for table in ("filter", "nat"):
        run([*_iptables(table), "-F", chain(key)], check=False)
        run([*_iptables(table), "-X", chain(key)], check=False)


def _jump(hook: str, key: str) -> list[str]:
    """Only packets that came over the cluster's bridge are the machine's own business."""
    return [*(["-i", key] if hook == "INPUT" else []), "-j", chain(key)]


def _iptables(table: str) -> list[str]:
    return ["iptables", "-w", "30", "-t", table]


def _link_exists(name: str) -> bool:
    return Path(f"/sys/class/net/{name}").exists()


def _ip(*arguments: str) -> None:
    run(["ip", *arguments])
