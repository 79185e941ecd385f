"""The one exception that ends a trainer with a code of design section 6."""

from __future__ import annotations

import errno
from typing import Final

from finetune_trainer.contract import ExitCode, Problem

ABOUT_THE_FILE: Final = {
    None, errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP,
    errno.ENAMETOOLONG,
}  # fmt: skip
MACHINE_SIGNS: Final = (
    "CUDA error", "CUBLAS_STATUS", "can't allocate memory",
    f"(os error {errno.EIO})", f"(os error {errno.ESTALE})",
)  # fmt: skip


class TrainerError(Exception):
    """A failure whose kind is known: exit code, CamelCase reason, message for the user."""

    def __init__(
        self, code: ExitCode, reason: str, message: str, *, problems: tuple[Problem, ...] = ()
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.problems = problems


def blames_machine(error: BaseException | None) -> bool:
    """Whether reading failed because of storage, memory or a GPU, and so may succeed elsewhere.

    Such a failure says nothing about what was read: it must not end a job as its user's mistake.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno not in ABOUT_THE_FILE:
            return True
        if isinstance(error, MemoryError) or any(sign in str(error) for sign in MACHINE_SIGNS):
            return True
        error = error.__cause__ or error.__context__
    return False
