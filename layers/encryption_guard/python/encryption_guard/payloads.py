"""From what Function Compute hands over to the events in it: wrappings are taken off here.

A payload is a CloudEvent, a bare ActionTrail record, a record of FC's failure destination, a dead
letter of ours, or an array of any of them. What is kept of each event is its exact bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from encryption_guard.errors import InvalidEvent, quoted
from encryption_guard.events import BucketEvent, read_event
from encryption_guard.foreign_json import folded, loads, strings, text_of

# An array of FC records of dead letters of arrays is far more than anything that occurs.
DEEPEST_WRAPPING = 8
# Against dead letters that were made to unpack without end: so much in all, of one payload. It is
# twice what an asynchronous event may be, and as JSON may take 40 times the memory.
LARGEST_EVENT = 256 * 1024
PIECE = 4 * 1024
# Against an array of nothings, each of which would become a dead letter: as many events as this, or
# as a payload holds of the smallest real ones. An asynchronous one holds some 400 of those.
MOST_EVENTS = 1000
SMALLEST_EVENT = 300


class Delivery(NamedTuple):
    """The innermost event that was handed in: its bytes, and what could be read of them.

    `source` and `event_id` identify it, so that a repeat is known as one.
    """

    raw: bytes
    redrives: int
    source: str | None
    event_id: str | None
    event: BucketEvent | InvalidEvent


class Payload(NamedTuple):
    """What one invocation was handed: `is_array` if it was, at its innermost, a list of events."""

    deliveries: tuple[Delivery, ...]
    is_array: bool


class _TooManyEvents(Exception):
    """The payload holds more events than are allowed; `array`, the outermost, is what is kept."""

    def __init__(self, array: Delivery) -> None:
        super().__init__()
        self.array = array


class _Allowance:
    """What else a payload may hold: events, and bytes that were compressed.

    `array` is the outermost, once there is one.
    """

    def __init__(self, events: int, unpacked: int) -> None:
        self.events = events
        self.unpacked = unpacked
        self.array: Delivery | None = None


def open_payload(event: object, *, unpacked: int = LARGEST_EVENT) -> Payload:
    """Read what a handler may be given: bytes, or the same as text or as parsed JSON.

    Wrappings (arrays, FC's destination records, our own dead letters) are taken off; what cannot be
    read becomes a delivery whose event is the InvalidEvent that says why. Compressed letters may
    become so many bytes in all as `unpacked` says.
    """
    raw = _as_bytes(event)
    allowance = _Allowance(max(MOST_EVENTS, len(raw) // SMALLEST_EVENT), unpacked)
    try:
        return _open(raw, redrives=0, depth=0, allowance=allowance)
    except _TooManyEvents as error:
        return Payload((error.array,), is_array=True)


def _as_bytes(event: object) -> bytes:
    if isinstance(event, (bytes, bytearray, memoryview)):
        return bytes(event)
    if isinstance(event, str):
        return event.encode("utf-8", "surrogatepass")
    try:
        return json.dumps(event, default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"What was handed in is not JSON: {error}.".encode()


def _open(raw: bytes, *, redrives: int, depth: int, allowance: _Allowance) -> Payload:
    envelope: dict[str, object] = {}
    try:
        if depth > DEEPEST_WRAPPING:
            raise InvalidEvent(f"The event is wrapped more than {DEEPEST_WRAPPING} times.")
        if raw.lstrip(b" \t\r\n")[:1] == b"[":
            return _open_array(raw, redrives=redrives, depth=depth, allowance=allowance)
        document = _object(raw)
        envelope = folded(document)
        redrives = max(redrives, _count(envelope.get("guardredrives")))
        # What FC sends to a destination: https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
        if envelope.get("requestpayload") is not None:
            inner = _requested(envelope["requestpayload"])
            return _open(inner, redrives=redrives, depth=depth + 1, allowance=allowance)
        # A dead letter of ours.
        if envelope.get("event") is not None and envelope.get("event_encoding") is not None:
            redrives = max(redrives, _count(envelope.get("redrives")))
            inner = _lettered(envelope, allowance)
            return _open(inner, redrives=redrives, depth=depth + 1, allowance=allowance)
        # A CloudEvent (https://alibabacloud.com/help/en/doc-detail/181428.html), or a bare record.
        event: BucketEvent | InvalidEvent = read_event(
            document if envelope.get("data") is None else envelope["data"],
            subject=text_of(envelope.get("subject")),
            region=text_of(envelope.get("aliyunregionid")),
            account_id=text_of(envelope.get("aliyunaccountid")),
        )
    except InvalidEvent as error:
        # As a value it must not keep alive what it was raised from, of which there may be much.
        event = InvalidEvent(str(error))
    return Payload((_deliver(raw, redrives, envelope, event),), is_array=False)


def _object(raw: bytes) -> dict[str, object]:
    try:
        document = loads(raw)
    except ValueError as error:
        raise InvalidEvent(f"The event is not a JSON object: Invalid JSON: {error}.") from None
    if not isinstance(document, dict):
        raise InvalidEvent("The event is not a JSON object.")
    return document


def _open_array(raw: bytes, *, redrives: int, depth: int, allowance: _Allowance) -> Payload:
    try:
        items = list(islice(_slices(raw.decode()), allowance.events + 1))
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The event is not a JSON array: {error}.") from None
    if not items:
        event = InvalidEvent("The event is an empty array.")
        return Payload((_deliver(raw, redrives, {}, event),), is_array=True)
    too_many = InvalidEvent(
        f"The array holds more than {MOST_EVENTS} events, and they are smaller than any real one."
    )
    allowance.array = allowance.array or _deliver(raw, redrives, {}, too_many)
    allowance.events -= len(items) - 1  # they take the place of the array
    if allowance.events < 1:
        raise _TooManyEvents(allowance.array)
    opened = (
        _open(item.encode(), redrives=redrives, depth=depth + 1, allowance=allowance)
        for item in items
    )
    return Payload(tuple(d for payload in opened for d in payload.deliveries), is_array=True)


def _slices(text: str) -> Iterator[str]:
    """The items of a JSON array, each as the exact piece of text that it is."""
    decoder = json.JSONDecoder()
    at = _skip_space(text, text.index("[") + 1)
    if text[at : at + 1] == "]":
        end = at
    else:
        while True:
            _, end = decoder.raw_decode(text, at)
            yield text[at:end]
            end = _skip_space(text, end)
            if text[end : end + 1] != ",":
                break
            at = _skip_space(text, end + 1)
    if text[end : end + 1] != "]" or text[end + 1 :].strip(" \t\r\n"):
        raise ValueError(f"expected ',' or ']' at character {end}")


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


def _lettered(letter: dict[str, object], allowance: _Allowance) -> bytes:
    version, event, encoding = (letter.get(key) for key in ("version", "event", "event_encoding"))
    if version is True or version != 1:
        raise InvalidEvent(
            f"It looks like a dead letter of version {quoted(str(version)[:9])}; this guard reads"
            " version 1."
        )
    if not isinstance(event, str) or not event:
        raise InvalidEvent(
            "The dead letter holds no event: it was empty, or too large (see its log)."
        )
    if encoding not in ("utf-8", "base64", "gzip+base64"):
        raise InvalidEvent(f"The dead letter's encoding {quoted(str(encoding))} is not known.")
    if encoding == "utf-8":
        return event.encode()
    try:
        packed = b64decode(event, validate=True)
        return packed if encoding == "base64" else _unpack(packed, allowance)
    except (ValueError, zlib.error) as error:
        raise InvalidEvent(f"The dead letter's event cannot be decoded: {error}.") from None


def _unpack(packed: bytes, allowance: _Allowance) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    event = bytearray()
    while packed and not unpacker.eof:
        # Paid in advance: nobody tells how much of a damaged piece was unpacked.
        allowance.unpacked -= PIECE
        piece = unpacker.decompress(packed, PIECE)
        allowance.unpacked += PIECE - len(piece)
        if allowance.unpacked < 0:
            raise ValueError("more bytes than a payload may hold, with what was unpacked before it")
        event += piece
        packed = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise ValueError("cut short")
    return bytes(event)


def _deliver(
    raw: bytes,
    redrives: int,
    envelope: dict[str, object],
    event: BucketEvent | InvalidEvent,
) -> Delivery:
    event_id = text_of(envelope.get("id"))
    if not event_id:
        event_id = next(strings(envelope.get("data"), "eventid"), text_of(envelope.get("eventid")))
    source = text_of(envelope.get("source"))
    return Delivery(raw, redrives, source=source, event_id=event_id, event=event)
