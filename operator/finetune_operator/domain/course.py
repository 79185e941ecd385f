"""What is known of an attempt's course, and how each source of news moves it.

News comes from rank 0's progress while it runs and from a termination record when it has ended.
Steps and checkpoints only grow, with one exception: an execution that says it resumed from an older
step than the newest checkpoint known has skipped checkpoints, and what it skipped is forgotten.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from finetune_operator.api.v1alpha1 import (
    Attempt,
    CheckpointStatus,
    CurrentAttempt,
    FineTuneJobStatus,
    Outcome,
)
from finetune_operator.api.v1alpha1 import Progress as ProgressStatus
from finetune_operator.constants import ATTEMPTS_KEPT
from finetune_operator.domain.budgets import earns_refill, last_counted
from finetune_operator.domain.classify import Cause, Treatment, record_cause
from finetune_trainer.contract import CheckpointReference, Termination


@dataclass(frozen=True, slots=True)
class Course:
    """The members of the status that training moves. The last row is the current attempt's."""

    current: CurrentAttempt
    rows: tuple[Attempt, ...]
    checkpoint: CheckpointStatus | None
    progress: ProgressStatus | None
    failures: int
    disruptions: int
    interval: int  # steps between checkpoints

    @property
    def row(self) -> Attempt:
        """The current attempt's row."""
        return self.rows[-1]

    def changes(self) -> dict[str, Any]:
        """The members of the status by their JSON names."""
        return {
            "currentAttempt": self.current,
            "attempts": self.rows,
            "lastCheckpoint": self.checkpoint,
            "progress": self.progress,
            "failures": self.failures,
            "disruptions": self.disruptions,
        }

    def with_row(self, **update: Any) -> Course:
        """The current attempt's row with other values."""
        return replace(self, rows=(*self.rows[:-1], self.row.model_copy(update=update)))

    def executing(self, execution: int | None) -> Course:
        """The attempt's pods were started for the `execution`th time."""
        if execution is None:
            return self
        current = self.current.model_copy(update={"executions": execution})
        return replace(self, current=current)

    def resumed_at(self, step: int) -> Course:
        """The current execution started from `step`, which says what the attempt before lost."""
        current = self.current.model_copy(update={"resumed_from_step": step})
        course = replace(self, current=current).with_row(from_step=step)
        if len(course.rows) < 2:
            return course
        before = course.rows[-2]
        reached = max(before.to_step or 0, step)  # a checkpoint proves that its step was reached
        before = before.model_copy(update={"to_step": reached, "steps_lost": reached - step})
        return replace(course, rows=(*course.rows[:-2], before, course.row))

    def saved(self, told: CheckpointReference | None, *, resumed_at: int | None = None) -> Course:
        """A verified checkpoint was reported; it may refill the failure budget.

        `resumed_at` is given once per execution, when it is first known.
        """
        known = self.checkpoint
        skipped = known is not None and resumed_at is not None and resumed_at < known.step
        if told is None or (known is not None and told.step <= known.step and not skipped):
            return self
        refilled = earns_refill(self.rows, checkpoint_step=told.step, interval=self.interval)
        return replace(
            self,
            checkpoint=CheckpointStatus(
                step=told.step, path=told.path, digest=told.digest, time=told.time
            ),
            failures=0 if refilled else self.failures,
        )

    def corrected(self, record: Termination) -> Course:
        """The volume kept the record of an ended attempt of which no pod was left to ask."""
        for place, row in enumerate(self.rows[:-1]):
            if row.number == record.attempt and row.exit_code is None:
                corrected, charges = _correct(row, record)
                return replace(
                    self,
                    rows=(*self.rows[:place], corrected, *self.rows[place + 1 :]),
                    failures=max(0, self.failures + charges[0]),
                    disruptions=max(0, self.disruptions + charges[1]),
                )
        return self


def recorded_course(status: FineTuneJobStatus, current: CurrentAttempt) -> Course:
    """The course as the status has it."""
    return Course(
        current=current,
        rows=status.attempts,
        checkpoint=status.last_checkpoint,
        progress=status.progress,
        failures=status.failures or 0,
        disruptions=status.disruptions or 0,
        interval=(status.plan.checkpoint_interval if status.plan else None) or 1,
    )


def newest_rows(rows: tuple[Attempt, ...]) -> tuple[Attempt, ...]:
    """The newest rows. The last counted failure stays: the next refill is measured by it."""
    kept = rows[-ATTEMPTS_KEPT:]
    counted = last_counted(rows)
    if counted is None or counted in kept:
        return kept
    return (counted, *kept[1:])


def _correct(row: Attempt, record: Termination) -> tuple[Attempt, tuple[int, int]]:
    """The row by the record, and the change of the two budgets."""
    reached = max(row.to_step or 0, record.step or 0)
    lost = (row.steps_lost or 0) + reached - (row.to_step or 0)
    steps = {"to_step": reached, "steps_lost": lost}
    cause = record_cause(record)
    if cause is None:
        return row.model_copy(update=steps), (0, 0)
    told = {**steps, "reason": cause.reason, "exit_code": cause.exit_code}
    if row.outcome not in (Outcome.FAILED, Outcome.DISRUPTED):
        return row.model_copy(update=told), (0, 0)
    counted, disrupted = _charges(cause)
    was_disrupted = row.outcome is Outcome.DISRUPTED
    told |= {"outcome": cause.outcome, "counted": counted}
    change = (int(counted) - int(bool(row.counted)), int(disrupted) - int(was_disrupted))
    return row.model_copy(update=told), change


def _charges(cause: Cause) -> tuple[bool, bool]:
    treatment = cause.rule.treatment
    return treatment is Treatment.FAILURE, treatment is Treatment.DISRUPTION
