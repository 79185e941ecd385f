"""A key waits at most once, is worked on by one worker, and no change is missed."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune_operator.metrics import Metrics
from finetune_operator.runtime.queue import LONGEST_BACKOFF_SECONDS, Key, WorkQueue, backoff
from tests.virtual_time import VirtualTime

A, B = Key("ns", "a"), Key("ns", "b")


@pytest.fixture
def time() -> VirtualTime:
    return VirtualTime()


@pytest.fixture
def queue(time: VirtualTime) -> WorkQueue:
    return WorkQueue(time=time, observer=Metrics())


async def test_keys_come_out_in_the_order_they_came_in(queue: WorkQueue) -> None:
    queue.add(B)
    queue.add(A)
    assert [await queue.get(), await queue.get()] == [B, A]


async def test_a_waiting_key_is_queued_once(queue: WorkQueue) -> None:
    queue.add(A)
    queue.add(A)
    assert len(queue) == 1


async def test_a_key_that_changes_during_work_is_queued_again_when_the_work_is_done(
    queue: WorkQueue,
) -> None:
    queue.add(A)
    assert await queue.get() == A
    queue.add(A)
    queue.add(A)
    assert len(queue) == 0, "not handed out while it is worked on"
    queue.done(A)
    assert len(queue) == 1


async def test_of_several_delays_the_earliest_holds(queue: WorkQueue, time: VirtualTime) -> None:
    queue.add_after(A, 30)
    queue.add_after(A, 5)
    queue.add_after(A, 60)
    time.advance(4.9)
    assert len(queue) == 0
    time.advance(0.1)
    assert await queue.get() == A
    queue.done(A)
    time.advance(100)
    assert len(queue) == 0, "the other delays are gone"


async def test_failures_back_off_per_key_and_success_forgets(
    queue: WorkQueue, time: VirtualTime
) -> None:
    for wait in (0.005, 0.010, 0.020):
        queue.add_rate_limited(A)
        time.advance(wait * 0.99)
        assert len(queue) == 0
        time.advance(wait * 0.02)
        assert await queue.get() == A
        queue.done(A)
    queue.forget(A)
    queue.add_rate_limited(A)
    time.advance(0.005)
    assert await queue.get() == A


@pytest.mark.parametrize(
    ("failures", "seconds"),
    [(0, 0.005), (1, 0.01), (10, 5.12), (15, 163.84), (16, 300), (10_000, 300)],
)
def test_backoff_doubles_from_5_ms_to_5_minutes(failures: int, seconds: float) -> None:
    assert backoff(failures) == pytest.approx(seconds)
    assert backoff(failures) <= LONGEST_BACKOFF_SECONDS


async def test_closing_wakes_every_taker_and_hands_out_nothing_more(queue: WorkQueue) -> None:
    takers = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.close()
    queue.add(A)
    assert await asyncio.gather(*takers) == [None, None, None]
    assert await queue.get() is None


async def test_a_cancelled_taker_passes_its_key_on(queue: WorkQueue) -> None:
    first, second = asyncio.create_task(queue.get()), asyncio.create_task(queue.get())
    await asyncio.sleep(0)
    queue.add(A)  # wakes the first one, which is cancelled before it runs
    first.cancel()
    assert await second == A


async def test_the_age_of_the_oldest_work_is_known(queue: WorkQueue, time: VirtualTime) -> None:
    assert queue.longest_running_seconds == 0
    queue.add(A)
    await queue.get()
    time.advance(3)
    queue.add(B)
    await queue.get()
    time.advance(4)
    assert queue.longest_running_seconds == 7
    assert queue.unfinished_seconds == 11
    queue.done(A)
    assert queue.longest_running_seconds == 4


Step = tuple[str, Key]
STEPS = st.tuples(
    st.sampled_from(["add", "later", "fail", "get", "done", "tick"]), st.sampled_from([A, B])
)


@given(st.lists(STEPS, max_size=60))
def test_no_key_is_ever_lost_or_worked_on_twice_at_a_time(steps: list[Step]) -> None:
    asyncio.run(_play(steps))


async def _play(steps: list[Step]) -> None:
    time = VirtualTime()
    queue = WorkQueue(time=time, observer=Metrics())
    working: set[Key] = set()
    owed: Counter[Key] = Counter()  # additions since the key was last handed out
    for step, key in steps:
        if step in ("add", "later", "fail"):
            owed[key] += 1
        match step:
            case "add":
                queue.add(key)
            case "later":
                queue.add_after(key, 10)
            case "fail":
                queue.add_rate_limited(key)
            case "get" if len(queue):
                await _take(queue, working, owed)
            case "done" if key in working:
                working.remove(key)
                queue.done(key)
            case "tick":
                time.advance(7)
    for key in list(working):
        working.remove(key)
        queue.done(key)
    time.advance(10_000)
    while len(queue):
        key = await _take(queue, working, owed)
        working.remove(key)
        queue.done(key)
    assert not +owed, "every addition was followed by a handing out"


async def _take(queue: WorkQueue, working: set[Key], owed: Counter[Key]) -> Key:
    key = await queue.get()
    assert key is not None
    assert key not in working
    working.add(key)
    owed[key] = 0
    return key
