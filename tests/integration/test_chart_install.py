"""The chart on a real API server: it installs, upgrades, uninstalls, and grants just enough.

No controller runs here, so the operator's pod is judged by a server-side dry run in a namespace
that enforces the restricted Pod Security standard.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Final

import pytest
from kubernetes import client, config

from dev.cluster import binaries
from dev.cluster.control_plane import EnvTest, start_envtest
from dev.cluster.errors import ClusterError
from tests.chart_rendering import (
    CHART,
    CLUSTER_RIGHTS,
    LEASE_RIGHTS,
    NAMESPACE,
    NAMESPACED_RIGHTS,
    RELEASE,
    helm,
)
from tests.manifests import finetunejob

pytestmark = pytest.mark.integration

VERBS: Final = ("get", "list", "watch", "create", "update", "patch", "delete", "deletecollection")
# Resources that no right was meant for, besides those of the tables.
OTHERS: Final = (
    ("", "secrets"),
    ("", "configmaps"),
    ("", "serviceaccounts"),
    ("", "serviceaccounts/token"),
    ("", "pods/exec"),
    ("", "pods/log"),
    ("", "pods/portforward"),
    ("", "pods/eviction"),
    ("", "persistentvolumes"),
    ("", "events"),
    ("apps", "deployments"),
    ("batch", "jobs/status"),
    ("batch", "cronjobs"),
    ("kueue.x-k8s.io", "workloads"),
    ("rbac.authorization.k8s.io", "clusterroles"),
    ("rbac.authorization.k8s.io", "rolebindings"),
    ("apiextensions.k8s.io", "customresourcedefinitions"),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations"),
)
TEAM: Final = "team-a"


def run_helm(server: EnvTest, *arguments: str) -> str:
    result = helm(f"--kubeconfig={server.kubeconfig}", f"--namespace={NAMESPACE}", *arguments)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EnvTest]:
    """An API server of its own, on which the chart was installed as a user would."""
    binaries.ensure(["helm"])
    with start_envtest(tmp_path_factory.mktemp("chart")) as env:
        run_helm(env, "install", RELEASE, str(CHART), "--create-namespace")
        env.kubectl("create", "namespace", TEAM)
        yield env


@pytest.fixture(scope="module")
def account(installed: EnvTest) -> Iterator[client.AuthorizationV1Api]:
    """The API as the operator's service account sees it."""
    path = installed.service_account_kubeconfig(NAMESPACE, RELEASE)
    with config.new_client_from_config(str(path)) as connection:
        yield client.AuthorizationV1Api(connection)


def may(account: client.AuthorizationV1Api, verb: str, kind: tuple[str, str], **where: str) -> bool:
    group, (resource, _, subresource) = kind[0], kind[1].partition("/")
    attributes = client.V1ResourceAttributes(
        group=group, resource=resource, subresource=subresource, verb=verb, **where
    )
    review = client.V1SelfSubjectAccessReview(
        spec=client.V1SelfSubjectAccessReviewSpec(resource_attributes=attributes)
    )
    return bool(account.create_self_subject_access_review(review).status.allowed)


def allowed(account: client.AuthorizationV1Api, **where: str) -> set[tuple[str, str, str]]:
    """Every (group, resource, verb) that the account may use at that place."""
    kinds = {*NAMESPACED_RIGHTS, *CLUSTER_RIGHTS, *LEASE_RIGHTS, *OTHERS}
    return {
        (*kind, verb)
        for kind, verb in itertools.product(sorted(kinds), VERBS)
        if may(account, verb, kind, **where)
    }


def table(*tables: dict[tuple[str, str], frozenset[str]]) -> set[tuple[str, str, str]]:
    return {(*kind, verb) for rights in tables for kind, verbs in rights.items() for verb in verbs}


def test_the_account_may_do_exactly_what_the_table_says(
    account: client.AuthorizationV1Api,
) -> None:
    assert allowed(account, namespace=TEAM) == table(NAMESPACED_RIGHTS, CLUSTER_RIGHTS)


def test_it_takes_its_own_lease_in_its_own_namespace_only(
    account: client.AuthorizationV1Api,
) -> None:
    leases = ("coordination.k8s.io", "leases")
    assert may(account, "create", leases, namespace=NAMESPACE)
    for verb in ("get", "update"):
        assert may(account, verb, leases, namespace=NAMESPACE, name=RELEASE)
        assert not may(account, verb, leases, namespace=NAMESPACE, name="other")
        assert not may(account, verb, leases, namespace="kube-system", name=RELEASE)


def test_with_a_list_of_namespaces_it_may_do_nothing_in_others(
    installed: EnvTest, account: client.AuthorizationV1Api
) -> None:
    run_helm(installed, "upgrade", RELEASE, str(CHART), "--set", f"namespaces={{{TEAM}}}")
    try:
        here, elsewhere = (allowed(account, namespace=name) for name in (TEAM, "default"))
    finally:
        run_helm(installed, "upgrade", RELEASE, str(CHART))
    assert here == table(NAMESPACED_RIGHTS, CLUSTER_RIGHTS)
    assert elsewhere == table(CLUSTER_RIGHTS)


def test_the_operators_pod_is_admitted_under_restricted_pod_security(installed: EnvTest) -> None:
    installed.kubectl("create", "namespace", "restricted")
    label = "pod-security.kubernetes.io/enforce=restricted"
    installed.kubectl("label", "namespace", "restricted", label)
    template = json.loads(
        installed.kubectl("get", "deployment", RELEASE, "-n", NAMESPACE, "-o", "json")
    )["spec"]["template"]
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "operator", "namespace": "restricted"},
        "spec": template["spec"],
    }
    command = ("create", "--dry-run=server", "-o", "name", "-f", "-")
    assert installed.kubectl(*command, stdin=json.dumps(pod)).strip() == "pod/operator"
    pod["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(ClusterError, match="violates PodSecurity"):
        installed.kubectl(*command, stdin=json.dumps(pod))


def test_uninstall_keeps_the_jobs(installed: EnvTest) -> None:
    job = json.dumps(finetunejob("kept", namespace=TEAM))
    installed.kubectl("apply", "-f", "-", stdin=job)
    run_helm(installed, "uninstall", RELEASE)
    try:
        found = installed.kubectl("get", "ftj", "-A", "-o", "name").split()
        assert found == ["finetunejob.finetune.dev/kept"]
    finally:
        run_helm(installed, "install", RELEASE, str(CHART), "--take-ownership")
