"""The local cluster itself: two nodes of its own, beside whatever else runs, from up to down."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dev.cluster import binaries, busybox, cgroups, cluster, existing, host, network, slots
from dev.cluster.settings import Settings
from dev.cluster.shell import output, run, wait_until

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(existing.wanted(), reason="CLUSTER=existing: there is nothing of ours"),
]

NAME = "local-cluster-test"
WISH = cluster.Wish(NAME, nodes=2)
# Each worker leaves its node's name on the shared volume, serves it, and asks the other one.
WORKER = """
echo "from $NODE" > /data/$NODE
mkdir /tmp/www && echo "served by $NODE" > /tmp/www/index.html && httpd -p 8080 -h /tmp/www
until [ $(ls /data | wc -l) = 2 ]; do sleep 0.2; done
fetch() { until timeout 3 wget -qO $2 $1; do sleep 0.2; done; }
fetch http://workers/ /tmp/service
fetch http://workers-$((1 - JOB_COMPLETION_INDEX)).peers:8080/ /tmp/peer
echo $(cat /data/* /tmp/peer) > /dev/termination-log
sleep 2
exit $((70 + JOB_COMPLETION_INDEX))
"""


def quiet(_: str) -> None:
    """Progress is of no interest here."""


@pytest.fixture(scope="module")
def settings() -> Iterator[Settings]:
    yield cluster.up(WISH, quiet)
    cluster.down(NAME, purge=True, say=quiet)


def kubectl(settings: Settings, *arguments: str, stdin: str | None = None) -> str:
    command = [str(binaries.path("kubectl")), f"--kubeconfig={settings.kubeconfig}"]
    return output([*command, *arguments], stdin=stdin)


def objects(settings: Settings, *arguments: str) -> list[dict[str, Any]]:
    return list(json.loads(kubectl(settings, "get", *arguments, "-o", "json"))["items"])


def apply(settings: Settings, *manifests: dict[str, Any]) -> None:
    content = {"apiVersion": "v1", "kind": "List", "items": list(manifests)}
    kubectl(settings, "apply", "-f", "-", stdin=json.dumps(content))


def claim() -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "shared"},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }


def service(name: str, **spec: Any) -> dict[str, Any]:
    ports = [{"port": 80, "targetPort": 8080}]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"app": "workers"}, "ports": ports, **spec},
    }


def worker_pod() -> dict[str, Any]:
    """One worker on each node, as restricted as a trainer pod."""
    user = {"runAsUser": 65532, "runAsGroup": 65532, "runAsNonRoot": True, "fsGroup": 65532}
    container = {
        "name": "worker",
        "image": busybox.IMAGE,
        "command": ["sh", "-c", WORKER],
        "env": [{"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}],
        "volumeMounts": [
            {"name": "shared", "mountPath": "/data"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    spread = {"topologyKey": "kubernetes.io/hostname", "maxSkew": 1}
    return {
        "subdomain": "peers",
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": 1,
        "securityContext": {**user, "seccompProfile": {"type": "RuntimeDefault"}},
        "topologySpreadConstraints": [
            {
                **spread,
                "whenUnsatisfiable": "DoNotSchedule",
                "labelSelector": {"matchLabels": {"app": "workers"}},
            }
        ],
        "containers": [container],
        "volumes": [
            {"name": "shared", "persistentVolumeClaim": {"claimName": "shared"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    }


def job() -> dict[str, Any]:
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "workers"},
        "spec": {
            "completionMode": "Indexed",
            "completions": 2,
            "parallelism": 2,
            "backoffLimit": 2,
            "template": {"metadata": {"labels": {"app": "workers"}}, "spec": worker_pod()},
        },
    }


def test_nodes_are_ready_and_a_second_up_starts_nothing(settings: Settings) -> None:
    before = cluster.status(NAME)
    assert before is not None
    assert before.problems == []
    assert [line.split()[:2] for line in before.nodes] == [["node-1", "Ready"], ["node-2", "Ready"]]
    assert cluster.up(WISH, quiet) == settings
    after = cluster.status(NAME)
    assert after is not None
    assert after.components == before.components


def test_pods_on_both_nodes_share_a_claim_find_each_other_and_report_their_end(
    settings: Settings,
) -> None:
    """ReadWriteMany, DNS from a pod, Services across nodes, exit codes, termination messages."""
    headless = service("peers", clusterIP="None", publishNotReadyAddresses=True)
    apply(settings, claim(), service("workers"), headless, job())
    ended: dict[str, tuple[str, int, str]] = {}

    def both_ended() -> bool:
        for pod in objects(settings, "pods", "-l", "app=workers"):
            index = pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"]
            for container in pod["status"].get("containerStatuses", []):
                end = container["state"].get("terminated")
                if end is not None:
                    node = pod["spec"]["nodeName"]
                    ended.setdefault(index, (node, end["exitCode"], end["message"].strip()))
        return len(ended) == 2

    wait_until(both_ended, what="the end of both workers", seconds=50, interval=0.3)
    nodes = {index: node for index, (node, _, _) in ended.items()}
    assert sorted(nodes.values()) == ["node-1", "node-2"]
    files = "from node-1 from node-2"
    assert ended["0"][1:] == (70, f"{files} served by {nodes['1']}")
    assert ended["1"][1:] == (71, f"{files} served by {nodes['0']}")


def test_a_deleted_claim_takes_its_volume_and_folder_along(settings: Settings) -> None:
    kubectl(settings, "delete", "job/workers", "pvc/shared", "--cascade=foreground")
    wait_until(lambda: not objects(settings, "pv"), what="no volume", seconds=20)
    assert list((settings.data / "volumes").iterdir()) == []


def test_after_a_crash_up_starts_an_empty_cluster(settings: Settings) -> None:
    """Everything is killed but the containers, which a crash leaves without an owner."""
    kubectl(settings, "create", "deployment", "left", f"--image={busybox.IMAGE}")
    kubectl(settings, "rollout", "status", "deployment/left", "--timeout=60s")
    processes = cluster.programs_of(settings)
    for name in processes.names():
        identity = processes.identity(name)
        assert identity is not None
        os.kill(identity.pid, signal.SIGKILL)
    wait_until(
        lambda: not any(processes.alive(name) for name in processes.names()),
        what="the death of all programs",
        seconds=10,
    )
    orphans = cgroups.members(settings.key)
    assert orphans, "containers outlive their containerd"

    assert cluster.up(WISH, quiet) == settings
    assert not set(orphans) & set(cgroups.members(settings.key))
    assert objects(settings, "deployments", "-A") == []
    healthy = cluster.status(NAME)
    assert healthy is not None
    assert healthy.problems == []


def test_down_leaves_nothing_on_the_machine(settings: Settings) -> None:
    kubectl(settings, "create", "deployment", "left", f"--image={busybox.IMAGE}")
    kubectl(settings, "rollout", "status", "deployment/left", "--timeout=60s")
    cluster.down(NAME, purge=True, say=quiet)
    assert cgroups.members(settings.key) == []
    assert network.leftovers(settings.key) == []
    roots = (str(settings.data), str(settings.runtime))
    assert [path for path in host.mount_points() if path.startswith(roots)] == []
    assert [path for path in Path("/sys/fs/cgroup").rglob(settings.key)] == []
    assert slots.find(NAME) is None
    assert not settings.data.exists()
    assert not settings.runtime.exists()
    assert run(["ip", "netns", "list"]).stdout.count(f"{settings.key}-") == 0
