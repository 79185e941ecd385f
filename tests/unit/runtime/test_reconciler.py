"""A pass reads, decides, writes once, acts on what was recorded before, and tells last."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_operator.constants import LABEL_JOB, LABEL_UID
from finetune_operator.domain.observed import Site
from finetune_operator.kube.errors import ApiError, Conflict, Forbidden, Transient
from finetune_operator.kube.requests import CLAIMS, FINETUNEJOBS
from finetune_operator.metrics import Metrics
from finetune_operator.runtime.events import EventRecorder
from finetune_operator.runtime.executor import Executor
from finetune_operator.runtime.gather import Gatherer
from finetune_operator.runtime.history import History, ended_attempts
from finetune_operator.runtime.memory import Fleet, PodMemory, Refusals
from finetune_operator.runtime.progress import ProgressBoard, Run
from finetune_operator.runtime.queue import Key, WorkQueue
from finetune_operator.runtime.reconciler import Reconciler
from finetune_operator.runtime.resync import Resync
from finetune_operator.runtime.workers import Workers
from tests.manifests import finetunejob
from tests.memory_kube import MemoryKube
from tests.virtual_time import VirtualTime

KEY = Key("team", "tune")
NOW = datetime(2026, 1, 1, tzinfo=UTC)


class Setup:
    """A reconciler over an in-memory store that holds one new FineTuneJob and its claims."""

    def __init__(self) -> None:
        self.kube = MemoryKube()
        self.metrics = Metrics()
        self.fleet = Fleet()
        self.pods, refusals = PodMemory(), Refusals()
        self.progress = ProgressBoard(
            look_seconds=1, first_heard=lambda key: None, count=lambda result: None
        )
        self.reconciler = Reconciler(
            self.kube,
            gatherer=Gatherer(
                self.kube,
                site=Site("trainer", operator_namespace="system"),
                pods=self.pods,
                progress=self.progress,
                refusals=refusals,
                now=lambda: NOW,
            ),
            executor=Executor(self.kube),
            recorder=EventRecorder(self.kube, instance="test", now=lambda: NOW),
            fleet=self.fleet,
            pods=self.pods,
            progress=self.progress,
            refusals=refusals,
            history=History(self.metrics, now=lambda: NOW),
        )

    async def apply(self) -> None:
        body = finetunejob("tune", {"metadata.generation": 1}, namespace="team")
        body["metadata"]["creationTimestamp"] = "2026-01-01T00:00:00Z"
        body["metadata"]["uid"] = "0f5a9e1c-0000-4000-8000-000000000000"
        await self.kube.create(FINETUNEJOBS, body)
        for name in ("models", "data"):
            metadata = {"namespace": "team", "name": name}
            spec = {"accessModes": ["ReadWriteMany"]}
            await self.kube.create(CLAIMS, {"metadata": metadata, "spec": spec})
        self.kube.calls.clear()

    def written(self) -> list[tuple[str, str]]:
        return [(v, plural) for v, plural, _ in self.kube.calls if v not in ("get", "list")]

    @property
    def status(self) -> dict[str, Any]:
        job = self.kube.objects[("finetunejobs", "team", "tune")]
        return dict(job.get("status") or {})


@pytest.fixture
async def setup() -> Setup:
    made = Setup()
    await made.apply()
    return made


async def test_the_intent_is_recorded_in_one_pass_and_carried_out_in_the_next(
    setup: Setup,
) -> None:
    assert await setup.reconciler.reconcile(KEY) == 0
    assert setup.written() == [("patch", "finetunejobs"), ("create", "events")]
    assert setup.status["preflight"]["number"] == 1

    setup.kube.calls.clear()
    await setup.reconciler.reconcile(KEY)
    assert setup.written() == [
        ("create", "persistentvolumeclaims"),
        ("create", "networkpolicies"),
        ("create", "jobs"),
    ]


async def test_a_lost_race_for_the_status_ends_the_pass(setup: Setup) -> None:
    setup.kube.failures[("patch", "finetunejobs")] = Conflict("changed")
    with pytest.raises(Conflict):
        await setup.reconciler.reconcile(KEY)
    assert setup.written() == [("patch", "finetunejobs")]


@pytest.mark.parametrize("plural", ["jobs", "persistentvolumeclaims", "networkpolicies"])
async def test_what_cannot_be_read_is_never_taken_for_absent(setup: Setup, plural: str) -> None:
    await setup.reconciler.reconcile(KEY)
    setup.kube.calls.clear()
    setup.kube.failures[("get", plural)] = Transient("busy")
    with pytest.raises(Transient):
        await setup.reconciler.reconcile(KEY)
    assert setup.written() == []


async def test_a_refused_child_is_told_to_the_user(setup: Setup) -> None:
    await setup.reconciler.reconcile(KEY)
    setup.kube.failures[("create", "jobs")] = Forbidden("exceeded quota: jobs")
    with pytest.raises(Forbidden):
        await setup.reconciler.reconcile(KEY)
    events = [o for (plural, _, _), o in setup.kube.objects.items() if plural == "events"]
    [refused] = [event for event in events if event["reason"] == "ChildRefused"]
    assert (refused["type"], refused["note"]) == ("Warning", "exceeded quota: jobs")
    assert "jobs" not in {plural for plural, _, _ in setup.kube.objects}

    await setup.reconciler.reconcile(KEY)
    [told] = [c for c in setup.status["conditions"] if c["type"] == "PreflightPassed"]
    assert (told["reason"], told["message"]) == ("ChildRefused", "exceeded quota: jobs")
    assert "jobs" in {plural for plural, _, _ in setup.kube.objects}, "it was tried again"

    await setup.reconciler.reconcile(KEY)
    [told] = [c for c in setup.status["conditions"] if c["type"] == "PreflightPassed"]
    assert told["reason"] == "PreflightRunning"


async def test_an_event_that_cannot_be_written_is_only_lost(setup: Setup) -> None:
    setup.kube.failures[("create", "events")] = Forbidden("no")
    assert await setup.reconciler.reconcile(KEY) == 0
    assert setup.status["preflight"]["number"] == 1


async def test_telling_the_same_again_makes_no_second_event(setup: Setup) -> None:
    await setup.reconciler.reconcile(KEY)
    del setup.kube.objects[("finetunejobs", "team", "tune")]["status"]  # as if never written
    await setup.reconciler.reconcile(KEY)
    assert sum(plural == "events" for plural, _, _ in setup.kube.objects) == 1


async def test_our_own_write_is_known_by_its_version(setup: Setup) -> None:
    await setup.reconciler.reconcile(KEY)
    job = setup.kube.objects[("finetunejobs", "team", "tune")]
    assert setup.fleet.is_echo(KEY, job["metadata"]["resourceVersion"])


async def test_a_job_that_is_gone_is_forgotten(setup: Setup) -> None:
    await setup.reconciler.reconcile(KEY)
    assert setup.fleet.count_phases() == {"Preflight": 1}
    del setup.kube.objects[("finetunejobs", "team", "tune")]
    assert await setup.reconciler.reconcile(KEY) is None
    assert setup.fleet.count_phases() == {}


@pytest.mark.parametrize("taken", [False, True], ids=["name is free", "name is taken again"])
async def test_nothing_is_kept_of_a_deleted_job_whose_pods_end_after_it(
    setup: Setup, taken: bool
) -> None:
    former = "1f5a9e1c-0000-4000-8000-000000000000"
    setup.progress.follow(Run(KEY, former, 1, "127.0.7.9"))
    if not taken:
        del setup.kube.objects[("finetunejobs", "team", "tune")]
        await setup.reconciler.reconcile(KEY)
    labels = {LABEL_JOB: "tune", LABEL_UID: former}
    metadata = {"namespace": "team", "name": "p", "uid": "p", "labels": labels}
    setup.pods.note({"metadata": metadata, "status": {"phase": "Failed"}})
    await setup.reconciler.reconcile(KEY)
    assert len(setup.pods) == 0
    assert len(setup.progress) == 0


def test_an_attempt_is_counted_when_its_end_is_first_written() -> None:
    running = {"number": 2, "outcome": "Running"}
    failed = {"number": 1, "outcome": "Failed", "reason": "StorageError"}
    before = {"attempts": [{**failed, "outcome": "Running"}]}
    assert ended_attempts({}, {"attempts": [running, failed]}) == [failed]
    assert ended_attempts(before, {"attempts": [running, failed]}) == [failed]
    assert ended_attempts({"attempts": [failed]}, {"attempts": [running, failed]}) == []


# --- workers and sweeps ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("result", "wait"),
    [
        (None, None),
        (0.0, 0.0),
        (7.0, 7.0),
        (Conflict("changed"), 0.005),
        (Transient("busy"), 0.005),
        (Transient("busy", retry_after=60), 60.0),
        (RuntimeError("a defect"), 0.005),
    ],
    ids=str,
)
async def test_the_result_of_a_pass_says_when_the_next_one_is(
    result: float | Exception | None, wait: float | None
) -> None:
    time = VirtualTime()
    metrics = Metrics()
    queue = WorkQueue(time=time, observer=metrics)

    async def reconcile(key: Key) -> float | None:
        if isinstance(result, Exception):
            raise result
        return result

    workers = Workers(queue, reconcile, count=1, observer=metrics)
    queue.add(KEY)
    await queue.get()
    await workers._work_on(KEY)
    queue.done(KEY)
    if wait is None:
        time.advance(10_000)
        assert len(queue) == 0
    else:
        time.advance(wait * 0.99)
        assert len(queue) == (1 if wait == 0 else 0)
        time.advance(wait * 0.02)
        assert len(queue) == 1


class Sweep:
    def __init__(self) -> None:
        self.kube = MemoryKube()
        self.fleet = Fleet()
        self.queue = WorkQueue(time=VirtualTime(), observer=Metrics())
        self.repairs: list[None] = []
        self.resync = Resync(
            self.kube,
            queue=self.queue,
            fleet=self.fleet,
            namespaces=(),
            count_repair=lambda: self.repairs.append(None),
        )

    async def apply(self, name: str) -> str:
        stored = await self.kube.create(FINETUNEJOBS, finetunejob(name, namespace="team"))
        return str(stored["metadata"]["resourceVersion"])


async def test_a_sweep_looks_at_every_job_and_at_those_that_vanished() -> None:
    sweep = Sweep()
    version = await sweep.apply("tune")
    sweep.fleet.saw(KEY, version)
    sweep.fleet.saw(Key("team", "gone"), "1")
    assert await sweep.resync.sweep() == {}
    assert [await sweep.queue.get(), await sweep.queue.get()] == [Key("team", "gone"), KEY]


async def test_a_change_that_no_event_told_in_time_is_repaired_and_counted() -> None:
    sweep = Sweep()
    missed, late = await sweep.apply("tune"), await sweep.apply("late")
    unseen = await sweep.resync.sweep()
    assert unseen == {KEY: missed, Key("team", "late"): late}
    sweep.fleet.saw(Key("team", "late"), late)  # its event came meanwhile
    sweep.resync.repair(unseen)
    assert len(sweep.repairs) == 1
    assert await sweep.queue.get() == KEY


async def test_a_failed_list_is_an_error_not_an_empty_cluster() -> None:
    sweep = Sweep()
    sweep.fleet.saw(KEY, "1")
    sweep.kube.cut = True
    with pytest.raises(ApiError):
        await sweep.resync.sweep()
    assert len(sweep.queue) == 0
