"""Checkpoints of a few bytes: real folders, manifests and lineage without a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.checkpoint import manifest as manifests
from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.lineage import CheckpointName, Execution
from finetune_trainer.checkpoint.registry import register
from finetune_trainer.checkpoint.writer import CheckpointWriter
from finetune_trainer.contract import CheckpointReference, FileEntry, Manifest, RunIdentity

IDENTITY = RunIdentity(
    model_commit="m",
    data_fingerprint="d",
    template="t",
    adapter="{}",
    seed=42,
    global_batch_size=16,
    optimizer="{}",
    schedule="{}",
)


def fill(folder: Path, *, content: str = "x") -> None:
    """The files that every checkpoint has, of one rank."""
    for name in manifests.required_files(world_size=1):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{name} {content}")


def describe(
    name: CheckpointName, files: dict[str, FileEntry], *, identity: RunIdentity = IDENTITY
) -> Manifest:
    return Manifest(
        step=name.step,
        attempt=name.attempt,
        execution=name.execution,
        job_uid="uid",
        identity=identity,
        image="image",
        instruction_set="AVX2",
        threads=1,
        world_size=1,
        micro_batch_size=1,
        created_at="2026-01-01T00:00:00Z",
        files=files,
    )


@dataclass(frozen=True, slots=True)
class Writer:
    """One execution that saves wherever it is told."""

    job: JobFolder
    execution: Execution
    keep: int = 3

    def save(self, step: int, *, identity: RunIdentity = IDENTITY) -> CheckpointReference:
        return self.checkpoints.save(
            step, fill, describe=lambda name, files: describe(name, files, identity=identity)
        )

    @property
    def checkpoints(self) -> CheckpointWriter:
        return CheckpointWriter(self.job, self.execution, self.keep)

    def name(self, step: int) -> CheckpointName:
        return CheckpointName(step, self.execution.attempt, self.execution.number)

    def folder(self, step: int) -> Path:
        return self.job.checkpoints / str(self.name(step))


def begin(
    job: JobFolder, attempt: int, *, parent: CheckpointName | None = None, keep: int = 3
) -> Writer:
    """Register the next execution of `attempt`."""
    return Writer(job, register(job, attempt, parent=parent), keep)
