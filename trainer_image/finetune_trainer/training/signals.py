"""SIGTERM in a rank: remembered, never acted upon in the handler.

The flag is agreed between ranks at the next step's reduction, so that all of them stop after the
same step. The launcher starts ranks with these signals blocked; they stay pending during the long
imports and are delivered when the handler is in place. Imports nothing that takes time.
"""

from __future__ import annotations

import ctypes
import os
import signal
from types import FrameType
from typing import Final

STOP_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
PR_SET_PDEATHSIG: Final = 1  # <linux/prctl.h>


class StopRequest:
    """Whether somebody asked this process to stop."""

    def __init__(self) -> None:
        self.requested = False

    def install(self) -> None:
        """Handle the stop signals from now on, those that are already pending first."""
        for number in STOP_SIGNALS:
            signal.signal(number, self._handle)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {*STOP_SIGNALS, signal.SIGCHLD})

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.requested = True


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends: a rank without its launcher must not write on."""
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the call above
        os.kill(os.getpid(), signal.SIGKILL)
