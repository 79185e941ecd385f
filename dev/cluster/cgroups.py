"""One cgroup tree per cluster: it limits the pods, and it finds what a crash left running.

Every program of a cluster joins ``/<key>/system`` before it starts, and containers live below
``/<key>/<node>``. Membership is inherited, so the processes of a cluster are exactly those in its
tree, whatever became of their parents and pid files. Works with version 1 (one tree for each
controller) and version 2.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Iterable
from pathlib import Path

from dev.cluster.processes import identify
from dev.cluster.shell import pause

_ROOT = Path("/sys/fs/cgroup")
_TRACKING_CONTROLLER = "pids"


def version() -> int:
    """1 or 2, decided as kubelet and runc do: by what is mounted at /sys/fs/cgroup."""
    return 2 if (_ROOT / "cgroup.controllers").exists() else 1


def hierarchies() -> list[Path]:
    """The mounted trees: one with version 2, one for each controller with version 1."""
    if version() == 2:
        return [_ROOT]
    return _mounted("cgroup")


def _mounted(*kinds: str) -> list[Path]:
    lines = [line.split() for line in Path("/proc/mounts").read_text().splitlines()]
    return [Path(mount) for _, mount, kind, *_ in lines if kind in kinds]


def _tracking() -> Path:
    """The tree whose membership says which processes belong to a cluster."""
    if version() == 2:
        return _ROOT
    return next(h for h in hierarchies() if _TRACKING_CONTROLLER in h.name.split(","))


def procs_file(key: str) -> Path:
    """Programs of the cluster write their own pid here before they start."""
    return _tracking() / key / "system" / "cgroup.procs"


def create(key: str, nodes: Iterable[str]) -> None:
    """Make the cluster's tree: ``system`` and one cgroup for each node."""
    for hierarchy in hierarchies():
        _delegate(hierarchy)
        top = hierarchy / key
        top.mkdir(exist_ok=True)
        _delegate(top)
        for child in ("system", *nodes):
            (top / child).mkdir(exist_ok=True)
            _inherit_cpuset(top / child)


def members(key: str) -> list[int]:
    """Processes of the cluster, whoever started them."""
    top = _tracking() / key
    found: list[int] = []
    for file in [top / "cgroup.procs", *top.rglob("cgroup.procs")]:
        with contextlib.suppress(OSError):
            found.extend(int(line) for line in file.read_text().split())
    return sorted(set(found))


def exists(key: str) -> bool:
    """Whether the cluster has a tree."""
    return (_tracking() / key).exists()


def kill(key: str, *, seconds: float = 10.0) -> None:
    """SIGKILL every process of the cluster, again until none is left or time is up."""
    for _ in range(int(seconds / 0.1)):
        left = [pid for pid in members(key) if identify(pid) is not None]
        if not left:
            return
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        pause(0.1)


def remove(key: str) -> None:
    """Remove the cluster's tree from every hierarchy; its processes must have ended.

    Version 1 machines often mount an idle version 2 tree too, which runc uses as well.
    """
    for hierarchy in _mounted("cgroup", "cgroup2"):
        top = hierarchy / key
        for _ in range(20):
            if not _remove_tree(top):
                break
            pause(0.1)


def _remove_tree(top: Path) -> bool:
    """Remove deepest first; returns whether something is left."""
    folders = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
    for folder in folders:
        # A cgroup's files go with it: rmdir, never unlink.
        with contextlib.suppress(OSError):
            folder.rmdir()
    return top.exists()


def _delegate(folder: Path) -> None:
    """Version 2: let children have every controller; version 1: give a cpuset its CPUs."""
    if version() == 1:
        _inherit_cpuset(folder)
        return
    wanted = (folder / "cgroup.controllers").read_text().split()
    control = folder / "cgroup.subtree_control"
    missing = set(wanted) - set(control.read_text().split())
    for controller in missing:
        try:
            control.write_text(f"+{controller}")
        except OSError as error:
            if error.errno != errno.EBUSY:
                continue
            # Only inside a container: a cgroup with children must hold no processes itself.
            _move_processes(folder, folder / "init")
            control.write_text(f"+{controller}")


def _move_processes(source: Path, target: Path) -> None:
    target.mkdir(exist_ok=True)
    for pid in (source / "cgroup.procs").read_text().split():
        with contextlib.suppress(OSError):
            (target / "cgroup.procs").write_text(pid)


def _inherit_cpuset(folder: Path) -> None:
    """Version 1: a new cpuset is empty and refuses processes until it names CPUs and memory."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        own, parent = folder / name, folder.parent / name
        if own.exists() and parent.exists() and not own.read_text().strip():
            own.write_text(parent.read_text())
