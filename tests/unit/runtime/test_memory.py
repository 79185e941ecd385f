"""What the process remembers: echoes of its own writes, refusals, and how pods ended."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finetune_operator.constants import LABEL_ATTEMPT, LABEL_JOB, LABEL_UID
from finetune_operator.domain.observed import Refusal
from finetune_operator.metrics import Metrics
from finetune_operator.runtime.intake import Intake
from finetune_operator.runtime.memory import Fleet, PodMemory, Refusals, has_ended
from finetune_operator.runtime.queue import Key, WorkQueue
from tests.virtual_time import VirtualTime

KEY = Key("team", "tune")
ENDED = {"state": {"terminated": {"exitCode": 20}}}
RUNNING = {"state": {"running": {}}}


def pod(uid: str, *, attempt: int = 1, phase: str = "Failed", **status: Any) -> dict[str, Any]:
    labels = {LABEL_JOB: "tune", LABEL_UID: "job-uid", LABEL_ATTEMPT: str(attempt)}
    return {
        "metadata": {"namespace": "team", "name": f"pod-{uid}", "uid": uid, "labels": labels},
        "spec": {"nodeName": "node-1", "containers": [{"name": "trainer", "env": ["large"]}]},
        "status": {"phase": phase, **status},
    }


@pytest.mark.parametrize(
    ("status", "ended"),
    [
        ({"phase": "Failed"}, True),
        ({"phase": "Succeeded"}, True),
        ({"phase": "Pending"}, False),
        ({"phase": "Running", "containerStatuses": [RUNNING]}, False),
        ({"phase": "Running", "containerStatuses": [ENDED]}, True),
        ({"phase": "Running", "containerStatuses": [ENDED, RUNNING]}, False),
        ({}, False),
    ],
)
def test_a_pod_has_ended_when_nothing_of_it_runs(status: dict[str, Any], ended: bool) -> None:
    assert has_ended({"status": status}) is ended


def recalled(memory: PodMemory, *, attempt: int = 1, known: tuple[str, ...] = ()) -> list[str]:
    labels = {LABEL_UID: "job-uid", LABEL_ATTEMPT: str(attempt)}
    return [p["metadata"]["uid"] for p in memory.recall("job-uid", labels=labels, known=known)]


def test_the_last_state_of_an_ended_pod_outlives_the_pod() -> None:
    memory = PodMemory()
    memory.note(pod("a", phase="Running"))
    memory.note(pod("a", containerStatuses=[ENDED]))
    memory.note(pod("b", phase="Running"))
    assert recalled(memory) == ["a"]
    assert recalled(memory, known=("a",)) == [], "the live one counts"
    assert recalled(memory) == ["a"], "until its run is history"


def test_pods_of_an_earlier_attempt_are_dropped() -> None:
    memory = PodMemory()
    memory.note(pod("a", attempt=1))
    memory.note(pod("b", attempt=2))
    assert recalled(memory, attempt=2) == ["b"]
    assert len(memory) == 1


def test_only_what_decisions_look_at_is_kept() -> None:
    memory = PodMemory()
    memory.note(pod("a"))
    labels = {LABEL_UID: "job-uid"}
    [kept] = memory.recall("job-uid", labels=labels, known=())
    assert kept["spec"] == {"nodeName": "node-1"}
    memory.forget("job-uid")
    assert len(memory) == 0


# --- intake ---------------------------------------------------------------------------------------


class Setup:
    def __init__(self) -> None:
        metrics = Metrics()
        self.queue = WorkQueue(time=VirtualTime(), observer=metrics)
        self.fleet = Fleet()
        self.pods = PodMemory()
        self.intake = Intake(
            self.queue, fleet=self.fleet, pods=self.pods, count=lambda resource, kind: None
        )

    def tune(self, version: str, kind: str | None = "MODIFIED") -> None:
        metadata = {"namespace": "team", "name": "tune", "uid": "u", "resourceVersion": version}
        self.intake.finetunejob(kind, {"metadata": metadata})


@pytest.fixture
def setup() -> Setup:
    return Setup()


def test_the_echo_of_our_own_status_write_is_dropped(setup: Setup) -> None:
    setup.fleet.wrote(KEY, "8")
    setup.tune("8")
    assert len(setup.queue) == 0
    setup.tune("9")
    assert len(setup.queue) == 1, "what others write is looked at"


def test_a_deletion_is_looked_at_whatever_its_version(setup: Setup) -> None:
    setup.fleet.wrote(KEY, "8")
    setup.tune("8", "DELETED")
    assert len(setup.queue) == 1


async def test_children_queue_their_owner_and_ended_pods_are_noted(setup: Setup) -> None:
    setup.intake.job("MODIFIED", pod("x"))
    assert await setup.queue.get() == KEY
    setup.queue.done(KEY)
    setup.intake.pod("DELETED", pod("x"))
    assert await setup.queue.get() == KEY
    assert len(setup.pods) == 1


def test_objects_of_others_are_ignored(setup: Setup) -> None:
    setup.intake.job(None, {"metadata": {"namespace": "team", "name": "cron-1"}})
    assert len(setup.queue) == 0


def test_phases_are_counted_over_the_jobs_that_exist() -> None:
    fleet = Fleet()
    fleet.decided(KEY, "Running")
    fleet.decided(Key("team", "b"), "Running")
    fleet.decided(Key("team", "c"), "Failed")
    assert fleet.count_phases() == {"Running": 2, "Failed": 1}
    fleet.forget(KEY)
    assert fleet.count_phases() == {"Running": 1, "Failed": 1}


def test_a_refusal_is_remembered_with_its_newest_words_and_its_first_time() -> None:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    memory = Refusals()
    memory.note(KEY, uid="job-uid", message="used 3", now=first)
    memory.note(KEY, uid="job-uid", message="used 4", now=first + timedelta(minutes=5))
    assert memory.recall(KEY, uid="job-uid") == Refusal("used 4", since=first)
    assert memory.recall(KEY, uid="another") is None, "a new job of the same name"
    memory.forget(KEY)
    assert memory.recall(KEY, uid="job-uid") is None
