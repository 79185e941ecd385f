"""What rank 0 says while it runs -> the attempt's course.

Progress is written at most once per `Site.progress_seconds`, and the newest checkpoint travels with
it. Only what is heard for the first time is written at once: where an execution resumed from, the
job's first checkpoint, and what the attempt before left on the volume.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from finetune_operator.api.v1alpha1 import Progress as ProgressStatus
from finetune_operator.domain.course import Course
from finetune_operator.domain.facts import Facts, format_time
from finetune_operator.domain.views import parse_time
from finetune_trainer.contract import Progress, Termination


def heard(facts: Facts) -> Progress | None:
    """What rank 0 of the current attempt said, None when it has said nothing yet."""
    told, current = facts.seen.progress, facts.attempt
    if told is None or current is None:
        return None
    matches = told.uid == facts.seen.identity.uid and told.attempt == current.number
    return told if matches else None


def follow(facts: Facts, course: Course) -> Course:
    """The course with rank 0's news; the same course when there is nothing worth a write."""
    told = heard(facts)
    if told is None:
        return course
    if told.previous is not None:
        course = course.corrected(told.previous)
    resumed = _first_heard(told, course)
    course = course.executing(told.execution)
    if resumed is not None:
        course = course.resumed_at(resumed)
    due = _is_due(facts, told)
    if due or resumed is not None or course.checkpoint is None:
        course = course.saved(told.last_checkpoint, resumed_at=resumed)
    if not due:
        return course
    reached = max(course.row.to_step or 0, told.step)
    return replace(course.with_row(to_step=reached), progress=progress_status(facts, told))


def final_progress(facts: Facts, record: Termination | None) -> ProgressStatus | None:
    """Progress as it stood at the end of an attempt: the last one heard, then the record."""
    told = heard(facts)
    last = progress_status(facts, told) if told else facts.status.progress
    if record is None or record.step is None:
        return last
    total = record.total_steps or (last.total_steps if last else None)
    wire = record.to_dict()
    update = {
        "step": record.step,
        "total_steps": total,
        "percent": _percent(record.step, total),
        "loss": wire.get("loss", last.loss if last else None),
        "eval_loss": wire.get("evalLoss", last.eval_loss if last else None),
        "estimated_remaining_seconds": None,
        "updated_at": format_time(facts.seen.now),
    }
    return (last or ProgressStatus()).model_copy(update=update)


def progress_status(facts: Facts, told: Progress) -> ProgressStatus:
    """Rank 0's words in the form of the status, stamped with the time of this look."""
    wire = told.to_dict()
    del wire["updatedAt"]
    return ProgressStatus.model_validate(wire).model_copy(
        update={
            "percent": _percent(told.step, told.total_steps),
            "updated_at": format_time(facts.seen.now),
        }
    )


def _first_heard(told: Progress, course: Course) -> int | None:
    """The step that an execution started from, when it says so for the first time."""
    current = course.current
    if told.resumed_from_step is None:
        return None
    known = (current.executions, current.resumed_from_step)
    return told.resumed_from_step if known != (told.execution, told.resumed_from_step) else None


def _is_due(facts: Facts, told: Progress) -> bool:
    """True when the last written progress is old enough and rank 0 has said something since."""
    last = facts.status.progress
    written = parse_time(last.updated_at) if last else None
    if last is None or written is None:
        return True
    rested = facts.seen.now - written >= timedelta(seconds=facts.seen.site.progress_seconds)
    unstamped = {"updated_at": None}
    news = progress_status(facts, told).model_copy(update=unstamped)
    return rested and news != last.model_copy(update=unstamped)


def _percent(step: int, total: int | None) -> int | None:
    return min(100, 100 * step // total) if total else None
