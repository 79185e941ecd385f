"""Status records of Jobs: preflight, the current attempt, the table of attempts, what they cost."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.conditions import Outcome
from finetune_operator.api.fields import ApiModel, Count, Number, ShortText, Step, Time

ExitCode = Annotated[int, Field(ge=0, le=255)]
Ordinal = Annotated[int, Field(ge=1, le=2_147_483_647)]


class Preflight(ApiModel):
    """The newest preflight Job."""

    number: Ordinal
    """Its number; infrastructure failures are retried with the next."""
    job_name: ShortText | None = None
    """Name of the Job."""
    job_uid: ShortText | None = Field(None, alias="jobUID")
    """uid of the Job, once seen."""
    reason: ShortText | None = None
    """Why it ended."""
    finished_at: Time | None = None
    """When it ended."""


class ResumeFrom(ApiModel):
    """Which checkpoint an attempt may start from."""

    policy: Literal["Newest", "AtMost"] = "Newest"
    """The newest checkpoint, or the newest up to a step."""
    step: Step | None = None
    """With AtMost: the highest step."""
    healthy_only: bool = False
    """Leave out checkpoints that were not found healthy."""


class Overrides(ApiModel):
    """What an attempt changes against spec and plan."""

    micro_batch_size: Count | None = None
    """Smaller micro-batch after a GPU ran out of memory."""
    activation_checkpointing: ShortText | None = None
    """More checkpointing after a GPU ran out of memory."""
    learning_rate_factor: Number | None = None
    """What the learning rate is multiplied by after a rollback."""


class CurrentAttempt(ApiModel):
    """The attempt that runs, or ran last."""

    number: Ordinal
    """Its number; numbers are never used twice."""
    executions: Count | None = None
    """How often its pods were started."""
    job_name: ShortText | None = None
    """Name of its Job."""
    job_uid: ShortText | None = Field(None, alias="jobUID")
    """uid of its Job, once seen."""
    resume_from: ResumeFrom | None = None
    """Which checkpoint it may start from."""
    resumed_from_step: Step | None = None
    """The step it did start from."""
    overrides: Overrides | None = None
    """What it changes against spec and plan."""
    started_at: Time | None = None
    """When it was recorded; its Job is created after that."""


class Attempt(ApiModel):
    """A row of the attempts table."""

    number: Ordinal
    """Number of the attempt."""
    outcome: Outcome = Outcome.RUNNING
    """How it ended."""
    reason: ShortText | None = None
    """Why it ended."""
    exit_code: ExitCode | None = None
    """Exit code that decided."""
    from_step: Step | None = None
    """Step it started from."""
    to_step: Step | None = None
    """Last step it reached."""
    steps_lost: Step | None = None
    """Steps after the last checkpoint, which the next attempt does again."""
    counted: bool | None = None
    """Whether it spent the failure budget."""
    finished_at: Time | None = None
    """When it ended."""
    node: ShortText | None = None
    """Node of the pod that decided."""


class GpuSeconds(ApiModel):
    """GPU time by what became of it."""

    useful: Number | None = None
    """Spent on steps that are in the result."""
    lost: Number | None = None
    """Spent on steps that had to be done again."""
    queued: Number | None = None
    """Held while no step was made."""


class Accounting(ApiModel):
    """What the job cost."""

    gpu_seconds: GpuSeconds | None = None
    """GPU time by what became of it."""
