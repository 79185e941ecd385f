"""Everything a run is at a step boundary, as files and back.

The position in the data and the evaluation that is due are functions of the step, so they need no
file; learning rates come from the scheduler's state; adapters and optimizer are fp32 throughout.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from finetune_trainer.checkpoint import manifest as manifests
from finetune_trainer.checkpoint.lineage import CheckpointName
from finetune_trainer.contract import (
    ExactFloatString,
    FileEntry,
    LenientWire,
    Manifest,
    RunConfig,
    RunIdentity,
    Sample,
)
from finetune_trainer.model.lora import load_adapter, save_adapter
from finetune_trainer.training.clock import now
from finetune_trainer.training.model import TrainedModel
from finetune_trainer.training.optimizer import Optimizer, load_state, save_state
from finetune_trainer.training.randomness import restore_rng


class TrainerState(LenientWire):
    """trainer_state.json. elapsed_seconds = wall time of the steps so far, over all attempts."""

    step: int = 0
    elapsed_seconds: ExactFloatString = 0.0
    eval_loss_before: ExactFloatString | None = None
    samples: tuple[Sample, ...] = ()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a checkpoint is made of; rng = each rank's generators."""

    model: TrainedModel
    optimizer: Optimizer
    state: TrainerState
    rng: list[dict[str, Any]]

    def write(self, folder: Path) -> None:
        """Put every file but the manifest into `folder`."""
        save_adapter(self.model.peft, folder / manifests.ADAPTER_FOLDER)
        adamw, scheduler = self.optimizer.state()
        save_state(adamw, folder / manifests.OPTIMIZER_FILE)
        save_state(scheduler, folder / manifests.SCHEDULER_FILE)
        for rank, generators in enumerate(self.rng):
            save_state(generators, folder / manifests.rng_file(rank))
        text = self.state.to_json(indent=1) + "\n"
        (folder / manifests.STATE_FILE).write_text(text, encoding="utf-8")


def restore(folder: Path, model: TrainedModel, *, optimizer: Optimizer, rank: int) -> TrainerState:
    """Bring this rank to the state of a verified checkpoint and return what else it holds.

    A rank that the writing run did not have starts with fresh generators: they are seeded anew for
    every micro-batch anyway.
    """
    load_adapter(model.peft, folder / manifests.ADAPTER_FILE)
    optimizer.restore(
        load_state(folder / manifests.OPTIMIZER_FILE),
        load_state(folder / manifests.SCHEDULER_FILE),
    )
    generators = folder / manifests.rng_file(rank)
    if generators.exists():
        restore_rng(load_state(generators))
    return TrainerState.from_json((folder / manifests.STATE_FILE).read_bytes())


def run_identity(config: RunConfig, *, template_sha256: str) -> RunIdentity:
    """What every checkpoint of this run has in common (design section 10)."""
    plan, training, adapter = config.plan, config.training, config.adapter
    assert plan is not None
    return RunIdentity(
        model_commit=plan.model_commit,
        data_fingerprint=plan.data_fingerprint,
        template=template_sha256,
        adapter=_canonical(
            quantization=adapter.quantization,
            doubleQuantization=adapter.double_quantization,
            rank=plan.rank,
            alpha=plan.alpha,
            dropout=adapter.dropout,
            targetModules=sorted(adapter.target_modules),
        ),
        seed=training.seed,
        global_batch_size=plan.effective_batch_size,
        optimizer=_canonical(
            name=training.optimizer,
            weightDecay=training.weight_decay,
            maxGradNorm=training.max_grad_norm,
        ),
        schedule=_canonical(
            name=training.scheduler,
            learningRate=plan.learning_rate,
            warmupSteps=plan.warmup_steps,
            totalSteps=plan.total_steps,
        ),
    )


def describe(
    config: RunConfig,
    identity: RunIdentity,
    *,
    name: CheckpointName,
    files: dict[str, FileEntry],
    device: torch.device,
) -> Manifest:
    """The manifest of a checkpoint that this process has just written."""
    assert config.plan is not None
    return Manifest(
        step=name.step,
        attempt=name.attempt,
        execution=name.execution,
        job_uid=config.job.uid,
        identity=identity,
        image=config.image,
        instruction_set=instruction_set(device),
        threads=torch.get_num_threads(),
        world_size=config.topology.world_size,
        micro_batch_size=config.plan.micro_batch_size,
        learning_rate_factor=config.learning_rate_factor,
        created_at=now(),
        files=files,
    )


def instruction_set(device: torch.device) -> str:
    """What the arithmetic ran on: the GPU's name, or the vector instructions torch uses."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return torch.backends.cpu.get_cpu_capability()


def _canonical(**values: Any) -> str:
    return json.dumps(values, sort_keys=True, separators=(",", ":"))
