"""The operator's image has no torch: what crosses to it, and the planner, must not need one."""

from __future__ import annotations

import subprocess
import sys

import pytest

BLOCKED = """
import sys
class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"torch", "transformers", "datasets", "pyarrow", "peft"}:
            raise ImportError(f"{name} is blocked")
sys.meta_path.insert(0, Blocked())
"""


@pytest.mark.parametrize(
    "module",
    ["finetune_trainer.contract", "finetune_trainer.planning.plan", "finetune_trainer.cli"],
)
def test_module_imports_without_torch(module: str) -> None:
    code = f"{BLOCKED}\nimport {module}"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
