"""What must hold whatever the world does: crashes, evictions, stale passes, people with kubectl.

A random world acts between passes; after every step the invariants are checked, and at the end of
each story a friendly world must be able to bring the job to an end.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from finetune_operator.domain.actions import CreateJob, Plan
from finetune_operator.domain.plan import plan
from finetune_operator.domain.views import job_view, pod_view
from finetune_trainer.contract import Termination
from tests.builders import a_checkpoint, a_record, a_report, a_spec, some_progress
from tests.unit.domain.world import Conflict, World

MAX_FAILURES, MAX_DISRUPTIONS = 2, 4
FIX_POINT_PASSES = 8
RETRIED = st.sampled_from([1, 20, 21, 22, 23, 75, 76, 137, 143])
FINAL = st.sampled_from([0, 10, 14, 31, 40, 51])
CODES = RETRIED | RETRIED | RETRIED | RETRIED | FINAL  # most stories should go on
PASSES = st.integers(0, 3)
SECONDS = st.sampled_from([1, 15, 45, 700, 2000])


class Life(RuleBasedStateMachine):
    """One job, from its first sight on."""

    def __init__(self) -> None:
        super().__init__()
        recovery = {"maxFailures": MAX_FAILURES, "maxDisruptions": MAX_DISRUPTIONS}
        self.world = World(spec=a_spec(recovery=recovery, compute={"nodes": 2, "gpusPerNode": 0}))
        self.stale: tuple[Plan, int] | None = None
        self.attempt_numbers: list[int] = []
        self.end: Any = None
        self.checkpoint = 0  # newest on the volume
        self.known_checkpoint = 0  # newest in the status
        self.skipped = False

    @initialize(begun=st.sampled_from([True, True, True, False]))
    def begin(self, begun: bool) -> None:
        """Most stories begin where attempt 1 runs, or they would hardly get that far."""
        if begun:
            self.converge()
            self.work(self.world.live_jobs()[0])  # preflight
            self.converge()
            self.world.start_pods(self.world.live_jobs()[0])

    # --- the operator -----------------------------------------------------------------------------

    def one_pass(self, stop_after: int | None = None) -> Plan:
        seen, version = self.world.look()
        made = plan(seen)
        assert made == plan(seen), "plan is deterministic"
        assert made.status is None or made.status != self.world.status, "no write without change"
        assert not (self.world.deleting and (made.actions or made.status)), "deleting: hands off"
        self.check_creations(made)
        self.world.carry_out(made, version=version, stop_after=stop_after)
        return made

    def check_creations(self, made: Plan) -> None:
        for action in made.actions:
            if isinstance(action, CreateJob):
                assert self.end is None, "the end is absorbing"
                assert not self.world.live_pods(), "every older pod has ended"
                recorded = self.world.status["currentAttempt" if self.attempts else "preflight"]
                assert action.manifest["metadata"]["name"] == recorded["jobName"], "intent first"
                assert "jobUID" not in recorded, "what was seen once is never made again"

    @property
    def attempts(self) -> list[dict[str, Any]]:
        return list(self.world.status.get("attempts", []))

    @rule()
    def reconcile(self) -> None:
        self.one_pass()

    @rule(calls=st.integers(0, 4))
    def crash(self, calls: int) -> None:
        self.one_pass(stop_after=calls)

    @rule()
    def converge(self) -> None:
        for _ in range(FIX_POINT_PASSES):
            made = self.one_pass()
            if made.status is None and not made.actions:
                return
        raise AssertionError("no fix point while the world stands still")

    def react(self, passes: int) -> None:
        """The operator notices, or is late."""
        for _ in range(passes):
            self.one_pass()

    @rule()
    def second_replica_looks(self) -> None:
        seen, version = self.world.look()
        self.stale = (plan(seen), version)

    @precondition(lambda self: self.stale is not None)
    @rule()
    def second_replica_acts(self) -> None:
        made, version = self.stale  # type: ignore[misc]
        self.stale = None
        try:
            self.world.carry_out(made, version=version)
        except Conflict:
            assert made.status is not None

    # --- the cluster ------------------------------------------------------------------------------

    @rule(seconds=SECONDS, passes=PASSES)
    def time_passes(self, seconds: int, passes: int) -> None:
        self.world.pass_time(seconds)
        self.react(passes)

    @precondition(lambda self: self.unsettled)
    @rule(data=st.data(), passes=PASSES)
    def job_is_settled(self, data: st.DataObject, passes: int) -> None:
        job = data.draw(st.sampled_from(self.unsettled))
        if job_view(job).deleting:
            self.stale = None
        self.world.settle(job)
        self.react(passes)

    @property
    def unsettled(self) -> list[dict[str, Any]]:
        final = {"Failed", "Complete"}
        return [j for j in self.world.jobs.values() if not final & job_view(j).conditions]

    @precondition(lambda self: self.startable)
    @rule(data=st.data(), passes=PASSES)
    def pods_start(self, data: st.DataObject, passes: int) -> None:
        self.world.start_pods(data.draw(st.sampled_from(self.startable)))
        self.react(passes)

    @property
    def startable(self) -> list[dict[str, Any]]:
        return [job for job in self.world.live_jobs() if not job_view(job).deleting]

    @precondition(lambda self: self.world.live_pods())
    @rule(data=st.data(), code=CODES, recorded=st.booleans(), disrupted=st.booleans())
    def pod_ends(self, data: st.DataObject, code: int, recorded: bool, disrupted: bool) -> None:
        pod = data.draw(st.sampled_from(self.world.live_pods()))
        if disrupted and code:
            pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
        record = self.record(pod, code) if recorded or code == 0 else None
        self.world.end_pod(pod, code, record)

    @precondition(lambda self: self.startable)
    @rule(code=CODES, steps=st.integers(0, 25), disrupted=st.booleans(), passes=PASSES)
    def a_run_starts_and_ends(self, code: int, steps: int, disrupted: bool, passes: int) -> None:
        """The usual course in one go, or stories would hardly reach a fourth attempt."""
        job = self.startable[0]
        self.world.start_pods(job)
        self.react(passes)
        if steps and self.is_training:
            self.train(steps, skip=False)
            self.react(passes)
        for pod in self.world.live_pods():
            if disrupted and code:
                pod["status"]["conditions"] = [{"type": "DisruptionTarget", "status": "True"}]
            self.world.end_pod(pod, code, self.record(pod, code))
        if not job_view(job).conditions:
            self.world.settle(job)
        self.react(passes)

    def record(self, pod: dict[str, Any], code: int) -> Termination:
        if self.is_preflight(pod):
            return a_report() if code == 0 else a_record(code)
        step = self.world.progress.step if self.world.progress else None
        return a_record(code, step=step)

    @staticmethod
    def is_preflight(pod: dict[str, Any]) -> bool:
        return str(pod["metadata"]["labels"]["finetune.dev/role"]) == "preflight"

    @precondition(lambda self: self.world.pods)
    @rule(data=st.data(), watched=st.booleans())
    def pod_vanishes(self, data: st.DataObject, watched: bool) -> None:
        pod = data.draw(st.sampled_from(list(self.world.pods.values())))
        view = pod_view(pod)
        self.world.vanish(pod, watched=watched)
        owners = [job for job in self.world.jobs.values() if job_view(job).uid == view.job_uid]
        if not view.ended and owners:
            self.world.lose_started_pods(owners[0])

    @precondition(lambda self: self.is_training)
    @rule(steps=st.integers(1, 25), skip=st.booleans(), passes=PASSES)
    def training_goes_on(self, steps: int, skip: bool, passes: int) -> None:
        self.train(steps, skip=skip)
        self.react(passes)

    def train(self, steps: int, *, skip: bool) -> None:
        current = self.world.status["currentAttempt"]
        told = self.world.progress
        if told is None or told.attempt != current["number"]:
            if skip and self.checkpoint >= 10:
                self.checkpoint -= 10
                self.skipped = True
            told = some_progress(
                self.checkpoint, attempt=current["number"], resumed_from_step=self.checkpoint
            )
        step = told.step + steps
        self.checkpoint = max(self.checkpoint, step // 10 * 10)
        saved = a_checkpoint(self.checkpoint) if self.checkpoint else None
        self.world.progress = told.model_copy(update={"step": step, "last_checkpoint": saved})

    @property
    def is_training(self) -> bool:
        running = [pod for pod in self.world.live_pods() if not self.is_preflight(pod)]
        return bool(running) and "currentAttempt" in self.world.status

    # --- people -----------------------------------------------------------------------------------

    @precondition(lambda self: self.world.jobs)
    @rule(data=st.data(), sure=st.integers(0, 3))
    def somebody_deletes_a_job(self, data: st.DataObject, sure: int) -> None:
        """A CreateJob planned before this would bring it back; the lease bounds such lateness."""
        if sure < 3:
            return
        job = data.draw(st.sampled_from(list(self.world.jobs.values())))
        job["metadata"]["deletionTimestamp"] = "2026-03-01T12:00:00Z"
        self.stale = None

    @rule()
    def somebody_edits_the_budget(self) -> None:
        self.world.generation += 1
        self.world.spec["recovery"]["backoffSeconds"] = 20

    @precondition(lambda self: self.world.writes > 6)
    @rule(sure=st.integers(0, 9))
    def somebody_deletes_the_finetunejob(self, sure: int) -> None:
        self.world.deleting = self.world.deleting or sure == 9

    # --- what holds -------------------------------------------------------------------------------

    @invariant()
    def one_live_job(self) -> None:
        final = {"Failed", "Complete"}
        live = [j for j in self.world.jobs.values() if not final & job_view(j).conditions]
        assert len(live) <= 1

    @invariant()
    def no_job_is_created_twice(self) -> None:
        recorded = {job_view(job).name for job in self.world.jobs.values()}
        assert len(recorded) == len(self.world.jobs)

    @invariant()
    def attempt_numbers_grow_by_one(self) -> None:
        current = self.world.status.get("currentAttempt")
        if current and current["number"] not in self.attempt_numbers[-1:]:
            self.attempt_numbers.append(current["number"])
        assert self.attempt_numbers == list(range(1, len(self.attempt_numbers) + 1))

    @invariant()
    def budgets_are_kept(self) -> None:
        assert self.world.status.get("failures", 0) <= MAX_FAILURES + 1
        assert self.world.status.get("disruptions", 0) <= MAX_DISRUPTIONS + 1

    @invariant()
    def the_end_is_absorbing(self) -> None:
        if self.world.finished:
            now = (self.world.status["phase"], self.world.condition("Succeeded"))
            assert self.end in (None, now)
            self.end = now

    @invariant()
    def the_resume_step_falls_only_by_a_skipped_checkpoint(self) -> None:
        known = (self.world.status.get("lastCheckpoint") or {}).get("step", 0)
        assert known >= self.known_checkpoint or self.skipped
        self.known_checkpoint = known

    @invariant()
    def the_generation_is_never_ahead(self) -> None:
        assert self.world.status.get("observedGeneration", 0) <= self.world.generation

    @invariant()
    def rows_are_bounded_and_tell_the_current_attempt(self) -> None:
        assert len(self.attempts) <= 10
        current = self.world.status.get("currentAttempt")
        assert current is None or self.attempts[-1]["number"] == current["number"]

    def teardown(self) -> None:
        """A friendly world: every pod does its work. The job must end."""
        for _ in range(40):
            if self.world.finished or self.world.deleting:
                return
            self.converge()
            for pod in list(self.world.pods.values()):
                if pod["metadata"].get("deletionTimestamp"):
                    self.world.vanish(pod, watched=True)
            for job in list(self.world.jobs.values()):
                if not {"Failed", "Complete"} & job_view(job).conditions:
                    self.work(job)
            self.world.pass_time(800)
        raise AssertionError("the job never ends")

    def work(self, job: dict[str, Any]) -> None:
        view = job_view(job)
        if not view.conditions and not view.deleting:
            self.world.start_pods(job)
            for pod in self.world.live_pods():
                self.world.end_pod(pod, 0, self.record(pod, 0))
        self.world.settle(job)


Life.TestCase.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
TestLife = Life.TestCase
