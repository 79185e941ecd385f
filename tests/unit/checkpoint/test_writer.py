"""Nothing half-written is visible, nothing that is needed is removed."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.checkpoint import writer as writer_module
from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.lineage import CheckpointName, Execution
from finetune_trainer.checkpoint.manifest import MANIFEST_FILE, STATE_FILE, digest, verify
from finetune_trainer.checkpoint.registry import (
    append,
    claim,
    list_checkpoints,
    read_executions,
    register,
    require_newest,
)
from finetune_trainer.checkpoint.writer import Health, read_health, removable, write_health
from finetune_trainer.contract import ExitCode
from finetune_trainer.errors import TrainerError
from tests.checkpoint_builders import begin, describe


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def test_a_saved_checkpoint_verifies_and_is_the_latest(job: JobFolder) -> None:
    writer = begin(job, 1)
    reference = writer.save(120)
    assert verify(writer.folder(120)) == []
    assert job.latest.read_text() == "step-00000120.a1.e1\n"
    assert reference.path == "step-00000120.a1.e1"
    assert reference.digest == digest(writer.folder(120) / MANIFEST_FILE)
    assert read_health(writer.folder(120)) is Health.PENDING


def flip_a_bit(folder: Path) -> None:
    path = folder / "optimizer.pt"
    content = bytearray(path.read_bytes())
    content[3] ^= 1
    path.write_bytes(content)


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "the manifest is missing": (
        lambda folder: (folder / MANIFEST_FILE).unlink(),
        "no MANIFEST.json: the write was cut off",
    ),
    "the manifest is cut off": (
        lambda folder: (folder / MANIFEST_FILE).write_text('{"step": 1'),
        "MANIFEST.json is unreadable",
    ),
    "a file is missing": (
        lambda folder: (folder / "scheduler.pt").unlink(),
        "scheduler.pt is missing",
    ),
    "a file is cut off": (
        lambda folder: (folder / STATE_FILE).write_text("x"),
        "trainer_state.json has 1 bytes instead of 20",
    ),
    "a file is empty": (
        lambda folder: (folder / "rng-0.pt").write_text(""),
        "rng-0.pt has 0 bytes instead of 10",
    ),
    "one bit differs": (flip_a_bit, "optimizer.pt differs from its sha256"),
    "it was copied under another step's name": (
        lambda folder: folder.rename(folder.with_name("step-00000130.a1.e1")),
        "MANIFEST.json is of step 120",
    ),
}


@pytest.mark.parametrize(("damage", "reason"), DAMAGES.values(), ids=DAMAGES.keys())
def test_damage_is_found(job: JobFolder, damage: Callable[[Path], object], reason: str) -> None:
    writer = begin(job, 1)
    writer.save(120)
    damage(writer.folder(120))
    (folder,) = (job.checkpoints / str(name) for name in list_checkpoints(job))
    assert [problem for problem in verify(folder) if problem.startswith(reason)]


def test_a_manifest_that_leaves_out_what_resume_needs_does_not_verify(job: JobFolder) -> None:
    writer = begin(job, 1)
    writer.checkpoints.save(10, lambda folder: (folder / "optimizer.pt").touch(), describe=describe)
    assert "scheduler.pt is not in MANIFEST.json" in verify(writer.folder(10))


def test_a_full_disk_leaves_no_trace(job: JobFolder) -> None:
    writer = begin(job, 1)
    writer.save(10)

    def fill(folder: Path) -> None:
        (folder / "optimizer.pt").write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        writer.checkpoints.save(20, fill, describe=describe)
    assert sorted(path.name for path in job.checkpoints.iterdir()) == [
        "LATEST",
        "step-00000010.a1.e1",
        "step-00000010.a1.e1.HEALTH",
    ]


def names(*steps: int) -> list[CheckpointName]:
    return [CheckpointName(step, 1, 1) for step in steps]


ROTATION = {
    "the newest `keep` stay": (names(40, 30, 20, 10), [], 3, names(10)),
    "the newest healthy stays, however old": (
        names(50, 40, 30, 20, 10),
        names(20, 10),
        2,
        names(30, 10),
    ),
    "with keep 1 the newest valid and the newest healthy stay": (
        names(30, 20, 10),
        names(20),
        1,
        names(10),
    ),
    "fewer than `keep`: nothing goes": (names(20, 10), [], 3, []),
}


@pytest.mark.parametrize(
    ("newest_first", "healthy", "keep", "wanted"), ROTATION.values(), ids=ROTATION.keys()
)
def test_rotation(
    newest_first: list[CheckpointName],
    healthy: list[CheckpointName],
    keep: int,
    wanted: list[CheckpointName],
) -> None:
    assert removable(newest_first, healthy=healthy, keep=keep) == wanted


def test_rotation_removes_folder_and_health(job: JobFolder) -> None:
    writer = begin(job, 1, keep=2)
    writer.save(10)
    write_health(writer.folder(10), Health.HEALTHY)
    for step in (20, 30, 40):
        writer.save(step)
    assert sorted(path.name for path in job.checkpoints.iterdir()) == [
        "LATEST",
        "step-00000010.a1.e1",
        "step-00000010.a1.e1.HEALTH",
        "step-00000030.a1.e1",
        "step-00000030.a1.e1.HEALTH",
        "step-00000040.a1.e1",
        "step-00000040.a1.e1.HEALTH",
    ]


def test_a_superseded_writer_stops_and_removes_nothing(job: JobFolder) -> None:
    old = begin(job, 1, keep=1)
    old.save(10)
    begin(job, 2, parent=old.name(10))
    with pytest.raises(TrainerError) as failure:
        old.save(20)
    assert (failure.value.code, failure.value.reason) == (ExitCode.INFRASTRUCTURE, "Superseded")
    assert verify(old.folder(10)) == []


def test_a_superseded_writer_stops_when_its_files_vanish_under_it(job: JobFolder) -> None:
    old = begin(job, 1)
    old.save(10)

    def fill(folder: Path) -> None:
        begin(job, 2, parent=old.name(10)).checkpoints.discard_leftovers()
        (folder / "optimizer.pt").touch()

    with pytest.raises(TrainerError) as failure:
        old.checkpoints.save(20, fill, describe=describe)
    assert failure.value.reason == "Superseded"


def test_a_new_execution_clears_what_nobody_will_accept(job: JobFolder) -> None:
    old = begin(job, 1)
    old.save(10)
    old.save(20)
    (job.checkpoints / ".tmp-step-00000030.a1.e1-abcd").mkdir()
    new = begin(job, 2, parent=old.name(10))
    new.checkpoints.discard_leftovers()
    assert list_checkpoints(job) == [old.name(10)]
    assert not list(job.checkpoints.glob(".tmp-*"))


def test_a_superseded_execution_takes_nothing_of_its_successor_for_a_leftover(
    job: JobFolder,
) -> None:
    old = begin(job, 1)
    old.save(10)
    new = begin(job, 2, parent=old.name(10))
    late = begin(job, 1, parent=old.name(10))
    new.save(20)
    unfinished = job.checkpoints / ".tmp-step-00000030.a2.e1-abcd"
    unfinished.mkdir()
    with pytest.raises(TrainerError) as failure:
        late.checkpoints.discard_leftovers()
    assert failure.value.reason == "Superseded"
    assert verify(new.folder(20)) == []
    assert unfinished.is_dir()


def test_what_is_written_while_leftovers_are_sought_is_none(
    job: JobFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = begin(job, 1)
    old.save(10)
    middle = begin(job, 1, parent=old.name(10))
    listed = list_checkpoints(job)

    def list_then_freeze(job: JobFolder) -> list[CheckpointName]:
        monkeypatch.undo()
        begin(job, 2, parent=old.name(10)).save(20)
        return listed

    monkeypatch.setattr(writer_module, "list_checkpoints", list_then_freeze)
    with pytest.raises(TrainerError):
        middle.checkpoints.discard_leftovers()
    assert verify(job.checkpoints / "step-00000020.a2.e1") == []


def test_executions_are_numbered_within_their_attempt(job: JobFolder) -> None:
    keys = [register(job, attempt, parent=None).key for attempt in (1, 1, 2, 1)]
    assert keys == [(1, 1), (1, 2), (2, 1), (1, 3)]


def test_a_registration_that_was_cut_off_never_happened(job: JobFolder) -> None:
    register(job, 1, parent=None)
    claim(job, 1, above=1)
    with job.executions(1).open("a") as stream:
        stream.write('{"execution": 2, "par')
    third = register(job, 1, parent=CheckpointName(10, 1, 1))
    assert third.number == 3, "a number that was claimed is spent"
    assert [entry.parent for entry in read_executions(job)] == [None, CheckpointName(10, 1, 1)]


def test_two_starts_that_read_the_same_lines_get_different_numbers(job: JobFolder) -> None:
    """The first is frozen between claim and line; the later claim wins, whoever writes last."""
    first, second = (Execution(1, claim(job, 1, above=0), None) for _ in range(2))
    append(job, second)
    append(job, first)
    assert (first.number, second.number) == (1, 2)
    require_newest(job, second)
    with pytest.raises(TrainerError) as refused:
        require_newest(job, first)
    assert refused.value.reason == "Superseded"


def test_a_start_that_was_frozen_before_its_claim_takes_the_next_number(job: JobFolder) -> None:
    frozen_knows = 0
    other = register(job, 1, parent=None)
    assert claim(job, 1, above=frozen_knows) == other.number + 1
