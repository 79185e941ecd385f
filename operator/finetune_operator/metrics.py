"""What the operator tells Prometheus: one registry, fed by the code that does the deed.

Labels are bounded (no job, pod or namespace names). The queue's and the reconciler's metrics mirror
controller-runtime's, so that dashboards and habits carry over. Counters move after the deed.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Mapping
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from finetune_operator import __version__
from finetune_operator.kube.requests import Request

PREFIX: Final = "finetune_operator"
MOST_REASONS: Final = 50  # label values: some come from the trainer's termination record
_SHORT: Final = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
_LONG: Final = (10, 30, 60, 120, 300, 600, 1800, 3600, 2 * 3600, 6 * 3600, 24 * 3600)


class Metrics:
    """All metrics. Also the observer of queue and client (see `QueueObserver`, `Observer`)."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        self._queue_metrics()
        self._reconcile_metrics()
        self._process_metrics()
        self._job_metrics()

    def _queue_metrics(self) -> None:
        name = f"{PREFIX}_workqueue"
        self.depth = Gauge(f"{name}_depth", "Keys that wait.", registry=self.registry)
        self.adds = Counter(f"{name}_adds", "Keys queued.", registry=self.registry)
        self.retries = Counter(
            f"{name}_retries", "Keys queued again after a failure.", registry=self.registry
        )
        self.queue_time = Histogram(
            f"{name}_queue_duration_seconds",
            "Time from queued to handed out.",
            buckets=_SHORT,
            registry=self.registry,
        )
        self.work_time = Histogram(
            f"{name}_work_duration_seconds",
            "Time from handed out to done.",
            buckets=_SHORT,
            registry=self.registry,
        )
        self.unfinished = Gauge(
            f"{name}_unfinished_work_seconds",
            "Sum of the ages of the works in progress.",
            registry=self.registry,
        )
        self.longest = Gauge(
            f"{name}_longest_running_processor_seconds",
            "Age of the oldest work in progress.",
            registry=self.registry,
        )

    def _reconcile_metrics(self) -> None:
        self.reconciles = Counter(
            f"{PREFIX}_reconcile",
            "Reconciles by result: success, requeue, requeue_after, conflict or error.",
            ["result"],
            registry=self.registry,
        )
        self.reconcile_time = Histogram(
            f"{PREFIX}_reconcile_time_seconds",
            "Time of a reconcile.",
            buckets=_SHORT,
            registry=self.registry,
        )
        self.active_workers = Gauge(
            f"{PREFIX}_active_workers", "Reconciles in progress.", registry=self.registry
        )
        self.workers = Gauge(
            f"{PREFIX}_max_concurrent_reconciles",
            "Workers of the queue.",
            registry=self.registry,
        )
        self.requests = Counter(
            f"{PREFIX}_api_requests",
            "Requests to the API server; code 0 means no answer.",
            ["verb", "resource", "code"],
            registry=self.registry,
        )
        self.request_time = Histogram(
            f"{PREFIX}_api_request_duration_seconds",
            "Time of a request to the API server.",
            ["verb", "resource"],
            buckets=_SHORT,
            registry=self.registry,
        )

    def _process_metrics(self) -> None:
        self.leader = Gauge(
            f"{PREFIX}_leader_election_master_status",
            "1 while this process is the leader.",
            registry=self.registry,
        )
        self.loop_lag = Gauge(
            f"{PREFIX}_event_loop_lag_seconds",
            "How late the event loop's last heartbeat was.",
            registry=self.registry,
        )
        self.watch_events = Counter(
            f"{PREFIX}_watch_events",
            "Events received, by resource and type (LISTED: from a list).",
            ["resource", "type"],
            registry=self.registry,
        )
        self.repairs = Counter(
            f"{PREFIX}_resync_repairs",
            "Changes that a sweep found and no event had told.",
            registry=self.registry,
        )
        self.scrapes = Counter(
            f"{PREFIX}_progress_scrapes",
            "Looks at rank 0's /status, by result: ok, unreachable or invalid.",
            ["result"],
            registry=self.registry,
        )
        Info(f"{PREFIX}_build", "Version.", registry=self.registry).info(
            {"version": __version__, "python": platform.python_version()}
        )

    def _job_metrics(self) -> None:
        self.attempts = Counter(
            "finetunejob_attempts",
            "Ended attempts.",
            ["outcome", "reason"],
            registry=self.registry,
        )
        self._reasons: set[str] = set()
        self.lost_steps = Counter(
            "finetunejob_lost_steps",
            "Optimizer steps that were done and have to be done again.",
            registry=self.registry,
        )
        self.time_to_first_step = Histogram(
            "finetunejob_time_to_first_step_seconds",
            "Time from a job's creation to its first optimizer step.",
            buckets=_LONG,
            registry=self.registry,
        )

    # --- observer of the queue ------------------------------------------------------------------

    def added(self, depth: int) -> None:
        """See `QueueObserver.added`."""
        self.adds.inc()
        self.depth.set(depth)

    def started(self, depth: int, waited: float) -> None:
        """See `QueueObserver.started`."""
        self.depth.set(depth)
        self.queue_time.observe(waited)

    def finished(self, worked: float) -> None:
        """See `QueueObserver.finished`."""
        self.work_time.observe(worked)

    def retried(self) -> None:
        """See `QueueObserver.retried`."""
        self.retries.inc()

    # --- observer of the client -----------------------------------------------------------------

    def request_done(self, request: Request, code: int, seconds: float) -> None:
        """Count one request to the API server."""
        resource = request.resource.plural
        self.requests.labels(request.verb, resource, str(code)).inc()
        self.request_time.labels(request.verb, resource).observe(seconds)

    # --- observer of workers and history ---------------------------------------------------------

    def reconcile_started(self) -> None:
        """See `WorkerObserver.reconcile_started`."""
        self.active_workers.inc()

    def reconcile_done(self, result: str, seconds: float) -> None:
        """See `WorkerObserver.reconcile_done`."""
        self.active_workers.dec()
        self.reconciles.labels(result).inc()
        self.reconcile_time.observe(seconds)

    def attempt_ended(self, outcome: str, reason: str, *, steps_lost: int) -> None:
        """See `HistoryObserver.attempt_ended`."""
        if len(self._reasons) < MOST_REASONS:
            self._reasons.add(reason)
        self.attempts.labels(outcome, reason if reason in self._reasons else "Other").inc()
        self.lost_steps.inc(steps_lost)

    def first_step(self, seconds: float) -> None:
        """See `HistoryObserver.first_step`."""
        self.time_to_first_step.observe(seconds)

    # --- live state -----------------------------------------------------------------------------

    def watch_queue(self, *, unfinished: Callable[[], float], longest: Callable[[], float]) -> None:
        """Read the ages of works in progress whenever Prometheus asks."""
        self.unfinished.set_function(unfinished)
        self.longest.set_function(longest)

    def watch_phases(self, count: Callable[[], Mapping[str, int]]) -> None:
        """Export `finetunejob_phase{phase}` from live counts, so that gone jobs leave no series."""
        self.registry.register(_Phases(count))


class _Phases(Collector):
    def __init__(self, count: Callable[[], Mapping[str, int]]) -> None:
        self._count = count

    def collect(self) -> list[GaugeMetricFamily]:
        family = GaugeMetricFamily("finetunejob_phase", "FineTuneJobs by phase.", labels=["phase"])
        for phase, number in sorted(self._count().items()):
            family.add_metric([phase], number)
        return [family]
