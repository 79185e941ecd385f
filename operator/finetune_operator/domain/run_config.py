"""Resolved spec + status -> the RunConfig of a pod."""

from __future__ import annotations

from typing import Literal

from finetune_operator.api.v1alpha1 import AUTO, Compute, FixedSpec
from finetune_operator.domain.facts import Facts
from finetune_operator.domain.names import attempt_job_name, child_name
from finetune_trainer.contract import (
    AdapterSpec,
    CheckpointReference,
    CheckpointSpec,
    DatasetSpec,
    JobIdentity,
    ModelSpec,
    Plan,
    ResumeFrom,
    RunConfig,
    SamplesSpec,
    Topology,
    TrainingSpec,
)


def preflight_config(facts: Facts) -> RunConfig:
    """What preflight k gets: the wish, and the topology to plan for."""
    preflight = facts.preflight
    if preflight is None:
        raise ValueError("no preflight is recorded")
    return _config(facts, attempt=preflight.number)


def train_config(facts: Facts) -> RunConfig:
    """What attempt n gets: also preflight's plan and the checkpoint that status knows of."""
    current, plan = facts.attempt, facts.status.plan
    if current is None or plan is None:
        raise ValueError("no attempt is recorded, or no plan")
    resume = current.resume_from
    overrides = current.overrides
    factor = overrides.learning_rate_factor if overrides else None
    return _config(facts, attempt=current.number).model_copy(
        update={
            "plan": Plan.model_validate(plan.to_dict()),
            "resume_from": ResumeFrom.model_validate(resume.to_dict()) if resume else ResumeFrom(),
            "known_checkpoint": _known_checkpoint(facts),
            "learning_rate_factor": float(factor) if factor else 1.0,
        }
    )


def _config(facts: Facts, *, attempt: int) -> RunConfig:
    resolved = facts.resolved
    return RunConfig(
        job=facts.seen.identity,
        attempt=attempt,
        model=ModelSpec(source=resolved.model.source),
        dataset=_dataset(resolved),
        adapter=_adapter(resolved),
        training=_training(resolved),
        checkpoint=CheckpointSpec(
            interval=resolved.checkpoint.interval, keep=resolved.checkpoint.keep
        ),
        topology=_topology(facts.seen.identity, resolved.compute, attempt),
        start_deadline_seconds=max(1, int(facts.start_deadline.total_seconds())),
        image=facts.seen.site.trainer_image,
    )


def processes_per_node(compute: Compute) -> int:
    """One process per GPU; without GPUs what the user asked for."""
    return compute.gpus_per_node or compute.processes_per_node or 1


def _topology(identity: JobIdentity, compute: Compute, attempt: int) -> Topology:
    """Rank 0's stable name is `<pod hostname>.<headless service>`; one node needs no name."""
    host = f"{attempt_job_name(identity, attempt)}-0.{child_name(identity)}"
    return Topology(
        nodes=compute.nodes,
        processes_per_node=processes_per_node(compute),
        gpus_per_node=compute.gpus_per_node,
        rendezvous_host=host if compute.nodes > 1 else "127.0.0.1",
    )


def _dataset(resolved: FixedSpec) -> DatasetSpec:
    dataset = resolved.dataset
    return DatasetSpec(
        source=dataset.source,
        eval_source=dataset.eval_source,
        eval_fraction=float(dataset.eval_fraction),
        format=dataset.format.value,
        max_length=dataset.max_length,
        overlength=dataset.overlength.value,
        train_on=dataset.train_on.value,
    )


def _adapter(resolved: FixedSpec) -> AdapterSpec:
    adapter = resolved.adapter
    return AdapterSpec(
        quantization=adapter.quantization.value,
        double_quantization=adapter.double_quantization,
        rank=adapter.rank,
        alpha=adapter.alpha,
        dropout=float(adapter.dropout),
        target_modules=adapter.target_modules,
    )


def _training(resolved: FixedSpec) -> TrainingSpec:
    training = resolved.training
    return TrainingSpec(
        stage=training.stage.value,
        epochs=None if training.epochs in (None, AUTO) else float(training.epochs),
        max_steps=training.max_steps,
        global_batch_size=training.global_batch_size or TrainingSpec().global_batch_size,
        micro_batch_size=training.micro_batch_size,
        learning_rate=_number(training.learning_rate),
        scheduler=training.scheduler.value,
        warmup_ratio=_number(training.warmup_ratio),
        optimizer=training.optimizer.value,
        weight_decay=float(training.weight_decay),
        max_grad_norm=float(training.max_grad_norm),
        seed=training.seed,
        precision=training.precision.value,
        activation_checkpointing=training.activation_checkpointing.value,
        deterministic=training.deterministic,
        samples=SamplesSpec(
            prompts=training.samples.prompts, max_new_tokens=training.samples.max_new_tokens
        ),
    )


def _number(text: str) -> float | Literal["Auto"]:
    return "Auto" if text == AUTO else float(text)


def _known_checkpoint(facts: Facts) -> CheckpointReference | None:
    known = facts.status.last_checkpoint
    if known is None or not known.path or not known.digest:
        return None
    return CheckpointReference(
        step=known.step, path=known.path, digest=known.digest, time=known.time
    )
