"""The demo's dataset: enough of it, always the same, nothing twice, nothing leaked."""

from __future__ import annotations

import pytest
import yaml

from dev.demo.dataset import HELD_OUT, HELD_OUT_QUESTION, MIN_TRAIN, Example, build, summarise
from dev.demo.paths import EXAMPLE_JOB


@pytest.fixture(scope="module")
def built() -> tuple[list[Example], list[Example]]:
    return build(lambda _: 0)


def question(example: Example) -> str:
    return example["messages"][0]["content"]


def answer(example: Example) -> str:
    return example["messages"][1]["content"]


def test_there_are_enough_pairs_and_each_is_a_question_and_an_answer(
    built: tuple[list[Example], list[Example]],
) -> None:
    train, held_out = built
    assert len(train) >= MIN_TRAIN
    assert len(held_out) == len(HELD_OUT)
    roles = {tuple(turn["role"] for turn in row["messages"]) for row in train + held_out}
    assert roles == {("user", "assistant")}


def test_the_same_interpreter_gives_the_same_rows_in_the_same_order(
    built: tuple[list[Example], list[Example]],
) -> None:
    assert build(lambda _: 0) == built


def test_no_question_and_no_answer_appears_twice_or_on_both_sides(
    built: tuple[list[Example], list[Example]],
) -> None:
    rows = [row for part in built for row in part]
    assert len({question(row) for row in rows}) == len(rows)
    assert len({answer(row) for row in rows}) == len(rows)


def test_no_training_question_is_about_a_held_out_name(
    built: tuple[list[Example], list[Example]],
) -> None:
    train, _ = built
    assert not [row for row in train for name in HELD_OUT if f"`{name}`" in question(row)]


def test_the_example_job_asks_held_out_questions() -> None:
    prompts = yaml.safe_load(EXAMPLE_JOB.read_text())["spec"]["training"]["samples"]["prompts"]
    assert len(prompts) == 3
    assert set(prompts) <= {HELD_OUT_QUESTION.format(name=name) for name in HELD_OUT}


SUMMARIES = {
    "the first sentence of prose": (
        "Return the square root of x.\n\nMore words.",
        "Return the square root of x.",
    ),
    "lines of one sentence are joined": (
        "Return a list of\n  all the words.",
        "Return a list of all the words.",
    ),
    "a missing full stop is added": ("Return the current time", "Return the current time."),
    "signatures are no prose": ("open(file) -> stream", None),
    "code is no prose": ("Use it >>> like this, please, and not otherwise.", None),
    "fields of named tuples say nothing": ("Alias for field number 3", None),
    "too short to learn from": ("Return it.", None),
}


@pytest.mark.parametrize("sentence", SUMMARIES)
def test_summarise(sentence: str) -> None:
    docstring, expected = SUMMARIES[sentence]
    assert summarise(docstring) == expected
