"""One leader at a time, judged by the local clock; a lost or released lease changes hands."""

from __future__ import annotations

import pytest

from finetune_operator.kube.lease import Election, LeaseName
from finetune_operator.kube.requests import LEASES
from tests.memory_kube import MemoryKube
from tests.virtual_time import VirtualTime

LEASE = ("leases", "system", "lease")


class World:
    """A store and a clock, shared by the replicas."""

    def __init__(self) -> None:
        self.kube = MemoryKube()
        self.time = VirtualTime()

    def replica(self, identity: str, *, kube: MemoryKube | None = None) -> Election:
        return Election(
            kube or self.kube,
            LeaseName("system", "lease", identity=identity, seconds=15),
            clock=self.time.time,
            sleep=self.time.sleep,
        )

    @property
    def holder(self) -> str:
        return str(self.kube.objects[LEASE]["spec"]["holderIdentity"])


@pytest.fixture
def world() -> World:
    return World()


async def test_the_first_replica_creates_and_holds_the_lease(world: World) -> None:
    assert await world.replica("one").try_once()
    assert world.holder == "one"
    assert world.kube.objects[LEASE]["spec"]["leaseDurationSeconds"] == 15


async def test_another_replica_waits_while_the_lease_is_renewed(world: World) -> None:
    one, two = world.replica("one"), world.replica("two")
    await one.try_once()
    for _ in range(20):
        assert not await two.try_once()
        world.time.advance(10)
        assert await one.try_once()
    assert world.holder == "one"


async def test_a_lease_that_is_not_renewed_is_taken_after_its_duration(world: World) -> None:
    await world.replica("one").try_once()
    two = world.replica("two")
    assert not await two.try_once()
    world.time.advance(14.9)
    assert not await two.try_once()
    world.time.advance(0.1)
    assert await two.try_once()
    assert world.holder == "two"
    assert world.kube.objects[LEASE]["spec"]["leaseTransitions"] == 2


async def test_the_clock_starts_when_the_renewal_is_seen_not_when_it_was_written(
    world: World,
) -> None:
    await world.replica("one").try_once()
    world.time.advance(1000)
    assert not await world.replica("two").try_once(), "seen for the first time just now"


async def test_a_restarted_container_of_the_same_pod_takes_over_at_once(world: World) -> None:
    await world.replica("one").try_once()
    assert await world.replica("one").try_once()


async def test_a_released_lease_is_free_at_once(world: World) -> None:
    one = world.replica("one")
    await one.acquire()
    await one.release()
    assert await world.replica("two").try_once()


async def test_acquiring_waits_until_the_other_is_gone(world: World) -> None:
    await world.replica("one").try_once()
    await world.replica("two").acquire()
    assert world.holder == "two"
    assert world.time.time() >= 15


async def test_a_leader_that_cannot_renew_knows_before_its_lease_ends(world: World) -> None:
    one = world.replica("one")
    await one.acquire()
    started = world.time.time()
    world.kube.cut = True
    await one.keep()
    assert 10 <= world.time.time() - started < 15


async def test_of_two_that_see_a_free_lease_one_wins(world: World) -> None:
    one, two = world.replica("one"), world.replica("two")
    await one.acquire()
    await one.release()
    stale = await world.kube.get(LEASES, "system", name="lease")
    assert await two.try_once()

    class Stale(MemoryKube):
        async def get(self, *_: object, **__: object) -> dict[str, object]:  # type: ignore[override]
            return stale

    late = Stale()
    late.objects = world.kube.objects
    assert not await world.replica("three", kube=late).try_once()
    assert world.holder == "two"
