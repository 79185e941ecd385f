"""A decision -> the whole new status.

The status read at the start is the base; a decision replaces members of it. Conditions follow the
conventions of metav1: the transition time moves only when the truth does. An equal status is no
write, and then there is no event either: an event tells of a change, once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.api.v1alpha1 import (
    ApiModel,
    Condition,
    ConditionStatus,
    ConditionType,
    Reason,
)
from finetune_operator.domain.actions import Plan
from finetune_operator.domain.decision import Decision, Told, holds
from finetune_operator.domain.facts import Facts, format_time
from finetune_operator.domain.words import shorten


def render(facts: Facts, decision: Decision) -> Plan:
    """The plan of a decision: at most one status, and events only with one."""
    if decision.untouched:
        return Plan(
            phase=decision.phase,
            actions=decision.actions,
            requeue_after=decision.requeue_after,
        )
    old = facts.seen.status
    new = new_status(facts, decision)
    changed = new != old
    return Plan(
        phase=decision.phase,
        status=new if changed else None,
        actions=decision.actions,
        events=decision.events if changed else (),
        requeue_after=decision.requeue_after,
    )


def new_status(facts: Facts, decision: Decision) -> dict[str, Any]:
    """The old status with the decision's changes, as JSON; members set to None are left out."""
    changes = {
        **decision.changes,
        "observedGeneration": facts.seen.generation,
        "phase": decision.phase.value,
        "conditions": _conditions(facts, decision.told),
    }
    merged = {**facts.seen.status, **{name: _json(value) for name, value in changes.items()}}
    return {name: value for name, value in merged.items() if value is not None}


def _conditions(facts: Facts, told: tuple[Told, ...]) -> tuple[Condition, ...]:
    """All known conditions in the order of their types; what is not told keeps its words.

    A decision that says nothing of Accepted was made for an accepted job.
    """
    said = {tell.type: tell for tell in (holds(ConditionType.ACCEPTED, Reason.ACCEPTED), *told)}
    known = {condition.type: condition for condition in facts.status.conditions}
    conditions = (
        _condition(facts, said.get(kind), known.get(kind))
        for kind in ConditionType
        if kind in said or kind in known
    )
    return tuple(condition for condition in conditions if condition is not None)


def _condition(facts: Facts, tell: Told | None, known: Condition | None) -> Condition | None:
    generation = facts.seen.generation
    if tell is None:
        return known and known.model_copy(update={"observed_generation": generation})
    same = known is not None and known.status == tell.status
    return Condition(
        type=tell.type,
        status=ConditionStatus(tell.status),
        observed_generation=generation,
        last_transition_time=(
            known.last_transition_time if known and same else format_time(facts.seen.now)
        ),
        reason=tell.reason,
        message=shorten(tell.message),
    )


def _json(value: Any) -> Any:
    if isinstance(value, ApiModel):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_json(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _json(item) for name, item in value.items()}
    return value
