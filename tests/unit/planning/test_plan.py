"""The numbers of a run, by hand and by property."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.contract import (
    AdapterSpec,
    CheckpointSpec,
    DatasetSpec,
    ExitCode,
    JobIdentity,
    ModelSpec,
    Plan,
    RunConfig,
    Topology,
    TrainingSpec,
)
from finetune_trainer.errors import TrainerError
from finetune_trainer.planning.plan import Measured, lint, make_plan


def config(
    *,
    adapter: dict[str, Any] | None = None,
    topology: dict[str, Any] | None = None,
    interval: int | None = None,
    **training: Any,
) -> RunConfig:
    return RunConfig(
        job=JobIdentity(namespace="team", name="demo", uid="0123456789"),
        attempt=1,
        model=ModelSpec(source="pvc://models/smol"),
        dataset=DatasetSpec(source="pvc://data/train.jsonl"),
        adapter=AdapterSpec(**(adapter or {})),
        training=TrainingSpec(**training),
        topology=Topology(**(topology or {})),
        checkpoint=CheckpointSpec(interval=interval or "Auto"),
    )


def plan(rows: int, *, longest: int = 256, **fields: Any) -> Plan:
    measured = Measured(rows, longest, data_fingerprint="d", model_commit="m")
    return make_plan(config(**fields), measured)


PLANS: dict[str, tuple[int, dict[str, Any], dict[str, Any]]] = {
    "500 rows, batch 16, 3 epochs: 32 steps an epoch, 96 in all, 3 of warmup": (
        500, {"epochs": 3},
        {"steps_per_epoch": 32, "total_steps": 96, "warmup_steps": 3, "checkpoint_interval": 9},
    ),
    "1,000 rows, batch 16, 3 epochs: 189 steps, 6 of warmup": (
        1000, {"epochs": 3}, {"steps_per_epoch": 63, "total_steps": 189, "warmup_steps": 6},
    ),
    "part of an epoch": (500, {"epochs": 0.5}, {"total_steps": 16}),
    "maxSteps overrides the epochs of the table": (
        500, {"max_steps": 40}, {"total_steps": 40, "steps_per_epoch": 32, "warmup_steps": 2},
    ),
    "fewer rows than a batch: one step an epoch": (
        5, {"epochs": 1}, {"steps_per_epoch": 1, "total_steps": 1, "checkpoint_interval": 1},
    ),
    "a constant schedule has no warmup": (
        500, {"epochs": 3, "scheduler": "Constant"}, {"warmup_steps": 0},
    ),
    "a product that is whole is not rounded up by its last bit": (
        1600, {"epochs": 1, "warmup_ratio": 0.07}, {"total_steps": 100, "warmup_steps": 7},
    ),
    "little data: low rate, small adapter": (
        80, {}, {"learning_rate": 1e-4, "rank": 8, "alpha": 16, "total_steps": 10},
    ),
    "the usual small set": (
        300, {}, {"learning_rate": 2e-4, "rank": 8, "alpha": 16, "total_steps": 57},
    ),
    "thousands of rows": (
        5000, {}, {"learning_rate": 1e-4, "rank": 16, "alpha": 32, "total_steps": 313},
    ),
    "much data: one epoch at a low rate": (
        50_000, {}, {"learning_rate": 5e-5, "rank": 32, "alpha": 32, "total_steps": 3125,
                     "checkpoint_interval": 50},
    ),
    "what the user sets is kept": (
        500,
        {"learning_rate": 3e-3, "adapter": {"rank": 4, "alpha": 4}, "interval": 7,
         "micro_batch_size": 8, "precision": "FP32", "activation_checkpointing": "Full"},
        {"learning_rate": 3e-3, "rank": 4, "alpha": 4, "checkpoint_interval": 7,
         "micro_batch_size": 8, "precision": "FP32", "activation_checkpointing": "Full"},
    ),
    "alpha follows a rank that the user sets": (500, {"adapter": {"rank": 64}}, {"alpha": 128}),
    "two nodes share the batch": (
        500, {"topology": {"nodes": 2}},
        {"micro_batch_size": 2, "gradient_accumulation_steps": 4, "effective_batch_size": 16},
    ),
    "a process is never given more than its share": (
        500, {"topology": {"nodes": 16}},
        {"micro_batch_size": 1, "gradient_accumulation_steps": 1},
    ),
    "GPUs of unknown memory get checkpointing": (
        500, {"topology": {"gpus_per_node": 1}},
        {"activation_checkpointing": "Full", "precision": "BF16", "micro_batch_size": 2},
    ),
    "CPUs do not": (500, {}, {"activation_checkpointing": "None", "precision": "BF16"}),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANS)
def test_plan(name: str) -> None:
    rows, fields, expected = PLANS[name]
    found = plan(rows, **fields)
    assert {field: getattr(found, field) for field in expected} == expected


def test_more_steps_than_a_run_may_have_are_the_users_mistake() -> None:
    assert plan(10_000_000, epochs=16).total_steps == 10_000_000
    with pytest.raises(
        TrainerError, match=r"^training\.epochs: .* 10,000,000 optimizer"
    ) as failure:
        plan(10_000_000, epochs=16.1)
    assert failure.value.code is ExitCode.BAD_CONFIG
    assert [each.code for each in failure.value.problems] == ["bad_config"]


def test_very_long_examples_go_one_by_one() -> None:
    assert plan(500, longest=4096).micro_batch_size == 1


def test_memory_is_not_guessed() -> None:
    assert plan(500).predicted_peak_gib is None


def test_every_auto_value_has_a_reason() -> None:
    assert set(plan(500).reasons) == {
        "activationCheckpointing", "alpha", "checkpointInterval", "epochs",
        "gradientAccumulationSteps", "learningRate", "microBatchSize", "precision", "rank",
        "stepsPerEpoch", "totalSteps", "warmupRatio", "warmupSteps",
    }  # fmt: skip


def test_a_plan_survives_the_wire() -> None:
    found = plan(5000)
    assert Plan.from_json(found.to_json()) == found


@given(
    rows=st.integers(1, 100_000),
    batch=st.integers(1, 256),
    nodes=st.integers(1, 8),
    processes=st.integers(1, 8),
    epochs=st.none() | st.floats(0.01, 10),
)
def test_a_plan_adds_up(
    rows: int, batch: int, nodes: int, processes: int, epochs: float | None
) -> None:
    topology = {"nodes": nodes, "processes_per_node": processes}
    found = plan(rows, epochs=epochs, global_batch_size=batch, topology=topology)
    assert (found.steps_per_epoch - 1) * batch < rows <= found.steps_per_epoch * batch
    room = found.micro_batch_size * found.gradient_accumulation_steps * nodes * processes
    assert room >= batch
    assert found.micro_batch_size <= math.ceil(batch / (nodes * processes))
    assert 0 <= found.warmup_steps <= found.total_steps
    assert 1 <= found.checkpoint_interval <= max(1, found.total_steps)


LINTS: dict[str, tuple[dict[str, Any], str]] = {
    "a rate that explodes": (
        {"learning_rate": 3e-3},
        "training.learningRate 0.003 is above the usual 2e-05 to 0.0005: expect spikes or NaN",
    ),
    "a rate that learns nothing": ({"learning_rate": 1e-6}, "the loss may hardly fall"),
    "no warmup": ({"warmup_ratio": 0.0}, "expect an unstable start"),
    "many epochs": ({"epochs": 10}, "training.epochs 10 is above the usual 0.5 to 5: expect overf"),
    "a tiny batch": ({"global_batch_size": 1}, "expect a zigzagging loss"),
    "a huge adapter": ({"adapter": {"rank": 256}}, "adapter.rank 256 is above"),
    "a micro-batch beyond a process's share": (
        {"micro_batch_size": 16, "topology": {"nodes": 2}}, "some processes get none in a step",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LINTS)
def test_an_unusual_value_is_kept_and_its_symptom_named(name: str) -> None:
    fields, says = LINTS[name]
    problems = lint(config(**fields), plan(5000, **fields))
    assert [(each.code, each.severity) for each in problems] == [("unusual_value", "warning")]
    assert says in problems[0].message


def test_usual_values_are_not_remarked_upon() -> None:
    fields: dict[str, Any] = {"learning_rate": 2e-4, "epochs": 3, "warmup_ratio": 0.03}
    assert lint(config(**fields), plan(500, **fields)) == []


def test_few_steps_are_remarked_upon() -> None:
    (problem,) = lint(config(epochs=1), plan(400, epochs=1))
    assert problem.code == "too_few_steps"
    assert problem.message.startswith("25 optimizer steps in all, fewer than 30")
