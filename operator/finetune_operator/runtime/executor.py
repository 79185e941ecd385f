"""Does what a decision asks for, in order, stopping at the first error.

Every action may be repeated: after a crash the same decision is made again. A name that is taken
counts as created (the next look sees by whom), an object that is gone counts as deleted.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, assert_never

from finetune_operator.domain.actions import (
    Action,
    CreateJob,
    DeleteJob,
    DeletePod,
    EnsureClaim,
    EnsureNetworkPolicy,
    EnsureService,
)
from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import AlreadyExists, Conflict, NotFound
from finetune_operator.kube.requests import (
    CLAIMS,
    JOBS,
    NETWORK_POLICIES,
    PODS,
    SERVICES,
    Resource,
)

log = logging.getLogger(__name__)


class Executor:
    """Performs actions on objects of one namespace at a time."""

    def __init__(self, kube: Kube) -> None:
        self._kube = kube

    async def execute(self, namespace: str, actions: Iterable[Action]) -> None:
        """Perform the actions in order; raises the ApiError of the first that fails."""
        for action in actions:
            await self._perform(namespace, action)
            log.info("%s done in %s: %s", type(action).__name__, namespace, target(action))

    async def _perform(self, namespace: str, action: Action) -> None:
        match action:
            case CreateJob(manifest):
                await self._ensure(JOBS, manifest)
            case EnsureClaim(manifest):
                await self._ensure(CLAIMS, manifest)
            case EnsureService(manifest):
                await self._ensure(SERVICES, manifest)
            case EnsureNetworkPolicy(manifest):
                await self._ensure(NETWORK_POLICIES, manifest)
            case DeleteJob(name, uid):
                await self._delete(JOBS, namespace, name=name, uid=uid)
            case DeletePod(name, uid):
                await self._delete(PODS, namespace, name=name, uid=uid)
            case _:
                assert_never(action)

    async def _ensure(self, resource: Resource, manifest: Mapping[str, Any]) -> None:
        with suppress(AlreadyExists):  # by us before a crash or by others: the next look tells
            await self._kube.create(resource, manifest)

    async def _delete(self, resource: Resource, namespace: str, *, name: str, uid: str) -> None:
        with suppress(NotFound, Conflict):  # gone, or the name belongs to another object by now
            await self._kube.delete(resource, namespace, name=name, uid=uid)


def target(action: Action) -> str:
    """Name of the object that an action is about."""
    match action:
        case DeleteJob(name) | DeletePod(name):
            return name
        case CreateJob() | EnsureClaim() | EnsureService() | EnsureNetworkPolicy():
            return str(action.manifest["metadata"]["name"])
        case _:
            assert_never(action)
