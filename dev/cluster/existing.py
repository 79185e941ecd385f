"""CLUSTER=existing: kind, k3s or a GPU cluster that the current kubeconfig already names."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from dev.cluster import binaries
from dev.cluster.errors import ClusterError
from dev.cluster.paths import BINARIES


def wanted() -> bool:
    """Whether the environment asks for the cluster of the current kubeconfig."""
    choice = os.environ.get("CLUSTER", "local")
    if choice not in ("local", "existing"):
        raise ClusterError(f"CLUSTER={choice}: it is local (the default) or existing")
    return choice == "existing"


def status() -> int:
    """Show its nodes with kubectl; returns kubectl's exit code."""
    return subprocess.run([_kubectl(), "get", "nodes", "-o", "wide"], check=False).returncode


def env() -> int:
    """Shell lines that name the kubeconfig in use."""
    default = Path.home() / ".kube" / "config"
    print(f"export KUBECONFIG={os.environ.get('KUBECONFIG', default)}")
    print(f'export PATH="$PATH:{BINARIES}"')
    return 0


def _kubectl() -> str:
    """The user's own kubectl, else ours."""
    return shutil.which("kubectl") or str(binaries.ensure(["kubectl"]) / "kubectl")
