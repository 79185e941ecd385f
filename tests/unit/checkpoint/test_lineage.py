"""Which folders a reader accepts: the sentences of the protocol as tables, and a model of it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.checkpoint.lineage import CheckpointName, Execution, segments, visible

FIRST = Execution(1, 1, None)


def name(step: int, attempt: int, execution: int = 1) -> CheckpointName:
    return CheckpointName(step, attempt, execution)


def child(attempt: int, parent: CheckpointName | None, number: int = 1) -> Execution:
    return Execution(attempt, number, parent)


CASES = {
    "without executions nothing is believed": ([], [name(10, 1)], []),
    "the newest execution's folders are, newest first": (
        [FIRST],
        [name(10, 1), name(20, 1)],
        [name(20, 1), name(10, 1)],
    ),
    "of an ancestor, those up to the step its child started from": (
        [FIRST, child(2, name(10, 1))],
        [name(5, 1), name(10, 1), name(20, 1)],
        [name(10, 1), name(5, 1)],
    ),
    "a late writer's folder is ignored, however many steps it is ahead": (
        [FIRST, child(2, name(10, 1))],
        [name(10, 1), name(12, 2), name(90, 1)],
        [name(12, 2), name(10, 1)],
    ),
    "a child's folder at its parent's step or before is nobody's": (
        [FIRST, child(2, name(10, 1))],
        [name(10, 1), name(10, 2), name(5, 2)],
        [name(10, 1)],
    ),
    "an attempt that saved nothing hides nothing": (
        [FIRST, child(2, name(10, 1)), child(3, name(10, 1))],
        [name(10, 1), name(15, 2)],
        [name(10, 1)],
    ),
    "a rollback discards what came after": (
        [FIRST, child(2, name(30, 1)), child(3, name(10, 1))],
        [name(10, 1), name(20, 1), name(30, 1), name(40, 2)],
        [name(10, 1)],
    ),
    "a start from step 0 discards everything": (
        [FIRST, child(2, None)],
        [name(10, 1), name(20, 1)],
        [],
    ),
    "executions of one attempt follow each other like attempts": (
        [FIRST, Execution(1, 2, name(10, 1))],
        [name(10, 1), name(20, 1), name(15, 1, 2)],
        [name(15, 1, 2), name(10, 1)],
    ),
    "newest goes by number, not by who registered last": (
        [child(2, name(10, 1)), Execution(1, 2, name(20, 1)), FIRST],
        [name(10, 1), name(20, 1), name(30, 1, 2)],
        [name(10, 1)],
    ),
    "an ancestor that is not registered is not trusted": (
        [child(2, name(10, 1))],
        [name(10, 1), name(12, 2)],
        [name(12, 2)],
    ),
}


@pytest.mark.parametrize(("executions", "folders", "wanted"), CASES.values(), ids=CASES.keys())
def test_visible(
    executions: list[Execution], folders: list[CheckpointName], wanted: list[CheckpointName]
) -> None:
    assert visible(executions, folders) == wanted


@pytest.mark.parametrize(
    "folder",
    ["step-120.a1.e1", "step-00000120.a0.e1", ".tmp-step-00000120.a1.e1-ab", "LATEST", "step-"],
)
def test_other_names_are_not_checkpoints(folder: str) -> None:
    assert CheckpointName.parse(folder) is None


def test_a_name_reads_back() -> None:
    assert str(name(120, 2, 3)) == "step-00000120.a2.e3"
    assert CheckpointName.parse("step-00000120.a2.e3") == name(120, 2, 3)


@given(st.data())
def test_visible_is_what_the_living_run_saved(data: st.DataObject) -> None:
    """A history of starts, saves and late saves; the run's own folders are kept beside it."""
    executions: list[Execution] = []
    folders: set[CheckpointName] = set()
    mine: list[CheckpointName] = []  # the present run's checkpoints, by step
    for attempt in range(1, data.draw(st.integers(1, 5)) + 1):
        keep = data.draw(st.integers(0, len(mine)), label="resume behind so many")
        mine = mine[:keep]
        executions.append(child(attempt, mine[-1] if mine else None))
        step = mine[-1].step if mine else 0
        for gain in data.draw(st.lists(st.integers(1, 9), max_size=4), label="saves"):
            step += gain
            mine.append(name(step, attempt))
            folders.add(mine[-1])
        for writer in executions[:-1]:
            for late in data.draw(st.lists(st.integers(1, 60), max_size=2), label="late"):
                started = writer.parent.step if writer.parent else 0
                written = [f.step for f in folders if f.writer == writer.key]
                folders.add(name(max([started, *written]) + late, writer.attempt))
    assert visible(executions, folders) == mine[::-1]


@given(st.lists(st.tuples(st.integers(1, 6), st.integers(0, 40)), max_size=6))
def test_every_step_belongs_to_one_execution(starts: list[tuple[int, int]]) -> None:
    """Whatever is registered, no step is counted twice."""
    executions = [
        child(attempt, name(step, attempt - 1) if attempt > 1 and step else None)
        for attempt, step in starts
    ]
    run = segments(executions)
    for step in range(1, 60):
        assert sum(segment.holds(step) for segment in run) <= 1
