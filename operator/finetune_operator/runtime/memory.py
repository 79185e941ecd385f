"""What the process remembers between reconciles; losing all of it costs time, never correctness.

`Fleet` knows of each job what was last seen and written: enough to drop the echo of our own status
writes, to count phases and to let a sweep find changes that no event told. `PodMemory` keeps how
pods ended, because the Job controller deletes the other pods of a failed Job and with them the
records of what happened. `Refusals` keeps what the API server did not take, until it does.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from finetune_operator.constants import LABEL_JOB, LABEL_UID
from finetune_operator.domain.observed import Refusal
from finetune_operator.runtime.queue import Key

_ENDED_PHASES: Final = ("Succeeded", "Failed")
_NAMES: Final = ("namespace", "name", "uid", "labels", "annotations")
_KEPT: Final = (*_NAMES, "ownerReferences", "deletionTimestamp")  # of a pod's metadata


@dataclass(slots=True)
class _Job:
    seen: str = ""  # resourceVersion of the newest sight, by event or by reading
    written: str = ""  # resourceVersion that our newest status write gave
    phase: str = ""


class Fleet:
    """Last sights of all FineTuneJobs of this process' life."""

    def __init__(self) -> None:
        self._jobs: dict[Key, _Job] = {}

    def saw(self, key: Key, version: str) -> None:
        """The job was seen at this resourceVersion."""
        self._jobs.setdefault(key, _Job()).seen = version

    def wrote(self, key: Key, version: str) -> None:
        """Our status write gave the job this resourceVersion."""
        job = self._jobs.setdefault(key, _Job())
        job.written = version
        job.seen = version

    def decided(self, key: Key, phase: str) -> None:
        """The newest decision put the job into this phase."""
        self._jobs.setdefault(key, _Job()).phase = phase

    def forget(self, key: Key) -> None:
        """The job is gone."""
        self._jobs.pop(key, None)

    def is_echo(self, key: Key, version: str) -> bool:
        """Whether that resourceVersion is our own status write: it tells nothing new."""
        job = self._jobs.get(key)
        return job is not None and job.written == version

    def seen(self, key: Key) -> str:
        """The newest resourceVersion seen, "" when the job is not known."""
        job = self._jobs.get(key)
        return job.seen if job else ""

    def keys(self) -> list[Key]:
        """All known jobs."""
        return list(self._jobs)

    def count_phases(self) -> Mapping[str, int]:
        """Number of jobs per phase."""
        return Counter(job.phase for job in self._jobs.values() if job.phase)


class Refusals:
    """What the API server refuses to do for each job, with the time of the first refusal."""

    def __init__(self) -> None:
        self._newest: dict[Key, tuple[str, Refusal]] = {}  # with the job's uid

    def note(self, key: Key, *, uid: str, message: str, now: datetime) -> None:
        """The actions for this job were refused, perhaps once more. `now` is aware."""
        known = self.recall(key, uid=uid)
        self._newest[key] = (uid, Refusal(message, since=known.since if known else now))

    def recall(self, key: Key, *, uid: str) -> Refusal | None:
        """The newest refusal, None when the last actions were done."""
        owner, refusal = self._newest.get(key, ("", None))
        return refusal if owner == uid else None

    def forget(self, key: Key) -> None:
        """The actions were done, or the job is gone."""
        self._newest.pop(key, None)


class PodMemory:
    """The last state of pods that ended, by uid, until their run is history."""

    def __init__(self) -> None:
        self._pods: dict[str, dict[str, dict[str, Any]]] = {}  # job uid -> pod uid -> pod

    def note(self, pod: Mapping[str, Any]) -> None:
        """Remember the pod if it has ended; called with every event about it."""
        if not has_ended(pod):
            return
        metadata = pod["metadata"]
        job_uid = metadata.get("labels", {}).get(LABEL_UID)
        if job_uid:
            self._pods.setdefault(job_uid, {})[metadata["uid"]] = _essence(pod)

    def recall(
        self, job_uid: str, *, labels: Mapping[str, str], known: Iterable[str]
    ) -> list[dict[str, Any]]:
        """Ended pods with these labels except the `known` uids; others of the job are dropped."""
        mine = {
            uid: pod
            for uid, pod in self._pods.pop(job_uid, {}).items()
            if labels.items() <= pod["metadata"]["labels"].items()
        }
        if mine:
            self._pods[job_uid] = mine
        skipped = set(known)
        return [pod for uid, pod in sorted(mine.items()) if uid not in skipped]

    def forget(self, job_uid: str) -> None:
        """The job is finished."""
        self._pods.pop(job_uid, None)

    def forget_former(self, key: Key, *, job_uid: str) -> None:
        """Only `job_uid` has that name now, "" when no job has: pods may end after their job."""
        for uid, pods in list(self._pods.items()):
            if uid != job_uid and any(_owner(pod) == key for pod in pods.values()):
                del self._pods[uid]

    def __len__(self) -> int:
        return sum(len(pods) for pods in self._pods.values())


def has_ended(pod: Mapping[str, Any]) -> bool:
    """Whether nothing of the pod runs any more: its phase, or every container's state, says so."""
    status = pod.get("status") or {}
    if status.get("phase") in _ENDED_PHASES:
        return True
    containers = status.get("containerStatuses") or ()
    return bool(containers) and all("terminated" in (c.get("state") or {}) for c in containers)


def _owner(pod: Mapping[str, Any]) -> Key:
    metadata = pod["metadata"]
    return Key(metadata["namespace"], metadata["labels"].get(LABEL_JOB, ""))


def _essence(pod: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a pod that decisions look at: the rest is large and would be kept for nothing."""
    metadata = pod["metadata"]
    return {
        "metadata": {key: metadata[key] for key in _KEPT if key in metadata},
        "spec": {"nodeName": (pod.get("spec") or {}).get("nodeName", "")},
        "status": dict(pod.get("status") or {}),
    }
