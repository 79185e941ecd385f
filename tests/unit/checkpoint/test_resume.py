"""Where an execution starts, and when it must not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.resume import Start, choose_start
from finetune_trainer.checkpoint.writer import Health, write_health
from finetune_trainer.contract import (
    CheckpointReference,
    ExitCode,
    ResumeFrom,
    ResumePolicy,
)
from finetune_trainer.errors import TrainerError
from tests.checkpoint_builders import IDENTITY, Writer, begin

KNOWN = CheckpointReference(step=30, path="step-00000030.a1.e1", digest="d")


@pytest.fixture
def writer(tmp_path: Path) -> Writer:
    """An execution that saved steps 10, 20 and 30; the first two are healthy."""
    writer = begin(JobFolder(tmp_path), 1)
    for step in (10, 20, 30):
        writer.save(step)
    for step in (10, 20):
        write_health(writer.folder(step), Health.HEALTHY)
    return writer


def start(
    writer: Writer,
    rule: ResumeFrom = ResumeFrom(),  # noqa: B008 - frozen
    *,
    known: CheckpointReference | None = None,
) -> Start:
    return choose_start(writer.job, IDENTITY, resume_from=rule, known=known)


def damage(writer: Writer, *steps: int) -> None:
    for step in steps:
        (writer.folder(step) / "optimizer.pt").write_text("torn")


def test_an_empty_volume_starts_from_step_0(tmp_path: Path) -> None:
    chosen = choose_start(JobFolder(tmp_path), IDENTITY, resume_from=ResumeFrom(), known=None)
    assert chosen == Start(None, None, ())
    assert chosen.step == 0


RULES = {
    "the newest": (ResumeFrom(), 30),
    "at most step 25": (ResumeFrom(policy=ResumePolicy.AT_MOST, step=25), 20),
    "at most a step that exists": (ResumeFrom(policy=ResumePolicy.AT_MOST, step=10), 10),
    "the newest healthy": (
        ResumeFrom(policy=ResumePolicy.AT_MOST, step=30, healthy_only=True),
        20,
    ),
    "before all of them: from step 0": (ResumeFrom(policy=ResumePolicy.AT_MOST, step=9), 0),
}


@pytest.mark.parametrize(("rule", "step"), RULES.values(), ids=RULES.keys())
def test_rule(writer: Writer, rule: ResumeFrom, step: int) -> None:
    chosen = start(writer, rule)
    assert (chosen.step, chosen.skipped) == (step, ())


def test_a_known_checkpoint_that_the_volume_lost_is_reported(writer: Writer) -> None:
    shutil.rmtree(writer.folder(30))
    chosen = start(writer, known=KNOWN)
    assert chosen.step == 20
    assert chosen.skipped == ("step-00000030.a1.e1: no longer on the volume",)


def test_a_damaged_checkpoint_gives_way_to_the_next_older_and_says_why(writer: Writer) -> None:
    damage(writer, 30)
    chosen = start(writer, known=KNOWN)
    assert chosen.step == 20
    assert chosen.skipped == ("step-00000030.a1.e1: optimizer.pt has 4 bytes instead of 14",)
    assert chosen.reference is not None
    assert chosen.reference.path == "step-00000020.a1.e1"


def test_50_when_status_knows_a_checkpoint_and_none_verifies(writer: Writer) -> None:
    damage(writer, 10, 20, 30)
    with pytest.raises(TrainerError) as failure:
        start(writer, known=KNOWN)
    assert failure.value.code == ExitCode.NO_CHECKPOINT_VERIFIES
    assert "step-00000010.a1.e1: optimizer.pt" in failure.value.message


def test_50_when_the_volume_is_empty_but_status_knows_a_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(TrainerError) as failure:
        choose_start(JobFolder(tmp_path), IDENTITY, resume_from=ResumeFrom(), known=KNOWN)
    assert failure.value.code == ExitCode.NO_CHECKPOINT_VERIFIES


def test_damaged_checkpoints_that_status_never_saw_mean_a_fresh_start(writer: Writer) -> None:
    damage(writer, 10, 20, 30)
    chosen = start(writer)
    assert chosen.step == 0
    assert len(chosen.skipped) == 3


def test_a_rollback_that_finds_nothing_healthy_starts_from_step_0(writer: Writer) -> None:
    for step in (10, 20):
        write_health(writer.folder(step), Health.PENDING)
    rule = ResumeFrom(policy=ResumePolicy.AT_MOST, step=30, healthy_only=True)
    assert start(writer, rule, known=KNOWN).step == 0


def test_51_for_the_checkpoint_of_another_run(writer: Writer) -> None:
    writer.save(40, identity=IDENTITY.model_copy(update={"seed": 7}))
    with pytest.raises(TrainerError) as failure:
        start(writer)
    assert failure.value.code == ExitCode.FOREIGN_CHECKPOINT
    assert "seed: 7 -> 42" in failure.value.message
