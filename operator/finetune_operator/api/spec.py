"""The spec of a FineTuneJob.

The class tree states what may change: everything in `FixedSpec` is fixed once the job exists and
is what the operator resolves into `status.resolved`; what `FineTuneJobSpec` adds is read afresh
from the spec on every pass. The immutability rule of the CRD is made from this split.

Fields that a later release implements are present already, without a default, and refused by the
rules made from `rules.NOT_YET`. Unset either/or groups (epochs or maxSteps, workspace) and what a
platform team may preset have no default here either: the operator resolves them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from finetune_operator.api.compute import Compute, Output, Recovery, Workspace
from finetune_operator.api.fields import (
    SUBDOMAIN,
    ApiModel,
    AutoCount,
    Fraction,
    ObjectName,
    PositiveNumber,
    Seconds,
    SecretName,
    Word,
    source,
)
from finetune_operator.api.training import Training

_CLAIM = f"pvc://{SUBDOMAIN}/[^/].*"
_FILE = "file:///[^/].*"
_CONFIG_MAP = f"configmap://{SUBDOMAIN}/[-._A-Za-z0-9]+"

ModelSource = Annotated[
    str,
    source(
        pattern=f"^({_CLAIM}|{_FILE})$",
        must="must be pvc://<claim>/<path> or file:///<path>: "
        "other sources are not supported in this release",
    ),
]
DatasetSource = Annotated[
    str,
    source(
        pattern=f"^({_CLAIM}|{_CONFIG_MAP}|{_FILE})$",
        must="must be pvc://<claim>/<path>, configmap://<name>/<key> or file:///<path>: "
        "other sources are not supported in this release",
    ),
]


class DatasetFormat(StrEnum):
    """How a row spells a conversation."""

    AUTO = "Auto"
    MESSAGES = "Messages"


class Overlength(StrEnum):
    """What happens to rows longer than maxLength."""

    DROP = "Drop"
    TRUNCATE = "Truncate"
    FAIL = "Fail"


class TrainOn(StrEnum):
    """Which tokens carry loss."""

    COMPLETIONS = "Completions"


class Quantization(StrEnum):
    """How the frozen base weights are stored."""

    NF4 = "NF4"
    NONE = "None"


class Model(ApiModel):
    """The base model."""

    source: ModelSource
    """Folder in Hugging Face layout: pvc://<claim>/<path>, or file:///<path> inside the pod."""
    credentials_secret: SecretName | None = None
    """Secret with the token for a gated source. Not supported in this release."""
    chat_template: Annotated[str, Field(max_length=16_384)] | None = None
    """Jinja chat template that replaces the model's own. Not supported in this release."""
    trust_remote_code: bool | None = None
    """Run Python code that the model ships. Only false is supported in this release."""


class MixturePart(ApiModel):
    """One source of a mixed dataset."""

    source: Annotated[str, Field(min_length=1, max_length=1024)]
    """Where the rows come from."""
    weight: PositiveNumber
    """Share of this source relative to the others."""


class Dataset(ApiModel):
    """The examples to learn from."""

    source: DatasetSource
    """JSON lines: pvc://<claim>/<file>, configmap://<name>/<key> or file:///<path>."""
    split: Word | None = None
    """Split of a hub dataset. Not supported in this release."""
    mixture: Annotated[tuple[MixturePart, ...], Field(max_length=16)] | None = None
    """Further sources mixed in by weight. Not supported in this release."""
    eval_source: DatasetSource | None = None
    """Held-out examples; without it evalFraction of the rows is held out."""
    eval_fraction: Fraction = "0.05"
    """Share of the rows held out when evalSource is unset; 0 turns evaluation off."""
    format: DatasetFormat = DatasetFormat.AUTO
    """How a row spells a conversation; Auto recognises it."""
    columns: Annotated[dict[str, Word], Field(max_length=16)] | None = None
    """Names of columns that differ from the format's. Not supported in this release."""
    roles: Annotated[dict[str, Word], Field(max_length=16)] | None = None
    """Names of roles that differ from the format's. Not supported in this release."""
    credentials_secret: SecretName | None = None
    """Secret with the credentials for the source. Not supported in this release."""
    max_length: Annotated[int, Field(ge=16, le=131_072)] = 2048
    """Longest example in tokens, chat template included."""
    overlength: Overlength = Overlength.DROP
    """What happens to longer examples."""
    packing: bool | None = None
    """Lay several examples into one sequence. Only false is supported in this release."""
    train_on: TrainOn = TrainOn.COMPLETIONS
    """Which tokens carry loss."""


class Adapter(ApiModel):
    """The LoRA adapter and the precision of the frozen base below it."""

    quantization: Quantization = Quantization.NF4
    """How the frozen base weights are stored."""
    double_quantization: bool = True
    """Quantise the quantisation constants as well; saves about 0.4 bit per weight."""
    rank: AutoCount = "Auto"
    """Rank of the adapter matrices."""
    alpha: AutoCount = "Auto"
    """Scale of the adapter: its output is multiplied by alpha / rank."""
    dropout: Fraction = "0"
    """Dropout before the adapter."""
    target_modules: Annotated[
        tuple[Annotated[str, Field(min_length=1, max_length=128)], ...],
        Field(min_length=1, max_length=64),
    ] = ("all-linear",)
    """Names of the adapted modules, or all-linear for every linear layer but the head."""


class Checkpoint(ApiModel):
    """When state is saved, and how much of it is kept."""

    interval: AutoCount = "Auto"
    """Optimizer steps between checkpoints."""
    keep: Annotated[int, Field(ge=1, le=100)] = 3
    """How many of the newest valid checkpoints are kept."""


class FixedSpec(ApiModel):
    """What is fixed once the job exists; resolved with all defaults in status.resolved."""

    profile: ObjectName | None = None
    """Name of the platform team's profile. Not supported in this release."""
    model: Model
    """The base model."""
    dataset: Dataset
    """The examples to learn from."""
    adapter: Adapter = Adapter()
    """The LoRA adapter and the precision of the frozen base below it."""
    training: Training = Training()
    """Hyper-parameters; Auto values are chosen by preflight and explained in status.plan."""
    checkpoint: Checkpoint = Checkpoint()
    """When state is saved, and how much of it is kept."""
    compute: Compute = Compute()
    """Nodes, devices and resources of the pods."""
    workspace: Workspace | None = None
    """Volume for data, checkpoints and results; unset: a new claim that outlives the job."""
    output: Output = Output()
    """What is made of the finished adapter."""


class FineTuneJobSpec(FixedSpec):
    """One fine-tuning run: base model, dataset, and how to train."""

    suspend: bool | None = None
    """Hold the job and release its devices. Only false is supported in this release."""
    recovery: Recovery = Recovery()
    """Budgets and delays of new attempts, each kind of failure with its own."""
    start_deadline_seconds: Annotated[int, Field(ge=1, le=604_800)] = 1800
    """Longest time from admission until every rank has joined."""
    active_deadline_seconds: Annotated[int, Field(ge=1, le=31_536_000)] | None = None
    """Longest time to run, suspended time not counted. Not supported in this release."""
    ttl_seconds_after_finished: Seconds | None = None
    """When the Jobs of a finished run are deleted. Not supported in this release."""
