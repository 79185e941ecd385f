"""Ranks without a launcher, forked from a process that has imported torch once.

Importing torch, transformers, peft and trl takes ten seconds, a tiny run one: here only the first
run pays for it.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from finetune_trainer.checkpoint.layout import JobFolder
from finetune_trainer.contract import RUN_CONFIG_VARIABLE, RunConfig
from finetune_trainer.training.reports import (
    PARENT_VARIABLE,
    SCRATCH_VARIABLE,
    Ending,
    Facts,
    Scratch,
)
from tests.training_runs import DEADLINE_SECONDS, free_port

CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the ranks of one execution ended, and what rank 0 knew."""

    job: JobFolder
    endings: list[Ending]
    facts: Facts | None

    @property
    def codes(self) -> set[int]:
        return {ending.code for ending in self.endings}


def prepare(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the process that all ranks are forked from finds in its environment."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    CONTEXT.set_forkserver_preload(["finetune_trainer.training.loop"])


def run_ranks(
    config: RunConfig, scratch: Path, *, claimed_world: int | None = None, stop: bool = False
) -> Outcome:
    """Run every rank of `config.topology`.

    claimed_world = the WORLD_SIZE they are told; stop = each has a SIGTERM pending from the start.
    """
    scratch.mkdir(parents=True)
    world = config.topology.world_size
    environment = {
        RUN_CONFIG_VARIABLE: config.to_json(),
        SCRATCH_VARIABLE: str(scratch),
        "WORLD_SIZE": str(claimed_world or world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(free_port()),
    }
    processes = [
        CONTEXT.Process(
            target=_rank,
            args=({**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)}, stop),
        )
        for rank in range(world)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(DEADLINE_SECONDS)
        if process.is_alive():
            process.kill()
    reports = Scratch(scratch)
    endings = [reports.read_ending(rank) for rank in range(world)]
    assert all(ending is not None for ending in endings), "a rank ended without a word"
    return Outcome(
        JobFolder.of(config),
        [ending for ending in endings if ending is not None],
        reports.read_facts(),
    )


def _rank(environment: dict[str, str], stop: bool) -> None:
    from finetune_trainer.training.rank import main

    os.environ.update(environment)
    os.environ[PARENT_VARIABLE] = str(os.getppid())
    if stop:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        os.kill(os.getpid(), signal.SIGTERM)
    os._exit(main())
