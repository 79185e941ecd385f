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
    """What went wrong: each problem of the data with its line numbers, else the cause's words."""
    errors = [each for each in record.problems if each.severity == "error"] if record else []
    named = "; ".join(name_problem(problem) for problem in errors)
    return shorten(named or cause.message or cause.reason)


def name_problem(problem: Problem) -> str:
    """`message (invalid_json, line 17)`; lines that the message names are not named twice."""
    where = name_lines(problem)
    details = [problem.code, where] if where and where not in problem.message else [problem.code]
    return f"{problem.message} ({', '.join(details)})"


def name_lines(problem: Problem) -> str:
    """`line 17`, `lines 17 and 23`, or `lines 17, 23 and 4 more`; empty when no line is known."""
    if not problem.rows:
        return ""
    named = [str(row) for row in problem.rows]
    more = problem.count - len(named)
    last = f"{more} more" if more > 0 else named.pop()
    listed = " and ".join(part for part in (", ".join(named), last) if part)
    return f"line{'s' if len(problem.rows) > 1 else ''} {listed}"


def budget_words(end: str) -> str:
    """The start of the message of a job that ended because a budget is spent; else empty."""
    field = _BUDGETS.get(end)
    return f"spec.recovery.{field} is spent; last: " if field else ""
