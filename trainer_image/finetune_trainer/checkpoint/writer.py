"""Writing checkpoints: nothing half-written is ever visible, nothing that is needed is removed.

A folder is filled under a temporary name, every file flushed and hashed, the manifest written last,
and only then renamed. Whoever is killed in between leaves a `.tmp-` folder that no reader looks at.
Only rank 0 writes.
"""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from finetune_trainer.checkpoint import manifest as manifests
from finetune_trainer.checkpoint.layout import (
    HEALTH_SUFFIX,
    TEMPORARY_PREFIX,
    JobFolder,
    sync,
    write_durably,
)
from finetune_trainer.checkpoint.lineage import CheckpointName, Execution, visible
from finetune_trainer.checkpoint.registry import (
    list_checkpoints,
    read_executions,
    require_newest,
)
from finetune_trainer.contract import CheckpointReference, FileEntry, Manifest


class Health(StrEnum):
    """What later steps said about a checkpoint."""

    PENDING = "pending"
    HEALTHY = "healthy"


def read_health(checkpoint: Path) -> Health:
    """The health of a checkpoint folder; one without a file has not been seen to be healthy."""
    try:
        text = checkpoint.with_name(checkpoint.name + HEALTH_SUFFIX).read_text(encoding="utf-8")
    except FileNotFoundError:
        return Health.PENDING
    return Health.HEALTHY if text.strip() == Health.HEALTHY else Health.PENDING


def write_health(checkpoint: Path, health: Health) -> None:
    """Set the health of a checkpoint folder."""
    write_durably(checkpoint.with_name(checkpoint.name + HEALTH_SUFFIX), f"{health}\n")


@dataclass(frozen=True, slots=True)
class CheckpointWriter:
    """Writes, names and rotates the checkpoints of one execution. keep = newest ones that stay."""

    job: JobFolder
    execution: Execution
    keep: int

    def save(
        self,
        step: int,
        fill: Callable[[Path], None],
        *,
        describe: Callable[[CheckpointName, dict[str, FileEntry]], Manifest],
    ) -> CheckpointReference:
        """Write one checkpoint: `fill` puts files into a folder, `describe` makes the manifest.

        Raises OSError when the volume refuses, TrainerError (20, Superseded) when a newer
        execution has taken over.
        """
        name = CheckpointName(step, self.execution.attempt, self.execution.number)
        self.job.checkpoints.mkdir(parents=True, exist_ok=True)
        temporary = self.job.checkpoints / f"{TEMPORARY_PREFIX}{name}-{uuid.uuid4().hex[:8]}"
        temporary.mkdir()
        try:
            fill(temporary)
            manifests.seal(temporary, describe(name, manifests.describe_files(temporary)))
            final = self.job.checkpoints / str(name)
            temporary.rename(final)
        except Exception:
            shutil.rmtree(temporary, ignore_errors=True)  # a full disk needs the space back
            require_newest(
                self.job, self.execution
            )  # whoever replaced us clears away what we are writing
            raise
        sync(self.job.checkpoints)
        write_health(final, Health.PENDING)
        write_durably(self.job.latest, f"{name}\n")
        self.rotate()
        return manifests.reference(final)

    def rotate(self) -> None:
        """Remove what nobody will resume from.

        The victims are chosen before asking who is newest: a writer that was superseded in between
        stops, and one that is superseded afterwards chose when its newest ones were still the run's
        newest, which `removable` spares.
        """
        folders = list_checkpoints(self.job)
        executions = read_executions(self.job)
        mine = visible(executions, folders)
        healthy = [
            name for name in mine if read_health(self.job.checkpoints / str(name)) is Health.HEALTHY
        ]
        victims = removable(mine, healthy=healthy, keep=self.keep)
        require_newest(self.job, self.execution)
        for name in victims:
            remove(self.job.checkpoints / str(name))

    def discard_leftovers(self) -> None:
        """Remove what earlier executions left that no reader will ever accept.

        Listed before asking who is newest: what a newer execution writes is no leftover. Raises
        TrainerError (20, Superseded) when there is one.
        """
        folders = list_checkpoints(self.job)
        temporary = list(self.job.checkpoints.glob(f"{TEMPORARY_PREFIX}*"))
        seen = set(visible(read_executions(self.job), folders))
        require_newest(self.job, self.execution)
        for name in folders:
            if name not in seen:
                remove(self.job.checkpoints / str(name))
        for path in temporary:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(
                missing_ok=True
            )


def removable(
    newest_first: list[CheckpointName], *, healthy: list[CheckpointName], keep: int
) -> list[CheckpointName]:
    """The checkpoints that rotation may remove: all but the newest `keep` and the newest healthy.

    The newest valid one is among the newest `keep` (keep >= 1): the writer has just made it. The
    best one is the last: evaluation after step 0 happens at the end only.
    """
    kept = set(newest_first[:keep]) | set(healthy[:1])
    return [name for name in newest_first if name not in kept]


def remove(checkpoint: Path) -> None:
    """Delete a checkpoint. Renamed first, so that a reader never finds it half gone."""
    doomed = checkpoint.with_name(f"{TEMPORARY_PREFIX}{checkpoint.name}-removed")
    checkpoint.rename(doomed)
    checkpoint.with_name(checkpoint.name + HEALTH_SUFFIX).unlink(missing_ok=True)
    shutil.rmtree(doomed, ignore_errors=True)
