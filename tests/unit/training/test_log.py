"""trainer_log.jsonl holds every step of the run exactly once."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.checkpoint.lineage import CheckpointName
from finetune_trainer.checkpoint.registry import register
from finetune_trainer.errors import TrainerError
from finetune_trainer.training.log import StepLog, read_run


@pytest.fixture
def job(tmp_path: Path) -> JobFolder:
    return JobFolder(tmp_path)


def start(job: JobFolder, attempt: int, *, parent: CheckpointName | None = None) -> StepLog:
    return StepLog(job, register(job, attempt, parent=parent))


def write(log: StepLog, attempt: int, *steps: int) -> None:
    for step in steps:
        log.step({"step": step, "loss": 1.0 / step, "attempt": attempt})


def shown(job: JobFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in job.log.read_text().splitlines()]


def attempts_by_step(job: JobFolder) -> list[tuple[int, int]]:
    return [(line["step"], line["attempt"]) for line in shown(job)]


def test_steps_after_the_checkpoint_are_replaced_by_those_of_the_resumed_run(
    job: JobFolder,
) -> None:
    write(start(job, 1), 1, 1, 2, 3, 4, 5)
    second = start(job, 2, parent=CheckpointName(3, 1, 1))
    assert attempts_by_step(job) == [(1, 1), (2, 1), (3, 1)]
    write(second, 2, 4, 5, 6)
    assert attempts_by_step(job) == [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 2)]


def test_a_superseded_execution_goes_on_writing_where_nobody_looks(job: JobFolder) -> None:
    first = start(job, 1)
    write(first, 1, 1, 2, 3)
    second = start(job, 2, parent=CheckpointName(2, 1, 1))
    write(first, 1, 4, 5)
    write(second, 2, 3)
    assert attempts_by_step(job) == [(1, 1), (2, 1), (3, 2)]
    assert [line["step"] for line in read_run(job)] == [1, 2, 3]


def test_a_superseded_execution_does_not_replace_the_log(job: JobFolder) -> None:
    first = start(job, 1)
    second = start(job, 2)
    write(second, 2, 1)
    with pytest.raises(TrainerError) as failure:
        first.evaluation(0, 3.0)
    assert failure.value.reason == "Superseded"
    with pytest.raises(TrainerError):
        start(job, 1)
    write(second, 2, 2)
    assert attempts_by_step(job) == [(1, 2), (2, 2)]


def test_a_log_that_was_replaced_all_the_same_is_whole_at_the_next_checkpoint(
    job: JobFolder,
) -> None:
    log = start(job, 2)
    write(log, 2, 1)
    job.log.with_name("other").write_text('{"step": 1, "attempt": 1}\n')
    job.log.with_name("other").rename(job.log)
    write(log, 2, 2)
    log.sync()
    write(log, 2, 3)
    assert attempts_by_step(job) == [(1, 2), (2, 2), (3, 2)]


def test_a_line_cut_off_by_a_crash_is_no_line(job: JobFolder) -> None:
    write(start(job, 1), 1, 1, 2)
    with job.execution_log(1, 1).open("a") as stream:
        stream.write('{"step": 3, "lo')
    start(job, 2, parent=CheckpointName(2, 1, 1))
    assert attempts_by_step(job) == [(1, 1), (2, 1)]


def test_an_evaluation_stands_on_the_line_of_its_step(job: JobFolder) -> None:
    log = start(job, 1)
    log.evaluation(0, 3.0)
    write(log, 1, 1, 2)
    log.evaluation(2, 1.5)
    assert [line.get("eval_loss") for line in shown(job)] == [None, 1.5]


def test_an_evaluation_that_was_cut_off_is_added_by_the_next_execution(job: JobFolder) -> None:
    write(start(job, 1), 1, 1, 2)
    start(job, 2, parent=CheckpointName(2, 1, 1)).evaluation(2, 1.5)
    assert [(line["attempt"], line.get("eval_loss")) for line in shown(job)] == [
        (1, None),
        (1, 1.5),
    ]


def test_what_is_not_finite_is_shown_as_such(job: JobFolder) -> None:
    log = start(job, 1)
    log.step({"step": 1, "loss": 2.0, "grad_norm": math.inf})
    log.evaluation(1, math.nan)
    assert shown(job) == [{"step": 1, "loss": 2.0, "grad_norm": "Infinity", "eval_loss": "NaN"}]
