"""trainer_log.jsonl: every step of the run exactly once, whatever happened on the way.

Each execution appends to a file of its own and never to another's. The log that people read is
derived from these files along the lineage: of each ancestor the steps up to the checkpoint its
child started from. It is replaced by renaming, so a superseded execution goes on appending to a
file that nobody sees.
"""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any, Final, TextIO

from finetune_trainer.checkpoint.layout import JobFolder, write_durably
from finetune_trainer.checkpoint.lineage import Execution, segments
from finetune_trainer.checkpoint.registry import read_executions, require_newest

EVALUATION: Final = "evaluation"  # marks a record that adds eval_loss to a step's line

Record = dict[str, Any]


class StepLog:
    """The log of the running execution; rank 0 only. Lines of design section 5, one per step."""

    def __init__(self, job: JobFolder, execution: Execution) -> None:
        self._job = job
        self._execution = execution
        path = job.execution_log(execution.attempt, execution.number)
        self._own = path.open("a", encoding="utf-8")
        self._shown = self._derive()

    def step(self, record: Record) -> None:
        """Append the line of a step. Not finite values are written as strings, "NaN"."""
        line = json.dumps({key: _plain(value) for key, value in record.items()}) + "\n"
        for stream in (self._own, self._shown):
            stream.write(line)
            stream.flush()

    def evaluation(self, step: int, eval_loss: float) -> None:
        """Add an evaluation to the line of `step`; step 0 has no line and shows in status only."""
        record = {EVALUATION: True, "step": step, "eval_loss": _plain(eval_loss)}
        self._own.write(json.dumps(record) + "\n")
        self.sync()
        self._show_anew()

    def sync(self) -> None:
        """Make the lines so far durable; a checkpoint must never be ahead of the log.

        A superseded execution that was frozen while it replaced the log may have replaced ours.
        """
        self._own.flush()
        os.fsync(self._own.fileno())
        if not self._job.log.exists() or not os.path.samestat(
            self._job.log.stat(), os.fstat(self._shown.fileno())
        ):
            self._show_anew()

    def _show_anew(self) -> None:
        self._shown.close()
        self._shown = self._derive()

    def _derive(self) -> TextIO:
        """The log as the newest execution sees it; raises Superseded when that is not this one."""
        require_newest(self._job, self._execution)
        text = "".join(json.dumps(record) + "\n" for record in read_run(self._job))
        write_durably(self._job.log, text)
        return self._job.log.open("a", encoding="utf-8")


def read_run(job: JobFolder) -> list[Record]:
    """The lines of the run as the newest execution continues it, by step."""
    lines: dict[int, Record] = {}
    evaluations: dict[int, Any] = {}
    for segment in segments(read_executions(job)):
        for record in _read(job.execution_log(*segment.writer)):
            step = int(record["step"])
            if EVALUATION in record and (segment.holds(step) or step == segment.first):
                evaluations[step] = record["eval_loss"]
            elif EVALUATION not in record and segment.holds(step):
                lines[step] = record
    for step in evaluations.keys() & lines.keys():
        lines[step]["eval_loss"] = evaluations[step]
    return [lines[step] for step in sorted(lines)]


def _read(path: Path) -> list[Record]:
    """The complete lines of a file; one that was cut off by a crash is not a line."""
    if not path.exists():
        return []
    records: list[Record] = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict) and "step" in record:
            records.append(record)
    return records


def _plain(value: Any) -> Any:
    """JSON has no NaN: floats that are not finite travel as strings."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    return value
