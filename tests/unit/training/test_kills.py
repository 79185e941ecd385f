"""A run that is killed and resumed has the same adapter, bit for bit, as one that is not.

Real launchers, real processes, real signals. The moments come from a seeded generator; only the
machine's own timing moves them.
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
from finetune_trainer.contract import ExitCode, RunConfig
from tests.forked_ranks import run_ranks
from tests.training_runs import (
    TOTAL_STEPS,
    Launched,
    Sources,
    adapter_bytes,
    attempt,
    launch,
    planned,
    ranks_of,
    steps_in_log,
)

pytestmark = pytest.mark.usefixtures("forked")

PRECISION = {1: "FP32", 2: "BF16"}  # by number of processes
Moment = Callable[[JobFolder], bool]


def uninterrupted(sources: Sources, folder: Path, *, processes: int) -> JobFolder:
    job = planned(sources.config(folder / "whole"), precision=PRECISION[processes])
    config = attempt(job, 1, processes=processes)
    assert run_ranks(config, folder / "scratch").codes == {ExitCode.OK}
    return JobFolder.of(config)


def after_step(step: int) -> Moment:
    return lambda job: steps_in_log(job) >= step


def writing_checkpoint(step: int) -> Moment:
    pattern = f"{TEMPORARY_PREFIX}step-{step:08d}*"
    return lambda job: any(job.checkpoints.glob(pattern)) if job.checkpoints.is_dir() else False


def at_random_after(step: int, generator: random.Random) -> Moment:
    """Some time within the next 80 ms, two steps of the tiny model."""
    polls = generator.randrange(40)
    seen = iter(range(polls))
    return lambda job: steps_in_log(job) >= step and next(seen, None) is None


def run_until(config: RunConfig, folder: Path, moment: Moment) -> Launched:
    running = launch(config, folder)
    assert running.wait_until(moment), running.record.read_text()
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
    assert [line["step"] for line in lines(job)] == list(range(1, TOTAL_STEPS + 1))
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
    base = planned(sources.config(tmp_path / "killed"), precision=PRECISION[1])
    job, output = JobFolder.of(base), tmp_path / "output"
    generator = random.Random(1)

    kill(run_until(attempt(base, 1), output, at_random_after(2, generator)))
    kill(run_until(attempt(base, 2), output, at_random_after(6, generator)))
    kill(run_until(attempt(base, 3), output, writing_checkpoint(8)))

    frozen = run_until(attempt(base, 4), output, after_step(9))
    late_writers = [frozen.process.pid, *ranks_of(frozen.process)]
    signal_all(late_writers, signal.SIGSTOP)
    replacement = launch(attempt(base, 5), output)
    assert replacement.wait_until(lambda job: job.executions(5).exists())
    signal_all(late_writers, signal.SIGCONT)
    assert frozen.wait() == ExitCode.INFRASTRUCTURE
    assert frozen.termination().reason == "Superseded"
    assert replacement.wait_until(at_random_after(13, generator))
    kill(replacement)

    kill(run_until(attempt(base, 6), output, after_step(TOTAL_STEPS)))
    last = launch(attempt(base, 7), output)
    assert last.wait() == ExitCode.OK
    assert_same_run(job, whole)
    assert last.termination().resumed_from_step in (16, TOTAL_STEPS)
    assert 4 not in {line["attempt"] for line in lines(job) if line["step"] > 8}


def test_two_processes_killed_five_times_and_asked_to_stop_once(
    sources: Sources, tmp_path: Path
) -> None:
    """Kills of a node and of one rank, SIGTERM, and a kill while a checkpoint is written."""
    whole = uninterrupted(sources, tmp_path, processes=2)
    base = planned(sources.config(tmp_path / "killed"), precision=PRECISION[2])
    output = tmp_path / "output"
    generator = random.Random(2)

    kill(run_until(attempt(base, 1, processes=2), output, after_step(generator.randint(5, 6))))

    one_rank = run_until(attempt(base, 2, processes=2), output, at_random_after(6, generator))
    os.kill(ranks_of(one_rank.process)[1], signal.SIGKILL)
    assert one_rank.wait() == ExitCode.INFRASTRUCTURE
    assert one_rank.termination().reason == "RankKilled"

    asked = run_until(attempt(base, 3, processes=2), output, after_step(9))
    asked.signal(signal.SIGTERM)
    assert asked.wait() == ExitCode.STOPPED_SAVED
    saved = asked.termination()
    assert saved.last_checkpoint is not None
    assert saved.last_checkpoint.step == saved.step
    assert saved.steps_lost == 0

    kill(run_until(attempt(base, 4, processes=2), output, at_random_after(12, generator)))
    kill(run_until(attempt(base, 5, processes=2), output, writing_checkpoint(16)))
    kill(run_until(attempt(base, 6, processes=2), output, after_step(TOTAL_STEPS)))
    assert launch(attempt(base, 7, processes=2), output).wait() == ExitCode.OK
    assert_same_run(JobFolder.of(base), whole)
