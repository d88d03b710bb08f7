"""Read the messages in the dead-letter queue, which are of three kinds.

A message is a dead letter of the guard, a record of Function Compute's failure destination, or a
CloudEvent that an EventBridge rule could not deliver. Any other message is of the kind `unknown`
and has no events to redrive.

Anyone who may write to the queue chooses what a message says about itself. So its bucket and its ID
are those of the event in it, and a dead letter that contradicts its event is `unknown`.
"""

from __future__ import annotations

import re
from base64 import b64encode
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from pydantic import ValidationError

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.dead_letters.document import MAX_ATTEMPTS, DeadLetter, dead_letter_id
from encryption_guard.errors import InvalidEvent, Reason
from encryption_guard.events import CREATION, REMOVAL, find_bucket
from encryption_guard.events.envelopes import Event, from_base64, open_payload
from encryption_guard.untrusted import object_or_empty, parse_time, quoted, shortened, strings

Kind = Literal["dead_letter", "destination_record", "cloud_event", "unknown"]

# Reasons in addition to those of the guard's own dead letters.
FUNCTION_FAILED = "function_failed"
NOT_DELIVERED = "not_delivered"
UNKNOWN = "unknown"
OWN_REASONS: tuple[str, ...] = get_args(Reason)
REASONS = (*OWN_REASONS, FUNCTION_FAILED, NOT_DELIVERED, UNKNOWN)

# SMQ stores at most 64 KB. A longer line of a file is not parsed.
MAX_MESSAGE_BYTES = 256 * 1024
# In characters: a function's ARN may have 400, and a sentence may have more.
MAX_TEXT_LENGTH = 1000
# Fields of a DeadLetter that a MessageSummary does not copy unchanged.
NOT_COPIED = {"version", "id", "event", "event_encoding", "event_id", "arn"} | {
    *("at", "detail", "function"),
}

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_JSON_START = re.compile(rb"\s*[\[{]")


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageSummary:
    """The facts about one message; every text in it is untrusted."""

    id: str
    kind: Kind
    reason: str
    detail: str
    # The only table bucket that the events name.
    arn: str | None = None
    # The bucket that a dead letter states, if it contains no event that could prove it.
    stated_arn: str | None = None
    # The number of table buckets that the events name.
    buckets: int = 0
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
    # Whether a whole sweep failed, or a share: its event names no bucket.
    is_sweep: bool = False

    @property
    def bucket(self) -> str | None:
        """The name of the table bucket, if the events name exactly one."""
        return self.arn.rpartition("/")[2] if self.arn else None


class NamedBuckets(NamedTuple):
    """The table buckets that the events of a message name, each once.

    `acting` is the number of events that the guard acts on, and `problem` is why it does not act on
    one of the others.
    """

    arns: tuple[TableBucketArn, ...] = ()
    acting: int = 0
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """A message of the queue, the events in it, and the table buckets that they name."""

    summary: MessageSummary
    events: tuple[Event, ...] = ()
    named: NamedBuckets = field(default_factory=NamedBuckets)


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


def open_message(body: bytes, scope: Scope | None = None) -> Message:
    """Read a message of any kind; it is unpacked as far as the functions would unpack it.

    `scope` is that of the queue. It completes the bare name of a bucket if its event lacks account
    and region.
    """
    if len(body) > MAX_MESSAGE_BYTES:
        limit = f"a command reads at most {MAX_MESSAGE_BYTES} of one message"
        return _unknown(body, f"The message has {len(body)} bytes; {limit}.")
    events = open_payload(body).events
    document = object_or_empty(body)
    keys = {key.lower() for key in document}
    if {"version", "event", "event_encoding"} <= keys:
        return _read_dead_letter(body, document, _unwrapped(body, events), scope)
    if {"requestcontext", "requestpayload"} <= keys:
        inner, named = _unwrapped(body, events), _named_buckets(events, scope)
        fields = _event_fields(events, named, FUNCTION_FAILED)
        fields["events"] = len(inner)
        fields["is_sweep"] = not named.arns and all(_starts_sweep(event) for event in events)
        return Message(_summarize_record(document, fields), inner, named)
    if all(_is_event(event) for event in events):
        named = _named_buckets(events, scope)
        fields = _event_fields(events, named, NOT_DELIVERED)
        detail = "The event did not reach the function."
        return Message(MessageSummary(kind="cloud_event", detail=detail, **fields), events, named)
    problem = next(event.parsed for event in events if not _is_event(event))
    return _unknown(body, f"The kind of this message is not known. {problem}")


def _read_dead_letter(
    body: bytes, document: dict[str, object], events: tuple[Event, ...], scope: Scope | None
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
    if not events:
        return Message(_summarize_without_event(dead_letter))
    named = _named_buckets(events, scope or _stated_scope(dead_letter))
    if contradiction := _contradiction(dead_letter, named):
        return _unknown(body, contradiction)
    fields = _event_fields(events, named, dead_letter.reason) | _copied_fields(dead_letter)
    return Message(MessageSummary(**fields), events, named)


def _stated_scope(dead_letter: DeadLetter) -> Scope | None:
    """Return the scope that a dead letter in a file states: a file itself has none."""
    try:
        return Scope.of(TableBucketArn.parse(dead_letter.arn or ""))
    except InvalidEvent:
        return None


def _contradiction(dead_letter: DeadLetter, named: NamedBuckets) -> str | None:
    """Return what a dead letter says that its event denies; None if both agree."""
    stated, arns = dead_letter.arn, [str(arn) for arn in named.arns]
    if stated is not None and arns != [stated]:
        names = " and ".join(arns[:2]) + (" and others" if len(arns) > 2 else "")
        return (
            f"The message states the bucket {quoted(stated)}, but its event names"
            f" {names or 'no table bucket'}: the guard did not write this."
        )
    if not arns and dead_letter.reason != "invalid_event":
        return (
            f"The message states the reason {dead_letter.reason}, but its event names no table"
            " bucket: the guard did not write this."
        )
    return None


def _summarize_without_event(dead_letter: DeadLetter) -> MessageSummary:
    event_id, arn = dead_letter.event_id, dead_letter.arn
    return MessageSummary(
        id=dead_letter.id,
        stated_arn=_short(arn),
        event_id=_short(event_id),
        **_copied_fields(dead_letter),
    )


def _copied_fields(dead_letter: DeadLetter) -> dict[str, Any]:
    copied = dead_letter.model_dump(exclude=NOT_COPIED)
    return {
        **{key: _short(value) for key, value in copied.items()},
        "kind": "dead_letter",
        "at": parse_time(dead_letter.at),
        "detail": dead_letter.detail[:MAX_TEXT_LENGTH],
        "function": dead_letter.function[:MAX_TEXT_LENGTH],
    }


def _summarize_record(document: dict[str, object], fields: dict[str, Any]) -> MessageSummary:
    # https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    record = {key.lower(): value for key, value in document.items()}
    context = record["requestcontext"]
    response = record.get("responsepayload")
    condition = next(strings(context, "condition"), "")
    error = next(strings(response, "errortype"), "") or condition
    error_message = next(strings(response, "errormessage"), "")
    tries = next(strings(context, "approximateinvokecount"), "")
    is_number = tries.isascii() and tries.isdecimal() and len(tries) < 9
    attempts = int(tries) if is_number and int(tries) <= MAX_ATTEMPTS else 0
    function = next(strings(context, "functionarn"), None)
    return MessageSummary(
        kind="destination_record",
        detail=f"The function failed after {attempts or 'some'} tries: {error_message or error}"[
            :MAX_TEXT_LENGTH
        ],
        code=_short(error or None),
        message=_short(error_message or None),
        function=function and function[:MAX_TEXT_LENGTH],
        function_request_id=_short(next(strings(context, "requestid"), None)),
        attempts=attempts,
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
    return Message(summary)


def _is_event(event: Event) -> bool:
    """Return whether this is a CloudEvent or a record of the audit trail."""
    if not isinstance(event.parsed, InvalidEvent):
        return True
    return event.source is not None and event.event_id is not None


def _starts_sweep(event: Event) -> bool:
    """Return whether this is the call of a timer, or of the sweep function for a share."""
    fields = object_or_empty(event.raw)
    # https://help.aliyun.com/document_detail/2513615.html
    is_timer = {"triggerTime", "triggerName"} <= fields.keys()
    return is_timer or "accounts" in object_or_empty(fields.get("share"))


def _unwrapped(body: bytes, events: tuple[Event, ...]) -> tuple[Event, ...]:
    # An envelope that cannot be opened comes back unchanged; the function cannot open it either.
    return tuple(event for event in events if event.raw not in (body, b""))


def _event_fields(events: tuple[Event, ...], named: NamedBuckets, reason: str) -> dict[str, Any]:
    first = events[0]
    # The reason is constant for both services, so an event that both put into the queue has one ID.
    id_reason = reason if reason in OWN_REASONS else NOT_DELIVERED
    return {
        "id": dead_letter_id(first, id_reason),
        "reason": reason,
        "event_id": _short(first.event_id),
        "arn": str(named.arns[0]) if len(named.arns) == 1 else None,
        "buckets": len(named.arns),
        "events": len(events),
        "redrives": max(event.redrives for event in events),
    }


def _named_buckets(events: tuple[Event, ...], scope: Scope | None) -> NamedBuckets:
    found = [_named_bucket(event, scope) for event in events]
    problems = [problem for _, problem in found if problem]
    return NamedBuckets(
        arns=tuple(dict.fromkeys(arn for arn, _ in found if arn)),
        acting=len(found) - len(problems),
        problem=problems[0] if problems else None,
    )


def _named_bucket(event: Event, scope: Scope | None) -> tuple[TableBucketArn | None, str | None]:
    """Return the bucket that an event names, and why the guard does not act on the event."""
    record = event.parsed
    if isinstance(record, InvalidEvent):
        return None, str(record)
    account_id, region = scope or (None, None)
    try:
        arn = find_bucket(record, region=region, account_id=account_id).arn
    except InvalidEvent as error:
        return None, str(error)
    if record.name not in (CREATION, REMOVAL):
        name = quoted(record.name)
        return arn, f"The guard acts on {CREATION} and {REMOVAL}, and this event is {name}."
    return arn, "The audit trail records that this call failed." if record.failed else None


def _short(value: Any) -> Any:
    return shortened(value) if isinstance(value, str) else value
