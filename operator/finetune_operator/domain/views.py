"""Raw API objects -> views. Total: any object that the API server can hold gives a view."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

from pydantic import ValidationError

from finetune_operator.constants import LABEL_UID
from finetune_operator.domain.observed import ChildView, ClaimView, JobView, PodView
from finetune_trainer.contract import Termination

TRAINER_CONTAINER: Final = "trainer"
LABEL_INDEX: Final = "batch.kubernetes.io/job-completion-index"

Raw = Mapping[str, Any]


def parse_time(text: str | None) -> datetime | None:
    """RFC 3339 -> aware datetime; None for nothing and for what is not a time."""
    try:
        return datetime.fromisoformat(text) if text else None
    except ValueError:
        return None


def job_view(raw: Raw) -> JobView:
    """A batch/v1 Job."""
    metadata = raw["metadata"]
    status = raw.get("status") or {}
    true = [c for c in status.get("conditions") or () if c.get("status") == "True"]
    failing = sorted(
        (c for c in true if c["type"] in ("Failed", "FailureTarget")), key=lambda c: str(c["type"])
    )
    told: Raw = failing[0] if failing else {}
    since = failing[-1] if failing else {}
    return JobView(
        name=metadata["name"],
        uid=metadata["uid"],
        owner_uid=_controller_uid(metadata),
        suspended=bool((raw.get("spec") or {}).get("suspend")),
        deleting=bool(metadata.get("deletionTimestamp")),
        started_at=parse_time(status.get("startTime")),
        conditions=frozenset(c["type"] for c in true),
        reason=told.get("reason") or "",
        message=told.get("message") or "",
        condition_since=parse_time(since.get("lastTransitionTime")),
    )


def pod_view(raw: Raw, *, gone: bool = False) -> PodView:
    """A pod of a run; `gone` marks one that only the watch remembers."""
    metadata = raw["metadata"]
    status = raw.get("status") or {}
    conditions = {c["type"]: c for c in status.get("conditions") or ()}
    container = _trainer_container(status)
    state = container.get("state") or {}
    ended: Raw = state.get("terminated") or {}
    return PodView(
        name=metadata["name"],
        uid=metadata["uid"],
        job_uid=_controller_uid(metadata),
        rank=_rank(metadata),
        phase=status.get("phase") or "Pending",
        node=(raw.get("spec") or {}).get("nodeName") or "",
        address=status.get("podIP") or "",
        reason=status.get("reason") or "",
        deleting=bool(metadata.get("deletionTimestamp")),
        disrupted=conditions.get("DisruptionTarget", {}).get("status") == "True",
        started="running" in state or "terminated" in state,
        waiting=_waiting(state, conditions),
        exit_code=ended.get("exitCode"),
        container_reason=ended.get("reason") or "",
        finished_at=parse_time(ended.get("finishedAt")),
        termination=_termination(ended.get("message")),
        gone=gone,
    )


def claim_view(raw: Raw) -> ClaimView:
    """A PersistentVolumeClaim."""
    metadata = raw["metadata"]
    return ClaimView(
        name=metadata["name"],
        access_modes=tuple((raw.get("spec") or {}).get("accessModes") or ()),
        job_uid=(metadata.get("labels") or {}).get(LABEL_UID, ""),
    )


def child_view(raw: Raw) -> ChildView:
    """A Service or NetworkPolicy."""
    return ChildView(name=raw["metadata"]["name"], owner_uid=_controller_uid(raw["metadata"]))


def _controller_uid(metadata: Raw) -> str:
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            return str(owner["uid"])
    return ""


def _rank(metadata: Raw) -> int | None:
    for values in (metadata.get("annotations"), metadata.get("labels")):
        text = (values or {}).get(LABEL_INDEX, "")
        if text.isdecimal():
            return int(text)
    return None


def _trainer_container(status: Raw) -> Raw:
    for container in status.get("containerStatuses") or ():
        if container.get("name") == TRAINER_CONTAINER:
            return container  # type: ignore[no-any-return]
    return {}


def _waiting(state: Raw, conditions: Mapping[str, Raw]) -> str:
    scheduled = conditions.get("PodScheduled", {})
    cause = scheduled if scheduled.get("status") == "False" else state.get("waiting") or {}
    words = (cause.get("reason") or "", cause.get("message") or "")
    return ": ".join(word for word in words if word)


def _termination(message: str | None) -> Termination | None:
    try:
        return Termination.from_json(message) if message else None
    except ValidationError:
        return None
