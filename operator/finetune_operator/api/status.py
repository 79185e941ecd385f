"""The status of a FineTuneJob: the operator's only memory.

Measured floats are strings ("2.0413", "NaN"). Everything is optional, because status grows as the
job goes on; lists are bounded, so that the object stays small however long a job lives.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from finetune_operator.api.attempts import Accounting, Attempt, CurrentAttempt, Preflight
from finetune_operator.api.conditions import ConditionStatus, ConditionType, Phase
from finetune_operator.api.fields import (
    ApiModel,
    Count,
    LongMessage,
    Message,
    Number,
    Path,
    ShortText,
    Step,
    Time,
    list_map,
)
from finetune_operator.api.spec import FixedSpec
from finetune_operator.constants import ATTEMPTS_KEPT


class Condition(ApiModel):
    """A fact about the job, in the form of metav1.Condition."""

    type: ConditionType
    """Which fact."""
    status: ConditionStatus
    """Whether it holds."""
    observed_generation: Count = 0
    """The generation of the spec that this was decided on."""
    last_transition_time: Time
    """When status last changed."""
    reason: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    """Why, in one PascalCase word."""
    message: LongMessage = ""
    """Why, in words."""


class Plan(ApiModel):
    """What preflight decided. Sizes in examples, intervals in optimizer steps, memory in GiB."""

    micro_batch_size: Count | None = None
    """Examples per device and forward pass."""
    gradient_accumulation_steps: Count | None = None
    """Forward passes of each device per optimizer step."""
    effective_batch_size: Count | None = None
    """Examples per optimizer step over all devices."""
    activation_checkpointing: ShortText | None = None
    """How many activations are recomputed instead of kept."""
    precision: ShortText | None = None
    """Format of activations and compute."""
    steps_per_epoch: Step | None = None
    """Optimizer steps in one pass over the rows."""
    total_steps: Step | None = None
    """Optimizer steps in all."""
    learning_rate: Number | None = None
    """Peak learning rate."""
    warmup_steps: Step | None = None
    """Steps in which the learning rate rises to its peak."""
    rank: Count | None = None
    """Rank of the adapter matrices."""
    alpha: Count | None = None
    """Scale of the adapter."""
    checkpoint_interval: Step | None = None
    """Optimizer steps between checkpoints."""
    trainable_parameters: Count | None = None
    """Number of weights that are trained."""
    predicted_peak_gib: Number | None = Field(None, alias="predictedPeakGiB")
    """Predicted peak memory of one GPU."""
    gpu_memory_gib: Number | None = Field(None, alias="gpuMemoryGiB")
    """Memory of the GPU that was planned for."""
    data_fingerprint: ShortText | None = None
    """Digest of data, template and tokenizer: names the packed dataset."""
    model_commit: ShortText | None = None
    """Digest of the base model."""
    reasons: Annotated[dict[str, Message], Field(max_length=32)] | None = None
    """Why each value that was Auto was chosen, by field."""


class Data(ApiModel):
    """What the dataset holds after its checks; tokens are of the rows kept for training."""

    rows: Count | None = None
    """Rows read."""
    rows_kept: Count | None = None
    """Rows used for training."""
    eval_rows: Count | None = None
    """Rows held out for evaluation."""
    dropped: Annotated[dict[str, Count], Field(max_length=32)] | None = None
    """Rows dropped, by reason."""
    tokens: Count | None = None
    """Tokens in the rows kept."""
    supervised_tokens: Count | None = None
    """Tokens that carry loss."""
    supervised_fraction: Number | None = None
    """supervisedTokens / tokens."""
    longest: Count | None = None
    """Tokens of the longest row kept."""


class Progress(ApiModel):
    """Where training stands, as rank 0 last said."""

    step: Step | None = None
    """Optimizer steps done."""
    total_steps: Step | None = None
    """Optimizer steps in all."""
    epoch: Number | None = None
    """Passes over the rows done."""
    percent: Annotated[int, Field(ge=0, le=100)] | None = None
    """Share of the steps done, in percent."""
    loss: Number | None = None
    """Training loss of the last logged step."""
    eval_loss: Number | None = None
    """Loss of the last evaluation."""
    learning_rate: Number | None = None
    """Learning rate of the last logged step."""
    grad_norm: Number | None = None
    """Global gradient norm before clipping."""
    tokens_per_second: Number | None = None
    """Tokens trained per second over all devices."""
    estimated_remaining_seconds: Count | None = None
    """Time to the last step at the present speed."""
    updated_at: Time | None = None
    """When rank 0 said so."""


class CheckpointStatus(ApiModel):
    """A verified checkpoint."""

    step: Step
    """Optimizer steps that it contains."""
    path: Path | None = None
    """Its folder below checkpoints/."""
    digest: ShortText | None = None
    """sha256 of its MANIFEST.json."""
    time: Time | None = None
    """When it was written."""


class BestCheckpoint(ApiModel):
    """The checkpoint with the lowest evaluation loss."""

    step: Step
    """Optimizer steps that it contains."""
    eval_loss: Number | None = None
    """Its evaluation loss."""


class Remedy(ApiModel):
    """A change that would help."""

    field: ShortText
    """Field of the spec."""
    change: Message
    """What to set it to."""
    why: Message | None = None
    """Why that helps."""


class Diagnosis(ApiModel):
    """What the loss curve says."""

    verdict: ShortText
    """The finding in one word."""
    message: Message | None = None
    """The finding in words."""
    remedies: Annotated[tuple[Remedy, ...], Field(max_length=8)] = ()
    """Changes that would help, best first."""


class Sample(ApiModel):
    """A greedy answer to one prompt at one step."""

    step: Step
    """Optimizer steps done; 0 is before training."""
    prompt: Message
    """What was asked."""
    answer: Message
    """What the model said."""


class OutputStatus(ApiModel):
    """Where the results are, as paths below the job's folder on the workspace."""

    adapter: Path | None = None
    """The tuned adapter with tokenizer and template."""
    merged: Path | None = None
    """The base model with the adapter merged in."""
    report: Path | None = None
    """The report."""
    loss_curve: Path | None = None
    """The loss curve as a picture."""
    samples: Annotated[tuple[Sample, ...], Field(max_length=16)] = ()
    """The newest sample answers."""


class FineTuneJobStatus(ApiModel):
    """What the operator knows and decided; written by the operator alone."""

    observed_generation: Count | None = None
    """The generation of the spec that this status is about."""
    resolved: FixedSpec | None = None
    """The spec with all defaults, as it was when the job was accepted."""
    phase: Phase | None = None
    """One word for people, derived from the conditions; more may be added."""
    conditions: Annotated[
        tuple[Condition, ...], Field(max_length=16, json_schema_extra=list_map("type"))
    ] = ()
    """The facts about the job."""
    plan: Plan | None = None
    """What preflight decided."""
    data: Data | None = None
    """What the dataset holds."""
    progress: Progress | None = None
    """Where training stands."""
    last_checkpoint: CheckpointStatus | None = None
    """The newest verified checkpoint."""
    best_checkpoint: BestCheckpoint | None = None
    """The checkpoint with the lowest evaluation loss."""
    preflight: Preflight | None = None
    """The newest preflight Job."""
    current_attempt: CurrentAttempt | None = None
    """The attempt that runs, or ran last."""
    attempts: Annotated[
        tuple[Attempt, ...],
        Field(max_length=ATTEMPTS_KEPT, json_schema_extra=list_map("number")),
    ] = ()
    """The newest attempts, oldest first."""
    failures: Count | None = None
    """Failure budget spent since its last refill."""
    disruptions: Count | None = None
    """Disruption budget spent."""
    replans: Count | None = None
    """Replan budget spent."""
    rollbacks: Count | None = None
    """Rollback budget spent."""
    active_seconds: Count | None = None
    """Time run so far, suspended time not counted."""
    accounting: Accounting | None = None
    """What the job cost."""
    diagnosis: Diagnosis | None = None
    """What the loss curve says."""
    output: OutputStatus | None = None
    """Where the results are."""
