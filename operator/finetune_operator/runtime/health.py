"""Whether this process works: a watchdog, and the small HTTP servers that publish it.

`/healthz` fails when something is stuck in a way that only a restart cures: a reconcile that runs
for minutes or an event loop that is held up. Waiting for the lease is healthy. `/metrics` has a
port of its own, so that a network policy can open it to Prometheus alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

HEARTBEAT_SECONDS: Final = 1.0
LONGEST_RECONCILE_SECONDS: Final = 120.0
LONGEST_LAG_SECONDS: Final = 5.0


class Watchdog:
    """Judges the process by its heartbeat and its oldest reconcile."""

    def __init__(self, *, longest_running: Callable[[], float], clock: Callable[[], float]) -> None:
        self._longest_running = longest_running
        self._clock = clock
        self._last_beat = clock()
        self.lag = 0.0  # seconds by which the last heartbeat was late

    def beat(self) -> None:
        """Note that the event loop came round."""
        now = self._clock()
        self.lag = max(0.0, now - self._last_beat - HEARTBEAT_SECONDS)
        self._last_beat = now

    def complaint(self) -> str | None:
        """What is wrong, None when all is well."""
        lag = max(self.lag, self._clock() - self._last_beat - HEARTBEAT_SECONDS)
        if lag > LONGEST_LAG_SECONDS:
            return f"the event loop is {lag:.1f} s late"
        running = self._longest_running()
        if running > LONGEST_RECONCILE_SECONDS:
            return f"a reconcile has been running for {running:.0f} s"
        return None

    async def run(self, publish: Callable[[float], None]) -> None:
        """Beat for ever; `publish` gets each lag in seconds."""
        while True:
            await asyncio.sleep(HEARTBEAT_SECONDS)
            self.beat()
            publish(self.lag)


async def serve_health(port: int, *, watchdog: Watchdog) -> web.AppRunner:
    """Serve /healthz and /readyz; both say what is wrong with status 503."""

    async def answer(_: web.Request) -> web.Response:
        complaint = watchdog.complaint()
        return web.Response(status=503 if complaint else 200, text=complaint or "ok")

    return await _serve(port, {"/healthz": answer, "/readyz": answer})


async def serve_metrics(port: int, *, registry: CollectorRegistry) -> web.AppRunner:
    """Serve /metrics in Prometheus' text format."""

    async def answer(_: web.Request) -> web.Response:
        headers = {"Content-Type": CONTENT_TYPE_LATEST}
        return web.Response(body=generate_latest(registry), headers=headers)

    return await _serve(port, {"/metrics": answer})


async def _serve(
    port: int, routes: dict[str, Callable[[web.Request], Awaitable[web.Response]]]
) -> web.AppRunner:
    app = web.Application()
    for path, handler in routes.items():
        app.router.add_get(path, handler)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, port=port).start()
    return runner
