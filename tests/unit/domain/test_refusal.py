"""What the API server does not take: told in the status, tried again, fatal after the deadline."""

from __future__ import annotations

import pytest

from finetune_operator.domain.actions import CreateJob, Plan
from finetune_operator.domain.plan import plan
from tests.builders import CHILD, a_spec
from tests.unit.domain.world import World, world_in_attempt_1

QUOTA = "jobs.batch is forbidden: exceeded quota: one-job"


def one_pass(world: World) -> Plan:
    seen, version = world.look()
    made = plan(seen)
    world.carry_out(made, version=version)
    return made


def refused_world(*, attempt: int | None) -> World:
    """The API server refused the Job of preflight 1 (None) or of an attempt."""
    spec = {"startDeadlineSeconds": 600}
    world = World(spec=a_spec(**spec)) if attempt is None else world_in_attempt_1(**spec)
    if attempt is None:
        one_pass(world)
    elif attempt == 1:
        del world.jobs[f"{CHILD}-1"]
        world.created.remove(f"{CHILD}-1")
        world.status["currentAttempt"].pop("jobUID", None)
    else:
        world.run_ends("1", 20)
        world.pass_time(13)
        one_pass(world)
    world.refuse(QUOTA)
    return world


RUNS = {
    "preflight": (None, "PreflightPassed", "Unknown", f"{CHILD}-preflight-1"),
    "attempt 1": (1, "Running", "False", f"{CHILD}-1"),
    "attempt 2": (2, "Running", "False", f"{CHILD}-2"),
}
EVERY_RUN = pytest.mark.parametrize(
    ("attempt", "kind", "truth", "job"), RUNS.values(), ids=RUNS.keys()
)


@EVERY_RUN
def test_the_refusal_is_told_while_the_creation_is_tried_again(
    attempt: int | None, kind: str, truth: str, job: str
) -> None:
    world = refused_world(attempt=attempt)
    for _ in range(2):
        made = one_pass(world)
        tried = [a.manifest["metadata"]["name"] for a in made.actions if isinstance(a, CreateJob)]
        assert tried == [job]
    condition = world.condition(kind)
    assert condition is not None
    assert (condition["status"], condition["reason"]) == (truth, "ChildRefused")
    assert condition["message"] == QUOTA
    assert made.status is None, "the same words are written once"
    assert not world.finished


@EVERY_RUN
def test_a_child_that_is_taken_at_last_goes_on_as_if_nothing_had_been(
    attempt: int | None, kind: str, truth: str, job: str
) -> None:
    world = refused_world(attempt=attempt)
    one_pass(world)
    world.refusal = None
    world.operate()
    assert world.created[-1] == job
    condition = world.condition(kind)
    assert condition is not None and condition["reason"] in ("PreflightRunning", "Starting")


ENDS = {
    "preflight": (None, "PreflightFailed"),
    "attempt 1": (1, "ChildRefused"),
    "attempt 2": (2, "ChildRefused"),
}


@pytest.mark.parametrize(("attempt", "reason"), ENDS.values(), ids=ENDS.keys())
def test_after_the_start_deadline_the_refusal_is_the_end(attempt: int | None, reason: str) -> None:
    world = refused_world(attempt=attempt)
    world.pass_time(601)
    world.operate()
    ended = world.condition("Succeeded")
    assert ended is not None
    assert (ended["status"], ended["reason"], ended["message"]) == ("False", reason, QUOTA)
    assert world.status["phase"] == "Failed"
    if attempt is None:
        assert world.status["preflight"]["reason"] == "ChildRefused"
    else:
        row = world.status["attempts"][-1]
        assert (row["outcome"], row["reason"], row["counted"]) == (
            "NotStarted", "ChildRefused", False,
        )  # fmt: skip
        passed = world.condition("PreflightPassed")
        assert passed is not None and passed["status"] == "True"


def test_a_refusal_of_long_ago_says_nothing_about_a_job_that_exists() -> None:
    world = world_in_attempt_1(startDeadlineSeconds=600)
    world.refuse(QUOTA)
    world.pass_time(601)
    world.start_pods(world.job("1"))
    world.operate()
    assert world.status["phase"] == "Running"
