"""The training section of the spec: hyper-parameters, schedule, samples and sinks."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.fields import (
    ApiModel,
    AutoCount,
    AutoEpochs,
    AutoFraction,
    AutoPositiveNumber,
    NonNegativeNumber,
    PositiveNumber,
    SecretName,
    Word,
)

StepCount = Annotated[int, Field(ge=1, le=10_000_000)]


class Stage(StrEnum):
    """What kind of training this is."""

    SFT = "SFT"


class Scheduler(StrEnum):
    """How the learning rate moves over the run."""

    COSINE = "Cosine"
    LINEAR = "Linear"
    CONSTANT = "Constant"
    CONSTANT_WITH_WARMUP = "ConstantWithWarmup"


class Optimizer(StrEnum):
    """The optimizer of the adapter weights."""

    ADAMW = "AdamW"


class Precision(StrEnum):
    """The format of activations and compute."""

    AUTO = "Auto"
    BF16 = "BF16"
    FP32 = "FP32"


class ActivationCheckpointing(StrEnum):
    """How many activations are recomputed in the backward pass instead of kept."""

    AUTO = "Auto"
    NONE = "None"
    FULL = "Full"


class Samples(ApiModel):
    """Greedy answers to fixed prompts, before step 1 and at the end."""

    # All prompts travel in one environment variable, which Linux limits to 128 KiB.
    prompts: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=1024)], ...], Field(max_length=16)
    ] = ()
    """User messages to answer."""
    every_steps: StepCount | None = None
    """Further samples during the run. Not supported in this release."""
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 64
    """Longest answer in tokens."""
    temperature: NonNegativeNumber | None = None
    """Sampling temperature instead of greedy answers. Not supported in this release."""


class EarlyStopping(ApiModel):
    """When to stop before the last step."""

    patience: Annotated[int, Field(ge=1, le=1000)]
    """Evaluations without improvement."""
    min_delta: NonNegativeNumber | None = None
    """Smallest fall of the evaluation loss that counts as one."""


class Reporting(ApiModel):
    """Where experiment trackers are."""

    project: Word | None = None
    """Project or experiment name."""
    endpoint: Annotated[str, Field(max_length=1024)] | None = None
    """Address of the tracking server."""
    credentials_secret: SecretName | None = None
    """Secret with the tracker's credentials."""


class Training(ApiModel):
    """Hyper-parameters; Auto values are chosen by preflight and explained in status.plan."""

    stage: Stage = Stage.SFT
    """What kind of training this is."""
    initial_adapter: Annotated[str, Field(max_length=1024)] | None = None
    """Adapter to start from. Not supported in this release."""
    epochs: AutoEpochs | None = None
    """Passes over the rows, such as "3" or "0.5"; unset means Auto. Excludes maxSteps."""
    max_steps: StepCount | None = None
    """Optimizer steps in all. Excludes epochs."""
    global_batch_size: Annotated[int, Field(ge=1, le=65_536)] | None = None
    """Examples per optimizer step over all devices; unset means 16."""
    global_batch_tokens: Annotated[int, Field(ge=1, le=1_000_000_000)] | None = None
    """Tokens per optimizer step instead of examples. Not supported in this release."""
    micro_batch_size: AutoCount = "Auto"
    """Examples per device and forward pass; changes cost and memory, never the result's meaning."""
    learning_rate: AutoPositiveNumber = "Auto"
    """Peak learning rate, such as "2e-4"."""
    min_learning_rate_ratio: NonNegativeNumber | None = None
    """Floor of the schedule relative to the peak. Not supported in this release."""
    run_name: Word | None = None
    """Name of the run at experiment trackers. Not supported in this release."""
    scheduler: Scheduler = Scheduler.COSINE
    """How the learning rate moves over the run."""
    warmup_ratio: AutoFraction = "Auto"
    """Share of the steps in which the learning rate rises to its peak."""
    optimizer: Optimizer = Optimizer.ADAMW
    """The optimizer of the adapter weights."""
    weight_decay: NonNegativeNumber = "0"
    """Decoupled weight decay of the adapter weights."""
    max_grad_norm: PositiveNumber = "0.3"
    """Gradients are clipped to this global norm."""
    seed: Annotated[int, Field(ge=0, le=2_147_483_647)] = 42
    """Seed of data order, initialisation and dropout."""
    precision: Precision = Precision.AUTO
    """The format of activations and compute; adapter weights are always kept in fp32."""
    activation_checkpointing: ActivationCheckpointing = ActivationCheckpointing.AUTO
    """How many activations are recomputed in the backward pass instead of kept."""
    neftune_noise_alpha: NonNegativeNumber | None = None
    """Noise added to embeddings. Not supported in this release."""
    on_spike: Word | None = None
    """What to do with a step whose loss spikes. Not supported in this release."""
    logging_steps: StepCount | None = None
    """Steps between lines at experiment trackers. Not supported in this release."""
    eval_steps: StepCount | Literal["PerEpoch"] | None = None
    """Steps between evaluations during the run. Not supported in this release."""
    deterministic: bool = False
    """Bit-identical results on a GPU at some cost in speed; CPU runs always are."""
    early_stopping: EarlyStopping | None = None
    """When to stop before the last step. Not supported in this release."""
    load_best: bool | None = None
    """Hand over the best instead of the last adapter. Not supported in this release."""
    samples: Samples = Samples()
    """Greedy answers to fixed prompts, before step 1 and at the end."""
    report_to: Annotated[tuple[Word, ...], Field(max_length=3)] | None = None
    """Experiment trackers. Not supported in this release."""
    reporting: Reporting | None = None
    """Where experiment trackers are. Not supported in this release."""
