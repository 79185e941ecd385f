"""From an exception of any process here to an exit code: one table, first match wins."""

from __future__ import annotations

import errno
import traceback
from typing import Final

from finetune_trainer.contract import ExitCode
from finetune_trainer.errors import TrainerError

DISK_FULL: Final = {errno.ENOSPC, errno.EDQUOT}
DISK_FULL_SIGNS: Final = tuple(f"(os error {number})" for number in sorted(DISK_FULL))  # Rust's
GPU_SIGNS: Final = ("CUDA error", "CUBLAS_STATUS", "CUDNN_STATUS", "uncorrectable ECC", "NVML")
HOST_MEMORY_SIGNS: Final = ("DefaultCPUAllocator: can't allocate", "Cannot allocate memory")
MESSAGE_LIMIT: Final = 1200  # characters: a termination record holds 4000 bytes in all


def classify(error: BaseException) -> TrainerError:
    """The failure that `error` means; unknown ones are infrastructure, with their traceback."""
    if isinstance(error, TrainerError):
        return error
    text = str(error)
    if type(error).__name__ == "OutOfMemoryError":  # torch's; a class of RuntimeError
        return TrainerError(ExitCode.GPU_OUT_OF_MEMORY, "GPUOutOfMemory", _shorten(text))
    if isinstance(error, MemoryError) or any(sign in text for sign in HOST_MEMORY_SIGNS):
        return TrainerError(ExitCode.HOST_OUT_OF_MEMORY, "HostOutOfMemory", _shorten(text))
    if isinstance(error, RuntimeError) and any(sign in text for sign in GPU_SIGNS):
        return TrainerError(ExitCode.GPU_FAULT, "GPUFault", _shorten(text))
    if full := _disk_full(error):
        return TrainerError(ExitCode.DISK_FULL, "DiskFull", _shorten(str(full)))
    if isinstance(error, OSError):
        return TrainerError(ExitCode.INFRASTRUCTURE, "StorageError", _shorten(text))
    return TrainerError(ExitCode.INFRASTRUCTURE, "UnexpectedError", _trace(error))


def _disk_full(error: BaseException | None) -> BaseException | None:
    """The error that says the volume is full: this one, or one during which it was raised.

    torch reports a write that failed as a wrong position in its archive and keeps the operating
    system's words as context; safetensors and tokenizers put them into their own message.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            return error
        if any(sign in str(error) for sign in DISK_FULL_SIGNS):
            return error
        error = error.__cause__ or error.__context__
    return None


def _trace(error: BaseException) -> str:
    """Exception first, then the innermost frames: what a reader needs when the end is cut."""
    frames = traceback.extract_tb(error.__traceback__)[-4:]
    places = " < ".join(f"{frame.name} ({frame.filename}:{frame.lineno})" for frame in frames[::-1])
    return _shorten(f"{type(error).__name__}: {error} at {places}")


def _shorten(text: str) -> str:
    return text if len(text) <= MESSAGE_LIMIT else text[: MESSAGE_LIMIT - 1] + "…"
