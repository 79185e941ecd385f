"""The operator's process: wiring, leadership, and an orderly end.

A replica that does not lead only waits and answers its probes. The leader works until it is asked
to end (running reconciles finish, the lease is released) or loses the lease (the process exits at
once: somebody else may be acting already).
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import time
from asyncio import FIRST_COMPLETED
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import kopf
import uvloop

from finetune_operator.domain.observed import Site
from finetune_operator.handlers import build_registry, build_settings
from finetune_operator.kube.client import AioTransport, KubeClient
from finetune_operator.kube.lease import Election, LeaseName
from finetune_operator.metrics import Metrics
from finetune_operator.runtime.events import EventRecorder
from finetune_operator.runtime.executor import Executor
from finetune_operator.runtime.gather import Gatherer
from finetune_operator.runtime.health import Watchdog, serve_health, serve_metrics
from finetune_operator.runtime.history import History
from finetune_operator.runtime.intake import Intake
from finetune_operator.runtime.logs import configure_logging
from finetune_operator.runtime.memory import Fleet, PodMemory, Refusals
from finetune_operator.runtime.progress import ProgressBoard
from finetune_operator.runtime.queue import WorkQueue
from finetune_operator.runtime.reconciler import Reconciler
from finetune_operator.runtime.resync import Resync
from finetune_operator.runtime.workers import Workers
from finetune_operator.settings import Settings, read_settings

log = logging.getLogger(__name__)


def utc_now() -> datetime:
    """The wall clock, for what is written into objects."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Operator:
    """The parts that live as long as the process."""

    settings: Settings
    kube: KubeClient
    metrics: Metrics
    election: Election
    watchdog: Watchdog
    workers: Workers
    resync: Resync
    progress: ProgressBoard
    intake: Intake


def build(settings: Settings, transport: AioTransport) -> Operator:
    """Wire everything; starts nothing."""
    metrics = Metrics()
    kube = KubeClient(transport, observe=metrics.request_done)
    queue = WorkQueue(time=asyncio.get_running_loop(), observer=metrics)
    fleet, pods, refusals = Fleet(), PodMemory(), Refusals()
    metrics.watch_queue(
        unfinished=lambda: queue.unfinished_seconds, longest=lambda: queue.longest_running_seconds
    )
    metrics.watch_phases(fleet.count_phases)
    metrics.workers.set(settings.workers)
    progress = ProgressBoard(
        look_seconds=settings.scrape_seconds,
        first_heard=queue.add,
        count=lambda result: metrics.scrapes.labels(result).inc(),
    )
    site = Site(
        settings.trainer_image,
        operator_namespace=settings.lease_namespace,
        scrape_seconds=settings.scrape_seconds,
        progress_seconds=settings.progress_seconds,
    )
    reconciler = Reconciler(
        kube,
        gatherer=Gatherer(
            kube, site=site, pods=pods, progress=progress, refusals=refusals, now=utc_now
        ),
        executor=Executor(kube),
        recorder=EventRecorder(kube, instance=settings.identity, now=utc_now),
        fleet=fleet,
        pods=pods,
        progress=progress,
        refusals=refusals,
        history=History(metrics, now=utc_now),
    )
    return Operator(
        settings=settings,
        kube=kube,
        metrics=metrics,
        election=Election(
            kube,
            LeaseName(
                settings.lease_namespace,
                settings.lease_name,
                identity=settings.identity,
                seconds=settings.lease_seconds,
            ),
        ),
        watchdog=Watchdog(
            longest_running=lambda: queue.longest_running_seconds, clock=time.monotonic
        ),
        workers=Workers(queue, reconciler.reconcile, count=settings.workers, observer=metrics),
        resync=Resync(
            kube,
            queue=queue,
            fleet=fleet,
            namespaces=settings.namespaces,
            count_repair=metrics.repairs.inc,
        ),
        progress=progress,
        intake=Intake(
            queue,
            fleet=fleet,
            pods=pods,
            count=lambda resource, kind: metrics.watch_events.labels(resource, kind).inc(),
        ),
    )


async def run(settings: Settings) -> int:
    """Serve probes, become leader, lead; returns the process' exit code."""
    stop = asyncio.Event()
    catch_signals(stop)
    operator = build(settings, await AioTransport.connect())
    servers = [
        await serve_health(settings.health_port, watchdog=operator.watchdog),
        await serve_metrics(settings.metrics_port, registry=operator.metrics.registry),
    ]
    heartbeat = asyncio.create_task(operator.watchdog.run(operator.metrics.loop_lag.set))
    try:
        if not await first_of(stop.wait(), operator.election.acquire()):
            return 0
        log.info("leading as %s", settings.identity)
        operator.metrics.leader.set(1)
        return await lead(operator, stop)
    finally:
        heartbeat.cancel()
        await operator.progress.close()
        await operator.election.release()
        await operator.kube.close()
        for server in servers:
            await server.cleanup()


async def lead(operator: Operator, stop: asyncio.Event) -> int:
    """Work until asked to stop (0) or until a part ends that never should (1)."""
    settings = operator.settings
    operator.workers.start()
    lease = asyncio.create_task(exit_when_lost(operator.election), name="lease")
    parts = [
        lease,
        asyncio.create_task(operator.resync.run(settings.resync_seconds), name="resync"),
        # Not run_tasks: it may go on for ever when one of these has died, and waits for others'
        # tasks when asked to end. The watches only read; they end with the process.
        *await kopf.spawn_tasks(
            registry=build_registry(operator.intake),
            settings=build_settings(),
            clusterwide=not settings.namespaces,
            namespaces=settings.namespaces,
        ),
    ]
    catch_signals(stop)  # Kopf took them over
    asked = asyncio.create_task(stop.wait(), name="stop")
    done, _ = await asyncio.wait({asked, *parts}, return_when=FIRST_COMPLETED)
    for task in done - {asked}:
        error = None if task.cancelled() else task.exception()
        log.error("%s ended", task.get_name(), exc_info=error)
    await operator.workers.stop()
    lease.cancel()
    return 0 if asked in done else 1


async def exit_when_lost(election: Election) -> None:
    """Keep the lease; without it end the process at once, since another leader may act already."""
    await election.keep()
    log.critical("the lease is lost")
    os._exit(1)


async def first_of(stop: Coroutine[Any, Any, object], work: Coroutine[Any, Any, object]) -> bool:
    """Wait for either; True when `work` ended first. The other one is cancelled."""
    tasks = [asyncio.create_task(stop), asyncio.create_task(work)]
    done, _ = await asyncio.wait(tasks, return_when=FIRST_COMPLETED)
    for task in tasks:
        task.cancel()
    if tasks[1] in done:
        tasks[1].result()
    return tasks[1] in done


def catch_signals(stop: asyncio.Event) -> None:
    """Let SIGTERM and SIGINT ask for an orderly end."""
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)


def main() -> None:
    """Entry point of `finetune-operator`."""
    settings = read_settings(sys.argv[1:], os.environ)
    configure_logging(settings.log_format)
    code = asyncio.Runner(loop_factory=uvloop.new_event_loop).run(run(settings))
    logging.shutdown()
    os._exit(code)  # closing the loop would wait for Kopf's tasks, which may not end


if __name__ == "__main__":
    main()
