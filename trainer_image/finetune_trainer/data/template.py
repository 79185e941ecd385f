"""The model's tokenizer and chat template, as the one way text becomes token ids.

What is trained must be what is sampled later, so everything here goes through the template that
ships with the model. Templates that print today's date get a fixed one: the same data must give the
same tokens tomorrow.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from finetune_trainer.contract import ExitCode
from finetune_trainer.errors import TrainerError

TEMPLATE_DATE: Final = date(2025, 1, 1)
RESERVED: Final = re.compile(r"pad|reserved|unused", re.IGNORECASE)
PROBE: Final = "finetune probe"

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A fast tokenizer with its chat template and the ids that training needs.

    end_of_turn is the special token that the template writes after an assistant's answer; None when
    it writes none. vocabulary_size is the number of rows of the model's embedding.
    """

    tokenizer: Any  # transformers.PreTrainedTokenizerFast
    template_sha256: str
    pad_token_id: int
    pad_is_end_of_sequence: bool
    end_of_turn: str | None
    end_of_turn_id: int | None
    vocabulary_size: int
    special_tokens: tuple[str, ...]

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text; raises jinja2.TemplateError when the template refuses it."""
        return render(self.tokenizer, messages, add_generation_prompt=add_generation_prompt)


def render(
    tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    """Apply the tokenizer's chat template with the fixed date."""
    return str(
        tokenizer.apply_chat_template(
            list(messages),
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
            strftime_now=TEMPLATE_DATE.strftime,
        )
    )


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Load the tokenizer of a model folder, offline and without running its code.

    Raises TrainerError (13, TokenizerUnusable) when there is none, it gives no character offsets,
    it has no chat template, no token can pad, or its ids do not fit the model's embedding.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # transformers raises a dozen kinds for a broken folder
        raise _unusable(f"the tokenizer in {path} does not load: {error}") from error
    if not tokenizer.is_fast:
        raise _unusable(f"the tokenizer in {path} has no tokenizer.json, which labels need")
    if not isinstance(tokenizer.chat_template, str):
        raise _unusable(f"the tokenizer in {path} has no chat template")
    vocabulary_size = _vocabulary_size(path, tokenizer)
    pad_token_id = choose_pad_token(tokenizer, vocabulary_size)
    special_tokens = _special_tokens(tokenizer)
    end_of_turn = find_end_of_turn(tokenizer, special_tokens)
    return ChatTokenizer(
        tokenizer=tokenizer,
        template_sha256=hashlib.sha256(tokenizer.chat_template.encode()).hexdigest(),
        pad_token_id=pad_token_id,
        pad_is_end_of_sequence=pad_token_id == tokenizer.eos_token_id,
        end_of_turn=end_of_turn,
        end_of_turn_id=tokenizer.convert_tokens_to_ids(end_of_turn) if end_of_turn else None,
        vocabulary_size=vocabulary_size,
        special_tokens=special_tokens,
    )


def choose_pad_token(tokenizer: Any, vocabulary_size: int) -> int:
    """An existing pad or reserved token inside the embedding, else end-of-sequence.

    The embedding is never resized. Padding is masked by length, so end-of-sequence is safe.
    Raises TrainerError (13) when the tokenizer has none of them.
    """
    reserved = sorted(
        index
        for index, token in tokenizer.added_tokens_decoder.items()
        if RESERVED.search(token.content)
    )
    for candidate in (tokenizer.pad_token_id, *reserved, tokenizer.eos_token_id):
        if candidate is not None and candidate < vocabulary_size:
            return int(candidate)
    raise _unusable("the tokenizer has no pad, reserved or end-of-sequence token")


def find_end_of_turn(tokenizer: Any, special_tokens: Sequence[str]) -> str | None:
    """The first special token that the template writes after an assistant's answer."""
    conversation = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": PROBE},
    ]
    try:
        after = render(tokenizer, conversation).rpartition(PROBE)[2]
    except Exception as error:  # jinja2.TemplateError and whatever a template's code raises
        raise _unusable(f"the chat template fails on one question and answer: {error}") from error
    found = [(after.find(token), token) for token in special_tokens if token in after]
    return min(found)[1] if found else None


def _special_tokens(tokenizer: Any) -> tuple[str, ...]:
    """Texts that the tokenizer turns into one control token, longest first."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return tuple(
        sorted({*added, *tokenizer.all_special_tokens}, key=lambda text: (-len(text), text))
    )


def _vocabulary_size(path: Path, tokenizer: Any) -> int:
    """Rows of the embedding by config.json; the tokenizer's largest id must lie below."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        size = int(config.get("vocab_size") or config["text_config"]["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise TrainerError(
            ExitCode.MODEL, "ModelUnsupported", f"{path}/config.json names no vocab_size"
        ) from error
    if len(tokenizer) > size:
        raise _unusable(
            f"vocabulary_mismatch: the tokenizer has {len(tokenizer)} tokens, the model's "
            f"embedding {size} rows; use the tokenizer that the model was published with"
        )
    return size


def _unusable(message: str) -> TrainerError:
    return TrainerError(ExitCode.TOKENIZER, "TokenizerUnusable", message)
