"""From watch events to keys in the queue; nothing is decided here and no event is trusted.

An event says only that a job should be looked at. The two exceptions are observations that nobody
can make later: how a pod ended, and that a change was our own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from finetune_operator.constants import LABEL_JOB
from finetune_operator.runtime.memory import Fleet, PodMemory
from finetune_operator.runtime.queue import Key, WorkQueue

Count = Callable[[str, str], None]  # resource, event type


class Intake:
    """Receives all watch events. `kind` is ADDED, MODIFIED, DELETED, or None from a list."""

    def __init__(self, queue: WorkQueue, *, fleet: Fleet, pods: PodMemory, count: Count) -> None:
        self._queue = queue
        self._fleet = fleet
        self._pods = pods
        self._count = count

    def finetunejob(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A FineTuneJob changed; the echo of our own status write is dropped."""
        self._count("finetunejobs", kind or "LISTED")
        metadata = body["metadata"]
        key = Key(metadata["namespace"], metadata["name"])
        version = metadata["resourceVersion"]
        if kind != "DELETED":
            if self._fleet.is_echo(key, version):
                return
            self._fleet.saw(key, version)
        self._queue.add(key)

    def job(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A Job of ours changed."""
        self._count("jobs", kind or "LISTED")
        self._queue_owner(body)

    def pod(self, kind: str | None, body: Mapping[str, Any]) -> None:
        """A pod of ours changed; how it ended is remembered."""
        self._count("pods", kind or "LISTED")
        self._pods.note(body)
        self._queue_owner(body)

    def _queue_owner(self, body: Mapping[str, Any]) -> None:
        metadata = body["metadata"]
        name = (metadata.get("labels") or {}).get(LABEL_JOB)
        if name:
            self._queue.add(Key(metadata["namespace"], name))
