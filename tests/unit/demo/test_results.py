"""The demo's claims: each is broken by what would break it, and by nothing else."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from dev.demo.paths import EXAMPLE_JOB
from dev.demo.results import CLAIMS, Results, broken_claims, job_folder, workspace_claim

STEPS = 36


def finished() -> Results:
    """What a run that kept every promise leaves."""
    job = yaml.safe_load(EXAMPLE_JOB.read_text())
    job["metadata"] |= {"namespace": "demo", "uid": "0123456789abcdef"}
    job["status"] = {
        "phase": "Succeeded",
        "plan": {"totalSteps": STEPS, "effectiveBatchSize": 8},
        "data": {"longest": 80, "evalRows": 12},
        "attempts": [
            {"number": 2, "outcome": "Succeeded", "fromStep": 6, "toStep": STEPS},
            {"number": 1, "outcome": "Failed", "fromStep": 0, "toStep": 9, "stepsLost": 3},
        ],
    }
    log = [{"step": step, "loss": 4.0 - step / 20} for step in range(1, STEPS + 1)]
    samples = [
        {"step": step, "prompt": prompt, "answer": f"at {step}"}
        for step in (0, STEPS)
        for prompt in job["spec"]["training"]["samples"]["prompts"]
    ]
    return Results(job, log, samples, {"evalLossBefore": "3.5", "evalLoss": "2.5"})


def test_a_run_that_kept_every_promise_breaks_no_claim() -> None:
    assert broken_claims(finished()) == []


def status(path: str, value: Any) -> Callable[[Results], None]:
    """Set one field of status, by dotted path."""

    def change(results: Results) -> None:
        node = results.job["status"]
        *parents, last = path.split(".")
        for parent in parents:
            node = node[int(parent) if parent.isdigit() else parent]
        node[last] = value

    return change


BREAKS: dict[str, tuple[Callable[[Results], None], str]] = {
    "a failed job": (status("phase", "Failed"), "succeeded"),
    "a run from the beginning": (status("attempts.0.fromStep", 0), "resumed"),
    "a single attempt": (lambda r: r.job["status"]["attempts"].pop(), "2 attempts"),
    "a step that is missing": (lambda r: r.log.pop(7), "exactly once"),
    "a step that appears twice": (lambda r: r.log.insert(7, r.log[7]), "exactly once"),
    "a loss that did not fall": (lambda r: r.termination.update(evalLoss="3.5"), "held-out loss"),
    "a loss that is no number": (lambda r: r.termination.update(evalLoss="NaN"), "held-out loss"),
    "an answer that is missing": (lambda r: r.samples.pop(), "answered"),
    "too many tokens": (status("data.longest", 110), "trained on"),
    "too many held-out rows": (status("data.evalRows", 13), "evaluated on"),
}


@pytest.mark.parametrize("sentence", BREAKS)
def test_broken_claims(sentence: str) -> None:
    change, named = BREAKS[sentence]
    results = copy.deepcopy(finished())
    change(results)
    broken = broken_claims(results)
    assert len(broken) == 1
    assert named in broken[0]


def test_the_summary_has_the_promised_form() -> None:
    summary = finished().summary({"total": 60.0})
    assert summary == {
        "phase": "Succeeded",
        "attempts": [
            {
                "number": 1,
                "outcome": "Failed",
                "reason": None,
                "fromStep": 0,
                "toStep": 9,
                "stepsLost": 3,
            },
            {
                "number": 2,
                "outcome": "Succeeded",
                "reason": None,
                "fromStep": 6,
                "toStep": STEPS,
                "stepsLost": None,
            },
        ],
        "resumedFromStep": 6,
        "totalSteps": STEPS,
        "lossFirst": 3.95,
        "lossLast": 2.2,
        "evalLossBefore": 3.5,
        "evalLossAfter": 2.5,
        "seconds": {"total": 60.0},
    }


def test_where_the_files_are() -> None:
    job = finished().job
    assert job_folder(job) == "demo-python-docs-01234567"
    assert workspace_claim(job) == "python-docs-01234"
    assert len(CLAIMS) == 9
