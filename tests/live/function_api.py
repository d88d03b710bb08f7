"""Function Compute 3.0 asked with the signature of the vendor's FC 2.0 client.

As the guard's redrive does it, and with the same doubt: that it is taken on these paths is nowhere
documented, so an answer settles it. The client only signs; requests go through the guard's own
transport, for the reasons that `encryption_guard.services.function_compute` tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from email.utils import format_datetime

import httpx
from fc2.auth import Auth

from encryption_guard.http import Answer, new_request, send
from encryption_guard.invocation import Invocation
from encryption_guard.untrusted import object_or_empty, strings
from tests.live.observations import Said, Told

# A cold start is within it.
SECONDS = 60.0
TRIES = 3


def _signed(request: httpx.Request, invocation: Invocation) -> httpx.Request:
    """With `x-fc-*` and the path; a query is no part of it, as with the client itself."""
    given = invocation.read_credentials()
    request.headers["date"] = format_datetime(invocation.clock.now(), usegmt=True)
    if given.security_token:
        request.headers["x-fc-security-token"] = given.security_token
    signer = Auth(given.access_key_id, given.access_key_secret)
    request.headers["authorization"] = signer.sign_request(
        request.method, request.url.path, dict(request.headers)
    )
    return request


class FunctionApi:
    """The functions of one account and region."""

    def __init__(self, invocation: Invocation, *, region: str, account: str) -> None:
        self._invocation = invocation
        self._base = (
            invocation.settings.fc_endpoint or f"https://{account}.{region}.fc.aliyuncs.com"
        )

    def get(self, function: str, below: str = "") -> Told:
        """What is told of a function, or of its trigger or asynchronous configuration."""
        return self._asked("GET", f"{function}{below}", headers={})

    def invoke(self, function: str, event: bytes) -> Told:
        """A synchronous invocation; an exception in the function is told as its error type."""
        headers = {"x-fc-invocation-type": "Sync"}
        return self._asked("POST", f"{function}/invocations", headers=headers, content=event)

    def _asked(
        self, method: str, path: str, *, headers: Mapping[str, str], content: bytes = b""
    ) -> Told:
        lost = ""
        for _ in range(TRIES):
            request = new_request(
                method,
                f"{self._base}/2023-03-30/functions/{path}",
                headers={"content-type": "application/json", **headers},
                content=content,
            )
            try:
                return _told(
                    send(
                        self._invocation.transport,
                        _signed(request, self._invocation),
                        until=self._invocation.clock.monotonic() + SECONDS,
                    )
                )
            except httpx.TransportError as error:
                lost = type(error).__name__
        return Told(Said(None, lost))


def _told(answer: Answer) -> Told:
    fields = object_or_empty(answer.body.decode("utf-8", "replace"))
    if failed := answer.headers.get("x-fc-error-type"):
        return Told(Said(answer.status, failed))
    code = next(strings(fields, "code", "errorcode"), "") if answer.status >= 400 else ""
    return Told(Said(answer.status, code), fields)
