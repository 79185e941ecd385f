"""A small Kubernetes that lives in memory: enough of it for a job to be run, broken and repeated.

`look` gathers and `carry_out` executes as the runtime's contract says (`domain/observed.py`,
`domain/actions.py`); everything else is the world playing its part: the Job controller, kubelets,
rank 0, and people with kubectl.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from finetune_operator.domain.actions import (
    Action,
    CreateJob,
    DeleteJob,
    DeletePod,
    EnsureClaim,
    EnsureNetworkPolicy,
    EnsureService,
    Plan,
)
from finetune_operator.domain.observed import Observation, Refusal
from finetune_operator.domain.plan import plan
from finetune_operator.domain.views import child_view, claim_view, job_view, pod_view
from finetune_operator.domain.wanted import wanted
from finetune_trainer.contract import Progress, Termination
from tests.builders import CHILD, IDENTITY, SITE, START, a_claim, a_report, a_spec, stamp

Raw = dict[str, Any]


class Conflict(Exception):
    """The status was written by somebody else in between."""


@dataclass
class World:
    """One FineTuneJob and its children."""

    spec: Raw = field(default_factory=a_spec)
    status: Raw = field(default_factory=dict)
    version: int = 0
    now: datetime = START
    generation: int = 1
    deleting: bool = False
    jobs: dict[str, Raw] = field(default_factory=dict)
    pods: dict[str, Raw] = field(default_factory=dict)
    remembered: dict[str, Raw] = field(default_factory=dict)  # by the operator's pod watch
    claims: dict[str, Raw] = field(default_factory=lambda: {"inputs": a_claim("inputs")})
    services: dict[str, Raw] = field(default_factory=dict)
    policies: dict[str, Raw] = field(default_factory=dict)
    progress: Progress | None = None
    refusal: Refusal | None = None  # no Job can be created as long as it is set
    created: list[str] = field(default_factory=list)  # names of Jobs, in order
    writes: int = 0
    told: list[str] = field(default_factory=list)  # reasons of events, in order
    _uids: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    # --- the operator's side ----------------------------------------------------------------------

    def look(self) -> tuple[Observation, int]:
        """Gather; also the resourceVersion that the status was read at."""
        want = wanted(IDENTITY, self.status)
        job = self.jobs.get(want.job or "")
        claims = {
            name: claim_view(self.claims[name]) for name in want.claims if name in self.claims
        }
        service = self.services.get(want.service or "")
        policy = self.policies.get(want.network_policy or "")
        heard = want.attempt is not None and self.progress is not None
        seen = Observation(
            now=self.now,
            identity=IDENTITY,
            generation=self.generation,
            spec=copy.deepcopy(self.spec),
            status=copy.deepcopy(self.status),
            site=SITE,
            deleting=self.deleting,
            job=job_view(job) if job else None,
            pods=tuple(self._pod_views(dict(want.pod_labels))),
            claims=claims,
            service=child_view(service) if service else None,
            network_policy=child_view(policy) if policy else None,
            progress=self.progress if heard else None,
            refusal=self.refusal,
        )
        return seen, self.version

    def write_status(self, status: Raw, *, version: int) -> None:
        if version != self.version:
            raise Conflict
        self.status = copy.deepcopy(status)
        self.version += 1
        self.writes += 1

    def carry_out(self, plan: Plan, *, version: int, stop_after: int | None = None) -> None:
        """Execute; `stop_after` API calls the operator dies."""
        calls = 0
        if plan.status is not None:
            if stop_after is not None and calls >= stop_after:
                return
            self.write_status(plan.status, version=version)
            calls += 1
        for action in plan.actions:
            if stop_after is not None and calls >= stop_after:
                return
            self.act(action)
            calls += 1

    def operate(self) -> Plan:
        """Passes until there is nothing to do while the world stands still; the last plan."""
        for _ in range(10):
            seen, version = self.look()
            made = plan(seen)
            if made.status is None and not made.actions:
                return made
            self.carry_out(made, version=version)
            self.told += [event.reason for event in made.events]
        raise AssertionError("no fix point while the world stands still")

    def act(self, action: Action) -> None:
        match action:
            case EnsureClaim(manifest):
                self.claims.setdefault(manifest["metadata"]["name"], manifest)
            case EnsureService(manifest):
                self.services.setdefault(manifest["metadata"]["name"], manifest)
            case EnsureNetworkPolicy(manifest):
                self.policies.setdefault(manifest["metadata"]["name"], manifest)
            case CreateJob(manifest):
                self._create_job(manifest)
            case DeleteJob(name, uid):
                if name in self.jobs and self.jobs[name]["metadata"]["uid"] == uid:
                    self.jobs[name]["metadata"]["deletionTimestamp"] = stamp(self.now)
            case DeletePod(name, uid):
                if name in self.pods and self.pods[name]["metadata"]["uid"] == uid:
                    self.pods[name]["metadata"]["deletionTimestamp"] = stamp(self.now)

    # --- the cluster's side -----------------------------------------------------------------------

    def refuse(self, message: str) -> None:
        """From now on the API server takes no Job."""
        self.refusal = Refusal(message, since=self.now)

    def pass_time(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def live_jobs(self) -> list[Raw]:
        """Jobs that neither succeeded nor failed."""
        return [job for job in self.jobs.values() if not job_view(job).conditions]

    def live_pods(self) -> list[Raw]:
        return [pod for pod in self.pods.values() if not pod_view(pod).ended]

    def start_pods(self, job: Raw) -> None:
        for rank in range(job["spec"]["parallelism"]):
            name = f"{job['metadata']['name']}-{rank}"
            if name in self.pods:
                continue
            labels = job["spec"]["template"]["metadata"]["labels"]
            self.pods[name] = {
                "metadata": {
                    "name": name,
                    "uid": f"pod-{next(self._uids)}",
                    "labels": {**labels, "batch.kubernetes.io/job-completion-index": str(rank)},
                    "ownerReferences": [{"uid": job["metadata"]["uid"], "controller": True}],
                },
                "spec": {"nodeName": "node-a"},
                "status": {
                    "phase": "Running",
                    "containerStatuses": [{"name": "trainer", "state": {"running": {}}}],
                },
            }

    def end_pod(self, pod: Raw, code: int, record: Termination | None = None) -> None:
        ended: Raw = {"exitCode": code, "reason": "Error" if code else "Completed"}
        if record is not None:
            ended["message"] = record.to_log()
        pod["status"] = {
            **pod["status"],
            "phase": "Failed" if code else "Succeeded",
            "containerStatuses": [{"name": "trainer", "state": {"terminated": ended}}],
        }

    def vanish(self, pod: Raw, *, watched: bool) -> None:
        """The pod object goes; the operator's watch may have seen it end, or not."""
        uid = pod["metadata"]["uid"]
        if watched and pod_view(pod).ended:
            self.remembered[uid] = pod
        self.pods = {n: p for n, p in self.pods.items() if p["metadata"]["uid"] != uid}

    def settle(self, job: Raw) -> None:
        """The Job controller looks at a Job: success, failure, or its deletion going on."""
        view = job_view(job)
        pods = [p for p in self.pods.values() if pod_view(p).job_uid == view.uid]
        if view.deleting:
            for pod in pods:
                self.vanish(pod, watched=False)
            del self.jobs[view.name]
            return
        if "FailureTarget" in view.conditions and "Failed" not in view.conditions:
            for pod in pods:
                if not pod_view(pod).ended:
                    pod["metadata"]["deletionTimestamp"] = stamp(self.now)
                    self.end_pod(pod, 76)
            self._condition(job, "Failed", view.reason)
            return
        views = [pod_view(pod) for pod in pods]
        if len(views) == job["spec"]["parallelism"] and all(v.exit_code == 0 for v in views):
            self._condition(job, "SuccessCriteriaMet")
            self._condition(job, "Complete")
        elif any(v.disrupted and v.ended for v in views):
            self._condition(job, "FailureTarget", "PodFailurePolicy")
        elif any(v.phase == "Failed" for v in views):
            self._condition(job, "FailureTarget", "BackoffLimitExceeded")

    def lose_started_pods(self, job: Raw) -> None:
        """Pods that vanish while they run count as failed."""
        if not job_view(job).conditions:
            self._condition(job, "FailureTarget", "BackoffLimitExceeded")

    def _condition(self, job: Raw, kind: str, reason: str = "") -> None:
        job["status"].setdefault("conditions", []).append(
            {
                "type": kind,
                "status": "True",
                "reason": reason,
                "lastTransitionTime": stamp(self.now),
            }
        )

    def _create_job(self, manifest: Raw) -> None:
        name = manifest["metadata"]["name"]
        if name in self.jobs or self.refusal:
            return
        job = copy.deepcopy(manifest)
        job["metadata"]["uid"] = f"job-{next(self._uids)}"
        job["status"] = {"startTime": stamp(self.now)}
        self.jobs[name] = job
        self.created.append(name)

    def _pod_views(self, labels: dict[str, str]) -> Iterator[Any]:
        live = list(self.pods.values())
        known = {pod["metadata"]["uid"] for pod in live}
        lost = [pod for uid, pod in self.remembered.items() if uid not in known]
        for pods, gone in ((live, False), (lost, True)):
            for pod in pods:
                if labels and labels.items() <= pod["metadata"]["labels"].items():
                    yield pod_view(pod, gone=gone)

    # --- what tests ask ---------------------------------------------------------------------------

    def job(self, suffix: str) -> Raw:
        """The Job named `<child name>-<suffix>`."""
        return self.jobs[f"{CHILD}-{suffix}"]

    def pod(self, suffix: str, rank: int = 0) -> Raw:
        return self.pods[f"{CHILD}-{suffix}-{rank}"]

    def run_ends(self, suffix: str, code: int, record: Termination | None = None) -> None:
        """All pods of a Job run and end alike, the Job controller follows, and so do we."""
        job = self.job(suffix)
        self.start_pods(job)
        for rank in range(job["spec"]["parallelism"]):
            self.end_pod(self.pod(suffix, rank), code, record)
        while not {"Failed", "Complete"} & job_view(job).conditions:
            self.settle(job)
        self.operate()

    def condition(self, kind: str) -> Raw | None:
        found = (c for c in self.status.get("conditions", []) if c["type"] == kind)
        return next(found, None)

    @property
    def finished(self) -> bool:
        succeeded = self.condition("Succeeded")
        return succeeded is not None and succeeded["status"] != "Unknown"


def world_in_attempt_1(**spec: Any) -> World:
    """Preflight has passed and the Job of attempt 1 exists, without pods."""
    world = World(spec=a_spec(**spec))
    world.operate()
    world.run_ends("preflight-1", 0, a_report())
    return world


def running_world(**spec: Any) -> World:
    """All ranks of attempt 1 run."""
    world = world_in_attempt_1(**spec)
    world.start_pods(world.job("1"))
    world.operate()
    return world
