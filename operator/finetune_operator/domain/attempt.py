"""The checks about attempts: make the Job, watch it, judge its end, start the next one."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.api.v1alpha1 import (
    Attempt,
    ConditionType,
    CurrentAttempt,
    Outcome,
    OutputStatus,
    Phase,
    Reason,
    ResumeFrom,
)
from finetune_operator.domain.budgets import charge, retry_delay
from finetune_operator.domain.classify import Treatment, Verdict, cause_of
from finetune_operator.domain.course import Course, newest_rows, recorded_course
from finetune_operator.domain.decision import (
    Decision,
    Told,
    bad_news,
    failed,
    fails,
    good_news,
    holds,
)
from finetune_operator.domain.facts import Facts, format_time, recorded_time, seconds_until
from finetune_operator.domain.names import attempt_job_name
from finetune_operator.domain.progress import final_progress, follow, heard
from finetune_operator.domain.runs import cleanup, creation
from finetune_operator.domain.words import budget_words, explain
from finetune_trainer.contract import Termination


def attempt_due(facts: Facts) -> Decision | None:
    """The attempt is recorded and its Job was never seen: create it and what it needs."""
    run = facts.run
    if facts.attempt is None or run is None or run.job_uid or not run.is_open:
        return None
    if not facts.is_released:  # pods of a Job that nobody ever saw: they are on their way out
        return _waiting_for_pods(facts, Phase.STARTING)
    return Decision(
        phase=Phase.STARTING,
        actions=creation(facts),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def attempt_ended(facts: Facts) -> Decision | None:
    """The Job says that the attempt is over, or is gone: record how, and what follows."""
    run, verdict = facts.run, facts.verdict
    if facts.attempt is None or run is None or not run.is_open or verdict is None:
        return None
    return _finish(facts, verdict)


def attempt_overdue(facts: Facts) -> Decision | None:
    """Not every rank started before the deadline: give the devices back and try again later."""
    run = facts.run
    if facts.attempt is None or run is None or not run.is_open or not facts.is_overdue:
        return None
    words = f"not all {run.ranks} ranks started within {facts.start_deadline.total_seconds():.0f} s"
    cause = cause_of(
        None, message="; ".join(filter(None, (words, facts.hindrance))), reason=Reason.NOT_STARTED
    )
    return _finish(facts, Verdict(Outcome.NOT_STARTED, cause=cause))


def attempt_active(facts: Facts) -> Decision | None:
    """The attempt is queued, starting or running: follow what rank 0 says."""
    run, current, job = facts.run, facts.attempt, facts.seen.job
    if current is None or run is None or not run.is_open or job is None:
        return None
    before = recorded_course(facts.status, current)
    course = follow(facts, before)
    phase, running = _activity(facts)
    told = [running, *_quota(facts), *_checkpointed(course)]
    events = []
    if phase is Phase.RUNNING and not _was_running(facts):
        events.append(good_news(Reason.ATTEMPT_STARTED, f"attempt {run.number}: all ranks started"))
    resumed = course.current.resumed_from_step
    if resumed and resumed != before.current.resumed_from_step:
        events.append(
            good_news(Reason.RESUMED, f"attempt {run.number} resumed from step {resumed}")
        )
    return Decision(
        phase=phase,
        changes=course.changes(),
        told=tuple(told),
        events=tuple(events),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def next_attempt(facts: Facts) -> Decision | None:
    """The last attempt ended and may be retried: clear away, wait, record the next number."""
    run, row = facts.run, facts.row
    if facts.attempt is None or run is None or run.is_open or row is None:
        return None
    if not facts.is_released:
        return _waiting_for_pods(facts, Phase.RECOVERING)
    delay = retry_delay(
        facts.status.attempts,
        uid=facts.seen.identity.uid,
        number=run.number + 1,
        failures=facts.status.failures or 0,
        base=facts.recovery.backoff_seconds,
    )
    ended = recorded_time(row.finished_at, otherwise=facts.seen.now)
    due = ended + timedelta(seconds=delay)
    if facts.seen.now < due:
        return Decision(
            phase=Phase.RECOVERING,
            told=(_backing_off(run.number + 1, due),),
            requeue_after=seconds_until(due, facts.seen.now),
        )
    return record_attempt(facts, run.number + 1)


def record_attempt(facts: Facts, number: int) -> Decision:
    """Write attempt `number` into the status; the next pass creates its Job."""
    status = facts.status
    step = status.last_checkpoint.step if status.last_checkpoint else 0
    row = Attempt(number=number, outcome=Outcome.RUNNING, from_step=step)
    return Decision(
        phase=Phase.STARTING if number == 1 else Phase.RECOVERING,
        changes={
            "currentAttempt": CurrentAttempt(
                number=number,
                job_name=attempt_job_name(facts.seen.identity, number),
                resume_from=ResumeFrom(),
                started_at=format_time(facts.seen.now),
            ),
            "attempts": newest_rows((*status.attempts, row)),
        },
        told=(fails(ConditionType.RUNNING, Reason.STARTING),),
        requeue_after=0,
    )


def _finish(facts: Facts, verdict: Verdict) -> Decision:
    course = _closed(facts, verdict)
    if verdict.cause is None:
        return _succeeded(facts, course, verdict.record)
    cause, number = verdict.cause, course.row.number
    cost = charge(
        cause,
        failures=course.failures,
        disruptions=course.disruptions,
        recovery=facts.recovery,
    )
    changes = {**course.changes(), **cost.spent}
    words = explain(cause, verdict.record)
    if cost.end:
        end = failed(cost.end, budget_words(cost.end) + words, changes=changes)
        return replace(end, told=(*end.told, *_checkpointed(course)))
    return Decision(
        phase=Phase.RECOVERING,
        changes=changes,
        told=(fails(ConditionType.RUNNING, cause.reason, words), *_checkpointed(course)),
        events=(bad_news(f"Attempt{verdict.outcome}", f"attempt {number}: {words}"),),
        requeue_after=0,
    )


def _closed(facts: Facts, verdict: Verdict) -> Course:
    """The course at the end of the attempt: its row complete but for what the next one corrects."""
    current = facts.attempt
    if current is None:
        raise ValueError("no attempt is recorded")
    course, record, told = recorded_course(facts.status, current), verdict.record, heard(facts)
    course = follow(facts, course)
    resumed = record.resumed_from_step if record else None
    course = course.executing(record.execution if record else None)
    if resumed is not None and course.current.resumed_from_step is None:
        course = course.resumed_at(resumed)
        course = course.saved(record.last_checkpoint if record else None, resumed_at=resumed)
    for news in (told, record):
        course = course.saved(news.last_checkpoint) if news else course
    steps = (course.row.from_step, course.row.to_step, told and told.step, record and record.step)
    reached = max(step or 0 for step in steps)
    cause = verdict.cause
    saved = course.checkpoint.step if course.checkpoint else 0
    course = course.with_row(
        outcome=verdict.outcome,
        reason=cause.reason if cause else Reason.SUCCEEDED.value,
        exit_code=cause.exit_code if cause else 0,
        to_step=reached,
        steps_lost=max(0, reached - saved) if cause else 0,
        counted=cause is not None and cause.rule.treatment is Treatment.FAILURE,
        finished_at=format_time(facts.seen.now),
        node=(cause.pod.node or None) if cause and cause.pod else None,
    )
    return replace(course, progress=final_progress(facts, record))


def _succeeded(facts: Facts, course: Course, record: Termination | None) -> Decision:
    """Where the results are: rank 0 says so, and the volume's layout when its record is lost."""
    number, executions = course.current.number, course.current.executions or 1
    told = record.output.to_dict() if record and record.output else {}
    output = OutputStatus.model_validate(
        {"adapter": f"output/a{number}.e{executions}/adapter", **told}
    )
    message = f"attempt {number} finished at step {course.row.to_step}; adapter: {output.adapter}"
    return Decision(
        phase=Phase.SUCCEEDED,
        changes={**course.changes(), "output": output},
        told=(
            fails(ConditionType.RUNNING, Reason.FINISHED),
            *_checkpointed(course),
            holds(ConditionType.SUCCEEDED, Reason.SUCCEEDED, message),
        ),
        events=(good_news(Reason.SUCCEEDED, message),),
    )


def _activity(facts: Facts) -> tuple[Phase, Told]:
    job = facts.seen.job
    if job is not None and job.suspended:
        return Phase.QUEUED, fails(
            ConditionType.RUNNING, Reason.NOT_RUNNING, "the Job is suspended"
        )
    if facts.has_joined:
        return Phase.RUNNING, holds(ConditionType.RUNNING, Reason.RUNNING)
    return Phase.STARTING, fails(ConditionType.RUNNING, Reason.STARTING, facts.hindrance)


def _quota(facts: Facts) -> list[Told]:
    """QuotaReserved is stated only for Jobs that somebody suspends."""
    job, known = facts.seen.job, facts.condition(ConditionType.QUOTA_RESERVED)
    if job is not None and job.suspended:
        return [fails(ConditionType.QUOTA_RESERVED, Reason.SUSPENDED)]
    return [holds(ConditionType.QUOTA_RESERVED, Reason.ADMITTED)] if known else []


def _checkpointed(course: Course) -> list[Told]:
    if course.checkpoint is None:
        return []
    message = f"step {course.checkpoint.step}"
    return [holds(ConditionType.CHECKPOINTED, Reason.CHECKPOINT_VERIFIED, message)]


def _waiting_for_pods(facts: Facts, phase: Phase) -> Decision:
    return Decision(
        phase=phase, actions=cleanup(facts), requeue_after=facts.seen.site.scrape_seconds
    )


def _backing_off(number: int, due: datetime) -> Told:
    message = f"attempt {number} starts at {format_time(due)}"
    return fails(ConditionType.RUNNING, Reason.BACKING_OFF, message)


def _was_running(facts: Facts) -> bool:
    running = facts.condition(ConditionType.RUNNING)
    return running is not None and running.reason == Reason.RUNNING
