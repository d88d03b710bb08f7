"""From what Function Compute hands over to the events in it: wrappings are taken off here.

A payload is a CloudEvent, a bare ActionTrail record, a record of FC's failure destination, a dead
letter of ours, a row of the log service, an answer of LookupEvents, or an array of any of them;
each may be in base64, behind a byte order mark, or a JSON text within JSON. What is kept of each
event is its exact bytes.
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
from encryption_guard.untrusted import loads, lowercase_keys, object_or_empty, quoted, text_of

# An array of FC records of dead letters of arrays is far more than anything that occurs.
MAX_NESTING = 8
# Against payloads that were made to unpack without end: so much in all is decoded of one. It is
# twice what an asynchronous event may be, and as JSON may take 40 times the memory.
MAX_DECODED_BYTES = 256 * 1024
CHUNK_BYTES = 4 * 1024
MAX_BASE64_LAYERS = 2
SPACE = b" \t\r\n"
_URL_SAFE = bytes.maketrans(b"-_", b"+/")
# Against an array of nothings, each of which would become a dead letter: as many events as this, or
# as a payload holds of the smallest real ones. An asynchronous one holds some 400 of those.
MAX_EVENTS = 1000
MIN_EVENT_BYTES = 300


class Event(NamedTuple):
    """One event, without its wrappings: its bytes, and what they were parsed to.

    `source` and `event_id` identify it, so that a repeat is recognized.
    """

    raw: bytes
    redrives: int
    source: str | None
    event_id: str | None
    parsed: BucketEvent | InvalidEvent


class Payload(NamedTuple):
    """The events of one invocation; `is_array` if the innermost document was a list of them."""

    events: tuple[Event, ...]
    is_array: bool


class _Wrapped(NamedTuple):
    """What has yet to be opened: an event, or what wraps one or several."""

    raw: bytes
    redrives: int = 0
    depth: int = 0


class _Array(NamedTuple):
    """The items of an array, and the array itself."""

    whole: Event
    items: tuple[_Wrapped, ...]


class _Decoding:
    """How many more bytes of a payload may be compressed or in base64."""

    def __init__(self, left: int) -> None:
        self.left = left

    def take(self, decoded: int) -> None:
        """Raise InvalidEvent unless the payload may hold so many bytes more."""
        self.left -= decoded
        if self.left < 0:
            raise InvalidEvent(
                "The event cannot be decoded: more bytes than a payload may hold, with what was"
                " decoded before it."
            )


def open_payload(payload: object, *, decoded: int = MAX_DECODED_BYTES) -> Payload:
    """Read what a handler may be given: bytes, or the same as text or as parsed JSON.

    Wrappings are taken off; what cannot be read becomes a delivery whose event is the InvalidEvent
    that says why. What was compressed or in base64 may become so many bytes in all as `decoded`
    says.
    """
    raw, decoding = _as_bytes(payload), _Decoding(decoded)
    most = max(MAX_EVENTS, len(raw) // MIN_EVENT_BYTES)
    # The next one is the last of these.
    waiting = [_Wrapped(raw)]
    events: list[Event] = []
    outermost: Event | None = None
    while waiting:
        room = most - len(events) - len(waiting) + 1
        match _open(waiting.pop(), decoding, most_items=room):
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
    """The event that should have told of a bucket; the same bytes each time."""
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
        return f"What was handed in is not JSON: {error}.".encode()


def _open(wrapped: _Wrapped, decoding: _Decoding, *, most_items: int) -> _Wrapped | _Array | Event:
    """Take one wrapping off; what has none, or cannot be opened, is an event.

    Of an array not more items are read than one too many.
    """
    raw, redrives, depth = wrapped
    envelope: dict[str, object] = {}
    try:
        if depth > MAX_NESTING:
            raise InvalidEvent(f"The event is wrapped more than {MAX_NESTING} times.")
        raw = _json_in(raw, decoding) or raw
        if raw.lstrip(SPACE)[:1] == b"[":
            return _open_array(raw, redrives, depth, most_items)
        document = _document(raw)
        if isinstance(document, dict):
            envelope = lowercase_keys(document)
            redrives = max(redrives, *_redrives(envelope))
            inner = _wrapped(envelope, raw, decoding)
        else:
            inner = _json_in(document.encode(), decoding)
        if inner is not None:
            return _Wrapped(inner, redrives, depth + 1)
        parsed: BucketEvent | InvalidEvent = _read(document, envelope, decoding)
    except InvalidEvent as error:
        # As a value it must not keep alive what it was raised from, of which there may be much.
        parsed = InvalidEvent(str(error))
    return _new_event(raw, redrives, envelope, parsed)


def _json_in(raw: bytes, decoding: _Decoding) -> bytes | None:
    """What may be JSON: the bytes themselves, or what they are in base64, at most twice."""
    for _ in range(MAX_BASE64_LAYERS):
        if (found := _json_at(raw)) is not None:
            return found
        decoded = from_base64(raw.strip().removeprefix(BOM_UTF8))
        if not decoded:
            return None
        decoding.take(len(decoded))
        raw = decoded
    return _json_at(raw)


def _json_at(raw: bytes) -> bytes | None:
    marked = raw.lstrip(SPACE)
    found = marked.removeprefix(BOM_UTF8) if marked.startswith(BOM_UTF8) else raw
    return found if found.lstrip(SPACE)[:1] in (b"{", b"[", b'"') else None


def from_base64(text: bytes) -> bytes | None:
    """Padded or not, in one line or several, in either alphabet; None where it is none."""
    digits = b"".join(text.split()).rstrip(b"=").translate(_URL_SAFE)
    try:
        return b64decode(digits + b"=" * (-len(digits) % 4), validate=True)
    except ValueError:
        return None


def _redrives(envelope: Mapping[str, object]) -> tuple[int, int]:
    """How often an event, or the dead letter that it is in, was redriven."""
    letters = envelope.get("redrives") if "event_encoding" in envelope else None
    return _count(envelope.get("guardredrives")), _count(letters)


def _wrapped(envelope: Mapping[str, object], raw: bytes, decoding: _Decoding) -> bytes | None:
    """What an object wraps: a text's bytes, or the exact piece of the object; None for an event."""
    # What FC sends to a destination: https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    if (requested := envelope.get("requestpayload")) is not None:
        if isinstance(requested, dict | list):
            return _piece(raw, "requestpayload")
        if not isinstance(requested, str) or not requested:
            raise InvalidEvent("The destination record's requestPayload holds no event.")
        return requested.encode()
    if envelope.get("event") is not None and envelope.get("event_encoding") is not None:
        return _lettered(envelope, decoding)
    if envelope.get("data") is not None or "eventname" in envelope:
        return None
    # A row of the log service has an `event`; what ActionTrail answers to LookupEvents, `Events`.
    for key in ("event", "events", "records"):
        held = envelope.get(key)
        if isinstance(held, dict | list):
            return _piece(raw, key)
        if isinstance(held, str) and (inner := _json_in(held.encode(), decoding)):
            return inner
    return None


def _piece(raw: bytes, key: str) -> bytes:
    return lowercase_keys(dict(_slices(raw.decode())))[key].encode()


def _read(document: object, envelope: Mapping[str, object], decoding: _Decoding) -> BucketEvent:
    """Read a CloudEvent (https://alibabacloud.com/help/en/doc-detail/181428.html) or a record."""
    if not isinstance(document, dict):
        raise InvalidEvent("The event is not a JSON object.")
    data = envelope.get("data")
    # https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
    data = envelope.get("data_base64") if data is None else data
    if data is None:
        return read_event(document, {})
    return read_event(
        _json_in(data.encode(), decoding) if isinstance(data, str) else data, envelope
    )


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
    why = (
        f"The array holds more than {MAX_EVENTS} events, and they are smaller than any real one."
        if items
        else "The event is an empty array."
    )
    return _Array(
        _new_event(raw, redrives, {}, InvalidEvent(why)),
        tuple(_Wrapped(item.encode(), redrives, depth + 1) for item in items),
    )


def _slices(text: str) -> Iterator[tuple[str, str]]:
    """The items of a JSON array, or key and value of each member of an object.

    Each is the exact piece of text that it is; an array's have no key.
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
    return max(redrives, 0)


def _lettered(letter: Mapping[str, object], decoding: _Decoding) -> bytes:
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
    packed = from_base64(event.encode())
    if packed is None:
        raise InvalidEvent("The dead letter's event cannot be decoded: it is not in base64.")
    if encoding == "base64":
        decoding.take(len(packed))
        return packed
    try:
        return _unpack(packed, decoding)
    except (ValueError, zlib.error) as error:
        raise InvalidEvent(f"The dead letter's event cannot be decoded: {error}.") from None


def _unpack(packed: bytes, decoding: _Decoding) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    event = bytearray()
    while packed and not unpacker.eof:
        # Paid in advance: nobody tells how much of a damaged piece was unpacked.
        decoding.left -= CHUNK_BYTES
        piece = unpacker.decompress(packed, CHUNK_BYTES)
        decoding.take(len(piece) - CHUNK_BYTES)
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
    event_id = next(filter(None, map(text_of, ids)), None)
    return Event(raw, redrives, text_of(envelope.get("source")), event_id, parsed)
