"""From what Function Compute hands over to the events in it, byte for byte."""

from __future__ import annotations

import gzip
import json
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encryption_guard.errors import InvalidEvent
from encryption_guard.events import BucketEvent, NamedBucket, find_bucket
from encryption_guard.events.envelopes import (
    MAX_DECODED_BYTES,
    MAX_NESTING,
    MAX_REDRIVES,
    open_payload,
)
from tests.unit.opened import (
    ARN,
    BUCKET,
    CREATION,
    OWNED,
    Json,
    event_of,
    only,
    to_bytes,
)

# What may be handed in.


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_bytes_are_kept_as_they_came(kind: Callable[[bytes], object]) -> None:
    """Function Compute hands over bytes; they are read and kept byte for byte."""
    raw = b' {"id" : "7", "data": {"eventName": "CreateTableBucket"}}\n'

    delivery = only(kind(raw))

    assert isinstance(delivery.parsed, BucketEvent)
    assert (delivery.raw, delivery.parsed.name) == (raw, "CreateTableBucket")


def test_text_is_taken_for_its_bytes() -> None:
    """A string is the same as its UTF-8 bytes."""
    text = '{"id": "ü", "data": {"eventName": "CreateTableBucket"}}'

    from_text = open_payload(text)

    assert from_text == open_payload(text.encode())


def test_a_parsed_object_is_taken_for_its_json() -> None:
    """A parsed dict is read like the JSON that it came from."""
    event = {"id": "ü", "source": "acs.oss", "data": CREATION | {"responseElements": {"arn": ARN}}}

    delivery = only(event)

    assert json.loads(delivery.raw) == event
    assert delivery.parsed == event_of(to_bytes(event))
    assert (delivery.source, delivery.event_id) == ("acs.oss", "ü")


@settings(deadline=None)
@given(st.binary())
@example(b"")
@example(b"\xff\xfe")
@example(b"[\xff]")
@example(b"[" * 100_000)
@example(b'{"a":' * 100_000)
@example(b'{"data":' + b"[" * 1000)
@example(b"9" * 5000)
@example(b"[" + b"9" * 5000 + b"]")
@example(b'{"version": ' + b"9" * 4200 + b', "event": "x", "event_encoding": "utf-8"}')
@example(b'{"version": ' + b"9" * 5000 + b', "event": "x", "event_encoding": "utf-8"}')
@example(b'{"id": "\\ud800"}')
@example(b"null")
@example("\ud800")  # half a character, which has no UTF-8
def test_no_bytes_and_no_text_raise(raw: bytes | str) -> None:
    """Whatever comes in is a payload, and what cannot be read is an InvalidEvent in it."""
    opened = open_payload(raw)

    assert opened.events
    assert all(isinstance(d.parsed, (BucketEvent, InvalidEvent)) for d in opened.events)


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"CreateTableBucket", id="not JSON"),
        pytest.param(b'{"data": {"eventName": "CreateTableBucket"}', id="cut short"),
        pytest.param(b'{"data": {"eventName": "\xff"}}', id="not UTF-8"),
        pytest.param(b'"CreateTableBucket"', id="a string"),
        pytest.param(b"null", id="null"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(b'{"data": {}}', id="an empty record"),
        pytest.param(b'{"data": []}', id="a list for a record"),
        pytest.param(b'{"data": "CreateTableBucket"}', id="a text for a record"),
        pytest.param(b'{"data": "[]"}', id="the JSON text of a list for a record"),
        pytest.param(b'{"data": {"eventName": null}}', id="a null eventName"),
        pytest.param(b'{"data": {"eventName": ["CreateTableBucket"]}}', id="a list, eventName"),
        pytest.param(b'{"eventName": {"a": 1}, "eventId": "7"}', id="an object, eventName"),
        pytest.param(b'{"triggerName": "t", "triggerTime": "now", "payload": ""}', id="a timer"),
    ],
)
def test_what_holds_no_event_is_invalid_and_kept(raw: bytes) -> None:
    """Not JSON, no record or no eventName: an invalid event, kept as it came."""
    opened = open_payload(raw)

    (delivery,) = opened.events
    assert isinstance(delivery.parsed, InvalidEvent)
    assert delivery.parsed.reason == "invalid_event"
    assert (delivery.raw, delivery.redrives, opened.is_array) == (raw, 0, False)


def test_a_bare_record_is_an_event() -> None:
    """An ActionTrail record needs no CloudEvent around it."""
    raw = to_bytes(OWNED | {"eventId": "E7", "responseElements": {"arn": ARN}})

    delivery = only(raw)

    assert isinstance(delivery.parsed, BucketEvent)
    assert find_bucket(delivery.parsed) == NamedBucket(BUCKET, "responseElements")
    assert (delivery.raw, delivery.event_id, delivery.source) == (raw, "E7", None)


@pytest.mark.parametrize(
    ("event", "event_id"),
    [
        pytest.param({"id": "C", "data": CREATION | {"eventId": "E"}}, "C", id="both"),
        pytest.param({"data": CREATION | {"eventId": "E"}}, "E", id="the record's"),
        pytest.param({"id": "", "data": CREATION | {"eventId": "E"}}, "E", id="an empty one"),
        pytest.param({"ID": "C", "data": CREATION}, "C", id="in another casing"),
        pytest.param({"data": CREATION | {"EventID": "E"}}, "E", id="the record's, other casing"),
        pytest.param(CREATION | {"eventId": "E"}, "E", id="a bare record's"),
        pytest.param({"data": CREATION}, None, id="none"),
        pytest.param({"id": "C", "data": {}}, "C", id="an invalid event's"),
    ],
)
def test_an_event_is_known_by_its_id(event: Json, event_id: str | None) -> None:
    """The id is the CloudEvent's `id`, else the record's `eventId`."""
    delivery = only(to_bytes(event))

    assert delivery.event_id == event_id


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-11-22T12:00:00Z", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("2026-11-22T20:00:00+08:00", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("2026-11-22T12:00:00", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("2026-11-22t12:00:00z", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("1795348800000", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("2026-11-22T20:00:00.412PRC", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_an_event_tells_its_time(text: str | None, time: datetime | None) -> None:
    """eventTime is UTC; one that cannot be read costs the measurement, not the event."""
    event = event_of({"data": CREATION | {"eventTime": text}})

    assert event.time == time


# Arrays.


def test_an_arrays_items_are_kept_byte_for_byte() -> None:
    """Each item is its exact slice of the input, whitespace, escapes and all."""
    items = [
        b'{ "data" :\t{"eventName":"CreateTableBucket"} , "id":"1"}',
        '{"data": {"eventName": "größer ] , [ \\u00fc \\" \\\\"}}'.encode(),
        b'{"data":\r\n{"eventName": "PutBucket", "n": 1.50, "n": 1e2}}',
    ]
    raw = b" \r\n[ " + items[0] + b" ,\n" + items[1] + b"," + items[2] + b"\t]\n "

    opened = open_payload(raw)

    assert opened.is_array
    assert [delivery.raw for delivery in opened.events] == items


space = st.text(" \t\r\n", max_size=3).map(str.encode)
item = st.builds(
    lambda value, ascii_only, indent: json.dumps(
        {"data": value}, ensure_ascii=ascii_only, indent=indent
    ).encode(),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.just("k"), inner),
        max_leaves=6,
    ),
    st.booleans(),
    st.none() | st.integers(0, 3),
)


@settings(deadline=None)
@given(st.lists(st.tuples(space, item, space), min_size=1, max_size=4), space, space)
def test_any_arrays_items_are_kept_byte_for_byte(
    parts: list[tuple[bytes, bytes, bytes]], before: bytes, after: bytes
) -> None:
    """However an array is laid out, its slices are its items."""
    raw = before + b"[" + b",".join(b"".join(part) for part in parts) + b"]" + after

    opened = open_payload(raw)

    assert [delivery.raw for delivery in opened.events] == [item for _, item, _ in parts]


def test_each_item_is_an_event_of_its_own() -> None:
    """An invalid item does not touch the others."""
    raw = to_bytes([{"id": "1", "data": CREATION}, 17, None, {"id": "2", "data": CREATION}])

    opened = open_payload(raw)

    found = [(d.raw, d.event_id, type(d.parsed)) for d in opened.events]
    first, last = (to_bytes({"id": number, "data": CREATION}) for number in "12")
    assert found == [
        (first, "1", BucketEvent),
        (b"17", None, InvalidEvent),
        (b"null", None, InvalidEvent),
        (last, "2", BucketEvent),
    ]


@pytest.mark.parametrize("raw", [b"[]", b" [ \n] "])
def test_an_empty_array_is_an_invalid_event(raw: bytes) -> None:
    """Nothing is not silence: an empty array is one invalid event."""
    opened = open_payload(raw)

    (delivery,) = opened.events
    assert isinstance(delivery.parsed, InvalidEvent)
    assert (delivery.raw, opened.is_array) == (raw, True)


@pytest.mark.parametrize(
    "raw",
    [
        b"[",
        b"[{}",
        b"[{},]",
        b"[,]",
        b"[{}] x",
        b"[{]",
        b'["\xff"]',
    ],
    ids=ascii,
)
def test_a_broken_array_is_one_invalid_event(raw: bytes) -> None:
    """What is not a JSON array as a whole is kept as a whole."""
    delivery = only(raw)

    assert isinstance(delivery.parsed, InvalidEvent)
    assert delivery.raw == raw


# Wrappings.


def fc_record(event: bytes) -> bytes:
    """What FC sends to a destination."""
    return to_bytes(
        {
            "timestamp": 1660120276975,
            "requestContext": {"requestId": "r", "condition": "UnhandledInvocationError"},
            "requestPayload": event.decode(),
            "responseContext": {"statusCode": 200, "functionError": "UnhandledInvocationError"},
            "responsePayload": "",
        }
    )


def encoded(event: bytes, encoding: str) -> str:
    """An event as it stands in a dead letter."""
    if encoding == "utf-8":
        return event.decode()
    return b64encode(gzip.compress(event, mtime=0) if encoding == "gzip+base64" else event).decode()


def dead_letter(inner: bytes, encoding: str = "utf-8", **fields: Any) -> bytes:
    """A dead letter of ours, as section 5 of the design shows it."""
    return to_bytes(
        {
            "version": 1,
            "id": "0f1c9d4e-7a55-5f0e-8c0c-6c1f6f0d9c11",
            "reason": "rejected",
            "detail": "The service said 403.",
            "event": encoded(inner, encoding),
            "event_encoding": encoding,
            "event_id": "letter",
            "arn": ARN,
            "status": 403,
            "code": "ForbiddenException",
            "message": "no",
            "ec": None,
            "oss_request_id": "6A1F0B2E4C0043",
            "function": "encrypt_on_create",
            "function_request_id": "r",
            "attempts": 1,
            "redrives": 0,
            "at": "2026-11-22T12:00:00.000Z",
        }
        | fields
    )


EVENT = '{"id":  "7", "data": {"eventName": "CreateTableBucket", "x": "ü\\u00fc"}}'.encode()


@pytest.mark.parametrize(
    ("payload", "redrives"),
    [
        pytest.param(fc_record(EVENT), 0, id="FC record"),
        pytest.param(dead_letter(EVENT), 0, id="dead letter"),
        pytest.param(dead_letter(EVENT, "base64", redrives=1), 1, id="base64"),
        pytest.param(dead_letter(EVENT, "gzip+base64", redrives=2), 2, id="gzip"),
        pytest.param(fc_record(dead_letter(EVENT, redrives=3)), 3, id="letter in FC record"),
        pytest.param(dead_letter(fc_record(EVENT), redrives=4), 4, id="FC record in letter"),
        pytest.param(
            dead_letter(dead_letter(EVENT, "base64"), redrives=5), 5, id="letter in letter"
        ),
        pytest.param(
            fc_record(dead_letter(fc_record(EVENT), "gzip+base64", redrives=6)), 6, id="three deep"
        ),
    ],
)
def test_the_innermost_event_is_kept(payload: bytes, redrives: int) -> None:
    """Wrappings come off; the event is what it was byte for byte, and its redrives are known."""
    delivery = only(payload)

    assert isinstance(delivery.parsed, BucketEvent)
    assert (delivery.raw, delivery.redrives, delivery.event_id) == (EVENT, redrives, "7")


@pytest.mark.parametrize("encoding", ["base64", "gzip+base64"])
def test_a_letters_bytes_need_not_be_text(encoding: str) -> None:
    """What was not UTF-8 when it came in comes out of the letter as it was."""
    raw = b"\xff\x00 not an event"

    delivery = only(dead_letter(raw, encoding, redrives=1))

    assert isinstance(delivery.parsed, InvalidEvent)
    assert (delivery.raw, delivery.redrives) == (raw, 1)


def test_arrays_of_wrappings_are_flattened() -> None:
    """An array may mix all forms, and what holds an array yields its items; each keeps its own."""
    first, second, third = (to_bytes({"id": n, "data": CREATION}) for n in "123")
    two = b"[" + second + b", " + third + b"]"
    raw = b"[%s, %s, %s, %s]" % (
        first,
        dead_letter(two, "gzip+base64", redrives=2),
        fc_record(two),
        to_bytes(CREATION),
    )

    opened = open_payload(raw)

    assert opened.is_array
    assert [(d.raw, d.redrives) for d in opened.events] == [
        (first, 0),
        (second, 2),
        (third, 2),
        (second, 0),
        (third, 0),
        (to_bytes(CREATION), 0),
    ]


@pytest.mark.parametrize("wrap", [fc_record, dead_letter], ids=["FC record", "dead letter"])
def test_an_innermost_array_makes_an_array(wrap: Callable[[bytes], bytes]) -> None:
    """A wrapped array is answered like an array."""
    opened = open_payload(wrap(b"[" + EVENT + b"]"))

    assert (opened.is_array, [d.raw for d in opened.events]) == (True, [EVENT])


@pytest.mark.parametrize("redrives", [None, "2", -3, 1.5, [], True, False], ids=repr)
def test_a_letter_that_does_not_count_its_redrives_has_none(redrives: object) -> None:
    """A count that is none is taken for 0, and the event is read all the same."""
    delivery = only(dead_letter(EVENT, redrives=redrives))

    assert (delivery.raw, delivery.redrives) == (EVENT, 0)


COUNTED = '{"id": "7", "guardredrives": 3, "data": {"eventName": "CreateTableBucket"}}'


@pytest.mark.parametrize(
    ("payload", "redrives"),
    [
        pytest.param('{"guardredrives": 3, "data": {"eventName": "x"}}', 3, id="first"),
        pytest.param(COUNTED, 3, id="in the middle"),
        pytest.param('{"data": {"eventName": "x"}, "GuardRedrives": 3}', 3, id="other casing"),
        pytest.param(
            '{"guardredrives": 9, "data": {"eventName": "x"}, "guardredrives": 3}', 3, id="twice"
        ),
        pytest.param('{"eventName": "x", "eventId": "7", "guardredrives": 3}', 3, id="bare record"),
        pytest.param('{"id": "7", "data": 17, "guardredrives": 3}', 3, id="unreadable event"),
        pytest.param(dead_letter(COUNTED.encode(), redrives=2), 3, id="in a letter with less"),
        pytest.param(dead_letter(COUNTED.encode(), redrives=4), 4, id="in a letter with more"),
        pytest.param(dead_letter(COUNTED.encode(), redrives=-4), 3, id="in a letter below 0"),
        pytest.param(
            '{"data": {"eventName": "x", "guardredrives": 3}}', 0, id="in the record: none of ours"
        ),
        pytest.param('["guardredrives", 3]', 0, id="in an array: none of ours"),
        pytest.param('{"redrives": 3, "data": {"eventName": "x"}}', 0, id="a dead letter's alone"),
    ],
)
def test_the_count_of_a_redriven_event_is_read(payload: object, redrives: int) -> None:
    """Wherever `guardredrives` stands in an event; a wrapping's own count does not lower it."""
    opened = open_payload(payload)

    assert {delivery.redrives for delivery in opened.events} == {redrives}


@pytest.mark.parametrize("count", ["null", '"2"', "-3", "1.5", "3.0", "[]", "{}", "true", "false"])
def test_an_event_that_does_not_count_its_redrives_has_none(count: str) -> None:
    """A count that is none is taken for 0, and the event is read all the same."""
    delivery = only(f'{{"data": {{"eventName": "CreateTableBucket"}}, "guardredrives": {count}}}')

    assert isinstance(delivery.parsed, BucketEvent)
    assert delivery.redrives == 0
    assert type(delivery.redrives) is int


@pytest.mark.parametrize(
    ("count", "redrives"), [(MAX_REDRIVES, MAX_REDRIVES), (MAX_REDRIVES + 1, 0), (10**400, 0)]
)
def test_a_count_that_nobody_reaches_counts_as_none(count: int, redrives: int) -> None:
    """Whoever forges the count of an event does not keep it from being sent again."""
    delivery = only({"data": CREATION, "guardredrives": count})

    assert isinstance(delivery.parsed, BucketEvent)
    assert delivery.redrives == redrives


@pytest.mark.parametrize(
    "wrapping",
    [
        pytest.param(fc_record(b""), id="FC record without an event"),
        pytest.param(dead_letter(EVENT, version=2), id="letter of another version"),
        pytest.param(dead_letter(EVENT, event=""), id="letter without an event"),
        pytest.param(dead_letter(EVENT, "base64", event="!"), id="broken letter"),
    ],
)
def test_the_count_of_a_wrapping_that_cannot_be_opened_is_read(wrapping: bytes) -> None:
    """It is the event then, and must not be sent again without end."""
    delivery = only(wrapping[:-1] + b',"guardredrives":3}')

    assert isinstance(delivery.parsed, InvalidEvent)
    assert delivery.redrives == 3


# Wrappings that others put around an event.

BOM = b"\xef\xbb\xbf"
TEXT = EVENT.decode()


def in_base64(event: bytes, times: int = 1) -> bytes:
    for _ in range(times):
        event = b64encode(event)
    return event


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(BOM + EVENT, id="a byte order mark"),
        pytest.param(fc_record(BOM + EVENT), id="a mark within"),
        pytest.param(in_base64(EVENT), id="base64"),
        pytest.param(in_base64(EVENT, 2), id="base64 twice"),
        pytest.param(encodebytes(EVENT), id="base64 with line breaks"),
        pytest.param(in_base64(EVENT).rstrip(b"="), id="base64 without padding"),
        pytest.param(urlsafe_b64encode(EVENT).strip(b"="), id="URL-safe base64"),
        pytest.param(BOM + b" \n" + in_base64(EVENT) + b"\n", id="base64 behind a mark"),
        pytest.param(dead_letter(in_base64(EVENT)), id="base64 in a letter"),
        pytest.param(to_bytes(TEXT), id="a JSON text"),
        pytest.param(to_bytes(in_base64(EVENT).decode()), id="a JSON text in base64"),
        pytest.param(to_bytes({"event": TEXT, "__time__": "1"}), id="a row of the log service"),
        pytest.param(b'{"__topic__": "x", "event": %s }' % EVENT, id="a row with the object"),
        pytest.param(
            b'{"requestContext": {}, "requestPayload" :\n%s\t, "timestamp": 1}' % EVENT,
            id="a destination record with the object",
        ),
        pytest.param(
            b'{"requestPayload": {}, "requestPayload": %s}' % EVENT, id="of two members the last"
        ),
    ],
)
def test_what_others_wrap_an_event_in_comes_off(payload: bytes) -> None:
    """The event in it is kept byte for byte, and answered as one."""
    opened = open_payload(payload)

    (delivery,) = opened.events
    assert isinstance(delivery.parsed, BucketEvent)
    assert (delivery.raw.strip(), delivery.event_id, opened.is_array) == (EVENT, "7", False)


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param(b'{"Events": [%s, %s], "RequestId": "r"}' % (EVENT, EVENT), id="Events"),
        pytest.param(b'{"records":[%s,%s]}' % (EVENT, EVENT), id="Records, in another casing"),
        pytest.param(to_bytes([TEXT, TEXT]), id="an array of texts"),
        pytest.param(to_bytes([f"[{TEXT}]", TEXT]), id="a text of an array in an array"),
        pytest.param(in_base64(b"[%s, %s]" % (EVENT, EVENT), 2), id="an array in base64"),
        pytest.param(b'{"requestPayload": [%s, %s]}' % (EVENT, EVENT), id="a record's array"),
    ],
)
def test_what_others_list_is_an_array(payload: bytes) -> None:
    """Each event is its exact piece of the input, and the answer is a list."""
    opened = open_payload(payload)

    assert opened.is_array
    assert [delivery.raw for delivery in opened.events] == [EVENT, EVENT]


@pytest.mark.parametrize(
    "data",
    [
        {"data_base64": in_base64(to_bytes(CREATION | {"eventId": "E"})).decode()},
        {"DATA_BASE64": urlsafe_b64encode(to_bytes(CREATION | {"eventId": "E"})).decode()},
        {"data": in_base64(to_bytes(CREATION | {"eventId": "E"})).decode()},
        {"data": json.dumps(CREATION | {"eventId": "E"})},
        {"data": "\ufeff" + json.dumps(CREATION | {"eventId": "E"})},
    ],
    ids=["data_base64", "casing, URL-safe", "data in base64", "a text", "a mark in data"],
)
def test_a_record_may_be_a_text_or_in_base64(data: Json) -> None:
    """CloudEvents has data_base64 for it; the event is kept as it came."""
    raw = to_bytes(data)

    delivery = only(raw)

    assert isinstance(delivery.parsed, BucketEvent)
    assert (delivery.parsed.name, delivery.raw, delivery.event_id) == (
        "CreateTableBucket",
        raw,
        "E",
    )


@pytest.mark.parametrize(
    ("payload", "kept"),
    [
        pytest.param(in_base64(EVENT, 3), in_base64(EVENT, 3), id="base64 three times"),
        pytest.param(b"abcd", b"abcd", id="base64 of something else"),
        pytest.param(in_base64(b"{"), b"{", id="base64 of broken JSON"),
        pytest.param(b'{"event": "cpu is high"}', b'{"event": "cpu is high"}', id="no row"),
        pytest.param(b'{"Events": 17}', b'{"Events": 17}', id="no events"),
        pytest.param(b'{"Events": []}', b"[]", id="an empty list"),
        pytest.param(b'{"data_base64": "!"}', b'{"data_base64": "!"}', id="data that is no base64"),
    ],
)
def test_what_is_no_wrapping_is_invalid_and_kept(payload: bytes, kept: bytes) -> None:
    """Nothing is lost of what cannot be opened."""
    delivery = only(payload)

    assert isinstance(delivery.parsed, InvalidEvent)
    assert delivery.raw == kept


def test_a_record_is_no_wrapping() -> None:
    """What has an eventName or data is the event, whatever else stands in it."""
    inner = {"event": TEXT, "events": [TEXT], "Records": [TEXT]}
    payloads = [inner | CREATION, inner | {"data": CREATION}]

    assert [only(payload).raw for payload in payloads] == [to_bytes(each) for each in payloads]


@pytest.mark.parametrize(
    "wrap",
    [
        lambda event: in_base64(event).decode(),
        lambda event: in_base64(event, 2).decode(),
        lambda event: json.loads(dead_letter(event, "base64")),
        lambda event: json.loads(dead_letter(event, "gzip+base64")),
        lambda event: {"event": in_base64(event).decode()},
        lambda event: {"data_base64": in_base64(event).decode()},
    ],
    ids=["base64", "base64 twice", "a letter", "a compressed letter", "a row", "data_base64"],
)
def test_all_decoded_bytes_count_against_one_bound(wrap: Callable[[bytes], object]) -> None:
    """Whoever packs one thing into many wrappings gets no more memory for it."""
    large = to_bytes(CREATION) + b" " * (MAX_DECODED_BYTES // 4)

    opened = open_payload([wrap(large) for _ in range(9)])

    readable = [isinstance(delivery.parsed, BucketEvent) for delivery in opened.events]
    assert readable[0]
    assert readable.count(True) <= 3
    assert "more bytes than a payload may hold" in str(opened.events[-1].parsed)


# Events of another kind.


@pytest.mark.parametrize(
    "data",
    [
        {"resourceId": "x"},
        {},
        '{"resourceId": "x"}',
        {"eventName": None},
        {"event": "cpu is high", "records": [{"value": 97}]},
        {"events": [{"eventName": "ObjectCreated:PutObject"}]},
    ],
    ids=str,
)
def test_an_event_of_another_service_is_of_no_bucket(data: object) -> None:
    """A CloudEvent that is not the audit trail's needs no eventName."""
    event = event_of({"id": "7", "type": "oss:Config:ConfigurationItemChange", "data": data})

    assert (event.name, event.failed) == ("", False)


@pytest.mark.parametrize(
    "event",
    [
        {"type": "oss:ActionTrail:ApiCall", "data": {}},
        {"type": "oss:actiontrail:ApiCall", "data": {}},
        {"type": "", "data": {}},
        {"type": 17, "data": {}},
        {"data": {}},
        {"type": "oss:Config:X", "data": []},
        {"type": "oss:Config:X", "data": "x"},
        {"type": "oss:Config:X"},
        {"type": "oss:Config:X", "data": {"eventName": 17}},
        {"type": "oss:Config:X", "data": {"eventName": ""}},
    ],
    ids=str,
)
def test_what_should_have_a_record_is_invalid_without_one(event: Json) -> None:
    """In doubt somebody has to look at it."""
    assert isinstance(only(event).parsed, InvalidEvent)


BOMB = b64encode(gzip.compress(b" " * (MAX_DECODED_BYTES + 1))).decode()


@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(fc_record(b""), id="FC record, empty"),
        pytest.param(b'{"requestPayload": 17, "requestContext": {}}', id="FC record, a number"),
        pytest.param(dead_letter(EVENT, version=2), id="another version"),
        pytest.param(dead_letter(EVENT, version="1" * 400), id="a long version"),
        pytest.param(dead_letter(EVENT, version=True), id="version true"),
        pytest.param(dead_letter(EVENT, event=""), id="no event"),
        pytest.param(dead_letter(EVENT, event_encoding="rot13"), id="unknown encoding"),
        pytest.param(dead_letter(EVENT, event_encoding=["utf-8"]), id="encoding is no text"),
        pytest.param(dead_letter(EVENT, "base64", event="a"), id="broken base64"),
        pytest.param(
            dead_letter(EVENT, "base64", event="!" + encoded(EVENT, "base64")),
            id="base64 with more in it",
        ),
        pytest.param(dead_letter(EVENT, "gzip+base64", event="YWJj"), id="not gzip"),
        pytest.param(
            dead_letter(EVENT, "gzip+base64", event=b64encode(gzip.compress(EVENT)[:-12]).decode()),
            id="gzip, cut short",
        ),
        pytest.param(dead_letter(EVENT, "gzip+base64", event=BOMB), id="gzip bomb"),
    ],
)
def test_a_wrapping_that_cannot_be_opened_is_kept(wrapped: bytes) -> None:
    """What holds no readable event is an invalid event itself, and nothing of it is lost."""
    delivery = only(wrapped)

    assert isinstance(delivery.parsed, InvalidEvent)
    assert delivery.raw == wrapped


def wrapped_times(times: int) -> bytes:
    """EVENT in that many letters."""
    payload = EVENT
    for _ in range(times):
        payload = dead_letter(payload, "gzip+base64")
    return payload


def test_as_deep_as_allowed_is_opened() -> None:
    """The limit itself still counts."""
    delivery = only(wrapped_times(MAX_NESTING))

    assert isinstance(delivery.parsed, BucketEvent)
    assert delivery.raw == EVENT


@pytest.mark.parametrize("times", [1, 20])
def test_deeper_than_allowed_is_invalid(times: int) -> None:
    """Whoever wraps without end gets an invalid event, not a loop; what is left is kept."""
    delivery = only(wrapped_times(MAX_NESTING + times))

    assert isinstance(delivery.parsed, InvalidEvent)
    assert str(delivery.parsed) == f"The event has more than {MAX_NESTING} envelopes."
    assert delivery.raw == wrapped_times(times - 1)


def test_arrays_in_arrays_are_wrappings_too() -> None:
    """Nested arrays are flattened as far as wrappings go, and invalid beyond."""
    shallow, deep = (b"[" * n + EVENT + b"]" * n for n in (2, MAX_NESTING + 1))

    opened = [only(shallow), only(deep)]

    assert [type(delivery.parsed) for delivery in opened] == [BucketEvent, InvalidEvent]
    assert [delivery.raw for delivery in opened] == [EVENT, EVENT]
