"""Where the demo and the cluster tests find their input and leave their output."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".cache"
MODEL: Final = CACHE / "models" / "SmolLM2-135M-Instruct"
DATASET: Final = CACHE / "datasets" / "stdlib-qa"
EXAMPLE_JOB: Final = ROOT / "examples" / "finetunejob.yaml"
OUT: Final = ROOT / "out"
