"""What the container may use and what the kernel did to it: cgroup v1 and v2.

In a container the cgroup is usually mounted as the root itself; without a cgroup namespace it lies
below the root, under the path that /proc/self/cgroup names. Files that cannot be read tell nothing.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The control group of this process."""

    root: Path = Path("/sys/fs/cgroup")
    membership: Path = Path("/proc/self/cgroup")

    def oom_kills(self) -> int:
        """How often the kernel killed a process of the container for memory; 0 when unknown."""
        for controller, file in (("", "memory.events"), ("memory", "memory.oom_control")):
            for text in self._read(controller, file):
                for line in text.splitlines():
                    name, _, value = line.partition(" ")
                    if name == "oom_kill":
                        return int(value)
        return 0

    def cpus(self) -> int:
        """Whole CPUs that this process may keep busy: the smaller of affinity and quota, >= 1.

        More threads than that wait for each other at every parallel loop.
        """
        quotas = [
            *(text.split() for text in self._read("", "cpu.max")),
            *(
                [quota.strip(), period.strip()]
                for quota, period in zip(
                    self._read("cpu", "cpu.cfs_quota_us"),
                    self._read("cpu", "cpu.cfs_period_us"),
                    strict=False,
                )
            ),
        ]
        limits = [
            math.ceil(int(quota) / int(period))
            for quota, period in quotas
            if quota.isdecimal() and int(period) > 0
        ]
        return max(1, min([len(os.sched_getaffinity(0)), *limits]))

    def _read(self, controller: str, file: str) -> Iterator[str]:
        """The file in this process's group, then in the root. controller "" = version 2."""
        for folder in (self._path(controller), "/"):
            try:
                yield (self.root / controller / folder.lstrip("/") / file).read_text("ascii")
            except OSError:
                continue

    def _path(self, controller: str) -> str:
        try:
            lines = self.membership.read_text("ascii").splitlines()
        except OSError:
            return "/"
        for line in lines:
            _, controllers, path = line.split(":", 2)
            if controller in controllers.split(","):
                return path
        return "/"
