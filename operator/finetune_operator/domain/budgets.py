"""How often and how soon a job tries again.

Two budgets: failures (of infrastructure, refilled by progress) and disruptions (preemption and
eviction, which say nothing about the job). Delays are deterministic, so that a decision repeated
after a crash waits for the same moment.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from finetune_operator.api.v1alpha1 import Attempt, Reason, Recovery
from finetune_operator.domain.classify import Cause, Treatment

LONGEST_BACKOFF_SECONDS: Final = 600
JITTER: Final = 0.2  # of the delay, to either side


def backoff_seconds(*, uid: str, number: int, repeats: int, base: float) -> float:
    """min(600, base x 2^(repeats-1)) with 20 % jitter seeded by uid and attempt number.

    `repeats` >= 1 is how many times in a row it went wrong, `base` the first delay in seconds.
    """
    plain = min(float(LONGEST_BACKOFF_SECONDS), base * 2.0 ** min(repeats - 1, 30))
    digest = hashlib.sha256(f"{uid}/{number}".encode()).digest()
    fraction = int.from_bytes(digest[:8], "big") / 2**64
    return plain * (1 + JITTER * (2 * fraction - 1))


@dataclass(frozen=True, slots=True)
class Charge:
    """What a cause costs: the budgets after it. `end` is the reason why the job ends, "" if not."""

    failures: int
    disruptions: int
    end: str = ""

    @property
    def spent(self) -> dict[str, int]:
        """The members of the status."""
        return {"failures": self.failures, "disruptions": self.disruptions}


def charge(cause: Cause, *, failures: int, disruptions: int, recovery: Recovery) -> Charge:
    """Spend a budget. A budget of N retries bears N + 1 failures; the last one ends the job."""
    match cause.rule.treatment:
        case Treatment.FATAL:
            return Charge(failures, disruptions, end=cause.reason)
        case Treatment.FAILURE:
            failures += 1
            spent = failures > recovery.max_failures
            return Charge(failures, disruptions, Reason.FAILURE_BUDGET_SPENT if spent else "")
        case Treatment.DISRUPTION:
            disruptions += 1
            spent = disruptions > recovery.max_disruptions
            return Charge(failures, disruptions, Reason.DISRUPTION_BUDGET_SPENT if spent else "")


def earns_refill(rows: Sequence[Attempt], *, checkpoint_step: int, interval: int) -> bool:
    """True when a verified checkpoint lies one interval past the last counted failure's step.

    A failure that has no row was preflight's: it happened at step 0.
    """
    last = last_counted(rows)
    failed_at = (last.to_step or 0) if last else 0
    return checkpoint_step >= failed_at + interval


def last_counted(rows: Sequence[Attempt]) -> Attempt | None:
    """The newest row that spent the failure budget."""
    return next((row for row in reversed(rows) if row.counted), None)


def fruitless_disruptions(rows: Sequence[Attempt]) -> int:
    """How many of the newest attempts in a row were disrupted without reaching a new step."""
    count = 0
    for place in range(len(rows) - 1, -1, -1):
        row = rows[place]
        reached = max((other.to_step or 0 for other in rows[:place]), default=0)
        if row.counted or (row.to_step or 0) > reached:
            break
        count += 1
    return count


def retry_delay(
    rows: Sequence[Attempt], *, uid: str, number: int, failures: int, base: float
) -> float:
    """Seconds between the end of the last row and the recording of attempt `number`."""
    repeats = failures if rows[-1].counted else fruitless_disruptions(rows)
    if repeats < 1:
        return 0.0
    return backoff_seconds(uid=uid, number=number, repeats=repeats, base=base)
