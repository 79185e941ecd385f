"""Kopf as event source: three watches that put keys into the queue, and nothing else.

Kopf's own state keeping (finalizers, annotations, timers, indices, peering) stays unused: it would
write to users' objects and go stale after a re-list. Only `on.event` handlers exist, and they end
before anything could fail.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from typing import Any, Final

import kopf

from finetune_operator.constants import GROUP, LABEL_JOB, PLURAL, VERSION
from finetune_operator.runtime.intake import Intake

LONGEST_PAUSE_SECONDS: Final = 30.0

Event = Mapping[str, Any]  # "type" (None: from a list) and "object"


class EndlessBackoffs:
    """Pauses between tries of Kopf's requests: 1 s doubling to 30 s, jittered, without an end.

    With Kopf's default, finite list the process exits after 54 s of server errors.
    """

    def __iter__(self) -> Iterator[float]:
        pause = 1.0
        while True:
            yield pause * random.uniform(0.8, 1.2)
            pause = min(LONGEST_PAUSE_SECONDS, pause * 2)


def build_settings() -> kopf.OperatorSettings:
    """Kopf's settings for standing alone with the least rights."""
    settings = kopf.OperatorSettings()
    settings.peering.standalone = True
    settings.scanning.disabled = True  # no list and watch of CRDs and namespaces
    settings.posting.enabled = False  # Events are the reconciler's
    settings.networking.error_backoffs = EndlessBackoffs()
    settings.networking.request_timeout = 30
    settings.watching.server_timeout = 290
    settings.watching.connect_timeout = 10
    settings.watching.chunk_size = 500
    settings.watching.label_selectors["batch", "v1", "jobs"] = LABEL_JOB
    settings.watching.label_selectors["pods"] = LABEL_JOB
    return settings


def build_registry(intake: Intake) -> kopf.OperatorRegistry:
    """The handlers, bound to one intake."""
    registry = kopf.OperatorRegistry()

    async def finetunejob(event: Event, **_: Any) -> None:
        intake.finetunejob(event["type"], event["object"])

    async def job(event: Event, **_: Any) -> None:
        intake.job(event["type"], event["object"])

    async def pod(event: Event, **_: Any) -> None:
        intake.pod(event["type"], event["object"])

    kopf.on.login(registry=registry)(login)
    kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)(finetunejob)
    kopf.on.event("batch", "v1", "jobs", registry=registry)(job)
    kopf.on.event("", "v1", "pods", registry=registry)(pod)
    return registry


def login(**arguments: Any) -> kopf.ConnectionInfo | None:
    """Credentials for the watches: the kubeconfig if there is one, else the pod's account."""
    return kopf.login_with_kubeconfig(**arguments) or kopf.login_with_service_account(**arguments)
