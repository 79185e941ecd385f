"""Whether a model folder holds whole weights, without reading them.

A download that broke off leaves a folder that looks like a model. Seen only when ranks load it, it
costs a wait for GPUs; the first bytes of each file tell it in preflight.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

WEIGHTS: Final = "model.safetensors"
INDEX: Final = "model.safetensors.index.json"
LENGTH_BYTES: Final = 8  # of the header's own length, little endian, at the start of the file
HEADER_LIMIT: Final = 100_000_000  # bytes; safetensors itself reads no longer header


class MissingWeights(Exception):
    """A file that must be there is not; the message names it."""


class DamagedWeights(Exception):
    """A file is not what its name says, or not all of it is there; the message names it."""


def check_weights(folder: Path) -> None:
    """Find model.safetensors, or every shard that the index beside it names, each of full length.

    Raises MissingWeights, DamagedWeights, OSError when a file cannot be read.
    """
    if (folder / WEIGHTS).is_file():
        names = [WEIGHTS]
    elif (folder / INDEX).is_file():
        names = _shards(folder / INDEX)
    else:
        raise MissingWeights(f"{folder} has neither {WEIGHTS} nor {INDEX}")
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise MissingWeights(f"{folder} lacks {', '.join(missing)}, which {INDEX} names")
    for name in names:
        _check_length(folder / name)


def _shards(index: Path) -> list[str]:
    """The files that hold the tensors, by `{"weight_map": {tensor: file}}`."""
    try:
        found = sorted(
            {str(name) for name in json.loads(index.read_bytes())["weight_map"].values()}
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DamagedWeights(f"{index} is no index of weights: {error!r}") from error
    if not found:
        raise DamagedWeights(f"{index} names no file")
    return found


def _check_length(path: Path) -> None:
    """Compare a file's size with its header's: length, JSON, and tensors up to the last offset.

    Format: https://huggingface.co/docs/safetensors, section "Format".
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        length = int.from_bytes(stream.read(LENGTH_BYTES), "little")
        if LENGTH_BYTES + length > size or length > HEADER_LIMIT:
            raise DamagedWeights(f"{path} has {size} bytes and no whole safetensors header")
        header = stream.read(length)
    wanted = LENGTH_BYTES + length + _last_offset(header, path)
    if size != wanted:
        raise DamagedWeights(f"{path} has {size} bytes where its header says {wanted}")


def _last_offset(header: bytes, path: Path) -> int:
    """Bytes of all tensors together; `__metadata__` is the one entry that is no tensor."""
    try:
        tensors: dict[str, Any] = json.loads(header)
        ends = [
            int(each["data_offsets"][1]) for name, each in tensors.items() if name != "__metadata__"
        ]
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise DamagedWeights(f"{path} is no safetensors file: {error!r}") from error
    return max(ends, default=0)
