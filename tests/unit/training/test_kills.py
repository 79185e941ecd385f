"""A run that is killed and resumed has the same adapter, bit for bit, as one that is not.

Real launchers, real processes, real signals. The moments come from a seeded generator; only the
machine's own timing moves them. A run has so many steps that none ends before its last kill,
however late a busy machine lets the test look.
"""

from __future__ import annotations

import json
import os
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.checkpoint.layout import TEMPORARY_PREFIX, JobFolder
from finetune_trainer.checkpoint.registry import read_executions
from finetune_trainer.contract import ExitCode, RunConfig
from tests.forked_ranks import run_ranks
from tests.training_runs import (
    Launched,
    Sources,
    adapter_bytes,
    attempt,
    launch,
    planned,
    ranks_of,
    steps_made,
)

pytestmark = pytest.mark.usefixtures("forked")

PRECISION = {1: "FP32", 2: "BF16"}  # by number of processes
STEPS = 160
INTERVAL = 8
Moment = Callable[[JobFolder, int], bool]  # of a job's folder and the number of the attempt


def job_of(sources: Sources, folder: Path, *, processes: int) -> RunConfig:
    config = sources.config(folder, steps=STEPS, interval=INTERVAL)
    return attempt(planned(config, precision=PRECISION[processes]), 1, processes=processes)


def uninterrupted(sources: Sources, folder: Path, *, processes: int) -> JobFolder:
    config = job_of(sources, folder / "whole", processes=processes)
    assert run_ranks(config, folder / "scratch").codes == {ExitCode.OK}
    return JobFolder.of(config)


def at_random(generator: random.Random) -> Moment:
    """After a few steps of the attempt, at any point of a step."""
    steps, polls = generator.randint(1, INTERVAL + 2), generator.randrange(40)
    seen = iter(range(polls))
    return lambda job, number: steps_made(job, number) >= steps and next(seen, None) is None


def writing_checkpoint(job: JobFolder, number: int) -> bool:
    """A checkpoint of the attempt is there in part."""
    return any(job.checkpoints.glob(f"{TEMPORARY_PREFIX}step-*.a{number}.*"))


def last_step_made(job: JobFolder, number: int) -> bool:
    logs = (job.execution_log(number, 1),)
    return any(f'"step": {STEPS},' in log.read_text() for log in logs if log.exists())


def run_until(config: RunConfig, folder: Path, moment: Moment) -> Launched:
    running = launch(config, folder)
    reached = running.wait_until(lambda job: moment(job, config.attempt))
    assert reached, running.record.read_text()
    return running


def kill(running: Launched) -> None:
    """What the kernel does to a pod: every process gone at once."""
    running.signal(signal.SIGKILL)
    running.wait()


def signal_all(pids: list[int], number: signal.Signals) -> None:
    for pid in pids:
        os.kill(pid, number)


def lines(job: JobFolder) -> list[dict[str, Any]]:
    return [json.loads(line) for line in job.log.read_text().splitlines()]


def assert_same_run(job: JobFolder, whole: JobFolder) -> None:
    assert adapter_bytes(job) == adapter_bytes(whole)
    assert [line["step"] for line in lines(job)] == list(range(1, STEPS + 1))
    what_is_computed = ("loss", "learning_rate", "grad_norm", "epoch", "supervised_tokens")
    for field in (*what_is_computed, "eval_loss"):
        assert [line.get(field) for line in lines(job)] == [
            line.get(field) for line in lines(whole)
        ], field
    assert job.samples.read_text() == whole.samples.read_text()


def test_one_process_killed_five_times_and_frozen_once(sources: Sources, tmp_path: Path) -> None:
    """Kills at random in steps, while a checkpoint is written, and after the last step.

    The fourth attempt is frozen instead, replaced, and goes on writing: nobody sees what it writes.
    """
    whole = uninterrupted(sources, tmp_path, processes=1)
    base = job_of(sources, tmp_path / "killed", processes=1)
    job, output = JobFolder.of(base), tmp_path / "output"
    generator = random.Random(1)

    kill(run_until(attempt(base, 1), output, at_random(generator)))
    kill(run_until(attempt(base, 2), output, at_random(generator)))
    kill(run_until(attempt(base, 3), output, writing_checkpoint))

    frozen = run_until(attempt(base, 4), output, at_random(generator))
    late_writers = [frozen.process.pid, *ranks_of(frozen.process)]
    signal_all(late_writers, signal.SIGSTOP)
    replacement = run_until(attempt(base, 5), output, at_random(generator))
    replacers = [replacement.process.pid, *ranks_of(replacement.process)]
    signal_all(replacers, signal.SIGSTOP)  # or it may be done before the late writer has ended
    signal_all(late_writers, signal.SIGCONT)
    assert frozen.wait() == ExitCode.INFRASTRUCTURE
    assert frozen.termination().reason == "Superseded"
    signal_all(replacers, signal.SIGCONT)
    kill(replacement)

    kill(run_until(attempt(base, 6), output, last_step_made))
    last = launch(attempt(base, 7), output)
    assert last.wait() == ExitCode.OK
    assert_same_run(job, whole)
    (parent,) = (each.parent for each in read_executions(job) if each.attempt == 5)
    replaced_at = parent.step if parent else 0
    assert 4 not in {line["attempt"] for line in lines(job) if line["step"] > replaced_at}


def test_two_processes_killed_five_times_and_asked_to_stop_once(
    sources: Sources, tmp_path: Path
) -> None:
    """Kills of a node and of one rank, SIGTERM, and a kill while a checkpoint is written."""
    whole = uninterrupted(sources, tmp_path, processes=2)
    base = job_of(sources, tmp_path / "killed", processes=2)
    output = tmp_path / "output"
    generator = random.Random(2)

    kill(run_until(attempt(base, 1, processes=2), output, at_random(generator)))

    one_rank = run_until(attempt(base, 2, processes=2), output, at_random(generator))
    os.kill(ranks_of(one_rank.process)[1], signal.SIGKILL)
    assert one_rank.wait() == ExitCode.INFRASTRUCTURE
    assert one_rank.termination().reason == "RankKilled"

    asked = run_until(attempt(base, 3, processes=2), output, at_random(generator))
    asked.signal(signal.SIGTERM)
    assert asked.wait() == ExitCode.STOPPED_SAVED
    saved = asked.termination()
    assert saved.last_checkpoint is not None
    assert saved.last_checkpoint.step == saved.step
    assert saved.steps_lost == 0

    kill(run_until(attempt(base, 4, processes=2), output, at_random(generator)))
    kill(run_until(attempt(base, 5, processes=2), output, writing_checkpoint))
    kill(run_until(attempt(base, 6, processes=2), output, last_step_made))
    assert launch(attempt(base, 7, processes=2), output).wait() == ExitCode.OK
    assert_same_run(JobFolder.of(base), whole)
