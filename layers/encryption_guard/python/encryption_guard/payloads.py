"""From what Function Compute hands over to the events in it: wrappings are taken off here.

A payload is a CloudEvent, a bare ActionTrail record, a record of FC's failure destination, a dead
letter of ours, or an array of any of them. What is kept of each event is its exact bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from encryption_guard.errors import InvalidEvent, quoted
from encryption_guard.events import BucketEvent, Foreign, Text, read_event, strings

# An array of FC records of dead letters of arrays is far more than anything that occurs.
DEEPEST_WRAPPING = 8
# Against a dead letter that was made to unpack without end.
LARGEST_EVENT = 4 * 1024 * 1024


class _Envelope(Foreign):
    """Whatever may be handed in, told apart by which keys are there."""

    # A CloudEvent: https://alibabacloud.com/help/en/doc-detail/181428.html
    id: Text = None
    source: Text = None
    subject: Text = None
    aliyunregionid: Text = None
    aliyunaccountid: Text = None
    data: Any = None
    # A bare ActionTrail record.
    eventid: Text = None
    # What FC sends to a destination: https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    requestpayload: Any = None
    # A dead letter of ours.
    version: Any = None
    event: Any = None
    event_encoding: Any = None
    redrives: Any = None
    # The CloudEvents extension in which a redrive counts itself.
    guardredrives: Any = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The innermost event that was handed in: its bytes, and what could be read of them.

    `source` and `event_id` identify it, so that a repeat is known as one.
    """

    raw: bytes
    redrives: int
    source: str | None
    event_id: str | None
    event: BucketEvent | InvalidEvent


@dataclass(frozen=True, slots=True)
class Payload:
    """What one invocation was handed: `is_array` if it was, at its innermost, a list of events."""

    deliveries: tuple[Delivery, ...]
    is_array: bool


def open_payload(event: object) -> Payload:
    """Read what a handler may be given: bytes, or the same as text or as parsed JSON.

    Wrappings (arrays, FC's destination records, our own dead letters) are taken off; what cannot be
    read becomes a delivery whose event is the InvalidEvent that says why.
    """
    return _open(_as_bytes(event), redrives=0, depth=0)


def _as_bytes(event: object) -> bytes:
    if isinstance(event, (bytes, bytearray, memoryview)):
        return bytes(event)
    if isinstance(event, str):
        return event.encode("utf-8", "surrogatepass")
    return json.dumps(event, default=str).encode()


def _open(raw: bytes, *, redrives: int, depth: int) -> Payload:
    envelope = None
    try:
        if depth > DEEPEST_WRAPPING:
            raise InvalidEvent(f"The event is wrapped more than {DEEPEST_WRAPPING} times.")
        if raw.lstrip(b" \t\r\n")[:1] == b"[":
            return _open_array(raw, redrives=redrives, depth=depth)
        envelope = _Envelope.model_validate_json(raw)
        redrives = max(redrives, _count(envelope.guardredrives))
        if envelope.requestpayload is not None:
            inner = _requested(envelope.requestpayload)
            return _open(inner, redrives=redrives, depth=depth + 1)
        if envelope.event is not None and envelope.event_encoding is not None:
            redrives = max(redrives, _count(envelope.redrives))
            return _open(_lettered(envelope), redrives=redrives, depth=depth + 1)
        event: BucketEvent | InvalidEvent = read_event(
            raw if envelope.data is None else envelope.data,
            subject=envelope.subject,
            region=envelope.aliyunregionid,
            account_id=envelope.aliyunaccountid,
        )
    except InvalidEvent as error:
        event = error
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
        event = InvalidEvent(f"The event is not a JSON object: {why}.")
    return Payload((_deliver(raw, redrives, envelope, event),), is_array=False)


def _open_array(raw: bytes, *, redrives: int, depth: int) -> Payload:
    try:
        items = _slices(raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The event is not a JSON array: {error}.") from None
    if not items:
        event = InvalidEvent("The event is an empty array.")
        return Payload((_deliver(raw, redrives, None, event),), is_array=True)
    opened = (_open(item.encode(), redrives=redrives, depth=depth + 1) for item in items)
    return Payload(tuple(d for payload in opened for d in payload.deliveries), is_array=True)


def _slices(text: str) -> list[str]:
    """The items of a JSON array, each as the exact piece of text that it is."""
    decoder = json.JSONDecoder()
    at = _skip_space(text, text.index("[") + 1)
    items: list[str] = []
    if text[at : at + 1] == "]":
        end = at
    else:
        while True:
            _, end = decoder.raw_decode(text, at)
            items.append(text[at:end])
            end = _skip_space(text, end)
            if text[end : end + 1] != ",":
                break
            at = _skip_space(text, end + 1)
    if text[end : end + 1] != "]" or text[end + 1 :].strip(" \t\r\n"):
        raise ValueError(f"expected ',' or ']' at character {end}")
    return items


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _requested(payload: object) -> bytes:
    if not isinstance(payload, str) or not payload:
        raise InvalidEvent("The destination record's requestPayload is not a text with an event.")
    return payload.encode("utf-8", "surrogatepass")


def _count(redrives: object) -> int:
    if isinstance(redrives, bool) or not isinstance(redrives, int):
        return 0
    return max(redrives, 0)


def _lettered(letter: _Envelope) -> bytes:
    if letter.version is True or letter.version != 1:
        raise InvalidEvent(
            f"It looks like a dead letter of version {quoted(str(letter.version)[:9])}; this guard"
            " reads version 1."
        )
    if not isinstance(letter.event, str) or not letter.event:
        raise InvalidEvent(
            "The dead letter holds no event: it was empty, or too large (see its log)."
        )
    if letter.event_encoding not in ("utf-8", "base64", "gzip+base64"):
        raise InvalidEvent(
            f"The dead letter's encoding {quoted(str(letter.event_encoding))} is not known."
        )
    if letter.event_encoding == "utf-8":
        return letter.event.encode()
    try:
        packed = b64decode(letter.event, validate=True)
        return packed if letter.event_encoding == "base64" else _unpack(packed)
    except (ValueError, zlib.error) as error:
        raise InvalidEvent(f"The dead letter's event cannot be decoded: {error}.") from None


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    event = unpacker.decompress(packed, LARGEST_EVENT)
    if not unpacker.eof:
        raise ValueError(f"cut short, or more than {LARGEST_EVENT} bytes")
    return event


def _deliver(
    raw: bytes,
    redrives: int,
    envelope: _Envelope | None,
    event: BucketEvent | InvalidEvent,
) -> Delivery:
    if envelope is None:
        return Delivery(raw, redrives, source=None, event_id=None, event=event)
    record_id = next(strings(envelope.data, "eventid"), envelope.eventid)
    return Delivery(raw, redrives, envelope.source, envelope.id or record_id, event)
