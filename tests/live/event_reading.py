"""What a captured event says, by the guard's own parser: which place names the bucket, and how."""

from __future__ import annotations

import re
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from encryption_guard.errors import InvalidEvent
from encryption_guard.events import PLACES, BucketEvent, find_bucket
from encryption_guard.events.envelopes import open_payload
from encryption_guard.untrusted import loads, object_or_empty
from tests.emulators.action_trail import KINDS
from tests.emulators.event_bridge import Pattern, matches
from tests.live.observations import Heard, Reading

CREATE = "CreateTableBucket"
DELETE = "DeleteTableBucketEncryption"
LIST = "ListTableBuckets"
_TIMES = re.compile("time", re.IGNORECASE)


def decoded(body: str) -> tuple[bytes, str]:
    """The event of a message, and whether its body was base64 or raw."""
    try:
        event = b64decode(body, validate=True)
        if isinstance(loads(event), dict):
            return event, "base64"
    except ValueError:
        pass
    return body.encode(), "raw"


def event_name(event: bytes) -> str:
    """The eventName, in whatever casing its key is; empty where there is none."""
    read = open_payload(event).events[0].parsed
    return read.name if isinstance(read, BucketEvent) else ""


def heard(messages: Sequence[Heard], name: str, marks: Sequence[str]) -> Heard | None:
    """The first message with such an event that has one of these marks (a name, a request id).

    Should none have a mark, a single event of that name is it: nobody knows where an event has
    the bucket.
    """
    named = [message for message in messages if event_name(decoded(message.body)[0]) == name]
    marked = [
        message
        for message in named
        if any(mark and mark.encode() in decoded(message.body)[0] for mark in marks)
    ]
    if marked:
        return marked[0]
    return named[0] if len(named) == 1 else None


def read(event: bytes, pattern: Pattern) -> Reading:
    """Everything that an event settles."""
    envelope = object_or_empty(event.decode("utf-8", "replace"))
    record = object_or_empty(envelope.get("data"))
    parsed = open_payload(event).events[0].parsed
    named_by, bucket = _named(parsed)
    return Reading(
        named_by=named_by,
        bucket=bucket,
        places=_filled(parsed),
        taken_by_the_rule=matches(pattern, dict(envelope)),
        source=_shown(envelope.get("source")),
        type=_shown(envelope.get("type")),
        service=_shown(record.get("serviceName")),
        event_type=_shown(record.get("eventType")),
        version=type(record.get("eventVersion")).__name__,
        times=_times(envelope) | _times(record),
        shapes=_shapes(envelope, record),
    )


def as_cloud_event(
    record: Mapping[str, Any], *, service: str, region: str, account: str
) -> dict[str, Any]:
    """A record of ActionTrail in the envelope that EventBridge would give it, by its general rule.

    https://alibabacloud.com/help/en/eventbridge/user-guide/cloud-photos-events has the rule; by
    which name (`service`) a service goes in `source` and `type` it does not tell.
    """
    kind = record.get("eventType")
    return {
        "id": str(record.get("eventId")),
        "source": f"acs.{service}",
        "specversion": "1.0",
        "type": f"{service}:ActionTrail:{kind if kind in KINDS else 'ApiCall'}",
        "datacontenttype": "application/json;charset=utf-8",
        "time": str(record.get("eventTime")),
        "aliyunaccountid": account,
        "aliyuneventbusname": "default",
        "aliyunregionid": region,
        "data": dict(record),
    }


def _named(event: BucketEvent | InvalidEvent) -> tuple[str, str]:
    try:
        if isinstance(event, InvalidEvent):
            raise event
        named = find_bucket(event)
    except InvalidEvent:
        return "", ""
    return named.named_by or "", str(named.arn)


def _filled(event: BucketEvent | InvalidEvent) -> tuple[str, ...]:
    if isinstance(event, InvalidEvent):
        return ()
    return tuple(place for place, values in PLACES if any(True for _ in values(event)))


def _times(fields: Mapping[str, Any]) -> dict[str, str]:
    """The form of each instant: every digit a 9."""
    return {
        name: re.sub(r"\d", "9", str(value))
        for name, value in fields.items()
        if _TIMES.search(name) and isinstance(value, (str, int, float))
    }


def _shapes(envelope: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """How the fields came that are documented as objects, here and as JSON texts there."""
    of_record = (
        "responseElements",
        "requestParameters",
        "requestParameterJson",
        "referencedResources",
        "resourceName",
        "eventRW",
        "recipientAccountId",
    )
    return {
        "data": _shape(envelope.get("data")),
        "subject": _shape(envelope.get("subject")),
        **{name: _shape(record.get(name)) for name in of_record},
    }


def _shape(value: object) -> str:
    if value is None:
        return "absent"
    if isinstance(value, str) and object_or_empty(value):
        return "a JSON text"
    return {"dict": "an object", "str": "a text", "list": "a list"}.get(
        type(value).__name__, type(value).__name__
    )


def _shown(value: object) -> str:
    return "absent" if value is None else str(value)
