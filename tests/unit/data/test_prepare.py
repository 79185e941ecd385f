"""The split, the cut and the hash over everything that changes the tokens."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.contract import DatasetSpec
from finetune_trainer.data.checks import Findings
from finetune_trainer.data.fingerprint import data_fingerprint, model_commit
from finetune_trainer.data.formats import Conversation
from finetune_trainer.data.prepare import Sources, split, tokenise_sources
from finetune_trainer.data.store import IGNORED
from finetune_trainer.data.template import ChatTokenizer
from tests.trainer_builders import tiny_tokenizer

contents = st.lists(st.text("abc", max_size=2), max_size=40)
fractions = st.floats(0, 0.9)
seeds = st.integers(0, 5)


def numbered(questions: list[str]) -> list[Conversation]:
    return [
        Conversation(
            row, ({"role": "user", "content": each}, {"role": "assistant", "content": "a"})
        )
        for row, each in enumerate(questions, start=1)
    ]


@given(questions=contents, fraction=fractions, seed=seeds)
def test_the_split_parts_the_rows_and_never_a_pair_of_equal_ones(
    questions: list[str], fraction: float, seed: int
) -> None:
    rows = numbered(questions)
    train, evaluation = split(rows, fraction=fraction, seed=seed)
    assert sorted([*train, *evaluation], key=lambda each: each.row) == rows
    assert not {each.key for each in train} & {each.key for each in evaluation}
    assert len(evaluation) <= round(len(rows) * fraction)
    if len(set(questions)) == len(questions):
        assert len(evaluation) == round(len(rows) * fraction)


@given(questions=contents, fraction=fractions, seed=seeds)
def test_the_split_depends_on_content_and_seed_not_on_order(
    questions: list[str], fraction: float, seed: int
) -> None:
    rows = numbered(questions)
    _, forwards = split(rows, fraction=fraction, seed=seed)
    _, backwards = split(rows[::-1], fraction=fraction, seed=seed)
    assert forwards == backwards[::-1]


def test_another_seed_holds_out_other_rows() -> None:
    rows = numbered([str(number) for number in range(100)])
    assert split(rows, fraction=0.1, seed=1) != split(rows, fraction=0.1, seed=2)


def test_truncation_keeps_the_head_and_counts_what_is_left(tiny_chat: ChatTokenizer) -> None:
    rows = [
        Conversation(
            1, ({"role": "user", "content": "q"}, {"role": "assistant", "content": "a " * 90})
        )
    ]
    data = tokenise_sources(
        Sources(rows, [], 1),
        tiny_chat,
        dataset=DatasetSpec(source="", max_length=50, overlength="Truncate"),
        fingerprint="",
        findings=Findings(),
    )
    (example,) = data.train
    assert len(example.input_ids) == len(example.labels) == 50
    assert data.summary.tokens == data.summary.longest == 50
    assert data.summary.supervised_tokens == sum(label != IGNORED for label in example.labels) > 30
    assert data.summary.dropped == {}


def write(path: Path, text: str) -> None:
    path.write_text(text)


CHANGES: dict[str, tuple[dict[str, Any], Callable[[Path], None]]] = {
    "training data": ({}, lambda folder: write(folder / "train.jsonl", "other")),
    "tokenizer": ({}, lambda folder: write(folder / "model" / "tokenizer.json", "{}")),
    "template": ({}, lambda folder: write(folder / "model" / "chat_template.jinja", "{}")),
    "longest example": ({"max_length": 77}, lambda folder: None),
    "what becomes of longer ones": ({"overlength": "Fail"}, lambda folder: None),
    "share held out": ({"eval_fraction": 0.2}, lambda folder: None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_fingerprint_follows(name: str, tmp_path: Path) -> None:
    spec, change = CHANGES[name]
    before = fingerprint(tmp_path)
    assert fingerprint(tmp_path) == before
    change(tmp_path)
    assert fingerprint(tmp_path, **spec) != before


def test_the_seed_counts_only_where_it_splits(tmp_path: Path) -> None:
    held_out = tmp_path / "held-out.jsonl"
    held_out.touch()
    assert fingerprint(tmp_path, seed=1) != fingerprint(tmp_path, seed=2)
    assert fingerprint(tmp_path, held_out, seed=1) == fingerprint(tmp_path, held_out, seed=2)


def test_the_fingerprint_ignores_names_and_weights(tmp_path: Path) -> None:
    before = fingerprint(tmp_path)
    (tmp_path / "model" / "model.safetensors").write_bytes(b"weights")
    assert fingerprint(tmp_path, source="pvc://elsewhere/train.jsonl") == before


def test_the_model_commit_follows_weights_and_configuration(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path / "model")
    seen = {model_commit(folder)}
    (folder / "README.md").write_text("words")
    assert model_commit(folder) in seen
    for name, text in (
        ("model-00001-of-00002.safetensors", "a"),
        ("model-00001-of-00002.safetensors", "b"),
        ("model-00002-of-00002.safetensors", "b"),
        ("config.json", json.dumps({"vocab_size": 1})),
    ):
        (folder / name).write_text(text)
        assert model_commit(folder) not in seen
        seen.add(model_commit(folder))


def fingerprint(folder: Path, evaluation: Path | None = None, *, seed: int = 1, **spec: Any) -> str:
    train = folder / "train.jsonl"
    if not train.exists():
        train.write_text("rows")
        tiny_tokenizer(folder / "model")
    dataset = DatasetSpec(**{"source": "pvc://data/train.jsonl", **spec})
    return data_fingerprint(
        dataset, train=train, evaluation=evaluation, model=folder / "model", seed=seed
    )
