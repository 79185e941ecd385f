"""Cluster DNS: CoreDNS as a program of the machine, bound to the cluster's bridge."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

from dev.cluster import binaries, components
from dev.cluster.api import Api
from dev.cluster.errors import NotReady
from dev.cluster.processes import Processes
from dev.cluster.settings import CLUSTER_DOMAIN, Settings
from dev.cluster.shell import wait_until, write

_NAME = "system:coredns"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"


def start(settings: Settings, processes: Processes, api: Api) -> None:
    """Start CoreDNS unless it runs, with the right to watch Services and nothing more."""
    kubeconfig = components.role(settings.control_plane, "coredns", user=_NAME)
    _grant(api)
    corefile = settings.data / "Corefile"
    write(corefile, corefile_text(settings, kubeconfig))
    processes.start("coredns", [binaries.path("coredns"), "-conf", corefile])


def wait_ready(settings: Settings, processes: Processes) -> None:
    """Wait until the API server's own Service resolves, as a pod would ask for it."""

    def ready() -> bool:
        processes.check("coredns")
        return resolve(settings.gateway, f"kubernetes.default.svc.{CLUSTER_DOMAIN}") == (
            settings.control_plane.service_address
        )

    wait_until(ready, what="an answer of cluster DNS", seconds=60)


def corefile_text(settings: Settings, kubeconfig: Path) -> str:
    """No cache: a test that waits for a name must not wait for an old answer to expire."""
    forward = "    forward . /etc/resolv.conf\n" if _has_upstream() else ""
    return f""".:53 {{
    bind {settings.gateway}
    errors
    ready 127.0.0.1:{settings.dns_ready_port}
    kubernetes {CLUSTER_DOMAIN} in-addr.arpa ip6.arpa {{
        kubeconfig {kubeconfig}
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }}
{forward}}}
"""


def resolve(server: str, name: str) -> str:
    """Ask one DNS server for the IPv4 address of a name; raises NotReady when it has none."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    query = struct.pack(">6H", 0x1234, 0x0100, 1, 0, 0, 0) + labels + struct.pack(">B2H", 0, 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.settimeout(2)
        client.sendto(query, (server, 53))
        answer = client.recv(512)
    if struct.unpack(">H", answer[6:8])[0] == 0:
        raise NotReady(f"{server} knows no {name}")
    # One A record ends the message: its last four bytes are the address.
    return socket.inet_ntoa(answer[len(query) :][-4:])


def _has_upstream() -> bool:
    try:
        return "nameserver" in Path("/etc/resolv.conf").read_text()
    except OSError:
        return False


def _grant(api: Api) -> None:
    rules = [
        _watch("", "endpoints", "services", "pods", "namespaces"),
        _watch("discovery.k8s.io", "endpointslices"),
    ]
    role = {"kind": "ClusterRole", "metadata": {"name": _NAME}, "rules": rules}
    binding = {
        "kind": "ClusterRoleBinding",
        "metadata": {"name": _NAME},
        "roleRef": {
            "apiGroup": "rbac.authorization.k8s.io",
            "kind": "ClusterRole",
            "name": _NAME,
        },
        "subjects": [
            {"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _NAME},
        ],
    }
    version = {"apiVersion": "rbac.authorization.k8s.io/v1"}
    api.apply(f"{_RBAC}/clusterroles/{_NAME}", {**version, **role})
    api.apply(f"{_RBAC}/clusterrolebindings/{_NAME}", {**version, **binding})


def _watch(group: str, *resources: str) -> dict[str, list[str]]:
    return {"apiGroups": [group], "resources": list(resources), "verbs": ["list", "watch"]}
