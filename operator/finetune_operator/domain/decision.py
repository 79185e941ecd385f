"""What a check hands to the status writer: changes, told conditions, actions, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.api.v1alpha1 import ConditionStatus, ConditionType, Phase, Reason
from finetune_operator.domain.actions import Action, EmitEvent, EventType


@dataclass(frozen=True, slots=True)
class Told:
    """A condition as a decision states it; generation and time are added by the status writer."""

    type: ConditionType
    status: ConditionStatus
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Decision:
    """One check's answer. Conditions that are not told keep their value.

    `changes` replaces members of the status by their JSON name; values are API models, tuples of
    them, numbers or strings, and None removes a member. `untouched` means no status write at all.
    """

    phase: Phase
    changes: Mapping[str, Any] = field(default_factory=dict)
    told: tuple[Told, ...] = ()
    actions: tuple[Action, ...] = ()
    events: tuple[EmitEvent, ...] = ()
    requeue_after: float | None = None
    untouched: bool = False


def holds(kind: ConditionType, reason: str, message: str = "") -> Told:
    """The condition is True."""
    return Told(kind, ConditionStatus.TRUE, reason, message)


def fails(kind: ConditionType, reason: str, message: str = "") -> Told:
    """The condition is False."""
    return Told(kind, ConditionStatus.FALSE, reason, message)


def is_open(kind: ConditionType, reason: str, message: str = "") -> Told:
    """The condition is Unknown."""
    return Told(kind, ConditionStatus.UNKNOWN, reason, message)


def good_news(reason: str, message: str) -> EmitEvent:
    """A Normal event."""
    return EmitEvent(EventType.NORMAL, reason, message)


def bad_news(reason: str, message: str) -> EmitEvent:
    """A Warning event."""
    return EmitEvent(EventType.WARNING, reason, message)


def failed(
    reason: str,
    message: str,
    *,
    changes: Mapping[str, Any] | None = None,
    preflight: bool = False,
) -> Decision:
    """The end of the job without a result; `preflight`: it is preflight that was not passed."""
    told = [
        fails(ConditionType.RUNNING, Reason.FINISHED),
        fails(ConditionType.SUCCEEDED, reason, message),
    ]
    if preflight:
        told.append(fails(ConditionType.PREFLIGHT_PASSED, reason, message))
    return Decision(
        phase=Phase.FAILED,
        changes=changes or {},
        told=tuple(told),
        events=(bad_news(reason, message),),
    )
