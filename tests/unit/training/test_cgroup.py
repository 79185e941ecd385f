"""Memory kills and CPU limits, as cgroup v1 and v2 tell them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from finetune_trainer.training.cgroup import Cgroup

POD = "/kubepods/pod1/c1"
V2 = f"0::{POD}\n"
V1 = f"4:memory:{POD}\n2:cpu,cpuacct:{POD}\n"

FILES = {
    "v2 in a container": (V2, {"memory.events": "low 0\noom 3\noom_kill 2\n"}, 2),
    "v2 without a cgroup namespace": (V2, {f"{POD}/memory.events": "oom_kill 4\n"}, 4),
    "v1 in a container": (V1, {"memory/memory.oom_control": "under_oom 0\noom_kill 1\n"}, 1),
    "v1 without a cgroup namespace": (
        V1,
        {f"memory/{POD}/memory.oom_control": "oom_kill 5\n"},
        5,
    ),
    "an old kernel that does not count": (V1, {"memory/memory.oom_control": "under_oom 0\n"}, 0),
    "nothing to read": ("", {}, 0),
}
LIMITS = {
    "v2, one CPU": (V2, {"cpu.max": "100000 100000\n"}, 1),
    "v2, 0.9 of a CPU": (V2, {"cpu.max": "90000 100000\n"}, 1),
    "v1, half a CPU": (
        V1,
        {"cpu/cpu.cfs_quota_us": "50000\n", "cpu/cpu.cfs_period_us": "100000\n"},
        1,
    ),
    "v2, no limit": (V2, {"cpu.max": "max 100000\n"}, None),
    "v1, no limit": (
        V1,
        {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"},
        None,
    ),
    "nothing to read": ("", {}, None),
}


def cgroup(folder: Path, membership: str, files: dict[str, str]) -> Cgroup:
    (folder / "membership").write_text(membership)
    for name, text in files.items():
        path = folder / "root" / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Cgroup(folder / "root", folder / "membership")


@pytest.mark.parametrize(("membership", "files", "wanted"), FILES.values(), ids=FILES.keys())
def test_oom_kills(tmp_path: Path, membership: str, files: dict[str, str], wanted: int) -> None:
    assert cgroup(tmp_path, membership, files).oom_kills() == wanted


@pytest.mark.parametrize(("membership", "files", "wanted"), LIMITS.values(), ids=LIMITS.keys())
def test_cpus(tmp_path: Path, membership: str, files: dict[str, str], wanted: int | None) -> None:
    available = len(os.sched_getaffinity(0))
    assert cgroup(tmp_path, membership, files).cpus() == (wanted or available)
