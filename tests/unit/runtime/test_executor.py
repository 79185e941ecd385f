"""Actions may be repeated, are done in order and stop at the first error."""

from __future__ import annotations

from typing import Any

import pytest

from finetune_operator.domain.actions import (
    Action,
    CreateJob,
    DeleteJob,
    DeletePod,
    EnsureClaim,
    EnsureNetworkPolicy,
    EnsureService,
)
from finetune_operator.kube.errors import Conflict, Forbidden, NotFound, Transient
from finetune_operator.kube.requests import JOBS
from finetune_operator.runtime.executor import Executor
from tests.memory_kube import MemoryKube

NAMESPACE = "team"


def manifest(name: str, *, owner: str = "ours") -> dict[str, Any]:
    owners = [{"uid": owner, "controller": True}]
    return {"metadata": {"namespace": NAMESPACE, "name": name, "ownerReferences": owners}}


@pytest.fixture
def kube() -> MemoryKube:
    return MemoryKube()


@pytest.mark.parametrize(
    ("action", "plural"),
    [
        (CreateJob(manifest("x")), "jobs"),
        (EnsureClaim(manifest("x")), "persistentvolumeclaims"),
        (EnsureService(manifest("x")), "services"),
        (EnsureNetworkPolicy(manifest("x")), "networkpolicies"),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_creating_twice_is_creating_once(
    kube: MemoryKube, action: Action, plural: str
) -> None:
    for _ in range(2):
        await Executor(kube).execute(NAMESPACE, [action])
    assert list(kube.objects) == [(plural, NAMESPACE, "x")]


async def test_an_object_of_somebody_else_is_left_alone(kube: MemoryKube) -> None:
    theirs = await kube.create(JOBS, manifest("x", owner="theirs"))
    await Executor(kube).execute(NAMESPACE, [CreateJob(manifest("x"))])
    assert kube.objects[("jobs", NAMESPACE, "x")] == theirs


async def test_only_the_object_of_that_uid_is_deleted(kube: MemoryKube) -> None:
    stored = await kube.create(JOBS, manifest("x"))
    await Executor(kube).execute(NAMESPACE, [DeleteJob("x", "another-uid")])
    assert kube.objects
    await Executor(kube).execute(NAMESPACE, [DeleteJob("x", stored["metadata"]["uid"])])
    assert not kube.objects


@pytest.mark.parametrize("action", [DeleteJob("x", "u"), DeletePod("x", "u")])
@pytest.mark.parametrize("answer", [NotFound("gone"), Conflict("another uid")])
async def test_deleting_what_is_gone_is_success(
    kube: MemoryKube, action: Action, answer: Exception
) -> None:
    plural = "jobs" if isinstance(action, DeleteJob) else "pods"
    kube.failures[("delete", plural)] = answer  # type: ignore[assignment]
    await Executor(kube).execute(NAMESPACE, [action])


@pytest.mark.parametrize("error", [Transient("busy"), Forbidden("quota")])
async def test_the_first_error_ends_the_pass(kube: MemoryKube, error: Exception) -> None:
    kube.failures[("create", "services")] = error  # type: ignore[assignment]
    actions: list[Action] = [
        EnsureClaim(manifest("first")),
        EnsureService(manifest("second")),
        CreateJob(manifest("third")),
    ]
    with pytest.raises(type(error)):
        await Executor(kube).execute(NAMESPACE, actions)
    assert [name for _, _, name in kube.objects] == ["first"]
