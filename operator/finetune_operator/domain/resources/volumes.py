"""Where a pod finds things: workspace, sources, scratch space, shared memory."""

from __future__ import annotations

from typing import Any, Final

from finetune_operator.api.v1alpha1 import FixedSpec
from finetune_operator.domain.sources import (
    source_claims,
    source_config_maps,
    workspace_claim,
)
from finetune_trainer.contract import SOURCES_MOUNT, WORKSPACE_MOUNT, JobIdentity

TEMPORARY: Final = "tmp"
SHARED_MEMORY: Final = "shm"


def volumes(identity: JobIdentity, resolved: FixedSpec, *, training: bool) -> list[dict[str, Any]]:
    """The pod's volumes. A claim that is workspace and source at once is one volume."""
    memory: dict[str, Any] = {"medium": "Memory"}
    if training and resolved.compute.shared_memory:
        memory["sizeLimit"] = resolved.compute.shared_memory
    return [
        *(
            {"name": name, "persistentVolumeClaim": {"claimName": claim}}
            for claim, name in _claim_volumes(identity, resolved).items()
        ),
        *(
            {"name": name, "configMap": {"name": config_map}}
            for config_map, name in _config_map_volumes(resolved).items()
        ),
        {"name": TEMPORARY, "emptyDir": {}},
        {"name": SHARED_MEMORY, "emptyDir": memory},
    ]


def mounts(identity: JobIdentity, resolved: FixedSpec) -> list[dict[str, Any]]:
    """The container's mounts: the workspace writable, every source read-only."""
    claims = _claim_volumes(identity, resolved)
    workspace: dict[str, Any] = {
        "name": claims[workspace_claim(identity, resolved)],
        "mountPath": WORKSPACE_MOUNT,
    }
    if resolved.workspace and resolved.workspace.sub_path:
        workspace["subPath"] = resolved.workspace.sub_path
    return [
        workspace,
        *(
            _source(claims[claim], f"{SOURCES_MOUNT}/pvc/{claim}")
            for claim in source_claims(resolved)
        ),
        *(
            _source(name, f"{SOURCES_MOUNT}/configmap/{config_map}")
            for config_map, name in _config_map_volumes(resolved).items()
        ),
        {"name": TEMPORARY, "mountPath": "/tmp"},
        {"name": SHARED_MEMORY, "mountPath": "/dev/shm"},
    ]


def _source(name: str, path: str) -> dict[str, Any]:
    return {"name": name, "mountPath": path, "readOnly": True}


def _claim_volumes(identity: JobIdentity, resolved: FixedSpec) -> dict[str, str]:
    """Claim -> volume name. Claim names may hold dots, volume names may not."""
    claims = {workspace_claim(identity, resolved): "workspace"}
    for place, claim in enumerate(source_claims(resolved)):
        claims.setdefault(claim, f"claim-{place}")
    return claims


def _config_map_volumes(resolved: FixedSpec) -> dict[str, str]:
    found = source_config_maps(resolved)
    return {config_map: f"config-map-{place}" for place, config_map in enumerate(found)}
