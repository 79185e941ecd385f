"""Making a termination record fit: of long JSON the kubelet would cut off the head."""

from __future__ import annotations

import json
from typing import Any, Final

from finetune_trainer.contract.names import MAX_PROBLEM_ROWS


def fit(record: dict[str, Any], *, limit: int) -> str | None:
    """JSON of at most `limit` bytes, shortened step by step; None when that is not enough."""
    for shorten in SHORTENINGS:
        text = compact(record)
        if len(text.encode()) <= limit:
            return text
        record["truncated"] = True
        shorten(record)
    text = compact(record)
    return text if len(text.encode()) <= limit else None


def compact(record: dict[str, Any]) -> str:
    """JSON without blanks, any script as it is."""
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def _drop_samples(record: dict[str, Any]) -> None:
    samples = record.get("output", {}).get("samples", [])
    for sample in samples:
        sample["prompt"] = sample["prompt"][:80]
        sample["answer"] = sample["answer"][:160]
    if len(samples) > 3:
        record["output"]["samples"] = samples[-3:]


def _cut_rows(record: dict[str, Any]) -> None:
    for problem in record.get("problems", []):
        problem["rows"] = problem.get("rows", [])[:MAX_PROBLEM_ROWS]
        problem["message"] = problem["message"][:300]


def _cut_problems(record: dict[str, Any]) -> None:
    if "problems" in record:
        record["problems"] = record["problems"][:5]


def _cut_message(record: dict[str, Any]) -> None:
    record["message"] = record.get("message", "")[:500]
    if "output" in record:
        record["output"].pop("samples", None)


def _cut_plan_reasons(record: dict[str, Any]) -> None:
    if "plan" in record:
        record["plan"].pop("reasons", None)


def _cut_problem_messages(record: dict[str, Any]) -> None:
    """Other scripts need three bytes a character where English needs one."""
    for problem in record.get("problems", []):
        problem["message"] = problem["message"][:80]


def _drop_problems(record: dict[str, Any]) -> None:
    """The message quotes the first of them, rows included."""
    record.pop("problems", None)


SHORTENINGS: Final = (
    _drop_samples,
    _cut_rows,
    _cut_problems,
    _cut_message,
    _cut_plan_reasons,
    _cut_problem_messages,
    _drop_problems,
)
