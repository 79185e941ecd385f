"""The live view: what it knows, from status and from rank 0, and nothing that it does not."""

from __future__ import annotations

from typing import Any

import pytest

from dev.demo.live import view_of

RUNNING = {
    "phase": "Running",
    "currentAttempt": {"number": 2},
    "progress": {"step": 12, "totalSteps": 36, "loss": "2.5"},
    "lastCheckpoint": {"step": 6},
}
LINES: dict[str, tuple[dict[str, Any], dict[str, Any] | None, str]] = {
    "a new job is pending": ({}, None, "Pending   "),
    "status alone": (RUNNING, None, "Running     attempt 2  step 12/36  loss 2.500  checkpoint 6"),
    "rank 0 knows newer": (
        RUNNING,
        {"step": 14, "totalSteps": 36, "loss": "2.25", "estimatedRemainingSeconds": 65},
        "Running     attempt 2  step 14/36  loss 2.250  ETA 1:05  checkpoint 6",
    ),
    "rank 0 that has made no step yet knows nothing newer": (
        RUNNING,
        {"step": 0, "totalSteps": 36},
        "Running     attempt 2  step 12/36  loss 2.500  checkpoint 6",
    ),
    "a loss that is not finite is shown": (
        {**RUNNING, "progress": {"step": 1, "totalSteps": 2, "loss": "NaN"}},
        None,
        "Running     attempt 2  step 1/2  loss nan  checkpoint 6",
    ),
}


@pytest.mark.parametrize("sentence", LINES)
def test_line(sentence: str) -> None:
    status, fresh, line = LINES[sentence]
    assert view_of({"status": status}, fresh).line() == line
