"""How often the kernel killed a process of this container for memory, cgroup v1 and v2."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path("/sys/fs/cgroup")
COUNTER: Final = "oom_kill"


def count_oom_kills(root: Path = ROOT, *, membership: Path = Path("/proc/self/cgroup")) -> int:
    """The oom_kill count of this process's memory cgroup; 0 where none can be read.

    In a container the cgroup is usually mounted as the root itself; without a cgroup namespace it
    lies below the root under the path that /proc/self/cgroup names.
    """
    for file in _candidates(root, membership):
        try:
            lines = file.read_text(encoding="ascii").splitlines()
        except OSError:
            continue
        for line in lines:
            name, _, value = line.partition(" ")
            if name == COUNTER:
                return int(value)
    return 0


def _candidates(root: Path, membership: Path) -> list[Path]:
    unified, memory = "/", "/"
    try:
        entries = membership.read_text(encoding="ascii").splitlines()
    except OSError:
        entries = []
    for entry in entries:
        _, controllers, path = entry.split(":", 2)
        if not controllers:
            unified = path
        elif "memory" in controllers.split(","):
            memory = path
    return [
        root / unified.lstrip("/") / "memory.events",
        root / "memory" / memory.lstrip("/") / "memory.oom_control",
        root / "memory.events",
        root / "memory" / "memory.oom_control",
    ]
