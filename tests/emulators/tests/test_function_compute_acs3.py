"""The emulated Function Compute of 3.0 under the vendor's newest client, and altered requests."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from alibabacloud_tea_openapi.utils_models import OpenApiRequest

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import ALGORITHM
from tests.emulators.emulated_service import utc_now
from tests.emulators.function_compute_api import FunctionComputeApi
from tests.emulators.ram_policies import Policy
from tests.emulators.tests.rpc_requests import call, code, put, vendor_call

ACCOUNT = "1234567890123456"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN")
NAME = "sweep"
PATH = f"/2023-03-30/functions/{NAME}/invocations"


def serving(*keys: AccessKey) -> FunctionComputeApi:
    return FunctionComputeApi(*keys, functions={NAME: lambda _event: None})


@pytest.fixture
def service() -> Iterator[FunctionComputeApi]:
    with serving(KEY) as service:
        yield service


def invoked_by_the_vendor(
    service: FunctionComputeApi, key: AccessKey, payload: bytes
) -> tuple[int, dict[str, Any]]:
    """Status and headers as `alibabacloud_fc20230330` 4.8.3 gets them; it only adds the names."""
    headers = {"x-fc-invocation-type": "Async"}
    return vendor_call(
        *(service, key, OpenApiRequest(headers=headers, body=payload, stream=payload)),
        action="InvokeFunction",
        version="2023-03-30",
        pathname=PATH,
        style="ROA",
        req_body_type="json",
        body_type="binary",
    )


@pytest.mark.parametrize("key", [KEY, STS_KEY], ids=["key", "key of STS"])
def test_the_vendors_newest_client_invokes_a_function(key: AccessKey) -> None:
    """The payload is accepted byte for byte, and the answer has the ID of the request."""
    payload = '{"größe": 1}'.encode()

    with serving(key) as service:
        status, headers = invoked_by_the_vendor(service, key, payload)

        assert (status, service.accepted) == (202, [(NAME, payload)])
        assert headers["x-fc-request-id"] == service.requests[0].request_id


def test_a_key_without_the_right_is_refused() -> None:
    """The right names the function."""
    policy = Policy.of(
        [
            {
                "Effect": "Allow",
                "Action": "fc:InvokeFunction",
                "Resource": f"acs:fc:cn-hangzhou:{ACCOUNT}:functions/other",
            }
        ]
    )
    key = replace(KEY, policy=policy)

    with serving(key) as service:
        assert invoked_by_the_vendor(service, key, b"{}") == (403, {"Code": "AccessDenied"})
        assert service.accepted == []


def invoked(service: FunctionComputeApi, **altered: Any) -> tuple[int, str]:
    """The status and the code of the answer to a request that the official library signed."""
    answer = call(
        *(service, "InvokeFunction", "2023-03-30"),
        now=utc_now(),
        key=KEY,
        path=PATH,
        body=b"{}",
        after=lambda headers: headers.update({"x-fc-invocation-type": "Async"}),
        **altered,
    )
    return code(answer)


def test_the_hosts_of_its_region_are_served(service: FunctionComputeApi) -> None:
    """Whose account it is says the key; a host of another region is not this service's."""
    hosts = (
        "fcv3.cn-hangzhou.aliyuncs.com",
        f"{ACCOUNT}.cn-hangzhou.fc.aliyuncs.com",
        "fcv3.cn-shanghai.aliyuncs.com",
    )

    answers = [invoked(service, before=put(host=host)) for host in hosts]

    assert answers == [(202, ""), (202, ""), (404, "DomainNameNotFound")]


def test_a_payload_that_was_altered_is_refused(service: FunctionComputeApi) -> None:
    """Unlike the older signature, this one covers it."""
    other = put(x_acs_content_sha256=sha256(b"[]").hexdigest())

    assert invoked(service, before=other) == (400, "IncompleteSignature")
    assert service.accepted == []


def test_a_request_is_taken_once(service: FunctionComputeApi) -> None:
    """A repeated nonce is refused."""
    once = put(x_acs_signature_nonce="once")

    answers = [invoked(service, before=once) for _ in range(2)]

    assert answers == [(202, ""), (400, "SignatureNonceUsed")]


def test_the_signature_of_3_0_does_not_open_2_0(service: FunctionComputeApi) -> None:
    """Its paths know the older one alone."""
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    headers = {"authorization": f"{ALGORITHM} Credential=AKID,SignedHeaders=host,Signature=0"}
    connection.request("POST", "/2016-08-15/services/svc/functions/fn/invocations", b"{}", headers)

    answer = connection.getresponse()

    assert answer.status == 400
    assert service.accepted == []
    connection.close()
