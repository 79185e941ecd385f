"""The few calls to an API server that the cluster's own tools need, over the standard library.

kubectl would do, but each call of it costs a tenth of a second of a core, and the volume
provisioner and the waits of ``up`` look often.
"""

from __future__ import annotations

import base64
import http.client
import json
import ssl
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dev.cluster.errors import NotReady

Object = dict[str, Any]


class ApiError(NotReady):
    """The API server refused; ``code`` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Api:
    """One connection per call, authenticated with the kubeconfig's client certificate or token."""

    def __init__(self, kubeconfig: Path, *, seconds: float = 30) -> None:
        self._seconds = seconds
        config = json.loads(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        server = urlsplit(cluster["server"])
        self._host, self._port = server.hostname or "", server.port or 443
        authority = base64.b64decode(cluster["certificate-authority-data"]).decode()
        self._tls = ssl.create_default_context(cadata=authority)
        self._headers = {"Content-Type": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            _load_pair(self._tls, user["client-certificate-data"], user["client-key-data"])

    def request(
        self, verb: str, path: str, body: Object | None = None, *, content_type: str = ""
    ) -> Any:
        """Send one request; returns the decoded JSON, or text where the answer is none."""
        connection = http.client.HTTPSConnection(
            self._host, self._port, context=self._tls, timeout=self._seconds
        )
        try:
            data, status = self._exchange(connection, verb, path, body, content_type)
        finally:
            connection.close()
        if status >= 400:
            raise ApiError(status, f"{verb} {path}: {status} {_message(data)}")
        try:
            return json.loads(data)
        except ValueError:
            return data.decode()

    def get(self, path: str) -> Any:
        """GET; raises ApiError, with code 404 when there is no such object."""
        return self.request("GET", path)

    def exists(self, path: str) -> bool:
        """Whether GET finds the object."""
        try:
            self.get(path)
        except ApiError as error:
            if error.code == 404:
                return False
            raise
        return True

    def items(self, path: str) -> list[Object]:
        """All objects of a list, unpaged: a local cluster is small."""
        return list(self.get(path)["items"])

    def create(self, path: str, body: Object) -> bool:
        """POST; False when an object of that name is there already."""
        try:
            self.request("POST", path, body)
        except ApiError as error:
            if error.code == 409:
                return False
            raise
        return True

    def apply(self, path: str, body: Object) -> Object:
        """Server-side apply, so that a second ``up`` changes nothing."""
        query = "?fieldManager=dev-cluster&force=true"
        return dict(
            self.request("PATCH", path + query, body, content_type="application/apply-patch+yaml")
        )

    def merge(self, path: str, body: Object) -> Object:
        """JSON merge patch."""
        return dict(self.request("PATCH", path, body, content_type="application/merge-patch+json"))

    def _exchange(
        self,
        connection: http.client.HTTPSConnection,
        verb: str,
        path: str,
        body: Object | None,
        content_type: str,
    ) -> tuple[bytes, int]:
        headers = {**self._headers, **({"Content-Type": content_type} if content_type else {})}
        payload = None if body is None else json.dumps(body)
        connection.request(verb, path, body=payload, headers=headers)
        response = connection.getresponse()
        return response.read(), response.status


def _load_pair(context: ssl.SSLContext, certificate: str, key: str) -> None:
    """Ssl only reads certificates from files, so they lie in one for a moment."""
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(base64.b64decode(certificate) + base64.b64decode(key))
        file.flush()
        context.load_cert_chain(file.name)


def _message(data: bytes) -> str:
    try:
        return str(json.loads(data)["message"])
    except (ValueError, KeyError, TypeError):
        return data[:300].decode(errors="replace")
