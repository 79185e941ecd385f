"""What somebody needs to see after a failure, saved before the cluster is gone."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from dev.demo.install import SYSTEM_NAMESPACE
from dev.demo.kube import Cluster

LOOKS: Final = {
    "jobs.yaml": ("get", "finetunejobs,jobs", "-o", "yaml"),
    "pods.txt": ("describe", "pods"),
    "claims.txt": ("describe", "persistentvolumeclaims"),
    "events.txt": ("get", "events", "--sort-by=.lastTimestamp"),
}
OPERATOR: Final = ("--namespace", SYSTEM_NAMESPACE)


def collect_logs(cluster: Cluster, folder: Path) -> None:
    """Write objects, events and logs of the namespace and of the operator into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, look in LOOKS.items():
        _save(cluster, folder / name, *look)
    labels = ("--selector", "app.kubernetes.io/name=finetune-operator")
    _save(cluster, folder / "operator.log", "logs", *labels, "--tail=-1", *OPERATOR)
    _save(cluster, folder / "operator-pods.txt", "describe", "pods", *OPERATOR)
    for pod in cluster.try_kubectl("get", "pods", "-o", "name").stdout.split():
        _save(cluster, folder / f"{pod.replace('/', '-')}.log", "logs", pod, "--all-containers")


def _save(cluster: Cluster, path: Path, *arguments: str) -> None:
    answer = cluster.try_kubectl(*arguments)
    path.write_text(answer.stdout or answer.stderr)
