"""The client's verbs mean on a real API server what the operator takes them to mean."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dev.cluster.control_plane import EnvTest
from finetune_operator.kube.client import AioTransport, KubeClient
from finetune_operator.kube.errors import AlreadyExists, Conflict, Forbidden, Invalid, NotFound
from finetune_operator.kube.requests import FINETUNEJOBS, JOBS, LEASES, PODS
from tests.manifests import finetunejob

pytestmark = pytest.mark.integration

NAMESPACE = "client"


@pytest.fixture
async def kube(api_server: EnvTest, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[KubeClient]:
    api_server.api.create("/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    monkeypatch.setenv("KUBECONFIG", str(api_server.kubeconfig))
    client = KubeClient(await AioTransport.connect())
    yield client
    await client.close()


async def test_a_status_is_replaced_as_a_whole(kube: KubeClient) -> None:
    job = await kube.create(FINETUNEJOBS, finetunejob("whole", namespace=NAMESPACE))
    for status in ({"phase": "Pending", "failures": 1}, {"phase": "Running"}):
        job = await kube.replace_status(
            FINETUNEJOBS,
            NAMESPACE,
            name="whole",
            version=job["metadata"]["resourceVersion"],
            status=status,
        )
        assert job["status"] == status


async def test_a_status_written_by_somebody_else_is_never_overwritten(kube: KubeClient) -> None:
    job = await kube.create(FINETUNEJOBS, finetunejob("raced", namespace=NAMESPACE))
    version = job["metadata"]["resourceVersion"]

    async def write(phase: str) -> None:
        await kube.replace_status(
            FINETUNEJOBS, NAMESPACE, name="raced", version=version, status={"phase": phase}
        )

    await write("Running")
    with pytest.raises(Conflict):
        await write("Failed")
    job = await kube.get(FINETUNEJOBS, NAMESPACE, name="raced")
    assert job["status"] == {"phase": "Running"}


async def test_a_taken_name_is_told_from_a_lost_race(kube: KubeClient) -> None:
    lease = {"metadata": {"namespace": NAMESPACE, "name": "taken"}, "spec": {}}
    stored = await kube.create(LEASES, lease)
    with pytest.raises(AlreadyExists):
        await kube.create(LEASES, lease)
    await kube.update(LEASES, {**stored, "spec": {"holderIdentity": "a"}})
    with pytest.raises(Conflict):
        await kube.update(LEASES, {**stored, "spec": {"holderIdentity": "b"}})


async def test_only_the_object_of_that_uid_is_deleted(kube: KubeClient) -> None:
    metadata = {"namespace": NAMESPACE, "name": "pod"}
    containers = [{"name": "c", "image": "i"}]
    pod = await kube.create(PODS, {"metadata": metadata, "spec": {"containers": containers}})
    with pytest.raises(Conflict):
        await kube.delete(PODS, NAMESPACE, name="pod", uid="another")
    await kube.delete(PODS, NAMESPACE, name="pod", uid=pod["metadata"]["uid"])
    with pytest.raises(NotFound):
        await kube.get(PODS, NAMESPACE, name="pod")


async def test_lists_are_selected_by_labels(kube: KubeClient) -> None:
    for name, color in (("a", "red"), ("b", "blue")):
        body = finetunejob(name, namespace=NAMESPACE)
        body["metadata"]["labels"] = {"color": color}
        await kube.create(FINETUNEJOBS, body)
    found = await kube.list(FINETUNEJOBS, NAMESPACE, labels="color=red")
    assert [item["metadata"]["name"] for item in found] == ["a"]


async def test_a_wrong_object_is_invalid(kube: KubeClient) -> None:
    with pytest.raises(Invalid, match=r"spec\.template"):
        await kube.create(JOBS, {"metadata": {"namespace": NAMESPACE, "name": "j"}, "spec": {}})


async def test_missing_rights_are_forbidden(
    kube: KubeClient, api_server: EnvTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KUBECONFIG", str(api_server.user_kubeconfig("nobody")))
    nobody = KubeClient(await AioTransport.connect())
    with pytest.raises(Forbidden):
        await nobody.list(FINETUNEJOBS, NAMESPACE)
    await nobody.close()
