"""`plan`: what to do next for one FineTuneJob.

A chain of small checks in the order of the job's life; each looks for one situation, and the first
that finds it decides. The situation is read from facts alone (spec, recorded status, live
children), so every point at which the operator may crash is just another observation.

Intent first: a check that wants a new run records it in the status and creates nothing. The check
that creates a run applies only to one that the observed status already holds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from finetune_operator.domain.actions import Plan
from finetune_operator.domain.admission import (
    being_deleted,
    claim_missing,
    finished_is_final,
    not_accepted,
    spec_invalid,
    workspace_not_shared,
)
from finetune_operator.domain.attempt import (
    attempt_active,
    attempt_due,
    attempt_ended,
    attempt_overdue,
    next_attempt,
)
from finetune_operator.domain.decision import Decision
from finetune_operator.domain.facts import Facts
from finetune_operator.domain.observed import Observation
from finetune_operator.domain.preflight import (
    first_attempt,
    preflight_active,
    preflight_again,
    preflight_due,
    preflight_ended,
    preflight_overdue,
)
from finetune_operator.domain.refusal import child_refused
from finetune_operator.domain.runs import name_conflict
from finetune_operator.domain.status import render

Check = Callable[[Facts], Decision | None]

CHAIN: Final[tuple[Check, ...]] = (
    being_deleted,
    finished_is_final,
    spec_invalid,
    not_accepted,
    name_conflict,
    claim_missing,
    workspace_not_shared,
    child_refused,
    # an attempt is recorded
    attempt_due,
    attempt_ended,
    attempt_overdue,
    attempt_active,
    next_attempt,
    # only preflight is
    preflight_due,
    preflight_ended,
    preflight_overdue,
    preflight_active,
    preflight_again,
    first_attempt,
)


def plan(seen: Observation) -> Plan:
    """Decide the next step. Total, deterministic, no I/O: the first check that applies wins.

    Raises pydantic.ValidationError for a status that the API server would not have stored.
    """
    facts = Facts.read(seen)
    decision = next(made for check in CHAIN if (made := check(facts)) is not None)
    return render(facts, decision)
