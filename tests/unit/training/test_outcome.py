"""How a node's exit code comes from its ranks' ends."""

from __future__ import annotations

import errno
import signal
from pathlib import Path

import pytest
import torch

from finetune_trainer.contract import (
    CheckpointReference,
    ExitCode,
    Progress,
)
from finetune_trainer.errors import TrainerError
from finetune_trainer.failures import classify
from finetune_trainer.training.optimizer import save_state
from finetune_trainer.training.outcome import RankExit, choose_cause, node_ending
from finetune_trainer.training.reports import Ending, Facts


def said(rank: int, code: ExitCode, *, time: float = 1.0) -> RankExit:
    return RankExit(rank, code, Ending(code=code, reason=code.name, message="", time=time))


def killed(rank: int, number: signal.Signals = signal.SIGKILL) -> RankExit:
    return RankExit(rank, -number, None)


CAUSES = {
    "all done": ([said(0, ExitCode.OK), said(1, ExitCode.OK)], False, ExitCode.OK),
    "all stopped": ([said(0, ExitCode.STOPPED_SAVED)] * 2, False, ExitCode.STOPPED_SAVED),
    "a lost peer is not the cause when a rank says more": (
        [said(0, ExitCode.PEER_LOST), said(1, ExitCode.DISK_FULL, time=2.0)],
        False,
        ExitCode.DISK_FULL,
    ),
    "a killed rank explains its lost peers": (
        [said(0, ExitCode.PEER_LOST), killed(1)],
        False,
        ExitCode.INFRASTRUCTURE,
    ),
    "killed while the container ran out of memory": (
        [said(0, ExitCode.PEER_LOST), killed(1)],
        True,
        ExitCode.HOST_OUT_OF_MEMORY,
    ),
    "a crash is no lack of memory": (
        [killed(0, signal.SIGSEGV)],
        True,
        ExitCode.INFRASTRUCTURE,
    ),
    "an unknown code is infrastructure": ([RankExit(0, 1, None)], False, ExitCode.INFRASTRUCTURE),
    "numerics before infrastructure": (
        [said(0, ExitCode.INFRASTRUCTURE), said(1, ExitCode.NOT_FINITE)],
        False,
        ExitCode.NOT_FINITE,
    ),
}


@pytest.mark.parametrize(("exits", "out_of_memory", "wanted"), CAUSES.values(), ids=CAUSES.keys())
def test_cause(exits: list[RankExit], out_of_memory: bool, wanted: ExitCode) -> None:
    assert choose_cause(exits, out_of_memory=out_of_memory, time=9.0).code == wanted


ERRORS = {
    "a full disk": (OSError(errno.ENOSPC, "No space left on device"), ExitCode.DISK_FULL),
    "a full quota": (OSError(errno.EDQUOT, "Disk quota exceeded"), ExitCode.DISK_FULL),
    "a full disk, as safetensors and tokenizers say it": (
        Exception("I/O error: No space left on device (os error 28)"),
        ExitCode.DISK_FULL,
    ),
    "a volume that fails": (OSError(errno.EIO, "Input/output error"), ExitCode.INFRASTRUCTURE),
    "host memory": (MemoryError(), ExitCode.HOST_OUT_OF_MEMORY),
    "host memory, as torch says it": (
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"),
        ExitCode.HOST_OUT_OF_MEMORY,
    ),
    "GPU memory": (torch.OutOfMemoryError("CUDA out of memory."), ExitCode.GPU_OUT_OF_MEMORY),
    "a GPU that fails": (
        RuntimeError("CUDA error: unspecified launch failure"),
        ExitCode.GPU_FAULT,
    ),
    "a known failure": (TrainerError(ExitCode.MODEL, "R", "m"), ExitCode.MODEL),
    "anything else": (KeyError("x"), ExitCode.INFRASTRUCTURE),
}


@pytest.mark.parametrize(("error", "wanted"), ERRORS.values(), ids=ERRORS.keys())
def test_error(error: Exception, wanted: ExitCode) -> None:
    assert classify(error).code == wanted


def test_a_state_that_does_not_fit_the_volume_is_a_full_disk() -> None:
    with pytest.raises((OSError, RuntimeError)) as refused:
        save_state({"moments": torch.zeros(100_000)}, Path("/dev/full"))
    failure = classify(refused.value)
    assert (failure.code, failure.reason) == (ExitCode.DISK_FULL, "DiskFull")
    assert "No space left on device" in failure.message


SAVED = {
    "nothing was saved": (None, None, ExitCode.STOPPED_NOTHING_NEW),
    "a first checkpoint was saved": (None, 4, ExitCode.STOPPED_SAVED),
    "the newest checkpoint is the one it resumed from": (4, 4, ExitCode.STOPPED_NOTHING_NEW),
    "a newer one was saved": (4, 8, ExitCode.STOPPED_SAVED),
}
SILENT = {
    "its ranks had to be killed": [],
    "its ranks lost a peer that stopped first": [said(0, ExitCode.PEER_LOST)] * 2,
    "one rank stopped and another lost its peer": [
        said(0, ExitCode.STOPPED_NOTHING_NEW),
        said(1, ExitCode.PEER_LOST),
    ],
}


def facts(resumed: int | None, saved: int | None) -> Facts:
    checkpoint = CheckpointReference(step=saved, path="p", digest="d") if saved else None
    return Facts(
        progress=Progress(uid="u", attempt=1, resumed_from_step=resumed, last_checkpoint=checkpoint)
    )


def ended(exits: list[RankExit], known: Facts | None, *, stop_requested: bool) -> int:
    return node_ending(
        exits, known, stop_requested=stop_requested, out_of_memory=False, time=9.0
    ).code


@pytest.mark.parametrize("exits", SILENT.values(), ids=SILENT.keys())
@pytest.mark.parametrize(("resumed", "saved", "wanted"), SAVED.values(), ids=SAVED.keys())
def test_a_node_that_was_asked_to_stop_tells_whether_something_new_was_saved(
    exits: list[RankExit], resumed: int | None, saved: int | None, wanted: ExitCode
) -> None:
    assert ended(exits, facts(resumed, saved), stop_requested=True) == wanted


@pytest.mark.parametrize("exits", SILENT.values(), ids=SILENT.keys())
def test_a_node_that_was_not_asked_to_stop_lost_its_peer(exits: list[RankExit]) -> None:
    assert ended(exits, None, stop_requested=False) == ExitCode.PEER_LOST


def test_a_failure_stays_one_when_a_stop_was_asked_for() -> None:
    exits = [said(0, ExitCode.PEER_LOST), said(1, ExitCode.DISK_FULL)]
    assert ended(exits, None, stop_requested=True) == ExitCode.DISK_FULL
