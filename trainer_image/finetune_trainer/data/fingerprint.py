"""What the tokenised data and the model are, in one hash each.

A checkpoint may be resumed only with the same two, so both are computed from contents: names and
times change when a volume is copied.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from finetune_trainer.contract import DatasetSpec
from finetune_trainer.data.template import TEMPLATE_DATE

DATA_FORMAT: Final = 1  # raised whenever the same input would be tokenised or labelled otherwise
TOKENIZER_FILES: Final = (
    "tokenizer*.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
    "vocab.*", "merges.txt", "chat_template*",
)  # fmt: skip
MODEL_FILES: Final = (*TOKENIZER_FILES, "config.json", "generation_config.json", "*.safetensors*")


def data_fingerprint(
    dataset: DatasetSpec, *, train: Path, evaluation: Path | None, model: Path, seed: int
) -> str:
    """sha256 over the sources' bytes, the tokenizer with its template, and all that cuts or splits.

    The seed counts only where it splits the data: with evalFraction.
    """
    parts = {
        "format": DATA_FORMAT,
        "train": file_digest(train),
        "evaluation": file_digest(evaluation) if evaluation else None,
        "split": None if evaluation else [repr(dataset.eval_fraction), seed],
        "tokenizer": folder_digest(model, TOKENIZER_FILES),
        "date": TEMPLATE_DATE.isoformat(),
        "max_length": dataset.max_length,
        "overlength": dataset.overlength,
        "train_on": dataset.train_on,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def model_commit(folder: Path) -> str:
    """sha256 over names, sizes and contents of configuration, tokenizer and safetensors files."""
    return folder_digest(folder, MODEL_FILES)


def folder_digest(folder: Path, patterns: Iterable[str]) -> str:
    """sha256 over the names, sizes and digests of the files right in `folder` that match."""
    paths = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    lines = [f"{path.name}\0{path.stat().st_size}\0{file_digest(path)}" for path in sorted(paths)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """sha256 of a file's bytes in hex; raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
