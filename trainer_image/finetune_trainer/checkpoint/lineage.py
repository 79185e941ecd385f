"""Which checkpoints exist for a reader: the fence against writers that should be dead.

A pod on an unreachable node may go on writing after its replacement started; no check before a
rename can exclude that. So nothing is excluded: each execution registers the checkpoint it started
from, and a reader accepts the folders of the newest execution and, of each ancestor, those up to
the step its child started from. Whatever a superseded writer adds later has no child beyond it and
is never seen. "Newest" goes by number, attempt first, so that clocks do not matter.

Everything here is a pure function of names and numbers.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Self

NAME: Final = re.compile(r"step-(\d{8,})\.a([1-9]\d*)\.e([1-9]\d*)")

Key = tuple[int, int]  # (attempt, execution)


@dataclass(frozen=True, slots=True, order=True)
class CheckpointName:
    """`step-00000120.a<attempt>.e<execution>`, ordered by step, then writer."""

    step: int
    attempt: int
    execution: int

    @classmethod
    def parse(cls, folder: str) -> Self | None:
        """The parts of a folder's name, or None when it is not a checkpoint's."""
        match = NAME.fullmatch(folder)
        return None if match is None else cls(*(int(part) for part in match.groups()))

    @property
    def writer(self) -> Key:
        """The execution that wrote it."""
        return (self.attempt, self.execution)

    def __str__(self) -> str:
        return f"step-{self.step:08d}.a{self.attempt}.e{self.execution}"


@dataclass(frozen=True, slots=True)
class Execution:
    """One start of the trainer; `parent` is the checkpoint it began from, None for step 0."""

    attempt: int
    number: int
    parent: CheckpointName | None

    @property
    def key(self) -> Key:
        """Orders executions: a later attempt wins, then a later execution."""
        return (self.attempt, self.number)


@dataclass(frozen=True, slots=True)
class Segment:
    """The steps of one execution that belong to the run: first < step <= last (None: open end)."""

    writer: Key
    first: int
    last: int | None

    def holds(self, step: int) -> bool:
        """Whether this execution's work at `step` counts."""
        return self.first < step and (self.last is None or step <= self.last)


def newest(executions: Iterable[Execution]) -> Execution | None:
    """The execution whose checkpoints and log are the run's."""
    return max(executions, key=lambda execution: execution.key, default=None)


def segments(executions: Iterable[Execution]) -> tuple[Segment, ...]:
    """The run as the newest execution sees it, oldest work first.

    An ancestor that is not registered ends the chain: its folders cannot be trusted.
    """
    known = {execution.key: execution for execution in executions}
    current = newest(known.values())
    found: list[Segment] = []
    last: int | None = None
    while current is not None:
        first = 0 if current.parent is None else current.parent.step
        found.append(Segment(current.key, first, last))
        if current.parent is None or current.parent.writer >= current.key:
            break
        last = current.parent.step if last is None else min(last, current.parent.step)
        current = known.get(current.parent.writer)
    return tuple(reversed(found))


def visible(
    executions: Iterable[Execution], folders: Iterable[CheckpointName]
) -> list[CheckpointName]:
    """The checkpoints a reader may use, newest first."""
    owners = {segment.writer: segment for segment in segments(executions)}
    return sorted(
        (
            folder
            for folder in folders
            if folder.writer in owners and owners[folder.writer].holds(folder.step)
        ),
        reverse=True,
    )
