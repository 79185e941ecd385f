"""The sections of the spec about machines: compute, workspace, recovery and output."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from finetune_operator.api.fields import (
    ApiModel,
    Fraction,
    LabelKey,
    Labels,
    LabelValue,
    ObjectName,
    Quantity,
    RelativePath,
    ResourceName,
    Seconds,
    SecretName,
    Word,
    list_map,
)

Target = Annotated[str, Field(min_length=1, max_length=1024)]
Budget = Annotated[int, Field(ge=0, le=100_000)]


class TolerationOperator(StrEnum):
    """How key and value of a toleration are compared with a taint."""

    EXISTS = "Exists"
    EQUAL = "Equal"


class TaintEffect(StrEnum):
    """What a taint does to pods that do not tolerate it."""

    NO_SCHEDULE = "NoSchedule"
    PREFER_NO_SCHEDULE = "PreferNoSchedule"
    NO_EXECUTE = "NoExecute"


class Toleration(ApiModel):
    """A taint that the pods tolerate; the fields are those of a pod's toleration."""

    key: LabelKey | None = None
    """Taint key; unset with operator Exists matches every taint."""
    operator: TolerationOperator | None = None
    """How the taint is compared; unset means Equal."""
    value: LabelValue | None = None
    """Taint value for operator Equal."""
    effect: TaintEffect | None = None
    """Effect to tolerate; unset means all."""
    toleration_seconds: Seconds | None = None
    """How long a NoExecute taint is tolerated."""


class PullSecret(ApiModel):
    """A secret with credentials of an image registry."""

    name: SecretName
    """Name of the secret; it must start with finetune-."""


PullSecrets = Annotated[
    tuple[PullSecret, ...], Field(max_length=8, json_schema_extra=list_map("name"))
]


class PreflightCompute(ApiModel):
    """Resources of the preflight pod, which needs no GPU."""

    cpu: Quantity | None = None
    """CPU request and limit of the preflight pod."""
    memory: Quantity | None = None
    """Memory request and limit of the preflight pod."""
    queue_name: ObjectName | None = None
    """Queue of the preflight Job. Not supported in this release."""


class Compute(ApiModel):
    """Nodes, devices and resources of the pods."""

    nodes: Annotated[int, Field(ge=1, le=1024)] = 1
    """Number of pods, one per node."""
    gpus_per_node: Annotated[int, Field(ge=0, le=64)] = 1
    """GPUs of each pod; each gets one process. 0 trains on CPU."""
    gpu_resource_name: ResourceName = "nvidia.com/gpu"
    """The extended resource that counts GPUs."""
    gpu_type: Word | None = None
    """GPU model to plan for. Not supported in this release."""
    gpu_memory: Quantity | None = None
    """Memory of one GPU to plan for. Not supported in this release."""
    processes_per_node: Annotated[int, Field(ge=1, le=64)] | None = None
    """Processes of each pod in a run without GPUs; unset means 1."""
    cpu: Quantity | None = None
    """CPU request and limit of each training pod."""
    memory: Quantity | None = None
    """Memory request and limit of each training pod."""
    shared_memory: Quantity | None = None
    """Size limit of /dev/shm in each training pod."""
    node_selector: Labels | None = None
    """Labels that a node must have, for preflight and training pods."""
    tolerations: Annotated[tuple[Toleration, ...], Field(max_length=16)] | None = None
    """Taints that preflight and training pods tolerate."""
    priority_class_name: ObjectName | None = None
    """Priority class of the training pods."""
    queue_name: ObjectName | None = None
    """Queue that admits the training Jobs. Not supported in this release."""
    queue_priority_class: ObjectName | None = None
    """Priority within the queue. Not supported in this release."""
    image: Annotated[str, Field(max_length=512)] | None = None
    """Trainer image instead of the installed one. Not supported in this release."""
    image_pull_secrets: PullSecrets | None = None
    """Registry credentials for the trainer image; names must start with finetune-."""
    service_account_name: ObjectName | None = None
    """Service account for workload identity. Not supported in this release."""
    preflight: PreflightCompute | None = None
    """Resources of the preflight pod, which needs no GPU."""


class Workspace(ApiModel):
    """The volume of the run: either a claim that exists or one to create, never both."""

    claim_name: ObjectName | None = None
    """An existing claim; several nodes need one with access mode ReadWriteMany."""
    sub_path: RelativePath | None = None
    """Folder on the existing claim."""
    size: Quantity | None = None
    """Size of the claim to create; unset means 20Gi."""
    storage_class_name: ObjectName | None = None
    """Storage class of the claim to create; unset means the cluster's default."""
    retain: bool | None = None
    """Keep the created claim when the job is deleted; unset means true."""
    resume_from: RelativePath | None = None
    """Folder of an earlier job to continue from. Not supported in this release."""


class Recovery(ApiModel):
    """Budgets and delays of new attempts, each kind of failure with its own."""

    max_failures: Budget = 3
    """Infrastructure failures that are retried; progress refills the budget."""
    max_disruptions: Budget = 100
    """Preemptions and evictions that are followed by a new attempt."""
    max_replans: Budget | None = None
    """Smaller plans after a GPU ran out of memory. Not supported in this release."""
    max_rollbacks: Budget | None = None
    """Returns to a healthy checkpoint after divergence. Not supported in this release."""
    learning_rate_factor: Fraction | None = None
    """What a rollback multiplies the learning rate by. Not supported in this release."""
    hang_timeout_seconds: Seconds | None = None
    """Silence after which a run counts as hung. Not supported in this release."""
    lost_node_seconds: Seconds | None = None
    """Patience with pods on an unreachable node. Not supported in this release."""
    backoff_seconds: Annotated[int, Field(ge=0, le=600)] = 10
    """Delay before the first retry; it doubles with every further one up to 600."""


class Output(ApiModel):
    """What is made of the finished adapter."""

    merge_weights: bool | None = None
    """Also write base model and adapter merged. Only false is supported in this release."""
    publish: Annotated[tuple[Target, ...], Field(max_length=8)] | None = None
    """Places to publish the result to. Not supported in this release."""
