"""An observation, read: typed spec and status, and the run that they are about.

Checks ask `Facts`, so that each question ("have all ranks joined?") is answered in one place.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

from pydantic import ValidationError

from finetune_operator.api.v1alpha1 import (
    Attempt,
    Condition,
    ConditionStatus,
    ConditionType,
    CurrentAttempt,
    FineTuneJobSpec,
    FineTuneJobStatus,
    FixedSpec,
    Outcome,
    Preflight,
    Recovery,
)
from finetune_operator.domain.classify import Verdict, is_released, judge
from finetune_operator.domain.observed import Observation
from finetune_operator.domain.views import parse_time

PODLESS: Final = timedelta(seconds=30)  # the Job controller needs a second or two


@dataclass(frozen=True, slots=True)
class Run:
    """The newest Job of the job: a preflight (one pod) or an attempt (one pod per node).

    `job_uid` is the recorded uid, "" before the Job was ever seen; `is_open` while the status has
    not recorded its end.
    """

    number: int
    job_name: str
    job_uid: str
    is_open: bool
    ranks: int


@dataclass(frozen=True, slots=True)
class Facts:
    """Everything that checks may ask. `spec` is None when it cannot be read, see `spec_problem`."""

    seen: Observation
    status: FineTuneJobStatus
    spec: FineTuneJobSpec | None
    spec_problem: str = ""

    @classmethod
    def read(cls, seen: Observation) -> Self:
        """Parse spec and status.

        Raises pydantic.ValidationError for a status that the API server would not have stored.
        """
        status = FineTuneJobStatus.model_validate(seen.status)
        try:
            spec = FineTuneJobSpec.model_validate(seen.spec)
        except ValidationError as error:
            return cls(seen=seen, status=status, spec=None, spec_problem=_explain(error))
        return cls(seen=seen, status=status, spec=spec)

    @property
    def recovery(self) -> Recovery:
        """Budgets, read from the spec on each pass."""
        return self.spec.recovery if self.spec else Recovery()

    @property
    def start_deadline(self) -> timedelta:
        """How long starting may take, read from the spec on each pass."""
        return timedelta(seconds=self.spec.start_deadline_seconds if self.spec else 0)

    @property
    def resolved(self) -> FixedSpec:
        """The spec as accepted. Only for jobs that were."""
        if self.status.resolved is None:
            raise ValueError("the job has not been accepted yet")
        return self.status.resolved

    @property
    def attempt(self) -> CurrentAttempt | None:
        """The current attempt, with the uid of its Job as soon as that can be seen."""
        current = self.status.current_attempt
        if current is None or current.job_uid or not self.owns_job:
            return current
        return current.model_copy(update={"job_uid": self._seen_uid})

    @property
    def preflight(self) -> Preflight | None:
        """The newest preflight, with the uid of its Job as soon as that can be seen."""
        newest = self.status.preflight
        if newest is None or newest.job_uid or self.status.current_attempt or not self.owns_job:
            return newest
        return newest.model_copy(update={"job_uid": self._seen_uid})

    @property
    def row(self) -> Attempt | None:
        """The current attempt's row of the table."""
        return self.status.attempts[-1] if self.status.attempts else None

    @property
    def run(self) -> Run | None:
        """The newest Job, preflight or attempt."""
        attempt, preflight = self.attempt, self.preflight
        if attempt is not None:
            return Run(
                number=attempt.number,
                job_name=attempt.job_name or "",
                job_uid=attempt.job_uid or "",
                is_open=self.row is not None and self.row.outcome is Outcome.RUNNING,
                ranks=self.resolved.compute.nodes,
            )
        if preflight is not None:
            return Run(
                number=preflight.number,
                job_name=preflight.job_name or "",
                job_uid=preflight.job_uid or "",
                is_open=preflight.finished_at is None,
                ranks=1,
            )
        return None

    @property
    def owns_job(self) -> bool:
        """True when the live Job exists and is controlled by this FineTuneJob."""
        return self.seen.job is not None and self.seen.job.owner_uid == self.seen.identity.uid

    @property
    def verdict(self) -> Verdict | None:
        """How the run ended; None while it has not, or before its Job was seen."""
        run = self.run
        if run is None or not run.job_uid:
            return None
        return judge(
            self.seen.job,
            [pod for pod in self.seen.pods if pod.job_uid == run.job_uid],
            recorded_uid=run.job_uid,
            ranks=run.ranks,
            now=self.seen.now,
        )

    @property
    def is_released(self) -> bool:
        """True when nothing of the run can write any more."""
        return is_released(self.seen.job, self.seen.pods)

    @property
    def has_joined(self) -> bool:
        """True when every rank's container runs or ran, now or at the last status write.

        From here on the launchers guard the start: they wait for each other with the same deadline.
        """
        run = self.run
        started = {pod.rank for pod in self.seen.pods if pod.started and not pod.gone}
        if run is not None and started >= set(range(run.ranks)):
            return True
        running = self.condition(ConditionType.RUNNING)
        return running is not None and running.status is ConditionStatus.TRUE

    @property
    def is_overdue(self) -> bool:
        """True when the Job was admitted longer ago than the deadline and ranks are missing."""
        job = self.seen.job
        if job is None or job.suspended or job.deleting or job.started_at is None:
            return False
        return not self.has_joined and self.seen.now - job.started_at > self.start_deadline

    @property
    def hindrance(self) -> str:
        """Why the first pod that does not start is waiting, or that there is none; else ""."""
        waiting = (p for p in self.seen.pods if p.waiting and not p.started and not p.ended)
        return next((f"pod {pod.name}: {pod.waiting}" for pod in waiting), self._podless)

    def condition(self, kind: ConditionType) -> Condition | None:
        """The condition as last written."""
        return next((c for c in self.status.conditions if c.type == kind), None)

    @property
    def is_finished(self) -> bool:
        """True once Succeeded is True or False: final, whatever becomes of the children."""
        succeeded = self.condition(ConditionType.SUCCEEDED)
        return succeeded is not None and succeeded.status is not ConditionStatus.UNKNOWN

    @property
    def _podless(self) -> str:
        job, pods = self.seen.job, self.seen.pods
        if job is None or job.suspended or job.started_at is None:
            return ""
        if pods or self.seen.now - job.started_at < PODLESS:
            return ""
        return f"Job {job.name} has made no pods; see its events"

    @property
    def _seen_uid(self) -> str:
        return self.seen.job.uid if self.seen.job else ""


def format_time(moment: datetime) -> str:
    """Aware datetime -> RFC 3339 in UTC, whole seconds, as the API server writes times."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds_until(moment: datetime, now: datetime) -> float:
    """Seconds from now to a moment, at least 0."""
    return max(0.0, (moment - now).total_seconds())


def recorded_time(text: str | None, *, otherwise: datetime) -> datetime:
    """A time from the status; what is missing or unreadable counts as `otherwise`."""
    return parse_time(text) or otherwise


def _explain(error: ValidationError) -> str:
    """Each wrong field with what is wrong with it."""
    found = (
        f"spec.{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
        for detail in error.errors(include_url=False)
    )
    return "; ".join(found)
