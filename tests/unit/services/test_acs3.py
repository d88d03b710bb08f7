"""RPC APIs: the signature against the vendor's, what an answer means, and what is said of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from typing import Any

import httpx
import pytest
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.errors import Unavailable
from encryption_guard.services.acs3 import (
    ALGORITHM,
    Acs3Auth,
    Api,
    ApiRefused,
    call,
    canonical_query,
    canonical_request,
    new_nonce,
    signature,
)
from tests.unit.fakes import KEY, Broken, FakeTime, KeyRing, Reply, invocation_of
from tests.unit.services.rpc_service import RpcService, refusal, vendors_authorization

API = Api("https://sts.cn-hangzhou.aliyuncs.com", "2015-04-01")
STS = Credentials("STS.AKID", "AKSECRET", "a/token+of=STS")
AWKWARD = "a b*c~d+e'fé/%"


def called(service: RpcService, **rest: Any) -> dict[str, object]:
    return call(API, "AssumeRole", invocation_of(service, **rest), query={"RoleArn": AWKWARD})


# The signature.


def test_the_official_vector_comes_out() -> None:
    """The documented request gives the documented hash and the documented signature."""
    query = canonical_query(
        {
            "RegionId": "cn-shanghai",
            "ImageId": "win2019_1809_x64_dtc_zh-cn_40G_alibase_20230811.vhd",
        }
    )
    headers = {
        "host": "ecs.cn-shanghai.aliyuncs.com",
        "x-acs-action": "RunInstances",
        "x-acs-content-sha256": sha256(b"").hexdigest(),
        "x-acs-date": "2023-10-26T10:22:32Z",
        "x-acs-signature-nonce": "3156853299f313e23d1673dc12e1703d",
        "x-acs-version": "2014-05-26",
    }

    canonical, names = canonical_request(
        method="POST",
        path="/",
        query=query,
        headers=headers.items(),
        digest=sha256(b"").hexdigest(),
    )
    signed = signature(access_key_secret="YourAccessKeySecret", canonical_request=canonical)

    hashed = "7ea06492da5221eba5297e897ce16e55f964061054b7695beedaac1145b1e259"
    assert sha256(canonical.encode()).hexdigest() == hashed
    assert signed == "06563a9e1b43f5dfe96b81484da74bceab24a1d853912eee15083a6f0f3283c0"
    assert names == ";".join(headers)


# Actions with their version and host, and the parameters of each whose value others choose.
ACTIONS = {
    "AssumeRole": ("2015-04-01", "sts.cn-hangzhou.aliyuncs.com"),
    "ListAccounts": ("2022-04-19", "resourcedirectory.aliyuncs.com"),
}
AWKWARD_PARAMETERS = {
    "AssumeRole": ("RoleArn", "RoleSessionName", "ExternalId"),
    "ListAccounts": ("NextToken",),
}


def vendors_request(action: str, query: Mapping[str, str], body: bytes) -> tuple[DaraRequest, str]:
    """A request with every header that the vendor's SDK sends, and its Authorization."""
    version, host = ACTIONS[action]
    request = DaraRequest()
    request.method, request.pathname, request.query = "POST", "/", dict(query)
    request.headers = {
        "host": host,
        "x-acs-version": version,
        "x-acs-action": action,
        "user-agent": Utils.get_user_agent(""),
        "x-acs-date": "2026-01-02T03:04:05Z",
        "x-acs-signature-nonce": Utils.get_nonce(),
        "accept": "application/json",
        "x-acs-credentials-provider": "static_sts",
        "x-acs-padded": " two  words ",
        "x-acs-accesskey-id": STS.access_key_id,
        "x-acs-security-token": STS.security_token,
        "x-acs-content-sha256": sha256(body).hexdigest(),
    }
    authorization: str = Utils.get_authorization(
        request, ALGORITHM, sha256(body).hexdigest(), STS.access_key_id, STS.access_key_secret
    )
    return request, authorization


@pytest.mark.parametrize("action", ACTIONS)
@given(
    query=st.dictionaries(st.text("abcXYZ.019", min_size=1), st.text(max_size=20), max_size=4),
    value=st.text(max_size=20) | st.just(AWKWARD),
    body=st.binary(max_size=20),
)
def test_any_request_of_the_vendors_sdk_is_signed_alike(
    action: str, query: dict[str, str], value: str, body: bytes
) -> None:
    """The headers of the vendor's SDK, with any parameter and body, give its Authorization."""
    query |= dict.fromkeys(AWKWARD_PARAMETERS[action], value)
    theirs, authorization = vendors_request(action, query, body)

    canonical, names = canonical_request(
        method=theirs.method,
        path=theirs.pathname,
        query=canonical_query(query),
        headers=theirs.headers.items(),
        digest=sha256(body).hexdigest(),
    )
    signed = signature(access_key_secret=STS.access_key_secret, canonical_request=canonical)

    assert authorization == (
        f"{ALGORITHM} Credential={STS.access_key_id},SignedHeaders={names},Signature={signed}"
    )


@pytest.mark.parametrize("key", [KEY, STS], ids=["key", "key of STS"])
def test_every_header_that_counts_is_signed(key: Credentials) -> None:
    """Host, type of the body and all of `x-acs-*` are signed, the token of STS among them."""
    request = httpx.Request(
        "POST",
        "https://sts.cn-hangzhou.aliyuncs.com/?A=b",
        headers={"X-Acs-Action": "AssumeRole", "Content-Type": "text/plain", "accept": "*/*"},
        content=b"body",
    )
    now = FakeTime().now

    sent = next(Acs3Auth(key, now=now, nonce=lambda: "once").auth_flow(request))

    signed = sent.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    has_to_be = {name for name in sent.headers if name.startswith("x-acs-")}
    assert set(signed.split(";")) == has_to_be | {"host", "content-type"}
    assert sent.headers["authorization"] == vendors_authorization(sent, key)
    assert sent.headers["x-acs-date"] == "2026-01-02T03:04:05Z"
    assert sent.headers.get("x-acs-security-token") == key.security_token


def test_no_nonce_comes_twice() -> None:
    """A service refuses a nonce that it has seen: each request has another one."""
    assert new_nonce() != new_nonce()


# What is sent.


@pytest.mark.parametrize("key", [KEY, STS], ids=["key", "key of STS"])
def test_parameters_go_into_the_query_and_arrive(key: Credentials) -> None:
    """A call is a POST without a body, and any character of a parameter arrives as it is."""
    service = RpcService(key)

    answered = called(service, read_credentials=KeyRing([key]).read)

    (request,) = service.requests
    assert answered["Echo"] == {"RoleArn": AWKWARD}
    assert (request.method, request.url.path, request.content) == ("POST", "/", b"")
    assert request.headers["content-length"] == "0"
    assert request.headers["accept"] == "application/json"


def test_a_form_goes_into_the_body_and_is_signed() -> None:
    """Actions that take a form get one, covered by the digest."""
    service = RpcService()

    answered = call(API, "TestEventPattern", invocation_of(service), form={"Event": AWKWARD})

    (request,) = service.requests
    assert answered["Echo"] == {"Event": AWKWARD}
    assert request.url.query == b""
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    assert request.headers["x-acs-content-sha256"] == sha256(request.content).hexdigest()


# What an answer means.


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(503, "ServiceUnavailable", "busy"),
        refusal(400, "Throttling.User", "slow down"),
        refusal(429, "Throttling.Api", "slow down"),
        refusal(403, "Throttling.UserApi", "slow down"),
        Reply(200, json.dumps({"Success": False, "Code": "Throttling.User"}).encode()),
        Reply(200, b"<html>maintenance</html>"),
        Reply(200, b""),
        Reply(200, b"\xff\xfe"),
        Reply(502, b"<html>bad gateway</html>"),
        Broken(httpx.ConnectError),
    ],
)
def test_what_may_pass_is_asked_again(trouble: Reply | Broken) -> None:
    """Trouble of the service, throttling and answers that are none are outlived."""
    service = RpcService(troubles={"POST": [trouble, trouble]})

    assert called(service)["Echo"] == {"RoleArn": AWKWARD}
    assert len({request.headers["x-acs-signature-nonce"] for request in service.requests}) == 3


def test_a_wrong_clock_is_corrected_once() -> None:
    """Where the service says that the time has passed, its own is taken for the next attempt."""
    service = RpcService(
        troubles={
            "POST": [
                refusal(
                    400, "InvalidTimeStamp.Expired", "expired", date="Fri, 02 Jan 2026 04:04:05 GMT"
                )
            ]
        }
    )

    called(service)

    assert service.requests[-1].headers["x-acs-date"].startswith("2026-01-02T04:04")


@pytest.mark.parametrize(
    "refused",
    [
        refusal(401, "Unauthorized", "who?"),
        refusal(400, "InvalidSecurityToken.Expired", "expired"),
        refusal(403, "SecurityTokenExpired", "expired"),
    ],
)
def test_expired_credentials_are_read_again(refused: Reply) -> None:
    """A token that has expired is replaced once by what the environment holds by now."""
    service = RpcService(KEY, STS, troubles={"POST": [refused]})

    called(service, read_credentials=KeyRing([KEY, STS]).read)

    assert service.requests[-1].headers["x-acs-security-token"] == STS.security_token


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (
            refusal(403, "NoPermission", 'not "authorized"'),
            'answered 403 NoPermission: "not \\"authorized\\"" (request REQ-1).',
        ),
        (
            Reply(404, b'{"code": "NoSuchRole", "message": "no", "requestId": "abc"}'),
            'answered 404 NoSuchRole: "no" (request abc).',
        ),
        (
            Reply(200, b'{"Success": false, "Code": "EventBusNotExist", "RequestId": "1"}'),
            "answered 200 EventBusNotExist (request 1).",
        ),
        (
            Reply(403, b"<html>no</html>", {"x-acs-request-id": "H-1"}),
            "answered 403 (request H-1).",
        ),
        (Reply(302, b"", {"location": "https://elsewhere/"}), "answered 302."),
        (refusal(401, "Unauthorized", ""), "answered 401 Unauthorized (request REQ-1)."),
    ],
)
def test_a_refusal_is_told_in_a_sentence(answer: Reply, sentence: str) -> None:
    """The last word of an API is its status, code, message and request, in either casing."""
    service = RpcService(troubles={"POST": [answer]})

    with pytest.raises(ApiRefused) as caught:
        called(service)

    assert str(caught.value) == f"AssumeRole of sts.cn-hangzhou.aliyuncs.com {sentence}"
    assert caught.value.status == answer.status
    assert caught.value.code in sentence
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    ("status", "code", "denies"),
    [
        (403, "NoPermission", True),
        (400, "NoPermission", True),
        (404, "EntityNotExist.Role", True),
        (409, "NoPermission.ResourceDirectory.MemberAccount", True),
        (403, "Whatever", True),
        (404, "InvalidAccessKeyId.NotFound", False),
        (403, "InvalidAccessKeyId.Inactive", False),
        (403, "InvalidSecurityToken.Malformed", False),
        (403, "SignatureDoesNotMatch", False),
        (404, "InvalidAction.NotFound", False),
        (400, "InvalidParameter.RoleSessionName", False),
        (404, "", False),
    ],
)
def test_a_denial_is_told_from_other_refusals(status: int, code: str, denies: bool) -> None:
    """A refused key or signature, an unknown action and a page of a proxy deny no right."""
    assert ApiRefused("sentence", status=status, code=code).denies is denies


def test_a_signature_is_not_told() -> None:
    """A refusal that quotes the request's headers is told without its message."""
    quote = "server CanonicalRequest is [POST\n/\n\nhost:h\nx-acs-security-token:a/token+of=STS]"
    service = RpcService(troubles={"POST": [refusal(400, "SignatureDoesNotMatch", quote)]})

    with pytest.raises(ApiRefused) as caught:
        called(service)

    assert str(caught.value).endswith("answered 400 SignatureDoesNotMatch (request REQ-1).")


def test_what_an_answer_echoes_of_the_request_is_not_told() -> None:
    """Token, signature and key id are taken out of a message that echoes them."""
    key = Credentials("STS.AKID0123456789", "AKSECRET", "a-token-of-STS-0123456789")

    class Echoing(RpcService):
        def answer(self, request: httpx.Request) -> Reply:
            said = f"{request.headers['authorization']} {key.security_token}"
            return refusal(403, "Echo", said)

    with pytest.raises(ApiRefused) as caught:
        called(service := Echoing(key), read_credentials=KeyRing([key]).read)

    signed = service.requests[0].headers["authorization"].rpartition("Signature=")[2]
    for secret in (key.access_key_id, str(key.security_token), signed):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    ("trouble", "sentence"),
    [
        (
            refusal(400, "Throttling.User", "slow down"),
            'answered 400 Throttling.User: "slow down" (request REQ-1); a later try may succeed.',
        ),
        (Reply(200, b"<html>"), "answered 200, which is not a JSON object."),
        (Reply(502, b"<html>"), "answered 502; a later try may succeed."),
        (
            Broken(httpx.ConnectError),
            "gave no answer in 4 tries (ConnectError): check the region and the network.",
        ),
    ],
)
def test_what_never_passes_is_unavailable(trouble: Reply | Broken, sentence: str) -> None:
    """Trouble that lasts is told as such, after as many attempts as the settings allow."""
    service = RpcService(troubles={"POST": [trouble] * 9})

    with pytest.raises(Unavailable) as caught:
        called(service)

    assert str(caught.value) == f"AssumeRole of sts.cn-hangzhou.aliyuncs.com {sentence}"
    assert len(service.requests) == 4


def test_an_answer_is_read_only_so_far() -> None:
    """An answer beyond what the caller expects is none; the caller says how long one may be."""
    long = Reply(200, json.dumps({"Events": ["e" * 70_000]}).encode())

    with pytest.raises(Unavailable):
        called(RpcService(troubles={"POST": [long] * 9}))
    answered = call(
        API,
        "LookupEvents",
        invocation_of(RpcService(troubles={"POST": [long]})),
        max_bytes=100_000,
    )

    assert answered == {"Events": ["e" * 70_000]}
