"""Sentences for people: conditions, events and rows say the same thing in the same words."""

from __future__ import annotations

from typing import Final

from finetune_operator.api.v1alpha1 import Reason
from finetune_operator.domain.classify import Cause
from finetune_trainer.contract import Problem, Termination

MESSAGE_LIMIT: Final = 1000  # characters of a condition's message
_BUDGETS: Final = {
    Reason.FAILURE_BUDGET_SPENT.value: "maxFailures",
    Reason.DISRUPTION_BUDGET_SPENT.value: "maxDisruptions",
}


def shorten(text: str, limit: int = MESSAGE_LIMIT) -> str:
    """Cut to `limit` characters; a cut text ends with '…'."""
    return text if len(text) <= limit else text[: limit - 1] + "…"


def explain(cause: Cause, record: Termination | None) -> str:
    """What went wrong, with each problem of the data and its line numbers."""
    problems = (
        [problem for problem in record.problems if problem.severity == "error"] if record else []
    )
    parts = [cause.message, *(name_problem(problem) for problem in problems)]
    return shorten("; ".join(part for part in parts if part) or cause.reason)


def name_problem(problem: Problem) -> str:
    """`message (invalid_json, line 17)`."""
    where = name_lines(problem)
    return f"{problem.message} ({problem.code}{', ' if where else ''}{where})"


def name_lines(problem: Problem) -> str:
    """`line 17`, or `lines 17, 23 and 4 more`; empty when no line is known."""
    if not problem.rows:
        return ""
    lines = ", ".join(str(row) for row in problem.rows)
    more = problem.count - len(problem.rows)
    return f"line{'s' if len(problem.rows) > 1 else ''} {lines}" + (
        f" and {more} more" if more > 0 else ""
    )


def budget_words(end: str) -> str:
    """The start of the message of a job that ended because a budget is spent; else empty."""
    field = _BUDGETS.get(end)
    return f"spec.recovery.{field} is spent; last: " if field else ""
