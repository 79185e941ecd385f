"""A pod that is evicted saves its state and goes; the next attempt takes it up from there."""

from __future__ import annotations

import json

import pytest

from dev.demo.kube import Object
from tests.cluster.conftest import Product, config_map, wait_for_checkpoint
from tests.trainer_builders import conversations, write_jsonl

NAME = "evicted"
STEPS = 1000


@pytest.fixture(scope="module")
def job(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Object:
    """A finished job whose only pod was evicted, as a drain does, after the first checkpoint."""
    rows = write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", conversations(200))
    product.cluster.apply(config_map("evicted-rows", {"rows.jsonl": rows}))
    changes = {
        "spec.dataset.source": "configmap://evicted-rows/rows.jsonl",
        "spec.training.maxSteps": STEPS,
        "spec.training.globalBatchSize": 8,
        "spec.checkpoint.interval": 50,
        "spec.compute.cpu": "900m",
    }
    product.create(NAME, changes)
    wait_for_checkpoint(product, NAME)
    evict(product, product.job(NAME)["status"]["currentAttempt"]["jobName"])
    return product.wait_for_end(NAME)


def evict(product: Product, attempt: str) -> None:
    """Ask the API server to evict the pod of an attempt, as `kubectl drain` does."""
    (pod,) = product.cluster.items("pods", selector=f"job-name={attempt}")
    name, namespace = pod["metadata"]["name"], pod["metadata"]["namespace"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{namespace}/pods/{name}/eviction"
    product.cluster.kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))


@pytest.mark.cluster
def test_an_evicted_pod_saves_its_state_and_does_not_count_as_a_failure(job: Object) -> None:
    first, second = job["status"]["attempts"]
    assert (first["outcome"], first["exitCode"], first["counted"]) == ("Disrupted", 75, False)
    assert first["stepsLost"] == 0
    assert (second["outcome"], second["fromStep"]) == ("Succeeded", first["toStep"])
    assert (job["status"]["failures"], job["status"]["disruptions"]) == (0, 1)
