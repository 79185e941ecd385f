"""Start and stop a control plane: a cluster's, or the bare API server of the integration tests.

Integration tests use it like this (about four seconds)::

    with start_envtest(tmp_path) as env:
        env.kubectl("apply", "-f", "crds/")
        operator = env.service_account_kubeconfig("default", "finetune-operator")
"""

from __future__ import annotations

import shutil
import socket
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dev.cluster import binaries, components
from dev.cluster.api import Api
from dev.cluster.components import Layout, Ports
from dev.cluster.errors import ClusterError
from dev.cluster.pki import write_kubeconfig
from dev.cluster.processes import Processes
from dev.cluster.shell import output, wait_until

_READY_SECONDS = 90.0
_TRIES = 3
_LOOPBACK = "127.0.0.1"


def start_server(layout: Layout, processes: Processes, *, extra: Sequence[str] = ()) -> Api:
    """Start etcd and kube-apiserver unless they run; returns a client once the API is ready."""
    components.make_credentials(layout)
    processes.start("etcd", components.etcd(layout))
    processes.start("kube-apiserver", components.apiserver(layout, extra=extra))
    api = Api(layout.kubeconfig("admin"))

    def ready() -> bool:
        processes.check("etcd")
        processes.check("kube-apiserver")
        return bool(api.request("GET", "/readyz") == "ok")

    wait_until(ready, what="a ready API server", seconds=_READY_SECONDS, interval=0.1)
    return api


def start_controllers(layout: Layout, processes: Processes, *, extra: Sequence[str] = ()) -> None:
    """Start kube-controller-manager unless it runs."""
    command = components.controller_manager(layout, extra=extra)
    processes.start("kube-controller-manager", command)


def start_scheduler(layout: Layout, processes: Processes) -> None:
    """Start kube-scheduler unless it runs."""
    processes.start("kube-scheduler", components.scheduler(layout))


@dataclass(frozen=True, slots=True)
class EnvTest:
    """A running etcd + kube-apiserver (+ controller-manager); stops when the block ends."""

    layout: Layout
    processes: Processes

    @property
    def kubeconfig(self) -> Path:
        """Of a cluster administrator."""
        return self.layout.kubeconfig("admin")

    @property
    def server(self) -> str:
        """URL of the API server."""
        return self.layout.server

    @property
    def api(self) -> Api:
        """A small synchronous client with the administrator's rights."""
        return Api(self.kubeconfig)

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator; raises ClusterError with its message."""
        kubectl = [str(binaries.path("kubectl")), f"--kubeconfig={self.kubeconfig}"]
        return output([*kubectl, *arguments], stdin=stdin)

    def user_kubeconfig(self, user: str, groups: Sequence[str] = ()) -> Path:
        """A kubeconfig with a certificate for any user and groups; RBAC decides what it may."""
        return components.role(self.layout, user.replace(":", "-"), user=user, groups=groups)

    def service_account_token(self, namespace: str, name: str, *, seconds: int = 86400) -> str:
        """A token for a service account, which is created when missing (its namespace too)."""
        api, accounts = self.api, f"/api/v1/namespaces/{namespace}/serviceaccounts"
        api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
        api.create(accounts, {"metadata": {"name": name}})
        body = {"spec": {"expirationSeconds": seconds}}
        return str(api.request("POST", f"{accounts}/{name}/token", body)["status"]["token"])

    def service_account_kubeconfig(self, namespace: str, name: str) -> Path:
        """A kubeconfig with the rights that RBAC gives this service account, and no others."""
        user = {"token": self.service_account_token(namespace, name)}
        path = self.layout.kubeconfig(f"{namespace}-{name}")
        authority = self.layout.authority.certificate
        return write_kubeconfig(path, server=self.server, authority=authority, user=user)

    def stop(self) -> None:
        """End the programs and remove what etcd stored; logs stay for a look."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            # A test's API server has nothing to finish, and its graceful end takes seconds.
            self.processes.stop(name, seconds=0.5)
        shutil.rmtree(self.layout.folder / "etcd", ignore_errors=True)

    def __enter__(self) -> EnvTest:
        """Nothing to do: it runs already."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Stop everything."""
        self.stop()


def start_envtest(
    folder: Path, *, with_controller_manager: bool = False, extra: Sequence[str] = ()
) -> EnvTest:
    """Start a bare API server under ``folder`` on free ports, with RBAC on.

    No node and no scheduler: pods never run. Without controller-manager nothing makes pods of Jobs
    or collects garbage either, and no service account is needed to create a pod: the test plays the
    controllers. ``extra`` is appended to kube-apiserver's flags.

    Raises ClusterError when it does not become ready.
    """
    names = ["etcd", "kube-apiserver", "kubectl"]
    binaries.ensure([*names, "kube-controller-manager"] if with_controller_manager else names)
    for attempt in range(1, _TRIES + 1):
        env = _envtest(folder)
        try:
            _start(env, with_controller_manager=with_controller_manager, extra=extra)
        except ClusterError as error:
            env.stop()
            # Another program may take a port between finding it free and binding it.
            if "address already in use" not in str(error) or attempt == _TRIES:
                raise
        else:
            return env
    raise AssertionError("unreachable")


def _envtest(parent: Path) -> EnvTest:
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="envtest-", dir=parent))
    ports = Ports(*free_ports(5))
    layout = Layout(folder, _LOOPBACK, "10.0.0.0/24", "10.0.0.1", ports)
    return EnvTest(layout, Processes(folder))


def _start(env: EnvTest, *, with_controller_manager: bool, extra: Sequence[str]) -> None:
    # A loopback address cannot be an endpoint of the "kubernetes" Service.
    flags = ["--endpoint-reconciler-type=none", *extra]
    if not with_controller_manager:
        flags.append("--disable-admission-plugins=ServiceAccount")
    start_server(env.layout, env.processes, extra=flags)
    first = "/api/v1/namespaces/default"
    if with_controller_manager:
        start_controllers(env.layout, env.processes)
        # Pods are refused until their service account is there.
        first += "/serviceaccounts/default"
    wait_until(lambda: env.api.exists(first), what=first, seconds=60, interval=0.1)


def free_ports(count: int) -> list[int]:
    """Distinct TCP ports of loopback that nobody listens on at this moment."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind((_LOOPBACK, 0))
        return [int(one.getsockname()[1]) for one in sockets]
