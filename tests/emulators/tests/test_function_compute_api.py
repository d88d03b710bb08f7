"""The emulated door of Function Compute under the vendor's client, and under altered requests."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any
from urllib.parse import unquote

import fc2
import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import utc_now
from tests.emulators.faults import Fault, Refuse, throttle
from tests.emulators.function_compute_api import FunctionComputeApi

ACCOUNT = "1234567890123456"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN")
ASYNC = {"x-fc-invocation-type": "Async"}
PATH = "/2016-08-15/services/svc/functions/fn/invocations"
LARGEST = 128 * 1024


class Version3(fc2.Client):  # type: ignore[misc]  # fc2 publishes no types
    """The vendor's client on the paths of 3.0, which its own methods do not know."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.api_version = "2023-03-30"

    def invoke(
        self,
        name: str,
        payload: bytes,
        query: dict[str, str] | None = None,
        *,
        signed: bool = False,
    ) -> Any:
        path = f"/{self.api_version}/functions/{name}/invocations"
        queries = query if signed else None
        headers = self._build_common_headers("POST", unquote(path), ASYNC, queries)
        return self._do_request("POST", path, headers, query, payload)


class Altered(fc2.Client):  # type: ignore[misc]  # as above
    """The vendor's client, with a request that is altered after it was signed."""

    def __init__(self, *, method: str, path: str, added: dict[str, Any], **settings: Any) -> None:
        super().__init__(**settings)
        self.altered = method, path, added

    def _do_request(
        self,
        _method: str,
        _path: str,
        headers: dict[str, Any],
        params: Any = None,
        body: Any = None,
    ) -> Any:
        method, path, added = self.altered
        return super()._do_request(method, path, headers | added, params, body)


def ignore(_event: bytes) -> None:
    """A function for tests that look at what was accepted, or was not."""


@pytest.fixture
def service() -> Iterator[FunctionComputeApi]:
    functions = dict.fromkeys(("svc$fn", "svc$other", "enforcer"), ignore)
    with FunctionComputeApi(KEY, functions=functions) as service:
        yield service


def client(
    service: FunctionComputeApi, key: AccessKey = KEY, kind: Any = fc2.Client, **more: Any
) -> Any:
    return kind(
        endpoint=service.url,
        accessKeyID=key.id,
        accessKeySecret=key.secret,
        securityToken=key.security_token or "",
        Timeout=10,
        **more,
    )


def invoke(client: Any, function: str = "fn", payload: bytes = b"{}", **headers: str) -> Any:
    """An asynchronous invocation as the vendor's client makes it, unchanged."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return client.invoke_function("svc", function, payload=payload, headers=ASYNC | named)


def refusal(call: Any, *arguments: Any, **named: Any) -> Any:
    with pytest.raises(fc2.FcError) as caught:
        call(*arguments, **named)
    return caught.value


@pytest.mark.parametrize("qualifier", [None, "LATEST"])
def test_the_vendors_client_invokes_a_function_of_2_0(
    service: FunctionComputeApi, qualifier: str | None
) -> None:
    """The event is accepted byte for byte, under the name of its service and its function."""
    event = '{"größe": 1}'.encode()

    answer = client(service).invoke_function(
        "svc", "fn", payload=event, headers=ASYNC, qualifier=qualifier
    )

    assert service.accepted == [("svc$fn", event)]
    assert answer.data == b""
    (request,) = service.requests
    assert (request.status, request.operation, request.resource) == (
        202,
        "InvokeFunction",
        "svc$fn",
    )
    assert answer.headers["X-Fc-Request-Id"] == request.request_id


@pytest.mark.parametrize("name", ["enforcer", "svc$fn", "svc%24fn"])
def test_a_function_of_3_0_is_a_name_in_the_path(service: FunctionComputeApi, name: str) -> None:
    """What came over from 2.0 is named by its service, a dollar sign and its function."""
    answer = client(service, kind=Version3).invoke(name, b"{}")

    assert answer.status_code == 202
    assert service.accepted == [(unquote(name), b"{}")]


@pytest.mark.parametrize("signed", [True, False])
def test_a_qualifier_of_3_0_may_be_signed_or_not(service: FunctionComputeApi, signed: bool) -> None:
    """The vendor's client can sign the query or leave it out; either is taken."""
    caller = client(service, kind=Version3)

    assert caller.invoke("enforcer", b"", {"qualifier": "LATEST"}, signed=signed).status_code == 202


def test_nobody_waits_for_the_function() -> None:
    """An event is answered with a 202 before its function has ended; `join` waits for the end."""
    release, ended = threading.Event(), threading.Event()

    def function(_event: bytes) -> None:
        release.wait(10)
        ended.set()

    with FunctionComputeApi(KEY, functions={"svc$fn": function}) as service:
        invoke(client(service))
        with pytest.raises(TimeoutError, match="1 deliveries"):
            service.join(0)
        release.set()
        service.join(10)

        assert ended.is_set()


@pytest.mark.parametrize(
    ("known", "sent", "code"),
    [
        (KEY, replace(KEY, secret="wrong"), "SignatureNotMatch"),
        (KEY, replace(KEY, id="NOBODY"), "InvalidAccessKeyID"),
        (STS_KEY, KEY, "InvalidAccessKeyID"),
        (KEY, STS_KEY, "InvalidSecurityToken"),
        (STS_KEY, replace(STS_KEY, security_token="OTHER"), "InvalidSecurityToken"),
        (replace(STS_KEY, expires_at=utc_now()), STS_KEY, "SecurityTokenExpired"),
        (replace(KEY, denied=frozenset({"Invoke*"})), KEY, "AccessDenied"),
    ],
)
def test_a_wrong_caller_is_refused(known: AccessKey, sent: AccessKey, code: str) -> None:
    """A wrong secret, key, token or right is a 403, and nothing is delivered."""
    with FunctionComputeApi(known, functions={"svc$fn": ignore}) as service:
        error = refusal(invoke, client(service, sent))

    assert (error.status_code, error.err_code) == (403, code)
    assert error.request_id == service.requests[-1].request_id
    assert service.accepted == []


def test_a_foreign_account_is_denied(service: FunctionComputeApi) -> None:
    """The functions belong to the account of the first key; a key of another may not use them."""
    foreign = AccessKey("FOREIGN", "SECRET", "9999999999999999")
    service.admit(foreign)

    error = refusal(invoke, client(service, foreign))

    assert (error.status_code, error.err_code) == (403, "AccessDenied")


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (f"{ACCOUNT}.cn-hangzhou.fc.aliyuncs.com", None),
        (f"{ACCOUNT}.cn-hangzhou-internal.fc.aliyuncs.com", None),
        ("1.cn-hangzhou.fc.aliyuncs.com", (403, "AccessDenied")),
        ("example.com", (404, "DomainNameNotFound")),
    ],
)
def test_the_host_names_the_account(
    service: FunctionComputeApi, host: str, expected: tuple[int, str] | None
) -> None:
    """The account's own endpoints are served, another account's and any other name are not."""
    if expected is None:
        invoke(client(service), host=host)
    else:
        error = refusal(invoke, client(service), host=host)
        assert (error.status_code, error.err_code) == expected

    assert len(service.accepted) == (1 if expected is None else 0)


OTHER = PATH.replace("/fn/", "/other/")
SOON = format_datetime(utc_now() + timedelta(minutes=1), usegmt=True)
LATE = format_datetime(utc_now() - timedelta(minutes=16), usegmt=True)


@pytest.mark.parametrize(
    ("method", "path", "added", "status", "code"),
    [
        ("POST", OTHER, {}, 403, "SignatureNotMatch"),
        ("POST", PATH, {"date": SOON}, 403, "SignatureNotMatch"),
        ("POST", PATH, {"content-type": "text/plain"}, 403, "SignatureNotMatch"),
        ("POST", PATH, {"x-fc-added": "1"}, 403, "SignatureNotMatch"),
        ("POST", PATH, {"x-fc-invocation-type": None}, 403, "SignatureNotMatch"),
        ("POST", PATH, {"date": None}, 400, "MissingRequiredHeader"),
        ("POST", PATH, {"authorization": None}, 400, "InvalidArgument"),
        ("POST", PATH, {"authorization": "Basic x"}, 400, "InvalidArgument"),
        ("GET", PATH, {}, 400, "PathNotSupported"),
        ("POST", "/2016-08-15/services", {}, 400, "PathNotSupported"),
    ],
)
def test_what_is_altered_is_refused(
    service: FunctionComputeApi,
    method: str,
    path: str,
    added: dict[str, Any],
    status: int,
    code: str,
) -> None:
    """A path, date or header of the protocol that is altered after the signing is refused."""
    altered = client(service, kind=Altered, method=method, path=path, added=added)

    error = refusal(invoke, altered)

    assert (error.status_code, error.err_code) == (status, code)
    assert service.accepted == []


@pytest.mark.parametrize(
    ("headers", "status", "code", "message"),
    [
        # Its code is that of any missing right, so the message holds both times.
        ({"date": LATE}, 403, "AccessDenied", "the difference between the request time"),
        ({"date": "yesterday"}, 400, "InvalidArgument", "invalid date"),
        ({"x_fc_invocation_type": "Sync"}, 400, "InvalidArgument", "asynchronous"),
    ],
)
def test_what_is_signed_and_wrong_is_refused(
    service: FunctionComputeApi, headers: dict[str, str], status: int, code: str, message: str
) -> None:
    """A date that is 16 minutes off or none at all is refused, as is a synchronous invocation."""
    error = refusal(invoke, client(service), **headers)

    assert (error.status_code, error.err_code) == (status, code)
    assert message in error.message


@pytest.mark.parametrize(
    ("names", "code"),
    [
        (("missing", "fn"), "ServiceNotFound"),
        (("svc", "missing"), "FunctionNotFound"),
        (("svc.7", "fn"), "VersionNotFound"),
        (("svc.prod", "fn"), "AliasNotFound"),
    ],
)
def test_what_does_not_exist_is_not_found(
    service: FunctionComputeApi, names: tuple[str, str], code: str
) -> None:
    """A service, function, version or alias that is not there is a 404 of its own code."""
    error = refusal(client(service).invoke_function, *names, payload=b"", headers=ASYNC)

    assert (error.status_code, error.err_code) == (404, code)


@pytest.mark.parametrize(
    ("name", "query", "code"),
    [
        ("missing", None, "FunctionNotFound"),
        ("enforcer", {"qualifier": "prod"}, "AliasNotFound"),
    ],
)
def test_an_error_of_3_0_has_its_own_form(
    service: FunctionComputeApi, name: str, query: dict[str, str] | None, code: str
) -> None:
    """Its code is called Code, so that the vendor's client of 2.0 finds none in its err_code."""
    error = refusal(client(service, kind=Version3).invoke, name, b"", query)

    assert (error.status_code, error.err_code) == (404, "")
    document = json.loads(error.message)
    assert document.keys() == {"Code", "Message", "RequestId"}
    assert (document["Code"], document["RequestId"]) == (code, service.requests[-1].request_id)


def test_the_size_of_an_event_is_limited(service: FunctionComputeApi) -> None:
    """An event of 128 KB is taken and a larger one refused."""
    invoke(client(service), payload=b"a" * LARGEST)
    error = refusal(invoke, client(service), payload=b"a" * (LARGEST + 1))

    assert (error.status_code, error.err_code) == (400, "EntityTooLarge")
    assert [len(event) for _, event in service.accepted] == [LARGEST]


@pytest.mark.parametrize(
    ("effect", "code"),
    [
        (throttle(429, retry_after=60), "ResourceExhausted"),
        (throttle(503), "ResourceThrottled"),
        (Refuse(500), "InternalServerError"),
    ],
)
def test_a_fault_meets_one_function(service: FunctionComputeApi, effect: Refuse, code: str) -> None:
    """One function is throttled, once, while another one is served."""
    service.faults.add(Fault(effect, "InvokeFunction", "svc$fn", times=1))

    invoke(client(service), "other")
    error = refusal(invoke, client(service))
    invoke(client(service))

    assert (error.status_code, error.err_code) == (effect.status, code)
    assert [function for function, _ in service.accepted] == ["svc$other", "svc$fn"]
