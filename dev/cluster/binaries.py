"""Build the cluster's programs from the pinned Go modules into ``.cache/bin``.

Each binary carries a stamp: the hash of its module's go.mod and go.sum and of the build flags. A
binary with the right stamp is never built again; two callers never build the same one at once. What
one checkout built, another one on the machine links to: Go's own cache keeps no linked programs.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from dev.cluster.errors import ClusterError
from dev.cluster.paths import BINARIES, GO_MODULES
from dev.cluster.shell import Argument, locked, run
from dev.cluster.toolchain import go

KUBERNETES_VERSION = "1.34.4"
HELM_VERSION = "4.3.1"
_SHARED = Path.home() / ".cache" / "finetune-cluster"


@dataclass(frozen=True, slots=True)
class Binary:
    """A program: the folder under ``go/`` that pins it, the package to build, linker settings."""

    module: str
    package: str
    linker: str = ""

    def stamp(self) -> str:
        """A hash that changes when the pins or the way of building change."""
        digest = hashlib.sha256(f"{self.package} {self.linker}".encode())
        for name in ("go.mod", "go.sum"):
            digest.update((GO_MODULES / self.module / name).read_bytes())
        return digest.hexdigest()


def _kubernetes(command: str) -> Binary:
    major, minor, _ = KUBERNETES_VERSION.split(".")
    values = {"gitVersion": f"v{KUBERNETES_VERSION}", "gitMajor": major, "gitMinor": minor}
    packages = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    linker = " ".join(f"-X {p}.{name}={value}" for p in packages for name, value in values.items())
    return Binary("kubernetes", f"k8s.io/kubernetes/cmd/{command}", linker)


# In the order of need: an API server for integration tests is there first.
CATALOGUE: dict[str, Binary] = {
    "etcd": Binary("etcd", "go.etcd.io/etcd/server/v3"),
    "kube-apiserver": _kubernetes("kube-apiserver"),
    "kubectl": _kubernetes("kubectl"),
    "kube-controller-manager": _kubernetes("kube-controller-manager"),
    "kubelet": _kubernetes("kubelet"),
    "kube-scheduler": _kubernetes("kube-scheduler"),
    "kube-proxy": _kubernetes("kube-proxy"),
    "coredns": Binary("tools", "github.com/coredns/coredns"),
    "helm": Binary(
        "tools",
        "helm.sh/helm/v4/cmd/helm",
        f"-X helm.sh/helm/v4/internal/version.version=v{HELM_VERSION}",
    ),
}


def ensure(names: Iterable[str] = CATALOGUE) -> Path:
    """Build whatever of these is missing or was built from other pins; returns the folder."""
    for name in names:
        if name not in CATALOGUE:
            raise ClusterError(f"no binary {name!r}; there are {', '.join(CATALOGUE)}")
        with locked(BINARIES / f".{name}.lock"):
            _ensure(name)
    return BINARIES


def path(name: str) -> Path:
    """Where a binary lies once it was built."""
    return BINARIES / name


def _ensure(name: str) -> None:
    binary, target, stamp_file = CATALOGUE[name], path(name), BINARIES / f".{name}.stamp"
    stamp = binary.stamp()
    if target.exists() and stamp_file.exists() and stamp_file.read_text() == stamp:
        return
    shared = _SHARED / f"{name}-{stamp}"
    if shared.exists():
        _link(shared, target)
    else:
        started = time.monotonic()
        print(f"building {name} ...", file=sys.stderr, flush=True)
        _build(binary, target)
        print(f"built {name} in {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
        for older in _SHARED.glob(f"{name}-{'?' * len(stamp)}"):
            older.unlink()
        _link(target, shared)
    stamp_file.write_text(stamp)


def _link(source: Path, target: Path) -> None:
    """The same file under a second name, in one step; a copy where that is another file system."""
    target.parent.mkdir(parents=True, exist_ok=True)
    fresh = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        os.link(source, fresh)
    except OSError:
        shutil.copy2(source, fresh)
    os.replace(fresh, target)


def _build(binary: Binary, target: Path) -> None:
    """Compile beside the target and rename: a program that is running keeps its old file."""
    fresh = target.with_name(f".{target.name}.new")
    command: list[Argument] = [go(), "build", "-trimpath", "-buildvcs=false"]
    linker = ["-ldflags", f"-s -w {binary.linker}".strip()]
    run(
        [*command, *linker, "-o", fresh, binary.package],
        cwd=GO_MODULES / binary.module,
        env={"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"},
    )
    os.replace(fresh, target)
