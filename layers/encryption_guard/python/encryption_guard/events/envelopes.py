"""The payload of a function, and the events in its envelopes.

A payload is a CloudEvent, a bare ActionTrail record, a record of FC's failure destination, a dead
letter of the guard, a row of the log service, an answer of LookupEvents, or an array of these. Each
may be in base64, start with a byte order mark, or be JSON text within JSON. An event keeps its
exact bytes.
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from codecs import BOM_UTF8
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import NamedTuple

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import BucketEvent, read_event
from encryption_guard.untrusted import as_text, loads, lowercase_keys, object_or_empty, quoted

# No real payload has more envelopes, not even an array of FC records of dead letters of arrays.
MAX_NESTING = 8
# The total of all decoded parts of one payload, as a limit for decompression bombs. It is twice the
# maximum size of an asynchronous event; parsed JSON may need 40 times as much memory.
MAX_DECODED_BYTES = 256 * 1024
CHUNK_BYTES = 4 * 1024
MAX_BASE64_LAYERS = 2
SPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# The maximum number of events in a payload: an array of invalid items must not fill the dead-letter
# queue. A payload may have more events if it has MIN_EVENT_BYTES, the size of the smallest real
# event, for each. An asynchronous payload holds about 400 of those.
MAX_EVENTS = 1000
MIN_EVENT_BYTES = 300
# Nobody redrives an event more often. A sender can write any count into an event, so a larger one
# counts as none: it must not keep an operator from redriving the event.
MAX_REDRIVES = 100


class Event(NamedTuple):
    """One event without its envelopes: its bytes, and the result of parsing them.

    `source` and `event_id` identify the event, so that a duplicate is recognized.
    """

    raw: bytes
    redrives: int
    source: str | None
    event_id: str | None
    parsed: BucketEvent | InvalidEvent


class Payload(NamedTuple):
    """The events of one invocation; `is_array` is true if the payload contains an array."""

    events: tuple[Event, ...]
    is_array: bool


class _Unopened(NamedTuple):
    """Bytes that are not opened yet: an event, or an envelope around events."""

    raw: bytes
    redrives: int = 0
    depth: int = 0


class _Array(NamedTuple):
    """The items of an array, and the whole array as one event."""

    whole: Event
    items: tuple[_Unopened, ...]


class _DecodingBudget:
    """The number of bytes of one payload that may still be decoded."""

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining

    def spend(self, decoded: int) -> None:
        """Count decoded bytes; raises InvalidEvent if they exceed the budget."""
        self.remaining -= decoded
        if self.remaining < 0:
            raise InvalidEvent(
                "The event cannot be decoded: all decoded parts of the payload together have more"
                " bytes than a payload may hold."
            )


def open_payload(payload: object, *, decoded: int = MAX_DECODED_BYTES) -> Payload:
    """Open a payload (bytes, text or parsed JSON), and return its events without envelopes.

    An unreadable part becomes an event whose `parsed` is an InvalidEvent with the reason. `decoded`
    is the maximum size, in bytes, of all decompressed and base64-decoded parts together.

    >>> open_payload('[{"eventName": "CreateTableBucket"}]').events[0].parsed.name
    'CreateTableBucket'
    """
    raw, budget = _as_bytes(payload), _DecodingBudget(decoded)
    max_events = max(MAX_EVENTS, len(raw) // MIN_EVENT_BYTES)
    # A stack: the last item is the next one.
    waiting = [_Unopened(raw)]
    events: list[Event] = []
    outermost: Event | None = None
    while waiting:
        room = max_events - len(events) - len(waiting) + 1
        match _open(waiting.pop(), budget, most_items=room):
            case _Array(whole, items):
                outermost = outermost or whole
                if len(items) > room:
                    return Payload((outermost,), is_array=True)
                waiting.extend(reversed(items))
                if not items:
                    events.append(whole)
            case Event() as event:
                events.append(event)
            case inner:
                waiting.append(inner)
    return Payload(tuple(events), is_array=outermost is not None)


def missed_event(arn: TableBucketArn, *, name: str, time: datetime | None) -> Event:
    """Return the event that should have reported a bucket, with the same bytes each time."""
    record = {
        "eventName": name,
        "eventTime": time.isoformat() if time else None,
        "responseElements": {"arn": str(arn)},
    }
    return Event(json.dumps(record).encode(), 0, None, None, read_event(record, {}))


def _as_bytes(event: object) -> bytes:
    if isinstance(event, (bytes, bytearray, memoryview)):
        return bytes(event)
    if isinstance(event, str):
        return event.encode("utf-8", "surrogatepass")
    try:
        return json.dumps(event, default=str).encode()
    except (TypeError, ValueError, RecursionError) as error:
        return f"The payload is not JSON: {error}.".encode()


def _open(
    unopened: _Unopened, budget: _DecodingBudget, *, most_items: int
) -> _Unopened | _Array | Event:
    """Remove one envelope; bytes without one, or that cannot be opened, become an event.

    Of an array, read at most one item more than `most_items`, to detect that there are too many.
    """
    raw, redrives, depth = unopened
    envelope: dict[str, object] = {}
    try:
        if depth > MAX_NESTING:
            raise InvalidEvent(f"The event has more than {MAX_NESTING} envelopes.")
        raw = _json_in(raw, budget) or raw
        if raw.lstrip(SPACE)[:1] == b"[":
            return _open_array(raw, redrives, depth, most_items)
        document = _document(raw)
        if isinstance(document, dict):
            envelope = lowercase_keys(document)
            redrives = max(redrives, *_redrives(envelope))
            inner = _inside(envelope, raw, budget)
        else:
            inner = _json_in(document.encode(), budget)
        if inner is not None:
            return _Unopened(inner, redrives, depth + 1)
        parsed: BucketEvent | InvalidEvent = _read(document, envelope, budget)
    except InvalidEvent as error:
        # A new error holds no traceback, which would keep large objects in memory.
        parsed = InvalidEvent(str(error))
    return _new_event(raw, redrives, envelope, parsed)


def _json_in(raw: bytes, budget: _DecodingBudget) -> bytes | None:
    """Return bytes that may be JSON, after up to two layers of base64; None for other bytes."""
    for _ in range(MAX_BASE64_LAYERS):
        if (found := _json_at(raw)) is not None:
            return found
        decoded = from_base64(raw.strip().removeprefix(BOM_UTF8))
        if not decoded:
            return None
        budget.spend(len(decoded))
        raw = decoded
    return _json_at(raw)


def _json_at(raw: bytes) -> bytes | None:
    marked = raw.lstrip(SPACE)
    found = marked.removeprefix(BOM_UTF8) if marked.startswith(BOM_UTF8) else raw
    return found if found.lstrip(SPACE)[:1] in (b"{", b"[", b'"') else None


def from_base64(text: bytes) -> bytes | None:
    """Decode base64 in either alphabet, with or without padding and line breaks.

    Returns None if the text is not base64.
    """
    digits = b"".join(text.split()).rstrip(b"=").translate(_URL_SAFE)
    try:
        return b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None


def _redrives(envelope: Mapping[str, object]) -> tuple[int, int]:
    """Return how often the event was redriven, and how often the dead letter around it."""
    count = envelope.get("redrives") if "event_encoding" in envelope else None
    return _count(envelope.get("guardredrives")), _count(count)


def _inside(envelope: Mapping[str, object], raw: bytes, budget: _DecodingBudget) -> bytes | None:
    """Return the exact bytes inside an envelope; None if the object is an event."""
    # A record that FC sends to a destination:
    # https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    if (request := envelope.get("requestpayload")) is not None:
        if isinstance(request, dict | list):
            return _piece(raw, "requestpayload")
        if not isinstance(request, str) or not request:
            raise InvalidEvent("The destination record's requestPayload holds no event.")
        return request.encode()
    if envelope.get("event") is not None and envelope.get("event_encoding") is not None:
        return _from_dead_letter(envelope, budget)
    if envelope.get("data") is not None or "eventname" in envelope:
        return None
    # A row of the log service has an `event`, and an answer of LookupEvents has `Events`.
    for key in ("event", "events", "records"):
        value = envelope.get(key)
        if isinstance(value, dict | list):
            return _piece(raw, key)
        if isinstance(value, str) and (inner := _json_in(value.encode(), budget)):
            return inner
    return None


def _piece(raw: bytes, key: str) -> bytes:
    return lowercase_keys(dict(_slices(raw.decode())))[key].encode()


def _read(document: object, envelope: Mapping[str, object], budget: _DecodingBudget) -> BucketEvent:
    """Read a CloudEvent (https://alibabacloud.com/help/en/doc-detail/181428.html) or a record."""
    if not isinstance(document, dict):
        raise InvalidEvent("The event is not a JSON object.")
    data = envelope.get("data")
    # https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    data = envelope.get("data_base64") if data is None else data
    if data is None:
        return read_event(document, {})
    return read_event(_json_in(data.encode(), budget) if isinstance(data, str) else data, envelope)


def _document(raw: bytes) -> dict[str, object] | str:
    try:
        document = loads(raw)
    except ValueError as error:
        raise InvalidEvent(f"The event is not a JSON object: Invalid JSON: {error}.") from None
    if not isinstance(document, dict | str):
        raise InvalidEvent("The event is not a JSON object.")
    return document


def _open_array(raw: bytes, redrives: int, depth: int, most_items: int) -> _Array:
    try:
        items = [piece for _, piece in islice(_slices(raw.decode()), most_items + 1)]
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The event is not a JSON array: {error}.") from None
    reason = (
        f"The array holds more than {MAX_EVENTS} events, and they are smaller than any real one."
        if items
        else "The event is an empty array."
    )
    return _Array(
        _new_event(raw, redrives, {}, InvalidEvent(reason)),
        tuple(_Unopened(item.encode(), redrives, depth + 1) for item in items),
    )


def _slices(text: str) -> Iterator[tuple[str, str]]:
    """Yield the items of a JSON array with empty keys, or the keys and values of an object.

    Each item or value is an exact piece of the text.
    """
    decoder = json.JSONDecoder()
    start = _skip_space(text, 0)
    end_mark = {"[": "]", "{": "}"}[text[start]]
    at = end = _skip_space(text, start + 1)
    key = ""
    while text[end : end + 1] != end_mark:
        if end_mark == "}":
            key, at = decoder.raw_decode(text, at)
            at = _skip_space(text, _skip_space(text, at) + len(":"))
        _, end = decoder.raw_decode(text, at)
        yield key, text[at:end]
        end = _skip_space(text, end)
        if text[end : end + 1] != ",":
            break
        at = _skip_space(text, end + 1)
    if text[end : end + 1] != end_mark or text[end + 1 :].strip(" \t\r\n"):
        raise ValueError(f"expected ',' or {end_mark!r} at character {end}")


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _count(redrives: object) -> int:
    if isinstance(redrives, bool) or not isinstance(redrives, int):
        return 0
    return redrives if 0 <= redrives <= MAX_REDRIVES else 0


def _from_dead_letter(dead_letter: Mapping[str, object], budget: _DecodingBudget) -> bytes:
    keys = "version", "event", "event_encoding"
    version, event, encoding = (dead_letter.get(key) for key in keys)
    if version is True or version != 1:
        raise InvalidEvent(
            f"The event looks like a dead letter of version {quoted(str(version)[:9])}; this guard"
            " reads only version 1."
        )
    if not isinstance(event, str) or not event:
        raise InvalidEvent(
            "The dead letter holds no event: it was empty, or too large (see its log)."
        )
    if encoding not in ("utf-8", "base64", "gzip+base64"):
        raise InvalidEvent(
            f"This guard does not know the dead letter's encoding {quoted(str(encoding))}."
        )
    if encoding == "utf-8":
        return event.encode()
    packed = from_base64(event.encode())
    if packed is None:
        raise InvalidEvent("The dead letter's event cannot be decoded: it is not in base64.")
    if encoding == "base64":
        budget.spend(len(packed))
        return packed
    try:
        return _unpack(packed, budget)
    except (ValueError, zlib.error) as error:
        raise InvalidEvent(f"The dead letter's event cannot be decoded: {error}.") from None


def _unpack(packed: bytes, budget: _DecodingBudget) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    event = bytearray()
    while packed and not unpacker.eof:
        # Counted in advance, because zlib does not show how much of a damaged piece it unpacked.
        budget.remaining -= CHUNK_BYTES
        piece = unpacker.decompress(packed, CHUNK_BYTES)
        budget.spend(len(piece) - CHUNK_BYTES)
        event += piece
        packed = unpacker.unconsumed_tail
    if not unpacker.eof:
        raise ValueError("cut short")
    return bytes(event)


def _new_event(
    raw: bytes,
    redrives: int,
    envelope: dict[str, object],
    parsed: BucketEvent | InvalidEvent,
) -> Event:
    if isinstance(parsed, BucketEvent):
        record = parsed.record
    else:
        record = lowercase_keys(object_or_empty(envelope.get("data")))
    ids = (envelope.get("id"), record.get("eventid"), envelope.get("eventid"))
    event_id = next(filter(None, map(as_text, ids)), None)
    return Event(raw, redrives, as_text(envelope.get("source")), event_id, parsed)
