"""Rank 0's running report: what `/status` shows and the termination record will hold."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

import torch

from finetune_trainer.checkpoint.lineage import Execution
from finetune_trainer.checkpoint.resume import Start
from finetune_trainer.contract import (
    CheckpointReference,
    OutputReference,
    Progress,
    RunConfig,
    TrainerPhase,
)
from finetune_trainer.training.clock import now
from finetune_trainer.training.reports import Facts, Scratch

RECENT_STEPS: Final = 20  # whose mean duration predicts the rest
GIB: Final = 2**30


class ProgressReport:
    """Keeps the newest facts and hands each change to the launcher."""

    def __init__(self, config: RunConfig, scratch: Scratch) -> None:
        total = config.plan.total_steps if config.plan else 0
        self._scratch = scratch
        self._facts = Facts(
            progress=Progress(uid=config.job.uid, attempt=config.attempt, total_steps=total)
        )
        self._durations: deque[float] = deque(maxlen=RECENT_STEPS)

    def phase(self, phase: TrainerPhase) -> None:
        """Rank 0 now does something else."""
        self._update(phase=phase)

    def begun(self, execution: Execution, start: Start) -> None:
        """Which execution this is and what it starts from."""
        self._update(
            execution=execution.number,
            step=start.step,
            resumed_from_step=start.step if start.checkpoint else None,
            resumed_from=str(start.checkpoint) if start.checkpoint else None,
            skipped_checkpoints=start.skipped,
            last_checkpoint=start.reference,
        )

    def step(self, record: dict[str, Any], *, seconds: float) -> None:
        """A step is done; `record` is its line of the log, seconds its duration."""
        self._durations.append(seconds)
        left = record["total_steps"] - record["step"]
        names = ("step", "epoch", "loss", "learning_rate", "grad_norm", "tokens_per_second")
        self._update(
            **{name: record[name] for name in names},
            estimated_remaining_seconds=round(left * sum(self._durations) / len(self._durations)),
        )

    def checkpoint(self, reference: CheckpointReference) -> None:
        """A checkpoint is on the volume and verified."""
        self._update(last_checkpoint=reference)

    def evaluation(self, loss: float | None, *, before: float | None) -> None:
        """The newest held-out loss, and the one before step 1."""
        self._facts = self._facts.model_copy(update={"eval_loss_before": before})
        self._update(eval_loss=loss)

    def done(self, output: OutputReference) -> None:
        """Results are in place."""
        self._facts = self._facts.model_copy(update={"output": output})
        self._update(phase=TrainerPhase.DONE)

    def _update(self, **changes: Any) -> None:
        gpu = torch.cuda.is_available()
        progress = self._facts.progress.model_copy(
            update={
                **changes,
                "updated_at": now(),
                "gpu_memory_bytes": torch.cuda.memory_reserved() if gpu else None,
            }
        )
        peak = torch.cuda.max_memory_reserved() / GIB if gpu else None
        self._facts = self._facts.model_copy(update={"progress": progress, "peak_gpu_gib": peak})
        self._scratch.write_facts(self._facts)
