"""A clock whose hands tests turn: no waiting, no dependence on the machine's speed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(eq=False)
class Alarm:
    due: float
    callback: Callable[[], None]
    cancelled: bool = False

    def cancel(self) -> None:
        self.cancelled = True


class VirtualTime:
    """Stands for an event loop's `time` and `call_later`, and for `asyncio.sleep`."""

    def __init__(self) -> None:
        self._now = 0.0
        self._alarms: list[Alarm] = []

    def time(self) -> float:
        return self._now

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Alarm:
        alarm = Alarm(self._now + delay, callback)
        self._alarms.append(alarm)
        return alarm

    def advance(self, seconds: float) -> None:
        """Turn the hands, ringing what is due on the way."""
        end = self._now + seconds
        while due := [a for a in self._alarms if not a.cancelled and a.due <= end]:
            alarm = min(due, key=lambda a: a.due)
            self._alarms.remove(alarm)
            self._now = max(self._now, alarm.due)
            alarm.callback()
        self._now = end

    async def sleep(self, seconds: float) -> None:
        """Return at once, later."""
        self.advance(seconds)
