"""The workspace claim that a job creates when the user names none."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.v1alpha1 import FixedSpec, Workspace
from finetune_operator.domain.names import child_name
from finetune_operator.domain.resources.common import metadata
from finetune_trainer.contract import JobIdentity

SHARED_MODE = "ReadWriteMany"


def build_claim(identity: JobIdentity, resolved: FixedSpec) -> dict[str, Any]:
    """Results outlive jobs: only `retain: false` gives the claim an owner.

    One node asks for ReadWriteOnce, which every storage class offers; several share one volume.
    """
    workspace = resolved.workspace or Workspace()
    spec: dict[str, Any] = {
        "accessModes": [SHARED_MODE if resolved.compute.nodes > 1 else "ReadWriteOnce"],
        "resources": {"requests": {"storage": workspace.size}},
    }
    if workspace.storage_class_name is not None:
        spec["storageClassName"] = workspace.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": metadata(identity, child_name(identity), owned=workspace.retain is False),
        "spec": spec,
    }
