"""The probe fails for what only a restart cures."""

from __future__ import annotations

from finetune_operator.runtime.health import Watchdog
from tests.virtual_time import VirtualTime


def test_the_probe_fails_while_a_reconcile_hangs() -> None:
    time = VirtualTime()
    running = [0.0]
    watchdog = Watchdog(longest_running=lambda: running[0], clock=time.time)
    for seconds, healthy in ((119.0, True), (121.0, False), (0.0, True)):
        running[0] = seconds
        assert (watchdog.complaint() is None) is healthy


def test_the_probe_fails_while_the_event_loop_is_late() -> None:
    time = VirtualTime()
    watchdog = Watchdog(longest_running=lambda: 0.0, clock=time.time)
    for pause, healthy in ((1.0, True), (5.5, True), (6.5, False), (1.0, True)):
        time.advance(pause)
        watchdog.beat()
        assert (watchdog.complaint() is None) is healthy
    time.advance(7)  # no beat at all
    assert watchdog.complaint() is not None
