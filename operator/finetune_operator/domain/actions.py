"""What a decision may ask for: a closed union, performed in order by the executor.

Order rule: record in status first, create second, observe third. `plan` derives actions from the
status that the observation was made with, never from the one it is about to write. For one `Plan`
the executor does:

1. if `Plan.status` is not None: write it once, with the resourceVersion read; a conflict ends the
   pass with nothing else done;
2. the actions in order, stopping at the first error;
3. the events, best effort: one that is lost is not repeated;
4. look again after `Plan.requeue_after` seconds (None: when something changes).

Every action is idempotent. Creating what exists succeeds: the next observation sees whose it is,
and an object of somebody else becomes condition Accepted=False, reason NameConflict. Deleting what
is gone succeeds; deletions carry the uid as a precondition, and another uid means already gone.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from finetune_operator.api.v1alpha1 import Phase


class EventType(StrEnum):
    """Types of Kubernetes Events."""

    NORMAL = "Normal"
    WARNING = "Warning"


@dataclass(frozen=True, slots=True)
class EnsureClaim:
    """Create this PersistentVolumeClaim unless it exists."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EnsureService:
    """Create this Service unless it exists."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class EnsureNetworkPolicy:
    """Create this NetworkPolicy unless it exists."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CreateJob:
    """Create this Job; its name is the lock, so AlreadyExists is success."""

    manifest: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DeleteJob:
    """Delete the Job of this uid in the foreground, so that its pods go first."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class DeletePod:
    """Delete the pod of this uid; its containers get their grace period."""

    name: str
    uid: str


@dataclass(frozen=True, slots=True)
class EmitEvent:
    """A Kubernetes Event on the FineTuneJob: something changed, once."""

    type: EventType
    reason: str
    message: str


Action = EnsureClaim | EnsureService | EnsureNetworkPolicy | CreateJob | DeleteJob | DeletePod


@dataclass(frozen=True, slots=True)
class Plan:
    """One decision.

    `status` is the whole new status, or None when it equals the one observed (no write).
    `requeue_after` is in seconds; 0 means at once (an intent was just recorded).
    """

    phase: Phase
    status: dict[str, Any] | None = None
    actions: tuple[Action, ...] = ()
    events: tuple[EmitEvent, ...] = ()
    requeue_after: float | None = None
