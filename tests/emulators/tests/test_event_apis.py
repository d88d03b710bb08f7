"""The emulated API of EventBridge: under the vendor's library, and altered requests.

Every emulated RPC API knows its callers by the same code.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.event_apis import GET_EVENT_BUS, VERSION, EventApis
from tests.emulators.tests.rpc_requests import Time, call, code, gone, official_client, put

ACCOUNT = "1234567890123456"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN")


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def service(time: Time) -> Iterator[EventApis]:
    with EventApis(KEY, clock=time) as apis:
        yield apis


def asked(
    service: EventApis, time: Time, *, key: AccessKey = KEY, bus: str = "default", **rest: Any
) -> tuple[int, dict[str, Any]]:
    """What the service answers about a bus."""
    query = {"EventBusName": bus}
    return call(service, GET_EVENT_BUS, VERSION, query, now=time.now, key=key, **rest)


@pytest.mark.parametrize(
    ("alter", "expected"),
    [
        ({"after": put(x_acs_date="2026-01-02T03:04:06Z")}, (400, "SignatureDoesNotMatch")),
        ({"after": put(x_acs_extra="1")}, (400, "IncompleteSignature")),
        ({"after": gone("accept")}, (400, "IncompleteSignature")),
        ({"before": gone("host")}, (400, "IncompleteSignature")),
        ({"before": gone("x-acs-content-sha256")}, (400, "IncompleteSignature")),
        ({"before": put(x_acs_content_sha256="0" * 64)}, (400, "IncompleteSignature")),
        ({"before": put(x_acs_date="2026-01-02")}, (400, "InvalidTimeStamp.Format")),
        ({"before": put(x_acs_date="2026-01-02T04:04:05Z")}, (400, "InvalidTimeStamp.Expired")),
        ({"before": put(x_acs_security_token="x")}, (400, "InvalidSecurityToken.Malformed")),
        ({"after": gone("authorization")}, (400, "MissingAuthorization")),
        ({"after": put(authorization="ACS3-HMAC-SHA256 no")}, (400, "IncompleteSignature")),
        ({"key": replace(KEY, secret="another")}, (400, "SignatureDoesNotMatch")),
        ({"key": replace(KEY, id="another")}, (404, "InvalidAccessKeyId.NotFound")),
        ({"before": put(x_acs_version="2015-01-01")}, (404, "InvalidAction.NotFound")),
    ],
)
def test_what_is_not_signed_as_it_has_to_be_is_refused(
    service: EventApis, time: Time, alter: dict[str, Any], expected: tuple[int, str]
) -> None:
    """A header less, more or otherwise than it was signed, another key, or another time."""
    assert code(asked(service, time, **alter)) == expected


def test_a_temporary_key_needs_its_token_as_long_as_it_lasts(time: Time) -> None:
    """Without the token it is unknown, and at its end it has expired."""
    key = replace(STS_KEY, expires_at=time.now)
    with EventApis(key, clock=time) as apis:
        without = asked(apis, time, key=replace(key, security_token=None))
        expired = asked(apis, time, key=key)

    assert code(without) == (404, "InvalidAccessKeyId.NotFound")
    assert code(expired) == (400, "InvalidSecurityToken.Expired")


def test_a_nonce_counts_once(service: EventApis, time: Time) -> None:
    """The same request again is refused, though its signature is right."""
    fixed = put(x_acs_signature_nonce="once")
    first = asked(service, time, before=fixed)
    second = asked(service, time, before=fixed)

    assert (first[0], code(second)) == (200, (400, "SignatureNonceUsed"))


def test_a_right_that_is_missing_is_refused(time: Time) -> None:
    """Which is written down."""
    nobody = replace(KEY, allowed=frozenset())
    with EventApis(nobody, clock=time) as apis:
        answer = asked(apis, time, key=nobody)

    assert code(answer) == (403, "NoPermission")
    assert apis.rights.missing == {(KEY.id, "eventbridge:GetEventBus")}


# It asks for the time in a way that Python 3.12 warns of.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_official_client_is_told_which_buses_are_there() -> None:
    """A bus that is not has a status of 200, too."""
    with EventApis(STS_KEY) as apis:
        apis.state.buses = ["guard"]
        answers = [
            official_client(apis, GET_EVENT_BUS, VERSION, {"EventBusName": each}, key=STS_KEY)
            for each in ("default", "guard", "gaurd")
        ]

    assert [(status, told["Success"]) for status, told in answers] == [
        (200, True),
        (200, True),
        (200, False),
    ]
