"""From the ends of a node's ranks to one exit code and one termination record. Pure."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetune_trainer.contract import ExitCode, RunConfig, Termination
from finetune_trainer.training.reports import Ending, Facts

# What explains an attempt best comes first: a peer that was lost is never the cause when another
# rank says why it ended.
PRECEDENCE: Final = (
    ExitCode.BAD_CONFIG,
    ExitCode.DATA_UNREADABLE,
    ExitCode.NOTHING_TO_LEARN,
    ExitCode.TOKENIZER,
    ExitCode.MODEL,
    ExitCode.NO_CHECKPOINT_VERIFIES,
    ExitCode.FOREIGN_CHECKPOINT,
    ExitCode.GPU_OUT_OF_MEMORY,
    ExitCode.HOST_OUT_OF_MEMORY,
    ExitCode.DISK_FULL,
    ExitCode.NOT_FINITE,
    ExitCode.DIVERGED,
    ExitCode.GPU_FAULT,
    ExitCode.HANG,
    ExitCode.INFRASTRUCTURE,
    ExitCode.PEER_LOST,
    ExitCode.STOPPED_SAVED,
    ExitCode.STOPPED_NOTHING_NEW,
    ExitCode.OK,
)


@dataclass(frozen=True, slots=True)
class RankExit:
    """How one rank's process ended; returncode as subprocess gives it, negative for a signal."""

    rank: int
    returncode: int
    ending: Ending | None  # what it said itself


def node_ending(
    exits: Sequence[RankExit],
    facts: Facts | None,
    *,
    stop_requested: bool,
    out_of_memory: bool,
    time: float,
) -> Ending:
    """How a node ended whose ranks are gone; exits = those of ranks that it did not kill itself.

    A node that was asked to stop did not fail for the lack of a peer: all nodes are asked at about
    the same time, and the one that stops first closes its connections to the others.
    """
    cause = choose_cause(exits, out_of_memory=out_of_memory, time=time) if exits else None
    if cause is not None and not (stop_requested and cause.code == ExitCode.PEER_LOST):
        return cause
    if stop_requested:
        return stopped(facts, time=time)
    message = "another node is gone"
    return Ending(code=ExitCode.PEER_LOST, reason="PeerLost", message=message, time=time)


def choose_cause(exits: Sequence[RankExit], *, out_of_memory: bool, time: float) -> Ending:
    """The ending that explains the node's, of ranks that the launcher did not kill itself.

    out_of_memory = the container's oom_kill count rose. Among equals the earliest wins.
    """
    endings = [explain(end, out_of_memory=out_of_memory, time=time) for end in exits]
    return min(endings, key=lambda ending: (_place(ending.code), ending.time))


def explain(end: RankExit, *, out_of_memory: bool, time: float) -> Ending:
    """A rank's own words, else what its return code says."""
    if end.ending is not None and end.returncode >= 0:
        return end.ending
    if end.returncode == -signal.SIGKILL and out_of_memory:
        code, reason = ExitCode.HOST_OUT_OF_MEMORY, "HostOutOfMemory"
        message = f"rank {end.rank} was killed: the container ran out of memory"
    elif end.returncode < 0:
        code, reason = ExitCode.INFRASTRUCTURE, "RankKilled"
        message = f"rank {end.rank} was killed by {signal.Signals(-end.returncode).name}"
    else:
        code, reason = ExitCode.INFRASTRUCTURE, "RankEnded"
        message = f"rank {end.rank} ended with code {end.returncode} and gave no reason"
    return Ending(code=code, reason=reason, message=message, time=time)


def stopped(facts: Facts | None, *, time: float) -> Ending:
    """The ending of ranks that were asked to stop and could not say themselves what they saved."""
    saved = (
        facts is not None
        and facts.progress.last_checkpoint is not None
        and facts.progress.last_checkpoint.step > (facts.progress.resumed_from_step or 0)
    )
    code = ExitCode.STOPPED_SAVED if saved else ExitCode.STOPPED_NOTHING_NEW
    message = "asked to stop; the ranks lost a peer or the grace period ended before all had"
    return Ending(code=code, reason="StopCutShort", message=message, time=time)


def termination(config: RunConfig, ending: Ending, facts: Facts | None) -> Termination:
    """The record of a training attempt; facts are rank 0's, None on other nodes."""
    if facts is None:
        return Termination(
            code=ending.code,
            reason=ending.reason,
            message=ending.message,
            attempt=config.attempt,
        )
    progress = facts.progress
    kept = progress.last_checkpoint.step if progress.last_checkpoint else 0
    return Termination(
        code=ending.code,
        reason=ending.reason,
        message=ending.message,
        attempt=config.attempt,
        execution=progress.execution,
        step=progress.step,
        total_steps=progress.total_steps,
        last_checkpoint=progress.last_checkpoint,
        resumed_from_step=progress.resumed_from_step,
        steps_lost=None if ending.code == ExitCode.OK else max(0, progress.step - kept),
        loss=progress.loss,
        eval_loss=progress.eval_loss,
        eval_loss_before=facts.eval_loss_before,
        peak_gpu_gib=facts.peak_gpu_gib,
        predicted_gpu_gib=config.plan.predicted_peak_gib if config.plan else None,
        output=facts.output,
    )


def _place(code: int) -> int:
    known = [int(entry) for entry in PRECEDENCE]
    return known.index(code) if code in known else known.index(ExitCode.INFRASTRUCTURE)
