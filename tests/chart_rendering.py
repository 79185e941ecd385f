"""The chart as helm renders it, and the rights that the operator may have."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any, Final

import yaml

from dev.cluster import binaries

CHART: Final = Path("charts/finetune-operator")
RELEASE: Final = "finetune-operator"
NAMESPACE: Final = "finetune-system"

# (API group, resource) -> verbs; the whole of what the operator may do to objects of users.
NAMESPACED_RIGHTS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("finetune.dev", "finetunejobs"): frozenset({"get", "list", "watch"}),
    ("finetune.dev", "finetunejobs/status"): frozenset({"patch"}),
    ("finetune.dev", "finetunejobs/finalizers"): frozenset({"update"}),
    ("batch", "jobs"): frozenset({"get", "list", "watch", "create", "delete"}),
    ("", "pods"): frozenset({"get", "list", "watch", "delete"}),
    ("", "services"): frozenset({"get", "create", "delete"}),
    ("", "persistentvolumeclaims"): frozenset({"get", "create"}),
    ("networking.k8s.io", "networkpolicies"): frozenset({"get", "create"}),
    ("events.k8s.io", "events"): frozenset({"create"}),
}
CLUSTER_RIGHTS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("", "nodes"): frozenset({"get", "list", "watch"}),
    ("", "namespaces"): frozenset({"get", "list", "watch"}),
    ("finetune.dev", "finetuneprofiles"): frozenset({"get", "list", "watch"}),
}
LEASE_RIGHTS: Final[dict[tuple[str, str], frozenset[str]]] = {
    ("coordination.k8s.io", "leases"): frozenset({"get", "create", "update"}),
}


def helm(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run helm to its end; the caller looks at the exit status."""
    command = [str(binaries.path("helm")), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def render(*settings: str) -> list[dict[str, Any]]:
    """All objects of a release with `--set` for each of `settings`."""
    words = [word for setting in settings for word in ("--set", setting)]
    result = helm("template", RELEASE, str(CHART), f"--namespace={NAMESPACE}", *words)
    assert result.returncode == 0, result.stderr
    return [item for item in yaml.safe_load_all(result.stdout) if item]


def only(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of that kind and name."""
    [found] = [o for o in objects if o["kind"] == kind and o["metadata"]["name"] == name]
    return found


def rights(role: dict[str, Any]) -> dict[tuple[str, str], frozenset[str]]:
    """A role's rules as (group, resource) -> verbs."""
    result: dict[tuple[str, str], frozenset[str]] = {}
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                known = result.get((group, resource), frozenset())
                result[group, resource] = known | frozenset(rule["verbs"])
    return result
