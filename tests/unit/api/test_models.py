"""The models as the operator uses them: reading what the API server stored, writing status."""

from __future__ import annotations

from enum import StrEnum
from typing import get_args

import pytest
from pydantic import BaseModel, ValidationError

from finetune_operator.api import v1alpha1
from finetune_operator.api.rules import NOT_YET
from finetune_operator.api.v1alpha1 import (
    AUTO,
    Attempt,
    Condition,
    ConditionStatus,
    ConditionType,
    FineTuneJobSpec,
    FineTuneJobStatus,
    FixedSpec,
    Outcome,
    Plan,
)
from finetune_trainer import contract
from tests.manifests import changed, finetunejob

SPEC = finetunejob()["spec"]


def test_unknown_fields_are_ignored_so_that_a_newer_crd_does_no_harm() -> None:
    spec = FineTuneJobSpec.model_validate(changed(SPEC, {"training.invented": 1, "other": {}}))
    assert spec == FineTuneJobSpec.model_validate(SPEC)


def test_what_is_left_out_gets_the_schemas_defaults() -> None:
    spec = FineTuneJobSpec.model_validate(SPEC)
    assert spec.training.learning_rate == AUTO
    assert spec.training.epochs is None and spec.training.max_steps is None
    assert spec.recovery.max_failures == 3 and spec.recovery.max_disruptions == 100
    assert spec.workspace is None


@pytest.mark.parametrize("path", sorted(NOT_YET))
def test_a_field_without_behaviour_has_no_default(path: str) -> None:
    node = FineTuneJobSpec.model_validate(SPEC).to_dict()
    for part in path.split(".")[1:]:
        node = node.get(part, {})
    assert node == {}


@pytest.mark.parametrize(
    "path", ["compute.cpu", "compute.memory", "compute.sharedMemory", "workspace.size"]
)
@pytest.mark.parametrize(("written", "read"), [(4, "4"), ("500m", "500m"), ("1.5Gi", "1.5Gi")])
def test_quantities_are_read_as_text(path: str, written: int | str, read: str) -> None:
    spec = FineTuneJobSpec.model_validate(changed(SPEC, {path: written})).to_dict()
    section, field = path.split(".")
    assert spec[section][field] == read


@pytest.mark.parametrize("rate", ["fast", "-1", "2e", "", "0x1", "NaN", " 1"])
def test_a_learning_rate_is_a_number_or_auto(rate: str) -> None:
    with pytest.raises(ValidationError, match="learningRate"):
        FineTuneJobSpec.model_validate(changed(SPEC, {"training.learningRate": rate}))


def test_resolved_leaves_out_what_may_change_later() -> None:
    mutable = FineTuneJobSpec.model_fields.keys() - FixedSpec.model_fields.keys()
    assert mutable == {
        "suspend",
        "recovery",
        "start_deadline_seconds",
        "active_deadline_seconds",
        "ttl_seconds_after_finished",
    }


def test_long_messages_are_cut_because_a_refused_status_write_would_lose_the_facts() -> None:
    condition = Condition(
        type=ConditionType.SUCCEEDED,
        status=ConditionStatus.FALSE,
        last_transition_time="2026-01-02T03:04:05Z",
        reason="PreflightFailed",
        message="x" * 10_000,
    )
    assert len(condition.message) == 4096 and condition.message.endswith("…")


def test_a_status_of_a_former_pass_is_read_back_as_written() -> None:
    status = FineTuneJobStatus(
        attempts=(Attempt(number=1, outcome=Outcome.DISRUPTED, from_step=0, to_step=7),)
    )
    assert FineTuneJobStatus.model_validate(status.to_dict()) == status


def aliases(model: type[BaseModel]) -> set[str]:
    return {field.alias or name for name, field in model.model_fields.items()}


@pytest.mark.parametrize(
    ("trainers", "status"),
    [
        (contract.Plan, v1alpha1.Plan),
        (contract.DataSummary, v1alpha1.Data),
        (contract.CheckpointReference, v1alpha1.CheckpointStatus),
        (contract.OutputReference, v1alpha1.OutputStatus),
        (contract.Sample, v1alpha1.Sample),
        (contract.ResumeFrom, v1alpha1.ResumeFrom),
    ],
    ids=lambda model: model.__name__,
)
def test_status_has_room_for_all_that_the_trainer_reports(
    trainers: type[BaseModel], status: type[BaseModel]
) -> None:
    assert aliases(trainers) <= aliases(status)


@pytest.mark.parametrize(
    ("trainers", "spec"),
    [
        (contract.ModelSpec, v1alpha1.Model),
        (contract.DatasetSpec, v1alpha1.Dataset),
        (contract.AdapterSpec, v1alpha1.Adapter),
        (contract.TrainingSpec, v1alpha1.Training),
        (contract.SamplesSpec, v1alpha1.Samples),
        (contract.CheckpointSpec, v1alpha1.Checkpoint),
    ],
    ids=lambda model: model.__name__,
)
def test_the_trainer_implements_every_field_and_word_that_the_schema_offers(
    trainers: type[BaseModel], spec: type[BaseModel]
) -> None:
    section = {"Model": "spec.model", "Samples": "spec.training.samples"}.get(
        spec.__name__, f"spec.{spec.__name__.lower()}"
    )
    offered = {name for name in aliases(spec) if f"{section}.{name}" not in NOT_YET}
    assert offered == aliases(trainers)
    for name, field in spec.model_fields.items():
        if isinstance(field.annotation, type) and issubclass(field.annotation, StrEnum):
            words = get_args(trainers.model_fields[name].annotation)
            assert {word.value for word in field.annotation} == set(words), name


def test_the_trainers_plan_is_copied_without_a_change() -> None:
    plan = contract.Plan(
        micro_batch_size=2,
        gradient_accumulation_steps=4,
        effective_batch_size=16,
        activation_checkpointing="Full",
        precision="BF16",
        steps_per_epoch=32,
        total_steps=96,
        learning_rate=2e-4,
        warmup_steps=3,
        rank=16,
        alpha=32,
        checkpoint_interval=10,
        trainable_parameters=4_884_480,
        predicted_peak_gib=3.25,
        gpu_memory_gib=24,
        data_fingerprint="sha256:1",
        model_commit="sha256:2",
        reasons={"rank": "the default for NF4"},
    ).to_dict()
    assert Plan.model_validate(plan).to_dict() == plan
