"""One FineTuneJob from creation to its end: the operator's real process on a real API server.

The test plays the Job controller and the trainers; everything else is what a cluster runs.
"""

from __future__ import annotations

import json

import pytest

from finetune_trainer.contract import Problem, Termination
from tests.integration.job_controller import Ending, run_config
from tests.integration.stage import ENDED, Stage, broken, checkpoint, script
from tests.integration.waiting import eventually

pytestmark = pytest.mark.integration


def outcomes(status: dict[str, object]) -> list[tuple[int, str]]:
    rows = status.get("attempts") or []
    assert isinstance(rows, list)
    return sorted((row["number"], row["outcome"]) for row in rows)


def test_a_job_goes_through_preflight_and_one_attempt_to_its_adapter(stage: Stage) -> None:
    played = stage.play(script())
    stage.start_operator()
    uid = stage.apply("tune")["metadata"]["uid"][:5]
    status = stage.until_phase("tune", *ENDED)
    assert status["phase"] == "Succeeded"
    assert outcomes(status) == [(1, "Succeeded")]
    assert status["plan"]["totalSteps"] == 30
    assert status["data"]["rowsKept"] == 160
    assert status["output"]["adapter"] == "output/a1.e1/adapter"
    assert status["observedGeneration"] == 1
    assert stage.condition("tune", "Succeeded")["status"] == "True"
    assert {name: len(uids) for name, uids in played.seen.items()} == {
        f"tune-{uid}-preflight-1": 1,
        f"tune-{uid}-1": 1,
    }


def test_a_failed_attempt_is_followed_by_one_that_resumes(stage: Stage) -> None:
    played = stage.play(script(a1=broken(12, saved=10)))
    stage.start_operator()
    stage.apply("tune")
    status = stage.until_phase("tune", *ENDED)
    assert status["phase"] == "Succeeded"
    assert outcomes(status) == [(1, "Failed"), (2, "Succeeded")]
    first = next(row for row in status["attempts"] if row["number"] == 1)
    assert (first["exitCode"], first["toStep"], first["counted"]) == (20, 12, True)
    assert status["failures"] == 1
    config = run_config(played.attempts["2"])
    assert config["resumeFrom"]["policy"] == "Newest"
    assert config["knownCheckpoint"]["step"] == 10
    assert config["attempt"] == 2


def test_a_disruption_is_not_counted_as_failure(stage: Stage) -> None:
    stage.play(script(a1=broken(12, saved=12, code=75, disrupted=True)))
    stage.start_operator()
    stage.apply("tune")
    status = stage.until_phase("tune", *ENDED)
    assert outcomes(status) == [(1, "Disrupted"), (2, "Succeeded")]
    assert (status.get("failures", 0), status["disruptions"]) == (0, 1)


def test_a_quota_in_the_way_is_told_until_it_is_lifted(stage: Stage) -> None:
    namespace, used = f"--namespace={stage.namespace}", {"count/jobs.batch": "0"}
    kubectl = stage.env.kubectl
    kubectl(namespace, "create", "quota", "none", "--hard=count/jobs.batch=0")
    counted = json.dumps({"status": {"hard": used, "used": used}})  # nobody counts in this cluster
    kubectl(
        namespace, "patch", "quota", "none", "--subresource=status", "--type=merge", "-p", counted
    )
    stage.play(script())
    stage.start_operator()
    stage.apply("tune")
    eventually(
        lambda: stage.condition("tune", "PreflightPassed").get("reason") == "ChildRefused",
        what="the refusal in the status",
    )
    assert "exceeded quota: none" in stage.condition("tune", "PreflightPassed")["message"]
    assert stage.status("tune")["phase"] == "Preflight"
    kubectl(namespace, "delete", "quota", "none")
    assert stage.until_phase("tune", *ENDED)["phase"] == "Succeeded"


def test_how_pods_ended_outlives_the_pods(stage: Stage) -> None:
    """The Job controller deletes the pods of a failed Job before the operator looks."""
    stage.play(script(a1=broken(12, saved=10, pods_vanish=True)))
    stage.start_operator()
    stage.apply("tune")
    status = stage.until_phase("tune", *ENDED)
    first = next(row for row in status["attempts"] if row["number"] == 1)
    assert (first["exitCode"], first["toStep"]) == (20, 12)


def test_a_mistake_of_the_user_ends_the_job_before_a_device_is_held(stage: Stage) -> None:
    problem = Problem(
        code="invalid_json",
        severity="error",
        message="line 17 is not JSON: Expecting ',' delimiter",
        rows=(17,),
        count=1,
    )
    record = Termination(code=11, reason="DataUnreadable", problems=(problem,))
    played = stage.play(script(p1=Ending(exit_code=11, record=record)))
    stage.start_operator()
    stage.apply("tune")
    status = stage.until_phase("tune", *ENDED)
    assert status["phase"] == "Failed"
    failed = stage.condition("tune", "Succeeded")
    assert (failed["status"], failed["reason"]) == ("False", "PreflightFailed")
    assert "17" in failed["message"]
    assert list(played.attempts) == ["preflight-1"]


def test_an_infrastructure_failure_of_preflight_is_tried_again(stage: Stage) -> None:
    played = stage.play(script(p1=Ending(exit_code=20)))
    stage.start_operator()
    stage.apply("tune")
    assert stage.until_phase("tune", *ENDED)["phase"] == "Succeeded"
    assert list(played.attempts) == ["preflight-1", "preflight-2", "1"]


def test_the_budget_of_failures_ends(stage: Stage) -> None:
    played = stage.play(script(a1=broken(3), a2=broken(3), a3=broken(3)))
    stage.start_operator()
    stage.apply("tune", {"recovery.maxFailures": 1})
    status = stage.until_phase("tune", *ENDED)
    assert status["phase"] == "Failed"
    assert outcomes(status) == [(1, "Failed"), (2, "Failed")]
    assert "3" not in played.attempts


def test_the_end_is_final_even_when_its_jobs_are_deleted(stage: Stage) -> None:
    played = stage.play(script())
    stage.start_operator()
    stage.apply("tune")
    before = stage.until_phase("tune", "Succeeded")
    for name in stage.jobs():
        stage.env.kubectl(f"--namespace={stage.namespace}", "delete", "job", name)
    # A later job of the same operator proves that it has seen the deletions and done nothing.
    stage.apply("later")
    stage.until_phase("later", "Succeeded")
    assert stage.status("tune") == before
    assert not [name for name in stage.jobs() if name.startswith("tune-")]
    assert all(len(uids) == 1 for uids in played.seen.values())


def test_a_deleted_job_is_left_to_the_garbage_collector(stage: Stage) -> None:
    stage.play(script(a1=None))
    stage.start_operator()
    stage.apply("tune")
    stage.until(
        "tune", lambda s: (s.get("currentAttempt") or {}).get("jobUID"), what="attempt 1's Job"
    )
    before = set(stage.jobs())
    stage.env.kubectl(f"--namespace={stage.namespace}", "delete", "ftj", "tune")
    stage.apply("later", {"training.maxSteps": 30})
    stage.until("later", lambda s: s.get("currentAttempt"), what="another job to go on")
    assert {name for name in stage.jobs() if name.startswith("tune-")} == {
        name for name in before if name.startswith("tune-")
    }


def test_a_job_that_comes_back_under_its_old_name_starts_anew(stage: Stage) -> None:
    played = stage.play(script(a1=None))
    stage.start_operator()
    first = stage.apply("tune")["metadata"]["uid"]
    stage.until("tune", lambda s: s.get("currentAttempt"), what="attempt 1")
    stage.env.kubectl(f"--namespace={stage.namespace}", "delete", "ftj", "tune")
    played.script = script()
    second = stage.apply("tune")["metadata"]["uid"]
    status = stage.until_phase("tune", "Succeeded")
    assert status["currentAttempt"]["jobName"] == f"tune-{second[:5]}-1"
    assert first != second


def test_a_child_of_somebody_else_is_never_adopted(stage: Stage) -> None:
    uid = stage.apply("tune")["metadata"]["uid"][:5]
    taken = f"tune-{uid}-preflight-1"
    stage.env.api.request(
        "POST", f"/apis/batch/v1/namespaces/{stage.namespace}/jobs", foreign_job(taken)
    )
    stage.start_operator()
    stage.until(
        "tune",
        lambda s: any(c.get("reason") == "NameConflict" for c in s.get("conditions") or ()),
        what="NameConflict",
    )
    accepted = stage.condition("tune", "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "NameConflict")
    assert taken in accepted["message"]
    assert list(stage.jobs()) == [taken]


def foreign_job(name: str) -> dict[str, object]:
    container = {"name": "c", "image": "busybox"}
    template = {"spec": {"containers": [container], "restartPolicy": "Never"}}
    return {"metadata": {"name": name}, "spec": {"template": template}}


def test_several_ranks_have_a_service_and_one_job_with_an_index_each(stage: Stage) -> None:
    stage.play(script())
    stage.start_operator()
    uid = stage.apply("tune", {"compute.nodes": 2, "workspace.claimName": "models"})["metadata"][
        "uid"
    ][:5]
    assert stage.until_phase("tune", *ENDED)["phase"] == "Succeeded"
    spec = stage.jobs()[f"tune-{uid}-1"]["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 2, 2)
    assert (spec["backoffLimit"], spec["podReplacementPolicy"]) == (0, "Failed")
    services = f"/api/v1/namespaces/{stage.namespace}/services"
    service = stage.env.api.get(f"{services}/tune-{uid}")
    assert service["spec"]["clusterIP"] == "None"


def test_the_checkpoint_of_a_lost_attempt_is_known(stage: Stage) -> None:
    stage.play(script(a1=broken(12, saved=10)))
    stage.start_operator()
    stage.apply("tune")
    status = stage.until("tune", lambda s: s.get("lastCheckpoint"), what="a checkpoint")
    assert status["lastCheckpoint"]["step"] == 10
    assert status["lastCheckpoint"]["path"] == checkpoint(10).path
    stage.until_phase("tune", "Succeeded")
