"""PID 1 of every pod: `python -m finetune_trainer.launcher preflight|train`.

Starts the ranks of its node, waits for the other nodes first, passes SIGTERM on, serves rank 0's
status, and turns whatever happened into one exit code and one termination record. It does no work
of its own and imports no torch, so it answers within a second of the pod's start. It runs the same
way on a laptop: FINETUNE_RUN_CONFIG and plain folders are all it needs.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from finetune_trainer.checkpoint.layout import write_durably
from finetune_trainer.contract import ExitCode, Termination
from finetune_trainer.errors import TrainerError
from finetune_trainer.failures import classify
from finetune_trainer.pod import read_config, write_record
from finetune_trainer.training.cgroup import Cgroup
from finetune_trainer.training.node import Node, make_node, train
from finetune_trainer.training.outcome import RankExit, choose_cause, termination
from finetune_trainer.training.processes import Processes, block_signals
from finetune_trainer.training.reports import Ending, Scratch

PREFLIGHT_MODULE: Final = "finetune_trainer.preflight"

logger: Final = logging.getLogger("launcher")


def main(arguments: list[str] | None = None) -> int:
    """Entry point; returns an exit code of design section 6."""
    parser = argparse.ArgumentParser(prog="finetune_trainer.launcher", description=__doc__)
    parser.add_argument("mode", choices=["preflight", "train"])
    mode = parser.parse_args(arguments).mode
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s launcher %(message)s", stream=sys.stderr
    )
    block_signals()
    if mode == "preflight":
        return run_preflight(os.environ)
    record = run_training(os.environ)
    write_record(record, os.environ)
    return record.code


def run_training(environment: Mapping[str, str]) -> Termination:
    """Run this pod's ranks to their end; never raises."""
    with tempfile.TemporaryDirectory(prefix="finetune-") as folder:
        scratch = Scratch(Path(folder))
        try:
            config = read_config(environment)
            node = make_node(config, environment, scratch=scratch)
        except TrainerError as failure:
            return Termination(code=failure.code, reason=failure.reason, message=failure.message)
        try:
            ending = train(node)
        except Exception as error:  # PID 1 answers for everything
            logger.exception("the launcher failed")
            ending = Ending.of(classify(error))
        record = termination(config, ending, scratch.read_facts() if node.index == 0 else None)
        if node.index == 0:
            _leave_on_volume(node, record)
        return record


def run_preflight(environment: Mapping[str, str]) -> int:
    """Run preflight in a child, which leaves the record itself unless it is killed."""
    kills_before = Cgroup().oom_kills()
    processes = Processes(["-m", PREFLIGHT_MODULE], [{}])
    ended = processes.supervise(stop_seconds=0, peer_lost=lambda: False)
    if not ended.returncodes:
        record = Termination(code=ExitCode.STOPPED_NOTHING_NEW, reason="StoppedNothingNew")
    elif ended.returncodes[0] in set(ExitCode):
        return ended.returncodes[0]
    else:
        cause = choose_cause(
            [RankExit(0, ended.returncodes[0], None)],
            out_of_memory=Cgroup().oom_kills() > kills_before,
            time=time.time(),
        )
        record = Termination(code=cause.code, reason=cause.reason, message=cause.message)
    write_record(record, environment)
    return record.code


def _leave_on_volume(node: Node, record: Termination) -> None:
    try:
        write_durably(node.job.termination(node.config.attempt), record.to_json(indent=2) + "\n")
    except OSError as error:  # the volume may be what failed; the pod's own record has it all
        logger.warning("termination.json was not written: %s", error)


if __name__ == "__main__":
    sys.exit(main())
