"""An API server's store in a dictionary: names, uids, resourceVersions and their conflicts.

For unit tests of code that only uses the verbs of `Kube`. It runs no admission, no defaulting and
no validation: the integration tests have the real one.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Mapping
from typing import Any

from finetune_operator.kube.errors import AlreadyExists, ApiError, Conflict, NotFound, Transient
from finetune_operator.kube.requests import Resource

Name = tuple[str, str, str]  # plural, namespace, name


class MemoryKube:
    """`Kube` over a dictionary. `failures` come once each, by (verb, plural); `cut`: always."""

    def __init__(self) -> None:
        self.objects: dict[Name, dict[str, Any]] = {}
        self.failures: dict[tuple[str, str], ApiError] = {}
        self.cut = False
        self.calls: list[tuple[str, str, str]] = []  # verb, plural, name
        self._numbers = itertools.count(1)

    async def get(self, resource: Resource, namespace: str | None, *, name: str) -> dict[str, Any]:
        self._call("get", resource, name)
        return copy.deepcopy(self._find(resource, namespace, name))

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = ""
    ) -> list[dict[str, Any]]:
        self._call("list", resource, labels)
        wanted = dict(pair.split("=", 1) for pair in labels.split(",") if pair)
        return [
            copy.deepcopy(item)
            for (plural, ns, _), item in sorted(self.objects.items())
            if plural == resource.plural and namespace in (None, ns)
            if wanted.items() <= item["metadata"].get("labels", {}).items()
        ]

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        metadata = body["metadata"]
        self._call("create", resource, metadata["name"])
        key = (resource.plural, metadata.get("namespace", ""), metadata["name"])
        if key in self.objects:
            raise AlreadyExists(f"{key} exists", code=409, reason="AlreadyExists")
        stored = copy.deepcopy(dict(body))
        stored["metadata"].setdefault("uid", f"uid-{next(self._numbers)}")
        self.objects[key] = stored
        return self._touch(stored)

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        metadata = body["metadata"]
        self._call("update", resource, metadata["name"])
        stored = self._find(resource, metadata.get("namespace", ""), metadata["name"])
        self._check(stored, metadata["resourceVersion"])
        stored.update(copy.deepcopy(dict(body)))
        return self._touch(stored)

    async def delete(self, resource: Resource, namespace: str, *, name: str, uid: str) -> None:
        self._call("delete", resource, name)
        if self._find(resource, namespace, name)["metadata"]["uid"] != uid:
            raise Conflict("another uid", code=409, reason="Conflict")
        del self.objects[(resource.plural, namespace, name)]

    async def replace_status(
        self,
        resource: Resource,
        namespace: str,
        *,
        name: str,
        version: str,
        status: Mapping[str, Any],
    ) -> dict[str, Any]:
        self._call("patch", resource, name)
        stored = self._find(resource, namespace, name)
        self._check(stored, version)
        stored["status"] = copy.deepcopy(dict(status))
        return self._touch(stored)

    def _call(self, verb: str, resource: Resource, name: str) -> None:
        self.calls.append((verb, resource.plural, name))
        if self.cut:
            raise Transient("no route to the API server")
        failure = self.failures.pop((verb, resource.plural), None)
        if failure is not None:
            raise failure

    def _find(self, resource: Resource, namespace: str | None, name: str) -> dict[str, Any]:
        try:
            return self.objects[(resource.plural, namespace or "", name)]
        except KeyError:
            raise NotFound(f"{name} not found", code=404, reason="NotFound") from None

    @staticmethod
    def _check(stored: Mapping[str, Any], version: str) -> None:
        if stored["metadata"]["resourceVersion"] != version:
            raise Conflict("changed since it was read", code=409, reason="Conflict")

    def _touch(self, stored: dict[str, Any]) -> dict[str, Any]:
        stored["metadata"]["resourceVersion"] = str(next(self._numbers))
        return copy.deepcopy(stored)
