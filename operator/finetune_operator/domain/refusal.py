"""The check about children that the API server does not take: quota, policy, a limit of ours.

Only people can cure it, so they must read of it in the status; a Job whose pods wait is told alike.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.api.v1alpha1 import ConditionType, Outcome, Phase, Reason
from finetune_operator.domain.course import recorded_course
from finetune_operator.domain.decision import Decision, failed, fails, is_open
from finetune_operator.domain.facts import Facts, format_time
from finetune_operator.domain.runs import creation


def child_refused(facts: Facts) -> Decision | None:
    """A child of the recorded run was refused: say so and try again, at the deadline fail."""
    run, refusal = facts.run, facts.seen.refusal
    if refusal is None or run is None or run.job_uid or not run.is_open or not facts.is_released:
        return None
    preflight = facts.attempt is None
    if facts.seen.now - refusal.since > facts.start_deadline:
        reason = Reason.PREFLIGHT_FAILED if preflight else Reason.CHILD_REFUSED
        return failed(reason, refusal.message, changes=_closed(facts), preflight=preflight)
    told = (
        is_open(ConditionType.PREFLIGHT_PASSED, Reason.CHILD_REFUSED, refusal.message)
        if preflight
        else fails(ConditionType.RUNNING, Reason.CHILD_REFUSED, refusal.message)
    )
    return Decision(
        phase=Phase.PREFLIGHT if preflight else Phase.STARTING,
        told=(told,),
        actions=creation(facts),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def _closed(facts: Facts) -> dict[str, Any]:
    """The record of a run that never got its Job, with its end."""
    end = {"reason": Reason.CHILD_REFUSED.value, "finished_at": format_time(facts.seen.now)}
    current, newest = facts.attempt, facts.preflight
    if current is not None:
        course = recorded_course(facts.status, current)
        return course.with_row(outcome=Outcome.NOT_STARTED, counted=False, **end).changes()
    return {"preflight": newest and newest.model_copy(update=end)}
