"""Preflight as the launcher's child: one record, one exit code, whatever goes wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from finetune_trainer.contract import (
    RUN_CONFIG_VARIABLE,
    TERMINATION_LIMIT_BYTES,
    TERMINATION_LOG_VARIABLE,
    DatasetSpec,
    JobIdentity,
    ModelSpec,
    Problem,
    RunConfig,
    Termination,
)
from finetune_trainer.preflight import main
from tests.trainer_builders import conversations, tiny_tokenizer, write_jsonl


@pytest.fixture
def config(tmp_path: Path) -> RunConfig:
    claim = tmp_path / "sources" / "pvc" / "data"
    tiny_tokenizer(claim / "model")
    write_jsonl(claim / "train.jsonl", conversations(500))
    return RunConfig(
        job=JobIdentity(namespace="team", name="demo", uid="0123456789"),
        attempt=2,
        workspace=str(tmp_path / "workspace"),
        sources=str(tmp_path / "sources"),
        model=ModelSpec(source="pvc://data/model"),
        dataset=DatasetSpec(source="pvc://data/train.jsonl"),
    )


def ended(folder: Path, config_json: str) -> tuple[int, Termination]:
    log = folder / "termination-log"
    code = main({RUN_CONFIG_VARIABLE: config_json, TERMINATION_LOG_VARIABLE: str(log)})
    assert len(log.read_bytes()) <= TERMINATION_LIMIT_BYTES
    return code, Termination.from_json(log.read_bytes())


def test_good_data_leaves_plan_and_data(config: RunConfig, tmp_path: Path) -> None:
    code, record = ended(tmp_path, config.to_json())
    assert (code, record.code, record.reason, record.attempt) == (0, 0, "Passed", 2)
    assert record.plan is not None and record.data is not None
    assert record.data.rows_kept + record.data.eval_rows == 500
    assert record.total_steps == record.plan.total_steps
    stored = tmp_path / "workspace" / "team-demo-01234567" / "data" / record.plan.data_fingerprint
    assert stored.is_dir()


def test_a_run_without_end_is_bad_configuration(config: RunConfig, tmp_path: Path) -> None:
    training = config.training.model_copy(update={"epochs": 1e30})
    endless = config.model_copy(update={"training": training})
    code, record = ended(tmp_path, endless.to_json())
    assert (code, record.reason, record.plan) == (10, "BadConfig", None)
    assert "training.epochs" in record.message


def test_many_problems_fit_the_record(config: RunConfig, tmp_path: Path) -> None:
    lines = [
        line
        for row in range(300)
        for line in ("{" * 40, json.dumps({f"key {row}": 1}), json.dumps({"messages": [row]}))
    ]
    write_jsonl(tmp_path / "sources" / "pvc" / "data" / "train.jsonl", lines)
    code, record = ended(tmp_path, config.to_json())
    assert code == record.code == 11
    assert {each.code: each.count for each in record.problems if each.count} == {
        "invalid_json": 300, "unknown_format": 300, "missing_field": 300,
    }  # fmt: skip
    assert all(len(each.rows) <= 5 for each in record.problems)
    assert "invalid_json: lines 1, 4, 7, 10, 13 and 295 more" in record.message


def test_a_record_keeps_message_plan_and_data_in_any_script(
    config: RunConfig, tmp_path: Path
) -> None:
    _, good = ended(tmp_path, config.to_json())
    problem = Problem(code="unknown_format", severity="error", message="\u884c" * 1000, count=9)
    message = "unknown_format: line 17: " + "\u884c" * 1000
    record = good.model_copy(update={"message": message, "problems": (problem,) * 6})
    text = record.to_log()
    kept = Termination.from_json(text)
    assert len(text.encode()) <= TERMINATION_LIMIT_BYTES
    assert kept.truncated
    assert kept.message.startswith("unknown_format: line 17: \u884c")
    assert kept.problems and kept.problems[0].count == 9
    assert kept.data == record.data
    assert kept.plan is not None and kept.plan.total_steps == record.total_steps


def test_a_missing_claim_names_source_and_path(config: RunConfig, tmp_path: Path) -> None:
    missing = config.model_copy(update={"dataset": DatasetSpec(source="pvc://dat/train.jsonl")})
    code, record = ended(tmp_path, missing.to_json())
    assert (code, record.reason) == (11, "DataUnreadable")
    assert "dataset.source pvc://dat/train.jsonl" in record.message
    assert str(tmp_path / "sources" / "pvc" / "dat" / "train.jsonl") in record.message


@pytest.mark.parametrize(
    ("text", "says"),
    [("", RUN_CONFIG_VARIABLE), ('{"attempt": 0}', "attempt: "), ('{"colour": 1}', "colour: ")],
)
def test_a_bad_config_names_the_field(text: str, says: str, tmp_path: Path) -> None:
    code, record = ended(tmp_path, text)
    assert (code, record.reason) == (10, "BadConfig")
    assert says in record.message


def test_a_record_that_cannot_be_written_leaves_the_exit_code_as_it_is(config: RunConfig) -> None:
    environment = {TERMINATION_LOG_VARIABLE: "/dev/full"}
    assert main({RUN_CONFIG_VARIABLE: config.to_json(), **environment}) == 0
    assert main({RUN_CONFIG_VARIABLE: "{", **environment}) == 10


def test_a_workspace_that_cannot_be_written_is_infrastructure(
    config: RunConfig, tmp_path: Path
) -> None:
    (tmp_path / "workspace").write_text("a file, not a folder")
    code, record = ended(tmp_path, config.to_json())
    assert (code, record.reason) == (20, "StorageError")
