"""A whole cluster's life: up, down, and what it looks like in between."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dev.cluster import (
    binaries,
    cgroups,
    control_plane,
    dns,
    host,
    network,
    node,
    registry,
    slots,
    storage,
)
from dev.cluster.api import Api, Object
from dev.cluster.errors import ClusterError
from dev.cluster.processes import Processes
from dev.cluster.settings import Settings, data_folder
from dev.cluster.shell import locked, wait_until

_NODE_SECONDS = 120.0
_CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
_AROUND = ("registry", "coredns", "volumes")
# What `down` keeps: pushed images and what nodes pulled of them.
_KEPT = ("registry", "containerd", "opt")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """What the caller asked for; zero and empty mean the slot's own values."""

    name: str
    nodes: int = 1
    port_base: int = 0
    network: str = ""


def up(wish: Wish, say: Say) -> Settings:
    """Make the cluster run, whatever state it is in; returns its settings.

    Running programs are left alone and missing ones started. When none of them lives any more, the
    cluster starts empty: its containers ended with it, so the old objects would describe nothing.
    """
    host.require_root()
    data = data_folder(wish.name)
    data.mkdir(parents=True, exist_ok=True)
    host.require_disk(data)
    with locked(data / ".lock"):
        host.install(host.CLUSTER_PROGRAMS)
        host.raise_limits()
        binaries.ensure()
        settings = slots.claim(
            wish.name, nodes=wish.nodes, port_base=wish.port_base, network_prefix=wish.network
        )
        if settings.node_count != wish.nodes:
            raise ClusterError(
                f"cluster {wish.name} runs with {settings.node_count} node(s), {wish.nodes} asked "
                "for: python3 -m dev.cluster down first"
            )
        processes = programs_of(settings)
        if not any(processes.alive(name) for name in processes.names()):
            _prepare(settings)
        _start(settings, processes, say)
    return settings


def _start(settings: Settings, processes: Processes, say: Say) -> None:
    """Start whatever does not run, in the order of dependence, and wait for it."""
    started = time.monotonic()

    def tell(text: str) -> None:
        say(f"{text} ({time.monotonic() - started:.1f} s)")

    node.node_cgroups(settings)
    network.create(settings)
    api = control_plane.start_server(settings.control_plane, processes)
    tell("API server ready")
    control_plane.start_controllers(settings.control_plane, processes)
    control_plane.start_scheduler(settings.control_plane, processes)
    registry.start(settings, processes)
    for one in settings.nodes:
        node.start(settings, one, processes)
    dns.start(settings, processes, api)
    storage.start(settings, processes, api)
    tell("programs started")
    _wait_for_nodes(settings, processes, api)
    dns.wait_ready(settings, processes)
    account = "/api/v1/namespaces/default/serviceaccounts/default"
    wait_until(lambda: api.exists(account), what="the default service account", seconds=60)
    tell(f"{settings.node_count} node(s) Ready, DNS answers")


def down(name: str, *, purge: bool, say: Say) -> None:
    """Stop the cluster and remove all it made; images stay unless ``purge``."""
    host.require_root()
    data = data_folder(name)
    if not data.exists():
        say(f"there is no cluster {name}")
        return
    with locked(data / ".lock"):
        record = slots.find(name)
        if record is not None:
            slots.release(record.settings())
        # Without a record the slot went to somebody else after a crash; the folder is still ours.
        host.unmount_below([data])
        _remove_files(data, keep=() if purge else _KEPT)
    if purge:
        shutil.rmtree(data)
    say(f"cluster {name} is gone" + ("" if purge else " (its images are kept; --purge)"))


@dataclass(frozen=True, slots=True)
class Component:
    """A program as ``status`` shows it."""

    name: str
    pid: int
    alive: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What runs, and what is wrong with it: healthy when nothing is."""

    settings: Settings
    components: list[Component]
    nodes: list[str]
    problems: list[str]


def status(name: str) -> Status | None:
    """Look at the cluster; None when there is none."""
    record = slots.find(name)
    if record is None:
        return None
    settings = record.settings()
    processes = programs_of(settings)
    components = [_component(processes, each) for each in program_names(settings)]
    problems = [f"{c.name} does not run" for c in components if not c.alive]
    lines: list[str] = []
    try:
        nodes = Api(settings.kubeconfig, seconds=5).items("/api/v1/nodes")
        lines = [_node_line(one) for one in nodes]
        problems += [f"node {line}" for line in lines if " Ready " not in line]
        dns.resolve(settings.gateway, "kubernetes.default.svc.cluster.local")
        registry.answers(settings)
    except (OSError, ClusterError) as error:
        problems.append(str(error))
    return Status(settings, components, lines, problems)


def program_names(settings: Settings) -> list[str]:
    """Every program of the cluster."""
    on_nodes = [name for one in settings.nodes for name in node.programs(one)]
    return [*_CONTROL_PLANE, *_AROUND, *on_nodes]


def programs_of(settings: Settings) -> Processes:
    """The cluster's programs, each of which joins the cluster's cgroup as it starts."""
    return Processes(settings.data, cgroup_procs=[cgroups.procs_file(settings.key)])


def _prepare(settings: Settings) -> None:
    """An empty folder (all but images), a network, and free ports on it for every program."""
    host.unmount_below([settings.data])
    _remove_files(settings.data, keep=_KEPT)
    network.create(settings)
    try:
        _require_ports(settings)
    except ClusterError:
        slots.release(settings)
        raise


def _remove_files(data: Path, *, keep: tuple[str, ...]) -> None:
    """Empty the data folder (and the nodes' folders in it) but for names in ``keep``."""
    for path in data.iterdir():
        if path.name in keep or path.name == ".lock":
            continue
        if path.name.startswith("node-") and keep:
            _remove_files(path, keep=keep)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _require_ports(settings: Settings) -> None:
    """Before anything starts: a clear sentence instead of a program's log."""
    ports = settings.control_plane.ports
    for port in (ports.etcd, ports.etcd_peer, ports.controller_manager, ports.scheduler):
        host.require_port_free("127.0.0.1", port)
    for port in (ports.apiserver, int(settings.registry.rpartition(":")[2]), 53):
        host.require_port_free(settings.gateway, port)


def _wait_for_nodes(settings: Settings, processes: Processes, api: Api) -> None:
    """Wait until every node says Ready; a kubelet that ended is an error at once."""

    def ready() -> bool:
        for one in settings.nodes:
            for name in node.programs(one):
                processes.check(name)
        lines = [_node_line(one) for one in api.items("/api/v1/nodes")]
        return sum(" Ready " in line for line in lines) == settings.node_count

    wait_until(ready, what="a Ready node", seconds=_NODE_SECONDS)


def _component(processes: Processes, name: str) -> Component:
    identity = processes.identity(name)
    alive = identity is not None and identity.alive()
    return Component(name, identity.pid if identity else 0, alive)


def _node_line(one: Object) -> str:
    """``node-1 Ready v1.34.4 10.88.0.11``."""
    state = one["status"]
    conditions = state.get("conditions", [])
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    words = [one["metadata"]["name"], "Ready" if ready else "NotReady"]
    words += [state["nodeInfo"]["kubeletVersion"], state["addresses"][0]["address"]]
    return " ".join(words)
