"""The few verbs that this operator needs, over the official client's asyncio side.

The official package gives configuration, credentials and the HTTP session; requests and answers are
ours (`requests.py`), so that this module only sends. A failed send is tried again here only within
seconds: what lasts longer is the work queue's business, which backs off per key.
"""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol

import aiohttp
from kubernetes.aio import config as kube_config
from kubernetes.aio.client.configuration import Configuration
from kubernetes.aio.client.rest import RESTClientObject

from finetune_operator.kube import requests
from finetune_operator.kube.errors import ApiError, Transient, Unauthorized
from finetune_operator.kube.requests import Request, Resource, Response

USER_AGENT: Final = "finetune-operator"
REQUEST_TIMEOUT_SECONDS: Final = 30.0
ATTEMPTS: Final = 4  # sends per request while answers are transient
FIRST_DELAY_SECONDS: Final = 0.1
LONGEST_DELAY_SECONDS: Final = 5.0  # a longer Retry-After is left to the work queue

Observer = Callable[[Request, int, float], None]  # request, HTTP code (0: no answer), seconds


class Transport(Protocol):
    """Sends one request once."""

    async def send(self, request: Request) -> Response:
        """Return the answer whatever its code; raises Transient when none came."""

    async def renew_credentials(self) -> None:
        """Read token, certificates and address again."""

    async def close(self) -> None:
        """Close the connections."""


class Kube(Protocol):
    """What the operator does to the API server. Every verb raises `ApiError` and its kinds."""

    async def get(self, resource: Resource, namespace: str | None, *, name: str) -> dict[str, Any]:
        """Read one object."""

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = ""
    ) -> list[dict[str, Any]]:
        """Read a whole collection, page by page."""

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """Create and return the stored object."""

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """Replace and return the stored object."""

    async def delete(self, resource: Resource, namespace: str, *, name: str, uid: str) -> None:
        """Ask for deletion of the object of that uid."""

    async def replace_status(
        self,
        resource: Resource,
        namespace: str,
        *,
        name: str,
        version: str,
        status: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Replace the status of an object read at `version` and return the stored object."""


class KubeClient:
    """`Kube` over a transport, with the policy for answers that may change by waiting."""

    def __init__(
        self,
        transport: Transport,
        *,
        observe: Observer = lambda request, code, seconds: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = transport
        self._observe = observe
        self._sleep = sleep

    async def get(self, resource: Resource, namespace: str | None, *, name: str) -> dict[str, Any]:
        """See `Kube.get`."""
        return await self._answer(requests.get(resource, namespace, name=name))

    async def list(
        self, resource: Resource, namespace: str | None, *, labels: str = ""
    ) -> list[dict[str, Any]]:
        """See `Kube.list`."""
        items: list[dict[str, Any]] = []
        resume = ""
        while True:
            page = await self._answer(
                requests.list_page(resource, namespace, labels=labels, resume=resume)
            )
            items += page.get("items") or []
            resume = (page.get("metadata") or {}).get("continue") or ""
            if not resume:
                return items

    async def create(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """See `Kube.create`."""
        return await self._answer(requests.create(resource, body))

    async def update(self, resource: Resource, body: Mapping[str, Any]) -> dict[str, Any]:
        """See `Kube.update`."""
        return await self._answer(requests.update(resource, body))

    async def delete(self, resource: Resource, namespace: str, *, name: str, uid: str) -> None:
        """See `Kube.delete`."""
        await self._answer(requests.delete(resource, namespace, name=name, uid=uid))

    async def replace_status(
        self,
        resource: Resource,
        namespace: str,
        *,
        name: str,
        version: str,
        status: Mapping[str, Any],
    ) -> dict[str, Any]:
        """See `Kube.replace_status`."""
        return await self._answer(
            requests.replace_status(resource, namespace, name=name, version=version, status=status)
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()

    async def _answer(self, request: Request) -> dict[str, Any]:
        """Send until the answer is final, the attempts are spent or the wait would be long."""
        renewed = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return requests.read_answer(await self._send(request))
            except Unauthorized:
                if renewed:
                    raise
                renewed = True
                await self._transport.renew_credentials()
            except Transient as error:
                delay = retry_delay(error, attempt=attempt)
                if delay is None:
                    raise
                await self._sleep(delay)
        raise Transient(f"{request.method} {request.url}: no final answer")

    async def _send(self, request: Request) -> Response:
        started = time.monotonic()
        code = 0
        try:
            response = await self._transport.send(request)
            code = response.code
            return response
        finally:
            self._observe(request, code, time.monotonic() - started)


def retry_delay(error: ApiError, *, attempt: int) -> float | None:
    """Seconds to wait before the next send, None to give up. Honours Retry-After."""
    if attempt >= ATTEMPTS:
        return None
    if error.retry_after is not None:
        return error.retry_after if error.retry_after <= LONGEST_DELAY_SECONDS else None
    growth: int = 2 ** (attempt - 1)
    return FIRST_DELAY_SECONDS * growth * random.uniform(1.0, 1.5)


class AioTransport:
    """The official client's session, by the kubeconfig in KUBECONFIG, else as the pod's account."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self._rest = RESTClientObject(configuration)

    @classmethod
    async def connect(cls) -> AioTransport:
        """Read the credentials; raises kubernetes' ConfigException when there are none."""
        return cls(await load_configuration())

    async def send(self, request: Request) -> Response:
        """See `Transport.send`."""
        headers = {
            "Accept": requests.JSON,
            "Content-Type": request.content_type,
            "User-Agent": USER_AGENT,
        }
        for setting in (await self._configuration.auth_settings()).values():
            headers[setting["key"]] = setting["value"]
        try:
            answer = await self._rest.request(
                request.method,
                self._configuration.host + request.url,
                headers=headers,
                body=request.body,
                _request_timeout=aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS),
            )
            return Response(answer.status, await answer.read(), answer.headers)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            where = f"{request.method} {request.url}"
            raise Transient(f"{where}: {type(error).__name__}: {error}") from error

    async def renew_credentials(self) -> None:
        """See `Transport.renew_credentials`. Requests in flight end as Transient."""
        former = self._rest
        self._configuration = await load_configuration()
        self._rest = RESTClientObject(self._configuration)
        await former.close()

    async def close(self) -> None:
        """See `Transport.close`."""
        await self._rest.close()


async def load_configuration() -> Configuration:
    """Read address and credentials; raises kubernetes' ConfigException when there are none."""
    configuration = Configuration()
    path = os.environ.get("KUBECONFIG")
    if path:
        await kube_config.load_kube_config(
            config_file=path, client_configuration=configuration, persist_config=False
        )
    else:
        kube_config.load_incluster_config(client_configuration=configuration)
    return configuration
