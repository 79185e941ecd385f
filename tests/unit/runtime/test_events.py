"""What users are told fits what the API server takes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from finetune_operator.domain.actions import EmitEvent, EventType
from finetune_operator.runtime.events import event_body
from finetune_trainer.contract import JobIdentity

JOB = JobIdentity(namespace="team", name="tune", uid="u")
NOTES = {
    "short": ("all ranks started", "all ranks started"),
    "as long as may be": ("a" * 1024, "a" * 1024),
    "one byte too long": ("a" * 1025, "a" * 1021 + "…"),
    "short in characters, long in bytes": ("ü" * 600, "ü" * 510 + "…"),
}


@pytest.mark.parametrize(("said", "note"), NOTES.values(), ids=NOTES)
def test_a_note_has_at_most_1024_bytes(said: str, note: str) -> None:
    event = EmitEvent(EventType.WARNING, "Reason", said)
    body = event_body(JOB, event, instance="test", now=datetime(2026, 1, 1, tzinfo=UTC))
    assert body["note"] == note
    assert len(note.encode()) <= 1024
