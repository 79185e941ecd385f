"""A cluster as the demo and the cluster tests use it: kubectl, helm, and waiting on state."""

from __future__ import annotations

import json
import os
import subprocess
import tarfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dev.cluster.errors import ClusterError
from dev.cluster.shell import run, wait_until

Object = dict[str, Any]

TRAINER_UID: Final = 65532
POD_SECONDS: Final = 180.0
HELPER_LIFETIME: Final = "3600"  # seconds a helper pod sleeps when nobody deletes it


@dataclass(frozen=True, slots=True)
class Cluster:
    """Programs and credentials to reach one namespace of a cluster."""

    kubeconfig: Path
    binaries: Path
    namespace: str

    @property
    def environment(self) -> dict[str, str]:
        """Variables for a person's own kubectl and helm."""
        return {"KUBECONFIG": str(self.kubeconfig), "HELM_NAMESPACE": self.namespace}

    def command(self, *arguments: str | Path) -> list[str | Path]:
        """The words of a kubectl call in this namespace."""
        return [self.binaries / "kubectl", "--namespace", self.namespace, *arguments]

    def kubectl(self, *arguments: str | Path, stdin: str | None = None) -> str:
        """Run kubectl and return its output; raises ClusterError with what it said."""
        return run(self.command(*arguments), env=self.environment, stdin=stdin).stdout

    def try_kubectl(
        self, *arguments: str | Path, stdin: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl where a refusal is an answer."""
        return run(self.command(*arguments), env=self.environment, stdin=stdin, check=False)

    def helm(self, *arguments: str | Path) -> str:
        """Run helm in this namespace; raises ClusterError with what it said."""
        return run([self.binaries / "helm", *arguments], env=self.environment).stdout

    def apply(self, *objects: Object) -> None:
        """Apply objects in this namespace."""
        listing = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "-f", "-", stdin=json.dumps(listing))

    def get(self, kind: str, name: str) -> Object:
        """One object; raises ClusterError when there is none."""
        found: Object = json.loads(self.kubectl("get", kind, name, "-o", "json"))
        return found

    def items(self, kind: str, *, selector: str = "") -> list[Object]:
        """All objects of a kind in this namespace that carry the labels of `selector`."""
        listing = self.kubectl("get", kind, "-o", "json", "--selector", selector)
        found: list[Object] = json.loads(listing)["items"]
        return found

    def wait(self, look: Callable[[], object], *, what: str, seconds: float) -> None:
        """Look twice a second until the answer is true; raises ClusterError after `seconds`."""
        wait_until(look, what=what, seconds=seconds, interval=0.5)


@contextmanager
def volume_pod(
    cluster: Cluster, claim: str, *, image: str, read_only: bool = False
) -> Iterator[str]:
    """A pod with `claim` at /volume, for files to be carried in or out; yields its name."""
    name = f"{'reader' if read_only else 'loader'}-{claim}"
    cluster.apply(_volume_pod(name, claim, image=image, read_only=read_only))
    try:
        cluster.kubectl(
            "wait", f"pod/{name}", "--for=condition=Ready", f"--timeout={POD_SECONDS:.0f}s"
        )
        yield name
    finally:
        cluster.kubectl("delete", "pod", name, "--wait=false", "--ignore-not-found")


def _volume_pod(name: str, claim: str, *, image: str, read_only: bool) -> Object:
    """As restricted as a trainer pod, and with its user, so that both can read what is written."""
    container = {
        "name": "files",
        "image": image,
        "command": ["sleep", HELPER_LIFETIME],
        "volumeMounts": [{"name": "volume", "mountPath": "/volume", "readOnly": read_only}],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        "restartPolicy": "Never",
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": TRAINER_UID,
            "runAsGroup": TRAINER_UID,
            "fsGroup": TRAINER_UID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "volume", "persistentVolumeClaim": {"claimName": claim}}],
    }
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def copy_in(cluster: Cluster, pod: str, folders: Sequence[Path]) -> None:
    """Stream folders into /volume of a volume pod; raises ClusterError when it refuses."""
    unpack = cluster.command("exec", "-i", pod, "--", "tar", "--extract", "-C", "/volume")
    with subprocess.Popen(
        [str(word) for word in unpack],
        stdin=subprocess.PIPE,
        env={**os.environ, **cluster.environment},
    ) as process:
        assert process.stdin is not None
        with tarfile.open(fileobj=process.stdin, mode="w|") as stream:
            for folder in folders:
                stream.add(folder, arcname=folder.name)
    if process.returncode != 0:
        raise ClusterError(f"pod {pod} could not unpack {', '.join(f.name for f in folders)}")


def read_file(cluster: Cluster, pod: str, path: str) -> bytes:
    """The content of a file below /volume of a volume pod; raises ClusterError when missing."""
    command = [str(word) for word in cluster.command("exec", pod, "--", "cat", f"/volume/{path}")]
    result = subprocess.run(
        command, env={**os.environ, **cluster.environment}, capture_output=True, check=False
    )
    if result.returncode != 0:
        raise ClusterError(f"{path}: {result.stderr.decode(errors='replace').strip()}")
    return result.stdout


def claim(name: str, *, size: str) -> Object:
    """A claim of the default storage class that pods on every node can mount."""
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": size}},
        },
    }
