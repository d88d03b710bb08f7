"""The asynchronous call of a function by itself: what is sent, and which answers confirm it."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.self_invocation import invoke_self
from tests.unit.fakes import ACCOUNT, Broken, Reply, invocation_of
from tests.unit.services.rpc_service import RpcService, refusal

NAME = "oss-tables-encryption-sweep"
PAYLOAD = b'{"share": {}}'
ACCEPTED = Reply(202, b"", {"x-fc-request-id": "1-2-3"})


class Functions(RpcService):
    """Queues every payload whose signature the vendor's library confirms."""

    def answer(self, request: httpx.Request) -> Reply:
        checked = super().answer(request)
        return ACCEPTED if checked.status == 200 else checked


def invoked(service: RpcService, **variables: str) -> str:
    environment = {"FC_FUNCTION_NAME": NAME, "GUARD_DEAD_LETTER_QUEUE": QUEUE, **variables}
    return invoke_self(invocation_of(service, environment=environment), PAYLOAD)


QUEUE = f"acs:mns:cn-hangzhou:{ACCOUNT}:/queues/letters"


def test_the_function_is_invoked_as_the_vendors_sdk_does() -> None:
    """With its path, host and headers, and a signature over the payload."""
    service = Functions()

    assert invoked(service) == "1-2-3"

    (request,) = service.requests
    assert request.method == "POST"
    assert str(request.url) == (
        f"https://fcv3.cn-hangzhou.aliyuncs.com/2023-03-30/functions/{NAME}/invocations"
    )
    assert request.content == PAYLOAD
    assert {name: request.headers[name] for name in SENT} == SENT


SENT = {
    "content-type": "application/octet-stream",
    "x-acs-action": "InvokeFunction",
    "x-acs-version": "2023-03-30",
    "x-fc-invocation-type": "Async",
}


def test_the_endpoint_is_a_setting() -> None:
    """Scheme, host and port are replaced, and the path stays."""
    service = Functions()

    invoked(service, GUARD_FC_ENDPOINT="https://fc.example.com:8443")

    assert str(service.requests[0].url).startswith("https://fc.example.com:8443/2023-03-30/")


@pytest.mark.parametrize(
    ("trouble", "tries"),
    [
        (refusal(429, "ResourceExhausted", "too many"), 2),
        (refusal(503, "ResourceThrottled", "too many"), 2),
        (Broken(httpx.ReadError), 2),
        (Reply(200, b"the result of a synchronous call", {"x-fc-request-id": "1"}), 2),
        (Reply(202, b""), 2),
    ],
    ids=["429", "503", "no answer", "not asynchronous", "no request ID"],
)
def test_what_is_not_confirmed_is_sent_again(trouble: Any, tries: int) -> None:
    """A second call of the same share does no harm."""
    service = Functions(troubles={"POST": [trouble]})

    assert invoked(service) == "1-2-3"
    assert len(service.requests) == tries


@pytest.mark.parametrize(
    ("status", "code"), [(403, "AccessDenied"), (404, "FunctionNotFound"), (413, "EntityTooLarge")]
)
def test_a_refusal_is_final_and_named(status: int, code: str) -> None:
    """With the code and the request ID that the service gave, in either of its headers."""
    reply = Reply(
        status,
        json.dumps({"Code": code, "Message": "no"}).encode(),
        {"x-fc-request-id": "4-5-6"},
    )
    service = Functions(troubles={"POST": [reply] * 4})

    with pytest.raises(ApiRefused, match=rf'answered {status} {code}: "no" \(request 4-5-6\)'):
        invoked(service)
    assert len(service.requests) == 1
