"""The life of a job, situation by situation: what is recorded, made, told and waited for."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from finetune_operator.domain.actions import CreateJob, DeleteJob, DeletePod, Plan
from finetune_operator.domain.plan import plan
from finetune_trainer.contract import OutputReference, Problem
from tests.builders import (
    CHILD,
    UID,
    a_checkpoint,
    a_claim,
    a_record,
    a_report,
    a_spec,
    some_progress,
)
from tests.unit.domain.world import World, running_world, world_in_attempt_1

TWO_NODES = {"nodes": 2, "gpusPerNode": 0}


def decide(world: World) -> Plan:
    seen, _ = world.look()
    return plan(seen)


def one_pass(world: World) -> Plan:
    seen, version = world.look()
    made = plan(seen)
    world.carry_out(made, version=version)
    return made


def kinds(made: Plan) -> list[str]:
    return [type(action).__name__ for action in made.actions]


def truth(world: World, kind: str) -> tuple[str, str]:
    condition = world.condition(kind)
    assert condition is not None, kind
    return condition["status"], condition["reason"]


def message(world: World, kind: str) -> str:
    condition = world.condition(kind)
    assert condition is not None, kind
    return str(condition["message"])


def pod_with(pod: dict[str, Any], **status: Any) -> None:
    pod["status"] = status


# --- acceptance -----------------------------------------------------------------------------------


def test_first_sight_resolves_defaults_and_records_preflight_1_but_makes_nothing() -> None:
    world = World()
    made = one_pass(world)
    assert made.actions == ()
    assert made.requeue_after == 0
    assert world.status["preflight"] == {"number": 1, "jobName": f"{CHILD}-preflight-1"}
    resolved = world.status["resolved"]
    assert resolved["training"]["epochs"] == "Auto"
    assert resolved["training"]["globalBatchSize"] == 16
    assert resolved["workspace"] == {"size": "20Gi", "retain": True}
    assert not {"suspend", "recovery", "startDeadlineSeconds"} & set(resolved)
    assert truth(world, "Accepted") == ("True", "Accepted")
    assert truth(world, "Succeeded") == ("Unknown", "InProgress")


def test_the_users_own_values_are_kept() -> None:
    training = {"maxSteps": 30, "globalBatchSize": 8}
    world = World(spec=a_spec(training=training, workspace={"claimName": "mine"}))
    one_pass(world)
    resolved = world.status["resolved"]
    assert resolved["training"].items() >= training.items()
    assert "epochs" not in resolved["training"]
    assert resolved["workspace"] == {"claimName": "mine"}


def test_the_second_pass_makes_what_the_first_recorded() -> None:
    world = World()
    one_pass(world)
    made = one_pass(world)
    assert kinds(made) == ["EnsureClaim", "EnsureNetworkPolicy", "CreateJob"]
    assert made.status is None
    assert world.created == [f"{CHILD}-preflight-1"]


def test_a_spec_that_cannot_be_read_is_named_field_by_field() -> None:
    world = World(spec=a_spec(compute={"nodes": 0}))
    world.operate()
    assert truth(world, "Accepted") == ("False", "InvalidSpec")
    assert "spec.compute.nodes" in message(world, "Accepted")
    assert world.jobs == {}
    world.spec["compute"]["nodes"] = 1
    world.generation += 1
    world.operate()
    assert truth(world, "Accepted") == ("True", "Accepted")


def test_a_job_being_deleted_is_left_alone() -> None:
    for world in (World(deleting=True), world_in_attempt_1()):
        world.deleting = True
        made = decide(world)
        assert (made.status, made.actions, made.events) == (None, (), ())


def foreign(raw: dict[str, Any]) -> dict[str, Any]:
    raw["metadata"]["ownerReferences"] = [{"uid": "somebody", "controller": True}]
    raw["metadata"].get("labels", {}).pop("finetune.dev/uid", None)
    return raw


@pytest.mark.parametrize("kind", ["jobs", "policies", "claims"])
def test_a_child_of_somebody_else_is_never_adopted(kind: str) -> None:
    world = World()
    donor = World()
    donor.operate()
    one_pass(world)
    name = f"{CHILD}-preflight-1" if kind == "jobs" else CHILD
    getattr(world, kind)[name] = foreign(getattr(donor, kind)[name])

    made = world.operate()
    assert truth(world, "Accepted") == ("False", "NameConflict")
    assert CHILD in message(world, "Accepted")
    assert made.requeue_after
    assert world.created == []
    assert world.told.count("NameConflict") == 1

    del getattr(world, kind)[name]
    world.operate()
    assert truth(world, "Accepted") == ("True", "Accepted")
    assert world.created == [f"{CHILD}-preflight-1"]


def test_a_service_of_somebody_else_too() -> None:
    world = World(spec=a_spec(compute=TWO_NODES))
    world.services[CHILD] = foreign({"metadata": {"name": CHILD}})
    world.operate()
    world.run_ends("preflight-1", 0, a_report())
    assert truth(world, "Accepted") == ("False", "NameConflict")
    assert f"{CHILD}-1" not in world.jobs


def test_an_attempt_does_not_run_whose_job_was_replaced_by_somebody_elses() -> None:
    world = running_world()
    own = world.jobs[f"{CHILD}-1"]
    for pod in world.live_pods():
        world.vanish(pod, watched=False)
    world.jobs[f"{CHILD}-1"] = foreign(copy.deepcopy(own))
    world.operate()
    assert truth(world, "Accepted") == ("False", "NameConflict")
    assert truth(world, "Running") == ("False", "NameConflict")
    assert CHILD in message(world, "Running")

    del world.jobs[f"{CHILD}-1"]
    world.operate()
    assert truth(world, "Accepted") == ("True", "Accepted")
    assert world.status["attempts"][0]["outcome"] == "Missing"


# --- the workspace --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"workspace": {"claimName": "shelf"}}, "spec.workspace.claimName"),
        ({"model": {"source": "pvc://shelf/m"}}, "spec.model.source"),
        ({"dataset": {"source": "pvc://shelf/d"}}, "spec.dataset.source"),
    ],
)
def test_a_missing_claim_is_waited_for_and_then_fatal(spec: dict[str, Any], field: str) -> None:
    world = World(spec=a_spec(**spec, startDeadlineSeconds=600))
    made = world.operate()
    assert world.status["phase"] == "Pending"
    assert "shelf" in message(world, "PreflightPassed")
    assert field in message(world, "PreflightPassed")
    assert made.requeue_after

    world.pass_time(601)
    world.operate()
    assert world.status["phase"] == "Failed"
    assert truth(world, "Succeeded") == ("False", "PreflightFailed")
    assert world.created == []


def test_a_claim_that_comes_late_is_welcome() -> None:
    world = World(spec=a_spec(workspace={"claimName": "shelf"}))
    world.operate()
    world.claims["shelf"] = a_claim("shelf")
    world.operate()
    assert world.created == [f"{CHILD}-preflight-1"]


def test_several_nodes_need_read_write_many_and_hear_so_before_any_job() -> None:
    world = World(spec=a_spec(compute=TWO_NODES, workspace={"claimName": "disk"}))
    world.claims["disk"] = a_claim("disk", "ReadWriteOnce")
    world.operate()
    assert truth(world, "Succeeded") == ("False", "PreflightFailed")
    assert "ReadWriteMany" in message(world, "Succeeded")
    assert world.created == []


def test_the_created_claim_vanished_between_attempts_is_not_made_anew() -> None:
    """An empty volume would look like a fresh start; the results on the old one are gone."""
    world = running_world(startDeadlineSeconds=600)
    world.run_ends("1", 20)
    del world.claims[CHILD]
    world.pass_time(60)
    world.operate()
    world.pass_time(601)
    world.operate()
    assert CHILD not in world.claims
    assert truth(world, "Succeeded") == ("False", "ClaimUnusable")


# --- preflight ------------------------------------------------------------------------------------


def test_a_passed_preflight_gives_plan_and_data_and_attempt_1() -> None:
    world = world_in_attempt_1()
    assert truth(world, "PreflightPassed") == ("True", "PreflightPassed")
    assert world.status["plan"]["totalSteps"] == 96
    assert world.status["plan"]["learningRate"] == "0.0002"
    assert world.status["data"]["rowsKept"] == 500
    assert world.status["preflight"]["reason"] == "PreflightPassed"
    assert world.status["currentAttempt"]["number"] == 1
    assert world.created == [f"{CHILD}-preflight-1", f"{CHILD}-1"]


def test_warnings_of_preflight_are_shown() -> None:
    world = World()
    world.operate()
    warning = Problem(code="duplicate_rows", severity="warning", message="12 rows twice", count=12)
    world.run_ends("preflight-1", 0, a_report(problems=(warning,)))
    assert "12 rows twice" in message(world, "PreflightPassed")


def test_problems_of_the_users_end_the_job_with_their_line_numbers() -> None:
    problems = (
        Problem(code="invalid_json", severity="error", message="not JSON", rows=(17,), count=1),
        Problem(
            code="empty_response", severity="error", message="no answer", rows=(3, 4), count=40
        ),
    )
    world = World()
    world.operate()
    record = a_record(12, "NothingToLearn", message="the data has problems", problems=problems)
    world.run_ends("preflight-1", 12, record)
    assert world.status["phase"] == "Failed"
    assert truth(world, "Succeeded") == ("False", "PreflightFailed")
    assert truth(world, "PreflightPassed") == ("False", "PreflightFailed")
    words = message(world, "Succeeded")
    assert "not JSON (invalid_json, line 17)" in words
    assert "no answer (empty_response, lines 3, 4 and 38 more)" in words
    assert world.status["preflight"]["reason"] == "NothingToLearn"
    assert world.created == [f"{CHILD}-preflight-1"]


PREFLIGHT_RETRIED = {
    "infrastructure spends a failure": (20, None, (1, 0)),
    "a stop spends a disruption": (76, None, (0, 1)),
    "success without a report counts as infrastructure": (0, a_record(0), (1, 0)),
}


@pytest.mark.parametrize(
    ("code", "record", "spent"), PREFLIGHT_RETRIED.values(), ids=PREFLIGHT_RETRIED
)
def test_preflight_is_retried(code: int, record: Any, spent: tuple[int, int]) -> None:
    world = World()
    world.operate()
    world.run_ends("preflight-1", code, record)
    assert (world.status["failures"], world.status["disruptions"]) == spent
    assert world.status["phase"] == "Recovering"
    assert world.created == [f"{CHILD}-preflight-1"], "not before the backoff"
    world.pass_time(13)
    world.operate()
    assert world.status["preflight"]["number"] == 2
    assert world.created == [f"{CHILD}-preflight-1", f"{CHILD}-preflight-2"]


def test_preflight_gives_up_when_the_budget_is_spent() -> None:
    world = World(spec=a_spec(recovery={"maxFailures": 1}))
    world.operate()
    for number in (1, 2):
        world.pass_time(700)
        world.operate()
        world.run_ends(f"preflight-{number}", 20, a_record(20, message="storage is away"))
    assert truth(world, "Succeeded") == ("False", "FailureBudgetSpent")
    assert "storage is away" in message(world, "Succeeded")


def test_a_preflight_that_does_not_start_is_given_up_and_tried_again() -> None:
    world = World(spec=a_spec(startDeadlineSeconds=300))
    world.operate()
    job = world.job("preflight-1")
    world.start_pods(job)
    waiting = {"reason": "ImagePullBackOff", "message": "no such image"}
    container = {"name": "trainer", "state": {"waiting": waiting}}
    pod_with(world.pod("preflight-1"), phase="Pending", containerStatuses=[container])
    world.operate()
    assert "ImagePullBackOff" in message(world, "PreflightPassed")

    world.pass_time(301)
    world.operate()
    assert world.status["preflight"]["reason"] == "NotStarted"
    assert world.status["disruptions"] == 1
    assert job["metadata"]["deletionTimestamp"]


# --- attempts -------------------------------------------------------------------------------------


def test_an_attempt_of_several_nodes_gets_a_service_before_its_job() -> None:
    world = World(spec=a_spec(compute=TWO_NODES))
    world.operate()
    job = world.job("preflight-1")
    world.start_pods(job)
    world.end_pod(world.pod("preflight-1"), 0, a_report())
    world.settle(job)
    one_pass(world), one_pass(world)
    assert kinds(decide(world)) == ["EnsureService", "CreateJob"]


def test_starting_becomes_running_when_every_rank_started() -> None:
    world = world_in_attempt_1(compute=TWO_NODES)
    assert world.status["phase"] == "Starting"
    world.start_pods(world.job("1"))
    second = world.pod("1", rank=1)
    started = second["status"]
    unscheduled = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    pod_with(second, phase="Pending", conditions=[unscheduled])
    world.operate()
    assert truth(world, "Running") == ("False", "Starting")
    assert "Unschedulable" in message(world, "Running")
    second["status"] = started
    world.operate()
    assert world.status["phase"] == "Running"
    assert truth(world, "Running") == ("True", "Running")
    assert world.told.count("AttemptStarted") == 1


@pytest.mark.parametrize("suffix", ["preflight-1", "1"])
def test_a_job_that_makes_no_pods_for_a_while_is_named(suffix: str) -> None:
    """No priority class of that name, a quota on pods: only the Job's own events tell."""
    kind = "Running" if suffix == "1" else "PreflightPassed"
    world = world_in_attempt_1() if suffix == "1" else World()
    world.operate()
    assert message(world, kind) == ""
    world.pass_time(30)
    world.operate()
    assert message(world, kind) == f"Job {CHILD}-{suffix} has made no pods; see its events"
    world.start_pods(world.job(suffix))
    world.operate()
    assert message(world, kind) == ""


def test_a_suspended_job_is_queued_and_its_deadline_does_not_run() -> None:
    world = world_in_attempt_1(startDeadlineSeconds=300)
    world.job("1")["spec"]["suspend"] = True
    world.pass_time(1000)
    world.operate()
    assert world.status["phase"] == "Queued"
    assert truth(world, "QuotaReserved")[0] == "False"
    world.job("1")["spec"]["suspend"] = False
    world.job("1")["status"]["startTime"] = world.now.isoformat()
    world.operate()
    assert world.status["phase"] == "Starting"
    assert truth(world, "QuotaReserved")[0] == "True"


def test_not_all_ranks_started_before_the_deadline_spends_a_disruption() -> None:
    world = world_in_attempt_1(compute=TWO_NODES, startDeadlineSeconds=300)
    job = world.job("1")
    world.pass_time(301)
    made = one_pass(world)
    assert made.actions == (), "recorded first"
    row = world.status["attempts"][-1]
    assert (row["outcome"], row["counted"]) == ("NotStarted", False)
    assert (world.status["failures"], world.status["disruptions"]) == (0, 1)
    assert decide(world).actions == (DeleteJob(f"{CHILD}-1", job["metadata"]["uid"]),)


def test_once_all_ranks_started_the_deadline_is_the_launchers_business() -> None:
    world = running_world(compute=TWO_NODES, startDeadlineSeconds=300)
    world.pass_time(1000)
    world.operate()
    assert world.status["phase"] == "Running"


def test_an_attempt_that_never_met_by_the_launchers_word_spends_a_disruption_too() -> None:
    world = running_world(compute=TWO_NODES)
    world.run_ends("1", 76, a_record(76, "NotStarted", message="rank 1 never came"))
    assert world.status["attempts"][0]["outcome"] == "NotStarted"
    assert (world.status["failures"], world.status["disruptions"]) == (0, 1)


def test_a_failed_attempt_is_followed_by_the_next_after_the_backoff() -> None:
    world = running_world()
    world.progress = some_progress(25, last_checkpoint=a_checkpoint(20))
    world.operate()
    world.run_ends("1", 21, a_record(21, step=27, message="rank 1 is gone"))
    assert world.status["phase"] == "Recovering"
    assert truth(world, "Running") == ("False", "BackingOff")
    assert world.status["attempts"][0] == {
        "number": 1,
        "outcome": "Failed",
        "reason": "PeerLost",
        "exitCode": 21,
        "fromStep": 0,
        "toStep": 27,
        "stepsLost": 7,
        "counted": True,
        "finishedAt": "2026-03-01T12:00:00Z",
        "node": "node-a",
    }
    assert 8 <= (decide(world).requeue_after or 0) <= 12
    world.pass_time(12)
    world.operate()
    assert world.created[-1] == f"{CHILD}-2"
    assert world.status["attempts"][1] == {"number": 2, "outcome": "Running", "fromStep": 20}


def test_a_disruption_after_new_steps_is_followed_at_once() -> None:
    world = running_world()
    world.progress = some_progress(25, last_checkpoint=a_checkpoint(20))
    world.operate()
    world.run_ends("1", 75, a_record(75, step=27, last_checkpoint=a_checkpoint(27)))
    assert world.created[-1] == f"{CHILD}-2"
    assert world.status["attempts"][0]["stepsLost"] == 0
    assert world.status["lastCheckpoint"]["step"] == 27


def test_the_next_attempt_waits_for_every_pod_of_the_old_one() -> None:
    world = running_world(compute=TWO_NODES)
    job = world.job("1")
    world.end_pod(world.pod("1"), 75)
    world.settle(job)
    world.pass_time(10)
    world.operate()
    assert world.status["attempts"][0]["outcome"] == "Disrupted"
    world.pass_time(60)
    world.operate()
    assert world.created[-1] == f"{CHILD}-1", "FailureTarget, and rank 1 still runs"
    world.settle(job)
    world.operate()
    assert world.created[-1] == f"{CHILD}-2"


def test_a_fatal_cause_ends_the_job() -> None:
    world = running_world()
    world.run_ends("1", 40, a_record(40, "NotFinite", message="loss is NaN at step 12", step=12))
    assert world.status["phase"] == "Failed"
    assert truth(world, "Succeeded") == ("False", "NotFinite")
    assert "NaN at step 12" in message(world, "Succeeded")
    assert truth(world, "Running") == ("False", "Finished")


def test_a_job_deleted_by_hand_is_missing_and_the_next_attempt_follows() -> None:
    world = running_world()
    del world.jobs[f"{CHILD}-1"]
    pod = world.pod("1")
    world.pass_time(30)
    one_pass(world)
    assert world.status["attempts"][0]["outcome"] == "Missing"
    assert (world.status["failures"], world.status["disruptions"]) == (0, 1)
    left = DeletePod(pod["metadata"]["name"], pod["metadata"]["uid"])
    assert decide(world).actions == (left,), "an orphan must not write beside the next attempt"
    world.vanish(pod, watched=False)
    world.pass_time(30)
    world.operate()
    assert world.created[-1] == f"{CHILD}-2"


def test_a_recorded_attempt_whose_job_was_never_seen_is_created_again() -> None:
    """The crash lay between the status write and the creation."""
    world = world_in_attempt_1()
    del world.jobs[f"{CHILD}-1"]
    del world.status["currentAttempt"]["jobUID"]
    made = decide(world)
    assert [a.manifest["metadata"]["name"] for a in made.actions if isinstance(a, CreateJob)] == [
        f"{CHILD}-1"
    ]


def test_a_job_of_ours_with_another_uid_is_a_stranger_and_is_stopped() -> None:
    """A late creation by a superseded leader, after somebody had deleted the Job."""
    world = running_world()
    world.vanish(world.pod("1"), watched=False)
    world.job("1")["metadata"]["uid"] = "second"
    one_pass(world)
    assert world.status["attempts"][0]["outcome"] == "Missing"
    assert decide(world).actions == (DeleteJob(f"{CHILD}-1", "second"),)


# --- the end --------------------------------------------------------------------------------------


def test_success_says_where_the_results_are() -> None:
    world = running_world()
    output = OutputReference(adapter="output/a1.e1/adapter", loss_curve="loss.png")
    record = a_record(0, "Done", step=96, total_steps=96, loss=0.9, eval_loss=1.1, output=output)
    world.run_ends("1", 0, record)
    assert world.status["phase"] == "Succeeded"
    assert truth(world, "Succeeded") == ("True", "Succeeded")
    assert world.status["output"]["adapter"] == "output/a1.e1/adapter"
    assert world.status["output"]["lossCurve"] == "loss.png"
    assert (
        world.status["progress"].items()
        >= {
            "step": 96,
            "percent": 100,
            "loss": "0.9",
            "evalLoss": "1.1",
        }.items()
    )


def test_success_without_rank_0s_record_names_the_volumes_layout() -> None:
    world = running_world()
    world.progress = some_progress(96, execution=2)
    world.operate()
    world.run_ends("1", 0)
    assert world.status["output"]["adapter"] == "output/a1.e2/adapter"


@pytest.mark.parametrize("code", [0, 12])
def test_the_end_is_sticky_and_independent_of_the_children(code: int) -> None:
    world = running_world()
    world.run_ends("1", code)
    end = world.status
    world.jobs.clear()
    world.pods.clear()
    world.services.clear()
    world.generation += 1
    world.pass_time(10_000)
    made = world.operate()
    assert (made.requeue_after, world.status) == (None, end)
    assert world.created == [f"{CHILD}-preflight-1", f"{CHILD}-1"]


def test_what_still_runs_when_the_end_is_recorded_is_stopped() -> None:
    world = world_in_attempt_1(startDeadlineSeconds=300, recovery={"maxDisruptions": 0})
    world.pass_time(301)
    world.operate()
    assert truth(world, "Succeeded") == ("False", "DisruptionBudgetSpent")
    assert world.job("1")["metadata"]["deletionTimestamp"]


def test_every_action_carries_the_jobs_uid() -> None:
    world = running_world(compute=TWO_NODES)
    made = [*world.jobs.values(), *world.services.values(), *world.policies.values()]
    owners = [raw["metadata"]["ownerReferences"][0] for raw in made]
    assert {owner["uid"] for owner in owners} == {UID}
    assert all(owner["controller"] and owner["blockOwnerDeletion"] for owner in owners)
