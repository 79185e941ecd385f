"""The table of exit codes, the precedence between pods, and evidence without exit codes."""

from __future__ import annotations

import pytest

from finetune_operator.api.v1alpha1 import Outcome, Reason
from finetune_operator.domain.classify import CAUSES, Treatment, Verdict, is_released, judge
from finetune_operator.domain.views import job_view, pod_view
from finetune_trainer.contract import ExitCode
from tests.builders import MakeJob, MakePod, a_record, at

FATAL, FAILURE, DISRUPTION = Treatment.FATAL, Treatment.FAILURE, Treatment.DISRUPTION
FAILED_JOB = MakeJob().failed()


def verdict_of(
    *pods: MakePod, job: MakeJob | None = FAILED_JOB, gone: tuple[MakePod, ...] = (), ranks: int = 1
) -> Verdict | None:
    views = [pod_view(pod.obj()) for pod in pods]
    views += [pod_view(pod.obj(), gone=True) for pod in gone]
    view = job_view(job.obj()) if job else None
    return judge(view, views, recorded_uid="job-1", ranks=ranks, now=at(0))


def summary(verdict: Verdict | None) -> tuple[object, ...]:
    assert verdict is not None
    assert verdict.cause is not None
    cause = verdict.cause
    return verdict.outcome, cause.rule.treatment, cause.reason, cause.exit_code


EXIT_CODES = {
    "10 bad config: user error, never retried": (10, Outcome.FAILED, FATAL, "BadConfig"),
    "11 data missing or unreadable": (11, Outcome.FAILED, FATAL, "DataUnreadable"),
    "12 nothing to learn from": (12, Outcome.FAILED, FATAL, "NothingToLearn"),
    "13 tokenizer or template": (13, Outcome.FAILED, FATAL, "Tokenizer"),
    "14 model missing, denied or unsupported": (14, Outcome.FAILED, FATAL, "Model"),
    "20 network or storage: new attempt, counts": (20, Outcome.FAILED, FAILURE, "Infrastructure"),
    "21 peer lost": (21, Outcome.FAILED, FAILURE, "PeerLost"),
    "22 GPU fault": (22, Outcome.FAILED, FAILURE, "GPUFault"),
    "23 hang": (23, Outcome.FAILED, FAILURE, "Hang"),
    "30 GPU out of memory ends the job": (30, Outcome.FAILED, FATAL, "GPUOutOfMemory"),
    "31 host memory": (31, Outcome.FAILED, FATAL, "HostOutOfMemory"),
    "32 disk full": (32, Outcome.FAILED, FATAL, "DiskFull"),
    "40 not finite ends the job": (40, Outcome.FAILED, FATAL, "NotFinite"),
    "41 diverged ends the job": (41, Outcome.FAILED, FATAL, "Diverged"),
    "50 no checkpoint verifies": (50, Outcome.FAILED, FATAL, "NoCheckpointVerifies"),
    "51 checkpoint of another run": (51, Outcome.FAILED, FATAL, "ForeignCheckpoint"),
    "75 stopped, state saved: not counted": (75, Outcome.DISRUPTED, DISRUPTION, "Disrupted"),
    "76 stopped, nothing new": (76, Outcome.DISRUPTED, DISRUPTION, "Disrupted"),
}


@pytest.mark.parametrize(
    ("code", "outcome", "treatment", "reason"), EXIT_CODES.values(), ids=EXIT_CODES
)
@pytest.mark.parametrize("recorded", [True, False], ids=["record", "no record"])
def test_exit_code(
    code: int, outcome: Outcome, treatment: Treatment, reason: str, recorded: bool
) -> None:
    record = a_record(code) if recorded else None
    found = verdict_of(MakePod().exited(code, record))
    assert summary(found) == (outcome, treatment, reason, code)


POD_LEVEL = {
    "the trainer names its own reason": (
        MakePod().exited(20, a_record(20, "StorageLost")),
        (Outcome.FAILED, FAILURE, "StorageLost", 20),
    ),
    "76 with reason NotStarted: the ranks never met": (
        MakePod().exited(76, a_record(76, "NotStarted")),
        (Outcome.NOT_STARTED, DISRUPTION, "NotStarted", 76),
    ),
    "a reason that is not a word is not copied": (
        MakePod().exited(20, a_record(20, "no such: host")),
        (Outcome.FAILED, FAILURE, "Infrastructure", 20),
    ),
    "OOMKilled is 31": (
        MakePod().exited(137, reason="OOMKilled"),
        (Outcome.FAILED, FATAL, "HostOutOfMemory", 31),
    ),
    "Evicted without DisruptionTarget is 32": (
        MakePod().exited(137).evicted(),
        (Outcome.FAILED, FATAL, "DiskFull", 32),
    ),
    "Evicted with DisruptionTarget is a disruption": (
        MakePod().exited(137).evicted().disrupted(),
        (Outcome.DISRUPTED, DISRUPTION, "Disrupted", 137),
    ),
    "137 after a deletionTimestamp is a disruption": (
        MakePod().exited(137).deleted(),
        (Outcome.DISRUPTED, DISRUPTION, "Disrupted", 137),
    ),
    "any other 137 without a record is infrastructure, counted": (
        MakePod().exited(137),
        (Outcome.FAILED, FAILURE, "Infrastructure", 137),
    ),
    "any 143 without a record is infrastructure, counted": (
        MakePod().exited(143).deleted(),
        (Outcome.FAILED, FAILURE, "Infrastructure", 143),
    ),
    "137 with a record is what the record says": (
        MakePod().exited(137, a_record(75)).deleted(),
        (Outcome.DISRUPTED, DISRUPTION, "Disrupted", 75),
    ),
    "an unlisted code ranks as 20 and keeps its number": (
        MakePod().exited(1),
        (Outcome.FAILED, FAILURE, "Infrastructure", 1),
    ),
    "an unlisted code in a record too": (
        MakePod().exited(99, a_record(99)),
        (Outcome.FAILED, FAILURE, "Infrastructure", 99),
    ),
    "a pod that its node refused is infrastructure": (
        MakePod().rejected("UnexpectedAdmissionError"),
        (Outcome.FAILED, FAILURE, "Infrastructure", None),
    ),
}


@pytest.mark.parametrize(("pod", "wanted"), POD_LEVEL.values(), ids=POD_LEVEL)
def test_pod(pod: MakePod, wanted: tuple[object, ...]) -> None:
    assert summary(verdict_of(pod)) == wanted


def test_the_message_of_an_unlisted_code_holds_its_number() -> None:
    found = verdict_of(MakePod().exited(3))
    assert found is not None
    assert found.cause is not None
    assert "exit code 3" in found.cause.message


# 10-14, 50/51, 30-32, 40/41, 22, DisruptionTarget, 23, 20, 21, 75/76, none.
PRECEDENCE = (
    *(MakePod().exited(code) for code in (10, 51, 30, 40, 22)),
    MakePod().running().disrupted(),
    *(MakePod().exited(code) for code in (23, 20, 21)),
    MakePod().exited(76),
    MakePod().exited(0),
)


@pytest.mark.parametrize("place", range(len(PRECEDENCE) - 1))
def test_the_first_cause_of_the_list_wins_whichever_rank_shows_it(place: int) -> None:
    first, *others = PRECEDENCE[place:]
    alone = summary(verdict_of(first))
    assert summary(verdict_of(first, *others)) == alone
    assert summary(verdict_of(*reversed(others), first)) == alone


def test_an_unlisted_code_stands_where_20_stands() -> None:
    assert summary(verdict_of(MakePod().exited(21), MakePod(1).exited(1)))[-1] == 1
    assert summary(verdict_of(MakePod().exited(23), MakePod(1).exited(1)))[-1] == 23


def test_a_peer_that_the_job_controller_killed_does_not_hide_the_failure() -> None:
    """It is deleted because of the failure, so its 137 is no disruption of its own."""
    found = verdict_of(MakePod(0).exited(20), MakePod(1).exited(137).deleted())
    assert summary(found)[:2] == (Outcome.FAILED, FAILURE)


def test_every_code_of_the_contract_has_one_row() -> None:
    codes = [rule.code for rule in CAUSES if rule.code is not None]
    assert sorted(codes) == sorted(set(ExitCode) - {ExitCode.OK})


JOB_LEVEL = {
    "no pod left: PodFailurePolicy is our one rule, a disruption": (
        MakeJob().failed("PodFailurePolicy"),
        (Outcome.DISRUPTED, DISRUPTION, "Disrupted", None),
    ),
    "no pod left: any other reason is infrastructure": (
        MakeJob().failed("BackoffLimitExceeded"),
        (Outcome.FAILED, FAILURE, "Infrastructure", None),
    ),
    "the Job is gone: Missing": (None, (Outcome.MISSING, DISRUPTION, Reason.MISSING, None)),
    "a Job of another uid: ours is gone": (
        MakeJob(uid="job-2"),
        (Outcome.MISSING, DISRUPTION, Reason.MISSING, None),
    ),
}


@pytest.mark.parametrize(("job", "wanted"), JOB_LEVEL.values(), ids=JOB_LEVEL)
def test_without_pods_the_job_decides(job: MakeJob | None, wanted: tuple[object, ...]) -> None:
    assert summary(verdict_of(job=job)) == wanted


NOT_ENDED = {
    "a running Job": MakeJob(),
    "a Job being deleted": MakeJob().being_deleted(),
    "a suspended Job": MakeJob().suspended(),
    "a Job that has just begun to fail, with a pod still to report": MakeJob().failing(since=at(0)),
}


@pytest.mark.parametrize("job", NOT_ENDED.values(), ids=NOT_ENDED)
def test_an_attempt_ends_only_when_its_job_says_so(job: MakeJob) -> None:
    assert verdict_of(MakePod(0).exited(21), MakePod(1).running(), job=job) is None


ENDED = {
    "FailureTarget, every pod ended": (MakeJob().failing(), MakePod().exited(20)),
    "FailureTarget for 10 s, a pod still runs": (
        MakeJob().failing(since=at(-10)),
        MakePod().running(),
    ),
    "Failed": (MakeJob().failed(), MakePod().running()),
}


@pytest.mark.parametrize(("job", "pod"), ENDED.values(), ids=ENDED)
def test_an_attempt_ends_in_failure(job: MakeJob, pod: MakePod) -> None:
    assert summary(verdict_of(pod, job=job))[0] is Outcome.FAILED


def test_success_is_what_the_job_says_even_if_rank_0_is_gone() -> None:
    for job in (MakeJob().complete(), MakeJob().with_condition("SuccessCriteriaMet")):
        assert verdict_of(job=job) == Verdict(Outcome.SUCCEEDED)


def test_a_deleted_job_whose_ranks_all_finished_has_succeeded() -> None:
    ranks = (MakePod(0).exited(0, a_record(0)), MakePod(1).exited(0))
    found = verdict_of(job=None, gone=ranks, ranks=2)
    assert found is not None
    assert (found.outcome, found.cause) == (Outcome.SUCCEEDED, None)


def test_a_deleted_job_whose_pods_tell_of_a_failure_has_failed() -> None:
    found = verdict_of(job=None, gone=(MakePod().exited(12, a_record(12)),))
    assert summary(found) == (Outcome.FAILED, FATAL, "NothingToLearn", 12)


def test_evidence_survives_the_pod_when_the_watch_saw_it() -> None:
    found = verdict_of(gone=(MakePod().exited(14, a_record(14)),))
    assert summary(found)[2:] == ("Model", 14)


def test_the_record_is_rank_0s_else_the_deciding_pods() -> None:
    zero, one = a_record(76, message="zero"), a_record(20, message="one")
    both = verdict_of(MakePod(1).exited(20, one), MakePod(0).exited(76, zero))
    only_one = verdict_of(MakePod(1).exited(20, one), MakePod(0).exited(76))
    assert both is not None
    assert only_one is not None
    assert (both.record, only_one.record) == (zero, one)


MALFORMED = {
    "no JSON": "Killed",
    "no number where one belongs": '{"code": 31, "reason": "X", "loss": []}',
    "a code that no process can have": '{"code": 300, "reason": "X"}',
    "a negative step": '{"code": 31, "reason": "X", "step": -1}',
    "a step that no status can hold": '{"code": 31, "reason": "X", "step": 3000000000}',
}


@pytest.mark.parametrize("message", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_record_is_none_and_the_exit_code_decides(message: str) -> None:
    pod = MakePod().exited(22).obj()
    [container] = pod["status"]["containerStatuses"]
    container["state"]["terminated"]["message"] = message
    found = judge(
        job_view(FAILED_JOB.obj()), [pod_view(pod)], recorded_uid="job-1", ranks=1, now=at(0)
    )
    assert summary(found)[2:] == ("GPUFault", 22)


RELEASED = {
    "Failed, every pod terminal": (MakeJob().failed(), [MakePod().exited(1)], True),
    "Complete": (MakeJob().complete(), [MakePod().exited(0)], True),
    "gone, pods gone": (None, [], True),
    "FailureTarget is not enough": (MakeJob().failing(), [MakePod().exited(1)], False),
    "SuccessCriteriaMet is not enough": (MakeJob().with_condition("SuccessCriteriaMet"), [], False),
    "Failed, a pod still terminating": (MakeJob().failed(), [MakePod().running().deleted()], False),
    "gone, a pod still runs": (None, [MakePod().running()], False),
}


@pytest.mark.parametrize(("job", "pods", "released"), RELEASED.values(), ids=RELEASED)
def test_the_next_attempt_waits_for_the_old_one(
    job: MakeJob | None, pods: list[MakePod], released: bool
) -> None:
    view = job_view(job.obj()) if job else None
    assert is_released(view, [pod_view(pod.obj()) for pod in pods]) is released
