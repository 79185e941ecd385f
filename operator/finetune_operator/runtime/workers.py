"""The workers that turn keys into reconciles, and what becomes of each result."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from finetune_operator.kube.errors import ApiError, Conflict
from finetune_operator.runtime.queue import Key, WorkQueue

GRACE_SECONDS: Final = 20.0  # for running reconciles when the process is asked to end

log = logging.getLogger(__name__)


class WorkerObserver(Protocol):
    """Where the reconciles' metrics go."""

    def reconcile_started(self) -> None:
        """A worker took a key."""

    def reconcile_done(self, result: str, seconds: float) -> None:
        """`result`: success, requeue, requeue_after, conflict or error."""


class Workers:
    """A fixed number of tasks over one queue."""

    def __init__(
        self,
        queue: WorkQueue,
        reconcile: Callable[[Key], Awaitable[float | None]],
        *,
        count: int,
        observer: WorkerObserver,
    ) -> None:
        self._queue = queue
        self._reconcile = reconcile
        self._observer = observer
        self._count = count
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Start working."""
        self._tasks = [
            asyncio.create_task(self._work(), name=f"worker {number}")
            for number in range(self._count)
        ]

    async def stop(self) -> None:
        """Take no more keys, let running reconciles finish, cancel them after the grace."""
        self._queue.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=GRACE_SECONDS)
            for task in late:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        while (key := await self._queue.get()) is not None:
            self._observer.reconcile_started()
            started = time.monotonic()
            result = "error"
            try:
                result = await self._work_on(key)
            finally:
                self._queue.done(key)
                self._observer.reconcile_done(result, time.monotonic() - started)

    async def _work_on(self, key: Key) -> str:
        """Reconcile and schedule the next look; returns the result's name."""
        try:
            pause = await self._reconcile(key)
        except Conflict:
            self._queue.add_rate_limited(key)  # somebody wrote in between: look again
            return "conflict"
        except ApiError as error:
            log.warning("%s: %s: %s", key, type(error).__name__, error)
            self._queue.add_rate_limited(key, least=error.retry_after or 0.0)
            return "error"
        except Exception:  # a defect that one job triggers must not stop the others
            log.exception("%s: the reconcile failed", key)
            self._queue.add_rate_limited(key)
            return "error"
        self._queue.forget(key)
        if pause is None:
            return "success"
        self._queue.add_after(key, pause)
        return "requeue_after" if pause > 0 else "requeue"
