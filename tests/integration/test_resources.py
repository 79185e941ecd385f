"""A real API server takes every child object as it is built, strictly, under Pod Security."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from dev.cluster.control_plane import EnvTest
from dev.cluster.errors import ClusterError
from tests.builders import CHILD, IDENTITY, a_claim, a_report, a_spec
from tests.unit.domain.test_resources import FULL_SPEC
from tests.unit.domain.world import World

pytestmark = pytest.mark.integration

SMALL: Final[dict[str, Any]] = {}
SPECS: Final = {"smallest": SMALL, "fullest": FULL_SPEC}


@pytest.fixture(scope="module")
def restricted(api_server: EnvTest) -> EnvTest:
    """The job's namespace exists and enforces Pod Security "restricted"."""
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {
            "name": IDENTITY.namespace,
            "labels": {"pod-security.kubernetes.io/enforce": "restricted"},
        },
    }
    api_server.kubectl("apply", "-f", "-", stdin=json.dumps(namespace))
    return api_server


def children_of(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """Everything that the operator makes for a job up to attempt 1."""
    world = World(spec=a_spec(**spec))
    world.claims["held.out"] = a_claim("held.out")
    world.operate()
    world.run_ends("preflight-1", 0, a_report())
    made = [*world.jobs.values(), *world.services.values(), *world.policies.values()]
    return [*made, world.claims[CHILD]]


def dry_run(api_server: EnvTest, manifest: dict[str, Any]) -> str:
    """Server-side, unknown fields refused."""
    sent = json.loads(json.dumps(manifest))
    sent["metadata"].pop("uid", None)
    sent.pop("status", None)
    options = ("--dry-run=server", "--validate=strict", "-o", "name", "-f", "-")
    return api_server.kubectl("create", *options, stdin=json.dumps(sent)).strip()


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_children_are_accepted(restricted: EnvTest, spec: dict[str, Any]) -> None:
    accepted = [dry_run(restricted, child) for child in children_of(spec)]
    service = [f"service/{CHILD}"] if spec else []
    assert accepted == [
        f"job.batch/{CHILD}-preflight-1",
        f"job.batch/{CHILD}-1",
        *service,
        f"networkpolicy.networking.k8s.io/{CHILD}",
        f"persistentvolumeclaim/{CHILD}",
    ]


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_pods_pass_pod_security_restricted(restricted: EnvTest, spec: dict[str, Any]) -> None:
    for job in children_of(spec)[:2]:
        pod = pod_of(job)
        assert dry_run(restricted, pod) == f"pod/{pod['metadata']['name']}"


def test_the_namespace_would_refuse_a_pod_with_less(restricted: EnvTest) -> None:
    pod = pod_of(children_of(SMALL)[0])
    del pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"]
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        dry_run(restricted, pod)


def pod_of(job: dict[str, Any]) -> dict[str, Any]:
    """A pod as the Job controller would make it; the priority class is the cluster's business."""
    template = json.loads(json.dumps(job["spec"]["template"]))
    template["spec"].pop("priorityClassName", None)
    metadata = {"name": job["metadata"]["name"], "namespace": IDENTITY.namespace}
    return {"apiVersion": "v1", "kind": "Pod", **template, "metadata": metadata}
