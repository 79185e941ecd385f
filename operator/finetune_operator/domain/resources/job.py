"""The batch/v1 Job of a run.

One Job is one run and never restarts anything by itself: with one rank gone a distributed step
cannot finish, so the attempt is the unit of retry and only the operator starts the next one. Its
only failure policy marks disruptions durably; exit codes are read from the pods.
"""

from __future__ import annotations

from typing import Any

from finetune_operator.api.v1alpha1 import FixedSpec
from finetune_operator.constants import LABEL_ATTEMPT, LABEL_ROLE
from finetune_operator.domain.names import (
    PREFLIGHT_ROLE,
    attempt_job_name,
    attempt_selector,
    job_labels,
    preflight_job_name,
)
from finetune_operator.domain.resources.common import metadata
from finetune_operator.domain.resources.pod import build_pod_spec
from finetune_trainer.contract import RunConfig


def build_job(config: RunConfig, *, resolved: FixedSpec, role: str) -> dict[str, Any]:
    """The Job of preflight k or attempt n; `config.attempt` is its number."""
    identity, preflight = config.job, role == PREFLIGHT_ROLE
    if preflight:
        name = preflight_job_name(identity, config.attempt)
        labels = {LABEL_ROLE: role, LABEL_ATTEMPT: f"preflight-{config.attempt}"}
    else:
        name = attempt_job_name(identity, config.attempt)
        labels = {LABEL_ROLE: role, LABEL_ATTEMPT: str(config.attempt)}
    ranks = 1 if preflight else resolved.compute.nodes
    pod = build_pod_spec(config, resolved=resolved, role=role)
    if ranks > 1:
        pod["topologySpreadConstraints"] = [_spread(config)]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": metadata(identity, name, labels=labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": ranks,
            "parallelism": ranks,
            "backoffLimit": 0,
            "podReplacementPolicy": "Failed",
            "podFailurePolicy": {
                "rules": [
                    {
                        "action": "FailJob",
                        "onPodConditions": [{"type": "DisruptionTarget", "status": "True"}],
                    }
                ]
            },
            "template": {
                "metadata": {"labels": {**job_labels(identity), **labels}},
                "spec": pod,
            },
        },
    }


def _spread(config: RunConfig) -> dict[str, Any]:
    """Ranks go to different nodes where there are enough, and share one where there are not."""
    return {
        "maxSkew": 1,
        "topologyKey": "kubernetes.io/hostname",
        "whenUnsatisfiable": "ScheduleAnyway",
        "labelSelector": {"matchLabels": attempt_selector(config.job, config.attempt)},
    }
