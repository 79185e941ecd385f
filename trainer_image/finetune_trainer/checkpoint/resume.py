"""Which checkpoint an execution starts from, decided once by rank 0.

The newest visible folder whose manifest verifies, else the next older, with the reason each one was
skipped. A checkpoint of another run ends the attempt: continuing from it would give an adapter that
no configuration describes.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.checkpoint import manifest as manifests
from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.lineage import CheckpointName, visible
from finetune_trainer.checkpoint.registry import list_checkpoints, read_executions
from finetune_trainer.checkpoint.writer import Health, read_health
from finetune_trainer.contract import (
    CheckpointReference,
    ExitCode,
    ResumeFrom,
    ResumePolicy,
    RunIdentity,
)
from finetune_trainer.errors import TrainerError


@dataclass(frozen=True, slots=True)
class Start:
    """Where an execution begins. skipped = "folder: why" of each newer one that was refused."""

    checkpoint: CheckpointName | None
    reference: CheckpointReference | None
    skipped: tuple[str, ...]

    @property
    def step(self) -> int:
        """Optimizer steps already done."""
        return 0 if self.checkpoint is None else self.checkpoint.step


def choose_start(
    job: JobFolder,
    identity: RunIdentity,
    *,
    resume_from: ResumeFrom,
    known: CheckpointReference | None,
) -> Start:
    """The checkpoint to start from, or step 0 when there is none.

    Raises TrainerError 50 when `known`, which status has seen, or another one should be there and
    none verifies, and 51 when the newest that verifies belongs to a run of another identity.
    """
    names = visible(read_executions(job), list_checkpoints(job))
    allowed = [name for name in names if _allowed(job.checkpoints / str(name), name, resume_from)]
    skipped: list[str] = []
    for name in allowed:
        folder = job.checkpoints / str(name)
        problems = manifests.verify(folder)
        if not problems:
            _require_same_run(folder, identity)
            if gone := _gone(known, names, rule=resume_from, start=name):
                skipped.insert(0, gone)
            return Start(name, manifests.reference(folder), tuple(skipped))
        skipped.append(f"{name}: {'; '.join(problems[:3])}")
    if known is not None and (skipped or resume_from.policy is ResumePolicy.NEWEST):
        raise _none_verifies(known, skipped)
    return Start(None, None, tuple(skipped))


def _allowed(folder: Path, name: CheckpointName, rule: ResumeFrom) -> bool:
    if rule.policy is ResumePolicy.AT_MOST and rule.step is not None and name.step > rule.step:
        return False
    return not rule.healthy_only or read_health(folder) is Health.HEALTHY


def _gone(
    known: CheckpointReference | None,
    names: list[CheckpointName],
    *,
    rule: ResumeFrom,
    start: CheckpointName,
) -> str | None:
    """What to say of a newer checkpoint that status knows and the volume has lost."""
    if known is None or rule.policy is not ResumePolicy.NEWEST or rule.healthy_only:
        return None
    if known.step <= start.step or known.path in map(str, names):
        return None
    return f"{known.path}: no longer on the volume"


def _require_same_run(folder: Path, identity: RunIdentity) -> None:
    differences = manifests.identity_differences(identity, manifests.read(folder).identity)
    if differences:
        raise TrainerError(
            ExitCode.FOREIGN_CHECKPOINT,
            "ForeignCheckpoint",
            f"{folder.name} was made by another run; it differs in {'; '.join(differences)}",
        )


def _none_verifies(known: CheckpointReference, skipped: list[str]) -> TrainerError:
    found = "; ".join(skipped) if skipped else "no checkpoint of this run is on the volume"
    return TrainerError(
        ExitCode.NO_CHECKPOINT_VERIFIES,
        "NoCheckpointVerifies",
        f"step {known.step} ({known.path}) was saved, but none can be resumed from: {found}",
    )
