"""The test plays the Job controller, the kubelet and the trainer, on the real API.

For each Job it creates the pods of its template, lets them run, and ends them as the script says,
with the statuses and conditions that the real controllers write. It keeps no memory but for what
it tells the test, so it goes on wherever the world stands.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from dev.cluster.api import Api, ApiError
from finetune_operator.constants import LABEL_ATTEMPT
from finetune_trainer.contract import Termination

Object = dict[str, Any]
INDEX = "batch.kubernetes.io/job-completion-index"
NODE = "node-1"


@dataclass(frozen=True)
class Ending:
    """How all pods of a Job end. `records` go to the termination log of each rank."""

    exit_code: int = 0
    record: Termination | None = None
    disrupted: bool = False
    pods_vanish: bool = False  # the Job controller deletes the pods of a failed Job


Script = Callable[[str], Ending | None]  # attempt label -> ending, None: keep it running


@dataclass
class JobController:
    """Works on one namespace in a thread of its own until stopped."""

    api: Api
    namespace: str
    script: Script
    pod_address: str = "127.0.0.1"
    seen: dict[str, set[str]] = field(default_factory=dict)  # Job name -> uids, over all time
    attempts: dict[str, Object] = field(default_factory=dict)  # attempt label -> newest Job
    errors: list[BaseException] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._jobs = f"/apis/batch/v1/namespaces/{self.namespace}/jobs"
        self._pods = f"/api/v1/namespaces/{self.namespace}/pods"

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(30)

    def _run(self) -> None:
        while not self._stop.wait(0.03):
            try:
                for job in self.api.items(self._jobs):
                    self._step(job)
            except ApiError as error:
                if error.code not in (404, 409):  # the operator deletes while we look
                    self.errors.append(error)
            except BaseException as error:
                self.errors.append(error)
                raise

    def _step(self, job: Object) -> None:
        meta = job["metadata"]
        self.seen.setdefault(meta["name"], set()).add(meta["uid"])
        attempt = meta["labels"][LABEL_ATTEMPT]
        self.attempts[attempt] = job
        if meta.get("deletionTimestamp"):
            self._collect(job)
            return
        status = job.get("status") or {}
        if status.get("completionTime") or _is_true(status, "Failed"):
            return
        if not status.get("startTime"):
            self._start(job)
            return
        ending = self.script(attempt)
        if ending is not None:
            self._end(job, ending)

    def pods_of(self, job: Object) -> list[Object]:
        """The live pods that the Job controls."""
        uid = job["metadata"]["uid"]
        return [
            pod
            for pod in self.api.items(self._pods)
            if any(owner["uid"] == uid for owner in pod["metadata"].get("ownerReferences", ()))
        ]

    # --- start ------------------------------------------------------------------------------------

    def _start(self, job: Object) -> None:
        count = job["spec"]["completions"]
        for index in range(count):
            pod = _pod(job, index)
            self.api.create(self._pods, pod)
            running = {"phase": "Running", "podIP": self.pod_address, **self._addresses()}
            running["containerStatuses"] = [_container({"running": {"startedAt": _now()}})]
            self._pod_status(pod["metadata"]["name"], running)
        self._job_status(job, {"startTime": _now(), "active": count, "ready": count})

    def _addresses(self) -> Object:
        return {"podIPs": [{"ip": self.pod_address}], "startTime": _now()}

    # --- end --------------------------------------------------------------------------------------

    def _end(self, job: Object, ending: Ending) -> None:
        for pod in self.pods_of(job):
            self._end_pod(pod, ending)
        if ending.exit_code == 0:
            self._complete(job)
            return
        reason = "PodFailurePolicy" if ending.disrupted else "BackoffLimitExceeded"
        failed = {"type": "Failed", "reason": reason, "message": "a pod failed"}
        if ending.pods_vanish:
            for pod in self.pods_of(job):
                self.api.request("DELETE", f"{self._pods}/{pod['metadata']['name']}", _AT_ONCE)
        self._finish(job, [{**failed, "type": "FailureTarget"}, failed], {"failed": 1})

    def _end_pod(self, pod: Object, ending: Ending) -> None:
        ended = {
            "exitCode": ending.exit_code,
            "reason": "Completed" if ending.exit_code == 0 else "Error",
            "startedAt": _now(),
            "finishedAt": _now(),
        }
        if ending.record is not None:
            ended["message"] = ending.record.to_log()
        status: Object = {
            "phase": "Succeeded" if ending.exit_code == 0 else "Failed",
            "containerStatuses": [_container({"terminated": ended})],
        }
        if ending.disrupted:
            condition = {"type": "DisruptionTarget", "status": "True", "reason": "EvictionByAPI"}
            status["conditions"] = [{**condition, "lastTransitionTime": _now()}]
        self._pod_status(pod["metadata"]["name"], status)

    def _complete(self, job: Object) -> None:
        count = job["spec"]["completions"]
        done = {
            "reason": "CompletionsReached",
            "message": "Reached expected number of succeeded pods",
        }
        conditions = [{"type": "SuccessCriteriaMet", **done}, {"type": "Complete", **done}]
        indexes = "0" if count == 1 else f"0-{count - 1}"
        self._finish(
            job,
            conditions,
            {"succeeded": count, "completedIndexes": indexes, "completionTime": _now()},
        )

    def _finish(self, job: Object, conditions: list[Object], extra: Object) -> None:
        stamped = [
            {**c, "status": "True", "lastTransitionTime": _now(), "lastProbeTime": _now()}
            for c in conditions
        ]
        self._job_status(
            job, {"active": 0, "ready": 0, "terminating": 0, "conditions": stamped, **extra}
        )

    def _collect(self, job: Object) -> None:
        """Play the garbage collector of a foreground deletion: dependents first."""
        for pod in self.pods_of(job):
            self.api.request("DELETE", f"{self._pods}/{pod['metadata']['name']}", _AT_ONCE)
        self.api.merge(
            f"{self._jobs}/{job['metadata']['name']}", {"metadata": {"finalizers": None}}
        )

    def _pod_status(self, name: str, status: Object) -> None:
        self.api.merge(f"{self._pods}/{name}/status", {"status": status})

    def _job_status(self, job: Object, status: Object) -> None:
        self.api.merge(f"{self._jobs}/{job['metadata']['name']}/status", {"status": status})


_AT_ONCE: Object = {"gracePeriodSeconds": 0}


def _pod(job: Object, index: int) -> Object:
    """A pod as the Job controller makes it of the template (its random suffix apart)."""
    meta, template = job["metadata"], job["spec"]["template"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": meta["name"], "uid": meta["uid"]}
    return {
        "metadata": {
            "name": f"{meta['name']}-{index}",
            "labels": {**template["metadata"]["labels"], INDEX: str(index)},
            "annotations": {INDEX: str(index)},
            "ownerReferences": [{**owner, "controller": True, "blockOwnerDeletion": True}],
        },
        "spec": template["spec"],
    }


def _container(state: Object) -> Object:
    return {
        "name": "trainer",
        "image": "trainer",
        "imageID": "",
        "ready": "running" in state,
        "restartCount": 0,
        "state": state,
    }


def _is_true(status: Object, kind: str) -> bool:
    conditions = status.get("conditions") or ()
    return any(c["type"] == kind and c["status"] == "True" for c in conditions)


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def run_config(job: Object) -> Object:
    """The RunConfig that a Job hands to its pods."""
    [container] = job["spec"]["template"]["spec"]["containers"]
    [value] = [e["value"] for e in container["env"] if e["name"] == "FINETUNE_RUN_CONFIG"]
    return dict(json.loads(value))
