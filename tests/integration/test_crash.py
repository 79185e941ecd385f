"""The operator is killed between any two of its calls: still one Job per attempt, the right end.

Each iteration runs a whole life (preflight, an attempt that fails, one that resumes) and kills the
operator once, right after the API server has processed its n-th call; a new process takes over. Run
n = 1, 2, ... until a life has fewer than n calls, so every gap of the life is visited. See
`proxy.py` for why one kill per gap is enough.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.job_controller import run_config
from tests.integration.proxy import Trap
from tests.integration.stage import ENDED, Stage, broken, script
from tests.integration.waiting import eventually

pytestmark = pytest.mark.integration

LANES = 2  # lives at a time, each with its own operator
FEWEST_CALLS, MOST_CALLS = 50, 400  # of a life; more would itself be a defect


def test_killed_after_any_call_there_is_one_job_per_attempt(
    new_stage: Callable[[], Stage],
) -> None:
    stages = [new_stage() for _ in range(LANES)]
    with ThreadPoolExecutor(LANES) as lanes:
        kills = sum(lanes.map(kill_at_each_call, stages, range(LANES)))
    assert kills >= FEWEST_CALLS


def kill_at_each_call(stage: Stage, lane: int) -> int:
    """Live through every LANES-th gap; returns the number of kills."""
    played = stage.play(script(a1=broken(12, saved=10)))
    operator = stage.start_operator()
    for call in range(1 + lane, MOST_CALLS, LANES):
        name = f"life-{call}-of-{LANES}"
        trap = Trap(call, {name}, kill=operator.kill)
        stage.proxy.trap = trap
        uid = stage.apply(name)["metadata"]["uid"]
        trap.words.add(uid)
        killed = was_killed(stage, name, trap)
        stage.proxy.trap = None
        if killed:
            operator.wait()
            operator = stage.start_operator()
            stage.until_phase(name, *ENDED)
        where = f"killed after call {call}: {trap.calls[-1]}"
        child = f"{name}-{uid[:5]}"
        check_life(stage, name, where)
        assert {n: len(uids) for n, uids in played.seen.items() if n.startswith(child)} == {
            f"{child}-preflight-1": 1,
            f"{child}-1": 1,
            f"{child}-2": 1,
        }, where
        assert run_config(played.attempts["2"])["knownCheckpoint"]["step"] == 10, where
        stage.clear(name)
        if not killed:
            return call // LANES
    raise AssertionError("lives do not end")


def was_killed(stage: Stage, name: str, trap: Trap) -> bool:
    """Wait until the operator was killed (True) or the life's last Event was told (False)."""

    def look() -> str:
        if trap.sprung.is_set():
            return "killed"
        told = {event["reason"] for event in stage.events(name)}
        return "over" if "Succeeded" in told else ""

    return eventually(look, what=f"the end of {name} or a kill") == "killed"


def check_life(stage: Stage, name: str, where: str) -> None:
    status = stage.status(name)
    assert status["phase"] == "Succeeded", where
    rows = sorted(status["attempts"], key=lambda row: row["number"])
    assert [(r["number"], r["outcome"], r["fromStep"], r.get("toStep")) for r in rows] == [
        (1, "Failed", 0, 12),
        (2, "Succeeded", 10, 30),
    ], where
    assert (status["failures"], status["disruptions"]) == (1, 0), where
