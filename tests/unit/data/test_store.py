"""The tokenised data on the volume: all or nothing, and verified when read."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path

import pytest

from finetune_trainer.contract import DataSummary, Problem
from finetune_trainer.data import store
from finetune_trainer.data.store import IGNORED, Example, TokenisedData
from finetune_trainer.errors import TrainerError

DATA = TokenisedData(
    train=[Example([5, 6, 7], [IGNORED, 6, 7], 1), Example([8], [8], 4)],
    evaluation=[Example([9, 2], [IGNORED, 2], 3)],
    pad_token_id=3,
    end_of_turn_id=2,
    template_sha256="t" * 64,
    fingerprint="f" * 64,
    date="2025-01-01",
    summary=DataSummary(rows=4, rows_kept=2, eval_rows=1, dropped={"over_length": 1}),
    problems=(Problem(code="over_length", severity="warning", message="line 2", rows=(2,)),),
)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    folder = store.write(tmp_path / "data" / "f", DATA)
    found = store.load(folder)
    assert list(found.train) == DATA.train
    assert list(found.evaluation) == DATA.evaluation
    assert replace(found, train=DATA.train, evaluation=DATA.evaluation) == DATA
    assert [path.name for path in folder.parent.iterdir()] == ["f"]


def test_examples_are_a_sequence(tmp_path: Path) -> None:
    train = store.load(store.write(tmp_path / "f", DATA)).train
    assert len(train) == 2
    assert train[-1] == DATA.train[1]
    assert train[:1] == DATA.train[:1]
    with pytest.raises(IndexError):
        train[2]


def test_no_evaluation_is_an_empty_sequence(tmp_path: Path) -> None:
    found = store.load(store.write(tmp_path / "f", replace(DATA, evaluation=[])))
    assert list(found.evaluation) == []


def test_a_valid_folder_is_left_as_it_is(tmp_path: Path) -> None:
    folder = store.write(tmp_path / "f", DATA)
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    store.write(folder, DATA)
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", [store.SUMMARY_FILE, store.TRAIN_FILE, store.EVALUATION_FILE])
@pytest.mark.parametrize("damage", ["lost", "cut", "changed"])
def test_damage_is_found_and_repaired_by_the_next_write(
    name: str, damage: str, tmp_path: Path
) -> None:
    folder = store.write(tmp_path / "f", DATA)
    path = folder / name
    content = path.read_bytes()
    if damage == "lost":
        path.unlink()
    else:
        path.write_bytes(content[: len(content) // 2] + (b"" if damage == "cut" else b"x"))
    with pytest.raises(TrainerError) as caught:
        store.load(folder)
    assert (caught.value.code, caught.value.reason) == (11, "DataDamaged")
    store.write(folder, DATA)
    assert list(store.load(folder).train) == DATA.train


def test_a_volume_that_fails_is_not_damaged_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = store.write(tmp_path / "f", DATA)

    def fail(path: Path) -> str:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(store, "_digest", fail)
    with pytest.raises(OSError, match="Input/output error"):
        store.load(folder)
