"""The pod of a rank: Pod Security "restricted", no credentials, its wish in one variable."""

from __future__ import annotations

import re
from typing import Any, Final

from finetune_operator.api.v1alpha1 import Compute, FixedSpec
from finetune_operator.constants import TRAINER_UID
from finetune_operator.domain.names import PREFLIGHT_ROLE, child_name
from finetune_operator.domain.resources.volumes import mounts, volumes
from finetune_operator.domain.views import TRAINER_CONTAINER
from finetune_trainer.contract import RUN_CONFIG_VARIABLE, STATUS_PORT, RunConfig

# Reading a tokenizer and some rows; what the user sets replaces it, as request and as limit.
PREFLIGHT_REQUESTS: Final = {"cpu": "500m", "memory": "1Gi"}

_CPU: Final = re.compile(r"(?P<number>[0-9]+(\.[0-9]+)?)(?P<milli>m?)")

ENVIRONMENT: Final = {
    "HOME": "/tmp",  # the only writable place besides the workspace
    "USER": "trainer",  # the image has no passwd entry for the uid; getpass asks for one
    "HF_HUB_OFFLINE": "1",
    "HF_DATASETS_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "PYTHONUNBUFFERED": "1",
    "PYTHONDONTWRITEBYTECODE": "1",
}


def build_pod_spec(config: RunConfig, *, resolved: FixedSpec, role: str) -> dict[str, Any]:
    """The pod template's spec; `role` is also the launcher's argument."""
    compute, training = resolved.compute, role != PREFLIGHT_ROLE
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": config.termination_grace_seconds,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": TRAINER_UID,
            "runAsGroup": TRAINER_UID,
            "fsGroup": TRAINER_UID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [_container(config, resolved, role)],
        "volumes": volumes(config.job, resolved, training=training),
    }
    if training and compute.nodes > 1:
        spec["subdomain"] = child_name(config.job)
    if training and compute.priority_class_name:
        spec["priorityClassName"] = compute.priority_class_name
    if compute.node_selector:
        spec["nodeSelector"] = dict(compute.node_selector)
    if compute.tolerations:
        spec["tolerations"] = [toleration.to_dict() for toleration in compute.tolerations]
    if compute.image_pull_secrets:
        spec["imagePullSecrets"] = [secret.to_dict() for secret in compute.image_pull_secrets]
    return spec


def _container(config: RunConfig, resolved: FixedSpec, role: str) -> dict[str, Any]:
    training = role != PREFLIGHT_ROLE
    environment = {RUN_CONFIG_VARIABLE: _verbatim(config), **ENVIRONMENT}
    if threads := _threads(config, resolved.compute, training=training):
        environment["OMP_NUM_THREADS"] = str(threads)
    container: dict[str, Any] = {
        "name": TRAINER_CONTAINER,
        "image": config.image,
        "args": [role],
        "env": [{"name": name, "value": value} for name, value in environment.items()],
        "resources": _resources(resolved.compute, training=training),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "terminationMessagePolicy": "File",
        "volumeMounts": mounts(config.job, resolved),
    }
    if training:
        container["ports"] = [{"name": "metrics", "containerPort": STATUS_PORT}]
    return container


def _verbatim(config: RunConfig) -> str:
    """JSON without a dollar sign: the kubelet would expand `$(NAME)` and halve `$$` in a prompt."""
    return config.to_json().replace("$", "\\u0024")


def _resources(compute: Compute, *, training: bool) -> dict[str, Any]:
    if not training:
        preflight = compute.preflight
        asked = _asked(preflight.cpu, preflight.memory) if preflight else {}
        requests = {**PREFLIGHT_REQUESTS, **asked}
        return {"requests": requests, "limits": asked} if asked else {"requests": requests}
    asked = _asked(compute.cpu, compute.memory)
    if compute.gpus_per_node:
        asked[compute.gpu_resource_name] = str(compute.gpus_per_node)
    return {"requests": asked, "limits": dict(asked)} if asked else {}


def _asked(cpu: str | None, memory: str | None) -> dict[str, str]:
    return {key: value for key, value in (("cpu", cpu), ("memory", memory)) if value is not None}


def _threads(config: RunConfig, compute: Compute, *, training: bool) -> int | None:
    """Compute threads of a process: its share of the CPU limit, so that none fight for cores.

    Left to the runtime when there is no limit.
    """
    preflight = compute.preflight.cpu if compute.preflight else None
    match = _CPU.fullmatch((compute.cpu if training else preflight) or "")
    if match is None:
        return None
    cores = float(match["number"]) / (1000 if match["milli"] else 1)
    return max(1, int(cores) // (config.topology.processes_per_node if training else 1))
