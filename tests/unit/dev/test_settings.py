"""Names, ports and addresses of clusters side by side."""

from __future__ import annotations

import ipaddress
from pathlib import Path

import pytest

from dev.cluster import settings
from dev.cluster.errors import ClusterError

ALL = [settings.derive("default", slot, nodes=8) for slot in range(settings.SLOTS)]


def _ports(one: settings.Settings) -> set[int]:
    ports = one.control_plane.ports
    own = {ports.etcd, ports.etcd_peer, ports.apiserver, ports.controller_manager, ports.scheduler}
    return own | {one.dns_ready_port, int(one.registry.rpartition(":")[2])}


def test_no_two_slots_share_a_port() -> None:
    ports = [port for one in ALL for port in _ports(one)]
    assert len(ports) == len(set(ports)) == 7 * settings.SLOTS
    assert max(ports) < 30000, "NodePorts start at 30000"


def test_no_two_slots_share_an_address() -> None:
    networks = [one.network for one in ALL]
    assert not any(a.overlaps(b) for a in networks for b in networks if a != b)


@pytest.mark.parametrize("one", ALL[:2], ids=lambda one: one.key)
def test_nodes_services_and_pods_share_no_address(one: settings.Settings) -> None:
    parts = [ipaddress.ip_network(text) for text in (one.node_subnet, one.service_subnet)]
    parts += [ipaddress.ip_network(node.pod_subnet) for node in one.nodes]
    assert not any(a.overlaps(b) for a in parts for b in parts if a is not b)
    assert all(part.subnet_of(one.network) for part in parts)
    pods = ipaddress.ip_network(one.pod_network)
    assert all(ipaddress.ip_network(node.pod_subnet).subnet_of(pods) for node in one.nodes)


def test_everything_on_the_machine_is_named_after_the_slot() -> None:
    one = settings.derive("second", 3, nodes=2)
    names = [one.key, *(n.netns for n in one.nodes), *(n.link for n in one.nodes)]
    assert names == ["ftc3", "ftc3-1", "ftc3-2", "ftc3-v1", "ftc3-v2"]
    assert [node.cgroup for node in one.nodes] == ["/ftc3/node-1", "/ftc3/node-2"]
    assert one.runtime == Path("/run/finetune-cluster/3")


def test_link_names_fit_the_kernel() -> None:
    assert all(len(node.link) <= 15 for one in ALL for node in one.nodes)


def test_ports_and_network_can_be_chosen() -> None:
    one = settings.derive("default", 0, port_base=9000, network="172.30.0.0/16")
    assert one.control_plane.server == "https://172.30.0.1:9000"
    assert one.registry == "172.30.0.1:9005"


def test_kubelet_moves_when_the_checkout_is_too_deep_for_a_socket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    short = settings.derive("default", 0).nodes[0]
    assert short.kubelet_root == short.folder / "kubelet" or len(str(short.folder)) > 60
    monkeypatch.setattr(settings, "REPOSITORY", Path("/" + "deep/" * 20))
    deep = settings.derive("default", 0).nodes[0]
    assert deep.kubelet_root == settings.fallback_folder(0) / "node-1" / "kubelet"


@pytest.mark.parametrize("name", ["", "Upper", "a/b", "..", "-a", "a-", "a" * 31])
def test_a_name_that_would_leave_the_folder_is_refused(name: str) -> None:
    with pytest.raises(ClusterError, match="is no cluster name"):
        settings.data_folder(name)


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"nodes": 0}, "0 nodes asked for"),
        ({"nodes": 9}, "9 nodes asked for"),
        ({"network": "10.1.2.0/24"}, "must be a /16"),
    ],
)
def test_an_impossible_wish_says_why(wish: dict[str, object], message: str) -> None:
    with pytest.raises(ClusterError, match=message):
        settings.derive("default", 0, **wish)  # type: ignore[arg-type]
