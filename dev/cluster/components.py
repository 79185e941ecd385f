"""The command lines of etcd and of the control plane's three programs.

The same lines serve a whole cluster and the bare API server of the integration tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import binaries
from dev.cluster.pki import Authority
from dev.cluster.shell import Argument

Command = list[Argument]
ADMIN_GROUP = "system:masters"


@dataclass(frozen=True, slots=True)
class Ports:
    """TCP ports of one control plane."""

    etcd: int
    etcd_peer: int
    apiserver: int
    controller_manager: int
    scheduler: int


@dataclass(frozen=True, slots=True)
class Layout:
    """One control plane: where it keeps its data, where it listens, which Services it hands out."""

    folder: Path
    address: str
    service_subnet: str
    service_address: str
    ports: Ports

    @property
    def authority(self) -> Authority:
        """The certificates of this control plane."""
        return Authority(self.folder / "pki")

    @property
    def server(self) -> str:
        """URL of the API server."""
        return f"https://{self.address}:{self.ports.apiserver}"

    def kubeconfig(self, role: str) -> Path:
        """The kubeconfig of one role, such as ``admin``."""
        return self.folder / f"{role}.kubeconfig"


def make_credentials(layout: Layout) -> None:
    """The authority, the server's certificate and a kubeconfig for each role."""
    authority = layout.authority
    authority.create()
    names = ["kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    hosts = [*names, "kubernetes.default.svc.cluster.local", "localhost", "127.0.0.1"]
    authority.issue(
        "apiserver", user="kube-apiserver", hosts=[*hosts, layout.address, layout.service_address]
    )
    authority.issue("etcd", user="etcd", hosts=["127.0.0.1", "localhost"])
    authority.issue("kubelet-client", user="kube-apiserver", groups=[ADMIN_GROUP])
    authority.issue("front-proxy", user="front-proxy")
    role(layout, "admin", user="admin", groups=[ADMIN_GROUP])
    for name in ("controller-manager", "scheduler"):
        role(layout, name, user=f"system:kube-{name}")


def role(layout: Layout, name: str, *, user: str, groups: Sequence[str] = ()) -> Path:
    """A kubeconfig for a user, with a certificate of its own."""
    pair = layout.authority.issue(name, user=user, groups=groups)
    return layout.authority.kubeconfig(layout.kubeconfig(name), server=layout.server, pair=pair)


def etcd(layout: Layout) -> Command:
    """A single etcd on loopback that trusts this cluster's certificates alone.

    No fsync: a local cluster that loses power starts empty anyway, and tests write a lot.
    """
    pair, authority = layout.authority.issue("etcd", user="etcd"), layout.authority.certificate
    client = f"https://127.0.0.1:{layout.ports.etcd}"
    peer = f"https://127.0.0.1:{layout.ports.etcd_peer}"
    return [
        binaries.path("etcd"),
        "--name=local",
        f"--data-dir={layout.folder / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=local={peer}",
        "--client-cert-auth",
        f"--trusted-ca-file={authority}",
        f"--cert-file={pair.certificate}",
        f"--key-file={pair.key}",
        "--peer-client-cert-auth",
        f"--peer-trusted-ca-file={authority}",
        f"--peer-cert-file={pair.certificate}",
        f"--peer-key-file={pair.key}",
        "--unsafe-no-fsync",
        "--log-level=warn",
    ]


def apiserver(layout: Layout, *, extra: Sequence[str] = ()) -> Command:
    """The API server, with RBAC and node authorisation."""
    ca = layout.authority
    return [
        binaries.path("kube-apiserver"),
        f"--bind-address={layout.address}",
        f"--advertise-address={layout.address}",
        f"--secure-port={layout.ports.apiserver}",
        f"--etcd-servers=https://127.0.0.1:{layout.ports.etcd}",
        f"--etcd-cafile={ca.certificate}",
        *_pair(ca, "etcd", "--etcd-certfile", "--etcd-keyfile"),
        *_pair(ca, "apiserver", "--tls-cert-file", "--tls-private-key-file"),
        *_pair(ca, "kubelet-client", "--kubelet-client-certificate", "--kubelet-client-key"),
        *_pair(ca, "front-proxy", "--proxy-client-cert-file", "--proxy-client-key-file"),
        f"--client-ca-file={ca.certificate}",
        f"--kubelet-certificate-authority={ca.certificate}",
        "--kubelet-preferred-address-types=InternalIP",
        f"--requestheader-client-ca-file={ca.certificate}",
        "--requestheader-allowed-names=front-proxy",
        "--requestheader-username-headers=X-Remote-User",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-account-key-file={ca.service_account_key}",
        f"--service-account-signing-key-file={ca.service_account_key}",
        f"--service-cluster-ip-range={layout.service_subnet}",
        "--authorization-mode=Node,RBAC",
        "--allow-privileged=true",
        # Webhooks are called at their pods: the machine itself has no Service rules.
        "--enable-aggregator-routing=true",
        *extra,
    ]


def controller_manager(layout: Layout, *, extra: Sequence[str] = ()) -> Command:
    """Jobs, garbage collection, namespaces, claims; every controller with its own account."""
    ca = layout.authority
    return [
        binaries.path("kube-controller-manager"),
        *_serving(layout, "controller-manager", layout.ports.controller_manager),
        f"--service-account-private-key-file={ca.service_account_key}",
        f"--root-ca-file={ca.certificate}",
        f"--cluster-signing-cert-file={ca.certificate}",
        f"--cluster-signing-key-file={ca.key}",
        "--use-service-account-credentials=true",
        *extra,
    ]


def scheduler(layout: Layout) -> Command:
    """The stock scheduler."""
    return [
        binaries.path("kube-scheduler"),
        *_serving(layout, "scheduler", layout.ports.scheduler),
    ]


def _pair(authority: Authority, name: str, certificate: str, key: str) -> list[str]:
    folder = authority.folder
    return [f"{certificate}={folder / f'{name}.crt'}", f"{key}={folder / f'{name}.key'}"]


def _serving(layout: Layout, name: str, port: int) -> list[str]:
    config = layout.kubeconfig(name)
    return [
        f"--kubeconfig={config}",
        f"--authentication-kubeconfig={config}",
        f"--authorization-kubeconfig={config}",
        "--bind-address=127.0.0.1",
        f"--secure-port={port}",
        "--leader-elect=false",
    ]
