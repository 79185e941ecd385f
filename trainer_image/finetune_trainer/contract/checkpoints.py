"""What vouches for a checkpoint on the volume; written and read by the trainer alone."""

from __future__ import annotations

from typing import Literal

from finetune_trainer.contract.wire import LenientWire, Wire


class RunIdentity(Wire):
    """What a checkpoint must match to be resumed from (design section 10), else exit 51."""

    model_commit: str
    data_fingerprint: str
    template: str  # sha256 of the chat template
    adapter: str  # canonical JSON of quantisation, rank, alpha, dropout, targets
    seed: int
    global_batch_size: int
    optimizer: str  # canonical JSON of optimizer, weight decay, clipping
    schedule: str  # canonical JSON of scheduler, base rate, warmup and total steps


class FileEntry(Wire):
    """A file of a checkpoint: sha256 in hex, size in bytes."""

    sha256: str
    size: int


class Manifest(LenientWire):
    """MANIFEST.json: written last, vouches for every other file of the checkpoint folder."""

    version: Literal[1] = 1
    step: int
    attempt: int
    execution: int
    job_uid: str
    identity: RunIdentity
    image: str
    instruction_set: str
    threads: int
    world_size: int
    micro_batch_size: int
    learning_rate_factor: float = 1.0
    created_at: str
    files: dict[str, FileEntry]  # POSIX path relative to the folder
