"""The form of the status: conditions, messages, and what the schema admits."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_operator.api.v1alpha1 import FineTuneJobStatus, Outcome, Reason
from finetune_trainer.contract import Problem
from tests.builders import a_checkpoint, a_record, a_report, some_progress
from tests.unit.domain.world import World, running_world, world_in_attempt_1


def refused_world() -> World:
    """Preflight found far more problems than a message can hold."""
    world = World()
    world.operate()
    problem = Problem(code="invalid_json", severity="error", message="x" * 400, rows=(17,), count=1)
    record = a_record(12, message="y" * 400, problems=(problem,) * 5)
    world.run_ends("preflight-1", 12, record)
    return world


def recovered_world() -> World:
    world = running_world(compute={"nodes": 2, "gpusPerNode": 0})
    world.progress = some_progress(22, last_checkpoint=a_checkpoint(20))
    world.operate()
    world.run_ends("1", 20, a_record(20, step=25))
    world.pass_time(60)
    world.operate()
    world.start_pods(world.job("2"))
    world.progress = some_progress(21, attempt=2, resumed_from_step=20)
    world.operate()
    return world


def finished_world() -> World:
    world = recovered_world()
    world.run_ends("2", 0, a_record(0, step=96, total_steps=96, loss=1.5))
    return world


LIVES = {
    "first attempt": world_in_attempt_1,
    "running": running_world,
    "refused": refused_world,
    "recovered": recovered_world,
    "finished": finished_world,
}


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_the_schema_would_prune_nothing_and_json_holds_all(life: Any) -> None:
    status = life().status
    assert FineTuneJobStatus.model_validate(status).to_dict().items() >= status.items()
    assert json.loads(json.dumps(status)) == status


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_the_phase_is_never_read_back(life: Any) -> None:
    world = life()
    wanted = world.status["phase"]
    world.status["phase"] = "Pending"
    world.operate()
    if not world.finished:
        assert world.status["phase"] == wanted


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_all_conditions_are_stated_from_the_first_write_on(life: Any) -> None:
    kinds = [condition["type"] for condition in life().status["conditions"]]
    assert kinds == ["Accepted", "PreflightPassed", "Running", "Checkpointed", "Succeeded"]


@pytest.mark.parametrize("life", LIVES.values(), ids=LIVES)
def test_every_reason_that_is_not_the_trainers_is_in_the_api(life: Any) -> None:
    world = life()
    trainers = {row["reason"] for row in world.status.get("attempts", []) if "reason" in row}
    known = set(Reason) | trainers | {f"Attempt{outcome}" for outcome in Outcome}
    assert {condition["reason"] for condition in world.status["conditions"]} <= known
    assert set(world.told) <= known


def test_messages_stay_below_a_kilobyte() -> None:
    messages = [condition["message"] for condition in refused_world().status["conditions"]]
    assert max(len(message) for message in messages) == 1000
    assert all(len(message.encode()) < 1024 for message in messages)


def test_the_transition_time_moves_only_with_the_truth() -> None:
    world = world_in_attempt_1()
    first = world.condition("Running")
    assert first is not None
    world.pass_time(100)
    world.job("1")["spec"]["suspend"] = True
    world.operate()
    suspended = world.condition("Running")
    assert suspended is not None
    assert suspended["reason"] != first["reason"]
    assert suspended["lastTransitionTime"] == first["lastTransitionTime"]

    world.job("1")["spec"]["suspend"] = False
    world.start_pods(world.job("1"))
    world.operate()
    running = world.condition("Running")
    assert running is not None
    assert (running["status"], running["lastTransitionTime"]) == ("True", "2026-03-01T12:01:40Z")


def test_an_edit_of_the_spec_is_acknowledged() -> None:
    world = running_world()
    world.generation = 4
    world.operate()
    assert world.status["observedGeneration"] == 4
    assert {c["observedGeneration"] for c in world.status["conditions"]} == {4}


def test_the_printer_columns_have_what_they_show() -> None:
    status = recovered_world().status
    assert status["phase"] == "Running"
    assert status["currentAttempt"]["number"] == 2
    assert status["progress"].items() >= {"step": 21, "totalSteps": 96, "loss": "2.5"}.items()


def test_events_tell_each_change_once() -> None:
    world = finished_world()
    world.operate()
    assert world.told == [
        "Accepted",
        "PreflightPassed",
        "AttemptStarted",
        "AttemptFailed",
        "AttemptStarted",
        "Resumed",
        "Succeeded",
    ]


def test_budgets_and_deadlines_are_read_from_the_spec_on_each_pass() -> None:
    world = running_world(recovery={"maxFailures": 0})
    world.spec["recovery"]["maxFailures"] = 5
    world.run_ends("1", 20)
    assert not world.finished
    assert "recovery" not in world.status["resolved"]


def test_a_report_without_room_for_reasons_still_gives_a_plan() -> None:
    world = World()
    world.operate()
    world.run_ends("preflight-1", 0, a_report(message="z" * 5000))
    assert world.status["plan"]["checkpointInterval"] == 10
