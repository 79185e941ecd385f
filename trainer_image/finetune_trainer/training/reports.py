"""What a rank tells its launcher: small files in a scratch folder, replaced atomically.

The launcher serves and writes what it finds there. So `/status` answers before the first import of
torch ends and while a step runs, and the last facts survive a rank that is killed.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import ValidationError

from finetune_trainer.contract import FloatString, LenientWire, OutputReference, Progress
from finetune_trainer.errors import TrainerError

SCRATCH_VARIABLE: Final = "FINETUNE_SCRATCH"
PARENT_VARIABLE: Final = "FINETUNE_LAUNCHER_PID"

Record = TypeVar("Record", bound=LenientWire)


class Facts(LenientWire):
    """What rank 0 knows; the launcher copies it into status and termination record."""

    progress: Progress
    eval_loss_before: FloatString | None = None
    peak_gpu_gib: FloatString | None = None
    output: OutputReference | None = None


class Ending(LenientWire):
    """How a rank ended: exit code, reason, message; time in seconds since the epoch."""

    code: int
    reason: str
    message: str
    time: float

    @classmethod
    def of(cls, failure: TrainerError) -> Ending:
        """The ending that a failure means, now."""
        return cls(
            code=int(failure.code),
            reason=failure.reason,
            message=failure.message,
            time=time.time(),
        )


@dataclass(frozen=True, slots=True)
class Scratch:
    """The folder between one launcher and its ranks."""

    folder: Path

    def write_facts(self, facts: Facts) -> None:
        """Replace what rank 0 knows."""
        self._write("facts.json", facts)

    def read_facts(self) -> Facts | None:
        """What rank 0 knew last, None before it started."""
        return _read(self.folder / "facts.json", Facts)

    def write_ending(self, rank: int, ending: Ending) -> None:
        """Leave the reason for which `rank` is about to exit."""
        self._write(f"ending-{rank}.json", ending)

    def read_ending(self, rank: int) -> Ending | None:
        """Why `rank` exited; None when it could not say."""
        return _read(self.folder / f"ending-{rank}.json", Ending)

    def _write(self, name: str, record: LenientWire) -> None:
        temporary = self.folder / f".{name}"
        temporary.write_text(record.to_json(), encoding="utf-8")
        temporary.rename(self.folder / name)


def _read(path: Path, kind: type[Record]) -> Record | None:
    try:
        return kind.from_json(path.read_bytes())
    except (FileNotFoundError, ValidationError):
        return None
