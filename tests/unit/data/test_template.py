"""Which tokens pad and end a turn."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.data.template import ChatTokenizer, load_tokenizer
from finetune_trainer.errors import TrainerError
from tests.trainer_builders import CHATML, tiny_tokenizer


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ({}, "<|pad|>"),
        ({"pad_token": "<|endoftext|>"}, "<|endoftext|>"),
        ({"pad_token": "<|im_end|>"}, "<|pad|>"),
        ({"pad_token": None}, "<|pad|>"),
    ],
    ids=[
        "the tokenizer's own token pads",
        "whatever its name",
        "a reserved token is preferred to end-of-sequence",
        "a reserved token pads where none is named",
    ],
)
def test_pad_token(names: dict[str, Any], expected: str, tmp_path: Path) -> None:
    chat = load_tokenizer(tiny_tokenizer(tmp_path, **names))
    assert chat.tokenizer.convert_ids_to_tokens(chat.pad_token_id) == expected


def test_end_of_sequence_pads_when_the_pad_token_is_beyond_the_embedding(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 3}))
    assert load_tokenizer(folder).pad_token_id == 2


def test_the_end_of_turn_is_what_the_template_writes_after_an_answer(chat: ChatTokenizer) -> None:
    assert (chat.end_of_turn, chat.end_of_turn_id) == ("<|im_end|>", 2)


def test_only_tokens_that_mark_turns_or_ends_are_control_tokens(tiny_chat: ChatTokenizer) -> None:
    assert tiny_chat.control_tokens == ("<|endoftext|>", "<|im_end|>", "<|im_start|>")


def test_the_template_hash_follows_the_template(tmp_path: Path, tiny_chat: ChatTokenizer) -> None:
    other = load_tokenizer(tiny_tokenizer(tmp_path, template=CHATML + " "))
    assert other.template_sha256 != tiny_chat.template_sha256


@pytest.mark.parametrize(
    ("missing", "says"),
    [("tokenizer.json", "tokenizer"), ("chat_template", "has no chat template")],
)
def test_an_unusable_tokenizer_is_refused(missing: str, says: str, tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path, template=None)
    if missing == "tokenizer.json":
        (folder / missing).unlink()
    with pytest.raises(TrainerError, match=says) as caught:
        load_tokenizer(folder)
    assert caught.value.code == 13
    assert caught.value.problems[0].code == "template_error"
