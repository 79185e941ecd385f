"""What the operator saw: the only input of a decision.

Contract with the gatherer. For one FineTuneJob it fetches, live and in this order:

1. the FineTuneJob itself; its `status` is the only memory and the basis of every decision;
2. what `wanted.wanted(...)` names for that status: the Job of the current run (preflight or
   attempt), the claims, the Service and the NetworkPolicy (these while they may have to be made).
   What does not exist is absent from the observation; a failed request aborts the pass, because
   absence must be known, never guessed;
3. the pods that carry `Wanted.pod_labels`. Pods of the run that the watch saw end and that the list
   no longer holds are added with `gone=True`, because the Job controller deletes the other pods of
   a failed Job and with them their termination records;
4. rank 0's `Progress`, last and only for a training run. A scrape that failed leaves the newest one
   known for that attempt, or None: silence is never evidence;
5. the `Refusal`, if the API server refused what the newest decisions asked for. It is remembered
   from pass to pass and forgotten with the first pass whose actions all succeed.

Raw API objects become views by `views.py`; nothing else of them is looked at.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finetune_trainer.contract import JobIdentity, Progress, Termination


@dataclass(frozen=True, slots=True)
class Site:
    """What the installation decides for all jobs.

    `operator_namespace` is where the pods live that may read rank 0's port. A running job is looked
    at every `scrape_seconds` and its progress written at most once per `progress_seconds`.
    """

    trainer_image: str
    operator_namespace: str
    scrape_seconds: float = 10.0
    progress_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class JobView:
    """A live batch/v1 Job. `owner_uid` is the uid of its controller, "" when it has none.

    `conditions` holds the types of the conditions that are True, `reason` and `message` those of
    the first of Failed and FailureTarget. `started_at` is when it was last un-suspended.
    """

    name: str
    uid: str
    owner_uid: str
    suspended: bool = False
    deleting: bool = False
    started_at: datetime | None = None
    conditions: frozenset[str] = frozenset()
    reason: str = ""
    message: str = ""
    condition_since: datetime | None = None  # transition of the condition that gave `reason`


@dataclass(frozen=True, slots=True)
class PodView:
    """A pod of the current run. `gone`: known from the watch only, no longer in the API.

    `job_uid` is the uid of the Job that made it. `exit_code` and `termination` are those of the
    trainer container; `waiting` says why a container or the scheduler keeps the pod from starting.
    """

    name: str
    uid: str
    job_uid: str = ""
    rank: int | None = None
    phase: str = "Pending"
    node: str = ""
    address: str = ""
    reason: str = ""
    deleting: bool = False
    disrupted: bool = False  # condition DisruptionTarget
    started: bool = False  # the trainer container runs or has run
    waiting: str = ""
    exit_code: int | None = None
    container_reason: str = ""
    finished_at: datetime | None = None
    termination: Termination | None = None
    gone: bool = False

    @property
    def ended(self) -> bool:
        """True when nothing of this pod can still run."""
        return self.gone or self.phase in ("Succeeded", "Failed")


@dataclass(frozen=True, slots=True)
class ClaimView:
    """A PersistentVolumeClaim. `job_uid` is its uid label: whose job created it, "" for others."""

    name: str
    access_modes: tuple[str, ...]
    job_uid: str = ""


@dataclass(frozen=True, slots=True)
class ChildView:
    """A Service or NetworkPolicy. `owner_uid` is the uid of its controller, "" when it has none."""

    name: str
    owner_uid: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API server takes no child of the job: its newest words, and since when it says so."""

    message: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Observation:
    """One look at the world. `now` is aware UTC; `spec` and `status` are the API's dictionaries."""

    now: datetime
    identity: JobIdentity
    generation: int
    spec: Mapping[str, Any]
    status: Mapping[str, Any]
    site: Site
    deleting: bool = False
    job: JobView | None = None
    pods: tuple[PodView, ...] = ()
    claims: Mapping[str, ClaimView] = field(default_factory=dict)
    service: ChildView | None = None
    network_policy: ChildView | None = None
    progress: Progress | None = None
    refusal: Refusal | None = None
