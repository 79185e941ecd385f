"""RunConfig: the resolved wish that a pod is given."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from finetune_trainer.contract.names import (
    RENDEZVOUS_PORT,
    SOURCES_MOUNT,
    WORKSPACE_MOUNT,
    ResumePolicy,
)
from finetune_trainer.contract.wire import (
    Count,
    ExactFloatString,
    FloatString,
    LenientWire,
    Step,
    Wire,
)


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
    reasons: dict[str, str] = Field(default_factory=dict)  # field -> why this value


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
