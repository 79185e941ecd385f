"""Phases, condition types, outcomes and reasons: the words of a FineTuneJob's status.

Conditions are the interface; the phase is derived from them for people and read back by nobody. All
sets may grow, so clients must accept words that they do not know.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """One word for `kubectl get`."""

    PENDING = "Pending"
    PREFLIGHT = "Preflight"
    QUEUED = "Queued"
    STARTING = "Starting"
    RUNNING = "Running"
    RECOVERING = "Recovering"
    SUSPENDED = "Suspended"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


class ConditionType(StrEnum):
    """The facts that status states; QuotaReserved only of jobs that wait in a queue."""

    ACCEPTED = "Accepted"
    PREFLIGHT_PASSED = "PreflightPassed"
    QUOTA_RESERVED = "QuotaReserved"
    RUNNING = "Running"
    CHECKPOINTED = "Checkpointed"
    SUCCEEDED = "Succeeded"


class ConditionStatus(StrEnum):
    """Truth of a condition."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Outcome(StrEnum):
    """How an attempt ended, or that it has not."""

    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    DISRUPTED = "Disrupted"
    REPLANNED = "Replanned"
    ROLLED_BACK = "RolledBack"
    SUSPENDED = "Suspended"
    NOT_STARTED = "NotStarted"
    MISSING = "Missing"


class Reason(StrEnum):
    """Reasons of conditions and Events; Events of ended attempts are named by their outcome.

    Attempts may carry others: the trainer names its own causes.
    """

    # PreflightPassed or Running, whichever the child was for
    CHILD_REFUSED = "ChildRefused"
    # Accepted
    ACCEPTED = "Accepted"
    INVALID_SPEC = "InvalidSpec"
    NAME_CONFLICT = "NameConflict"
    # PreflightPassed
    PREFLIGHT_PENDING = "PreflightPending"
    PREFLIGHT_RUNNING = "PreflightRunning"
    PREFLIGHT_PASSED = "PreflightPassed"
    PREFLIGHT_FAILED = "PreflightFailed"
    CLAIM_MISSING = "ClaimMissing"
    REPORT_LOST = "ReportLost"
    # QuotaReserved
    SUSPENDED = "Suspended"
    ADMITTED = "Admitted"
    # Running
    NOT_RUNNING = "NotRunning"
    STARTING = "Starting"
    RUNNING = "Running"
    BACKING_OFF = "BackingOff"
    FINISHED = "Finished"
    # Checkpointed
    NO_CHECKPOINT = "NoCheckpoint"
    CHECKPOINT_VERIFIED = "CheckpointVerified"
    # Succeeded
    IN_PROGRESS = "InProgress"
    SUCCEEDED = "Succeeded"
    FAILURE_BUDGET_SPENT = "FailureBudgetSpent"
    DISRUPTION_BUDGET_SPENT = "DisruptionBudgetSpent"
    CLAIM_UNUSABLE = "ClaimUnusable"
    # Causes of attempts, by exit code (and of Succeeded=False when never retried)
    BAD_CONFIG = "BadConfig"
    DATA_UNREADABLE = "DataUnreadable"
    NOTHING_TO_LEARN = "NothingToLearn"
    TOKENIZER = "Tokenizer"
    MODEL = "Model"
    INFRASTRUCTURE = "Infrastructure"
    PEER_LOST = "PeerLost"
    GPU_FAULT = "GPUFault"
    HANG = "Hang"
    GPU_OUT_OF_MEMORY = "GPUOutOfMemory"
    HOST_OUT_OF_MEMORY = "HostOutOfMemory"
    DISK_FULL = "DiskFull"
    NOT_FINITE = "NotFinite"
    DIVERGED = "Diverged"
    NO_CHECKPOINT_VERIFIES = "NoCheckpointVerifies"
    FOREIGN_CHECKPOINT = "ForeignCheckpoint"
    DISRUPTED = "Disrupted"
    NOT_STARTED = "NotStarted"
    MISSING = "Missing"
    # Events alone
    ATTEMPT_STARTED = "AttemptStarted"
    PREFLIGHT_RETRIED = "PreflightRetried"
    RESUMED = "Resumed"
