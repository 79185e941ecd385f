"""Kubernetes Events on a FineTuneJob: what changed, in words, for `kubectl describe`.

An Event's name is a digest of what it says, so telling the same thing again after a crash finds the
first one. Events are best effort: the status holds everything that matters.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, Final

from finetune_operator.constants import API_VERSION, KIND
from finetune_operator.domain.actions import EmitEvent
from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import AlreadyExists, ApiError
from finetune_operator.kube.requests import EVENTS
from finetune_trainer.contract import JobIdentity

CONTROLLER: Final = "finetune-operator"
LONGEST_NOTE: Final = 1024  # bytes; the API server says "characters" and counts bytes

log = logging.getLogger(__name__)


class EventRecorder:
    """Writes Events in the name of this process."""

    def __init__(self, kube: Kube, *, instance: str, now: Callable[[], datetime]) -> None:
        self._kube = kube
        self._instance = instance
        self._now = now

    async def record(self, job: JobIdentity, events: Iterable[EmitEvent]) -> None:
        """Write the Events; one that cannot be written is logged and lost."""
        for event in events:
            body = event_body(job, event, instance=self._instance, now=self._now())
            try:
                with suppress(AlreadyExists):
                    await self._kube.create(EVENTS, body)
            except ApiError as error:
                log.warning("event %s of %s is lost: %s", event.reason, job.name, error)


def event_body(
    job: JobIdentity, event: EmitEvent, *, instance: str, now: datetime
) -> Mapping[str, Any]:
    """An events.k8s.io/v1 Event about the FineTuneJob. `now` is aware."""
    said = "\0".join((job.uid, event.type, event.reason, event.message))
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"namespace": job.namespace, "name": f"{job.name}.{digest}"},
        "eventTime": now.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "type": event.type.value,
        "reason": event.reason,
        "action": "Reconcile",
        "note": fitting(event.message),
        "reportingController": CONTROLLER,
        "reportingInstance": instance[:128],
        "regarding": {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "namespace": job.namespace,
            "name": job.name,
            "uid": job.uid,
        },
    }


def fitting(note: str) -> str:
    """The note cut to what the API server takes; a cut one ends with '…'."""
    encoded, ellipsis = note.encode(), "…"
    if len(encoded) <= LONGEST_NOTE:
        return note
    return encoded[: LONGEST_NOTE - len(ellipsis.encode())].decode(errors="ignore") + ellipsis
