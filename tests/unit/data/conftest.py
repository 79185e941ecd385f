"""Tokenizers that the tests of this folder share: loading one takes seconds."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.data.template import ChatTokenizer, load_tokenizer
from tests.trainer_builders import tiny_tokenizer

PRETRAINED = Path(__file__).parents[3] / ".cache" / "models" / "SmolLM2-135M-Instruct"


@pytest.fixture(scope="session")
def tiny_chat(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    """The tiny tokenizer with ChatML."""
    return load_tokenizer(tiny_tokenizer(tmp_path_factory.mktemp("tiny")))


@pytest.fixture(scope="session", params=["tiny", "SmolLM2"])
def chat(request: pytest.FixtureRequest, tiny_chat: ChatTokenizer) -> ChatTokenizer:
    """The tiny tokenizer, and the demo's pretrained one where `make model` has put it."""
    if request.param == "tiny":
        return tiny_chat
    if not (PRETRAINED / "tokenizer.json").exists():
        pytest.skip("needs `make model`")
    return load_tokenizer(PRETRAINED)
