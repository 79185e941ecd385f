"""The tokenised data on the volume: written once by preflight, read by every attempt.

Tokenising again in each attempt would cost minutes of a held GPU and could give other examples
after an upgrade. So preflight writes `data/<fingerprint>/` once: two Arrow files, memory-mapped
when read, and `data.json`, written last, which vouches for them by sha256.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal, overload

import pyarrow as pa
from pydantic import ValidationError

from finetune_trainer.contract import DataSummary, ExitCode, FileEntry, LenientWire, Problem
from finetune_trainer.errors import TrainerError, blames_machine

IGNORED: Final = -100  # label of a token that is not learned
SUMMARY_FILE: Final = "data.json"
TRAIN_FILE: Final = "train.arrow"
EVALUATION_FILE: Final = "evaluation.arrow"
SCHEMA: Final = pa.schema(
    [
        ("input_ids", pa.large_list(pa.int32())),
        ("labels", pa.large_list(pa.int32())),
        ("row", pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class Example:
    """One conversation. input_ids and labels are equally long; `IGNORED` labels are not learned.

    Labels stand at the position of the token itself: the model shifts them, not the data.
    row = 1-based line (JSON lines) or element (JSON array) of the source file.
    """

    input_ids: list[int]
    labels: list[int]
    row: int

    @property
    def supervised(self) -> int:
        """Number of tokens that are learned."""
        return sum(label != IGNORED for label in self.labels)


@dataclass(frozen=True, slots=True)
class TokenisedData:
    """Training and evaluation examples in source order, and what made them.

    pad_token_id pads and is masked by length, never by value: it may equal end-of-sequence.
    end_of_turn_id ends every learned turn; None when the chat template has no such token.
    date is what templates were told is today, ISO 8601. problems = the warnings found on the way.
    """

    train: Sequence[Example]
    evaluation: Sequence[Example]
    pad_token_id: int
    end_of_turn_id: int | None
    template_sha256: str
    fingerprint: str
    date: str
    summary: DataSummary
    problems: tuple[Problem, ...] = ()


class StoredSummary(LenientWire):
    """data.json: everything but the examples, and the digests of the files that hold those."""

    version: Literal[1] = 1
    fingerprint: str
    pad_token_id: int
    end_of_turn_id: int | None = None
    template_sha256: str
    date: str
    summary: DataSummary
    problems: tuple[Problem, ...] = ()
    files: dict[str, FileEntry]


class ArrowExamples(Sequence[Example]):
    """Examples of one Arrow file, decoded one by one from a memory map."""

    def __init__(self, path: Path) -> None:
        with pa.memory_map(str(path)) as source:
            self._table = pa.ipc.open_file(source).read_all()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    @overload
    def __getitem__(self, index: int) -> Example: ...
    @overload
    def __getitem__(self, index: slice) -> list[Example]: ...
    def __getitem__(self, index: int | slice) -> Example | list[Example]:
        if isinstance(index, slice):
            return [self[position] for position in range(*index.indices(len(self)))]
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(f"example {index} of {len(self)}")
        values: dict[str, Any] = {
            name: self._table.column(name)[position].as_py() for name in SCHEMA.names
        }
        return Example(**values)


def write(folder: Path, data: TokenisedData) -> Path:
    """Write `data` as `folder`, all or nothing; a valid folder that is already there stays."""
    if is_valid(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = folder.parent / f".tmp-{folder.name}-{uuid.uuid4().hex[:8]}"
    temporary.mkdir()
    try:
        _write_files(temporary, data)
        if folder.exists():
            shutil.rmtree(folder)  # damaged, else is_valid had returned
        temporary.rename(folder)
        _sync(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def load(folder: Path) -> TokenisedData:
    """Read and verify a folder that `write` made.

    Raises TrainerError (11, DataDamaged) when a file is missing or its digest differs, OSError when
    the volume fails.
    """
    stored = _verified_summary(folder)
    return TokenisedData(
        train=ArrowExamples(folder / TRAIN_FILE),
        evaluation=ArrowExamples(folder / EVALUATION_FILE),
        pad_token_id=stored.pad_token_id,
        end_of_turn_id=stored.end_of_turn_id,
        template_sha256=stored.template_sha256,
        fingerprint=stored.fingerprint,
        date=stored.date,
        summary=stored.summary,
        problems=stored.problems,
    )


def is_valid(folder: Path) -> bool:
    """Whether `load` would succeed."""
    try:
        _verified_summary(folder)
    except TrainerError:
        return False
    return True


def _write_files(folder: Path, data: TokenisedData) -> None:
    files: dict[str, FileEntry] = {}
    for name, examples in ((TRAIN_FILE, data.train), (EVALUATION_FILE, data.evaluation)):
        _write_arrow(folder / name, examples)
        files[name] = FileEntry(sha256=_digest(folder / name), size=(folder / name).stat().st_size)
    stored = StoredSummary(
        fingerprint=data.fingerprint,
        pad_token_id=data.pad_token_id,
        end_of_turn_id=data.end_of_turn_id,
        template_sha256=data.template_sha256,
        date=data.date,
        summary=data.summary,
        problems=data.problems,
        files=files,
    )
    (folder / SUMMARY_FILE).write_text(stored.to_json(indent=2) + "\n", encoding="utf-8")
    for path in (*folder.iterdir(), folder):
        _sync(path)


def _write_arrow(path: Path, examples: Iterable[Example]) -> None:
    rows = [
        {"input_ids": example.input_ids, "labels": example.labels, "row": example.row}
        for example in examples
    ]
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, SCHEMA) as writer:
        writer.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))


def _verified_summary(folder: Path) -> StoredSummary:
    try:
        stored = StoredSummary.from_json((folder / SUMMARY_FILE).read_bytes())
        for name, entry in stored.files.items():
            if _digest(folder / name) != entry.sha256:
                raise ValueError(f"{name} differs from its digest in {SUMMARY_FILE}")
    except (OSError, ValueError, ValidationError) as error:
        if blames_machine(error):
            raise
        raise TrainerError(
            ExitCode.DATA_UNREADABLE,
            "DataDamaged",
            f"the tokenised data in {folder} cannot be used: {error}",
        ) from error
    return stored


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
