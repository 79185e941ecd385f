"""A proxy between operator and API server that knows every call and can kill at any of them.

Plain HTTP to the operator, TLS to the API server; the operator's bearer token passes through, so
RBAC is the real one. Counted are the calls of the operator's own client (its user agent tells) that
are about one job: Kopf's watches and the lease repeat themselves and hold no decision.

An armed kill names the n-th counted call. The API server processes it, then the operator is killed
and the answer is thrown away. Nothing of a killed process survives but what the API server stores,
so this one mode covers the whole gap between call n and call n+1: dying before the answer arrives,
after it arrived, or while the next request is on its way leaves the same world.
"""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, TypeVar

import aiohttp
from aiohttp import web

from finetune_operator.kube.client import USER_AGENT

T = TypeVar("T")
_HOP_BY_HOP = {"connection", "host", "transfer-encoding", "content-length", "keep-alive"}


class LoopThread:
    """An event loop in a thread of its own, for tests that block."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        future: Future[T] = asyncio.run_coroutine_threadsafe(work, self.loop)
        return future.result(60)

    def close(self) -> None:
        self.run(_cancel_others())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(10)
        self.loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


@dataclass
class Trap:
    """A kill at the `call`-th call about a job, whose name or uid is among `words`."""

    call: int
    words: set[str]
    kill: Callable[[], None]  # called in the proxy's thread
    calls: list[str] = field(default_factory=list)  # "method path" of the counted ones
    sprung: threading.Event = field(default_factory=threading.Event)

    def counts(self, target: str, body: bytes) -> bool:
        """Whether a request is about the job, by its URL or its body."""
        return any(word in target or word.encode() in body for word in self.words)


@dataclass
class Proxy:
    """One operator's way to the API server."""

    server: str
    tls: ssl.SSLContext
    trap: Trap | None = None
    fault: int | None = None  # HTTP code that answers everything while it is set
    refused: list[str] = field(default_factory=list)  # what met the fault
    _open: set[asyncio.Transport] = field(default_factory=set)
    port: int = 0
    _runner: web.AppRunner | None = None
    _session: aiohttp.ClientSession | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=self.tls, limit=0), auto_decompress=False
        )
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        assert self._runner is not None
        assert self._session is not None
        await self._session.close()
        await self._runner.cleanup()

    async def cut(self) -> None:
        """Break every connection that the operator holds, its watches too."""
        for transport in list(self._open):
            transport.abort()

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        self._open.add(transport)
        try:
            return await self._forward(request)
        finally:
            self._open.discard(transport)

    async def _forward(self, request: web.Request) -> web.StreamResponse:
        assert self._session is not None
        if self.fault is not None:
            self.refused.append(f"{request.method} {request.path}")
            return web.Response(status=self.fault)
        body = await request.read()
        trap = self._trap_for(request, body)
        if trap is not None and trap.sprung.is_set():
            return self._hang_up(request)
        headers = {k: v for k, v in request.headers.items() if k.lower() not in _HOP_BY_HOP}
        async with self._session.request(
            request.method, self.server + request.raw_path, headers=headers, data=body or None
        ) as answer:
            if trap is not None:
                trap.calls.append(f"{request.method} {request.path}")
                if len(trap.calls) == trap.call:
                    await answer.read()
                    trap.kill()
                    trap.sprung.set()
                    return self._hang_up(request)
            return await _stream(request, answer)

    def _trap_for(self, request: web.Request, body: bytes) -> Trap | None:
        ours = request.headers.get("User-Agent") == USER_AGENT and "/leases" not in request.path
        if self.trap is None or not ours or not self.trap.counts(request.path_qs, body):
            return None
        return self.trap

    @staticmethod
    def _hang_up(request: web.Request) -> web.StreamResponse:
        if request.transport is not None:
            request.transport.abort()
        return web.Response(status=502)


async def _stream(request: web.Request, answer: aiohttp.ClientResponse) -> web.StreamResponse:
    headers = {k: v for k, v in answer.headers.items() if k.lower() not in _HOP_BY_HOP}
    response = web.StreamResponse(status=answer.status, headers=headers)
    try:
        await response.prepare(request)
        async for chunk in answer.content.iter_any():
            await response.write(chunk)
        await response.write_eof()
    except (aiohttp.ClientError, ConnectionError):
        pass  # one of the two ended a watch
    return response
