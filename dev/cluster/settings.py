"""Every name, port and address of one cluster, derived from its name and its slot on the machine.

A slot is a small number that no two living clusters share. All that a cluster makes outside its
data folder is named after its slot, so that whatever a crash leaves behind can be found and removed
even when the folder is gone.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.components import Layout, Ports
from dev.cluster.errors import ClusterError
from dev.cluster.paths import REPOSITORY

SLOTS = 16
MACHINE_FOLDER = Path("/run/finetune-cluster")
CLUSTER_DOMAIN = "cluster.local"
_FALLBACK_FOLDER = Path("/var/lib/finetune-cluster")
_FIRST_PORT = 21000
_PORTS_PER_SLOT = 100
_FIRST_NETWORK = 88
_MAX_NODES = 8
# A unix socket's path has at most 107 bytes; kubelet appends this to its root folder.
_LONGEST_SOCKET = 107 - len("/plugins_registry/some-plugin-name.sock")


@dataclass(frozen=True, slots=True)
class Node:
    """One node: a network namespace with a containerd and a kubelet of its own."""

    name: str
    netns: str
    link: str
    address: str
    pod_subnet: str
    folder: Path
    runtime: Path
    kubelet_root: Path
    cgroup: str

    @property
    def netns_path(self) -> Path:
        """What ``nsenter --net=`` takes."""
        return Path("/run/netns") / self.netns

    @property
    def socket(self) -> Path:
        """Of this node's containerd."""
        return self.runtime / "containerd.sock"


@dataclass(frozen=True, slots=True)
class Settings:
    """One cluster. ``network`` is a /16: nodes, Services and pods each get their part of it."""

    name: str
    slot: int
    node_count: int
    data: Path
    port_base: int
    network: ipaddress.IPv4Network

    @property
    def key(self) -> str:
        """Names the bridge, the cgroup, the iptables chains and the network namespaces."""
        return slot_key(self.slot)

    @property
    def gateway(self) -> str:
        """The bridge's address: the machine as its pods see it; API server, DNS, registry."""
        return str(self.network[1])

    @property
    def node_subnet(self) -> str:
        """Where bridge and nodes have their addresses."""
        return f"{self.network[0]}/24"

    @property
    def service_subnet(self) -> str:
        """Cluster addresses of Services."""
        return f"{self.network[64 * 256]}/18"

    @property
    def pod_network(self) -> str:
        """All pod subnets together."""
        return f"{self.network[128 * 256]}/17"

    @property
    def registry(self) -> str:
        """The registry, as pods and image references name it: host and port."""
        return f"{self.gateway}:{self.port_base + 5}"

    @property
    def dns_ready_port(self) -> int:
        """CoreDNS answers its readiness here, on loopback."""
        return self.port_base + 6

    @property
    def control_plane(self) -> Layout:
        """Layout of etcd, API server, controller-manager and scheduler."""
        base = self.port_base
        ports = Ports(
            apiserver=base,
            etcd=base + 1,
            etcd_peer=base + 2,
            controller_manager=base + 3,
            scheduler=base + 4,
        )
        first_service = str(self.network[64 * 256 + 1])
        return Layout(self.data, self.gateway, self.service_subnet, first_service, ports)

    @property
    def kubeconfig(self) -> Path:
        """Of the administrator."""
        return self.control_plane.kubeconfig("admin")

    @property
    def runtime(self) -> Path:
        """Sockets and container state: short paths, gone after a reboot."""
        return MACHINE_FOLDER / str(self.slot)

    @property
    def nodes(self) -> list[Node]:
        """The nodes, numbered from 1."""
        return [self._node(number) for number in range(1, self.node_count + 1)]

    def _node(self, number: int) -> Node:
        name = f"node-{number}"
        folder = self.data / name
        kubelet_root = folder / "kubelet"
        if len(str(kubelet_root)) > _LONGEST_SOCKET:
            kubelet_root = _FALLBACK_FOLDER / self.key / name / "kubelet"
        return Node(
            name=name,
            netns=f"{self.key}-{number}",
            link=f"{self.key}-v{number}",
            address=str(self.network[10 + number]),
            pod_subnet=f"{self.network[(128 + number) * 256]}/24",
            folder=folder,
            runtime=self.runtime / name,
            kubelet_root=kubelet_root,
            cgroup=f"/{self.key}/{name}",
        )


def slot_key(slot: int) -> str:
    """The prefix of everything a slot's cluster makes on the machine."""
    return f"ftc{slot}"


def fallback_folder(slot: int) -> Path:
    """Where kubelets keep their files when the checkout's path is too long for sockets."""
    return _FALLBACK_FOLDER / slot_key(slot)


def default_network(slot: int) -> ipaddress.IPv4Network:
    """The /16 of a slot."""
    return ipaddress.IPv4Network(f"10.{_FIRST_NETWORK + slot}.0.0/16")


def default_port_base(slot: int) -> int:
    """The first port of a slot, below the ranges of NodePorts and of ephemeral ports."""
    return _FIRST_PORT + _PORTS_PER_SLOT * slot


def data_folder(name: str) -> Path:
    """Where the cluster of this name keeps everything; raises ClusterError for a bad name."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,28}[a-z0-9])?", name):
        raise ClusterError(f"{name!r} is no cluster name: lower-case letters, digits and -")
    return REPOSITORY / ".cluster" / name


def derive(
    name: str, slot: int, *, nodes: int = 1, port_base: int = 0, network: str = ""
) -> Settings:
    """Settings from a name and a slot; ``port_base`` and ``network`` override the slot's own."""
    if not 1 <= nodes <= _MAX_NODES:
        raise ClusterError(f"{nodes} nodes asked for; 1 to {_MAX_NODES} are possible")
    chosen = ipaddress.IPv4Network(network) if network else default_network(slot)
    if chosen.prefixlen != 16:
        raise ClusterError(f"network {network} must be a /16")
    return Settings(
        name=name,
        slot=slot,
        node_count=nodes,
        data=data_folder(name),
        port_base=port_base or default_port_base(slot),
        network=chosen,
    )
