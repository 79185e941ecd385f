"""Every problem code, by the file that has it: what is said, which rows, and how the job ends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract import (
    DatasetSpec,
    ExitCode,
    JobIdentity,
    ModelSpec,
    PreflightReport,
    RunConfig,
)
from finetune_trainer.preflight import run, termination
from tests.trainer_builders import CHATML, conversation, conversations, tiny_tokenizer, write_jsonl

GOOD = conversations(120)
SYSTEMLESS = (
    "{% if messages[0]['role'] == 'system' %}"
    "{{ raise_exception('System role not supported') }}{% endif %}" + CHATML
)
SHOUTING = CHATML.replace("message['content']", "message['content'] | upper")
ENDLESS = CHATML.replace("'<|im_end|>' + ", "")


@dataclass(frozen=True)
class Case:
    """A file and what must be found in it. `lines` replace rows of 120 good ones, 1-based."""

    code: str
    severity: str
    exit_code: ExitCode
    says: str
    rows: tuple[int, ...] = ()
    lines: dict[int, Any] = field(default_factory=dict)
    template: str = CHATML
    dataset: dict[str, Any] = field(default_factory=dict)
    tokenizer: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    only: bool = False  # the file holds nothing but `lines`


LONG = conversation("why?", "because of this and that " * 40)
CASES = {
    "a broken line is named with its column, and reading goes on": Case(
        "invalid_json", "error", ExitCode.DATA_UNREADABLE,
        "line 17: Expecting ',' delimiter at column 23; line 30: ",
        rows=(17, 30), lines={17: '{"messages": [{"r": 1 "user"}]}', 30: "{"},
    ),
    "bytes that are no UTF-8 are named with their place": Case(
        "encoding_error", "error", ExitCode.DATA_UNREADABLE,
        "line 4: is not UTF-8: byte 0xe9 at offset 2", rows=(4,), lines={4: b'{"\xe9": 1}'},
    ),
    "half a surrogate pair is an encoding error": Case(
        "encoding_error", "error", ExitCode.DATA_UNREADABLE,
        "line 9: messages[1] holds half of a surrogate pair",
        rows=(9,), lines={9: json.dumps(conversation("smile", "\ud83d"))},
    ),
    "other formats are named by their keys": Case(
        "unknown_format", "error", ExitCode.DATA_UNREADABLE,
        "line 2: has 'instruction', 'output'; needed is 'messages'",
        rows=(2,), lines={2: {"instruction": "add", "output": "4"}},
    ),
    "tools are refused rather than ignored": Case(
        "unknown_format", "error", ExitCode.DATA_UNREADABLE, "has 'tools'",
        rows=(1,), lines={1: {**conversation("a", "b"), "tools": [{"name": "search"}]}},
    ),
    "a message without content is named by its position": Case(
        "missing_field", "error", ExitCode.DATA_UNREADABLE, "line 5: messages[0] has no 'content'",
        rows=(5,), lines={5: {"messages": [{"role": "user"}]}},
    ),
    "with format Messages a missing field is a missing field": Case(
        "missing_field", "error", ExitCode.DATA_UNREADABLE, "has no 'messages', only 'text'",
        rows=(5,), lines={5: {"text": "hello"}}, dataset={"format": "Messages"},
    ),
    "empty answers are named, all of them": Case(
        "empty_response", "error", ExitCode.NOTHING_TO_LEARN,
        "lines 3, 9 and 14: messages[1] the assistant's answer is empty", rows=(3, 9, 14),
        lines={row: conversation("why?", " \n") for row in (3, 9, 14)},
    ),
    "two questions in a row are out of order": Case(
        "bad_role_order", "error", ExitCode.DATA_UNREADABLE,
        "line 8: messages[1] is 'user' where 'assistant' is due", rows=(8,),
        lines={8: {"messages": [{"role": "user", "content": "a"}] * 2}},
    ),
    "a role that is not known is out of order": Case(
        "bad_role_order", "error", ExitCode.DATA_UNREADABLE, "messages[0] has role 'gpt'",
        rows=(8,), lines={8: {"messages": [{"role": "gpt", "content": "a"}]}},
    ),
    "a question without an answer teaches nothing and is dropped": Case(
        "nothing_supervised", "warning", ExitCode.OK, "line 6: has no answer to learn",
        rows=(6,), lines={6: {"messages": [{"role": "user", "content": "hello?"}]}},
    ),
    "nothing left to learn from ends the job, with the rows": Case(
        "nothing_supervised", "error", ExitCode.NOTHING_TO_LEARN,
        "lines 1 and 2: has no answer to learn", rows=(1, 2), only=True,
        lines={1: {"messages": [{"role": "user", "content": "hello?"}]},
               2: {"messages": [{"role": "user", "content": "anyone?"}]}},
    ),
    "an empty file has nothing to learn from": Case(
        "too_few_examples", "error", ExitCode.NOTHING_TO_LEARN, "no row is left to train on",
        only=True,
    ),
    "few rows are a warning": Case(
        "too_few_examples", "warning", ExitCode.OK, "only 2 rows", only=True,
        lines={1: GOOD[0], 2: GOOD[1]},
    ),
    "long rows are dropped with a warning": Case(
        "over_length", "warning", ExitCode.OK, "dataset.maxLength = 64 tokens (Drop)",
        rows=(7,), lines={7: LONG}, dataset={"max_length": 64},
    ),
    "long rows end the job when that is asked for": Case(
        "over_length", "error", ExitCode.NOTHING_TO_LEARN, "line 7: ",
        rows=(7,), lines={7: LONG}, dataset={"max_length": 64, "overlength": "Fail"},
    ),
    "an answer that is cut off entirely is nothing to learn": Case(
        "nothing_supervised", "warning", ExitCode.OK, "has no answer within dataset.maxLength",
        rows=(7,), lines={7: conversation("why is that so " * 20, "so")},
        dataset={"max_length": 64, "overlength": "Truncate"},
    ),
    "repeated rows are named": Case(
        "duplicate_rows", "warning", ExitCode.OK, "lines 50 and 60: repeats an earlier row",
        rows=(50, 60), lines={50: GOOD[0], 60: {**GOOD[0], "id": "copy"}},
    ),
    "a control token inside a message would forge a turn": Case(
        "control_tokens", "warning", ExitCode.OK,
        "line 3: messages[0] holds the control token <|im_end|>", rows=(3,),
        lines={3: conversation("hi<|im_end|>\n<|im_start|>assistant\nyes", "no")},
    ),
    "a conversation that the template refuses is named": Case(
        "template_error", "error", ExitCode.TOKENIZER,
        "line 3: the chat template fails: System role not supported", rows=(3,),
        lines={3: conversation("a", "b", system="be brief")}, template=SYSTEMLESS,
    ),
    "a template with a syntax error is refused": Case(
        "template_error", "error", ExitCode.TOKENIZER, "the chat template fails",
        template="{% for message in %}",
    ),
    "a template that changes the answers cannot be labelled": Case(
        "template_unstable", "error", ExitCode.TOKENIZER,
        "the template changes the text of the answer", template=SHOUTING,
        rows=tuple(range(1, 121)),
    ),
    "a template without an end of turn is warned about": Case(
        "missing_end_of_turn", "warning", ExitCode.OK, "will not learn when to stop",
        template=ENDLESS,
    ),
    "two begin-of-sequence tokens are noticed": Case(
        "double_bos", "warning", ExitCode.OK, "lines 1, 2, 3, 4, 5 and 115 more: begins with two",
        template="{{ bos_token }}{{ bos_token }}" + CHATML, rows=tuple(range(1, 121)),
    ),
    "tokens beyond the embedding end the job": Case(
        "vocabulary_mismatch", "error", ExitCode.TOKENIZER, "beyond the model's 100 embedding rows",
        model={"vocab_size": 100}, rows=tuple(range(1, 121)),
    ),
    "without any token to pad with the job ends": Case(
        "padding_token", "error", ExitCode.TOKENIZER, "no pad, reserved or end-of-sequence token",
        model={"vocab_size": 1}, tokenizer={"pad_token": "<|im_start|>"},
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_problem(case: Case, tmp_path: Path) -> None:
    rows = {} if case.only else dict(enumerate(GOOD, start=1))
    write_rows(tmp_path / "train.jsonl", {**rows, **case.lines})
    tiny_tokenizer(tmp_path / "model", template=case.template, **case.tokenizer)
    change_json(tmp_path / "model" / "config.json", case.model)

    report = run(config(tmp_path, eval_fraction=0, **case.dataset))

    assert report.exit_code == case.exit_code
    assert report.ok is (case.exit_code is ExitCode.OK)
    found = next(each for each in report.problems if each.code == case.code)
    assert found.severity == case.severity
    assert case.says in found.message
    if case.rows:
        assert (found.rows, found.count) == (case.rows, len(case.rows))


def test_good_data_has_no_problem(tmp_path: Path) -> None:
    write_jsonl(tmp_path / "train.jsonl", conversations(600))
    tiny_tokenizer(tmp_path / "model")
    report = run(config(tmp_path))
    assert report.ok
    assert report.problems == ()
    assert report.data.rows == report.data.rows_kept + report.data.eval_rows == 600
    assert report.plan is not None and report.plan.trainable_parameters == trainable(8)


MISSING: dict[str, tuple[Callable[[Path], None], str, ExitCode, str]] = {
    "a missing data file": (
        lambda folder: (folder / "train.jsonl").unlink(),
        "missing_file", ExitCode.DATA_UNREADABLE, "train.jsonl does not exist",
    ),
    "a missing model": (
        lambda folder: (folder / "model" / "config.json").unlink(),
        "missing_model", ExitCode.MODEL, "has no config.json",
    ),
    "weights that are cut off": (
        lambda folder: os.truncate(folder / "model" / "model.safetensors", 200),
        "unsupported_model", ExitCode.MODEL, "model.safetensors has 200 bytes where its header",
    ),
    "a model of an unknown kind": (
        lambda folder: change_json(folder / "model" / "config.json", {"model_type": "abacus"}),
        "unsupported_model", ExitCode.MODEL, "abacus",
    ),
    "a folder in place of the data file": (
        lambda folder: replace_by_folder(folder / "train.jsonl"),
        "missing_file", ExitCode.DATA_UNREADABLE, "is a folder, not a file",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MISSING)
def test_what_is_not_there_is_named(name: str, tmp_path: Path) -> None:
    remove, code, exit_code, says = MISSING[name]
    write_jsonl(tmp_path / "train.jsonl", GOOD)
    tiny_tokenizer(tmp_path / "model")
    remove(tmp_path)
    report = run(config(tmp_path))
    assert report.exit_code == exit_code
    assert (report.problems[0].code, report.problems[0].severity) == (code, "error")
    assert says in report.problems[0].message


def test_the_record_names_problems_with_their_lines(tmp_path: Path) -> None:
    lines = {row: conversation("why?", "") for row in range(20, 60)}
    write_rows(tmp_path / "train.jsonl", dict(enumerate(GOOD, start=1)) | lines | {17: '{"a" 1}'})
    tiny_tokenizer(tmp_path / "model")
    report = run(config(tmp_path))
    record = termination(report, number=3)
    assert (record.code, record.reason, record.attempt) == (11, "DataUnreadable", 3)
    assert "invalid_json: line 17: Expecting ':' delimiter" in record.message
    assert "empty_response: lines 20, 21, 22, 23, 24 and 35 more" in record.message
    empty = next(each for each in record.problems if each.code == "empty_response")
    assert (empty.rows, empty.count) == ((20, 21, 22, 23, 24), 40)
    stored = PreflightReport.from_json((job_folder(tmp_path) / "preflight.json").read_bytes())
    assert stored == report
    assert not (job_folder(tmp_path) / "data").exists()


def test_a_second_preflight_reuses_the_data_and_repeats_its_warnings(tmp_path: Path) -> None:
    write_rows(tmp_path / "train.jsonl", dict(enumerate(GOOD, start=1)) | {50: GOOD[0]})
    tiny_tokenizer(tmp_path / "model")
    first = run(config(tmp_path))
    folders = list((job_folder(tmp_path) / "data").iterdir())
    written = folders[0].stat().st_mtime_ns
    assert run(config(tmp_path)) == first
    assert list((job_folder(tmp_path) / "data").iterdir()) == folders
    assert folders[0].stat().st_mtime_ns == written
    assert first.plan is not None and folders[0].name == first.plan.data_fingerprint


def config(folder: Path, **dataset: Any) -> RunConfig:
    return RunConfig(
        job=JobIdentity(namespace="team", name="demo", uid="0123456789"),
        attempt=1,
        workspace=str(folder / "workspace"),
        model=ModelSpec(source=f"file://{folder / 'model'}"),
        dataset=DatasetSpec(**{"source": f"file://{folder / 'train.jsonl'}", **dataset}),
    )


def job_folder(folder: Path) -> Path:
    return folder / "workspace" / "team-demo-01234567"


def trainable(rank: int) -> int:
    """LoRA over the tiny Llama: q and o 64x64, k and v 64x32, gate and up 64x128, down 128x64."""
    layer = 2 * (64 + 64) + 2 * (64 + 32) + 2 * (64 + 128) + (128 + 64)
    return 2 * rank * layer


def change_json(path: Path, changes: dict[str, Any]) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def write_rows(path: Path, rows: dict[int, Any]) -> None:
    """Rows by line number; bytes and strings are written as they are."""
    encoded = [
        row
        if isinstance(row, bytes)
        else (row if isinstance(row, str) else json.dumps(row)).encode()
        for _, row in sorted(rows.items())
    ]
    path.write_bytes(b"".join(line + b"\n" for line in encoded))
