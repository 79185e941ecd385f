"""What operator and trainer say to each other; nothing else crosses.

The operator hands a pod one `RunConfig` (environment variable `RUN_CONFIG_VARIABLE`); the pod
answers with `Progress` on rank 0's `/status` and with one `Termination` on `/dev/termination-log`.
The checkpoint `Manifest` lies on the volume and is written and read by the trainer alone.

JSON is camelCase, Python snake_case. Floats that the operator copies into a custom resource's
status travel as strings (`FloatString`): JSON has no NaN and the API server rounds floats.
This module imports pydantic and the standard library only: the operator image has no torch.
"""

from __future__ import annotations

import json
import math
from enum import IntEnum, StrEnum
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel

RUN_CONFIG_VARIABLE: Final = "FINETUNE_RUN_CONFIG"
TERMINATION_LOG_VARIABLE: Final = "FINETUNE_TERMINATION_LOG"  # default /dev/termination-log
TERMINATION_LIMIT_BYTES: Final = 4000  # the kubelet keeps the last 4096 bytes: stay below
STATUS_PORT: Final = 9400
STATUS_PORT_VARIABLE: Final = "FINETUNE_STATUS_PORT"  # for laptops, where 9400 may be taken
RENDEZVOUS_PORT: Final = 29500
WORKSPACE_MOUNT: Final = "/workspace"
SOURCES_MOUNT: Final = "/mnt/sources"  # claims in pvc/<claim>, config maps in configmap/<name>
MAX_PROBLEM_ROWS: Final = 5  # row numbers per problem that fit a termination record
MAX_SAMPLES: Final = 16  # the newest ones, in records and status; samples.jsonl has all


class ExitCode(IntEnum):
    """Exit codes of the launcher, PID 1 of every pod (design section 6)."""

    OK = 0
    BAD_CONFIG = 10
    DATA_UNREADABLE = 11
    NOTHING_TO_LEARN = 12
    TOKENIZER = 13
    MODEL = 14
    INFRASTRUCTURE = 20
    PEER_LOST = 21
    GPU_FAULT = 22
    HANG = 23
    GPU_OUT_OF_MEMORY = 30
    HOST_OUT_OF_MEMORY = 31
    DISK_FULL = 32
    NOT_FINITE = 40
    DIVERGED = 41
    NO_CHECKPOINT_VERIFIES = 50
    FOREIGN_CHECKPOINT = 51
    STOPPED_SAVED = 75
    STOPPED_NOTHING_NEW = 76


class ResumePolicy(StrEnum):
    """Which checkpoint an attempt may start from."""

    NEWEST = "Newest"
    AT_MOST = "AtMost"


class TrainerPhase(StrEnum):
    """What rank 0 is doing; each phase has its own hang limit."""

    START = "Start"
    LOAD = "Load"
    TRAIN = "Train"
    EVALUATE = "Evaluate"
    SAMPLE = "Sample"
    SAVE = "Save"
    DONE = "Done"


def _format_float(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return f"{value:.6g}"


def _read_float(value: Any) -> float:
    try:
        return float(value)
    except (TypeError, OverflowError) as error:  # pydantic turns ValueError alone into its own
        raise ValueError(f"not a number: {error}") from error


FloatString = Annotated[
    float,
    BeforeValidator(_read_float),
    PlainSerializer(_format_float, return_type=str),
]
"""A float that travels as a string with six significant digits ("2.0413", "NaN"): for reading."""

ExactFloatString = Annotated[
    float,
    BeforeValidator(_read_float),
    PlainSerializer(repr, return_type=str),
]
"""A float that travels as the shortest string that reads back to the same bits: for computing."""

# The bounds of the custom resource's status: a record beyond them is malformed, and could not be
# written down.
Step = Annotated[int, Field(ge=0, le=2_147_483_647)]
Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class Wire(BaseModel):
    """Base of everything that crosses: camelCase JSON, immutable, unknown fields refused."""

    model_config = ConfigDict(
        alias_generator=to_camel, populate_by_name=True, extra="forbid", frozen=True
    )

    def to_json(self, *, indent: int | None = None) -> str:
        """JSON by alias, unset (None) members left out."""
        return self.model_dump_json(by_alias=True, exclude_none=True, indent=indent)

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready mapping by alias, unset (None) members left out."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Parse; raises pydantic.ValidationError naming each wrong field."""
        return cls.model_validate_json(text)


class LenientWire(Wire):
    """Records read by a possibly older or newer peer: unknown members are ignored."""

    model_config = ConfigDict(extra="ignore")


# --- RunConfig: the resolved wish -----------------------------------------------------------------


class ModelSpec(Wire):
    """The base model. `source` is pvc://claim/path or file:///path of a folder in HF layout."""

    source: str


class DatasetSpec(Wire):
    """The examples. Lengths are in tokens of the model's tokenizer, template included."""

    source: str
    eval_source: str | None = None
    eval_fraction: float = Field(0.05, ge=0, lt=1)
    format: Literal["Auto", "Messages"] = "Auto"
    max_length: int = Field(2048, ge=16)
    overlength: Literal["Drop", "Truncate", "Fail"] = "Drop"
    train_on: Literal["Completions"] = "Completions"


class AdapterSpec(Wire):
    """LoRA over a frozen, quantised base."""

    quantization: Literal["NF4", "None"] = "NF4"
    double_quantization: bool = True
    rank: int | Literal["Auto"] = "Auto"
    alpha: int | Literal["Auto"] = "Auto"
    dropout: float = Field(0.0, ge=0, lt=1)
    target_modules: tuple[str, ...] = ("all-linear",)


class SamplesSpec(Wire):
    """Greedy generations before step 1 and at the end."""

    prompts: tuple[str, ...] = ()
    max_new_tokens: int = Field(64, ge=1, le=1024)


class TrainingSpec(Wire):
    """Hyper-parameters. Batch sizes count examples; at most one of epochs and max_steps is set."""

    stage: Literal["SFT"] = "SFT"
    epochs: float | None = Field(None, gt=0)
    max_steps: int | None = Field(None, ge=1)
    global_batch_size: int = Field(16, ge=1)
    micro_batch_size: int | Literal["Auto"] = "Auto"
    learning_rate: float | Literal["Auto"] = "Auto"
    scheduler: Literal["Cosine", "Linear", "Constant", "ConstantWithWarmup"] = "Cosine"
    warmup_ratio: float | Literal["Auto"] = "Auto"
    optimizer: Literal["AdamW"] = "AdamW"
    weight_decay: float = Field(0.0, ge=0)
    max_grad_norm: float = Field(0.3, gt=0)
    seed: int = 42
    precision: Literal["Auto", "BF16", "FP32"] = "Auto"
    activation_checkpointing: Literal["Auto", "None", "Full"] = "Auto"
    deterministic: bool = False
    samples: SamplesSpec = SamplesSpec()


class CheckpointSpec(Wire):
    """`interval` in optimizer steps; `keep` newest valid ones survive rotation."""

    interval: int | Literal["Auto"] = "Auto"
    keep: int = Field(3, ge=1)


class JobIdentity(Wire):
    """Which FineTuneJob this is."""

    namespace: str
    name: str
    uid: str

    @property
    def folder(self) -> str:
        """The job's folder on the volume: `<namespace>-<name>-<first 8 of uid>`."""
        return f"{self.namespace}-{self.name}-{self.uid[:8]}"


class Topology(Wire):
    """The processes of an attempt. world size = nodes x processes_per_node."""

    nodes: int = Field(1, ge=1)
    processes_per_node: int = Field(1, ge=1)
    gpus_per_node: int = Field(0, ge=0)
    rendezvous_host: str = "127.0.0.1"
    rendezvous_port: int = RENDEZVOUS_PORT

    @property
    def world_size(self) -> int:
        """Number of ranks the run must have; the trainer refuses any other."""
        return self.nodes * self.processes_per_node


class Plan(LenientWire):
    """Everything preflight decided. Sizes in examples, intervals in optimizer steps, memory in GiB.

    effective_batch_size = the global batch in examples; an optimizer step is
    ceil(effective / micro_batch_size) micro-batches spread over all ranks.
    """

    micro_batch_size: Count = Field(ge=1)
    gradient_accumulation_steps: Count = Field(ge=1)
    effective_batch_size: Count = Field(ge=1)
    activation_checkpointing: Literal["None", "Full"]
    precision: Literal["BF16", "FP32"]
    steps_per_epoch: Step = Field(ge=1)
    total_steps: Step = Field(ge=1)
    learning_rate: ExactFloatString
    warmup_steps: Step
    rank: Count = Field(ge=1)
    alpha: Count = Field(ge=1)
    checkpoint_interval: Step = Field(ge=1)
    trainable_parameters: Count | None = None
    predicted_peak_gib: FloatString | None = Field(None, alias="predictedPeakGiB")
    gpu_memory_gib: FloatString | None = Field(None, alias="gpuMemoryGiB")
    data_fingerprint: str
    model_commit: str
    reasons: dict[str, str] = {}  # field -> why this value


class ResumeFrom(Wire):
    """The checkpoint an attempt is allowed to start from."""

    policy: ResumePolicy = ResumePolicy.NEWEST
    step: int | None = None  # with AtMost
    healthy_only: bool = False


class CheckpointReference(LenientWire):
    """A verified checkpoint as status knows it. digest = sha256 of its MANIFEST.json."""

    step: Step
    path: str  # folder name below checkpoints/
    digest: str
    time: str | None = None  # RFC 3339


class RunConfig(Wire):
    """All that a pod needs to know. `plan` is absent in preflight and present in train.

    Paths of sources: pvc://claim/path -> `<sources>/pvc/<claim>/<path>`, configmap://name/key ->
    `<sources>/configmap/<name>/<key>`, file:///path -> /path. The job's files are in
    `<workspace>/<job.folder>/`.
    """

    version: Literal[1] = 1
    job: JobIdentity
    attempt: int = Field(ge=1)  # for preflight its own number k
    workspace: str = WORKSPACE_MOUNT
    sources: str = SOURCES_MOUNT
    model: ModelSpec
    dataset: DatasetSpec
    adapter: AdapterSpec = AdapterSpec()
    training: TrainingSpec = TrainingSpec()
    checkpoint: CheckpointSpec = CheckpointSpec()
    topology: Topology = Topology()
    plan: Plan | None = None
    learning_rate_factor: float = Field(1.0, gt=0)
    resume_from: ResumeFrom = ResumeFrom()
    known_checkpoint: CheckpointReference | None = None  # status knows it: exit 50 if none verifies
    start_deadline_seconds: int = Field(1800, ge=1)
    termination_grace_seconds: int = Field(60, ge=5)
    image: str = ""


# --- What comes back ------------------------------------------------------------------------------


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
    dropped: Annotated[dict[str, Count], Field(max_length=32)] = {}
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
        record = self.to_dict()
        for shorten in SHORTENINGS:
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
            if len(text.encode()) <= limit:
                return text
            record["truncated"] = True
            shorten(record)
        text = json.dumps(record, ensure_ascii=False, separators=(",", ":"))
        if len(text.encode()) <= limit:
            return text
        core = {"code": self.code, "reason": self.reason, "truncated": True}
        return json.dumps(core, separators=(",", ":"))


def _drop_samples(record: dict[str, Any]) -> None:
    samples = record.get("output", {}).get("samples", [])
    for sample in samples:
        sample["prompt"] = sample["prompt"][:80]
        sample["answer"] = sample["answer"][:160]
    if len(samples) > 3:
        record["output"]["samples"] = samples[-3:]


def _cut_rows(record: dict[str, Any]) -> None:
    for problem in record.get("problems", []):
        problem["rows"] = problem.get("rows", [])[:MAX_PROBLEM_ROWS]
        problem["message"] = problem["message"][:300]


def _cut_problems(record: dict[str, Any]) -> None:
    if "problems" in record:
        record["problems"] = record["problems"][:5]


def _cut_message(record: dict[str, Any]) -> None:
    record["message"] = record.get("message", "")[:500]
    if "output" in record:
        record["output"].pop("samples", None)


def _cut_plan_reasons(record: dict[str, Any]) -> None:
    if "plan" in record:
        record["plan"].pop("reasons", None)


def _cut_problem_messages(record: dict[str, Any]) -> None:
    """Other scripts need three bytes a character where English needs one."""
    for problem in record.get("problems", []):
        problem["message"] = problem["message"][:80]


def _drop_problems(record: dict[str, Any]) -> None:
    """The message quotes the first of them, rows included."""
    record.pop("problems", None)


SHORTENINGS: Final = (
    _drop_samples,
    _cut_rows,
    _cut_problems,
    _cut_message,
    _cut_plan_reasons,
    _cut_problem_messages,
    _drop_problems,
)


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


# --- Checkpoints ----------------------------------------------------------------------------------


class RunIdentity(Wire):
    """What a checkpoint must match to be resumed from (design section 10), else exit 51."""

    model_commit: str
    data_fingerprint: str
    template: str  # sha256 of the chat template
    adapter: str  # canonical JSON of quantisation, rank, alpha, dropout, targets
    seed: int
    global_batch_size: int
    optimizer: str  # canonical JSON of optimizer, weight decay, clipping
    schedule: str  # canonical JSON of scheduler, base rate, warmup and total steps


class FileEntry(Wire):
    """A file of a checkpoint: sha256 in hex, size in bytes."""

    sha256: str
    size: int


class Manifest(LenientWire):
    """MANIFEST.json: written last, vouches for every other file of the checkpoint folder."""

    version: Literal[1] = 1
    step: int
    attempt: int
    execution: int
    job_uid: str
    identity: RunIdentity
    image: str
    instruction_set: str
    threads: int
    world_size: int
    micro_batch_size: int
    learning_rate_factor: float = 1.0
    created_at: str
    files: dict[str, FileEntry]  # POSIX path relative to the folder
