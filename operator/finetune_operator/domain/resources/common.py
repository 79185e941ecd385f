"""What all child objects share: metadata, owner."""

from __future__ import annotations

from typing import Any

from finetune_operator.constants import API_VERSION, KIND
from finetune_operator.domain.names import job_labels
from finetune_trainer.contract import JobIdentity


def metadata(
    identity: JobIdentity, name: str, *, labels: dict[str, str] | None = None, owned: bool = True
) -> dict[str, Any]:
    """Metadata of a child; an owned one is garbage-collected with the FineTuneJob."""
    made: dict[str, Any] = {
        "name": name,
        "namespace": identity.namespace,
        "labels": {**job_labels(identity), **(labels or {})},
    }
    if owned:
        made["ownerReferences"] = [owner_reference(identity)]
    return made


def owner_reference(identity: JobIdentity) -> dict[str, Any]:
    """The FineTuneJob as controller."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "name": identity.name,
        "uid": identity.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
