"""Rank 0's `/status`, pulled: how far a run is, without giving trainers any right in the API.

One small task per training run, so that a run that does not answer holds up nobody. All runs
together are looked at no more than 20 times a second, so many jobs are looked at less often each.
Silence is never taken for failure: the trainer's own launcher declares hangs. When an answer is
worth a status write is decided where everything is decided.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

import aiohttp
from pydantic import ValidationError

from finetune_operator.runtime.queue import Key
from finetune_trainer.contract import STATUS_PORT, Progress

LOOKS_PER_SECOND: Final = 20.0  # over all jobs
TIMEOUT_SECONDS: Final = 3.0
LONGEST_ANSWER_BYTES: Final = 64 * 1024

Result = Literal["ok", "unreachable", "invalid"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """A training run to follow: attempt `attempt` of job `uid`, rank 0 at `address`."""

    key: Key
    uid: str
    attempt: int
    address: str


@dataclass(slots=True)
class _Followed:
    run: Run
    task: asyncio.Task[None] | None = None
    newest: Progress | None = None


class ProgressBoard:
    """Follows runs and remembers the newest `Progress` of each.

    `first_heard` is called with the first answer of each attempt, `count` with every look's result.
    """

    def __init__(
        self,
        *,
        look_seconds: float,
        first_heard: Callable[[Key], None],
        count: Callable[[Result], None],
    ) -> None:
        self._look_seconds = look_seconds
        self._first_heard = first_heard
        self._count = count
        self._followed: dict[str, _Followed] = {}
        self._session: aiohttp.ClientSession | None = None

    def follow(self, run: Run) -> None:
        """Look at this run from now on; the same run again changes nothing."""
        known = self._followed.get(run.uid)
        if known is not None and known.run == run and known.task is not None:
            return
        followed = _Followed(run)
        if known is not None:
            self._stop(known)
            if known.run.attempt == run.attempt:  # rank 0 moved: what it said still counts
                followed.newest = known.newest
        followed.task = asyncio.create_task(self._look_for_ever(followed))
        self._followed[run.uid] = followed

    def rest(self, uid: str) -> None:
        """Stop looking at the job's run, keep what is known."""
        followed = self._followed.get(uid)
        if followed is not None:
            self._stop(followed)

    def forget(self, uid: str) -> None:
        """The job is finished."""
        self.rest(uid)
        self._followed.pop(uid, None)

    def forget_former(self, key: Key, *, uid: str) -> None:
        """Only `uid` has that name now, "" when no job has."""
        for former, followed in list(self._followed.items()):
            if former != uid and followed.run.key == key:
                self.forget(former)

    def newest(self, uid: str, attempt: int) -> Progress | None:
        """The last answer of that attempt, None when there was none."""
        followed = self._followed.get(uid)
        if followed is None or followed.run.attempt != attempt:
            return None
        return followed.newest

    async def close(self) -> None:
        """Stop everything."""
        for followed in self._followed.values():
            self._stop(followed)
        self._followed.clear()
        if self._session is not None:
            await self._session.close()

    def __len__(self) -> int:
        return len(self._followed)

    @staticmethod
    def _stop(followed: _Followed) -> None:
        if followed.task is not None:
            followed.task.cancel()
            followed.task = None

    async def _look_for_ever(self, followed: _Followed) -> None:
        while True:
            self._count(await self._look(followed))
            pause = max(self._look_seconds, len(self) / LOOKS_PER_SECOND)
            await asyncio.sleep(pause * random.uniform(0.9, 1.1))

    async def _look(self, followed: _Followed) -> Result:
        run = followed.run
        try:
            progress = parse_progress(await self._fetch(run.address), run)
            if progress is None:
                return "invalid"
            self._keep(followed, progress)
        except (aiohttp.ClientError, TimeoutError, OSError):
            return "unreachable"
        except Exception:  # a defect that one answer triggers must not end the looking
            log.exception("%s: the look at %s failed", run.key, run.address)
            return "invalid"
        return "ok"

    def _keep(self, followed: _Followed, progress: Progress) -> None:
        first = followed.newest is None
        followed.newest = progress
        if first:
            self._first_heard(followed.run.key)

    async def _fetch(self, address: str) -> bytes:
        if self._session is None:
            timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS)
            self._session = aiohttp.ClientSession(timeout=timeout, raise_for_status=True)
        host = f"[{address}]" if ":" in address else address
        url = f"http://{host}:{STATUS_PORT}/status"
        async with self._session.get(url, allow_redirects=False) as answer:
            return await read_bounded(answer.content)


async def read_bounded(stream: aiohttp.StreamReader) -> bytes:
    """The whole answer up to the limit: it comes in pieces, and one read returns what is there."""
    answer = bytearray()
    while len(answer) < LONGEST_ANSWER_BYTES and (piece := await stream.readany()):
        answer += piece
    return bytes(answer)


def parse_progress(answer: bytes, run: Run) -> Progress | None:
    """Read an answer; None when it is malformed or another run's (pod addresses are reused)."""
    try:
        progress = Progress.from_json(answer)
    except ValidationError:
        return None
    return progress if (progress.uid, progress.attempt) == (run.uid, run.attempt) else None
