"""Which checkpoints later steps have shown to be sound.

A diverging run looks fine for some steps after the damage is done, so a checkpoint is trusted only
when what followed was quiet: 20 later steps without a spike, a finite evaluation, or a good end.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from typing import Final

QUIET_STEPS: Final = 20
WINDOW: Final = 50  # losses that say what is usual
FEWEST: Final = 10  # losses below which nothing is unusual
DEVIATIONS: Final = 6.0
RELATIVE: Final = 0.5
MAD_TO_SIGMA: Final = 1.4826  # of a normal distribution


def is_spike(window: Sequence[float], loss: float) -> bool:
    """Whether `loss` stands out of the losses before it.

    Robust z-score above 6 (median and median absolute deviation) and at least half the median above
    it, so that a very smooth curve does not make every wobble a spike. Not finite is a spike.
    """
    if not math.isfinite(loss):
        return True
    if len(window) < FEWEST:
        return False
    median = statistics.median(window)
    deviation = MAD_TO_SIGMA * statistics.median(abs(value - median) for value in window)
    return loss - median > max(DEVIATIONS * deviation, RELATIVE * abs(median))


class Quiet:
    """Follows the losses of a run and tells since which step it has been quiet."""

    def __init__(self, losses: Iterable[float] = ()) -> None:
        self._window: list[float] = []
        self._step = 0
        self._last_spike = 0
        for loss in losses:
            self.observe(loss)

    def observe(self, loss: float) -> None:
        """Add the loss of the next step."""
        self._step += 1
        if is_spike(self._window, loss):
            self._last_spike = self._step
        self._window = [*self._window, loss][-WINDOW:]

    def vouches_for(self, step: int) -> bool:
        """Whether 20 steps after `step` have passed without a spike."""
        return self._step - max(step, self._last_spike) >= QUIET_STEPS
