"""What goes over the wire, and which error an answer becomes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from finetune_operator.kube import requests
from finetune_operator.kube.client import ATTEMPTS, KubeClient
from finetune_operator.kube.errors import (
    AlreadyExists,
    ApiError,
    Conflict,
    Forbidden,
    Invalid,
    NotFound,
    Transient,
    Unauthorized,
)
from finetune_operator.kube.requests import (
    FINETUNEJOBS,
    JOBS,
    PODS,
    Request,
    Resource,
    Response,
    read_answer,
)

JOB = {"metadata": {"namespace": "team", "name": "j-1"}}


@pytest.mark.parametrize(
    ("request_", "method", "url"),
    [
        (
            requests.get(FINETUNEJOBS, "team", name="j"),
            "GET",
            "/apis/finetune.dev/v1alpha1/namespaces/team/finetunejobs/j",
        ),
        (requests.get(Resource("", "v1", "nodes"), None, name="n1"), "GET", "/api/v1/nodes/n1"),
        (
            requests.list_page(PODS, "team", labels="a/b=c,d=e"),
            "GET",
            "/api/v1/namespaces/team/pods?limit=500&labelSelector=a%2Fb%3Dc%2Cd%3De",
        ),
        (
            requests.list_page(FINETUNEJOBS, None, resume="x=="),
            "GET",
            "/apis/finetune.dev/v1alpha1/finetunejobs?limit=500&continue=x%3D%3D",
        ),
        (requests.create(JOBS, JOB), "POST", "/apis/batch/v1/namespaces/team/jobs"),
        (requests.update(JOBS, JOB), "PUT", "/apis/batch/v1/namespaces/team/jobs/j-1"),
        (
            requests.delete(JOBS, "team", name="../j", uid="u"),
            "DELETE",
            "/apis/batch/v1/namespaces/team/jobs/..%2Fj",
        ),
        (
            requests.replace_status(FINETUNEJOBS, "team", name="j", version="7", status={}),
            "PATCH",
            "/apis/finetune.dev/v1alpha1/namespaces/team/finetunejobs/j/status",
        ),
    ],
    ids=lambda value: value.verb if isinstance(value, Request) else "",
)
def test_a_verb_has_one_method_and_path(request_: Request, method: str, url: str) -> None:
    assert (request_.method, request_.url) == (method, url)


def test_a_status_is_replaced_as_a_whole_and_only_at_the_version_that_was_read() -> None:
    request = requests.replace_status(
        FINETUNEJOBS, "team", name="j", version="7", status={"phase": "Running"}
    )
    assert request.content_type == "application/json-patch+json"
    assert request.body == [
        {"op": "replace", "path": "/metadata/resourceVersion", "value": "7"},
        {"op": "add", "path": "/status", "value": {"phase": "Running"}},
    ]


@pytest.mark.parametrize(
    ("resource", "policy"),
    [(JOBS, "Foreground"), (PODS, "Background")],
    ids=["a Job waits for its pods", "a pod for nobody"],
)
def test_a_deletion_names_the_uid_and_what_to_wait_for(resource: Resource, policy: str) -> None:
    assert requests.delete(resource, "team", name="p", uid="u1").body == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "preconditions": {"uid": "u1"},
        "propagationPolicy": policy,
    }


@pytest.mark.parametrize(
    ("code", "reason", "kind"),
    [
        (400, "BadRequest", Invalid),
        (401, "Unauthorized", Unauthorized),
        (403, "Forbidden", Forbidden),
        (404, "NotFound", NotFound),
        (409, "AlreadyExists", AlreadyExists),
        (409, "Conflict", Conflict),
        (410, "Expired", ApiError),
        (418, "", ApiError),
        (422, "Invalid", Invalid),
        (429, "TooManyRequests", Transient),
        (500, "InternalError", Transient),
        (503, "ServiceUnavailable", Transient),
        (504, "Timeout", Transient),
    ],
)
def test_an_answer_becomes_the_error_of_its_kind(
    code: int, reason: str, kind: type[ApiError]
) -> None:
    with pytest.raises(ApiError) as caught:
        read_answer(answer(code, reason=reason, message="because"))
    assert type(caught.value) is kind
    assert (caught.value.code, caught.value.reason, str(caught.value)) == (code, reason, "because")


@pytest.mark.parametrize("body", [b"", b"<html>bad gateway</html>", b"[]", b"null"])
def test_an_answer_that_is_no_status_is_still_an_error(body: bytes) -> None:
    with pytest.raises(Transient):
        read_answer(Response(502, body))


@pytest.mark.parametrize(
    ("response", "seconds"),
    [
        (Response(429, b"", {"Retry-After": "3"}), 3.0),
        (Response(429, b'{"details": {"retryAfterSeconds": 2}}'), 2.0),
        (Response(429, b"", {"Retry-After": "Wed, 21 Oct 2026 07:28:00 GMT"}), None),
        (Response(503, b""), None),
    ],
)
def test_retry_after_is_read(response: Response, seconds: float | None) -> None:
    with pytest.raises(Transient) as caught:
        read_answer(response)
    assert caught.value.retry_after == seconds


# --- the policy of the client ---------------------------------------------------------------------


class Script:
    """A transport that plays answers (or raises them) in order."""

    def __init__(self, *steps: Response | ApiError) -> None:
        self.steps = list(steps)
        self.sent: list[Request] = []
        self.renewals = 0

    async def send(self, request: Request) -> Response:
        self.sent.append(request)
        step = self.steps.pop(0)
        if isinstance(step, ApiError):
            raise step
        return step

    async def renew_credentials(self) -> None:
        self.renewals += 1

    async def close(self) -> None:
        pass


def answer(code: int, **body: Any) -> Response:
    return Response(code, json.dumps(body).encode())


def client(script: Script) -> tuple[KubeClient, list[float], list[int]]:
    slept: list[float] = []
    codes: list[int] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    kube = KubeClient(script, observe=lambda _, code, __: codes.append(code), sleep=sleep)
    return kube, slept, codes


async def test_a_transient_answer_is_tried_again_and_every_send_is_counted() -> None:
    script = Script(Transient("reset"), answer(503), answer(200, kind="Job"))
    kube, slept, codes = client(script)
    assert await kube.get(JOBS, "team", name="j") == {"kind": "Job"}
    assert codes == [0, 503, 200]
    assert 0.1 <= slept[0] <= 0.15
    assert 0.2 <= slept[1] <= 0.3


async def test_after_some_sends_the_work_queue_is_given_the_problem() -> None:
    script = Script(*[answer(500)] * 10)
    kube, _, _ = client(script)
    with pytest.raises(Transient):
        await kube.get(JOBS, "team", name="j")
    assert len(script.sent) == ATTEMPTS


async def test_retry_after_is_honoured() -> None:
    script = Script(Response(429, b"", {"Retry-After": "2"}), answer(200))
    kube, slept, _ = client(script)
    await kube.create(JOBS, JOB)
    assert slept == [2.0]


async def test_a_long_retry_after_is_left_to_the_work_queue() -> None:
    kube, slept, _ = client(Script(Response(429, b"", {"Retry-After": "60"})))
    with pytest.raises(Transient) as caught:
        await kube.get(JOBS, "team", name="j")
    assert caught.value.retry_after == 60
    assert slept == []


async def test_an_expired_token_is_read_again_once() -> None:
    script = Script(answer(401), answer(200))
    kube, _, _ = client(script)
    await kube.get(JOBS, "team", name="j")
    assert script.renewals == 1

    script = Script(answer(401), answer(401))
    kube, _, _ = client(script)
    with pytest.raises(Unauthorized):
        await kube.get(JOBS, "team", name="j")
    assert script.renewals == 1


@pytest.mark.parametrize("code", [400, 403, 404, 409, 422])
async def test_a_final_answer_is_not_tried_again(code: int) -> None:
    script = Script(answer(code))
    kube, _, _ = client(script)
    with pytest.raises(ApiError):
        await kube.get(JOBS, "team", name="j")
    assert len(script.sent) == 1


async def test_a_list_follows_its_pages() -> None:
    script = Script(
        answer(200, items=[{"n": 1}], metadata={"continue": "more"}),
        answer(200, items=[{"n": 2}], metadata={}),
    )
    kube, _, _ = client(script)
    assert await kube.list(PODS, "team") == [{"n": 1}, {"n": 2}]
    assert script.sent[1].url.endswith("limit=500&continue=more")
