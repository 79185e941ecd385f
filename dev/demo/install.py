"""From a cluster's name to an installed product: cluster, images, chart.

Everything goes through the commands a person would type, so that what the demo and the cluster
tests use is what the README describes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Final

from dev.cluster.errors import ClusterError
from dev.demo.kube import Cluster, Object
from dev.demo.paths import ROOT

CHART: Final = ROOT / "charts" / "finetune-operator"
RELEASE: Final = "finetune-operator"
SYSTEM_NAMESPACE: Final = "finetune-system"
DOCKERFILES: Final = {
    "operator": ROOT / "operator" / "Dockerfile",
    "trainer": ROOT / "trainer_image" / "Dockerfile",
}
# For clusters that cannot pull from the local registry: references of images pushed by hand.
IMAGE_VARIABLES: Final = {"operator": "OPERATOR_IMAGE", "trainer": "TRAINER_IMAGE"}


def start_cluster(name: str, *, namespace: str) -> Cluster:
    """Start the local cluster `name` (or take the current one with CLUSTER=existing).

    The namespace is made when missing. Raises ClusterError, or CalledProcessError when the cluster
    command ends badly; it has said why.
    """
    subprocess.run(cluster_command("up", name), cwd=ROOT, check=True)
    _output(sys.executable, "-m", "dev.cluster", "binaries", "--only", "kubectl,helm")
    lines = _output(*cluster_command("env", name)).splitlines()
    exports = dict(line.removeprefix("export ").split("=", maxsplit=1) for line in lines)
    cluster = Cluster(Path(exports["KUBECONFIG"]), ROOT / ".cache" / "bin", namespace)
    cluster.apply(restricted_namespace(namespace))
    return cluster


def restricted_namespace(name: str) -> Object:
    """A namespace where the API server refuses pods that ask for more than "restricted" allows."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}}


def is_running(name: str) -> bool:
    """Whether the local cluster `name` runs and is healthy."""
    command = cluster_command("status", name)
    return subprocess.run(command, cwd=ROOT, capture_output=True, check=False).returncode == 0


def stop_cluster(name: str) -> None:
    """Stop the local cluster; images are kept for the next time."""
    subprocess.run(cluster_command("down", name), cwd=ROOT, check=False)


def _output(*command: str) -> str:
    """Standard output; what goes to standard error is for the person who watches."""
    answer = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    return answer.stdout.strip()


def cluster_command(verb: str, name: str) -> list[str]:
    """The words of a cluster command."""
    return [sys.executable, "-m", "dev.cluster", verb, "--name", name]


def build_image(kind: str, cluster_name: str) -> str:
    """Build and push the image `kind` (operator or trainer); return its reference by digest."""
    given = os.environ.get(IMAGE_VARIABLES[kind])
    if given:
        return given
    if os.environ.get("CLUSTER") == "existing":
        raise ClusterError(
            f"CLUSTER=existing: push the image of {DOCKERFILES[kind].relative_to(ROOT)} to a "
            f"registry of that cluster and name it in {IMAGE_VARIABLES[kind]}"
        )
    files = ["--dockerfile", str(DOCKERFILES[kind]), "--context", str(ROOT)]
    return _output(*cluster_command("image", cluster_name), *files, "--tag", f"finetune/{kind}:dev")


def install_chart(cluster: Cluster, *, operator: str, trainer: str) -> None:
    """Install or upgrade the chart and wait until the operator is ready; raises ClusterError."""
    cluster.helm(
        "upgrade",
        "--install",
        RELEASE,
        CHART,
        *("--namespace", SYSTEM_NAMESPACE, "--create-namespace"),
        *image_values("image", operator),
        *image_values("trainerImage", trainer),
        *("--set", "operator.scrapeSeconds=2", "--set", "operator.progressSeconds=5"),
        *("--wait", "--timeout", "3m"),
    )


def image_values(key: str, reference: str) -> list[str]:
    """The chart's values for an image reference with digest or tag."""
    name, at, digest = reference.partition("@")
    if at:
        return ["--set", f"{key}.repository={name},{key}.digest={digest}"]
    repository, _, tag = name.rpartition(":")
    return ["--set", f"{key}.repository={repository},{key}.tag={tag}"]
