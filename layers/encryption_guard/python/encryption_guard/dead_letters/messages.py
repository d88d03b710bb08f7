"""Read the messages in the dead-letter queue, which are of three kinds.

A message is a dead letter of the guard, a record of Function Compute's failure destination, or a
CloudEvent that an EventBridge rule could not deliver. Any other message is of the kind `unknown`
and has no events to redrive.
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
from encryption_guard.untrusted import object_or_empty, parse_time, quoted, shortened, strings

Kind = Literal["dead_letter", "destination_record", "cloud_event", "unknown"]

# Reasons in addition to those of the guard's own dead letters.
FUNCTION_FAILED = "function_failed"
NOT_DELIVERED = "not_delivered"
UNKNOWN = "unknown"

# In characters: a function's ARN may have 400, and a sentence may have more.
MAX_TEXT_LENGTH = 1000
# Fields of a DeadLetter that a MessageSummary does not copy unchanged.
NOT_COPIED = {"version", "event", "event_encoding", "at", "detail", "function"}

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_JSON_START = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSummary:
    """The facts about one message; every text in it is untrusted."""

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
    # Whether a whole sweep failed: its event comes from the timer and names no bucket.
    is_sweep: bool = False

    @property
    def bucket(self) -> str | None:
        """The name of the table bucket, if the message names one."""
        return self.arn.rpartition("/")[2] if self.arn else None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the queue, and the events in it that an operator can redrive."""

    summary: MessageSummary
    events: tuple[Event, ...]


def decoded(body: str) -> bytes:
    """Return the bytes of a message's body, which may be in base64.

    The vendor's client encodes each body. The documentation does not state whether Function
    Compute and EventBridge do so.

    >>> decoded("e30="), decoded("{}")
    (b'{}', b'{}')
    """
    raw = body.encode("utf-8", "surrogatepass")
    if _JSON_START.match(raw):
        return raw
    found = from_base64(raw)
    # Text without padding or on several lines may be plain words, so it must decode to JSON.
    if found is None or not (_JSON_START.match(found) or b64encode(found) == raw):
        return raw
    return found


def open_message(
    body: bytes, *, region: str | None = None, account_id: str | None = None
) -> Message:
    """Read a message of any kind.

    `region` and `account_id` complete the bare name of a bucket if its event lacks them.
    """
    events = open_payload(body, decoded=MAX_COMPRESSED_EVENT_BYTES).events
    document = object_or_empty(body)
    keys = {key.lower() for key in document}
    if {"version", "event", "event_encoding"} <= keys:
        return _read_dead_letter(body, document, _unwrapped(body, events))
    if {"requestcontext", "requestpayload"} <= keys:
        inner = _unwrapped(body, events)
        fields = _event_fields(events, FUNCTION_FAILED, region, account_id)
        fields["events"] = len(inner)
        fields["is_sweep"] = all(_is_timer(event) for event in events)
        return Message(_summarize_record(document, fields), inner)
    if all(_is_event(event) for event in events):
        fields = _event_fields(events, NOT_DELIVERED, region, account_id)
        detail = "The event did not reach the function."
        return Message(MessageSummary(kind="cloud_event", detail=detail, **fields), events)
    problem = next(event.parsed for event in events if not _is_event(event))
    return _unknown(body, f"The kind of this message is not known. {problem}")


def _read_dead_letter(
    body: bytes, document: dict[str, object], events: tuple[Event, ...]
) -> Message:
    version = document.get("version")
    if version is True or version != 1:
        return _unknown(
            body,
            f"The dead letter has version {quoted(str(version))}, and this program reads version 1"
            " only: use the version of encryption-guard that wrote it.",
        )
    try:
        dead_letter = DeadLetter.model_validate(document)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = quoted(".".join(str(part) for part in first["loc"]))
        return _unknown(body, f"The dead letter is not valid: {field}: {first['msg']}.")
    if not _UUID.fullmatch(dead_letter.id):
        return _unknown(
            body, f"The dead letter is not valid: its id {quoted(dead_letter.id)} is not a UUID."
        )
    copied = dead_letter.model_dump(exclude=NOT_COPIED)
    summary = MessageSummary(
        kind="dead_letter",
        at=parse_time(dead_letter.at),
        events=len(events),
        detail=dead_letter.detail[:MAX_TEXT_LENGTH],
        function=dead_letter.function[:MAX_TEXT_LENGTH],
        **{key: _short(value) for key, value in copied.items()},
    )
    return Message(summary, events)


def _summarize_record(document: dict[str, object], fields: dict[str, Any]) -> MessageSummary:
    # https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    record = {key.lower(): value for key, value in document.items()}
    context = record["requestcontext"]
    response = record.get("responsepayload")
    condition = next(strings(context, "condition"), "")
    error = next(strings(response, "errortype"), "") or condition
    error_message = next(strings(response, "errormessage"), "")
    tries = next(strings(context, "approximateinvokecount"), "")
    function = next(strings(context, "functionarn"), None)
    return MessageSummary(
        kind="destination_record",
        detail=f"The function failed after {tries or 'some'} tries: {error_message or error}"[
            :MAX_TEXT_LENGTH
        ],
        code=_short(error or None),
        message=_short(error_message or None),
        function=function and function[:MAX_TEXT_LENGTH],
        function_request_id=_short(next(strings(context, "requestid"), None)),
        attempts=int(tries) if tries.isdecimal() and len(tries) < 9 else 0,
        at=parse_time(record.get("timestamp")),
        **fields,
    )


def _unknown(body: bytes, detail: str) -> Message:
    summary = MessageSummary(
        id=dead_letter_id(Event(body, 0, None, None, InvalidEvent(detail)), UNKNOWN),
        kind="unknown",
        reason=UNKNOWN,
        detail=detail[:MAX_TEXT_LENGTH],
    )
    return Message(summary, ())


def _is_event(event: Event) -> bool:
    """Return whether this is a CloudEvent or a record of the audit trail."""
    if not isinstance(event.parsed, InvalidEvent):
        return True
    return event.source is not None and event.event_id is not None


def _is_timer(event: Event) -> bool:
    # https://help.aliyun.com/document_detail/2513615.html
    return {"triggerTime", "triggerName"} <= object_or_empty(event.raw).keys()


def _unwrapped(body: bytes, events: tuple[Event, ...]) -> tuple[Event, ...]:
    # An envelope that cannot be opened comes back unchanged; the function cannot open it either.
    return tuple(event for event in events if event.raw not in (body, b""))


def _event_fields(
    events: tuple[Event, ...], reason: str, region: str | None, account_id: str | None
) -> dict[str, Any]:
    first = events[0]
    arns = (_arn(event, region, account_id) for event in events)
    return {
        # The reason is constant, so an event that both services put into the queue has one ID.
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
