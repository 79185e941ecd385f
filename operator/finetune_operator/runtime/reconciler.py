"""One pass over one FineTuneJob: read, decide, write the status once, act, tell.

Level-triggered: a pass never asks why it was called. It acts only on what the status that it read
already said, so a crash between any two requests is no more than another state of the world.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from finetune_operator.api.v1alpha1 import Phase, Reason
from finetune_operator.domain.actions import EmitEvent, EventType, Plan
from finetune_operator.domain.observed import Observation, PodView
from finetune_operator.domain.plan import plan
from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import Forbidden, Invalid, NotFound
from finetune_operator.kube.requests import FINETUNEJOBS
from finetune_operator.runtime.events import EventRecorder
from finetune_operator.runtime.executor import Executor
from finetune_operator.runtime.gather import Gatherer
from finetune_operator.runtime.history import History
from finetune_operator.runtime.memory import Fleet, PodMemory, Refusals
from finetune_operator.runtime.progress import ProgressBoard, Run
from finetune_operator.runtime.queue import Key

_FINAL: Final = (Phase.SUCCEEDED, Phase.FAILED)

log = logging.getLogger(__name__)


class Reconciler:
    """Everything a pass needs; holds no state of its own."""

    def __init__(
        self,
        kube: Kube,
        *,
        gatherer: Gatherer,
        executor: Executor,
        recorder: EventRecorder,
        fleet: Fleet,
        pods: PodMemory,
        progress: ProgressBoard,
        refusals: Refusals,
        history: History,
    ) -> None:
        self._kube = kube
        self._gatherer = gatherer
        self._executor = executor
        self._recorder = recorder
        self._fleet = fleet
        self._pods = pods
        self._progress = progress
        self._refusals = refusals
        self._history = history

    async def reconcile(self, key: Key) -> float | None:
        """Bring the job one step further; returns seconds until the next look, if one is due.

        Raises ApiError: the caller looks again later.
        """
        try:
            raw = await self._kube.get(FINETUNEJOBS, key.namespace, name=key.name)
        except NotFound:
            self._fleet.forget(key)
            self._refusals.forget(key)
            self._forget_former(key, uid="")
            return None
        metadata = raw["metadata"]
        self._fleet.saw(key, metadata["resourceVersion"])
        self._forget_former(key, uid=metadata["uid"])
        seen = await self._gatherer.observe(raw)
        decision = plan(seen)
        if decision.status is not None:
            await self._write_status(key, raw, status=decision.status)
        await self._act(key, seen, decision)
        await self._recorder.record(seen.identity, decision.events)
        self._remember(key, seen, decision)
        return decision.requeue_after

    async def _write_status(
        self, key: Key, raw: Mapping[str, Any], *, status: Mapping[str, Any]
    ) -> None:
        written = await self._kube.replace_status(
            FINETUNEJOBS,
            key.namespace,
            name=key.name,
            version=raw["metadata"]["resourceVersion"],
            status=status,
        )
        self._fleet.wrote(key, written["metadata"]["resourceVersion"])
        self._history.status_changed(raw, status)

    async def _act(self, key: Key, seen: Observation, decision: Plan) -> None:
        """Perform the actions; a refusal that only people can cure is a fact of the next pass."""
        try:
            await self._executor.execute(seen.identity.namespace, decision.actions)
        except (Invalid, Forbidden) as error:
            message = str(error)
            self._refusals.note(key, uid=seen.identity.uid, message=message, now=seen.now)
            refused = EmitEvent(EventType.WARNING, Reason.CHILD_REFUSED, message)
            await self._recorder.record(seen.identity, [refused])
            raise
        self._refusals.forget(key)

    def _remember(self, key: Key, seen: Observation, decision: Plan) -> None:
        self._fleet.decided(key, decision.phase)
        uid = seen.identity.uid
        if decision.phase in _FINAL:
            self._pods.forget(uid)
            self._progress.forget(uid)
            return
        run = run_to_follow(key, seen)
        if run is not None:
            self._progress.follow(run)
        else:
            self._progress.rest(uid)

    def _forget_former(self, key: Key, *, uid: str) -> None:
        """Keep nothing of jobs that were deleted, even if another took the name at once."""
        self._pods.forget_former(key, job_uid=uid)
        self._progress.forget_former(key, uid=uid)


def run_to_follow(key: Key, seen: Observation) -> Run | None:
    """The training run whose rank 0 can be asked for its progress, None when there is none."""
    attempt = seen.status.get("currentAttempt")
    if not attempt:
        return None
    rank_zero = next((pod for pod in seen.pods if pod.rank == 0 and _can_answer(pod)), None)
    if rank_zero is None:
        return None
    return Run(key, seen.identity.uid, attempt["number"], rank_zero.address)


def _can_answer(pod: PodView) -> bool:
    return pod.phase == "Running" and bool(pod.address) and not pod.gone
