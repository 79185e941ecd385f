"""Turns a wish with Auto values and the counts of the data into the numbers of a run.

Pure arithmetic on the contract's types: no torch, no files. The operator puts the result into
status and every attempt trains by it, so a number is computed here and nowhere else.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, TypeVar

from finetune_trainer.contract import ExitCode, Plan, Problem, RunConfig, TrainingSpec
from finetune_trainer.errors import TrainerError
from finetune_trainer.planning import defaults

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class Measured:
    """What preflight found: examples trained on, tokens of the longest, and the two identities."""

    rows_kept: int
    longest: int
    data_fingerprint: str
    model_commit: str


@dataclass(frozen=True, slots=True)
class Schedule:
    """Optimizer steps: of one epoch (a short last step counts), of the run, of its warmup."""

    steps_per_epoch: int
    total_steps: int
    warmup_steps: int


@dataclass(frozen=True, slots=True)
class _Choices:
    """Takes the user's value, else the table's, and remembers why."""

    reasons: dict[str, str] = field(default_factory=dict)

    def pick(self, name: str, wish: Value | Literal["Auto"] | None, auto: Value, why: str) -> Value:
        if wish is None or wish == "Auto":
            self.reasons[name] = why
            return auto
        self.reasons[name] = "set in the spec"
        return wish


def make_plan(config: RunConfig, measured: Measured) -> Plan:
    """Resolve every Auto value; `Plan.reasons` says why each field has its value.

    Memory is not predicted: predicted_peak_gib stays unset. measured.rows_kept must be at least 1.
    Raises TrainerError (10, BadConfig) for a run of more than `defaults.MAX_STEPS` steps.
    """
    training, adapter, choices = config.training, config.adapter, _Choices()
    rows = defaults.row_class(measured.rows_kept)
    schedule = make_schedule(training, rows_kept=measured.rows_kept, choices=choices)
    rank = choices.pick("rank", adapter.rank, rows.rank, rows.why_rank)
    micro_batch_size = _micro_batch_size(config, longest=measured.longest, choices=choices)
    ranks, examples = config.topology.world_size, training.global_batch_size
    choices.reasons["gradientAccumulationSteps"] = (
        f"{examples} examples a step / ({micro_batch_size} at once x {ranks} processes), rounded up"
    )
    interval = min(
        schedule.total_steps // defaults.CHECKPOINTS_PER_RUN, defaults.MAX_CHECKPOINT_INTERVAL
    )
    return Plan(
        micro_batch_size=micro_batch_size,
        gradient_accumulation_steps=math.ceil(examples / (micro_batch_size * ranks)),
        effective_batch_size=examples,
        activation_checkpointing=_activation_checkpointing(config, choices),
        precision=_precision(config, choices),
        steps_per_epoch=schedule.steps_per_epoch,
        total_steps=schedule.total_steps,
        learning_rate=choices.pick(
            "learningRate", training.learning_rate, rows.learning_rate, rows.why_learning_rate
        ),
        warmup_steps=schedule.warmup_steps,
        rank=rank,
        alpha=choices.pick(
            "alpha", adapter.alpha, rank * rows.alpha_ratio, f"{rows.alpha_ratio} x rank"
        ),
        checkpoint_interval=choices.pick(
            "checkpointInterval",
            config.checkpoint.interval,
            max(1, interval),
            f"a tenth of the run, at most {defaults.MAX_CHECKPOINT_INTERVAL} steps",
        ),
        data_fingerprint=measured.data_fingerprint,
        model_commit=measured.model_commit,
        reasons=choices.reasons,
    )


def make_schedule(training: TrainingSpec, *, rows_kept: int, choices: _Choices) -> Schedule:
    """steps_per_epoch = ceil(rows / batch); maxSteps overrides the number that epochs give.

    Raises TrainerError like `make_plan`.
    """
    batch = training.global_batch_size
    steps_per_epoch = math.ceil(rows_kept / batch)
    choices.reasons["stepsPerEpoch"] = f"{rows_kept} rows / {batch} a step, rounded up"
    if training.max_steps is not None:
        total = training.max_steps
        choices.reasons["totalSteps"] = "training.maxSteps"
    else:
        rows = defaults.row_class(rows_kept)
        epochs = choices.pick("epochs", training.epochs, float(rows.epochs), rows.why_epochs)
        total = _ceil(steps_per_epoch * epochs)
        choices.reasons["totalSteps"] = f"{steps_per_epoch} steps an epoch x {epochs:g} epochs"
        if total > defaults.MAX_STEPS:
            raise _too_long(choices.reasons["totalSteps"])
    ratio = choices.pick(
        "warmupRatio", training.warmup_ratio, defaults.WARMUP_RATIO, "S1, S4: 0.03"
    )
    warmup = 0 if training.scheduler == "Constant" else min(total, _ceil(ratio * total))
    choices.reasons["warmupSteps"] = (
        "the Constant schedule has none" if training.scheduler == "Constant"
        else f"{ratio:g} x {total} steps, rounded up"
    )  # fmt: skip
    return Schedule(steps_per_epoch, total, warmup)


def _too_long(product: str) -> TrainerError:
    message = (
        f"training.epochs: {product} are more than {defaults.MAX_STEPS:,} optimizer steps; "
        "fewer epochs, a larger globalBatchSize or maxSteps give fewer"
    )
    problem = Problem(code="bad_config", severity="error", message=message)
    return TrainerError(ExitCode.BAD_CONFIG, "BadConfig", message, problems=(problem,))


def lint(config: RunConfig, plan: Plan) -> list[Problem]:
    """Warnings about values the user set: each names the symptom to expect."""
    problems = list(_unusual_values(config))
    if plan.total_steps < defaults.FEW_STEPS:
        message = (
            f"{plan.total_steps} optimizer steps in all, fewer than {defaults.FEW_STEPS}: the loss "
            "may hardly move; more epochs, more rows or a smaller globalBatchSize give more"
        )
        problems.append(Problem(code="too_few_steps", severity="warning", message=message))
    share = math.ceil(config.training.global_batch_size / config.topology.world_size)
    if plan.micro_batch_size > share:
        message = (
            f"training.microBatchSize {plan.micro_batch_size} exceeds a process's share of the "
            f"global batch, {share} examples: some processes get none in a step"
        )
        problems.append(Problem(code="unusual_value", severity="warning", message=message))
    return problems


def _unusual_values(config: RunConfig) -> Iterator[Problem]:
    training, adapter = config.training, config.adapter
    given: dict[str, float | str | None] = {
        "training.learningRate": training.learning_rate,
        "training.warmupRatio": training.warmup_ratio,
        "training.epochs": training.epochs,
        "training.globalBatchSize": training.global_batch_size,
        "training.maxGradNorm": training.max_grad_norm,
        "adapter.rank": adapter.rank,
        "adapter.dropout": adapter.dropout,
    }
    for name, value in given.items():
        if value is None or isinstance(value, str):
            continue
        usual = defaults.RANGES[name]
        if usual.low <= value <= usual.high:
            continue
        side, symptom = ("below", usual.below) if value < usual.low else ("above", usual.above)
        message = f"{name} {value:g} is {side} the usual {usual.low:g} to {usual.high:g}: {symptom}"
        yield Problem(code="unusual_value", severity="warning", message=message)


def _micro_batch_size(config: RunConfig, *, longest: int, choices: _Choices) -> int:
    """Auto: what the smallest usual device holds, never beyond a process's share of a step."""
    share = math.ceil(config.training.global_batch_size / config.topology.world_size)
    if longest > defaults.LONG_EXAMPLE:
        auto, why = 1, f"the longest example has {longest} tokens"
    elif config.topology.gpus_per_node:
        auto, why = (
            defaults.MICRO_BATCH_GPU,
            "S2, S4: 1-2 fit a GPU of 16 GB; memory is not planned",
        )
    else:
        auto, why = defaults.MICRO_BATCH_CPU, "a CPU gains little from more at once"
    if auto > share:
        auto, why = share, f"a process's share of {config.training.global_batch_size} examples"
    return choices.pick("microBatchSize", config.training.micro_batch_size, auto, why)


def _activation_checkpointing(config: RunConfig, choices: _Choices) -> Literal["None", "Full"]:
    gpu = config.topology.gpus_per_node > 0
    return choices.pick(
        "activationCheckpointing",
        config.training.activation_checkpointing,
        "Full" if gpu else "None",
        "S3: 7B beyond 1,024 tokens runs out of 24 GB without it"
        if gpu
        else "host memory is plentiful; S1: it costs a third more compute",
    )


def _precision(config: RunConfig, choices: _Choices) -> Literal["BF16", "FP32"]:
    gpu = config.topology.gpus_per_node > 0
    why = "compute capability 8.0 or newer is assumed" if gpu else "halves the memory of FP32"
    return choices.pick("precision", config.training.precision, "BF16", why)


def _ceil(value: float) -> int:
    """Round up, but not for the last bit of a product such as 0.07 x 100."""
    return math.ceil(round(value, 9))
