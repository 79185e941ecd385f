"""`make setup` can be cut short anywhere and run again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from dev import setup


def test_an_environment_cut_short_before_pip_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "run", lambda *command: None)  # nothing is installed
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.touch()
    assert setup.environment(tmp_path) == python
    subprocess.run([python, "-m", "pip", "--version"], check=True, capture_output=True)
