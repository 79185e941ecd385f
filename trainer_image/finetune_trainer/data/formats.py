"""Reads JSON lines and JSON arrays with the line numbers that a person needs to fix a file.

Library readers stop at the first bad line, or count rows from zero within a block. This reader goes
on after a broken line, so that one run of preflight names all of them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from finetune_trainer.data.template import Message

ROLES: Final = ("system", "user", "assistant")
BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
LONG_NUMBER: Final = "holds a whole number of thousands of digits"
TOOL_FIELDS: Final = ("tools", "tool_calls", "functions", "function_call")

Unit = Literal["line", "element"]


@dataclass(frozen=True, slots=True)
class Conversation:
    """A valid row: an optional system message, then user and assistant in turn."""

    row: int
    messages: tuple[Message, ...]

    @property
    def key(self) -> str:
        """sha256 of the messages: equal for equal conversations, whatever else the rows hold."""
        return hashlib.sha256(json.dumps(self.messages, sort_keys=True).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Finding:
    """Something wrong with one row; `code` is one of checks.CODES."""

    code: str
    row: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """One JSON value of the source, with its line or element number."""

    row: int
    value: Any


def row_unit(path: Path) -> Unit:
    """Whether rows of this file are lines (JSON lines) or elements (one JSON array)."""
    if path.suffix == ".jsonl":
        return "line"
    with path.open("rb") as stream:
        head = stream.read(4096).removeprefix(BYTE_ORDER_MARK).lstrip()
    return "element" if head.startswith(b"[") else "line"


def read_conversations(path: Path, *, format: str) -> Iterator[Conversation | Finding]:
    """Every row of the file as a conversation or as what is wrong with it; blank lines are skipped.

    format is dataset.format, "Auto" or "Messages". Raises OSError when the file cannot be read.
    """
    for record in read_records(path):
        yield record if isinstance(record, Finding) else parse_messages(record, format=format)


def read_records(path: Path) -> Iterator[Record | Finding]:
    """Every JSON value of the file, or why a line is none."""
    return _read_lines(path) if row_unit(path) == "line" else _read_array(path)


def parse_messages(record: Record, *, format: str) -> Conversation | Finding:
    """Check one row against {"messages": [{"role", "content"}, ...]}."""
    row, value = record.row, record.value
    if not isinstance(value, dict):
        return Finding("unknown_format", row, f"is a JSON {_kind(value)}, not an object")
    if "messages" not in value:
        keys = ", ".join(repr(key) for key in value) or "no keys"
        if format == "Auto":
            return Finding("unknown_format", row, f"has {keys}; needed is 'messages'")
        return Finding("missing_field", row, f"has no 'messages', only {keys}")
    if tool_field := next((name for name in TOOL_FIELDS if value.get(name)), None):
        return Finding("unknown_format", row, f"has {tool_field!r}: tools are not supported")
    messages = value["messages"]
    if not isinstance(messages, list) or not messages:
        return Finding("missing_field", row, "'messages' must be a list with at least one message")
    for position, message in enumerate(messages):
        if problem := _message_problem(message):
            return Finding(problem[0], row, f"messages[{position}] {problem[1]}")
    if order := _order_problem([message["role"] for message in messages]):
        return Finding("bad_role_order", row, order)
    plain = tuple({"role": each["role"], "content": each["content"]} for each in messages)
    return Conversation(row, plain)


def _read_lines(path: Path) -> Iterator[Record | Finding]:
    with path.open("rb") as stream:
        for row, raw in enumerate(stream, start=1):
            line = raw.removeprefix(BYTE_ORDER_MARK) if row == 1 else raw
            if not line.strip():
                continue
            try:
                yield Record(row, json.loads(line.decode("utf-8")))
            except UnicodeDecodeError as error:
                yield Finding("encoding_error", row, _not_utf8(error))
            except json.JSONDecodeError as error:
                yield Finding("invalid_json", row, f"{error.msg} at column {error.colno}")
            except ValueError:  # Python's own limit, against quadratic work
                yield Finding("invalid_json", row, LONG_NUMBER)
            except RecursionError:
                yield Finding("invalid_json", row, "nested too deeply")


def _read_array(path: Path) -> Iterator[Record | Finding]:
    """Elements of one JSON array. After a syntax error the rest cannot be told apart: it ends."""
    raw = path.read_bytes().removeprefix(BYTE_ORDER_MARK)
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        yield Finding("encoding_error", 1, f"(line {line} of the file) {_not_utf8(error)}")
        return
    decoder, whitespace = json.JSONDecoder(), " \t\r\n"
    position, row = text.index("[") + 1, 0

    def skip(start: int) -> int:
        while start < len(text) and text[start] in whitespace:
            start += 1
        return start

    try:
        position = skip(position)
        while text[position : position + 1] != "]":
            row += 1
            if row > 1:
                if text[position : position + 1] != ",":
                    raise json.JSONDecodeError("Expecting ',' or ']'", text, position)
                position = skip(position + 1)
            value, position = decoder.raw_decode(text, position)
            yield Record(row, value)
            position = skip(position)
        if (rest := skip(position + 1)) < len(text):
            raise json.JSONDecodeError("Extra data after the array", text, rest)
    except json.JSONDecodeError as error:
        where = f"(line {error.lineno} of the file, column {error.colno})"
        yield Finding("invalid_json", max(row, 1), f"{where} {error.msg}")
    except ValueError:
        yield Finding("invalid_json", row, LONG_NUMBER)
    except RecursionError:
        yield Finding("invalid_json", row, "nested too deeply")


def _message_problem(message: object) -> tuple[str, str] | None:
    """(code, what is wrong) with one message, or None."""
    if not isinstance(message, dict):
        return "missing_field", f"is a JSON {_kind(message)}, not an object"
    if tool_field := next((name for name in TOOL_FIELDS if message.get(name)), None):
        return "unknown_format", f"has {tool_field!r}: tools are not supported"
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str):
        return "missing_field", "has no 'role'"
    if role not in ROLES:
        return "bad_role_order", f"has role {role!r}; known are {', '.join(ROLES)}"
    if role == "assistant" and content is None and "content" in message:
        return "empty_response", "the assistant's answer is null"
    if not isinstance(content, str):
        what = "has no 'content'" if content is None else f"'content' is a JSON {_kind(content)}"
        return "missing_field", what if content is None else f"{what}, not a string"
    if role == "assistant" and not content.strip():
        return "empty_response", "the assistant's answer is empty"
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        return "encoding_error", "holds half of a surrogate pair (an escape like \\ud83d alone)"
    return None


def _order_problem(roles: list[str]) -> str | None:
    turns = roles[1:] if roles[0] == "system" else roles
    for position, role in enumerate(turns):
        expected = "user" if position % 2 == 0 else "assistant"
        if role != expected:
            index = position + len(roles) - len(turns)
            return f"messages[{index}] is {role!r} where {expected!r} is due"
    if turns and turns[-1] == "user" and len(turns) > 1:
        return "the conversation ends with 'user': its last answer is missing"
    return None


def _not_utf8(error: UnicodeDecodeError) -> str:
    return f"is not UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"


def _kind(value: object) -> str:
    names = {dict: "object", list: "list", str: "string", bool: "boolean", type(None): "null"}
    return names.get(type(value), "number")
