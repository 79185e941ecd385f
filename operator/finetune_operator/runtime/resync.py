"""The sweep: now and then look at every job, and notice when the watches missed something.

Watches can go silent (see Kopf's own issue tracker); a sweep bounds the harm to one interval. It
queues every job, and counts as a repair each change that no event told within a minute.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Final

from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import ApiError
from finetune_operator.kube.requests import FINETUNEJOBS
from finetune_operator.runtime.memory import Fleet
from finetune_operator.runtime.queue import Key, WorkQueue

PATIENCE_SECONDS: Final = 60.0  # how late an event may be

log = logging.getLogger(__name__)


class Resync:
    """Sweeps over the FineTuneJobs of the watched namespaces."""

    def __init__(
        self,
        kube: Kube,
        *,
        queue: WorkQueue,
        fleet: Fleet,
        namespaces: Sequence[str],
        count_repair: Callable[[], None],
    ) -> None:
        self._kube = kube
        self._queue = queue
        self._fleet = fleet
        self._namespaces: Sequence[str | None] = namespaces or (None,)
        self._count_repair = count_repair

    async def run(self, interval: float) -> None:
        """Sweep for ever, every `interval` seconds with 10 % jitter."""
        while True:
            await asyncio.sleep(interval * random.uniform(0.9, 1.1))
            try:
                unseen = await self.sweep()
            except ApiError as error:
                log.warning("the sweep failed: %s", error)
                continue
            await asyncio.sleep(min(PATIENCE_SECONDS, interval))
            self.repair(unseen)

    async def sweep(self) -> dict[Key, str]:
        """Queue every job; returns those at a resourceVersion that nothing has told us of."""
        versions = {
            Key(item["metadata"]["namespace"], item["metadata"]["name"]): str(
                item["metadata"]["resourceVersion"]
            )
            for namespace in self._namespaces
            for item in await self._kube.list(FINETUNEJOBS, namespace)
        }
        unseen = {key: v for key, v in versions.items() if self._fleet.seen(key) != v}
        vanished = set(self._fleet.keys()) - set(versions)
        for key in sorted(set(versions) - set(unseen) | vanished):
            self._queue.add(key)
        return unseen

    def repair(self, unseen: dict[Key, str]) -> None:
        """Queue the jobs that are still unseen although their events had time to come."""
        for key, version in sorted(unseen.items()):
            if older(self._fleet.seen(key), version):
                log.warning("%s changed and no event told", key)
                self._count_repair()
                self._queue.add(key)


def older(seen: str, version: str) -> bool:
    """Whether `seen` is an older resourceVersion; they are numbers that grow in etcd's order."""
    return not seen or int(seen) < int(version)
