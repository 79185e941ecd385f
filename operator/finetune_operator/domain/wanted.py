"""Which objects a decision about this job needs to see: the gatherer's shopping list."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from finetune_operator.api.v1alpha1 import FixedSpec
from finetune_operator.domain.names import attempt_selector, child_name, preflight_selector
from finetune_operator.domain.sources import source_claims, workspace_claim
from finetune_trainer.contract import JobIdentity


@dataclass(frozen=True, slots=True)
class Wanted:
    """Names to GET and labels to LIST by; all in the job's namespace.

    `attempt` is the number whose `Progress` counts, None while no training run exists.
    """

    job: str | None = None
    pod_labels: Mapping[str, str] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    service: str | None = None
    network_policy: str | None = None
    attempt: int | None = None


def wanted(identity: JobIdentity, status: Mapping[str, Any]) -> Wanted:
    """What to fetch for a job with this status. Claims and children only until the run exists."""
    attempt = status.get("currentAttempt")
    run = attempt or status.get("preflight")
    if run is None:
        return Wanted()
    creating = not run.get("jobUID")
    shared = child_name(identity) if creating else None
    return Wanted(
        job=run["jobName"],
        pod_labels=(
            attempt_selector(identity, attempt["number"])
            if attempt
            else preflight_selector(identity, run["number"])
        ),
        claims=_claims(identity, status) if creating else (),
        service=shared if attempt else None,
        network_policy=shared,
        attempt=attempt["number"] if attempt else None,
    )


def _claims(identity: JobIdentity, status: Mapping[str, Any]) -> tuple[str, ...]:
    resolved = FixedSpec.model_validate(status["resolved"])
    return tuple(dict.fromkeys((workspace_claim(identity, resolved), *source_claims(resolved))))
