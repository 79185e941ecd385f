"""What happens when, with seconds: printed as it goes and kept for the summary."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass(slots=True)
class Stages:
    """Named spans of wall-clock time, in the order in which they began."""

    seconds: dict[str, float] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str, title: str) -> Iterator[None]:
        """Time the body under `name`; a body that raises is timed too."""
        print(f"\n== {title}", flush=True)
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = round(time.monotonic() - began, 1)
            print(f"   {name}: {self.seconds[name]} s", flush=True)

    def total(self) -> float:
        """Seconds since this object was made."""
        return round(time.monotonic() - self._began, 1)
