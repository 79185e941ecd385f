"""A keyed, de-duplicating work queue: any number of events about a job cost one reconcile.

The semantics are those of client-go's workqueue, for the same reasons. A key waits at most once; a
key that is being worked on is never handed to a second worker, but marked dirty and queued again
when the work is done, so no change is missed and no job is reconciled twice at a time. Failures
back off per key, so one sick job does not slow the others.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

FIRST_BACKOFF_SECONDS: Final = 0.005
LONGEST_BACKOFF_SECONDS: Final = 300.0


@dataclass(frozen=True, slots=True, order=True)
class Key:
    """A FineTuneJob by name: what the queue holds."""

    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.name}"


class Timer(Protocol):
    """A call that is scheduled and can be taken back."""

    def cancel(self) -> None:
        """Do not call."""


class Time(Protocol):
    """The part of an event loop that the queue needs; tests turn its hands themselves."""

    def time(self) -> float:
        """Monotonic seconds."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Timer:
        """Call once, `delay` seconds from now."""


class QueueObserver(Protocol):
    """Where the queue's metrics go. All times in seconds."""

    def added(self, depth: int) -> None:
        """A key was queued; `depth` keys wait now."""

    def started(self, depth: int, waited: float) -> None:
        """A key that had waited that long was handed out; `depth` keys wait now."""

    def finished(self, worked: float) -> None:
        """The work on a key took that long."""

    def retried(self) -> None:
        """A key failed and was scheduled again."""


class WorkQueue:
    """First in, first out over keys; single event loop, no locks."""

    def __init__(self, *, time: Time, observer: QueueObserver) -> None:
        self._time = time
        self._observer = observer
        self._waiting: deque[Key] = deque()
        self._dirty: dict[Key, float] = {}  # key -> when it was added
        self._processing: dict[Key, float] = {}  # key -> when it was handed out
        self._delayed: dict[Key, tuple[float, Timer]] = {}  # key -> when due, timer
        self._failures: dict[Key, int] = {}
        self._takers: deque[asyncio.Future[None]] = deque()
        self._closed = False

    def add(self, key: Key) -> None:
        """Queue the key unless it waits already."""
        if self._closed or key in self._dirty:
            return
        self._dirty[key] = self._time.time()
        if key not in self._processing:
            self._push(key)

    def add_after(self, key: Key, delay: float) -> None:
        """Queue the key in `delay` seconds; of several delays of a key the earliest holds."""
        if delay <= 0:
            self.add(key)
            return
        due = self._time.time() + delay
        pending = self._delayed.get(key)
        if self._closed or (pending is not None and pending[0] <= due):
            return
        if pending is not None:
            pending[1].cancel()
        self._delayed[key] = (due, self._time.call_later(delay, lambda: self._ripen(key)))

    def add_rate_limited(self, key: Key, *, least: float = 0.0) -> None:
        """Queue the key after its backoff (5 ms x 2^failures, up to 5 min), or `least` seconds."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self._observer.retried()
        self.add_after(key, max(least, backoff(failures)))

    def forget(self, key: Key) -> None:
        """The key succeeded: its next failure starts the backoff anew."""
        self._failures.pop(key, None)

    async def get(self) -> Key | None:
        """Hand out the next key, None once the queue is closed. Call `done` when worked on."""
        while not self._waiting:
            if self._closed:
                return None
            taker: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._takers.append(taker)
            try:
                await taker
            except asyncio.CancelledError:
                if taker.done() and not taker.cancelled():
                    self._wake_one()  # the wake-up was for us: pass it on
                raise
        if self._closed:
            return None
        key = self._waiting.popleft()
        now = self._time.time()
        self._processing[key] = now
        self._observer.started(len(self._waiting), now - self._dirty.pop(key))
        return key

    def done(self, key: Key) -> None:
        """The work on a handed-out key ended; queue it again if it became dirty meanwhile."""
        self._observer.finished(self._time.time() - self._processing.pop(key))
        if key in self._dirty and not self._closed:
            self._push(key)

    def close(self) -> None:
        """Hand out nothing more and wake all takers; work in progress goes on."""
        self._closed = True
        for _, timer in self._delayed.values():
            timer.cancel()
        self._delayed.clear()
        while self._takers:
            self._wake_one()

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def unfinished_seconds(self) -> float:
        """Sum of the ages of the works in progress."""
        now = self._time.time()
        return sum(now - started for started in self._processing.values())

    @property
    def longest_running_seconds(self) -> float:
        """Age of the oldest work in progress, 0 when there is none."""
        now = self._time.time()
        return max((now - started for started in self._processing.values()), default=0.0)

    def _push(self, key: Key) -> None:
        self._waiting.append(key)
        self._observer.added(len(self._waiting))
        self._wake_one()

    def _ripen(self, key: Key) -> None:
        self._delayed.pop(key, None)
        self.add(key)

    def _wake_one(self) -> None:
        while self._takers:
            taker = self._takers.popleft()
            if not taker.done():
                taker.set_result(None)
                return


def backoff(failures: int) -> float:
    """Seconds before the next try after that many failures in a row."""
    return min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** min(failures, 30))
