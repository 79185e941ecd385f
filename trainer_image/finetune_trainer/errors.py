"""The one exception that ends a trainer with a code of design section 6."""

from __future__ import annotations

from finetune_trainer.contract import ExitCode, Problem


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
