"""Payloads opened, and the one event or bucket in them, as the tests of both modules want it."""

from __future__ import annotations

import json
from typing import Any

from encryption_guard.arn import TableBucketArn
from encryption_guard.events import BucketEvent, NamedBucket, find_bucket
from encryption_guard.events.envelopes import Event, open_payload

Json = dict[str, Any]

REGION = "cn-hangzhou"
ACCOUNT = "1234567890123456"
ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/analytics"
BUCKET = TableBucketArn(REGION, ACCOUNT, "analytics")
CREATION: Json = {"eventName": "CreateTableBucket"}
# What completes a bare name to ARN.
OWNED: Json = CREATION | {"acsRegion": REGION, "recipientAccountId": ACCOUNT}


def to_bytes(value: object) -> bytes:
    return json.dumps(value).encode()


def only(payload: object) -> Event:
    """The one event of a payload."""
    (event,) = open_payload(payload).events
    return event


def event_of(payload: object) -> BucketEvent:
    """The one event of a payload, which has to be readable."""
    parsed = only(payload).parsed
    assert isinstance(parsed, BucketEvent)
    return parsed


def bucket_of(record: Json, **envelope: Any) -> NamedBucket:
    """The bucket that the CloudEvent of a record names, nothing being known of the function."""
    return find_bucket(event_of(to_bytes({**envelope, "data": record})))
