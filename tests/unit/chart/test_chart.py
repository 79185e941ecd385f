"""The chart, rendered by the real helm: minimal rights, a restricted pod, documented values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from dev.cluster import binaries
from finetune_operator.settings import read_settings
from tests.chart_rendering import (
    CHART,
    CLUSTER_RIGHTS,
    LEASE_RIGHTS,
    NAMESPACE,
    NAMESPACED_RIGHTS,
    RELEASE,
    helm,
    only,
    render,
    rights,
)

pytestmark = pytest.mark.skipif(
    not binaries.path("helm").exists(),
    reason="helm is not built: python3 -m dev.cluster binaries --only helm",
)
DIGEST = "sha256:" + "0" * 64


@pytest.fixture(scope="module")
def objects() -> list[dict[str, Any]]:
    return render()


@pytest.fixture(scope="module")
def pod(objects: list[dict[str, Any]]) -> dict[str, Any]:
    spec: dict[str, Any] = only(objects, "Deployment", RELEASE)["spec"]["template"]["spec"]
    return spec


def test_lint_finds_nothing() -> None:
    result = helm("lint", "--strict", str(CHART))
    assert result.returncode == 0, result.stdout


def test_the_release_is_the_crd_rights_and_one_deployment(objects: list[dict[str, Any]]) -> None:
    assert sorted((o["kind"], o["metadata"]["name"]) for o in objects) == [
        ("ClusterRole", RELEASE),
        ("ClusterRole", f"{RELEASE}-cluster"),
        ("ClusterRole", f"{RELEASE}-edit"),
        ("ClusterRole", f"{RELEASE}-view"),
        ("ClusterRoleBinding", RELEASE),
        ("ClusterRoleBinding", f"{RELEASE}-cluster"),
        ("CustomResourceDefinition", "finetunejobs.finetune.dev"),
        ("Deployment", RELEASE),
        ("Role", f"{RELEASE}-leases"),
        ("RoleBinding", f"{RELEASE}-leases"),
        ("Service", f"{RELEASE}-metrics"),
        ("ServiceAccount", RELEASE),
    ]


def test_the_operators_rights_are_exactly_the_table(objects: list[dict[str, Any]]) -> None:
    assert rights(only(objects, "ClusterRole", RELEASE)) == NAMESPACED_RIGHTS
    assert rights(only(objects, "ClusterRole", f"{RELEASE}-cluster")) == CLUSTER_RIGHTS
    assert rights(only(objects, "Role", f"{RELEASE}-leases")) == LEASE_RIGHTS


def test_no_wildcards_no_secrets_no_change_of_jobs(objects: list[dict[str, Any]]) -> None:
    granted = [
        (group, resource, verb)
        for o in objects
        if o["kind"] in ("ClusterRole", "Role")
        for (group, resource), verbs in rights(o).items()
        for verb in verbs
    ]
    assert not [g for g in granted if "*" in g or g[1] == "secrets"]
    assert not [g for g in granted if g[1] == "jobs" and g[2] in ("patch", "update")]


@pytest.mark.parametrize(
    ("role", "verbs"),
    [
        ("view", {"get", "list", "watch"}),
        (
            "edit",
            {"get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"},
        ),
    ],
)
def test_the_built_in_roles_of_users_get_finetunejobs_alone(
    objects: list[dict[str, Any]], role: str, verbs: set[str]
) -> None:
    label = f"rbac.authorization.k8s.io/aggregate-to-{role}"
    granted: set[str] = set()
    for item in objects:
        if item["metadata"].get("labels", {}).get(label) == "true":
            assert rights(item).keys() == {("finetune.dev", "finetunejobs")}
            granted |= rights(item)["finetune.dev", "finetunejobs"]
    assert granted == verbs


def test_with_namespaces_no_right_on_objects_elsewhere() -> None:
    objects = render("namespaces={team-a,team-b}")
    everywhere = [o["roleRef"]["name"] for o in objects if o["kind"] == "ClusterRoleBinding"]
    assert everywhere == [f"{RELEASE}-cluster"]
    bound = {
        o["metadata"]["namespace"]
        for o in objects
        if o["kind"] == "RoleBinding" and o["roleRef"]["name"] == RELEASE
    }
    assert bound == {"team-a", "team-b"}
    assert environment(objects)["FINETUNE_NAMESPACES"] == "team-a,team-b"


def test_every_binding_is_to_the_operators_account(objects: list[dict[str, Any]]) -> None:
    subjects = [o["subjects"] for o in objects if o["kind"].endswith("Binding")]
    account = {"kind": "ServiceAccount", "name": RELEASE, "namespace": NAMESPACE}
    assert subjects == [[account]] * 3


def test_the_pod_is_restricted(pod: dict[str, Any]) -> None:
    container = pod["containers"][0]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }


def environment(objects: list[dict[str, Any]]) -> dict[str, str]:
    container = only(objects, "Deployment", RELEASE)["spec"]["template"]["spec"]["containers"][0]
    return {entry["name"]: entry.get("value", "from-field") for entry in container["env"]}


def test_the_operator_understands_its_environment(objects: list[dict[str, Any]]) -> None:
    values = environment(objects)
    settings = read_settings([], values)
    assert settings.trainer_image == "finetune-trainer:0.1.0"
    assert settings.lease_name == RELEASE
    assert settings.namespaces == ()
    defaults = read_settings(["--trainer-image=x"], {})
    for name in ("workers", "scrape_seconds", "progress_seconds", "resync_seconds", "log_format"):
        assert getattr(settings, name) == getattr(defaults, name), name


def test_ports_and_probes_are_those_that_the_operator_serves(
    objects: list[dict[str, Any]], pod: dict[str, Any]
) -> None:
    settings = read_settings([], environment(objects))
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert ports == {"metrics": settings.metrics_port, "health": settings.health_port}
    assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
    [port] = only(objects, "Service", f"{RELEASE}-metrics")["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (settings.metrics_port, "metrics")


@pytest.mark.parametrize(
    ("settings", "image"),
    [
        ([], "finetune-trainer:0.1.0"),
        (["trainerImage.tag=v2"], "finetune-trainer:v2"),
        (["trainerImage.tag=v2", f"trainerImage.digest={DIGEST}"], f"finetune-trainer@{DIGEST}"),
    ],
)
def test_an_image_is_named_by_digest_else_tag_else_version(settings: list[str], image: str) -> None:
    assert environment(render(*settings))["FINETUNE_TRAINER_IMAGE"] == image


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("imagee.tag=x", "imagee"),
        ("replicas=0", "replicas"),
        ("image.digest=sha256:abc", "digest"),
        ("operator.logFormat=xml", "logFormat"),
        ("namespaces={Team_A}", "namespaces"),
    ],
)
def test_a_wrong_value_is_refused_by_name(setting: str, words: str) -> None:
    result = helm("template", RELEASE, str(CHART), "--set", setting)
    assert result.returncode != 0
    assert words in result.stderr


def test_the_crd_is_optional_and_kept_on_uninstall() -> None:
    [crd] = [o for o in render() if o["kind"] == "CustomResourceDefinition"]
    assert crd["metadata"]["annotations"] == {"helm.sh/resource-policy": "keep"}
    [crd] = [o for o in render("crds.keep=false") if o["kind"] == "CustomResourceDefinition"]
    assert "annotations" not in crd["metadata"]
    assert "CustomResourceDefinition" not in {o["kind"] for o in render("crds.enabled=false")}


def leaves(node: dict[str, Any], path: str = "") -> Iterator[str]:
    for name, value in node.items():
        if isinstance(value, dict) and value and name != "resources":
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}"


def test_every_value_is_in_the_readme_and_in_the_schema() -> None:
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    readme = (CHART / "README.md").read_text()
    schema = json.loads((CHART / "values.schema.json").read_text())
    for path in leaves(values):
        assert f"| `{path}` |" in readme
        node = schema
        for part in path.split("."):
            node = node["properties"][part]
