"""What operator and trainer say to each other; nothing else crosses.

The operator hands a pod one `RunConfig` (environment variable `RUN_CONFIG_VARIABLE`); the pod
answers with `Progress` on rank 0's `/status` and with one `Termination` on `/dev/termination-log`.
The checkpoint `Manifest` lies on the volume and is written and read by the trainer alone.

JSON is camelCase, Python snake_case. Floats that the operator copies into a custom resource's
status travel as strings (`FloatString`): JSON has no NaN and the API server rounds floats.
The package imports pydantic and the standard library only: the operator image has no torch.
"""

from __future__ import annotations

from finetune_trainer.contract.checkpoints import (
    FileEntry,
    Manifest,
    RunIdentity,
)
from finetune_trainer.contract.names import (
    MAX_PROBLEM_ROWS,
    MAX_SAMPLES,
    RENDEZVOUS_PORT,
    RUN_CONFIG_VARIABLE,
    SOURCES_MOUNT,
    STATUS_PORT,
    STATUS_PORT_VARIABLE,
    TERMINATION_LIMIT_BYTES,
    TERMINATION_LOG_VARIABLE,
    WORKSPACE_MOUNT,
    ExitCode,
    ResumePolicy,
    TrainerPhase,
)
from finetune_trainer.contract.records import (
    DataSummary,
    OutputReference,
    PreflightReport,
    Problem,
    Progress,
    Sample,
    Termination,
)
from finetune_trainer.contract.run import (
    AdapterSpec,
    CheckpointReference,
    CheckpointSpec,
    DatasetSpec,
    JobIdentity,
    ModelSpec,
    Plan,
    ResumeFrom,
    RunConfig,
    SamplesSpec,
    Topology,
    TrainingSpec,
)
from finetune_trainer.contract.wire import (
    Count,
    ExactFloatString,
    FloatString,
    LenientWire,
    Step,
    Wire,
)

__all__ = [
    "MAX_PROBLEM_ROWS",
    "MAX_SAMPLES",
    "RENDEZVOUS_PORT",
    "RUN_CONFIG_VARIABLE",
    "SOURCES_MOUNT",
    "STATUS_PORT",
    "STATUS_PORT_VARIABLE",
    "TERMINATION_LIMIT_BYTES",
    "TERMINATION_LOG_VARIABLE",
    "WORKSPACE_MOUNT",
    "AdapterSpec",
    "CheckpointReference",
    "CheckpointSpec",
    "Count",
    "DataSummary",
    "DatasetSpec",
    "ExactFloatString",
    "ExitCode",
    "FileEntry",
    "FloatString",
    "JobIdentity",
    "LenientWire",
    "Manifest",
    "ModelSpec",
    "OutputReference",
    "Plan",
    "PreflightReport",
    "Problem",
    "Progress",
    "ResumeFrom",
    "ResumePolicy",
    "RunConfig",
    "RunIdentity",
    "Sample",
    "SamplesSpec",
    "Step",
    "Termination",
    "Topology",
    "TrainerPhase",
    "TrainingSpec",
    "Wire",
]
