"""Whole lives of jobs, attempt by attempt, against a reckoning written down separately."""

from __future__ import annotations

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.builders import CHILD, PLAN, a_checkpoint, a_record, some_progress
from tests.unit.domain.world import World, world_in_attempt_1

MAX_FAILURES, MAX_DISRUPTIONS = 3, 4
INTERVAL = PLAN.checkpoint_interval
FAILURES, DISRUPTIONS = (1, 20, 21, 22, 23, 143), (75, 76)


@dataclass(frozen=True)
class Ending:
    """An attempt: how many steps it makes, and the code it ends with."""

    steps: int
    code: int


ENDINGS = st.builds(Ending, steps=st.integers(0, 35), code=st.sampled_from(FAILURES + DISRUPTIONS))


def world_with_budgets() -> World:
    recovery = {"maxFailures": MAX_FAILURES, "maxDisruptions": MAX_DISRUPTIONS}
    return world_in_attempt_1(recovery=recovery)


def live(world: World, number: int, ending: Ending, *, resumed: int) -> int:
    """One attempt from its Job to its end; returns the newest checkpoint on the volume."""
    world.pass_time(800)  # longer than any backoff
    world.operate()
    world.start_pods(world.job(str(number)))
    step = resumed + ending.steps
    saved = max(resumed, step // INTERVAL * INTERVAL)
    checkpoint = a_checkpoint(saved) if saved else None
    world.progress = some_progress(
        step, attempt=number, resumed_from_step=resumed, last_checkpoint=checkpoint
    )
    world.operate()
    world.run_ends(str(number), ending.code, a_record(ending.code, step=step))
    return saved


@settings(max_examples=100, deadline=None)
@given(st.lists(ENDINGS, min_size=1, max_size=9))
def test_budgets_rows_and_checkpoints_follow_the_rules(endings: list[Ending]) -> None:
    world = world_with_budgets()
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
    world = world_with_budgets()
    world.start_pods(world.job("1"))
    world.operate()
    world.run_ends("1", 0, a_record(0, step=96, total_steps=96))
    assert world.status["phase"] == "Succeeded"
    assert world.writes <= 8
