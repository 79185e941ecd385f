"""The checks about preflight: make its Job, watch it, use its report or try again.

Preflight spends the same two budgets as attempts. Problems of the user's making end the job here,
before a device was held.
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from finetune_operator.api.v1alpha1 import (
    ConditionType,
    Data,
    Outcome,
    Phase,
    Plan,
    Preflight,
    Reason,
)
from finetune_operator.domain.attempt import record_attempt
from finetune_operator.domain.budgets import backoff_seconds, charge
from finetune_operator.domain.classify import Treatment, Verdict, cause_of
from finetune_operator.domain.decision import (
    Decision,
    bad_news,
    failed,
    good_news,
    holds,
    is_open,
)
from finetune_operator.domain.facts import Facts, format_time, recorded_time, seconds_until
from finetune_operator.domain.names import preflight_job_name
from finetune_operator.domain.runs import cleanup, creation
from finetune_operator.domain.words import budget_words, explain, name_problem, shorten
from finetune_trainer.contract import ExitCode, Termination


def preflight_due(facts: Facts) -> Decision | None:
    """The preflight is recorded and its Job was never seen: create it and what it needs."""
    run = facts.run
    if run is None or run.job_uid or not run.is_open:
        return None
    if not facts.is_released:  # pods of a Job that nobody ever saw: they are on their way out
        return _waiting(facts)
    return Decision(
        phase=Phase.PREFLIGHT,
        actions=creation(facts),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def preflight_ended(facts: Facts) -> Decision | None:
    """The Job says that preflight is over, or is gone: use the report, end here or try again."""
    run, verdict = facts.run, facts.verdict
    if run is None or not run.is_open or verdict is None:
        return None
    if verdict.cause is None and verdict.record is not None and verdict.record.plan is not None:
        return _passed(facts, verdict.record)
    return _not_passed(facts, verdict)


def preflight_overdue(facts: Facts) -> Decision | None:
    """The pod did not start before the deadline: try again later."""
    run = facts.run
    if run is None or not run.is_open or not facts.is_overdue:
        return None
    words = f"the pod did not start within {facts.start_deadline.total_seconds():.0f} s"
    message = "; ".join(filter(None, (words, facts.hindrance)))
    cause = cause_of(None, message=message, reason=Reason.NOT_STARTED)
    return _not_passed(facts, Verdict(Outcome.NOT_STARTED, cause=cause))


def preflight_active(facts: Facts) -> Decision | None:
    """The pod is starting or running."""
    run = facts.run
    if run is None or not run.is_open:
        return None
    running = is_open(ConditionType.PREFLIGHT_PASSED, Reason.PREFLIGHT_RUNNING, facts.hindrance)
    return Decision(
        phase=Phase.PREFLIGHT,
        changes={"preflight": facts.preflight},
        told=(running,),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def preflight_again(facts: Facts) -> Decision | None:
    """The last preflight ended without a report and may be retried: clear away, wait, record."""
    run, newest, status = facts.run, facts.preflight, facts.status
    if run is None or newest is None or status.plan is not None:
        return None
    if not facts.is_released:
        return _waiting(facts)
    number = run.number + 1
    delay = backoff_seconds(
        uid=facts.seen.identity.uid,
        number=number,
        repeats=(status.failures or 0) + (status.disruptions or 0),
        base=facts.recovery.backoff_seconds,
    )
    ended = recorded_time(newest.finished_at, otherwise=facts.seen.now)
    due = ended + timedelta(seconds=delay)
    if facts.seen.now < due:
        return Decision(phase=Phase.RECOVERING, requeue_after=seconds_until(due, facts.seen.now))
    name = preflight_job_name(facts.seen.identity, number)
    return Decision(
        phase=Phase.PREFLIGHT,
        changes={"preflight": Preflight(number=number, job_name=name)},
        requeue_after=0,
    )


def first_attempt(facts: Facts) -> Decision:
    """Preflight has passed: once its pod is gone from the volume, record attempt 1."""
    return record_attempt(facts, 1) if facts.is_released else _waiting(facts)


def _passed(facts: Facts, record: Termination) -> Decision:
    warnings = "; ".join(name_problem(problem) for problem in record.problems)
    message = "preflight passed" + (f" with warnings: {warnings}" if warnings else "")
    return Decision(
        phase=Phase.STARTING,
        changes={
            **_ended(facts, Reason.PREFLIGHT_PASSED),
            **_reported(record),
        },
        told=(holds(ConditionType.PREFLIGHT_PASSED, Reason.PREFLIGHT_PASSED, shorten(message)),),
        events=(good_news(Reason.PREFLIGHT_PASSED, shorten(message)),),
        requeue_after=0,
    )


def _not_passed(facts: Facts, verdict: Verdict) -> Decision:
    cause = verdict.cause or cause_of(
        ExitCode.INFRASTRUCTURE,
        message="preflight succeeded but its report was lost",
        reason=Reason.REPORT_LOST,
    )
    cost = charge(
        cause,
        failures=facts.status.failures or 0,
        disruptions=facts.status.disruptions or 0,
        recovery=facts.recovery,
    )
    data = {key: value for key, value in _reported(verdict.record).items() if key == "data"}
    changes = {**_ended(facts, cause.reason), **cost.spent, **data}
    words = explain(cause, verdict.record)
    if cost.end:
        fatal = cause.rule.treatment is Treatment.FATAL
        reason = Reason.PREFLIGHT_FAILED if fatal else cost.end
        return failed(reason, budget_words(cost.end) + words, changes=changes, preflight=True)
    again = is_open(ConditionType.PREFLIGHT_PASSED, cause.reason, words)
    return Decision(
        phase=Phase.RECOVERING,
        changes=changes,
        told=(again,),
        events=(bad_news(Reason.PREFLIGHT_RETRIED, words),),
        requeue_after=0,
    )


def _ended(facts: Facts, reason: str) -> dict[str, Any]:
    newest = facts.preflight
    if newest is None:
        raise ValueError("no preflight is recorded")
    ended = {"reason": str(reason), "finished_at": format_time(facts.seen.now)}
    return {"preflight": newest.model_copy(update=ended)}


def _reported(record: Termination | None) -> dict[str, Any]:
    """Plan and data of a report as members of the status."""
    told: dict[str, Any] = {}
    if record is not None and record.plan is not None:
        told["plan"] = Plan.model_validate(record.plan.to_dict())
    if record is not None and record.data is not None:
        told["data"] = Data.model_validate(record.data.to_dict())
    return told


def _waiting(facts: Facts) -> Decision:
    return Decision(
        phase=Phase.PREFLIGHT,
        actions=cleanup(facts),
        requeue_after=facts.seen.site.scrape_seconds,
    )
