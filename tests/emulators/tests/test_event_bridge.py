"""The emulated ActionTrail and EventBridge: what an API call becomes and how it is delivered."""

import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from tests.emulators.action_trail import KINDS, SHAPES, Kind, Shape, cloud_event
from tests.emulators.event_bridge import Deliveries, EventBus
from tests.emulators.oss_tables import ApiCall

NAME = "sales-lake"
ARN = "acs:osstables:cn-hangzhou:1234567890123456:bucket/sales-lake"


CREATED = ApiCall(
    operation="CreateTableBucket",
    region="cn-hangzhou",
    account_id="1234567890123456",
    access_key_id="AKID",
    bucket=NAME,
    arn=ARN,
    request_id="6110E64B004C4034363CDC5E",
    at=datetime(2026, 11, 22, 20, 30, 1, 250_000, tzinfo=timezone.utc),
    host="127.0.0.1:8443",
    path="/buckets",
    request_body=b"",
)


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    """Without chance: every delivery once and at once."""
    with Deliveries(twice=0, late=0) as deliveries:
        yield deliveries


@pytest.fixture
def bus(deliveries: Deliveries) -> EventBus:
    return EventBus(deliveries)


def test_the_documented_record_is_transposed() -> None:
    """In the shape of OSS's PutBucket record there are its keys and no others."""
    event = cloud_event(CREATED, shape="referencedResources")

    assert sorted(event["data"]) == [
        "acsRegion",
        "additionalEventData",
        "eventId",
        "eventName",
        "eventSource",
        "eventTime",
        "eventType",
        "eventVersion",
        "isGlobal",
        "referencedResources",
        "requestId",
        "serviceName",
        "sourceIpAddress",
        "userIdentity",
    ]
    assert event["data"]["eventId"] == event["data"]["requestId"]


def test_times_are_spelt_as_documented() -> None:
    """The envelope has China's time, its publication ends in PRC, the record has UTC."""
    event = cloud_event(CREATED, shape="subject")

    assert event["time"] == "2026-11-23T04:30:01+08:00"
    assert event["aliyunpublishtime"] == "2026-11-23T04:30:01.250PRC"
    assert event["data"]["eventTime"] == "2026-11-22T20:30:01Z"


@pytest.mark.parametrize("kind", KINDS)
def test_a_call_has_one_of_three_kinds(kind: Kind) -> None:
    """The type of the event ends in what the record calls eventType."""
    event = cloud_event(CREATED, shape="subject", kind=kind)

    assert event["type"] == f"oss:ActionTrail:{kind}"
    assert event["data"]["eventType"] == kind


@pytest.mark.parametrize("shape", SHAPES)
def test_a_failed_call_is_the_same_event_with_an_error(shape: Shape) -> None:
    """errorCode and errorMessage tell that nothing was created; what was asked for is named."""
    refused = replace(CREATED, error_code="ForbiddenException", error_message="No.")

    failed = cloud_event(refused, shape=shape)

    assert failed["data"].pop("errorCode") == "ForbiddenException"
    assert failed["data"].pop("errorMessage") == "No."
    asked = "requestParameters" if shape == "responseElements" else shape
    assert failed == cloud_event(CREATED, shape=asked)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_call_that_named_no_bucket_makes_an_event_that_names_none(shape: Shape) -> None:
    """What was refused for its lack of a name has none in any shape."""
    event = cloud_event(replace(CREATED, bucket=None, arn=None), shape=shape)

    assert "None" not in json.dumps(event)
    assert "null" not in json.dumps(event)


def test_drift_names_the_bucket_by_its_arn() -> None:
    """A call on a bucket that exists has the ARN as its parameter."""
    drift = replace(CREATED, operation="DeleteTableBucketEncryption")

    event = cloud_event(drift, shape="requestParameters")

    assert event["data"]["requestParameters"] == {"tableBucketARN": ARN}


def delivered(seed: int) -> list[int]:
    """The ids of a hundred events in the order of their delivery."""
    received: list[int] = []
    with Deliveries(seed=seed, longest_delay_seconds=0.02) as deliveries:
        bus = EventBus(deliveries)
        bus.add_rule({}, lambda event: received.append(json.loads(event)["id"]))
        for number in range(100):
            bus.publish({"id": number, "source": "acs.oss"})
        bus.join(5)
    return received


def test_deliveries_are_at_least_once_and_in_any_order() -> None:
    """Every event arrives, some of them twice, and not in the order of their publication."""
    received = delivered(seed=1)

    assert set(received) == set(range(100))
    assert set(Counter(received).values()) == {1, 2}
    assert received != sorted(received)


def test_the_seed_decides_what_comes_twice() -> None:
    """The same seed repeats the same events, another one repeats others."""
    assert Counter(delivered(seed=1)) == Counter(delivered(seed=1))
    assert Counter(delivered(seed=1)) != Counter(delivered(seed=2))


def test_an_event_is_dropped_after_the_last_retry(bus: EventBus, deliveries: Deliveries) -> None:
    """Three retries follow the first push; then the bus gives the event up."""
    received: list[bytes] = []

    def target(event: bytes) -> None:
        received.append(event)
        raise ConnectionError

    bus.add_rule({}, target)

    bus.publish({"id": "1"})
    bus.join(5)

    assert len(received) == 4
    assert deliveries.dropped == [b'{"id": "1"}']


def test_several_workers_deliver_at_a_time() -> None:
    """Two deliveries can be under way together."""
    both = threading.Barrier(2, timeout=5)
    with Deliveries(twice=0, late=0, workers=2) as deliveries:
        bus = EventBus(deliveries)
        bus.add_rule({}, lambda _event: both.wait())

        bus.publish({"id": "1"})
        bus.publish({"id": "2"})
        bus.join(5)

        assert deliveries.dropped == []


def test_a_rule_needs_a_pattern(bus: EventBus) -> None:
    """What is not a pattern is refused when the rule is made."""
    with pytest.raises(ValueError, match="expected a list"):
        bus.add_rule({"source": "acs.oss"}, print)
