"""Two ranks in two pods; one is killed; the run goes on as if nothing had happened."""

from __future__ import annotations

import json

import pytest

from dev.demo import results
from dev.demo.chaos import kill_rank
from dev.demo.kube import Object, read_file, volume_pod
from tests.cluster.conftest import Product, config_map, wait_for_checkpoint
from tests.trainer_builders import conversations, write_jsonl

NAME = "two-ranks"
STEPS = 400


@pytest.fixture(scope="module")
def job(product: Product, tmp_path_factory: pytest.TempPathFactory) -> Object:
    """A finished job whose rank 0 was killed with SIGKILL after the first checkpoint."""
    rows = write_jsonl(tmp_path_factory.mktemp("data") / "rows.jsonl", conversations(200))
    product.cluster.apply(config_map("rows", {"rows.jsonl": rows}))
    changes = {
        "spec.dataset.source": "configmap://rows/rows.jsonl",
        "spec.dataset.maxLength": 128,
        "spec.training.maxSteps": STEPS,
        "spec.training.globalBatchSize": 8,
        "spec.checkpoint.interval": 20,
        "spec.compute.nodes": 2,
        "spec.compute.cpu": "900m",  # one thread each: two cores are enough for both
    }
    product.create(NAME, changes)
    wait_for_checkpoint(product, NAME)
    kill_rank(product.cluster, product.job(NAME), rank=0)
    return product.wait_for_end(NAME)


@pytest.mark.cluster
def test_the_second_attempt_resumes_and_succeeds(job: Object) -> None:
    first, second = job["status"]["attempts"]
    assert job["status"]["phase"] == "Succeeded"
    assert (first["outcome"], second["outcome"]) == ("Failed", "Succeeded")
    assert 0 < second["fromStep"] <= first["toStep"]
    assert second["toStep"] == STEPS


@pytest.mark.cluster
def test_the_log_has_every_step_once(job: Object, product: Product) -> None:
    claim = results.workspace_claim(job)
    with volume_pod(product.cluster, claim, image=product.trainer, read_only=True) as pod:
        log = read_file(product.cluster, pod, f"{results.job_folder(job)}/trainer_log.jsonl")
    assert [json.loads(line)["step"] for line in log.splitlines()] == list(range(1, STEPS + 1))


@pytest.mark.cluster
def test_kubectl_get_shows_phase_step_total_loss_attempts_age(
    job: Object, product: Product
) -> None:
    header, row = product.cluster.kubectl("get", "ftj", NAME).splitlines()
    shown = dict(zip(header.split(), row.split(), strict=True))
    assert shown.keys() >= {"PHASE", "STEP", "TOTAL", "LOSS", "ATTEMPTS", "AGE"}
    assert (shown["PHASE"], shown["STEP"], shown["TOTAL"]) == ("Succeeded", str(STEPS), str(STEPS))
    assert float(shown["LOSS"]) > 0
    assert shown["ATTEMPTS"] == "2"
