"""Whole lives of jobs, attempt by attempt, against a reckoning written down separately."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from finetune_operator.domain.plan import plan
from tests.builders import CHILD, PLAN, a_checkpoint, a_record, a_report, a_spec, some_progress
from tests.unit.domain.world import World

MAX_FAILURES, MAX_DISRUPTIONS = 3, 4
INTERVAL = PLAN.checkpoint_interval
FAILURES, DISRUPTIONS = (1, 20, 21, 22, 23, 143), (75, 76)


@dataclass(frozen=True)
class Ending:
    """An attempt: how many steps it makes, and the code it ends with."""

    steps: int
    code: int


ENDINGS = st.builds(Ending, steps=st.integers(0, 35), code=st.sampled_from(FAILURES + DISRUPTIONS))


def passes(world: World) -> None:
    """The operator, until it has nothing to do while the world stands still."""
    for _ in range(10):
        seen, version = world.look()
        made = plan(seen)
        if made.status is None and not made.actions:
            return
        world.carry_out(made, version=version)
    raise AssertionError("no fix point")


def world_with_attempt_1() -> World:
    recovery = {"maxFailures": MAX_FAILURES, "maxDisruptions": MAX_DISRUPTIONS}
    world = World(spec=a_spec(recovery=recovery))
    passes(world)
    preflight = world.jobs[f"{CHILD}-preflight-1"]
    world.start_pods(preflight)
    world.end_pod(world.pods[f"{CHILD}-preflight-1-0"], 0, a_report())
    world.settle(preflight)
    passes(world)
    return world


def live(world: World, number: int, ending: Ending, *, resumed: int) -> int:
    """One attempt from its Job to its end; returns the newest checkpoint on the volume."""
    world.pass_time(800)  # longer than any backoff
    passes(world)
    job = world.jobs[f"{CHILD}-{number}"]
    world.start_pods(job)
    step = resumed + ending.steps
    saved = max(resumed, step // INTERVAL * INTERVAL)
    checkpoint = a_checkpoint(saved) if saved else None
    world.progress = some_progress(
        step, attempt=number, resumed_from_step=resumed, last_checkpoint=checkpoint
    )
    passes(world)
    world.end_pod(world.pods[f"{CHILD}-{number}-0"], ending.code, a_record(ending.code, step=step))
    world.settle(job)
    world.settle(job)
    passes(world)
    return saved


@settings(max_examples=100, deadline=None)
@given(st.lists(ENDINGS, min_size=1, max_size=9))
def test_budgets_rows_and_checkpoints_follow_the_rules(endings: list[Ending]) -> None:
    world = world_with_attempt_1()
    failures = disruptions = saved = 0
    failed_at = None
    for number, ending in enumerate(endings, start=1):
        resumed = saved
        saved = live(world, number, ending, resumed=resumed)
        if failed_at is not None and saved >= failed_at + INTERVAL:
            failures, failed_at = 0, None
        if ending.code in FAILURES:
            failures, failed_at = failures + 1, resumed + ending.steps
        else:
            disruptions += 1

        status = world.status
        assert (status["failures"], status["disruptions"]) == (failures, disruptions)
        row = next(row for row in status["attempts"] if row["number"] == number)
        assert (row["fromStep"], row["toStep"]) == (resumed, resumed + ending.steps)
        assert row["stepsLost"] == resumed + ending.steps - saved
        assert status.get("lastCheckpoint", {}).get("step", 0) == saved

        if failures > MAX_FAILURES or disruptions > MAX_DISRUPTIONS:
            spent = "Failure" if failures > MAX_FAILURES else "Disruption"
            ended = world.condition("Succeeded")
            assert ended is not None
            assert (ended["status"], ended["reason"]) == ("False", f"{spent}BudgetSpent")
            assert status["phase"] == "Failed"
            return
        assert not world.finished
    lived = len(endings)
    assert world.created[1 : lived + 1] == [f"{CHILD}-{n}" for n in range(1, lived + 1)]


def test_a_job_that_never_fails_writes_its_status_a_few_times() -> None:
    world = world_with_attempt_1()
    job = world.jobs[f"{CHILD}-1"]
    world.start_pods(job)
    passes(world)
    world.end_pod(world.pods[f"{CHILD}-1-0"], 0, a_record(0, step=96, total_steps=96))
    world.settle(job)
    passes(world)
    assert world.status["phase"] == "Succeeded"
    assert world.writes <= 8
