"""Waiting on state with a deadline."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
_PAUSE = threading.Event()


def eventually(
    look: Callable[[], T | None],
    *,
    what: str,
    seconds: float = 60.0,
    state: Callable[[], object] = lambda: "",
) -> T:
    """Return the first true result of `look`; after `seconds` raise AssertionError with `state`."""
    deadline = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {seconds:g} s for {what}; {state()}")
        _PAUSE.wait(0.02)
