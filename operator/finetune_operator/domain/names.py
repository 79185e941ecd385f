"""Names and labels of children: deterministic, so that a repeated creation finds the first one."""

from __future__ import annotations

from typing import Final

from finetune_operator.constants import (
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_ROLE,
    LABEL_UID,
    UID_PREFIX,
)
from finetune_trainer.contract import JobIdentity

PREFLIGHT_ROLE: Final = "preflight"
TRAIN_ROLE: Final = "train"


def child_name(identity: JobIdentity) -> str:
    """`<name>-<uid5>`: the Service, the NetworkPolicy and the created claim."""
    return f"{identity.name}-{identity.uid[:UID_PREFIX]}"


def preflight_job_name(identity: JobIdentity, number: int) -> str:
    """`<name>-<uid5>-preflight-<k>`."""
    return f"{child_name(identity)}-preflight-{number}"


def attempt_job_name(identity: JobIdentity, number: int) -> str:
    """`<name>-<uid5>-<n>`."""
    return f"{child_name(identity)}-{number}"


def job_labels(identity: JobIdentity) -> dict[str, str]:
    """Labels of every child."""
    return {
        "app.kubernetes.io/name": "finetune-trainer",
        "app.kubernetes.io/instance": identity.name,
        "app.kubernetes.io/managed-by": "finetune-operator",
        LABEL_JOB: identity.name,
        LABEL_UID: identity.uid,
    }


def preflight_selector(identity: JobIdentity, number: int) -> dict[str, str]:
    """Labels that only the pods of preflight Job `number` carry."""
    return {
        LABEL_UID: identity.uid,
        LABEL_ROLE: PREFLIGHT_ROLE,
        LABEL_ATTEMPT: f"preflight-{number}",
    }


def attempt_selector(identity: JobIdentity, number: int) -> dict[str, str]:
    """Labels that only the pods of attempt `number` carry."""
    return {LABEL_UID: identity.uid, LABEL_ROLE: TRAIN_ROLE, LABEL_ATTEMPT: str(number)}
