"""The kill in the middle: SIGKILL for the training process of one pod.

Not for PID 1: the launcher stays alive, sees its rank die, and has to tell the operator why. The
signal comes from inside the pod, because a pod's processes are only visible there on every cluster.
"""

from __future__ import annotations

from typing import Final

from dev.cluster.errors import ClusterError
from dev.demo.kube import Cluster, Object

# Ranks are the children of PID 1; what `kubectl exec` starts is nobody's child in there.
KILL: Final = """
import os, pathlib, signal
for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
    state, parent = stat.read_text().rpartition(")")[2].split()[:2]
    if parent == "1" and state != "Z":
        os.kill(int(stat.parent.name), signal.SIGKILL)
        print(stat.parent.name)
"""


def kill_rank(cluster: Cluster, job: Object, *, rank: int) -> str:
    """SIGKILL the training process of node `rank` of the running attempt; returns the pod's name.

    Raises ClusterError when that pod or a process in it does not exist.
    """
    attempt = job["status"]["currentAttempt"]["jobName"]
    selector = f"job-name={attempt},batch.kubernetes.io/job-completion-index={rank}"
    pods = [pod["metadata"]["name"] for pod in cluster.items("pods", selector=selector)]
    if not pods:
        raise ClusterError(f"attempt {attempt} has no pod of rank {rank}")
    killed = cluster.kubectl("exec", pods[0], "--", "python", "-c", KILL).split()
    if not killed:
        raise ClusterError(f"pod {pods[0]} has no training process to kill")
    return str(pods[0])
