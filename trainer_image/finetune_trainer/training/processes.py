"""The processes of one node: started, watched, stopped, reaped.

The launcher is PID 1, so it must also reap processes it does not know. Signals are blocked and
waited for, never handled: nothing can happen between looking and waiting.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from finetune_trainer.training.signals import STOP_SIGNALS

WATCHED: Final = {signal.SIGCHLD, *STOP_SIGNALS}
POLL_SECONDS: Final = 1.0
FAILURE_GRACE_SECONDS: Final = 5.0  # for the other ranks to say what they saw
PEER_GRACE_SECONDS: Final = 10.0  # for our ranks to end when another node has ended


def block_signals() -> None:
    """From now on signals wait for `next_signal`; call before any thread is started."""
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)


def next_signal(timeout: float) -> signal.Signals | None:
    """The next signal within `timeout` seconds.

    A process that was frozen and goes on gets an answer that is none of those it waits for.
    """
    found = signal.sigtimedwait(WATCHED, max(0.0, timeout))
    if found is None or found.si_signo not in WATCHED:
        return None
    return signal.Signals(found.si_signo)


@dataclass(frozen=True, slots=True)
class Ended:
    """All processes are gone. returncodes of those not killed by us, by local rank."""

    returncodes: dict[int, int]
    stop_requested: bool


class Processes:
    """The ranks of a node (or preflight's one child)."""

    def __init__(self, command: Sequence[str], environments: Sequence[Mapping[str, str]]) -> None:
        self._children = {
            local_rank: subprocess.Popen(
                [sys.executable, *command], env={**os.environ, **environment}
            )
            for local_rank, environment in enumerate(environments)
        }
        self._returncodes: dict[int, int] = {}
        self._killed: set[int] = set()
        self._kill_at: float | None = None
        self._stop_requested = False

    def supervise(self, *, stop_seconds: float, peer_lost: Callable[[], bool]) -> Ended:
        """Wait until every process is gone.

        A stop signal is passed on and followed by SIGKILL after `stop_seconds`. When one process
        fails or a peer node is gone, the others have seconds left.
        """
        lost = False
        while len(self._returncodes) < len(self._children):
            number = next_signal(self._wait_seconds())
            if number in STOP_SIGNALS and not self._stop_requested:
                self._stop_requested = True
                self._signal_all(signal.SIGTERM)
                self._kill_after(stop_seconds)
            self._reap()
            if any(code != 0 for code in self._returncodes.values()):
                self._kill_after(FAILURE_GRACE_SECONDS)
            if not lost and peer_lost():
                lost = True
                self._kill_after(PEER_GRACE_SECONDS)
            if self._kill_at is not None and time.monotonic() >= self._kill_at:
                self._kill_rest()
        spoken = {
            rank: code for rank, code in self._returncodes.items() if rank not in self._killed
        }
        return Ended(spoken, self._stop_requested)

    def _wait_seconds(self) -> float:
        if self._kill_at is None:
            return POLL_SECONDS
        return min(POLL_SECONDS, self._kill_at - time.monotonic())

    def _kill_after(self, seconds: float) -> None:
        at = time.monotonic() + seconds
        self._kill_at = at if self._kill_at is None else min(self._kill_at, at)

    def _kill_rest(self) -> None:
        self._killed |= self._children.keys() - self._returncodes.keys()
        self._signal_all(signal.SIGKILL)

    def _signal_all(self, number: signal.Signals) -> None:
        for rank, child in self._children.items():
            if rank not in self._returncodes:
                os.kill(child.pid, number)  # not yet reaped, so the number is still its own

    def _reap(self) -> None:
        """Collect every child that has ended, ours and those that PID 1 inherited."""
        ranks = {child.pid: rank for rank, child in self._children.items()}
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if pid in ranks:
                code = os.waitstatus_to_exitcode(status)
                self._returncodes[ranks[pid]] = code
                self._children[ranks[pid]].returncode = code  # Popen must not wait for it again
