"""FineTuneJob, API version finetune.dev/v1alpha1: the one module that other layers import."""

from __future__ import annotations

from finetune_operator.api.attempts import (
    Attempt,
    CurrentAttempt,
    Overrides,
    Preflight,
    ResumeFrom,
)
from finetune_operator.api.compute import (
    Compute,
    Output,
    PreflightCompute,
    PullSecret,
    Recovery,
    Toleration,
    Workspace,
)
from finetune_operator.api.conditions import (
    ConditionStatus,
    ConditionType,
    Outcome,
    Phase,
    Reason,
)
from finetune_operator.api.fields import AUTO, ApiModel
from finetune_operator.api.spec import (
    Adapter,
    Checkpoint,
    Dataset,
    FineTuneJobSpec,
    FixedSpec,
    Model,
)
from finetune_operator.api.status import (
    BestCheckpoint,
    CheckpointStatus,
    Condition,
    Data,
    Diagnosis,
    FineTuneJobStatus,
    OutputStatus,
    Plan,
    Progress,
    Sample,
)
from finetune_operator.api.training import Samples, Training

__all__ = [
    "AUTO",
    "Adapter",
    "ApiModel",
    "Attempt",
    "BestCheckpoint",
    "Checkpoint",
    "CheckpointStatus",
    "Compute",
    "Condition",
    "ConditionStatus",
    "ConditionType",
    "CurrentAttempt",
    "Data",
    "Dataset",
    "Diagnosis",
    "FineTuneJobSpec",
    "FineTuneJobStatus",
    "FixedSpec",
    "Model",
    "Outcome",
    "Output",
    "OutputStatus",
    "Overrides",
    "Phase",
    "Plan",
    "Preflight",
    "PreflightCompute",
    "Progress",
    "PullSecret",
    "Reason",
    "Recovery",
    "ResumeFrom",
    "Sample",
    "Samples",
    "Toleration",
    "Training",
    "Workspace",
]
