"""MANIFEST.json: the file that makes a folder a checkpoint.

It is written last and names every other file with size and sha256, so a torn write, a bit flip or a
folder copied halfway is found before anything in it is loaded.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from finetune_trainer.checkpoint.layout import sync, sync_tree
from finetune_trainer.checkpoint.lineage import CheckpointName
from finetune_trainer.contract import CheckpointReference, FileEntry, Manifest, RunIdentity

MANIFEST_FILE: Final = "MANIFEST.json"
ADAPTER_FOLDER: Final = "adapter"
ADAPTER_FILE: Final = "adapter/adapter_model.safetensors"
OPTIMIZER_FILE: Final = "optimizer.pt"
SCHEDULER_FILE: Final = "scheduler.pt"
STATE_FILE: Final = "trainer_state.json"


def rng_file(rank: int) -> str:
    """The random number generators of one rank."""
    return f"rng-{rank}.pt"


def required_files(world_size: int) -> set[str]:
    """What resume needs; a checkpoint without one of them restarts something silently."""
    fixed = {ADAPTER_FILE, OPTIMIZER_FILE, SCHEDULER_FILE, STATE_FILE}
    return fixed | {rng_file(rank) for rank in range(world_size)}


def digest(path: Path) -> str:
    """sha256 of a file, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_files(folder: Path) -> dict[str, FileEntry]:
    """Size and digest of every file below `folder`, by relative POSIX path."""
    return {
        path.relative_to(folder).as_posix(): FileEntry(
            sha256=digest(path), size=path.stat().st_size
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def seal(folder: Path, manifest: Manifest) -> None:
    """Flush everything in `folder`, then write the manifest durably as its last file."""
    sync_tree(folder)
    path = folder / MANIFEST_FILE
    path.write_text(manifest.to_json(indent=1) + "\n", encoding="utf-8")
    sync(path)
    sync(folder)


def read(folder: Path) -> Manifest:
    """The manifest of a folder. Raises OSError or ValueError when there is no valid one."""
    return Manifest.from_json((folder / MANIFEST_FILE).read_bytes())


def reference(folder: Path) -> CheckpointReference:
    """How status names a checkpoint that verified."""
    manifest = read(folder)
    return CheckpointReference(
        step=manifest.step,
        path=folder.name,
        digest=digest(folder / MANIFEST_FILE),
        time=manifest.created_at,
    )


def verify(folder: Path) -> list[str]:
    """Why `folder` must not be resumed from; empty when every byte is vouched for."""
    try:
        manifest = read(folder)
    except FileNotFoundError:
        return [f"no {MANIFEST_FILE}: the write was cut off"]
    except (OSError, ValidationError) as error:
        return [f"{MANIFEST_FILE} is unreadable: {_first_line(error)}"]
    problems = [
        f"{name} is not in {MANIFEST_FILE}"
        for name in sorted(required_files(manifest.world_size) - manifest.files.keys())
    ]
    name = CheckpointName.parse(folder.name)
    if name is not None and name != CheckpointName(
        manifest.step, manifest.attempt, manifest.execution
    ):
        problems.append(f"{MANIFEST_FILE} is of step {manifest.step}, not of this folder")
    for file, entry in manifest.files.items():
        problems.extend(_file_problems(folder / file, file, entry=entry))
    return problems


def _file_problems(path: Path, name: str, *, entry: FileEntry) -> list[str]:
    try:
        size = path.stat().st_size
        if size != entry.size:
            return [f"{name} has {size} bytes instead of {entry.size}"]
        if digest(path) != entry.sha256:
            return [f"{name} differs from its sha256"]
    except FileNotFoundError:
        return [f"{name} is missing"]
    except OSError as error:
        return [f"{name} is unreadable: {_first_line(error)}"]
    return []


def identity_differences(wanted: RunIdentity, found: RunIdentity) -> list[str]:
    """The parts of the run's identity in which a checkpoint differs, "field: found -> wanted"."""
    return [
        f"{field}: {getattr(found, field)} -> {getattr(wanted, field)}"
        for field in RunIdentity.model_fields
        if getattr(wanted, field) != getattr(found, field)
    ]


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0] if str(error) else type(error).__name__
