"""Child objects as data: complete manifests against golden files, and what varies in them.

After a wanted change: `UPDATE_GOLDEN=1 pytest tests/unit/domain/test_resources.py`, then read the
difference.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    ResumePolicy,
    RunConfig,
)
from tests.builders import (
    CHILD,
    IDENTITY,
    PLAN,
    a_checkpoint,
    a_claim,
    a_record,
    a_report,
    a_spec,
    some_progress,
)
from tests.unit.domain.world import World, running_world, world_in_attempt_1

GOLDEN = Path(__file__).parent / "golden"

FULL_SPEC = {
    "dataset": {
        "source": "configmap://questions/train.jsonl",
        "evalSource": "pvc://held.out/eval.jsonl",
        "maxLength": 512,
    },
    "training": {
        "epochs": "2",
        "learningRate": "1e-4",
        "samples": {"prompts": ["What is a list?"]},
    },
    "compute": {
        "nodes": 2,
        "gpusPerNode": 4,
        "cpu": "16",
        "memory": "64Gi",
        "sharedMemory": "8Gi",
        "nodeSelector": {"pool": "gpu"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "priorityClassName": "batch",
        "imagePullSecrets": [{"name": "finetune-registry"}],
        "preflight": {"cpu": "2", "memory": "4Gi"},
    },
    "workspace": {"size": "100Gi", "storageClassName": "shared"},
}


def full_world() -> World:
    world = World(spec=a_spec(**FULL_SPEC))
    world.claims["held.out"] = a_claim("held.out")
    world.operate()
    world.run_ends("preflight-1", 0, a_report())
    return world


def manifest(raw: dict[str, Any]) -> dict[str, Any]:
    """The object as it was sent, with the run configuration set apart to keep it readable."""
    sent = json.loads(json.dumps(raw))
    sent["metadata"].pop("uid", None)
    sent.pop("status", None)
    if sent["kind"] == "Job":
        (container,) = sent["spec"]["template"]["spec"]["containers"]
        config = next(v for v in container["env"] if v["name"] == RUN_CONFIG_VARIABLE)
        config["value"] = json.loads(config["value"])
    return sent


OBJECTS = {
    "preflight-job": lambda: full_world().job("preflight-1"),
    "attempt-job": lambda: full_world().job("1"),
    "claim": lambda: full_world().claims[CHILD],
    "service": lambda: full_world().services[CHILD],
    "network-policy": lambda: full_world().policies[CHILD],
    "smallest-attempt-job": lambda: world_in_attempt_1().job("1"),
}


@pytest.mark.parametrize("name", OBJECTS)
def test_golden(name: str) -> None:
    built = manifest(OBJECTS[name]())
    path = GOLDEN / f"{name}.yaml"
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(exist_ok=True)
        path.write_text(yaml.safe_dump(built, sort_keys=False, width=100))
    assert built == yaml.safe_load(path.read_text())


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    return dict(job["spec"]["template"]["spec"])


def container_of(job: dict[str, Any]) -> dict[str, Any]:
    (container,) = pod_of(job)["containers"]
    return dict(container)


def config_of(job: dict[str, Any]) -> RunConfig:
    environment = {entry["name"]: entry["value"] for entry in container_of(job)["env"]}
    return RunConfig.from_json(environment[RUN_CONFIG_VARIABLE])


def attempt_of(**spec: Any) -> dict[str, Any]:
    return world_in_attempt_1(**spec).job("1")


# --- the run configuration ------------------------------------------------------------------------


def test_preflight_gets_the_wish_and_the_topology_but_no_plan() -> None:
    config = config_of(full_world().job("preflight-1"))
    assert (config.attempt, config.plan) == (1, None)
    assert (config.topology.nodes, config.topology.processes_per_node) == (2, 4)
    assert config.training.epochs == 2
    assert config.training.learning_rate == 1e-4
    assert config.training.warmup_ratio == "Auto"
    assert config.dataset.eval_source == "pvc://held.out/eval.jsonl"


def test_an_attempt_gets_the_plan_to_the_last_bit() -> None:
    assert config_of(attempt_of()).plan == PLAN


def test_rank_0_is_found_by_its_name_behind_the_service() -> None:
    assert config_of(full_world().job("1")).topology.rendezvous_host == f"{CHILD}-1-0.{CHILD}"
    assert config_of(attempt_of()).topology.rendezvous_host == "127.0.0.1"


def test_a_run_without_gpus_has_processes() -> None:
    topology = config_of(attempt_of(compute={"gpusPerNode": 0, "processesPerNode": 2})).topology
    assert (topology.processes_per_node, topology.gpus_per_node) == (2, 0)


def test_the_length_of_the_run_is_epochs_or_steps_or_preflights_choice() -> None:
    by_steps = config_of(attempt_of(training={"maxSteps": 30})).training
    assert (by_steps.max_steps, by_steps.epochs) == (30, None)
    by_default = config_of(attempt_of()).training
    assert (by_default.max_steps, by_default.epochs) == (None, None)


def test_a_later_attempt_may_resume_and_knows_which_checkpoint_must_exist() -> None:
    world = running_world()
    world.progress = some_progress(25, last_checkpoint=a_checkpoint(20))
    world.operate()
    world.run_ends("1", 20, a_record(20))
    world.pass_time(60)
    world.operate()
    first, second = config_of(world.job("1")), config_of(world.job("2"))
    assert first.known_checkpoint is None
    assert second.known_checkpoint == a_checkpoint(20)
    assert second.resume_from.policy is ResumePolicy.NEWEST
    assert (second.attempt, second.job) == (2, IDENTITY)


def test_no_prompt_is_expanded_by_the_kubelet() -> None:
    prompt = "What do $(HOME) and $$ mean?"
    job = attempt_of(training={"samples": {"prompts": [prompt]}})
    assert "$" not in str(container_of(job)["env"][0])
    assert config_of(job).training.samples.prompts == (prompt,)


# --- the pod --------------------------------------------------------------------------------------


def test_a_claim_that_is_workspace_and_source_is_one_volume_with_two_mounts() -> None:
    world = World(spec=a_spec(workspace={"claimName": "inputs", "subPath": "runs/a"}))
    world.operate()
    job = world.job("preflight-1")
    claims = [v for v in pod_of(job)["volumes"] if "persistentVolumeClaim" in v]
    assert [claim["persistentVolumeClaim"]["claimName"] for claim in claims] == ["inputs"]
    workspace, source = container_of(job)["volumeMounts"][:2]
    assert workspace == {"name": "workspace", "mountPath": "/workspace", "subPath": "runs/a"}
    assert source == {"name": "workspace", "mountPath": "/mnt/sources/pvc/inputs", "readOnly": True}


def test_sources_in_the_image_need_no_volume() -> None:
    job = attempt_of(model={"source": "file:///models/a"}, dataset={"source": "file:///data/b"})
    assert [volume["name"] for volume in pod_of(job)["volumes"]] == ["workspace", "tmp", "shm"]


def test_a_cpu_run_asks_for_no_device() -> None:
    resources = container_of(attempt_of(compute={"gpusPerNode": 0, "cpu": "2"}))["resources"]
    assert resources == {"requests": {"cpu": "2"}, "limits": {"cpu": "2"}}


THREADS = {
    "all cores of one process": ({"gpusPerNode": 0, "cpu": "4"}, "4"),
    "shared by the processes": ({"gpusPerNode": 0, "cpu": "4", "processesPerNode": 2}, "2"),
    "at least one": ({"gpusPerNode": 0, "cpu": "500m"}, "1"),
    "left to the runtime without a limit": ({"gpusPerNode": 0}, None),
}


@pytest.mark.parametrize(("compute", "threads"), THREADS.values(), ids=THREADS)
def test_threads(compute: dict[str, Any], threads: str | None) -> None:
    environment = container_of(attempt_of(compute=compute))["env"]
    found = {entry["name"]: entry["value"] for entry in environment}
    assert found.get("OMP_NUM_THREADS") == threads


# --- the claim ------------------------------------------------------------------------------------

CLAIMS = {
    "outlives the job": ({}, 1, "ReadWriteOnce", False),
    "goes with the job when asked": ({"retain": False}, 1, "ReadWriteOnce", True),
    "is shared by several nodes": ({"size": "5Gi"}, 2, "ReadWriteMany", False),
}


@pytest.mark.parametrize(("workspace", "nodes", "mode", "owned"), CLAIMS.values(), ids=CLAIMS)
def test_claim(workspace: dict[str, Any], nodes: int, mode: str, owned: bool) -> None:
    world = world_in_attempt_1(workspace=workspace, compute={"nodes": nodes})
    claim = world.claims[CHILD]
    assert claim["spec"]["accessModes"] == [mode]
    assert ("ownerReferences" in claim["metadata"]) is owned
    asked = claim["spec"]["resources"]["requests"]["storage"]
    assert asked == workspace.get("size", "20Gi")
