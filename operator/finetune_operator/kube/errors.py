"""Answers of the API server that callers tell apart, as types.

The distinction that matters most is between errors that go away by trying again (`Transient`,
`Conflict`) and those that only a change of the world can cure. Everything that is not understood is
a plain `ApiError`, never swallowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class ApiError(Exception):
    """An answer other than success. `code` is the HTTP status, 0 when no answer came."""

    def __init__(
        self, message: str, *, code: int = 0, reason: str = "", retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.retry_after = retry_after  # seconds, from the Retry-After header


class NotFound(ApiError):
    """No such object, or its kind is not served."""


class Conflict(ApiError):
    """The object changed since it was read, or a precondition (uid) does not hold."""


class AlreadyExists(ApiError):
    """A create found the name taken."""


class Invalid(ApiError):
    """The API server refuses the object: a bug of ours, or a limit of the cluster."""


class Forbidden(ApiError):
    """RBAC, a quota or an admission policy says no."""


class Unauthorized(ApiError):
    """The credentials are not accepted, even after they were read again."""


class Transient(ApiError):
    """Overload, a server fault or a broken connection: the same request may succeed later."""


_BY_CODE: Mapping[int, type[ApiError]] = {
    400: Invalid,
    401: Unauthorized,
    403: Forbidden,
    404: NotFound,
    409: Conflict,
    422: Invalid,
    429: Transient,
}


def error_from_answer(
    code: int, headers: Mapping[str, str], answer: Mapping[str, Any] | None
) -> ApiError:
    """Turn a failed answer (metav1.Status or anything else) into a typed error."""
    status = answer or {}
    reason = str(status.get("reason") or "")
    message = str(status.get("message") or f"the API server answered {code}")
    kind = _BY_CODE.get(code, Transient if code >= 500 else ApiError)
    if code == 409 and reason == "AlreadyExists":
        kind = AlreadyExists
    return kind(message, code=code, reason=reason, retry_after=_retry_after(headers, status))


def _retry_after(headers: Mapping[str, str], status: Mapping[str, Any]) -> float | None:
    told = headers.get("Retry-After") or (status.get("details") or {}).get("retryAfterSeconds")
    try:
        return max(0.0, float(told)) if told is not None else None
    except ValueError:  # an HTTP date: the API server never sends one, proxies might
        return None
