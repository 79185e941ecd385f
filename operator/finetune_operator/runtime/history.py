"""The jobs' metrics, read off each status that was really written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Protocol

from finetune_operator.domain.views import parse_time


class HistoryObserver(Protocol):
    """Where the jobs' metrics go."""

    def attempt_ended(self, outcome: str, reason: str, *, steps_lost: int) -> None:
        """An attempt got its final row."""

    def first_step(self, seconds: float) -> None:
        """A job did its first optimizer step, that long after it was created."""


class History:
    """Compares the status that was read with the one that replaced it."""

    def __init__(self, observer: HistoryObserver, *, now: Callable[[], datetime]) -> None:
        self._observer = observer
        self._now = now

    def status_changed(self, raw: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """The status of `raw`, as read, was replaced by `status`."""
        before = raw.get("status") or {}
        for row in ended_attempts(before, status):
            self._observer.attempt_ended(
                row["outcome"], row.get("reason", ""), steps_lost=row.get("stepsLost", 0)
            )
        created = parse_time(raw["metadata"]["creationTimestamp"])
        if created and _step(status) > 0 and _step(before) == 0:
            self._observer.first_step((self._now() - created).total_seconds())


def ended_attempts(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Rows of attempts that have ended in `after` and had not in `before`."""
    known = {row["number"] for row in before.get("attempts") or () if row["outcome"] != "Running"}
    return [
        row
        for row in after.get("attempts") or ()
        if row["outcome"] != "Running" and row["number"] not in known
    ]


def _step(status: Mapping[str, Any]) -> int:
    return int((status.get("progress") or {}).get("step") or 0)
