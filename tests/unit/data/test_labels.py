"""What is learned is exactly what the model must write: answers and their end of turn."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
import trl
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import processors

from finetune_trainer.data.formats import Conversation
from finetune_trainer.data.labels import (
    Rendered,
    UnstableTemplate,
    label_problem,
    render_conversation,
    tokenise,
)
from finetune_trainer.data.store import IGNORED, Example
from finetune_trainer.data.template import ChatTokenizer, load_tokenizer
from tests.trainer_builders import CHATML, tiny_tokenizer

PUBLISHED = Path(trl.__file__).parent / "chat_templates"  # as their models ship them

# Templates reduced to what differs in where an answer begins and ends.
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}"
    "{{ '[INST] ' + m['content'] + ' [/INST]' }}{% else %}{{ ' ' + m['content'] + eos_token }}"
    "{% endif %}{% endfor %}"
)
THINKING = (  # an empty thought stands before the last answer only
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' }}"
    "{% if m['role'] == 'assistant' and loop.last %}{{ '<think>\n\n</think>\n\n' }}{% endif %}"
    "{{ m['content'] + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
FORGETFUL = CHATML.replace("{% for", "{{ messages | length }}{% for", 1)

text = st.text(alphabet=st.sampled_from("ab Z\n\té🎉.,?<|>"), min_size=1, max_size=24)
answer = text.filter(lambda value: value.strip() != "")


def turns(*contents: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        1,
        tuple(
            {"role": roles[index % 2], "content": content} for index, content in enumerate(contents)
        ),
    )


def example_of(chat: ChatTokenizer, conversation: Conversation) -> tuple[Rendered, Example]:
    rendered = render_conversation(chat, conversation.messages)
    return rendered, tokenise(chat, [(conversation, rendered)])[0]


def published(family: str, folder: Path) -> ChatTokenizer:
    """The tiny tokenizer with a published template and that template's special tokens."""
    template = (PUBLISHED / f"{family}.jinja").read_text()
    marks = sorted(set(re.findall(r"<\|\w+\|>|<(?:start|end)_of_turn>", template)))
    return load_tokenizer(tiny_tokenizer(folder, template=template, more_special_tokens=marks))


def learned(chat: ChatTokenizer, example: Example) -> str:
    ids = [label for label in example.labels if label != IGNORED]
    return str(chat.encoder.decode(ids, skip_special_tokens=False))


@settings(max_examples=150, deadline=None)
@given(question=text, first=answer, second=answer)
def test_labels_cover_the_answers_and_nothing_else(
    chat: ChatTokenizer, question: str, first: str, second: str
) -> None:
    rendered, example = example_of(chat, turns(question, first, question, second))
    assert [rendered.text[start:end] for start, end in rendered.spans] == [
        first + "<|im_end|>",
        second + "<|im_end|>",
    ]
    offsets = chat.encoder.encode(rendered.text, add_special_tokens=False).offsets
    for (start, end), label, token in zip(offsets, example.labels, example.input_ids, strict=True):
        inside = any(low <= start and end <= high for low, high in rendered.spans)
        assert label == (token if inside else IGNORED)
        crossing = any(start < low < end or start < high < end for low, high in rendered.spans)
        assert not crossing or rendered.text[start:end].isspace()


@settings(max_examples=50, deadline=None)
@given(question=text, reply=answer)
def test_tokens_are_those_that_the_template_gives_when_sampling(
    chat: ChatTokenizer, question: str, reply: str
) -> None:
    conversation = turns(question, reply)
    _, example = example_of(chat, conversation)
    assert example.input_ids == chat.tokenizer.apply_chat_template(
        list(conversation.messages), tokenize=True, return_dict=False
    )


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (CHATML, ["yes<|im_end|>", "no<|im_end|>"]),
        (MISTRAL, [" yes<|im_end|>", " no<|im_end|>"]),
        (THINKING, ["yes<|im_end|>", "<think>\n\n</think>\n\nno<|im_end|>"]),
    ],
    ids=["ChatML", "Mistral", "a thought before the last answer"],
)
def test_answers_are_found(template: str, expected: list[str], tmp_path: Path) -> None:
    chat = load_tokenizer(tiny_tokenizer(tmp_path, template=template))
    rendered, example = example_of(chat, turns("is it?", "yes", "why?", "no"))
    assert [rendered.text[start:end] for start, end in rendered.spans] == expected
    assert learned(chat, example) == "".join(expected)


@pytest.mark.parametrize(
    ("family", "end_of_turn", "thought"),
    [
        ("cohere", "<|END_OF_TURN_TOKEN|>", ""),
        ("gemma", "<end_of_turn>", ""),
        ("gemma3", "<end_of_turn>", ""),
        ("llama3", "<|eot_id|>", ""),
        ("llama3_1", "<|eot_id|>", ""),
        ("llama3_2", "<|eot_id|>", ""),
        ("phi3", "<|end|>", ""),
        ("qwen2_5", "<|im_end|>", ""),
        ("qwen3", "<|im_end|>", "<think>\n\n</think>\n\n"),
        ("qwen3_instruct_2507", "<|im_end|>", ""),
    ],
)
def test_answers_are_found_in_published_templates(
    family: str, end_of_turn: str, thought: str, tmp_path: Path
) -> None:
    chat = published(family, tmp_path)
    _, example = example_of(chat, turns("is it?", "yes", "why?", "no"))
    assert chat.end_of_turn == end_of_turn
    assert learned(chat, example) == f"yes{end_of_turn}{thought}no{end_of_turn}"


@pytest.mark.parametrize("family", ["gptoss", "nemotron_3_nano"])
def test_templates_that_rewrite_earlier_turns_are_unstable(family: str, tmp_path: Path) -> None:
    chat = published(family, tmp_path)
    with pytest.raises(UnstableTemplate):
        render_conversation(chat, turns("is it?", "yes", "why?", "no").messages)


def test_an_answer_that_moves_when_later_messages_follow_is_unstable(tmp_path: Path) -> None:
    chat = load_tokenizer(tiny_tokenizer(tmp_path, template=FORGETFUL))
    with pytest.raises(UnstableTemplate):
        render_conversation(chat, turns("is it?", "yes").messages)


def test_offsets_that_trim_white_space_do_not_hide_it(tmp_path: Path) -> None:
    folder = tiny_tokenizer(tmp_path)
    tokenizer = load_tokenizer(folder).tokenizer
    tokenizer.backend_tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    tokenizer.save_pretrained(folder)
    chat = load_tokenizer(folder)
    _, example = example_of(chat, turns("q", "  a \n b  "))
    assert learned(chat, example) == "  a \n b  <|im_end|>"


def test_labels_that_learn_the_question_are_noticed(tiny_chat: ChatTokenizer) -> None:
    conversation = turns("where is it?", "in the list")
    _, example = example_of(tiny_chat, conversation)
    assert label_problem(tiny_chat, conversation, example) is None
    flipped = [
        token if label == IGNORED else IGNORED
        for token, label in zip(example.input_ids, example.labels, strict=True)
    ]
    found = label_problem(tiny_chat, conversation, replace(example, labels=flipped))
    assert found is not None and found.code == "inverted_mask"


def test_the_date_of_templates_is_fixed(tmp_path: Path) -> None:
    dated = "{{ date_string }} {{ strftime_now('%d %b %Y') }}\n" + CHATML
    chat = load_tokenizer(tiny_tokenizer(tmp_path, template=dated))
    text = chat.render(turns("hello").messages)
    assert text.startswith("01 Jan 2025 01 Jan 2025\n<|im_start|>user\nhello")
