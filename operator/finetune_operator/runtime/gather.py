"""One live look at the world around a FineTuneJob: all reading that a decision needs, no deciding.

The order and completeness rules stand in `domain/observed.py`. Nothing comes from a cache: "404"
is the only way in which something may be absent, every other error ends the pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from finetune_operator.domain.observed import ClaimView, Observation, PodView, Site
from finetune_operator.domain.views import child_view, claim_view, job_view, pod_view
from finetune_operator.domain.wanted import Wanted, wanted
from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import NotFound
from finetune_operator.kube.requests import CLAIMS, JOBS, NETWORK_POLICIES, PODS, SERVICES, Resource
from finetune_operator.runtime.memory import PodMemory, Refusals
from finetune_operator.runtime.progress import ProgressBoard
from finetune_operator.runtime.queue import Key
from finetune_trainer.contract import JobIdentity


class Gatherer:
    """Makes an `Observation` of a FineTuneJob that was just read."""

    def __init__(
        self,
        kube: Kube,
        *,
        site: Site,
        pods: PodMemory,
        progress: ProgressBoard,
        refusals: Refusals,
        now: Callable[[], datetime],
    ) -> None:
        self._kube = kube
        self._site = site
        self._pods = pods
        self._progress = progress
        self._refusals = refusals
        self._now = now

    async def observe(self, raw: Mapping[str, Any]) -> Observation:
        """Read what the job's status makes interesting; raises ApiError."""
        metadata = raw["metadata"]
        identity = JobIdentity(
            namespace=metadata["namespace"], name=metadata["name"], uid=metadata["uid"]
        )
        status = raw.get("status") or {}
        wish = wanted(identity, status)
        namespace = identity.namespace
        job = await self._read(JOBS, namespace, wish.job)
        claims = await self._claims(namespace, wish)
        service = await self._read(SERVICES, namespace, wish.service)
        policy = await self._read(NETWORK_POLICIES, namespace, wish.network_policy)
        pods = await self._list_pods(identity, wish)
        return Observation(
            now=self._now(),
            identity=identity,
            generation=metadata["generation"],
            spec=raw["spec"],
            status=status,
            site=self._site,
            deleting=bool(metadata.get("deletionTimestamp")),
            job=job_view(job) if job else None,
            pods=pods,
            claims=claims,
            service=child_view(service) if service else None,
            network_policy=child_view(policy) if policy else None,
            progress=self._progress.newest(identity.uid, wish.attempt) if wish.attempt else None,
            refusal=self._refusals.recall(Key(namespace, identity.name), uid=identity.uid),
        )

    async def _read(
        self, resource: Resource, namespace: str, name: str | None
    ) -> dict[str, Any] | None:
        if name is None:
            return None
        try:
            return await self._kube.get(resource, namespace, name=name)
        except NotFound:
            return None

    async def _claims(self, namespace: str, wish: Wanted) -> dict[str, ClaimView]:
        found = {name: await self._read(CLAIMS, namespace, name) for name in wish.claims}
        return {name: claim_view(raw) for name, raw in found.items() if raw is not None}

    async def _list_pods(self, identity: JobIdentity, wish: Wanted) -> tuple[PodView, ...]:
        """Live pods of the run, and those that the watch saw end and that are gone."""
        if not wish.pod_labels:
            return ()
        labels = ",".join(f"{key}={value}" for key, value in sorted(wish.pod_labels.items()))
        live = await self._kube.list(PODS, identity.namespace, labels=labels)
        gone = self._pods.recall(
            identity.uid,
            labels=wish.pod_labels,
            known=(pod["metadata"]["uid"] for pod in live),
        )
        return (*map(pod_view, live), *(pod_view(pod, gone=True) for pod in gone))
