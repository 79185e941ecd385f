"""Executions on the volume: numbered, with the checkpoint each one started from.

A line is appended and flushed before an execution trains its first step; from then on the folders
it writes are the run's, and those of any execution before it end where it started.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from finetune_trainer.checkpoint.layout import JobFolder, sync
from finetune_trainer.checkpoint.lineage import CheckpointName, Execution, newest
from finetune_trainer.contract import ExitCode
from finetune_trainer.errors import TrainerError


def read_executions(job: JobFolder) -> list[Execution]:
    """Every registered execution of every attempt; a line cut off by a crash never registered."""
    found: list[Execution] = []
    for path in sorted(job.attempts.glob("*/executions.jsonl")):
        if path.parent.name.isdecimal():
            attempt = int(path.parent.name)
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            found.extend(filter(None, (_parse(line, attempt) for line in lines)))
    return found


def register(job: JobFolder, attempt: int, *, parent: CheckpointName | None) -> Execution:
    """Claim the next number of `attempt`, append its execution, durably, and return it."""
    numbers = [entry.number for entry in read_executions(job) if entry.attempt == attempt]
    number = claim(job, attempt, above=max(numbers, default=0))
    execution = Execution(attempt, number, parent)
    append(job, execution)
    return execution


def claim(job: JobFolder, attempt: int, *, above: int) -> int:
    """The first number greater than `above` that nobody has; from now on it is the caller's.

    Two starts of one attempt may have read the same lines, one of them frozen since. The log file
    of an execution can be created only once, so they never share a number, nor a file.
    """
    job.attempt(attempt).mkdir(parents=True, exist_ok=True)
    number = above + 1
    while not _create(job.execution_log(attempt, number)):
        number += 1
    sync(job.attempt(attempt))
    return number


def append(job: JobFolder, execution: Execution) -> None:
    """Write the line that makes an execution the run's, durably."""
    path = job.executions(execution.attempt)
    parent = str(execution.parent) if execution.parent else None
    record = {"execution": execution.number, "parent": parent}
    torn = path.exists() and not path.read_bytes().endswith(b"\n") and path.stat().st_size > 0
    with path.open("a", encoding="utf-8") as stream:
        stream.write(("\n" if torn else "") + json.dumps(record) + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    for folder in (path.parent, job.attempts, job.root):
        sync(folder)


def require_newest(job: JobFolder, execution: Execution) -> None:
    """Raise TrainerError (20, Superseded) when a newer execution is registered."""
    current = newest(read_executions(job))
    if current is None or current.key != execution.key:
        raise TrainerError(
            ExitCode.INFRASTRUCTURE,
            "Superseded",
            f"attempt {execution.attempt}, execution {execution.number} was replaced"
            f" by {'nobody' if current is None else current.key}; it stops writing",
        )


def list_checkpoints(job: JobFolder) -> list[CheckpointName]:
    """Every folder that is named like a checkpoint, believed or not."""
    if not job.checkpoints.is_dir():
        return []
    names = (CheckpointName.parse(path.name) for path in job.checkpoints.iterdir())
    return [name for name in names if name is not None]


def _parse(line: str, attempt: int) -> Execution | None:
    try:
        record: dict[str, Any] = json.loads(line)
        parent = record["parent"]
        name = None if parent is None else CheckpointName.parse(parent)
        if parent is not None and name is None:
            return None
        return Execution(attempt, int(record["execution"]), name)
    except (ValueError, KeyError, TypeError):
        return None


def _create(path: Path) -> bool:
    """Create an empty file; False when it is there already."""
    try:
        path.open("x").close()
    except FileExistsError:
        return False
    return True
