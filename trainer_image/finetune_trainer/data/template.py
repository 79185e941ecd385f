"""The model's tokenizer and chat template, as the one way text becomes token ids.

What is trained must be what is sampled later, so everything here goes through the template that
ships with the model. Templates that print today's date get a fixed one: the same data must give the
same tokens tomorrow.
"""

from __future__ import annotations

import copy
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

from tokenizers import Tokenizer, processors

from finetune_trainer.contract import ExitCode, Problem
from finetune_trainer.errors import TrainerError, blames_machine

TEMPLATE_DATE: Final = date(2025, 1, 1)
CLOCK_CODES: Final = ("%Y", "%y", "%m", "%B", "%b", "%d", "%A", "%a", "%H", "%I", "%M", "%S", "%p")
RESERVED: Final = re.compile(r"pad|reserved|unused", re.IGNORECASE)
PROBE: Final = "finetune probe"

Message = dict[str, str]


@dataclass(frozen=True, slots=True)
class ChatTokenizer:
    """A fast tokenizer with its chat template and the ids that training needs.

    encoder gives exact character offsets. end_of_turn is the special token that the template writes
    after an answer, None when it writes none. control_tokens are those that mark turns and ends.
    vocabulary_size is the number of rows of the model's embedding.
    """

    tokenizer: Any  # transformers.PreTrainedTokenizerFast
    encoder: Tokenizer
    template_sha256: str
    pad_token_id: int
    end_of_turn: str | None
    end_of_turn_id: int | None
    control_tokens: tuple[str, ...]
    vocabulary_size: int

    def render(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        """The conversation as text; raises jinja2.TemplateError when the template refuses it."""
        return render(self.tokenizer, messages, add_generation_prompt=add_generation_prompt)


def render(
    tokenizer: Any, messages: Sequence[Message], *, add_generation_prompt: bool = False
) -> str:
    """Apply the tokenizer's chat template, without tools and with the fixed date."""
    return str(
        tokenizer.apply_chat_template(
            list(messages),
            chat_template=_fixed_clock() + tokenizer.chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=TEMPLATE_DATE.strftime("%d %b %Y"),
        )
    )


def _fixed_clock() -> str:
    """A template macro that hides the clock which transformers gives to templates.

    A function cannot be passed instead: transformers hands templates plain data only.
    """
    replaced = "".join(
        f" | replace('{code}', '{TEMPLATE_DATE.strftime(code)}')" for code in CLOCK_CODES
    )
    return f"{{% macro strftime_now(format) %}}{{{{ format{replaced} }}}}{{% endmacro %}}\n"


def load_tokenizer(path: Path) -> ChatTokenizer:
    """Load the tokenizer of a model folder, offline and without running its code.

    Raises TrainerError (13, TokenizerUnusable) when there is none, it gives no character offsets,
    it has no usable chat template or no token can pad; (14) when config.json has no vocab_size.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
    except Exception as error:  # transformers raises a dozen kinds for a broken folder
        if blames_machine(error):
            raise
        raise unusable("template_error", f"the tokenizer does not load: {error}") from error
    if not tokenizer.is_fast:
        raise unusable("template_error", f"{path} has no tokenizer.json, which labels need")
    if not isinstance(tokenizer.chat_template, str):
        raise unusable("template_error", f"the tokenizer in {path} has no chat template")
    vocabulary_size = _vocabulary_size(path)
    written = _control_tokens_after_answer(tokenizer)
    end_of_turn = written[0] if written else None
    return ChatTokenizer(
        tokenizer=tokenizer,
        encoder=_encoder(tokenizer),
        template_sha256=hashlib.sha256(tokenizer.chat_template.encode()).hexdigest(),
        pad_token_id=choose_pad_token(tokenizer, vocabulary_size),
        end_of_turn=end_of_turn,
        end_of_turn_id=tokenizer.convert_tokens_to_ids(end_of_turn) if end_of_turn else None,
        control_tokens=_control_tokens(tokenizer),
        vocabulary_size=vocabulary_size,
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
    ends = tokenizer.eos_token_id
    own = tokenizer.pad_token_id if tokenizer.pad_token_id != ends else None
    for candidate in (own, *reserved, ends):
        if candidate is not None and candidate < vocabulary_size:
            return int(candidate)
    raise unusable("padding_token", "the tokenizer has no pad, reserved or end-of-sequence token")


def unusable(code: str, message: str) -> TrainerError:
    """The error for a tokenizer or template that cannot be used; `code` is one of checks.CODES."""
    problem = Problem(code=code, severity="error", message=message)
    return TrainerError(
        ExitCode.TOKENIZER, "TokenizerUnusable", f"{code}: {message}", problems=(problem,)
    )


def _encoder(tokenizer: Any) -> Tokenizer:
    """The tokenizer's backend, neither cutting nor padding, with offsets of every character.

    Byte-level post-processors may trim white space from offsets; nothing else of theirs applies to
    text that the template has already completed with its special tokens.
    """
    encoder: Tokenizer = copy.deepcopy(tokenizer.backend_tokenizer)
    encoder.no_truncation()
    encoder.no_padding()
    encoder.post_processor = processors.ByteLevel(trim_offsets=False)
    return encoder


def _special_tokens(tokenizer: Any) -> set[str]:
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    return {*added, *tokenizer.all_special_tokens}


def _probe(tokenizer: Any) -> str:
    conversation = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": PROBE},
    ]
    try:
        return render(tokenizer, conversation)
    except Exception as error:  # jinja2.TemplateError and whatever a template's code raises
        message = f"the chat template fails on one question and answer: {error}"
        raise unusable("template_error", message) from error


def _control_tokens_after_answer(tokenizer: Any) -> list[str]:
    """Special tokens that the template writes after an answer, in order; longest at one place."""
    _, answer, rest = _probe(tokenizer).rpartition(PROBE)
    after = rest if answer else ""
    found = [
        (after.find(token), -len(token), token)
        for token in _special_tokens(tokenizer)
        if token in after
    ]
    return [token for _, _, token in sorted(found)]


def _control_tokens(tokenizer: Any) -> tuple[str, ...]:
    """What no message may hold: the special tokens of the template, begin and end of sequence."""
    text = _probe(tokenizer)
    written = {token for token in _special_tokens(tokenizer) if token in text}
    ends = {token for token in (tokenizer.bos_token, tokenizer.eos_token) if token}
    return tuple(sorted(written | ends))


def _vocabulary_size(path: Path) -> int:
    """Rows of the model's embedding by its config.json."""
    try:
        config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        return int(config.get("vocab_size") or config["text_config"]["vocab_size"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path}/config.json names no vocab_size"
        problem = Problem(code="unsupported_model", severity="error", message=message)
        raise TrainerError(
            ExitCode.MODEL, "ModelUnsupported", message, problems=(problem,)
        ) from error
