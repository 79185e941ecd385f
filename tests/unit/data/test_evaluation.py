"""What is said about the rows that are held out or given for evaluation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract import (
    DatasetSpec,
    ExitCode,
    JobIdentity,
    ModelSpec,
    PreflightReport,
    RunConfig,
)
from finetune_trainer.preflight import run
from tests.trainer_builders import conversation, conversations, tiny_tokenizer, write_jsonl

GOOD = conversations(120)
LONG = conversation("why?", "because of this and that " * 40)


def report(
    folder: Path, *, rows: list[Any], given: list[Any] | None, **dataset: Any
) -> PreflightReport:
    """Preflight's report on `rows` to train on and those `given` to evaluate on, if any."""
    train = write_jsonl(folder / "train.jsonl", rows)
    if given is not None:
        held_out = write_jsonl(folder / "held-out.jsonl", given)
        dataset["eval_source"] = f"file://{held_out}"
    config = RunConfig(
        job=JobIdentity(namespace="team", name="demo", uid="0123456789"),
        attempt=1,
        workspace=str(folder / "workspace"),
        model=ModelSpec(source=f"file://{tiny_tokenizer(folder / 'model')}"),
        dataset=DatasetSpec(source=f"file://{train}", **dataset),
    )
    return run(config)


def warnings(found: PreflightReport) -> list[str]:
    assert all(each.severity == "warning" for each in found.problems)
    return [each.message for each in found.problems if "no evaluation" in each.message]


def test_evaluation_rows_that_are_trained_on_are_named(tmp_path: Path) -> None:
    given = [conversation("new?", "yes"), GOOD[4]]
    found = report(tmp_path, rows=GOOD, given=given)
    (overlap,) = (each for each in found.problems if each.code == "train_eval_overlap")
    assert (overlap.severity, overlap.rows) == ("warning", (2,))
    assert overlap.message.startswith("evalSource: line 2: ")


NOTHING: dict[str, tuple[dict[str, Any], str]] = {
    "an empty file": ({"rows": GOOD, "given": []}, "held-out.jsonl holds no row"),
    "a file of which every row is dropped": (
        {"rows": GOOD, "given": [LONG, LONG], "max_length": 64},
        "all 2 rows that it should be made on were dropped",
    ),
    "a share that is less than half a row": (
        {"rows": GOOD[:9], "given": None, "eval_fraction": 0.05},
        "dataset.evalFraction = 0.05 of these rows is none",
    ),
}


@pytest.mark.parametrize(("job", "says"), NOTHING.values(), ids=NOTHING.keys())
def test_a_job_that_asks_for_evaluation_is_told_when_there_will_be_none(
    job: dict[str, Any], says: str, tmp_path: Path
) -> None:
    found = report(tmp_path, **job)
    assert (found.exit_code, found.data.eval_rows) == (ExitCode.OK, 0)
    (message,) = warnings(found)
    assert says in message


WANTED: dict[str, dict[str, Any]] = {
    "a share that is a row": {"rows": GOOD, "given": None, "eval_fraction": 0.05},
    "a file with a row": {"rows": GOOD, "given": [conversation("new?", "yes")]},
    "no evaluation wanted": {"rows": GOOD, "given": None, "eval_fraction": 0},
}


@pytest.mark.parametrize("job", WANTED.values(), ids=WANTED.keys())
def test_otherwise_nothing_is_said(job: dict[str, Any], tmp_path: Path) -> None:
    assert warnings(report(tmp_path, **job)) == []
