"""Which claims get a volume, which volumes end, and what a volume looks like."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dev.cluster import storage

CLASSES = {
    "standard-rwx": storage.storage_class(),
    "late": {**storage.storage_class(), "volumeBindingMode": "WaitForFirstConsumer"},
    "foreign": {"provisioner": "example.com/other"},
}


def claim(spec: dict[str, Any] | None = None, **metadata: Any) -> dict[str, Any]:
    """A claim of the default class that nothing was done for yet."""
    return {
        "metadata": {"namespace": "team", "name": "data", "uid": "u-1", **metadata},
        "spec": {
            "storageClassName": "standard-rwx",
            "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "20Gi"}},
            **(spec or {}),
        },
    }


SELECTED = {"volume.kubernetes.io/selected-node": "node-1"}


@pytest.mark.parametrize(
    ("case", "want"),
    [
        (claim(), True),
        (claim({"volumeName": "pvc-u-1"}), False),
        (claim({"selector": {"matchLabels": {}}}), False),
        (claim({"storageClassName": "foreign"}), False),
        (claim({"storageClassName": "unknown"}), False),
        (claim({"storageClassName": ""}), False),
        (claim(deletionTimestamp="2026-01-01T00:00:00Z"), False),
        (claim({"storageClassName": "late"}), False),
        (claim({"storageClassName": "late"}, annotations=SELECTED), True),
    ],
    ids=[
        "waits for a volume",
        "bound",
        "wants a certain volume",
        "of another provisioner",
        "of an unknown class",
        "wants no provisioner",
        "being deleted",
        "waits for its first pod",
        "its first pod has a node",
    ],
)
def test_wants_volume(case: dict[str, Any], want: bool) -> None:
    assert storage.wants_volume(case, CLASSES) is want


def volume(phase: str, policy: str = "Delete") -> dict[str, Any]:
    """A volume as the API server returns it some time after it was made."""
    made = storage.volume_for(claim(), CLASSES["standard-rwx"], Path("/v/team-data-u-1"))
    made["spec"]["persistentVolumeReclaimPolicy"] = policy
    return {**made, "status": {"phase": phase}}


def test_only_released_volumes_of_our_own_end() -> None:
    assert storage.is_released(volume("Released"))
    assert not storage.is_released(volume("Bound"))
    assert not storage.is_released(volume("Released", policy="Retain"))
    foreign = volume("Released")
    del foreign["metadata"]["annotations"]
    assert not storage.is_released(foreign)


def test_a_volume_is_bound_to_its_claim_by_uid_and_to_no_node() -> None:
    spec = volume("Bound")["spec"]
    assert spec["claimRef"]["uid"] == "u-1"
    assert spec["hostPath"] == {"path": "/v/team-data-u-1", "type": "Directory"}
    assert spec["accessModes"] == ["ReadWriteMany"]
    assert "nodeAffinity" not in spec
