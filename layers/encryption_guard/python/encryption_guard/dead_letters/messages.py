"""What waits in the dead-letter queue: messages of three kinds, read as one.

A dead letter of ours; a record of FC's failure destination; a CloudEvent that an EventBridge rule
could not deliver. A message of any other kind is told as such, and nothing is done with it.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydantic import ValidationError

from encryption_guard.dead_letters.document import (
    MAX_COMPRESSED_EVENT_BYTES,
    DeadLetter,
    dead_letter_id,
)
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import find_bucket
from encryption_guard.events.envelopes import Event, from_base64, open_payload
from encryption_guard.untrusted import instant, object_or_empty, quoted, shortened, strings

Kind = Literal["dead_letter", "destination_record", "cloud_event", "unknown"]

# Reasons beside those of our own letters.
FUNCTION_FAILED = "function_failed"
NOT_DELIVERED = "not_delivered"
UNKNOWN = "unknown"

# The ARN of a function may have 400 characters, a sentence somewhat more.
MAX_TEXT_LENGTH = 1000
READ_APART = {"version", "event", "event_encoding", "at", "detail", "function"}

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_JSON_START = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSummary:
    """What is known of one message; every text in it is foreign."""

    id: str
    kind: Kind
    reason: str
    detail: str
    arn: str | None = None
    event_id: str | None = None
    events: int = 0
    status: int | None = None
    code: str | None = None
    message: str | None = None
    ec: str | None = None
    oss_request_id: str | None = None
    function: str | None = None
    function_request_id: str | None = None
    attempts: int = 0
    redrives: int = 0
    at: datetime | None = None
    # Of a sweep that failed as a whole: its event is the timer's, and no bucket's.
    is_sweep: bool = False

    @property
    def bucket(self) -> str | None:
        """The name of the table bucket that it is about."""
        return self.arn.rpartition("/")[2] if self.arn else None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of the queue, and the events in it that could be sent again."""

    summary: MessageSummary
    events: tuple[Event, ...]


def decoded(body: str) -> bytes:
    """The bytes of a message's body: base64 as the vendor's client sends it, or as it stands.

    Whether FC and EventBridge encode what they put into a queue is not documented.
    """
    raw = body.encode("utf-8", "surrogatepass")
    if _JSON_START.match(raw):
        return raw
    found = from_base64(raw)
    # Words may look like base64 that somebody has cut short or wrapped: then it has to be JSON.
    if found is None or not (_JSON_START.match(found) or b64encode(found) == raw):
        return raw
    return found


def open_message(
    body: bytes, *, region: str | None = None, account_id: str | None = None
) -> Message:
    """Tell what kind of message this is, and read it.

    `region` and `account_id` complete a bucket's bare name where its event does not tell them.
    """
    events = open_payload(body, decoded=MAX_COMPRESSED_EVENT_BYTES).events
    document = object_or_empty(body)
    keys = {key.lower() for key in document}
    if {"version", "event", "event_encoding"} <= keys:
        return _own(body, document, _unwrapped(body, events))
    if {"requestcontext", "requestpayload"} <= keys:
        inner = _unwrapped(body, events)
        about = _of_events(events, FUNCTION_FAILED, region, account_id)
        about["events"] = len(inner)
        about["is_sweep"] = all(_is_timer(event) for event in events)
        return Message(_destination_record(document, about), inner)
    if all(_is_event(event) for event in events):
        about = _of_events(events, NOT_DELIVERED, region, account_id)
        detail = "An event that did not come as far as the function."
        return Message(MessageSummary(kind="cloud_event", detail=detail, **about), events)
    stray = next(event.parsed for event in events if not _is_event(event))
    return _unknown(body, f"No kind of message that is known here. {stray}")


def _own(body: bytes, document: dict[str, object], events: tuple[Event, ...]) -> Message:
    version = document.get("version")
    if version is True or version != 1:
        return _unknown(
            body,
            f"A dead letter of version {quoted(str(version))}; this program reads version 1: use"
            " the encryption-guard that wrote it.",
        )
    try:
        read = DeadLetter.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = quoted(".".join(str(part) for part in first["loc"]))
        return _unknown(body, f"Not quite a dead letter: {where}: {first['msg']}.")
    if not _UUID.fullmatch(read.id):
        return _unknown(body, f"Not quite a dead letter: its id is {quoted(read.id)}, no UUID.")
    told = read.model_dump(exclude=READ_APART)
    letter = MessageSummary(
        kind="dead_letter",
        at=instant(read.at),
        events=len(events),
        detail=read.detail[:MAX_TEXT_LENGTH],
        function=read.function[:MAX_TEXT_LENGTH],
        **{key: _short(value) for key, value in told.items()},
    )
    return Message(letter, events)


def _destination_record(document: dict[str, object], about: dict[str, Any]) -> MessageSummary:
    """https://www.alibabacloud.com/help/en/fc/user-guide/result-callback"""
    record = {key.lower(): value for key, value in document.items()}
    context = record["requestcontext"]
    answer = record.get("responsepayload")
    condition = next(strings(context, "condition"), "")
    error = next(strings(answer, "errortype"), "") or condition
    said = next(strings(answer, "errormessage"), "")
    tries = next(strings(context, "approximateinvokecount"), "")
    function = next(strings(context, "functionarn"), None)
    return MessageSummary(
        kind="destination_record",
        detail=f"The function gave up after {tries or 'some'} tries: {said or error}"[
            :MAX_TEXT_LENGTH
        ],
        code=_short(error or None),
        message=_short(said or None),
        function=function and function[:MAX_TEXT_LENGTH],
        function_request_id=_short(next(strings(context, "requestid"), None)),
        attempts=int(tries) if tries.isdecimal() and len(tries) < 9 else 0,
        at=instant(record.get("timestamp")),
        **about,
    )


def _unknown(body: bytes, detail: str) -> Message:
    letter = MessageSummary(
        id=dead_letter_id(Event(body, 0, None, None, InvalidEvent(detail)), UNKNOWN),
        kind="unknown",
        reason=UNKNOWN,
        detail=detail[:MAX_TEXT_LENGTH],
    )
    return Message(letter, ())


def _is_event(event: Event) -> bool:
    """Whether it is a CloudEvent, or a record of the audit trail."""
    if not isinstance(event.parsed, InvalidEvent):
        return True
    return event.source is not None and event.event_id is not None


def _is_timer(event: Event) -> bool:
    # https://help.aliyun.com/document_detail/2513615.html
    return {"triggerTime", "triggerName"} <= object_or_empty(event.raw).keys()


def _unwrapped(body: bytes, events: tuple[Event, ...]) -> tuple[Event, ...]:
    # What could not be unwrapped comes back whole: sending the wrapping would not help anybody.
    return tuple(event for event in events if event.raw not in (body, b""))


def _of_events(
    events: tuple[Event, ...], reason: str, region: str | None, account_id: str | None
) -> dict[str, Any]:
    first = events[0]
    arns = (_arn(event, region, account_id) for event in events)
    return {
        # Of the event alone: one that is there twice, on two ways, has one ID.
        "id": dead_letter_id(first, NOT_DELIVERED),
        "reason": reason,
        "event_id": shortened(first.event_id) if first.event_id else None,
        "arn": next(filter(None, arns), None),
        "events": len(events),
        "redrives": max(event.redrives for event in events),
    }


def _arn(event: Event, region: str | None, account_id: str | None) -> str | None:
    if isinstance(event.parsed, InvalidEvent):
        return None
    try:
        return str(find_bucket(event.parsed, region=region, account_id=account_id).arn)
    except InvalidEvent:
        return None


def _short(value: Any) -> Any:
    return shortened(value) if isinstance(value, str) else value
