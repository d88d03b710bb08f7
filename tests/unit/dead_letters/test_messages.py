"""What waits in the dead-letter queue, read as one, and what is sent when it goes its way again."""

from __future__ import annotations

import gzip
import json
import random
from base64 import b64encode, encodebytes, urlsafe_b64encode
from collections.abc import Iterable
from dataclasses import asdict
from datetime import datetime, timezone
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.redrive import counted, fingerprint, redriven
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.dead_letters.document import MAX_COMPRESSED_EVENT_BYTES
from encryption_guard.dead_letters.messages import (
    MAX_MESSAGE_BYTES,
    Message,
    MessageSummary,
    decoded,
    open_message,
)
from encryption_guard.errors import InvalidEvent, Refused
from encryption_guard.events.envelopes import (
    MAX_DECODED_BYTES,
    MAX_REDRIVES,
    Event,
    open_payload,
)
from encryption_guard.untrusted import parse_time
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    START,
    FakeTime,
    LetterBox,
    LogLines,
    creation_of,
    destination_record_of,
)
from tests.unit.opened import CREATION, Json, only, to_bytes

# 128 KB, as the platform counts them.
LARGEST_PAYLOAD = 131_072
MAX_TEXT_LENGTH = 1000

FUNCTION = f"acs:fc:{REGION}:{ACCOUNT}:functions/oss-tables-encrypt-on-create"
HERE = Scope(ACCOUNT, REGION)
EVENT = to_bytes(creation_of(ARN))
# The same event, its JSON too large for a letter as text (quotes are escaped), and at all.
QUOTES = json.dumps(creation_of(ARN, note=[""] * 10_000), separators=(",", ":")).encode()
LARGE = to_bytes(creation_of(ARN, note="x" * 60_000))
NOISE = random.Random(1).randbytes(LARGEST_PAYLOAD)
BOMB = b64encode(gzip.compress(b" " * (MAX_COMPRESSED_EVENT_BYTES + 1))).decode()


def own_letter(raw: bytes = EVENT, *, redrives: int = 0) -> bytes:
    """What the guard writes when OSS Tables refuses, or else when an event names no bucket."""
    (delivery, *_) = open_payload(raw).events
    is_read = delivery.raw == raw and not isinstance(delivery.parsed, InvalidEvent)
    refused = Refused(
        "OSS Tables answered 403.",
        reason="rejected",
        status=403,
        code="ForbiddenException",
        message="No.",
        ec="0002-00000040",
        oss_request_id="OSS-1",
        attempts=3,
    )
    box = LetterBox()
    letters = DeadLetters(
        put=box.put,
        log_error=LogLines().error,
        function=FUNCTION,
        function_request_id="request-1",
        now=FakeTime().now,
    )
    if is_read:
        letters.write(refused, event=delivery._replace(redrives=redrives), arn=ARN)
    else:
        unread = Event(raw, redrives, None, None, InvalidEvent("No."))
        letters.write(InvalidEvent("No."), event=unread, arn=None)
    (letter,) = box.letters
    return letter


REAL_PAYLOADS = [
    *(EVENT, b"[" + EVENT + b", 17]", b"[]", b"17", b'"{}"', b"\xef\xbb\xbf" + EVENT, LARGE, NOISE),
    *(b64encode(EVENT), b64encode(b64encode(EVENT)), json.dumps(EVENT.decode()).encode()),
    to_bytes({"version": 2, "event": "x", "event_encoding": "utf-8", "id": "e", "source": "s"}),
    to_bytes({"version": 1, "event": "!", "event_encoding": "base64", "id": "e", "redrives": 3}),
    to_bytes({"requestPayload": 17, "id": "e"}),
]


def own_with(**fields: Any) -> bytes:
    """A dead letter in which somebody has changed these fields."""
    return to_bytes(json.loads(own_letter()) | fields)


def fc_record(payload: object = EVENT.decode(), **fields: Any) -> bytes:
    """What FC sends to a destination, with this as what the function was given."""
    answer = {"errorMessage": "No answer.", "errorType": "Unavailable", "stackTrace": []}
    known = {"requestPayload": payload, "responsePayload": json.dumps(answer)}
    return to_bytes(json.loads(destination_record_of({})) | known | fields)


def without(body: bytes, key: str) -> bytes:
    """A message that lacks a key."""
    return to_bytes({name: value for name, value in json.loads(body).items() if name != key})


def letter_of(body: bytes) -> MessageSummary:
    return open_message(body).summary


def events_in(opened: Message) -> list[tuple[bytes, int]]:
    return [(delivery.raw, delivery.redrives) for delivery in opened.events]


def delivery_of(raw: bytes, *, redrives: int = 0) -> Event:
    """An event of which only the bytes matter."""
    return Event(raw, redrives, None, None, InvalidEvent("No."))


def assert_bounded(letter: MessageSummary) -> None:
    """Two texts may be long sentences, all others are at most 200 characters of escaped ASCII."""
    texts = {key: value for key, value in asdict(letter).items() if isinstance(value, str)}
    sentences = [texts.pop("detail"), texts.pop("function", "")]
    assert all(len(sentence) <= MAX_TEXT_LENGTH for sentence in sentences)
    assert all(len(json.dumps(text)) <= 202 for text in texts.values())


# A message's body.


@given(st.binary())
def test_base64_is_decoded(body: bytes) -> None:
    """What the vendor's client has put into the queue comes out as it was."""
    assert decoded(b64encode(body).decode()) == body


@pytest.mark.parametrize(
    "body",
    [
        encodebytes(own_letter()),
        b64encode(own_letter()).strip(b"="),
        urlsafe_b64encode(own_letter()),
    ],
    ids=["on several lines", "without padding", "URL-safe"],
)
def test_a_letter_in_base64_of_another_kind_is_decoded(body: bytes) -> None:
    """Whoever has copied a letter may have wrapped or cut what encodes it."""
    assert decoded(body.decode()) == own_letter()


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"a": "ü"}', id="an object"),
        pytest.param(' \r\n\t[{"a": 1}]', id="an array after white space"),
        pytest.param('{"a": 1', id="an object, cut short"),
        pytest.param("no base64!", id="text"),
        pytest.param("YWJ", id="base64, cut short"),
        pytest.param("", id="nothing"),
    ],
)
def test_what_is_no_base64_stays_as_it_is(body: str) -> None:
    """A body that its sender has not encoded is read as it stands."""
    assert decoded(body) == body.encode()


# A dead letter of ours.


@pytest.mark.parametrize(
    ("raw", "encoding"),
    [
        pytest.param(EVENT, "utf-8", id="utf-8"),
        pytest.param(QUOTES, "base64", id="base64"),
        pytest.param(LARGE, "gzip+base64", id="gzip+base64"),
    ],
)
def test_a_dead_letter_tells_all_that_is_in_it(raw: bytes, encoding: str) -> None:
    """Every field is carried, and the event comes out byte for byte, however it is encoded."""
    body = own_letter(raw, redrives=2)

    opened = open_message(body)

    assert json.loads(body)["event_encoding"] == encoding
    assert opened.summary == MessageSummary(
        id=str(uuid5(NAMESPACE_URL, "acs.oss/event-1/rejected")),
        kind="dead_letter",
        reason="rejected",
        detail="OSS Tables answered 403.",
        arn=str(ARN),
        buckets=1,
        event_id="event-1",
        events=1,
        status=403,
        code="ForbiddenException",
        message="No.",
        ec="0002-00000040",
        oss_request_id="OSS-1",
        function=FUNCTION,
        function_request_id="request-1",
        attempts=3,
        redrives=2,
        at=START,
    )
    assert opened.summary.bucket == "my-table-bucket"
    assert opened.events == (only(raw)._replace(redrives=2),)


def test_what_a_dead_letter_does_not_know_is_none() -> None:
    """The nulls of a letter about an unreadable event stay what they are."""
    nulls = dict.fromkeys(
        ["event_id", "arn", "status", "code", "message", "ec", "oss_request_id"], None
    )

    letter = letter_of(own_with(reason="invalid_event", event="garbage", **nulls))

    unknown = {key for key, value in asdict(letter).items() if value is None}
    assert unknown == {*nulls, "stated_arn"}
    assert (letter.kind, letter.reason, letter.bucket) == ("dead_letter", "invalid_event", None)


def test_an_array_in_a_dead_letter_is_several_events() -> None:
    """Each event of an array counts."""
    event = f"[{EVENT.decode()}, {{}}]"

    opened = open_message(own_with(event=event, redrives=3))

    assert opened.summary.events == 2
    assert events_in(opened) == [(EVENT, 3), (b"{}", 3)]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"event": ""}, id="no event"),
        pytest.param({"event": "!", "event_encoding": "base64"}, id="broken base64"),
        pytest.param({"event": BOMB, "event_encoding": "gzip+base64"}, id="gzip bomb"),
        pytest.param(
            {"event": b64encode(gzip.compress(b"")).decode(), "event_encoding": "gzip+base64"},
            id="nothing, compressed",
        ),
    ],
)
def test_a_dead_letter_may_hold_nothing_to_send(fields: Json) -> None:
    """It still tells what happened, and there is no event that could be sent again."""
    opened = open_message(own_with(**fields))

    assert (opened.summary.kind, opened.summary.status) == ("dead_letter", 403)
    assert (opened.summary.events, opened.events) == (0, ())


@pytest.mark.parametrize(
    ("at", "instant_told"),
    [
        ("2026-11-22T12:00:00.000Z", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("2026-11-22T20:00:00+08:00", datetime(2026, 11, 22, 12, tzinfo=timezone.utc)),
        ("", None),
    ],
)
def test_a_dead_letter_tells_its_time(at: str, instant_told: datetime | None) -> None:
    """A time that cannot be read costs the time, not the letter."""
    letter = letter_of(own_with(at=at))

    assert (letter.kind, letter.at) == ("dead_letter", instant_told)


@pytest.mark.parametrize(
    ("value", "told"),
    [
        pytest.param(1660120276975, "2022-08-10T08:31:16.975000+00:00", id="milliseconds"),
        pytest.param(10**30, None, id="beyond all years"),
        pytest.param(10**400, None, id="beyond all floats"),
        pytest.param(True, None, id="a boolean"),
        pytest.param(1.5, None, id="a float"),
    ],
)
def test_an_instant_is_a_text_or_milliseconds(value: object, told: str | None) -> None:
    """Anything else is no time."""
    at = parse_time(value)

    assert (at and at.isoformat()) == told


# A record of FC's failure destination.


def test_a_destination_record_tells_why_the_function_failed() -> None:
    """Type and message of the error, the function, its tries, and what the event names."""
    opened = open_message(fc_record())

    assert opened.summary == MessageSummary(
        id=str(uuid5(NAMESPACE_URL, "acs.oss/event-1/not_delivered")),
        kind="destination_record",
        reason="function_failed",
        detail="The function failed after 4 tries: No answer.",
        arn=str(ARN),
        buckets=1,
        event_id="event-1",
        events=1,
        code="Unavailable",
        message="No answer.",
        function=FUNCTION,
        function_request_id="FC-1",
        attempts=4,
        at=START,
    )
    assert opened.events == (only(EVENT),)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param(
            {"responsePayload": ""},
            {"code": "UnhandledInvocationError", "message": None},
            id="no answer: the condition",
        ),
        pytest.param({"responsePayload": ["a"]}, {"message": None}, id="answer: a list"),
        pytest.param(
            {"responsePayload": {"errorType": "KeyError", "errorMessage": "'a'"}},
            {"code": "KeyError", "message": "'a'"},
            id="answer: an object",
        ),
        pytest.param(
            {"responsePayload": '{"errorType": ["a"], "errorMessage": null}'},
            {"code": "UnhandledInvocationError", "message": None},
            id="answer: other types in it",
        ),
        pytest.param(
            {"requestContext": {}, "responsePayload": ""},
            {"code": None, "message": None, "function": None, "attempts": 0},
            id="empty context",
        ),
        pytest.param(
            {"requestContext": None},
            {"code": "Unavailable", "function": None, "function_request_id": None},
            id="context: null",
        ),
        pytest.param({"requestContext": ["a"]}, {"function": None}, id="context: a list"),
        pytest.param(
            {"requestContext": '{"functionArn": "f", "approximateInvokeCount": "2"}'},
            {"function": "f", "attempts": 2},
            id="context: JSON text",
        ),
        pytest.param(
            {"requestContext": {"functionArn": 17, "requestId": {}, "condition": False}},
            {"function": "17", "function_request_id": None, "code": "Unavailable"},
            id="context: other types in it",
        ),
        *(
            pytest.param(
                {"requestContext": {"approximateInvokeCount": tries}},
                {"attempts": 0, "function": None},
                id=f"tries: {str(tries)[:20]}",
            )
            for tries in (-1, 1.5, "many", 10**12, 10**400)
        ),
        *(
            pytest.param({"timestamp": timestamp}, {"at": None}, id=f"time: {str(timestamp)[:20]}")
            for timestamp in [None, 10**30, "166012027697"]
        ),
        pytest.param({"timestamp": "2026-01-02T03:04:05Z"}, {"at": START}, id="time: ISO text"),
    ],
)
def test_a_destination_record_may_lack_or_garble_anything(fields: Json, told: Json) -> None:
    """What is not there, or of another type, is not known; the event and the rest still are."""
    opened = open_message(fc_record(**fields))

    letter = asdict(opened.summary)
    assert {key: letter[key] for key in told} == told
    assert (letter["kind"], letter["reason"]) == ("destination_record", "function_failed")
    assert (letter["arn"], events_in(opened)) == (str(ARN), [(EVENT, 0)])


@pytest.mark.parametrize("key", ["timestamp", "responseContext", "responsePayload"])
def test_a_destination_record_is_known_without(key: str) -> None:
    """What is not needed to know the record for one may be absent."""
    opened = open_message(without(fc_record(), key))

    assert opened.summary.kind == "destination_record"
    assert events_in(opened) == [(EVENT, 0)]


def test_a_destination_records_keys_count_in_any_casing() -> None:
    """Casing is the platform's business."""
    record = {key.upper(): value for key, value in json.loads(fc_record()).items()}

    opened = open_message(to_bytes(record))

    assert opened == open_message(fc_record())


@pytest.mark.parametrize(
    ("payload", "events", "redrives"),
    [
        pytest.param(own_letter(redrives=2).decode(), [(EVENT, 2)], 2, id="a dead letter"),
        pytest.param(
            f"[{own_letter(redrives=1).decode()}, {own_letter(redrives=3).decode()}]",
            [(EVENT, 1), (EVENT, 3)],
            3,
            id="dead letters",
        ),
        pytest.param(
            f"[17, {EVENT.decode()}]", [(b"17", 0), (EVENT, 0)], 0, id="an array, half of it events"
        ),
        pytest.param('{"id": "event', [(b'{"id": "event', 0)], 0, id="JSON, cut short"),
        pytest.param(None, [], 0, id="null"),
        pytest.param(json.loads(EVENT), [(EVENT, 0)], 0, id="an object"),
        pytest.param(17, [], 0, id="a number"),
    ],
)
def test_a_destination_record_holds_what_the_function_was_given(
    payload: object, events: list[tuple[bytes, int]], redrives: int
) -> None:
    """Wrappings come off with their count; what holds no event has nothing to send again."""
    opened = open_message(fc_record(payload))

    assert opened.summary.kind == "destination_record"
    assert events_in(opened) == events
    assert (opened.summary.events, opened.summary.redrives) == (len(events), redrives)


# A CloudEvent that was not delivered.


def test_a_cloud_event_tells_what_it_is_about() -> None:
    """Nobody has failed yet: the event names its bucket, and that is all there is to know."""
    opened = open_message(EVENT)

    assert opened.summary == MessageSummary(
        id=str(uuid5(NAMESPACE_URL, "acs.oss/event-1/not_delivered")),
        kind="cloud_event",
        reason="not_delivered",
        detail="The event did not reach the function.",
        arn=str(ARN),
        buckets=1,
        event_id="event-1",
        events=1,
    )
    assert opened.events == (only(EVENT),)


BARE = {"id": "event-1", "source": "acs.oss", "data": CREATION | {"resourceName": ARN.name}}


@pytest.mark.parametrize("body", [to_bytes(BARE), fc_record(json.dumps(BARE))], ids=["raw", "FC"])
@pytest.mark.parametrize(
    ("home", "arn"),
    [(HERE, str(ARN)), (Scope(None, REGION), None), (None, None)],
    ids=["both", "no account", "neither"],
)
def test_a_bare_name_is_completed(body: bytes, home: Scope | None, arn: str | None) -> None:
    """Where the event does not tell region and account, the queue's own do."""
    letter = open_message(body, home).summary

    assert letter.arn == arn


def test_an_event_knows_better_than_the_queue() -> None:
    """What the event itself tells of region and account is not overruled."""
    letter = open_message(EVENT, Scope("6543210987654321", "cn-beijing")).summary

    assert letter.arn == str(ARN)


def test_a_bare_record_is_an_event() -> None:
    """A record of the audit trail needs no CloudEvent around it."""
    record = {**CREATION, "eventId": "event-1", "responseElements": {"arn": str(ARN)}}

    opened = open_message(to_bytes(record))

    assert (opened.summary.kind, opened.summary.arn) == ("cloud_event", str(ARN))
    assert (opened.summary.event_id, opened.summary.events) == ("event-1", 1)


@pytest.mark.parametrize("missing", [None, "id", "source"])
def test_source_and_id_make_a_cloud_event(missing: str | None) -> None:
    """Whatever its data are; without both, what cannot be read as an event is none."""
    event = {"id": "event-1", "source": "acs.oss", "data": 17}
    event.pop(missing or "", None)

    letter = letter_of(to_bytes(event))

    expected = ("unknown", 0) if missing else ("cloud_event", 1)
    assert (letter.kind, letter.events, letter.arn) == (*expected, None)


def test_an_array_of_cloud_events_is_one_letter() -> None:
    """It is about the bucket that they name, and as often redriven as its most redriven event."""
    nameless = to_bytes({"id": "event-0", "source": "acs.oss", "data": CREATION})
    again = counted(EVENT, 3) or b""

    opened = open_message(b"[" + nameless + b", " + again + b"]")

    assert (opened.summary.kind, opened.summary.events) == ("cloud_event", 2)
    assert (opened.summary.arn, opened.summary.event_id) == (str(ARN), "event-0")
    assert opened.summary.redrives == 3
    assert events_in(opened) == [(nameless, 0), (again, 3)]


# Anything else.

UNKNOWN = {
    "nothing": b"",
    "not JSON": b"CreateTableBucket",
    "not UTF-8": b"\xff\xfe",
    "a record, cut short": fc_record()[:-1],
    "a number": b"17",
    "an empty array": b"[]",
    "an array, one of it an event": b"[" + EVENT + b", 17]",
    "an empty object": b"{}",
    "an object of something else": b'{"Message": "hello", "Subject": "greeting"}',
    "half a character": b'{"id": "\\ud800", "source": "acs.oss"}',
    "version 2": own_with(version=2),
    "version 1 as text": own_with(version="1"),
    "version true": own_with(version=True),
    "version without end": own_with(version=10**4000),
    "a field too many": own_with(colour="red"),
    "an id that is no UUID": own_with(id="event-1"),
    "an id in capitals": own_with(id="0F1C9D4E-7A55-5F0E-8C0C-6C1F6F0D9C11"),
    "an id with more behind it": own_with(id="0f1c9d4e-7a55-5f0e-8c0c-6c1f6f0d9c11\n"),
    "an unknown encoding": own_with(event_encoding="rot13"),
    "a negative count": own_with(redrives=-1),
    "no keys but three": b'{"version": 1, "event": "x", "event_encoding": "utf-8"}',
}


@pytest.mark.parametrize("body", UNKNOWN.values(), ids=UNKNOWN)
def test_what_is_not_known_is_left_alone(body: bytes) -> None:
    """It has an id to be named by and a sentence that says why, and nothing of it is sent."""
    opened = open_message(body)

    letter = opened.summary
    assert (letter.kind, letter.reason, letter.events) == ("unknown", "unknown", 0)
    assert opened.events == ()
    assert letter.detail.endswith(".")
    assert letter.detail.isprintable()
    assert len(letter.detail) <= 400


# Without its encoding it is whatever has an event in it, such as a row of the log service.
@pytest.mark.parametrize("key", sorted(json.loads(own_letter()).keys() - {"event_encoding"}))
def test_a_letter_that_lacks_a_field_is_not_quite_one(key: str) -> None:
    """Our own documents have every key, whether there is something to tell or not."""
    opened = open_message(without(own_letter(), key))

    assert (opened.summary.kind, opened.events) == ("unknown", ())


def test_a_field_too_many_is_named() -> None:
    """The sentence names it, escaped and cut."""
    letter = letter_of(own_with(**{"\x1b" + "x" * 1000: 1}))

    assert letter.detail.startswith('The dead letter is not valid: "\\u001bxxx')
    assert len(letter.detail) < 300


def test_an_array_that_is_not_all_events_tells_what_is_wrong() -> None:
    """The sentence is about the item that is no event, wherever it stands."""
    letters = [letter_of(b"[" + one + b"]") for one in (b"17," + EVENT, EVENT + b",17")]

    assert all("not a JSON object" in letter.detail for letter in letters)


# Letters may be forged.

TEXTS = sorted(key for key, value in json.loads(own_letter()).items() if isinstance(value, str))
HOSTILE = {
    "60 KB": "x" * 60_000,
    "60 KB of quotes": '"' * 60_000,
    "60 KB of Chinese": "\u4e2d" * 20_000,
    "control characters": "\x00\x1b[2J\r\n\x7f\u202e",
}


@pytest.mark.parametrize("key", TEXTS)
@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_letters_texts_are_bounded(key: str, text: str) -> None:
    """Whatever stands in a field, no text that is told of the letter is longer than it may be."""
    assert_bounded(letter_of(own_with(**{key: text})))


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_destination_records_texts_are_bounded(text: str) -> None:
    """The same holds for what FC is made to say."""
    text = text[:2000]
    context = dict.fromkeys(
        ["requestId", "functionArn", "condition", "approximateInvokeCount"], text
    )
    answer = json.dumps({"errorMessage": text, "errorType": text})
    event = json.dumps({"id": text, "source": text, "subject": text, "data": {"eventName": text}})

    letter = letter_of(
        fc_record(event, requestContext=context, responsePayload=answer, timestamp=text)
    )

    assert letter.kind == "destination_record"
    assert_bounded(letter)


def test_a_long_text_shows_that_it_was_cut() -> None:
    """What is left of a long code ends in dots."""
    letter = letter_of(own_with(code="x" * 300))

    assert letter.code
    assert letter.code.endswith("...")


# A letter's word about itself.

PAYMENTS = ARN._replace(name="payments")
DECOY = ARN._replace(name="decoy")


def about(*arns: TableBucketArn, **fields: object) -> str:
    """The creation of a bucket, or an array of several, as the text in a letter."""
    events = [creation_of(arn, event_id=f"event-{arn.name}", **fields) for arn in arns]
    return json.dumps(events[0] if len(events) == 1 else events)


@pytest.mark.parametrize(
    ("stated", "event", "named"),
    [
        (str(PAYMENTS), about(DECOY), str(DECOY)),
        (str(PAYMENTS), about(PAYMENTS, DECOY), f"{PAYMENTS} and {DECOY}"),
        (str(PAYMENTS), about(*[ARN, PAYMENTS, DECOY]), f"{ARN} and {PAYMENTS} and others"),
        (str(PAYMENTS), '{"hello": 1}', "no table bucket"),
        ("", about(DECOY), str(DECOY)),
    ],
    ids=[
        "another bucket",
        "one more bucket",
        "two more",
        "no bucket",
        "empty",
    ],
)
def test_a_letter_that_its_event_denies_is_unknown(stated: str, event: str, named: str) -> None:
    """The guard writes the bucket of the event, so somebody else wrote this; both are named."""
    opened = open_message(own_with(arn=stated, event=event), HERE)

    assert (opened.summary.kind, opened.summary.reason) == ("unknown", "unknown")
    assert (opened.summary.arn, opened.events, opened.named.arns) == (None, (), ())
    assert opened.summary.detail == (
        f"The message states the bucket {json.dumps(stated)}, but its event names {named}: the"
        " guard did not write this."
    )


def test_a_reason_that_the_event_denies_makes_a_letter_unknown() -> None:
    """OSS Tables can refuse no request for an event that names no bucket."""
    opened = open_message(own_with(arn=None, event="garbage"), HERE)

    assert opened.summary.kind == "unknown"
    assert "reason rejected, but its event names no table bucket" in opened.summary.detail


def test_a_letter_that_states_no_bucket_has_that_of_its_event() -> None:
    """An older guard could not read what this one reads."""
    body = own_with(arn=None, reason="invalid_event", event=about(PAYMENTS))

    letter = open_message(body, HERE).summary

    assert (letter.kind, letter.arn, letter.bucket) == ("dead_letter", str(PAYMENTS), "payments")


def test_a_bare_name_in_a_file_is_completed_by_the_letter() -> None:
    """A file has no account and no region, and the guard has written both into the letter."""
    letters = [letter_of(own_with(event=json.dumps(BARE), arn=arn)) for arn in (str(ARN), "x")]

    assert [(letter.kind, letter.arn) for letter in letters] == [
        ("dead_letter", str(ARN)),
        ("unknown", None),
    ]


def test_the_ids_of_a_letter_are_those_of_its_event() -> None:
    """The writer of a letter cannot give it the ID of another one without that one's event."""
    chosen = "0f1c9d4e-7a55-5f0e-8c0c-6c1f6f0d9c11"

    letter = letter_of(own_with(id=chosen, event_id="bbbbbbbb"))

    assert letter == letter_of(own_letter())


@pytest.mark.parametrize(
    ("field", "numbers"),
    [
        ("status", (-1, 0, 99, 1000, 10**4000)),
        ("attempts", (-1, 1001, 10**4000)),
        ("redrives", (-1, 101, 999, 10**4000)),
    ],
)
def test_a_number_that_no_letter_has_makes_it_unknown(field: str, numbers: list[int]) -> None:
    """Nobody is asked to read 4,000 digits, or held up by a count that nobody reaches."""
    letters = [letter_of(own_with(**{field: number})) for number in numbers]

    assert {letter.kind for letter in letters} == {"unknown"}
    assert all(f'"{field}"' in letter.detail and len(letter.detail) < 200 for letter in letters)


@pytest.mark.parametrize(
    ("event", "acting", "problem"),
    [
        (about(PAYMENTS), 1, None),
        (about(PAYMENTS, DECOY), 2, None),
        (f"[{about(PAYMENTS)}, 17]", 1, "The event is not a JSON object."),
    ],
    ids=["created", "two", "one of two"],
)
def test_a_message_tells_what_the_guard_would_act_on(
    event: str, acting: int, problem: str | None
) -> None:
    """The events of a table bucket are counted, and of the others it is said why they are none."""
    named = open_message(fc_record(event), HERE).named

    assert (named.acting, named.problem) == (acting, problem)


def test_a_message_about_several_buckets_has_no_bucket() -> None:
    """It names both, and is not taken for one about either of them."""
    opened = open_message(fc_record(about(PAYMENTS, DECOY, PAYMENTS)), HERE)

    assert opened.named.arns == (PAYMENTS, DECOY)
    assert (opened.summary.arn, opened.summary.bucket, opened.summary.buckets) == (None, None, 2)


def test_a_message_that_no_queue_holds_is_not_read() -> None:
    """A line of a file may be of any length; what is beyond the limit is not even parsed."""
    letters = [letter_of(b"[" + b" " * (MAX_MESSAGE_BYTES - less) + b"]") for less in (1, 2)]

    assert letters[0].detail == (
        "The message has 262145 bytes; a command reads at most 262144 of one message."
    )
    assert "empty array" in letters[1].detail


@given(st.binary() | st.sampled_from(REAL_PAYLOADS))
def test_the_guards_own_letters_are_known_by_the_id_that_it_logged(payload: bytes) -> None:
    """Whatever the function was given, its letters do not contradict the events in them."""
    for event in open_payload(payload).events:
        box = LetterBox()
        letters = DeadLetters(box.put, LogLines().error, FUNCTION, "request-1", FakeTime().now)
        written = letters.write(InvalidEvent("No."), event=event, arn=None).dead_letter

        letter = open_message(written.body(), HERE).summary

        assert (letter.kind, letter.id) == ("dead_letter", written.id)
        assert letter.event_id == written.event_id


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"9" * 5000, id="a long number"),
        pytest.param(
            fc_record(requestContext="[" * 100_000, responsePayload='{"a":' * 100_000),
            id="a deep context",
        ),
        pytest.param(
            b'{"id": "1", "source": "s", "data": ' + b"[" * 150 + b"]" * 150 + b"}", id="deep data"
        ),
        pytest.param(b'{"id": "\xed\xa0\x80"}', id="half a character as bytes"),
        pytest.param(own_letter().replace(b"No.", b"\\udc00"), id="half a character, escaped"),
    ],
)
def test_nothing_that_is_made_to_break_does(body: bytes) -> None:
    """Long numbers and broken characters are no exceptions; nor is what is deep in a record."""
    assert_bounded(letter_of(body))


REAL = [
    own_letter(),
    own_letter(QUOTES[:400]),
    own_letter(LARGE),
    fc_record(),
    fc_record(own_letter().decode()),
    EVENT,
    b"[" + EVENT + b"," + EVENT + b"]",
]
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([*HOSTILE.values(), 10**400, 1e400, "[" * 500, '{"a":' * 500, "9" * 5000]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A real message in which some value, deep inside or not, is another, or some bytes are."""
    body = draw(st.sampled_from(REAL))
    document = json.loads(body)
    for _ in range(draw(st.integers(0, 3))):
        place = document
        for _ in range(draw(st.integers(0, 2))):
            inside = place.values() if isinstance(place, dict) else place
            place = draw(
                st.sampled_from([v for v in inside if v and isinstance(v, (dict, list))] or [place])
            )
        if isinstance(place, dict):
            place[draw(st.sampled_from(sorted(place)) | st.text())] = draw(json_values)
        else:
            place.append(draw(json_values))
    body = json.dumps(document).encode()
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(body)))
        body = body[:at] + draw(st.binary(max_size=3)) + body[at + draw(st.integers(0, 3)) :]
    return body


@given(mutated())
def test_no_forged_letter_raises(body: bytes) -> None:
    """However a real message was changed, it is some letter, and its texts are bounded."""
    opened = open_message(body, HERE)

    assert opened.summary.events == len(opened.events)
    assert_bounded(opened.summary)


# What a letter is named by.


def test_copies_of_an_event_have_the_same_id() -> None:
    """Source and event id make it, however the event came into the queue and was laid out."""
    event = json.loads(EVENT)
    copies = [
        EVENT,
        json.dumps(event, indent=2).encode(),
        counted(EVENT, 2) or b"",
        fc_record(),
        fc_record(timestamp=1, responsePayload=""),
        to_bytes([event]),
    ]

    ids = {letter_of(copy).id for copy in copies}

    assert len(ids) == 1


def test_other_messages_have_other_ids() -> None:
    """Another event, another source, other bytes without an event id: another letter."""
    event = json.loads(EVENT)
    bodies = [
        EVENT,
        to_bytes(event | {"id": "event-2"}),
        to_bytes(event | {"source": "acs.osstables"}),
        own_letter(),
        b"",
        b"17",
        b"18",
        fc_record("garbage"),
        fc_record("other garbage"),
    ]

    ids = {letter_of(body).id for body in bodies}

    assert len(ids) == len(bodies)


# What is sent when an event goes its way again: the count.

space = st.text(" \t\r\n", max_size=2)
characters = st.text(st.characters(codec="utf-8"), max_size=4)
# Texts in which the count seems to stand, and does not.
LOOKALIKES = [
    '"guardredrives',
    ',"guardredrives',
    '{"guardredrives',
    "guardredrives",
    '","guardredrives":5}',
    '"guardredrives":5}',
    "\\",
]


@st.composite
def json_strings(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> str:
    return json.dumps(draw(texts), ensure_ascii=draw(st.booleans()))


def objects_of(
    keys: st.SearchStrategy[str], values: st.SearchStrategy[str], *, min_size: int = 0
) -> st.SearchStrategy[str]:
    """The texts of JSON objects: any order, any white space, keys that stand there twice."""
    member = st.tuples(space, json_strings(keys), space, st.just(":"), space, values, space)
    members = st.lists(member.map("".join), min_size=min_size, max_size=4).map(",".join)
    return st.tuples(space, st.just("{"), members | space, st.just("}"), space).map("".join)


plain_values = st.one_of(
    st.sampled_from(["null", "true", "5", "0", "1.50", "1e2", "-0"]),
    json_strings(characters | st.sampled_from(LOOKALIKES)),
)
json_texts = st.recursive(
    plain_values,
    lambda inner: st.one_of(
        objects_of(characters | st.sampled_from(LOOKALIKES), inner),
        st.lists(inner, max_size=3).map(lambda items: "[" + ",".join(items) + "]"),
    ),
    max_leaves=6,
)
# Keys that are not the count, whatever they look like.
other_keys = (characters | st.sampled_from(LOOKALIKES)).filter(lambda key: key != "guardredrives")
uncounted = objects_of(other_keys, json_texts).map(str.encode)
anyhow_counted = objects_of(characters | st.sampled_from(LOOKALIKES), json_texts).map(str.encode)
counts = st.integers(0, MAX_REDRIVES)


def pairs_of(event: bytes) -> list[tuple[str, Any]]:
    """The members of an object, those of the same name each for itself."""
    pairs: list[list[tuple[str, Any]]] = []

    def collect(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs.append(found)
        return dict(found)

    json.loads(event, object_pairs_hook=collect)
    return pairs[-1]


@given(anyhow_counted, counts)
@example(b"{}", 1)
@example(b" { } ", 1)
@example(b'{"x\\"guardredrives":5}', 1)
@example(b'{"x,\\"guardredrives":5}', 1)
@example(b'{"a":1, "guardredrives":5}', 1)
@example(b'{"a":1,\n"guardredrives":5}', 1)
@example(b'{ "guardredrives":5}', 1)
@example(b'{"guardredrives":5 }', 1)
@example(b'{"a": {"guardredrives":5}}', 1)
@example(b'{"a": {"guardredrives":5} }', 1)
@example(b'{"a": [{"guardredrives":5}]}', 1)
@example(b'{"guardredrives":-5}', 1)
@example(b'{"guardredrives":1e5}', 1)
@example(b'{"guardredrives":"5"}', 1)
@example(b'{"guardredrives":5,"a":"}"}', 1)
@example(b'{"a":"\\"guardredrives\\":5}"}', 1)
@example(b'{"a":",\\"guardredrives\\":5}"}', 1)
def test_a_counted_event_means_the_same(event: bytes, redrives: int) -> None:
    """All that is added is `guardredrives`, which says how often."""
    result = counted(event, redrives)

    assert result is not None
    assert json.loads(result) == json.loads(event) | {"guardredrives": redrives}


@given(uncounted, counts)
def test_a_counted_event_is_the_same_byte_for_byte(event: bytes, redrives: int) -> None:
    """The count comes at the end of the object, and everything before it stays as it came."""
    whole = event.strip()[:-1].rstrip()
    comma = b"" if whole == b"{" else b","

    result = counted(event, redrives)

    assert result == whole + comma + b'"guardredrives":%d}' % redrives


@given(anyhow_counted, counts, counts)
def test_counting_again_replaces_the_count(event: bytes, first: int, second: int) -> None:
    """However often an event goes its way again, it is the same as at the first time."""
    once = counted(event, second)

    again = counted(counted(event, first) or b"", second)

    assert again == once


@pytest.mark.parametrize(
    "event",
    [
        b'{"a":1,"guardredrives":5} \n',
        b'{"a": 1,\n  "guardredrives": 5\n}',
        b'{"a":1,"guardredrives" :5 }',
    ],
    ids=ascii,
)
def test_a_count_is_never_doubled(event: bytes) -> None:
    """A count at the end is replaced, also where somebody has laid the event out anew."""
    result = counted(event, 6)

    assert result is not None
    assert pairs_of(result) == [("a", 1), ("guardredrives", 6)]


@pytest.mark.parametrize(
    "event",
    [
        b"",
        b'[{"a": 1}]',
        b'{"a": 1',
        b'{"a": 1} {}',
        b"{a: 1}",
        b'{"a":' * 1000,
    ],
    ids=lambda event: ascii(event[:20]),
)
def test_what_is_no_object_cannot_be_counted(event: bytes) -> None:
    """Only a JSON object has room for the extension."""
    assert counted(event, 1) is None


# What an event is known by.


@given(uncounted, st.lists(counts, max_size=3))
def test_an_event_has_the_same_fingerprint_however_often_it_was_sent(
    event: bytes, redrives: list[int]
) -> None:
    """The count alone makes no other event."""
    again = event
    for number in redrives:
        again = counted(again, number) or b""

    assert fingerprint(delivery_of(again)) == fingerprint(delivery_of(event))


@given(uncounted | st.binary(), uncounted | st.binary())
@example(b"[1]", b"[2]")
@example(b'{"a": 1}', b'{"a": 2}')
def test_other_events_have_other_fingerprints(one: bytes, other: bytes) -> None:
    """What differs in more than the white space around it is not the same event."""
    assume(one.strip().rstrip(b"} \t\r\n") != other.strip().rstrip(b"} \t\r\n"))

    assert fingerprint(delivery_of(one)) != fingerprint(delivery_of(other))


# What the function is given.


def sent(events: Iterable[bytes], redrives: int = 1) -> bytes | None:
    """What is sent for these events."""
    return redriven([delivery_of(event) for event in events], redrives)


def meaning(event: bytes) -> object:
    """What an event says, but for its count; the bytes where it is no object."""
    try:
        document = json.loads(event)
    except (ValueError, RecursionError):
        return event
    if not isinstance(document, dict):
        return event
    return {key: value for key, value in document.items() if key != "guardredrives"}


def arrives(events: list[bytes], redrives: int) -> list[tuple[object, int]]:
    """What the function reads when these events are sent again."""
    payload = sent(events, redrives)
    assert payload is not None
    assert len(payload) <= LARGEST_PAYLOAD
    return [(meaning(d.raw), d.redrives) for d in open_payload(payload).events]


@given(st.lists(uncounted, min_size=1, max_size=4), counts)
def test_events_arrive_with_their_count(events: list[bytes], redrives: int) -> None:
    """One event or several: the function reads what they were, and how often they were sent."""
    assert arrives(events, redrives) == [(meaning(event), redrives) for event in events]


@given(
    st.binary(min_size=1).filter(lambda raw: not raw.lstrip().startswith((b"[", b"{"))),
    counts,
)
@example(b"\x00", 1)
@example(b"\xff\xfe\x00", 1)
@example(b"17", 1)
@example(b"[]", 1)
@example(b"{", 1)
@example(b"[{}", 1)
@example(b" ", 1)
@example("größe \u2028".encode(), 1)
def test_what_is_no_object_arrives_with_its_count(event: bytes, redrives: int) -> None:
    """It goes as a dead letter, which the function opens: byte for byte, and counted."""
    assert arrives([event], redrives) == [(event, redrives)]


@pytest.mark.parametrize(
    "events",
    [
        pytest.param([EVENT, b"17"], id="a number"),
        pytest.param([EVENT, b"garbage"], id="no JSON"),
        pytest.param([EVENT, b"1, 2"], id="more than one"),
        pytest.param([b"1], [2", EVENT], id="brackets"),
    ],
)
def test_events_arrive_beside_what_is_none(events: list[bytes]) -> None:
    """Garbage in one letter with an event does not keep the event from being read."""
    assert arrives(events, 2) == [(meaning(event), 2) for event in events]


@pytest.mark.parametrize(
    "event",
    [
        pytest.param(own_with(version=2), id="a letter of another version"),
        pytest.param(own_with(event=""), id="a letter without an event"),
        pytest.param(fc_record(""), id="a record without an event"),
    ],
)
@pytest.mark.parametrize(
    "wrapped",
    [
        pytest.param(lambda event: own_letter(event), id="in a letter"),
        pytest.param(lambda event: fc_record(event.decode()), id="in a record"),
    ],
)
def test_a_wrapping_that_cannot_be_opened_arrives_with_its_count(
    event: bytes, wrapped: Any
) -> None:
    """If it is sent at all, its count is read: it must not go round for ever."""
    deliveries = open_message(wrapped(event)).events

    payload = redriven(deliveries, 2) if deliveries else None

    opened = open_payload(payload).events if payload else ()
    assert [delivery.redrives for delivery in opened] == [2] * len(deliveries)


def test_a_count_in_another_casing_does_not_hide_ours() -> None:
    """Whoever made the event cannot make it go round for ever."""
    event = to_bytes({"GuardRedrives": 0} | creation_of(ARN))

    assert [redrives for _, redrives in arrives([event], 4)] == [4]


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(own_letter(redrives=1), id="utf-8"),
        pytest.param(own_letter(LARGE, redrives=1), id="gzip+base64"),
        pytest.param(fc_record(own_letter(redrives=1).decode()), id="FC record of a letter"),
        pytest.param(fc_record(f"[{EVENT.decode()}, 17, []]"), id="FC record of an array"),
        pytest.param(b"[" + EVENT + b"," + QUOTES + b"]", id="CloudEvents"),
    ],
)
def test_a_letters_events_arrive_with_their_count(body: bytes) -> None:
    """From the queue to the function: nothing is lost on the way."""
    deliveries = open_message(body).events

    payload = redriven(deliveries, 2)

    again = open_payload(payload).events
    assert [(meaning(d.raw), d.redrives) for d in again] == [
        (meaning(d.raw), 2) for d in deliveries
    ]
    assert [fingerprint(d) for d in again] == [fingerprint(d) for d in deliveries]
    assert [(d.source, d.event_id) for d in again] == [(d.source, d.event_id) for d in deliveries]


# And how large that may be.


def event_that_makes(size: int, *, events: int = 1) -> bytes:
    """An event that is so large when it is sent, counted, so many times in one array."""
    empty = len(sent([b'{"a":""}'] * events) or b"")
    return b'{"a":"%s"}' % (b"x" * ((size - empty) // events))


def test_an_event_of_128_kb_is_sent_as_it_is() -> None:
    """The limit itself is allowed."""
    event = event_that_makes(LARGEST_PAYLOAD)

    payload = sent([event])

    assert payload == counted(event, 1)
    assert len(payload or b"") == LARGEST_PAYLOAD


def test_an_event_beyond_128_kb_is_sent_compressed() -> None:
    """One byte more makes it a dead letter, which the function opens."""
    event = event_that_makes(LARGEST_PAYLOAD + 1)

    payload = sent([event], 7) or b""

    letter = json.loads(payload)
    assert (letter["version"], letter["event_encoding"]) == (1, "gzip+base64")
    assert arrives([event], 7) == [(meaning(event), 7)]


def test_events_beyond_128_kb_together_are_sent_compressed() -> None:
    """Several events in one dead letter keep their number and their count."""
    events = [event_that_makes(LARGEST_PAYLOAD + 2, events=2)] * 2

    payload = sent(events, 7) or b""

    assert json.loads(payload)["event_encoding"] == "gzip+base64"
    assert arrives(events, 7) == [(meaning(event), 7) for event in events]


def test_the_wrapping_counts_too() -> None:
    """A text is wrapped as text up to the very limit, and compressed beyond."""
    wrapping = len(sent([b"x"]) or b"") - 1

    payloads = [sent([b"x" * (LARGEST_PAYLOAD - wrapping + more)]) for more in (0, 1)]

    assert [len(payload or b"") == LARGEST_PAYLOAD for payload in payloads] == [True, False]
    assert [json.loads(payload or b"{}")["event_encoding"] for payload in payloads] == [
        "utf-8",
        "gzip+base64",
    ]


def test_what_cannot_be_compressed_into_128_kb_is_not_sent() -> None:
    """Noise that just fits in base64 is sent, and what is larger is not."""
    wrapping = len(sent([NOISE[:3]]) or b"") - 4
    fitting = (LARGEST_PAYLOAD - wrapping) // 4 * 3

    payloads = [sent([NOISE[: fitting + more]]) for more in (0, 3)]

    assert only(payloads[0]).raw == NOISE[:fitting]
    assert payloads[1] is None


def test_an_event_that_the_function_would_not_open_is_not_opened() -> None:
    """A letter may keep up to 4 MB, compressed; no command unpacks more than the function does."""
    event = b'{"eventName":"%s"}' % (b"x" * 2 * MAX_DECODED_BYTES)
    packed = b64encode(gzip.compress(event)).decode()

    opened = open_message(own_with(event=packed, event_encoding="gzip+base64"))

    assert (opened.events, opened.summary.kind) == ((), "dead_letter")
    assert (opened.summary.arn, opened.summary.stated_arn) == (None, str(ARN))


def test_what_could_not_be_opened_is_not_sent() -> None:
    """An event beyond 256 KB compresses well, and the function would not unpack it."""
    events = [
        b'{"a":"%s"}' % (b"x" * (size - 8)) for size in (MAX_DECODED_BYTES, MAX_DECODED_BYTES + 1)
    ]

    payloads = [sent([event]) for event in events]

    assert only(payloads[0]).raw == events[0]
    assert payloads[1] is None
