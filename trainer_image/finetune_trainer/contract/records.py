"""What comes back from a pod: progress while it runs, one record when it ends."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_trainer.contract.names import MAX_SAMPLES, TERMINATION_LIMIT_BYTES, TrainerPhase
from finetune_trainer.contract.run import CheckpointReference, Plan
from finetune_trainer.contract.shortening import compact, fit
from finetune_trainer.contract.wire import Count, FloatString, LenientWire, Step


class Problem(LenientWire):
    """One finding of preflight. `rows` are 1-based line numbers of the source file."""

    code: str
    severity: Literal["error", "warning"]
    message: str
    rows: tuple[int, ...] = ()
    count: int = 0


class DataSummary(LenientWire):
    """What the data holds after checks; token counts are of the rows kept for training."""

    rows: Count = 0
    rows_kept: Count = 0
    eval_rows: Count = 0
    dropped: dict[str, Count] = Field(default_factory=dict, max_length=32)
    tokens: Count = 0
    supervised_tokens: Count = 0
    supervised_fraction: FloatString | None = None
    longest: Count = 0


class PreflightReport(LenientWire):
    """The whole of preflight.json. `exit_code` names the kind of the first error."""

    ok: bool
    exit_code: int = 0
    problems: tuple[Problem, ...] = ()
    data: DataSummary = DataSummary()
    plan: Plan | None = None
    total_steps: int | None = None
    steps_per_epoch: int | None = None
    effective_batch_size: int | None = None


class Sample(LenientWire):
    """A greedy answer to one prompt at one step (0 = before training)."""

    step: Step
    prompt: str
    answer: str


class OutputReference(LenientWire):
    """Results, as paths below the job's folder."""

    adapter: str | None = None
    merged: str | None = None
    report: str | None = None
    loss_curve: str | None = None
    samples: Annotated[tuple[Sample, ...], Field(max_length=MAX_SAMPLES)] = ()


class Termination(LenientWire):
    """The record on /dev/termination-log and in attempts/<n>/termination.json.

    Fields are ordered by importance. Preflight fills plan, data and problems.
    """

    code: int = Field(ge=0, le=255)
    reason: str
    message: str = ""
    attempt: int | None = None
    execution: Count | None = None
    step: Step | None = None
    total_steps: Step | None = None
    last_checkpoint: CheckpointReference | None = None
    resumed_from_step: Step | None = None
    steps_lost: Step | None = None
    loss: FloatString | None = None
    eval_loss: FloatString | None = None
    eval_loss_before: FloatString | None = None
    peak_gpu_gib: FloatString | None = Field(None, alias="peakGpuGiB")
    predicted_gpu_gib: FloatString | None = Field(None, alias="predictedGpuGiB")
    diagnosis: str | None = None
    plan: Plan | None = None
    data: DataSummary | None = None
    output: OutputReference | None = None
    problems: tuple[Problem, ...] = ()
    truncated: bool = False

    def to_log(self, *, limit: int = TERMINATION_LIMIT_BYTES) -> str:
        """JSON of at most `limit` bytes: samples go first; code, message, plan and data stay."""
        core = {"code": self.code, "reason": self.reason, "truncated": True}
        return fit(self.to_dict(), limit=limit) or compact(core)


class Progress(LenientWire):
    """Rank 0's `/status`. Steps are optimizer steps, rates per second, times RFC 3339 UTC."""

    uid: str
    attempt: int
    execution: Count = 1
    phase: TrainerPhase = TrainerPhase.START
    step: Step = 0
    total_steps: Step = 0
    epoch: FloatString | None = None
    loss: FloatString | None = None
    eval_loss: FloatString | None = None
    learning_rate: FloatString | None = None
    grad_norm: FloatString | None = None
    tokens_per_second: FloatString | None = None
    gpu_memory_bytes: int | None = None  # reserved on rank 0
    estimated_remaining_seconds: Count | None = None
    resumed_from_step: Step | None = None
    resumed_from: str | None = None  # folder
    skipped_checkpoints: tuple[str, ...] = ()  # "folder: why"
    last_checkpoint: CheckpointReference | None = None
    previous: Termination | None = None  # what the attempt before this one left on the volume
    updated_at: str = ""
