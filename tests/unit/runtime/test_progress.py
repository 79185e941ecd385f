"""Answers of rank 0 are kept at once and never mistaken for another run's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from finetune_operator.runtime.progress import ProgressBoard, Run, parse_progress
from finetune_operator.runtime.queue import Key
from finetune_trainer.contract import STATUS_PORT, Progress

KEY = Key("team", "tune")


def said(step: int, *, uid: str = "u", attempt: int = 1) -> Progress:
    return Progress(uid=uid, attempt=attempt, step=step, total_steps=10)


def run(attempt: int = 1, address: str = "127.0.7.1") -> Run:
    return Run(KEY, "u", attempt, address)


@pytest.mark.parametrize(
    ("answer", "accepted"),
    [
        (said(1).to_json(), True),
        (said(1, uid="another job's").to_json(), False),
        (said(1, attempt=2).to_json(), False),
        ("{}", False),
        ("<html>", False),
        (said(1).to_json()[:-1] + ', "future": 1}', True),
    ],
    ids=["ours", "other job", "other attempt", "empty", "not JSON", "newer trainer"],
)
def test_only_an_answer_of_this_very_run_counts(answer: str, accepted: bool) -> None:
    assert (parse_progress(answer.encode(), run()) is not None) is accepted


class Rank0:
    """A trainer's /status on a loopback address of its own."""

    def __init__(self) -> None:
        self.progress = said(0)
        self.pieces = 1
        self.looks = 0
        self._looked = asyncio.Event()

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.looks += 1
        self._looked.set()
        text = self.progress.to_json().encode()
        response = web.StreamResponse(headers={"Content-Length": str(len(text))})
        await response.prepare(request)
        length = -(-len(text) // self.pieces)
        for start in range(0, len(text), length):
            await response.write(text[start : start + length])
            await asyncio.sleep(0.01 if self.pieces > 1 else 0)
        return response

    async def next_look_ends(self) -> None:
        for _ in range(2):  # the second look starts after the first one's answer was taken
            self._looked.clear()
            await asyncio.wait_for(self._looked.wait(), 10)


@asynccontextmanager
async def serving(address: str) -> AsyncIterator[Rank0]:
    rank0 = Rank0()
    app = web.Application()
    app.router.add_get("/status", rank0.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, host=address, port=STATUS_PORT).start()
    try:
        yield rank0
    finally:
        await runner.cleanup()


class Setup:
    """A board that looks all the time."""

    def __init__(self) -> None:
        self.heard: list[Key] = []
        self.silent = asyncio.Event()
        self.board = ProgressBoard(
            look_seconds=0.001,
            first_heard=self.heard.append,
            count=lambda result: self.silent.set() if result == "unreachable" else None,
        )


async def test_every_answer_is_kept_and_the_first_one_told() -> None:
    setup = Setup()
    async with serving("127.0.7.1") as rank0:
        setup.board.follow(run())
        for step in (1, 2, 3):
            rank0.progress = said(step)
            await rank0.next_look_ends()
            assert setup.board.newest("u", 1) == said(step)
            setup.board.follow(run())  # again, as every pass does
        assert setup.heard == [KEY]
        await setup.board.close()


async def test_an_answer_that_comes_in_pieces_is_read_to_its_end() -> None:
    setup = Setup()
    async with serving("127.0.7.3") as rank0:
        rank0.progress, rank0.pieces = said(5), 3
        setup.board.follow(run(address="127.0.7.3"))
        await rank0.next_look_ends()
        assert setup.board.newest("u", 1) == said(5)
        await setup.board.close()


async def test_a_run_that_falls_silent_keeps_what_it_said() -> None:
    setup = Setup()
    async with serving("127.0.7.2") as rank0:
        rank0.progress = said(4)
        setup.board.follow(run(address="127.0.7.2"))
        await rank0.next_look_ends()
    await asyncio.wait_for(setup.silent.wait(), 10)
    assert setup.board.newest("u", 1) == said(4)
    assert setup.board.newest("u", 2) is None, "of another attempt nothing is known"
    setup.board.rest("u")
    assert setup.board.newest("u", 1) == said(4)
    setup.board.forget("u")
    assert setup.board.newest("u", 1) is None
    await setup.board.close()


async def test_a_defect_that_an_answer_triggers_is_counted_and_the_looking_goes_on() -> None:
    results: list[str] = []

    def stumble(key: Key) -> None:
        raise LookupError(key)

    board = ProgressBoard(look_seconds=0.001, first_heard=stumble, count=results.append)
    async with serving("127.0.7.4") as rank0:
        board.follow(run(address="127.0.7.4"))
        await rank0.next_look_ends()
        rank0.progress = said(2)
        await rank0.next_look_ends()
        assert results[:2] == ["invalid", "ok"]
        assert board.newest("u", 1) == said(2)
        await board.close()
