"""What preflights and attempts have in common: making their Job, and clearing away what is left."""

from __future__ import annotations

from finetune_operator.api.v1alpha1 import ConditionType, Phase, Reason
from finetune_operator.domain.actions import (
    Action,
    CreateJob,
    DeleteJob,
    DeletePod,
    EnsureClaim,
    EnsureNetworkPolicy,
    EnsureService,
)
from finetune_operator.domain.decision import Decision, bad_news, fails
from finetune_operator.domain.facts import Facts
from finetune_operator.domain.names import PREFLIGHT_ROLE, TRAIN_ROLE, child_name
from finetune_operator.domain.resources.claim import build_claim
from finetune_operator.domain.resources.job import build_job
from finetune_operator.domain.resources.network import build_network_policy, build_service
from finetune_operator.domain.run_config import preflight_config, train_config
from finetune_operator.domain.sources import named_claim

CONFLICT_SECONDS = 60.0  # between two looks at an object that is in the way


def name_conflict(facts: Facts) -> Decision | None:
    """A child of our name belongs to somebody else: never adopt it, wait until it is gone."""
    seen = facts.seen
    uid = seen.identity.uid
    created = child_name(seen.identity)
    claim = seen.claims.get(created)
    creates_claim = not named_claim(facts.resolved)
    taken = [
        f"Job {seen.job.name}" if seen.job and not facts.owns_job else "",
        f"Service {created}" if seen.service and seen.service.owner_uid != uid else "",
        f"NetworkPolicy {created}"
        if seen.network_policy and seen.network_policy.owner_uid != uid
        else "",
        f"PersistentVolumeClaim {created}"
        if claim and creates_claim and claim.job_uid != uid
        else "",
    ]
    names = ", ".join(name for name in taken if name)
    if not names:
        return None
    message = f"{names} exists and does not belong to this job; delete it or rename the job"
    # The Job of a running attempt may have been replaced by the one in the way.
    kinds = [ConditionType.ACCEPTED, *([ConditionType.RUNNING] if facts.attempt else ())]
    return Decision(
        phase=Phase.PENDING,
        told=tuple(fails(kind, Reason.NAME_CONFLICT, message) for kind in kinds),
        events=(bad_news(Reason.NAME_CONFLICT, message),),
        requeue_after=CONFLICT_SECONDS,
    )


def creation(facts: Facts) -> tuple[Action, ...]:
    """Everything that the recorded run needs and that does not exist yet; its Job last."""
    seen, resolved, training = facts.seen, facts.resolved, facts.attempt is not None
    actions: list[Action] = []
    if not training and not named_claim(resolved) and child_name(seen.identity) not in seen.claims:
        actions.append(EnsureClaim(build_claim(seen.identity, resolved)))
    if seen.network_policy is None:
        actions.append(EnsureNetworkPolicy(build_network_policy(seen.identity, seen.site)))
    if training and resolved.compute.nodes > 1 and seen.service is None:
        actions.append(EnsureService(build_service(seen.identity)))
    role = TRAIN_ROLE if training else PREFLIGHT_ROLE
    config = train_config(facts) if training else preflight_config(facts)
    actions.append(CreateJob(build_job(config, resolved=resolved, role=role)))
    return tuple(actions)


def cleanup(facts: Facts) -> tuple[Action, ...]:
    """Stop what still runs of a run whose end is recorded."""
    job = facts.seen.job
    if job is not None:
        ending = job.deleting or job.conditions
        return () if ending or not facts.owns_job else (DeleteJob(job.name, job.uid),)
    return tuple(
        DeletePod(pod.name, pod.uid)
        for pod in facts.seen.pods
        if not pod.ended and not pod.deleting
    )
