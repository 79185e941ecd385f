"""finetune-trainer on a laptop: JSON on standard output, words on standard error, 0, 1 or 2."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from finetune_trainer.cli import main
from finetune_trainer.contract import DatasetSpec, JobIdentity, ModelSpec, RunConfig
from tests.trainer_builders import conversations, tiny_tokenizer, write_jsonl


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer(tmp_path / "model")
    write_jsonl(tmp_path / "train.jsonl", conversations(500))
    return tmp_path


def arguments(folder: Path, *more: str) -> list[str]:
    return [
        "preflight", "--model", str(folder / "model"), "--dataset", str(folder / "train.jsonl"),
        *more,
    ]  # fmt: skip


def test_good_data_exits_0_with_the_plan(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(arguments(folder, "--json", "--epochs", "3", "--eval-fraction", "0"))
    report = json.loads(capsys.readouterr().out)
    assert code == 0
    assert set(report) == {
        "ok", "problems", "data", "plan", "total_steps", "steps_per_epoch", "effective_batch_size",
    }  # fmt: skip
    assert (report["ok"], report["problems"]) == (True, [])
    assert (report["steps_per_epoch"], report["total_steps"]) == (32, 96)
    assert report["effective_batch_size"] == 16
    assert report["data"]["rows_kept"] == 500
    assert report["plan"]["learning_rate"] == "0.0002"


def test_bad_data_exits_1_with_its_rows(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with (folder / "train.jsonl").open("a") as stream:
        stream.write("{\n")
    code = main(arguments(folder, "--json"))
    report = json.loads(capsys.readouterr().out)
    assert (code, report["ok"], report["plan"]) == (1, False, None)
    (problem,) = report["problems"]
    assert set(problem) == {"code", "severity", "message", "rows", "count"}
    assert (problem["code"], problem["rows"], problem["count"]) == ("invalid_json", [501], 1)


def test_without_json_standard_output_stays_empty(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments(folder)) == 0
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err


def test_a_dataset_that_is_not_there_exits_1(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "train.jsonl").unlink()
    assert main(arguments(folder, "--json")) == 1
    assert json.loads(capsys.readouterr().out)["problems"][0]["code"] == "missing_file"


@pytest.mark.parametrize(
    "wrong",
    [
        ["preflight"],
        ["diagnose"],
        ["preflight", "--model", "m", "--dataset", "d", "--max-length", "0"],
        ["preflight", "--model", "m", "--dataset", "d", "--learning-rate", "fast"],
        ["preflight", "--model", "m", "--dataset", "d", "--gpus-per-node", "-1"],
        ["preflight", "--model", "m", "--dataset", "d", "--overlength", "Ignore"],
        ["train", "--config", "/nowhere/run.json"],
        ["verify-checkpoint", "/nowhere"],
    ],
)
def test_wrong_usage_exits_2(wrong: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(wrong)
    assert caught.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_folder_without_a_manifest_is_no_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify-checkpoint", "--json", str(tmp_path)]) == 1
    result = json.loads(capsys.readouterr().out)
    assert result["ok"] is False
    assert result["problems"]


def train(folder: Path, *more: str) -> int:
    config = RunConfig(
        job=JobIdentity(namespace="team", name="demo", uid="0123456789"),
        attempt=1,
        workspace=str(folder / "workspace"),
        model=ModelSpec(source=f"file://{folder / 'model'}"),
        dataset=DatasetSpec(source=f"file://{folder / 'train.jsonl'}"),
    )
    (folder / "run.json").write_text(config.to_json())
    return main(["train", "--config", str(folder / "run.json"), *more])


def test_training_on_bad_data_ends_with_preflights_code(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_jsonl(folder / "train.jsonl", ["{"])
    assert train(folder, "--json") == 11
    assert json.loads(capsys.readouterr().out) == {"exit_code": 11}


def test_training_in_a_workspace_that_cannot_be_written_ends_with_20(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "workspace").write_text("a file, not a folder")
    assert train(folder) == 20
    assert capsys.readouterr().out == ""


def test_training_whose_plan_cannot_be_read_back_ends_with_20(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Preflight passed; the volume fails when its report is read."""
    monkeypatch.setattr(sys, "executable", shutil.which("true"))
    assert train(folder, "--json") == 20
    printed = capsys.readouterr()
    assert json.loads(printed.out) == {"exit_code": 20}
    (line,) = printed.err.splitlines()
    assert "preflight.json" in line


def test_a_volume_that_fails_is_said_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading the start of a process's memory is an input/output error."""
    (folder / "train.jsonl").unlink()
    (folder / "train.jsonl").symlink_to("/proc/self/mem")
    assert main(arguments(folder, "--json")) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = printed.err.splitlines()
    assert "Input/output error" in line
