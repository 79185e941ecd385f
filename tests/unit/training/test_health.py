"""A checkpoint is healthy after 20 quiet steps."""

from __future__ import annotations

import math

import pytest

from finetune_trainer.training.health import QUIET_STEPS, Quiet, is_spike

USUAL = [2.0, 2.1, 1.9, 2.05, 1.95] * 4

LOSSES = {
    "the usual": (USUAL, 2.1, False),
    "a little more than ever seen": (USUAL, 2.5, False),
    "twice the usual": (USUAL, 4.0, True),
    "less is never a spike": (USUAL, 0.1, False),
    "not a number": (USUAL, math.nan, True),
    "not a number, at the start": ([], math.nan, True),
    "high among too few": (USUAL[:9], 40.0, False),
    "a wobble on a very smooth curve": ([2.0] * 20, 2.9, False),
    "wide scatter makes the same rise usual": ([1.0, 3.0] * 10, 4.0, False),
}


@pytest.mark.parametrize(("window", "loss", "wanted"), LOSSES.values(), ids=LOSSES.keys())
def test_is_spike(window: list[float], loss: float, wanted: bool) -> None:
    assert is_spike(window, loss) is wanted


def test_twenty_quiet_steps_vouch_for_a_checkpoint() -> None:
    quiet = Quiet(USUAL)
    saved = len(USUAL)
    for _ in range(QUIET_STEPS):
        assert not quiet.vouches_for(saved)
        quiet.observe(2.0)
    assert quiet.vouches_for(saved)


def test_a_spike_starts_the_count_anew() -> None:
    quiet = Quiet([*USUAL, *[2.0] * 10, 30.0, *[2.0] * (QUIET_STEPS - 1)])
    assert not quiet.vouches_for(len(USUAL))
    quiet.observe(2.0)
    assert quiet.vouches_for(len(USUAL))


def test_a_resumed_run_continues_the_count() -> None:
    resumed = Quiet([*USUAL, *[2.0] * (QUIET_STEPS - 1)])
    resumed.observe(2.0)
    assert resumed.vouches_for(len(USUAL))
