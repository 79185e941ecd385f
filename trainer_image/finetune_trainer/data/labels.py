"""Which tokens of a conversation are learned: the assistant's answers and their end of turn.

A conversation is rendered once and tokenised once, as a whole: tokenising pieces and joining them
gives other tokens at the seams than the model will see. The answers are found in the text by
rendering the messages before them, and tokens are learned when their characters lie in an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_trainer.data.formats import Conversation, Finding
from finetune_trainer.data.store import IGNORED, Example
from finetune_trainer.data.template import ChatTokenizer, Message

Span = tuple[int, int]  # characters [start, end) of the rendered text


class UnstableTemplate(Exception):
    """An answer cannot be located in the rendered conversation."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """A conversation as text, and where its answers are."""

    text: str
    spans: tuple[Span, ...]


def render_conversation(chat: ChatTokenizer, messages: Sequence[Message]) -> Rendered:
    """Render once and locate every answer, end of turn included.

    Raises UnstableTemplate; jinja2.TemplateError when the template refuses the conversation.
    """
    text = chat.render(messages)
    spans = tuple(
        _locate(chat, messages, index, text)
        for index, message in enumerate(messages)
        if message["role"] == "assistant"
    )
    return Rendered(text, spans)


def _locate(chat: ChatTokenizer, messages: Sequence[Message], index: int, text: str) -> Span:
    """From the end of the generation prompt to the end of turn, which the model must write itself.

    Templates may add text before the answer (an empty thought); it is learned too, as the model is
    asked for it when it generates.
    """
    prompt = chat.render(messages[:index], add_generation_prompt=True)
    if not text.startswith(prompt):
        raise UnstableTemplate("the prompt is rendered otherwise once the answer follows")
    start = len(prompt)
    answer = messages[index]["content"].strip()
    if chat.end_of_turn is not None:
        found = text.find(chat.end_of_turn, start)
        if found < 0:
            raise UnstableTemplate(f"no {chat.end_of_turn} follows the answer")
        body, end = text[start:found], found + len(chat.end_of_turn)
    else:
        through = chat.render(messages[: index + 1])
        if not text.startswith(through):
            raise UnstableTemplate("the answer is rendered otherwise once a question follows")
        body, end = text[start : len(through)], len(through)
    if not body.rstrip().endswith(answer):
        raise UnstableTemplate("the template changes the text of the answer")
    return start, end


def tokenise(chat: ChatTokenizer, rows: Sequence[tuple[Conversation, Rendered]]) -> list[Example]:
    """Token ids and labels of rendered conversations, in order, nothing cut.

    A token that reaches over the border of an answer (a line break that joins the prompt's with the
    answer's) belongs to neither alone and is not learned.
    """
    encodings = chat.encoder.encode_batch(
        [rendered.text for _, rendered in rows], add_special_tokens=False
    )
    examples = []
    for (conversation, rendered), encoding in zip(rows, encodings, strict=True):
        labels = [IGNORED] * len(encoding.ids)
        for position, (start, end) in enumerate(encoding.offsets):
            if any(first <= start and end <= last for first, last in rendered.spans):
                labels[position] = encoding.ids[position]
        examples.append(Example(list(encoding.ids), labels, conversation.row))
    return examples


def control_tokens(chat: ChatTokenizer, conversation: Conversation) -> Finding | None:
    """A message that holds a token by which the template marks turns would forge a turn."""
    for index, message in enumerate(conversation.messages):
        token = next((each for each in chat.control_tokens if each in message["content"]), None)
        if token:
            return Finding(
                "control_tokens",
                conversation.row,
                f"messages[{index}] holds the control token {token}",
            )
    return None


def label_problem(
    chat: ChatTokenizer, conversation: Conversation, example: Example
) -> Finding | None:
    """Read the labels back as text: what is learned must be the answer, not the question."""
    learned = _squeeze(chat.encoder.decode(
        [label for label in example.labels if label != IGNORED], skip_special_tokens=False
    ))  # fmt: skip
    last_two = [message["content"] for message in conversation.messages[-2:]]
    question, answer = (_squeeze(content) for content in last_two)
    if answer not in learned and question in learned and question not in answer:
        message = "the question is learned instead of the answer"
        return Finding("inverted_mask", conversation.row, message)
    return None


def _squeeze(text: str) -> str:
    return "".join(text.split())
