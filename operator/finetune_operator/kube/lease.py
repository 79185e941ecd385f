"""Leader election by a coordination.k8s.io Lease: one operator acts, the others wait.

Correctness does not rest on it (names are deterministic, status writes are conditional); it spares
the API server two operators doing the same work. The numbers are client-go's: 15 s lease, 10 s to
renew it, 2 s between tries. As there, a lease is judged expired by the local clock since its last
observed change, so clocks of two machines need not agree.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from finetune_operator.kube.client import Kube
from finetune_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound
from finetune_operator.kube.requests import LEASES

RENEW_DEADLINE: Final = 2 / 3  # of the lease's duration
RETRY_PERIOD: Final = 2 / 15  # of the lease's duration

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LeaseName:
    """Which lease, and who asks for it. `seconds` is the lease's duration."""

    namespace: str
    name: str
    identity: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Sighting:
    """The lease as last seen to change, and when (monotonic seconds)."""

    version: str
    at: float


def may_take(lease: Mapping[str, Any], wish: LeaseName, *, seen: Sighting, now: float) -> bool:
    """Whether the lease is free, ours, or unrenewed for its whole duration.

    A holder of our own identity is a former process of this pod: the kubelet starts a container
    only after the one before it ended, so taking over at once is safe.
    """
    spec = lease.get("spec") or {}
    holder = spec.get("holderIdentity") or ""
    if holder in ("", wish.identity):
        return True
    duration = float(spec.get("leaseDurationSeconds") or wish.seconds)
    return now - seen.at >= duration


def claimed(lease: Mapping[str, Any], wish: LeaseName, *, time_now: dt.datetime) -> dict[str, Any]:
    """Return the lease as it reads once `wish.identity` holds it, renewed at `time_now`."""
    spec = dict(lease.get("spec") or {})
    stamp = time_now.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    if spec.get("holderIdentity") != wish.identity:
        spec["leaseTransitions"] = int(spec.get("leaseTransitions") or 0) + 1
        spec["acquireTime"] = stamp
    spec["holderIdentity"] = wish.identity
    spec["leaseDurationSeconds"] = max(1, round(wish.seconds))
    spec["renewTime"] = stamp
    return {**lease, "spec": spec}


def new_lease(wish: LeaseName) -> dict[str, Any]:
    """A lease that nobody holds yet."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"namespace": wish.namespace, "name": wish.name},
        "spec": {},
    }


def released(lease: Mapping[str, Any]) -> dict[str, Any]:
    """Return the lease as its holder leaves it, so that the next one need not wait."""
    spec = {**lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
    return {**lease, "spec": spec}


class Election:
    """Acquires, keeps and releases one lease."""

    def __init__(
        self,
        kube: Kube,
        wish: LeaseName,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._kube = kube
        self._wish = wish
        self._clock = clock
        self._sleep = sleep
        self._seen: Sighting | None = None
        self._held: dict[str, Any] | None = None

    async def acquire(self) -> None:
        """Return once this process is the leader; API errors only prolong the wait."""
        while not await self._try_quietly():
            await self._sleep(self._wish.seconds * RETRY_PERIOD)

    async def keep(self) -> None:
        """Renew until the lease is lost; returns then. The caller must stop acting at once."""
        renewed = self._clock()
        while self._clock() - renewed < self._wish.seconds * RENEW_DEADLINE:
            await self._sleep(self._wish.seconds * RETRY_PERIOD)
            started = self._clock()
            if await self._try_quietly():
                renewed = started
        self._held = None

    async def release(self) -> None:
        """Give the lease up if it is held, so that another replica takes over at once."""
        if self._held is None:
            return
        try:
            await self._kube.update(LEASES, released(self._held))
        except ApiError as error:
            log.warning("the lease could not be released and will expire: %s", error)
        self._held = None

    async def _try_quietly(self) -> bool:
        try:
            async with asyncio.timeout(self._wish.seconds * RENEW_DEADLINE):
                return await self.try_once()
        except (ApiError, TimeoutError) as error:
            log.warning("lease %s: %s", self._wish.name, error)
            return False

    async def try_once(self) -> bool:
        """Take or renew the lease if that is allowed now; raises ApiError."""
        try:
            lease = await self._kube.get(LEASES, self._wish.namespace, name=self._wish.name)
        except NotFound:
            lease = new_lease(self._wish)
        now = self._clock()
        version = lease["metadata"].get("resourceVersion", "")
        if self._seen is None or self._seen.version != version:
            self._seen = Sighting(version, now)
        if not may_take(lease, self._wish, seen=self._seen, now=now):
            return False
        wanted = claimed(lease, self._wish, time_now=dt.datetime.now(dt.UTC))
        write = self._kube.update if version else self._kube.create
        try:
            self._held = await write(LEASES, wanted)
        except (AlreadyExists, Conflict):
            return False  # somebody else was faster
        return True
