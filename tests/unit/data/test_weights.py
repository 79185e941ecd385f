"""Weights are there, and all of each file is: what a download that broke off leaves is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from finetune_trainer.data.weights import DamagedWeights, MissingWeights, check_weights

FIRST, SECOND = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
INDEX = "model.safetensors.index.json"


def whole(folder: Path) -> None:
    save_file({"a": np.ones(8, np.float32)}, folder / "model.safetensors", metadata={"by": "test"})


def sharded(folder: Path) -> None:
    save_file({"a": np.ones(8, np.float32)}, folder / FIRST)
    save_file({"b": np.ones((2, 4), np.float16), "empty": np.ones(0, np.int8)}, folder / SECOND)
    (folder / INDEX).write_text(
        json.dumps({"weight_map": {"a": FIRST, "b": SECOND, "empty": SECOND}})
    )


@pytest.mark.parametrize("write", [whole, sharded])
def test_whole_weights_are_accepted(write: Callable[[Path], None], tmp_path: Path) -> None:
    write(tmp_path)
    check_weights(tmp_path)


def cut(path: Path, *, by: int) -> None:
    os.truncate(path, path.stat().st_size - by)


BROKEN: dict[str, tuple[Callable[[Path], object], type[Exception], str]] = {
    "no weights and no index": (
        lambda folder: (folder / INDEX).unlink(), MissingWeights, "has neither",
    ),
    "a shard that never arrived": (
        lambda folder: (folder / SECOND).unlink(), MissingWeights, f"lacks {SECOND}",
    ),
    "a shard without its last byte": (
        lambda folder: cut(folder / SECOND, by=1), DamagedWeights, f"{SECOND} has",
    ),
    "a shard with a byte too many": (
        lambda folder: (folder / FIRST).write_bytes((folder / FIRST).read_bytes() + b"\0"),
        DamagedWeights, f"{FIRST} has",
    ),
    "a shard that ends within its header": (
        lambda folder: os.truncate(folder / FIRST, 20), DamagedWeights, "no whole safetensors",
    ),
    "an empty shard": (
        lambda folder: os.truncate(folder / FIRST, 0), DamagedWeights, f"{FIRST} has 0 bytes",
    ),
    "a page of an error in place of a shard": (
        lambda folder: (folder / FIRST).write_text("<html>404 not found</html>"),
        DamagedWeights, "no whole safetensors header",
    ),
    "a header that is no JSON": (
        lambda folder: (folder / FIRST).write_bytes((2).to_bytes(8, "little") + b"{]"),
        DamagedWeights, f"{FIRST} is no safetensors file",
    ),
    "a header that describes no tensors": (
        lambda folder: (folder / FIRST).write_bytes((8).to_bytes(8, "little") + b'{"a": 1}'),
        DamagedWeights, f"{FIRST} is no safetensors file",
    ),
    "an index that is cut off": (
        lambda folder: cut(folder / INDEX, by=3), DamagedWeights, f"{INDEX} is no index",
    ),
    "an index of nothing": (
        lambda folder: (folder / INDEX).write_text('{"weight_map": {}}'),
        DamagedWeights, f"{INDEX} names no file",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("breaks", "kind", "says"), BROKEN.values(), ids=BROKEN.keys())
def test_what_is_missing_or_cut_off_is_named(
    breaks: Callable[[Path], object], kind: type[Exception], says: str, tmp_path: Path
) -> None:
    sharded(tmp_path)
    breaks(tmp_path)
    with pytest.raises(kind) as caught:
        check_weights(tmp_path)
    assert says in str(caught.value)
