"""Requests as data: which path, query and body each verb has. Pure, so tests need no server.

Objects travel as plain dicts, in the shape of the API. Typed models would cost tens of megabytes of
imports and lose fields that this version of the package does not know.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote, urlencode

from finetune_operator.constants import GROUP, PLURAL, VERSION
from finetune_operator.kube.errors import error_from_answer

JSON: Final = "application/json"
JSON_PATCH: Final = "application/json-patch+json"
LIST_CHUNK: Final = 500  # objects per page of a list


@dataclass(frozen=True, slots=True)
class Resource:
    """A kind of object, as the API's paths name it. `group` is empty for the core API."""

    group: str
    version: str
    plural: str

    def path(self, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
        """Path of a collection (name None) or an object; namespace None is cluster-wide."""
        parts = ["apis", self.group, self.version] if self.group else ["api", self.version]
        if namespace is not None:
            parts += ["namespaces", namespace]
        parts += [part for part in (self.plural, name, subresource) if part]
        return "/" + "/".join(quote(part, safe="") for part in parts)


FINETUNEJOBS: Final = Resource(GROUP, VERSION, PLURAL)
JOBS: Final = Resource("batch", "v1", "jobs")
PODS: Final = Resource("", "v1", "pods")
SERVICES: Final = Resource("", "v1", "services")
CLAIMS: Final = Resource("", "v1", "persistentvolumeclaims")
NETWORK_POLICIES: Final = Resource("networking.k8s.io", "v1", "networkpolicies")
EVENTS: Final = Resource("events.k8s.io", "v1", "events")
LEASES: Final = Resource("coordination.k8s.io", "v1", "leases")


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request. `url` is path and query below the server's address."""

    verb: str  # as RBAC names it: get, list, create, update, patch, delete
    method: str
    resource: Resource
    url: str
    body: Any = None
    content_type: str = JSON


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP answer, unread JSON."""

    code: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def get(resource: Resource, namespace: str | None, *, name: str) -> Request:
    """Read one object."""
    return Request("get", "GET", resource, resource.path(namespace, name))


def list_page(
    resource: Resource, namespace: str | None, *, labels: str = "", resume: str = ""
) -> Request:
    """Read a page of a collection; `resume` is the `continue` token of the page before."""
    query = {"limit": str(LIST_CHUNK)}
    if labels:
        query["labelSelector"] = labels
    if resume:
        query["continue"] = resume
    return Request("list", "GET", resource, f"{resource.path(namespace)}?{urlencode(query)}")


def create(resource: Resource, body: Mapping[str, Any]) -> Request:
    """Create an object in the namespace that its metadata names."""
    path = resource.path(body["metadata"].get("namespace"))
    return Request("create", "POST", resource, path, body)


def update(resource: Resource, body: Mapping[str, Any]) -> Request:
    """Replace an object; metadata.resourceVersion makes it conditional."""
    meta = body["metadata"]
    return Request(
        "update", "PUT", resource, resource.path(meta.get("namespace"), meta["name"]), body
    )


def delete(resource: Resource, namespace: str, *, name: str, uid: str) -> Request:
    """Delete the object of that uid.

    A Job stays until its pods are gone, so that its absence means theirs. Anything else must not
    wait for the garbage collector.
    """
    body: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Foreground" if resource == JOBS else "Background",
        "preconditions": {"uid": uid},
    }
    return Request("delete", "DELETE", resource, resource.path(namespace, name), body)


def replace_status(
    resource: Resource, namespace: str, *, name: str, version: str, status: Mapping[str, Any]
) -> Request:
    """Replace the whole status, only if the object still has that resourceVersion.

    A JSON patch, because RBAC grants `patch` alone and a merge patch would keep members that the
    new status no longer has. Writing the resourceVersion makes the API server answer 409 to a
    writer that read an older object.
    """
    body = [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
        {"op": "add", "path": "/status", "value": status},
    ]
    path = resource.path(namespace, name, "status")
    return Request("patch", "PATCH", resource, path, body, JSON_PATCH)


def read_answer(response: Response) -> dict[str, Any]:
    """Return the answered object; raises the typed error of a failed answer."""
    try:
        answer = json.loads(response.body) if response.body else {}
    except ValueError:
        answer = {"message": response.body[:256].decode(errors="replace")}
    if not isinstance(answer, dict):
        answer = {}
    if 200 <= response.code < 300:
        return answer
    raise error_from_answer(response.code, response.headers, answer)
