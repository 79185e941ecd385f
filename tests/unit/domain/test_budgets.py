"""How often and how soon a job tries again."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_operator.api.v1alpha1 import Attempt, Outcome, Reason, Recovery
from finetune_operator.domain.budgets import (
    Charge,
    backoff_seconds,
    charge,
    earns_refill,
    fruitless_disruptions,
    retry_delay,
)
from finetune_operator.domain.classify import cause_of
from finetune_operator.domain.course import newest_rows
from finetune_trainer.contract import ExitCode


def row(number: int, *, to_step: int, counted: bool) -> Attempt:
    outcome = Outcome.FAILED if counted else Outcome.DISRUPTED
    return Attempt(number=number, outcome=outcome, to_step=to_step, counted=counted)


def rows(*ends: tuple[int, bool]) -> tuple[Attempt, ...]:
    """Attempts 1, 2, ... by (last step, counted)."""
    return tuple(row(n, to_step=step, counted=c) for n, (step, c) in enumerate(ends, start=1))


@given(
    uid=st.uuids().map(str),
    number=st.integers(1, 10_000),
    repeats=st.integers(1, 2_000),
    base=st.integers(0, 600),
)
def test_the_delay_doubles_up_to_600_seconds_with_20_percent_jitter(
    uid: str, number: int, repeats: int, base: int
) -> None:
    plain = min(600, base * 2 ** (repeats - 1))
    delay = backoff_seconds(uid=uid, number=number, repeats=repeats, base=base)
    assert 0.8 * plain <= delay <= 1.2 * plain
    assert delay == backoff_seconds(uid=uid, number=number, repeats=repeats, base=base)


def test_jitter_differs_between_jobs_and_attempts() -> None:
    seeds = [("a", 1), ("a", 2), ("b", 1)]
    delays = {backoff_seconds(uid=u, number=n, repeats=1, base=100) for u, n in seeds}
    assert len(delays) == len(seeds)


CHARGES = {
    "a failure within the budget": (20, 2, 0, Charge(3, 0)),
    "maxFailures + 1 failures end the job": (20, 3, 0, Charge(4, 0, Reason.FAILURE_BUDGET_SPENT)),
    "a disruption spends the other budget": (75, 3, 1, Charge(3, 2)),
    "maxDisruptions + 1 disruptions too": (75, 0, 2, Charge(0, 3, Reason.DISRUPTION_BUDGET_SPENT)),
    "a user error ends the job and spends nothing": (12, 1, 1, Charge(1, 1, "NothingToLearn")),
}


@pytest.mark.parametrize(
    ("code", "failures", "disruptions", "wanted"), CHARGES.values(), ids=CHARGES
)
def test_charge(code: int, failures: int, disruptions: int, wanted: Charge) -> None:
    recovery = Recovery(max_failures=3, max_disruptions=2)
    cause = cause_of(ExitCode(code))
    paid = charge(cause, failures=failures, disruptions=disruptions, recovery=recovery)
    assert paid == wanted


REFILLS = {
    "one interval past the last failure's step": (rows((57, True)), 67, True),
    "one step less": (rows((57, True)), 66, False),
    "disruptions in between do not matter": (rows((57, True), (64, False)), 67, True),
    "only the newest failure matters": (rows((20, True), (57, True)), 60, False),
    "a failure of preflight was at step 0": (rows((57, False)), 10, True),
    "one step less than its interval": (rows((57, False)), 9, False),
}


@pytest.mark.parametrize(("ended", "checkpoint", "wanted"), REFILLS.values(), ids=REFILLS)
def test_refill(ended: tuple[Attempt, ...], checkpoint: int, wanted: bool) -> None:
    assert earns_refill(ended, checkpoint_step=checkpoint, interval=10) is wanted


FRUITLESS = {
    "a disruption after progress": (rows((40, False)), 0),
    "one that reached nothing at all": (rows((0, False)), 1),
    "one that reached nothing new": (rows((40, False), (40, False)), 1),
    "three in a row": (rows((40, False), (40, False), (38, False), (40, False)), 3),
    "a new step ends the row": (rows((0, False), (0, False), (5, False)), 0),
    "so does a counted failure": (rows((0, False), (0, True)), 0),
}


@pytest.mark.parametrize(("ended", "wanted"), FRUITLESS.values(), ids=FRUITLESS)
def test_fruitless_disruptions(ended: tuple[Attempt, ...], wanted: int) -> None:
    assert fruitless_disruptions(ended) == wanted


DELAYS = {
    "a disruption after a new step: at once": (rows((40, False)), 0, 0),
    "a disruption without one: backoff": (rows((40, False), (40, False)), 0, 10),
    "the second such: twice as long": (rows((4, False), (4, False), (4, False)), 0, 20),
    "a failure: backoff by the failures since the refill": (rows((40, True)), 3, 40),
}


@pytest.mark.parametrize(("ended", "failures", "plain"), DELAYS.values(), ids=DELAYS)
def test_retry_delay(ended: tuple[Attempt, ...], failures: int, plain: float) -> None:
    delay = retry_delay(ended, uid="u", number=9, failures=failures, base=10)
    assert 0.8 * plain <= delay <= 1.2 * plain


def test_ten_rows_are_kept_and_the_last_counted_failure_with_them() -> None:
    ended = rows((57, True), *[(50, False)] * 11)
    kept = newest_rows(ended)
    assert [r.number for r in kept] == [1, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert newest_rows(ended[:7]) == ended[:7]
