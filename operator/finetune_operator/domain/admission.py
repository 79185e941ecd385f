"""The checks before anything runs: deleted, finished, unreadable, not accepted, no workspace."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from finetune_operator.api.v1alpha1 import (
    AUTO,
    ConditionStatus,
    ConditionType,
    FineTuneJobSpec,
    FixedSpec,
    Phase,
    Preflight,
    Reason,
    Workspace,
)
from finetune_operator.domain.decision import (
    Decision,
    bad_news,
    failed,
    fails,
    good_news,
    holds,
    is_open,
)
from finetune_operator.domain.facts import Facts, recorded_time
from finetune_operator.domain.names import preflight_job_name
from finetune_operator.domain.resources.claim import SHARED_MODE
from finetune_operator.domain.runs import cleanup
from finetune_operator.domain.sources import named_claim, source_claims, workspace_claim

DEFAULT_BATCH: Final = 16  # examples per optimizer step
DEFAULT_WORKSPACE: Final = "20Gi"


def being_deleted(facts: Facts) -> Decision | None:
    """Garbage collection removes the children; nothing is created or written any more."""
    if not facts.seen.deleting:
        return None
    return Decision(phase=facts.status.phase or Phase.PENDING, untouched=True)


def finished_is_final(facts: Facts) -> Decision | None:
    """The end is sticky and independent of the children; a Job that still runs is stopped."""
    if not facts.is_finished:
        return None
    succeeded = facts.condition(ConditionType.SUCCEEDED)
    good = succeeded is not None and succeeded.status is ConditionStatus.TRUE
    return Decision(
        phase=Phase.SUCCEEDED if good else Phase.FAILED, actions=cleanup(facts), untouched=True
    )


def spec_invalid(facts: Facts) -> Decision | None:
    """The API server let a spec in that this operator cannot read: say so and wait for an edit."""
    if facts.spec is not None:
        return None
    return Decision(
        phase=Phase.PENDING,
        told=(fails(ConditionType.ACCEPTED, Reason.INVALID_SPEC, facts.spec_problem),),
        events=(bad_news(Reason.INVALID_SPEC, facts.spec_problem),),
    )


def not_accepted(facts: Facts) -> Decision | None:
    """First sight: resolve the defaults once and record preflight 1."""
    if facts.status.resolved is not None or facts.spec is None:
        return None
    return Decision(
        phase=Phase.PREFLIGHT,
        changes={
            "resolved": resolve(facts.spec),
            "preflight": Preflight(
                number=1, job_name=preflight_job_name(facts.seen.identity, number=1)
            ),
            "failures": 0,
            "disruptions": 0,
        },
        told=(
            holds(ConditionType.ACCEPTED, Reason.ACCEPTED),
            is_open(ConditionType.PREFLIGHT_PASSED, Reason.PREFLIGHT_PENDING),
            fails(ConditionType.RUNNING, Reason.NOT_RUNNING),
            fails(ConditionType.CHECKPOINTED, Reason.NO_CHECKPOINT),
            is_open(ConditionType.SUCCEEDED, Reason.IN_PROGRESS),
        ),
        events=(good_news(Reason.ACCEPTED, "the job was accepted; preflight starts"),),
        requeue_after=0,
    )


def claim_missing(facts: Facts) -> Decision | None:
    """A claim that the job names does not exist: wait for it as long as for a start, then fail."""
    run = facts.run
    if run is None or run.job_uid or facts.seen.job is not None:
        return None
    missing = ", ".join(
        f"PersistentVolumeClaim {claim} (spec.{field}) does not exist"
        for claim, field in _needed_claims(facts).items()
        if claim not in facts.seen.claims
    )
    if not missing:
        return None
    if facts.seen.now - _waiting_since(facts) > facts.start_deadline:
        return _refused(facts, missing)
    waits = is_open(ConditionType.PREFLIGHT_PASSED, Reason.PREFLIGHT_PENDING, missing)
    return Decision(
        phase=Phase.PENDING,
        told=() if facts.attempt else (waits,),
        events=(bad_news(Reason.CLAIM_MISSING, missing),),
        requeue_after=facts.seen.site.scrape_seconds,
    )


def workspace_not_shared(facts: Facts) -> Decision | None:
    """Several nodes need a claim that several nodes can write; said before any Job is made."""
    run = facts.run
    if run is None or run.job_uid or facts.resolved.compute.nodes == 1:
        return None
    claim = facts.seen.claims.get(workspace_claim(facts.seen.identity, facts.resolved))
    if claim is None or SHARED_MODE in claim.access_modes:
        return None
    modes = ", ".join(claim.access_modes) or "none"
    return _refused(
        facts,
        f"spec.compute.nodes is {facts.resolved.compute.nodes}, which needs a workspace claim with "
        f"access mode {SHARED_MODE}; {claim.name} has {modes}",
    )


def resolve(spec: FineTuneJobSpec) -> FixedSpec:
    """Everything fixed, with the product's defaults for what the schema leaves open."""
    fixed = FixedSpec.model_validate(spec.to_dict())
    training, compute = fixed.training, fixed.compute
    workspace = fixed.workspace or Workspace()
    if not workspace.claim_name:
        workspace = workspace.model_copy(
            update={
                "size": workspace.size or DEFAULT_WORKSPACE,
                "retain": workspace.retain is not False,
            }
        )
    has_length = training.epochs is not None or training.max_steps is not None
    return fixed.model_copy(
        update={
            "workspace": workspace,
            "training": training.model_copy(
                update={
                    "epochs": training.epochs if has_length else AUTO,
                    "global_batch_size": training.global_batch_size or DEFAULT_BATCH,
                }
            ),
            "compute": compute.model_copy(
                update={
                    "processes_per_node": compute.gpus_per_node or compute.processes_per_node or 1
                }
            ),
        }
    )


def _refused(facts: Facts, message: str) -> Decision:
    """The end for want of a usable claim; before attempt 1 its reason is PreflightFailed."""
    if facts.attempt is None:
        return failed(Reason.PREFLIGHT_FAILED, message, preflight=True)
    return failed(Reason.CLAIM_UNUSABLE, message)


def _needed_claims(facts: Facts) -> dict[str, str]:
    """Claim -> field. A workspace that the job creates is needed once preflight has passed."""
    workspace = named_claim(facts.resolved)
    needed = {workspace: "workspace.claimName"} if workspace else {}
    if facts.attempt is not None:
        needed.setdefault(workspace_claim(facts.seen.identity, facts.resolved), "workspace.size")
    for claim, field in source_claims(facts.resolved).items():
        needed.setdefault(claim, field)
    return needed


def _waiting_since(facts: Facts) -> datetime:
    accepted = facts.condition(ConditionType.ACCEPTED)
    text = facts.attempt.started_at if facts.attempt else None
    text = text or (accepted.last_transition_time if accepted else None)
    return recorded_time(text, otherwise=facts.seen.now)
