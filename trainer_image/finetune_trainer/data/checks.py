"""Which findings end a job, which only warn, and how they read.

One table decides. An error is something the user must repair, because training on the rest would
hide it: broken rows, empty answers. A row that merely cannot be used (too long, nothing to learn)
is dropped, counted and warned about; it turns into an error when no row is left.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

from finetune_trainer.contract import ExitCode, Problem
from finetune_trainer.data.formats import Conversation, Finding, Unit
from finetune_trainer.errors import TrainerError

MAX_ROWS: Final = 1000  # row numbers kept per problem; the count is always exact
DETAILS: Final = 3  # different details quoted in one message
FEW_EXAMPLES: Final = 100  # the field's rule of thumb: fewer rarely teach more than a style

Severity = Literal["error", "warning"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What a code means: its severity, the exit code when it ends the job."""

    severity: Severity
    exit_code: ExitCode


# In the order in which the first error is looked for.
CODES: Final[dict[str, Rule]] = {
    "bad_config": Rule("error", ExitCode.BAD_CONFIG),
    "missing_file": Rule("error", ExitCode.DATA_UNREADABLE),
    "encoding_error": Rule("error", ExitCode.DATA_UNREADABLE),
    "invalid_json": Rule("error", ExitCode.DATA_UNREADABLE),
    "unknown_format": Rule("error", ExitCode.DATA_UNREADABLE),
    "missing_field": Rule("error", ExitCode.DATA_UNREADABLE),
    "bad_role_order": Rule("error", ExitCode.DATA_UNREADABLE),
    "empty_response": Rule("error", ExitCode.NOTHING_TO_LEARN),
    "missing_model": Rule("error", ExitCode.MODEL),
    "unsupported_model": Rule("error", ExitCode.MODEL),
    "padding_token": Rule("error", ExitCode.TOKENIZER),
    "vocabulary_mismatch": Rule("error", ExitCode.TOKENIZER),
    "template_error": Rule("error", ExitCode.TOKENIZER),
    "inverted_mask": Rule("error", ExitCode.TOKENIZER),
    "template_unstable": Rule("warning", ExitCode.TOKENIZER),
    "control_tokens": Rule("warning", ExitCode.TOKENIZER),
    "over_length": Rule("warning", ExitCode.NOTHING_TO_LEARN),
    "nothing_supervised": Rule("warning", ExitCode.NOTHING_TO_LEARN),
    "too_few_examples": Rule("warning", ExitCode.NOTHING_TO_LEARN),
    "missing_end_of_turn": Rule("warning", ExitCode.TOKENIZER),
    "double_bos": Rule("warning", ExitCode.TOKENIZER),
    "duplicate_rows": Rule("warning", ExitCode.OK),
    "train_eval_overlap": Rule("warning", ExitCode.OK),
    "unusual_value": Rule("warning", ExitCode.OK),
    "too_few_steps": Rule("warning", ExitCode.OK),
}


@dataclass(slots=True)
class _Group:
    rows: list[int] = field(default_factory=list)
    details: dict[str, list[int]] = field(default_factory=dict)
    error: bool = False
    count: int = 0


@dataclass(slots=True)
class Findings:
    """Collects findings by source and code; `problems` turns them into the report's form.

    A source is "" for the training data and "evalSource" for the evaluation data.
    """

    units: dict[str, Unit] = field(default_factory=dict)
    groups: dict[tuple[str, str], _Group] = field(default_factory=dict)
    given: list[Problem] = field(default_factory=list)

    def add(self, finding: Finding, *, source: str = "", error: bool = False) -> None:
        """Record one row's finding; `error` raises a warning code to an error."""
        group = self.groups.setdefault((source, finding.code), _Group())
        group.count += 1
        group.error |= error
        if len(group.rows) < MAX_ROWS:
            group.rows.append(finding.row)
        if finding.message in group.details or len(group.details) < DETAILS:
            group.details.setdefault(finding.message, []).append(finding.row)

    def escalate(self, code: str) -> None:
        """Make the training data's warnings of this code errors."""
        if group := self.groups.get(("", code)):
            group.error = True

    def add_problem(self, code: str, message: str, *, error: bool = False) -> None:
        """Record a finding about the whole data set or model."""
        severity: Severity = "error" if error else CODES[code].severity
        self.given.append(Problem(code=code, severity=severity, message=message))

    def add_failure(self, failure: TrainerError) -> None:
        """Record an error that ended a part of preflight; it carries its problems."""
        self.given.extend(failure.problems)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Everything found, errors first, then in the order of `CODES`."""
        found = [
            self._problem(source, code, group) for (source, code), group in self.groups.items()
        ]
        order = list(CODES)
        return tuple(
            sorted(
                (*self.given, *found),
                key=lambda each: (each.severity != "error", order.index(each.code)),
            )
        )

    def _problem(self, source: str, code: str, group: _Group) -> Problem:
        unit = self.units.get(source, "line")
        parts = [f"{_places(unit, rows)}: {detail}" for detail, rows in group.details.items()]
        quoted = sum(len(rows) for rows in group.details.values())
        if group.count > quoted:
            parts.append(f"and {group.count - quoted} more")
        prefix = f"{source}: " if source else ""
        return Problem(
            code=code,
            severity="error" if group.error else CODES[code].severity,
            message=prefix + "; ".join(parts),
            rows=tuple(group.rows),
            count=group.count,
        )


def exit_code(problems: Iterable[Problem]) -> ExitCode:
    """The code of the first error; OK when there is none."""
    first = next((each for each in problems if each.severity == "error"), None)
    return CODES[first.code].exit_code if first else ExitCode.OK


def duplicates(conversations: Iterable[Conversation]) -> list[Finding]:
    """Rows that repeat an earlier row word for word."""
    first: dict[str, int] = {}
    return [
        Finding("duplicate_rows", each.row, "repeats an earlier row word for word")
        for each in conversations
        if first.setdefault(each.key, each.row) != each.row
    ]


def overlap(train: Iterable[Conversation], evaluation: Iterable[Conversation]) -> list[Finding]:
    """Evaluation rows that are also trained on: their loss says nothing about new questions."""
    trained = {each.key for each in train}
    return [
        Finding("train_eval_overlap", each.row, "is also in the training data")
        for each in evaluation
        if each.key in trained
    ]


def _places(unit: Unit, rows: list[int]) -> str:
    """Rows as words, at most five of them: line 17; lines 3, 9 and 14."""
    if len(rows) == 1:
        return f"{unit} {rows[0]}"
    if len(rows) > 6:
        return f"{unit}s {', '.join(map(str, rows[:5]))} and {len(rows) - 5} more"
    return f"{unit}s {', '.join(map(str, rows[:-1]))} and {rows[-1]}"
