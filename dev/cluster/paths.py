"""Where things lie in the checkout; the only module that knows its own place."""

from __future__ import annotations

from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".cache"
BINARIES = CACHE / "bin"
GO_MODULES = Path(__file__).resolve().parent / "go"
