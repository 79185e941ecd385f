"""Job + pods -> how a run ended, and why.

A run is one Job: a preflight or an attempt. It ends only when its Job says so or is gone. The cause
is the first in the table below that any of its pods shows, because the failure of one rank drags
the others along: a peer of the broken one reports "peer lost", and the rest are stopped by the Job
controller. Only when no pod left evidence does the Job's own reason decide.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from finetune_operator.api.v1alpha1 import Outcome, Reason
from finetune_operator.domain.observed import JobView, PodView
from finetune_trainer.contract import ExitCode, Termination

EVIDENCE_SECONDS: Final = 10  # patience with the other pods of a failing Job before judging it
SIGKILLED: Final = 137
SUCCESS_CONDITIONS: Final = frozenset({"Complete", "SuccessCriteriaMet"})
FINAL_CONDITIONS: Final = frozenset({"Complete", "Failed"})
FAILURE_POLICY_REASON: Final = "PodFailurePolicy"  # our one rule: FailJob on DisruptionTarget
_WORD: Final = re.compile(r"[A-Za-z][A-Za-z0-9]{0,127}")


class Treatment(StrEnum):
    """What follows from a cause: the job ends, or a new attempt on one of the two budgets."""

    FATAL = "Fatal"
    FAILURE = "Failure"
    DISRUPTION = "Disruption"


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the table. `code` is the launcher's exit code, None for a pod-level disruption."""

    code: ExitCode | None
    reason: Reason
    treatment: Treatment


# In order of precedence. 30, 40 and 41 end the job: this release neither replans nor rolls back.
CAUSES: Final = (
    Rule(ExitCode.BAD_CONFIG, Reason.BAD_CONFIG, Treatment.FATAL),
    Rule(ExitCode.DATA_UNREADABLE, Reason.DATA_UNREADABLE, Treatment.FATAL),
    Rule(ExitCode.NOTHING_TO_LEARN, Reason.NOTHING_TO_LEARN, Treatment.FATAL),
    Rule(ExitCode.TOKENIZER, Reason.TOKENIZER, Treatment.FATAL),
    Rule(ExitCode.MODEL, Reason.MODEL, Treatment.FATAL),
    Rule(ExitCode.NO_CHECKPOINT_VERIFIES, Reason.NO_CHECKPOINT_VERIFIES, Treatment.FATAL),
    Rule(ExitCode.FOREIGN_CHECKPOINT, Reason.FOREIGN_CHECKPOINT, Treatment.FATAL),
    Rule(ExitCode.GPU_OUT_OF_MEMORY, Reason.GPU_OUT_OF_MEMORY, Treatment.FATAL),
    Rule(ExitCode.HOST_OUT_OF_MEMORY, Reason.HOST_OUT_OF_MEMORY, Treatment.FATAL),
    Rule(ExitCode.DISK_FULL, Reason.DISK_FULL, Treatment.FATAL),
    Rule(ExitCode.NOT_FINITE, Reason.NOT_FINITE, Treatment.FATAL),
    Rule(ExitCode.DIVERGED, Reason.DIVERGED, Treatment.FATAL),
    Rule(ExitCode.GPU_FAULT, Reason.GPU_FAULT, Treatment.FAILURE),
    Rule(None, Reason.DISRUPTED, Treatment.DISRUPTION),
    Rule(ExitCode.HANG, Reason.HANG, Treatment.FAILURE),
    Rule(ExitCode.INFRASTRUCTURE, Reason.INFRASTRUCTURE, Treatment.FAILURE),
    Rule(ExitCode.PEER_LOST, Reason.PEER_LOST, Treatment.FAILURE),
    Rule(ExitCode.STOPPED_SAVED, Reason.DISRUPTED, Treatment.DISRUPTION),
    Rule(ExitCode.STOPPED_NOTHING_NEW, Reason.DISRUPTED, Treatment.DISRUPTION),
)
_PLACE: Final = {rule.code: place for place, rule in enumerate(CAUSES)}


@dataclass(frozen=True, slots=True)
class Cause:
    """Why a run ended. `exit_code` is the number to show, None when there was none."""

    rule: Rule
    reason: str
    message: str
    exit_code: int | None = None
    pod: PodView | None = None

    @property
    def outcome(self) -> Outcome:
        """The outcome of an attempt that ended by this cause."""
        if self.reason == Reason.NOT_STARTED:
            return Outcome.NOT_STARTED
        if self.rule.treatment is Treatment.DISRUPTION:
            return Outcome.DISRUPTED
        return Outcome.FAILED


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a run ended. `cause` is None for success; `record` is the termination that tells most."""

    outcome: Outcome
    cause: Cause | None = None
    record: Termination | None = None

    @property
    def treatment(self) -> Treatment | None:
        """What follows, None for success."""
        return self.cause.rule.treatment if self.cause else None


def cause_of(
    code: ExitCode | None,
    *,
    message: str = "",
    reason: str = "",
    exit_code: int | None = None,
    pod: PodView | None = None,
) -> Cause:
    """The cause that ranks as `code`, with its own reason, message and number if it has them."""
    rule = CAUSES[_PLACE[code]]
    return Cause(
        rule=rule,
        reason=reason if _WORD.fullmatch(reason) else rule.reason,
        message=message,
        exit_code=exit_code if exit_code is not None else code,
        pod=pod,
    )


def record_cause(record: Termination, *, pod: PodView | None = None) -> Cause | None:
    """The cause that a termination record names; None for code 0."""
    if record.code == ExitCode.OK:
        return None
    if record.code in _PLACE:
        return cause_of(
            ExitCode(record.code), message=record.message, reason=record.reason, pod=pod
        )
    return _unlisted(record.code, record.message, pod)


def judge(
    job: JobView | None,
    pods: Sequence[PodView],
    *,
    recorded_uid: str,
    ranks: int,
    now: datetime,
) -> Verdict | None:
    """The end of the run whose Job has uid `recorded_uid`; None while it has not ended.

    A Job of another uid is not the run's: the run's own is gone.
    """
    if job is None or job.uid != recorded_uid:
        return _judge_gone(pods, ranks=ranks)
    if job.conditions & SUCCESS_CONDITIONS:
        return Verdict(Outcome.SUCCEEDED, record=_best_record(pods, None))
    if "Failed" in job.conditions or (
        "FailureTarget" in job.conditions and _evidence_complete(job, pods, now=now)
    ):
        return _by_cause(_first(pods) or _job_cause(job), pods)
    return None


def is_released(job: JobView | None, pods: Iterable[PodView]) -> bool:
    """True when nothing of the run can write any more: the next one may start."""
    job_over = job is None or bool(job.conditions & FINAL_CONDITIONS)
    return job_over and all(pod.ended for pod in pods)


def _judge_gone(pods: Sequence[PodView], *, ranks: int) -> Verdict:
    finished = {pod.rank for pod in pods if pod.exit_code == ExitCode.OK}
    if finished >= set(range(ranks)):
        return Verdict(Outcome.SUCCEEDED, record=_best_record(pods, None))
    cause = _first(pods)
    if cause is not None and cause.rule.treatment is not Treatment.DISRUPTION:
        return _by_cause(cause, pods)
    missing = cause_of(None, message="the Job was deleted", reason=Reason.MISSING)
    return Verdict(Outcome.MISSING, cause=missing, record=_best_record(pods, missing))


def _by_cause(cause: Cause, pods: Sequence[PodView]) -> Verdict:
    return Verdict(cause.outcome, cause=cause, record=_best_record(pods, cause))


def _evidence_complete(job: JobView, pods: Iterable[PodView], *, now: datetime) -> bool:
    if all(pod.ended for pod in pods) or job.condition_since is None:
        return True
    return now - job.condition_since >= timedelta(seconds=EVIDENCE_SECONDS)


def _first(pods: Iterable[PodView]) -> Cause | None:
    causes = [cause for pod in pods for cause in _pod_causes(pod)]
    return min(causes, key=lambda cause: _PLACE[cause.rule.code], default=None)


def _pod_causes(pod: PodView) -> Iterable[Cause]:
    if pod.disrupted:
        message = f"pod {pod.name} was evicted or preempted"
        yield cause_of(None, message=message, exit_code=pod.exit_code, pod=pod)
    if pod.ended and (cause := _exit_cause(pod)) is not None:
        yield cause


def _exit_cause(pod: PodView) -> Cause | None:
    if pod.container_reason == "OOMKilled":
        return cause_of(
            ExitCode.HOST_OUT_OF_MEMORY,
            message=f"pod {pod.name} exceeded its memory limit",
            pod=pod,
        )
    if pod.reason == "Evicted" and not pod.disrupted:
        return cause_of(
            ExitCode.DISK_FULL, message=f"pod {pod.name} was evicted by its node", pod=pod
        )
    if pod.termination is not None and (cause := record_cause(pod.termination, pod=pod)):
        return cause
    if pod.exit_code is None:
        return _rejected(pod)
    if pod.exit_code == ExitCode.OK:
        return None
    if pod.exit_code in _PLACE:
        return cause_of(
            ExitCode(pod.exit_code), message=f"exit code {pod.exit_code} of pod {pod.name}", pod=pod
        )
    if pod.exit_code == SIGKILLED and pod.deleting:
        return cause_of(
            ExitCode.STOPPED_NOTHING_NEW,
            message=f"pod {pod.name} was deleted and killed",
            exit_code=SIGKILLED,
            pod=pod,
        )
    return _unlisted(pod.exit_code, f"pod {pod.name} left no record", pod)


def _rejected(pod: PodView) -> Cause | None:
    """A pod that failed without ever running: its node refused or lost it."""
    if pod.phase != "Failed" or pod.disrupted:
        return None
    words = pod.reason or "no reason given"
    message = f"pod {pod.name} failed before its container ran: {words}"
    rule = CAUSES[_PLACE[ExitCode.INFRASTRUCTURE]]
    return Cause(rule=rule, reason=rule.reason, message=message, pod=pod)


def _unlisted(code: int, message: str, pod: PodView | None) -> Cause:
    text = f"exit code {code}: {message}" if message else f"exit code {code}"
    return cause_of(ExitCode.INFRASTRUCTURE, message=text, exit_code=code, pod=pod)


def _job_cause(job: JobView) -> Cause:
    code = None if job.reason == FAILURE_POLICY_REASON else ExitCode.INFRASTRUCTURE
    rule = CAUSES[_PLACE[code]]
    message = f"Job {job.name} failed ({job.reason}) and no pod of it left evidence"
    return Cause(rule=rule, reason=rule.reason, message=message)


def _best_record(pods: Iterable[PodView], cause: Cause | None) -> Termination | None:
    """Rank 0's record, else that of the pod that decided, else any."""
    told = [pod for pod in pods if pod.termination is not None]
    deciding = cause.pod.uid if cause and cause.pod else None
    told.sort(key=lambda pod: (pod.rank != 0, pod.uid != deciding))
    return told[0].termination if told else None
