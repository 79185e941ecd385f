"""What rank 0 says, and how much of it is written when."""

from __future__ import annotations

from typing import Any

from tests.builders import UID, a_checkpoint, a_record, some_progress
from tests.unit.domain.world import World, running_world

OTHER_UID = UID.replace("5f2b8c1e", "00000000")


def hear(world: World, step: int, **fields: Any) -> dict[str, Any]:
    """Rank 0 of the current attempt is asked; the status after that."""
    number = world.status["currentAttempt"]["number"]
    world.progress = some_progress(step, attempt=number, **fields)
    world.operate()
    return world.status


def after_a_failure(*, at_step: int, checkpoint: int) -> World:
    """Attempt 2 runs; attempt 1 was killed without a trace."""
    world = running_world()
    hear(world, at_step, last_checkpoint=a_checkpoint(checkpoint))
    job = world.job("1")
    world.vanish(world.pod("1"), watched=False)
    world.lose_started_pods(job)
    world.settle(job)
    world.operate()
    world.pass_time(60)
    world.operate()
    world.start_pods(world.job("2"))
    world.operate()
    return world


def test_progress_is_written_in_the_form_of_the_status() -> None:
    status = hear(
        running_world(),
        24,
        epoch=0.75,
        eval_loss=2.25,
        learning_rate=2e-4,
        grad_norm=float("nan"),
        tokens_per_second=241.5,
        estimated_remaining_seconds=300,
    )
    assert status["progress"] == {
        "step": 24,
        "totalSteps": 96,
        "epoch": "0.75",
        "percent": 25,
        "loss": "2.5",
        "evalLoss": "2.25",
        "learningRate": "0.0002",
        "gradNorm": "NaN",
        "tokensPerSecond": "241.5",
        "estimatedRemainingSeconds": 300,
        "updatedAt": "2026-03-01T12:00:00Z",
    }


def test_progress_is_written_at_most_every_30_seconds() -> None:
    world = running_world()
    hear(world, 4)
    writes = world.writes
    for second in range(1, 30):
        world.pass_time(1)
        hear(world, 4 + second)
    assert (world.writes, world.status["progress"]["step"]) == (writes, 4)
    world.pass_time(1)
    assert hear(world, 40)["progress"]["step"] == 40
    assert world.writes == writes + 1


def test_progress_that_stands_still_is_not_written() -> None:
    world = running_world()
    hear(world, 4)
    writes = world.writes
    world.pass_time(300)
    hear(world, 4)
    assert world.writes == writes


def test_a_silent_rank_0_is_no_evidence_of_anything() -> None:
    world = running_world()
    before = dict(world.status)
    world.pass_time(3600)
    world.operate()
    assert world.status == before


def test_words_of_another_attempt_or_another_job_do_not_count() -> None:
    world = running_world()
    before = dict(world.status)
    for told in (some_progress(50, attempt=2), some_progress(50, uid=OTHER_UID)):
        world.progress = told
        world.operate()
    assert world.status == before


def test_the_first_checkpoint_is_written_at_once() -> None:
    world = running_world()
    hear(world, 9)
    world.pass_time(2)
    status = hear(world, 10, last_checkpoint=a_checkpoint(10))
    assert status["lastCheckpoint"]["step"] == 10
    checkpointed = world.condition("Checkpointed")
    assert checkpointed is not None
    assert (checkpointed["status"], checkpointed["message"]) == ("True", "step 10")


def test_later_checkpoints_travel_with_progress() -> None:
    world = running_world()
    hear(world, 10, last_checkpoint=a_checkpoint(10))
    world.pass_time(5)
    assert hear(world, 20, last_checkpoint=a_checkpoint(20))["lastCheckpoint"]["step"] == 10
    world.pass_time(30)
    assert hear(world, 30, last_checkpoint=a_checkpoint(30))["lastCheckpoint"]["step"] == 30


def test_checkpoints_never_go_back_within_an_execution() -> None:
    world = running_world()
    hear(world, 30, last_checkpoint=a_checkpoint(30))
    world.pass_time(60)
    assert hear(world, 31, last_checkpoint=a_checkpoint(20))["lastCheckpoint"]["step"] == 30


def test_the_resumed_step_says_what_the_attempt_before_lost() -> None:
    world = after_a_failure(at_step=27, checkpoint=20)
    assert world.status["attempts"][0]["stepsLost"] == 7
    status = hear(world, 21, resumed_from_step=20, last_checkpoint=a_checkpoint(20))
    assert status["currentAttempt"]["resumedFromStep"] == 20
    assert status["attempts"][1]["fromStep"] == 20
    assert (status["attempts"][0]["toStep"], status["attempts"][0]["stepsLost"]) == (27, 7)
    assert "Resumed" in world.told


def test_a_checkpoint_that_was_never_heard_of_proves_its_step() -> None:
    """The operator last heard step 27; the attempt went on to save 40 before it was killed."""
    world = after_a_failure(at_step=27, checkpoint=20)
    status = hear(world, 41, resumed_from_step=40, last_checkpoint=a_checkpoint(40))
    assert (status["attempts"][0]["toStep"], status["attempts"][0]["stepsLost"]) == (40, 0)
    assert status["lastCheckpoint"]["step"] == 40


def test_a_skipped_checkpoint_is_forgotten() -> None:
    world = after_a_failure(at_step=27, checkpoint=20)
    status = hear(world, 11, resumed_from_step=10, last_checkpoint=a_checkpoint(10))
    assert status["lastCheckpoint"]["step"] == 10
    assert status["attempts"][0]["stepsLost"] == 17
    world.pass_time(60)
    assert hear(world, 15, resumed_from_step=10)["lastCheckpoint"]["step"] == 10


def test_executions_are_counted_by_rank_0() -> None:
    world = running_world()
    assert hear(world, 1)["currentAttempt"]["executions"] == 1
    assert hear(world, 5, execution=2, resumed_from_step=4)["currentAttempt"]["executions"] == 2


def test_the_volume_corrects_the_row_of_an_attempt_that_left_no_pod() -> None:
    world = after_a_failure(at_step=27, checkpoint=20)
    assert world.status["attempts"][0]["reason"] == "Infrastructure"
    assert (world.status["failures"], world.status["disruptions"]) == (1, 0)
    previous = a_record(75, "Stopped", attempt=1, step=31)
    row = hear(world, 21, resumed_from_step=20, previous=previous)["attempts"][0]
    assert (
        row.items()
        >= {
            "outcome": "Disrupted",
            "reason": "Stopped",
            "exitCode": 75,
            "counted": False,
            "toStep": 31,
            "stepsLost": 11,
        }.items()
    )
    assert (world.status["failures"], world.status["disruptions"]) == (0, 1)


def test_a_row_with_an_exit_code_is_not_corrected() -> None:
    world = running_world()
    world.run_ends("1", 21, a_record(21, step=3))
    world.pass_time(60)
    world.operate()
    world.start_pods(world.job("2"))
    before = world.status["attempts"][0]
    previous = a_record(75, attempt=1, step=3)
    assert hear(world, 1, previous=previous)["attempts"][0] == before


def test_progress_refills_the_failure_budget() -> None:
    world = after_a_failure(at_step=27, checkpoint=20)
    resumed = {"resumed_from_step": 20}
    hear(world, 36, **resumed, last_checkpoint=a_checkpoint(36))
    assert world.status["failures"] == 1, "36 is less than one interval past 27"
    world.pass_time(60)
    hear(world, 37, **resumed, last_checkpoint=a_checkpoint(37))
    assert world.status["failures"] == 0
