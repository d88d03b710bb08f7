"""The emulated ActionTrail and EventBridge: under the vendor's library, and altered requests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import filter_pattern
from tests.emulators.event_apis import EventApis
from tests.emulators.tests.rpc_requests import Time, call, code, gone, official_client, put

ACCOUNT = "1234567890123456"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN")
RULE = "guard"
EVENT = {
    "id": "event-1",
    "source": "acs.oss",
    "type": "oss:ActionTrail:ApiCall",
    "data": {"eventName": "CreateTableBucket", "eventId": "1"},
}
OTHER = {**EVENT, "id": "event-2", "data": {"eventName": "PutBucket", "eventId": "2"}}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def service(time: Time) -> Iterator[EventApis]:
    with EventApis(KEY, rules={RULE: filter_pattern()}, queryable_after=600, clock=time) as apis:
        apis.record(EVENT)
        apis.record(OTHER)
        yield apis


def asked(
    service: EventApis,
    time: Time,
    action: str,
    query: dict[str, str] | None = None,
    **rest: Any,
) -> tuple[int, dict[str, Any]]:
    """What the service answers to an action of either of its APIs."""
    version = "2020-07-06" if action == "LookupEvents" else "2020-04-01"
    return call(service, action, version, query, now=time.now, key=rest.pop("key", KEY), **rest)


# Who asks.


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
    assert code(asked(service, time, "ListAliyunOfficialEventSources", **alter)) == expected


def test_a_temporary_key_needs_its_token_as_long_as_it_lasts(time: Time) -> None:
    """Without the token it is unknown, and at its end it has expired."""
    key = replace(STS_KEY, expires_at=time.now)
    with EventApis(key, clock=time) as apis:
        without = asked(apis, time, "QueryEventTraces", key=replace(key, security_token=None))
        expired = asked(apis, time, "QueryEventTraces", key=key)

    assert code(without) == (404, "InvalidAccessKeyId.NotFound")
    assert code(expired) == (400, "InvalidSecurityToken.Expired")


def test_a_nonce_counts_once(service: EventApis, time: Time) -> None:
    """The same request again is refused, though its signature is right."""
    fixed = put(x_acs_signature_nonce="once")
    first = asked(service, time, "ListAliyunOfficialEventSources", before=fixed)
    second = asked(service, time, "ListAliyunOfficialEventSources", before=fixed)

    assert (first[0], code(second)) == (200, (400, "SignatureNonceUsed"))


def test_a_right_that_is_missing_is_refused(time: Time) -> None:
    """Every action but TestEventPattern needs the right of its name."""
    nobody = replace(KEY, allowed=frozenset())
    with EventApis(nobody, clock=time) as apis:
        looked_up = asked(apis, time, "LookupEvents", key=nobody)
        tested = asked(
            apis, time, "TestEventPattern", form={"Event": "{}", "EventPattern": "{}"}, key=nobody
        )

    assert code(looked_up) == (403, "NoPermission")
    assert tested[1]["Data"] == {"Result": True}
    assert apis.rights.missing == {(KEY.id, "actiontrail:LookupEvents")}


# What they tell.


def test_an_event_can_be_looked_up_after_ten_minutes(service: EventApis, time: Time) -> None:
    """By its name, as the raw record, and not before its time."""
    by_name = {"LookupAttribute.1.Key": "EventName", "LookupAttribute.1.Value": "CreateTableBucket"}
    window = {"StartTime": "2026-01-02T03:00:00Z", "EndTime": "2026-01-02T03:30:00Z"}
    early = asked(service, time, "LookupEvents", by_name | window)
    time.now += timedelta(minutes=10)
    late = asked(service, time, "LookupEvents", by_name | window)

    assert early[1]["Events"] == []
    assert late[1]["Events"] == [EVENT["data"]]
    assert late[1]["StartTime"] == window["StartTime"]


def test_events_come_in_pages_the_newest_first(service: EventApis, time: Time) -> None:
    """A token leads to the next page, and there is none after the last one."""
    time.now += timedelta(minutes=10)
    first = asked(service, time, "LookupEvents", {"MaxResults": "1"})[1]
    last = asked(service, time, "LookupEvents", {"MaxResults": "1", "NextToken": "1"})[1]

    assert (first["Events"], first["NextToken"]) == ([OTHER["data"]], "1")
    assert last["Events"] == [EVENT["data"]]
    assert "NextToken" not in last


@pytest.mark.parametrize(
    "query",
    [
        {"StartTime": "2026-01-02T03:00:00Z"},
        {"StartTime": "yesterday", "EndTime": "today"},
        {"MaxResults": "51"},
        {"MaxResults": "many"},
        {"LookupAttribute.1.Key": "Bucket", "LookupAttribute.1.Value": "x"},
    ],
)
def test_a_look_up_that_is_not_documented_is_refused(
    service: EventApis, time: Time, query: dict[str, str]
) -> None:
    """Half a time range, other forms of a time, and too large a page."""
    assert asked(service, time, "LookupEvents", query)[0] == 400


def test_two_look_ups_a_second(service: EventApis, time: Time) -> None:
    """The third within a second is throttled, and the next one after that is not."""
    answers = [asked(service, time, "LookupEvents") for _ in range(3)]
    time.now += timedelta(seconds=1)
    answers.append(asked(service, time, "LookupEvents"))

    throttled = (400, "Throttling.User")
    assert [code(each) for each in answers] == [(200, ""), (200, ""), throttled, (200, "")]


def test_a_pattern_is_tested_as_the_bus_has_it(service: EventApis, time: Time) -> None:
    """True where the rule would take the event; what is no JSON or no pattern is no success."""
    pattern = json.dumps(filter_pattern())
    taken, left, wrong = (
        asked(service, time, "TestEventPattern", form={"Event": event, "EventPattern": pattern})
        for event in (json.dumps(EVENT), json.dumps(OTHER), "not JSON")
    )

    assert (taken[1]["Data"], left[1]["Data"]) == ({"Result": True}, {"Result": False})
    assert (wrong[0], wrong[1]["Success"], wrong[1]["Code"]) == (200, False, "InvalidArgument")


# It asks for the time in a way that Python 3.12 warns of.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_official_client_is_answered() -> None:
    """The vendor's client, its transport included, sends what is believed and reads the answer."""
    form = {"Event": json.dumps(EVENT), "EventPattern": json.dumps(filter_pattern())}
    with EventApis(STS_KEY) as apis:
        answered = official_client(apis, "TestEventPattern", "2020-04-01", key=STS_KEY, form=form)

    assert answered[1]["Data"] == {"Result": True}
