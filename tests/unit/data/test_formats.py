"""Rows and their numbers: JSON lines by line, a JSON array by element."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_trainer.data.formats import (
    Conversation,
    Finding,
    Record,
    parse_messages,
    read_records,
    row_unit,
)
from tests.trainer_builders import conversation

ROW = json.dumps(conversation("q", "a"))


@pytest.mark.parametrize(
    ("name", "text", "unit", "rows"),
    [
        ("a.jsonl", f"{ROW}\n\n  \n{ROW}\n", "line", [1, 4]),
        ("a.jsonl", f"{ROW}\r\n{ROW}", "line", [1, 2]),
        ("a.jsonl", "\ufeff" + ROW, "line", [1]),
        ("train", f"{ROW}\n{ROW}\n", "line", [1, 2]),
        ("a.json", f"[{ROW},\n{ROW}]\n", "element", [1, 2]),
        ("a.json", f"\ufeff \n[ {ROW} ]", "element", [1]),
        ("a.json", "[]", "element", []),
        ("a.json", f"{ROW}\n{ROW}", "line", [1, 2]),
        ("a.jsonl", "", "line", []),
        ("a.jsonl", json.dumps(conversation("q", "\u2028")) + "\n" + ROW, "line", [1, 2]),
    ],
    ids=[
        "blank lines count but are no rows",
        "Windows line ends",
        "a byte order mark",
        "a key without a suffix",
        "an array",
        "an array after white space",
        "an empty array",
        "JSON lines named .json",
        "an empty file",
        "a line separator inside a string",
    ],
)
def test_rows(name: str, text: str, unit: str, rows: list[int], tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(text.encode())
    assert row_unit(path) == unit
    found = list(read_records(path))
    assert all(isinstance(each, Record) for each in found)
    assert [each.row for each in found] == rows


@pytest.mark.parametrize(
    ("text", "row", "says"),
    [
        (f"[{ROW}\n {ROW}]", 2, "(line 2 of the file, column 2) Expecting ',' or ']'"),
        (f"[{ROW},\n\n{{]", 2, "(line 3 of the file, column 2)"),
        (f"[{ROW}", 2, "Expecting ',' or ']'"),
        (f"[{ROW},]", 2, "Expecting value"),
        (f"[{ROW}] x", 1, "Extra data after the array"),
        (f'[{ROW}, {{"n": {"1" * 5000}}}]', 2, "a whole number of thousands of digits"),
    ],
)
def test_a_broken_array_names_element_and_line(
    text: str, row: int, says: str, tmp_path: Path
) -> None:
    (tmp_path / "a.json").write_text(text)
    last = list(read_records(tmp_path / "a.json"))[-1]
    assert isinstance(last, Finding)
    assert (last.code, last.row) == ("invalid_json", row)
    assert says in last.message


def test_reading_goes_on_after_broken_lines(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    good, nested, number = ROW.encode(), b"[" * 100_000, b"1" * 5_000
    path.write_bytes(b"\n".join([b"{", good, b"\xff", nested, number, good]))
    kinds = [each.code if isinstance(each, Finding) else "row" for each in read_records(path)]
    broken = "invalid_json"
    assert kinds == [broken, "row", "encoding_error", broken, broken, "row"]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["messages", "role", "content", "x"]), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(value=json_values, format=st.sampled_from(["Auto", "Messages"]))
def test_any_json_is_a_conversation_or_a_finding(value: object, format: str) -> None:
    found = parse_messages(Record(7, value), format=format)
    assert found.row == 7
    assert isinstance(found, Conversation | Finding)


def test_equal_messages_have_equal_keys_whatever_else_the_rows_hold() -> None:
    first = parse_messages(Record(1, conversation("q", "a")), format="Auto")
    second = parse_messages(Record(9, {"id": 3, **conversation("q", "a")}), format="Auto")
    other = parse_messages(Record(2, conversation("q", "b")), format="Auto")
    assert isinstance(first, Conversation) and isinstance(second, Conversation)
    assert isinstance(other, Conversation)
    assert first.key == second.key != other.key
