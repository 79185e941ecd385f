"""The main module of a rank: `python -m finetune_trainer.training.rank`, started by the launcher.

Signals come before the imports that take seconds. Whatever happens is left as a small file for the
launcher, which turns it into the pod's exit code.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from pathlib import Path

from finetune_trainer.contract import RUN_CONFIG_VARIABLE, ExitCode, RunConfig
from finetune_trainer.failures import classify
from finetune_trainer.training.reports import (
    PARENT_VARIABLE,
    SCRATCH_VARIABLE,
    Ending,
    Scratch,
)
from finetune_trainer.training.signals import StopRequest, die_with_parent


def main() -> int:
    """Run one rank to its end; returns an exit code of design section 6."""
    stop = StopRequest()
    stop.install()
    die_with_parent(int(os.environ[PARENT_VARIABLE]))
    scratch = Scratch(Path(os.environ[SCRATCH_VARIABLE]))
    rank = int(os.environ["RANK"])
    logging.basicConfig(
        level=logging.INFO, format=f"%(asctime)s rank {rank} %(message)s", stream=sys.stderr
    )
    try:
        code = _train(RunConfig.from_json(os.environ[RUN_CONFIG_VARIABLE]), stop, scratch=scratch)
    except BaseException as error:  # the process ends here: everything must become a code
        logging.getLogger(__name__).exception("rank %d failed", rank)
        ending = Ending.of(classify(error))
    else:
        ending = Ending(code=code, reason=reason_for(code), message="", time=time.time())
    scratch.write_ending(rank, ending)
    return ending.code


def _train(config: RunConfig, stop: StopRequest, *, scratch: Scratch) -> ExitCode:
    from finetune_trainer.training.distributed import Ranks
    from finetune_trainer.training.loop import Run

    if stop.requested:
        return ExitCode.STOPPED_NOTHING_NEW
    precision = config.plan.precision if config.plan else "BF16"
    ranks = Ranks(config.topology, precision=precision)
    return Run(config, ranks=ranks, stop=stop, scratch=scratch).run()


def reason_for(code: ExitCode) -> str:
    """The reason of an ending that is no failure."""
    return {
        ExitCode.OK: "Completed",
        ExitCode.STOPPED_SAVED: "StoppedSaved",
        ExitCode.STOPPED_NOTHING_NEW: "StoppedNothingNew",
    }[code]


if __name__ == "__main__":
    exit_code = main()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(exit_code)  # destructors of a broken process group may wait for ever
