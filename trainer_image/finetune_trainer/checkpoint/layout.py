"""Where a job's files lie on the volume, and how they are made durable.

One class names every path, so that writer, readers and tests cannot disagree. The three helpers
below it are the only places that call fsync: a file that must survive a crash is written with
`write_durably`, a folder that changed is passed to `sync`.
"""

from __future__ import annotations

import os
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from finetune_trainer.contract import RunConfig

CHECKPOINT_PREFIX: Final = "step-"
TEMPORARY_PREFIX: Final = ".tmp-"
HEALTH_SUFFIX: Final = ".HEALTH"


@dataclass(frozen=True, slots=True)
class JobFolder:
    """`<workspace>/<namespace>-<name>-<uid8>`: everything one job leaves behind."""

    root: Path

    @classmethod
    def of(cls, config: RunConfig) -> JobFolder:
        """The folder of the job that `config` describes."""
        return cls(Path(config.workspace) / config.job.folder)

    @property
    def checkpoints(self) -> Path:
        """Holds one folder per checkpoint, one HEALTH file beside each, and LATEST."""
        return self.root / "checkpoints"

    @property
    def latest(self) -> Path:
        """Text: the name of the newest verified checkpoint folder."""
        return self.checkpoints / "LATEST"

    @property
    def attempts(self) -> Path:
        """Holds one folder per attempt."""
        return self.root / "attempts"

    def attempt(self, number: int) -> Path:
        """config.json, executions.jsonl, log.e<m>.jsonl, termination.json of one attempt."""
        return self.attempts / str(number)

    def executions(self, attempt: int) -> Path:
        """One JSON line per execution of `attempt`: its number and parent checkpoint."""
        return self.attempt(attempt) / "executions.jsonl"

    def execution_log(self, attempt: int, execution: int) -> Path:
        """The steps and evaluations that one execution made."""
        return self.attempt(attempt) / f"log.e{execution}.jsonl"

    def termination(self, attempt: int) -> Path:
        """The termination record of one attempt."""
        return self.attempt(attempt) / "termination.json"

    @property
    def log(self) -> Path:
        """Every step of the run exactly once; derived from the execution logs."""
        return self.root / "trainer_log.jsonl"

    @property
    def samples(self) -> Path:
        """Greedy answers before and after training, one JSON line each."""
        return self.root / "samples.jsonl"

    @property
    def preflight(self) -> Path:
        """The whole PreflightReport."""
        return self.root / "preflight.json"

    def data(self, fingerprint: str) -> Path:
        """The tokenised examples."""
        return self.root / "data" / fingerprint

    def output(self, attempt: int, execution: int) -> Path:
        """The results of one execution."""
        return self.root / "output" / f"a{attempt}.e{execution}"


def sync(path: Path) -> None:
    """Flush a file's content or a folder's entries to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, text: str) -> None:
    """Replace `path` by `text`, atomically and durably; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name}-{uuid.uuid4().hex[:8]}")
    temporary.write_text(text, encoding="utf-8")
    sync(temporary)
    temporary.rename(path)
    sync(path.parent)


def sync_tree(folder: Path) -> None:
    """Flush every file and folder below `folder`, itself last."""
    for path in sorted(folder.rglob("*")):
        sync(path)
    sync(folder)
