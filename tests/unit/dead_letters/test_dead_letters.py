"""Dead letters: the document, how an event gets into one and out again, and where it goes."""

from __future__ import annotations

import gzip
import json
import os
import random
import stat
from base64 import b64decode
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.dead_letters.destinations import append_line, open_destination
from encryption_guard.errors import (
    ConfigurationError,
    DeadLetterNotWritten,
    InvalidEvent,
    PermanentError,
    Refused,
    Unavailable,
)
from encryption_guard.events.envelopes import Event, open_payload
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    START,
    FakeOssTables,
    FakeSmq,
    FakeTime,
    LetterBox,
    LogLines,
    Reply,
    creation_of,
    invocation_of,
)

LARGEST = 47 * 1024
REJECTED = Refused(
    "OSS Tables answered 403.",
    reason="rejected",
    status=403,
    code="ForbiddenException",
    message="No.",
    ec="0002-00000040",
    oss_request_id="OSS-1",
    attempts=3,
)
NOISE = random.Random(1).randbytes(200_000)


def delivery_of(raw: bytes, **rest: Any) -> Event:
    """An event that cannot be read: only its bytes matter here."""
    known: dict[str, Any] = {"redrives": 0, "source": None, "event_id": None}
    return Event(raw=raw, parsed=InvalidEvent("No."), **(known | rest))


def post_of(box: LetterBox, log: LogLines | None = None) -> DeadLetters:
    return DeadLetters(
        put=box.put,
        log_error=(log or LogLines()).error,
        function="encrypt-on-create",
        function_request_id="request-1",
        now=FakeTime().now,
    )


def letter_about(
    raw: bytes, *, dead_end: PermanentError = REJECTED, log: LogLines | None = None, **rest: Any
) -> dict[str, Any]:
    """The letter that is written for an event, as it can be read."""
    box = LetterBox()
    post_of(box, log).write(dead_end, event=delivery_of(raw, **rest), arn=ARN)
    (letter,) = box.read()
    return letter


# The document.


def test_a_letter_says_all_that_is_known() -> None:
    """It has exactly the keys of the contract, with what the service said and what was tried."""
    raw = json.dumps(creation_of(ARN)).encode()

    letter = letter_about(raw, source="acs.oss", event_id="event-1", redrives=2)

    assert letter == {
        "version": 1,
        "id": str(uuid5(NAMESPACE_URL, "acs.oss/event-1/rejected")),
        "reason": "rejected",
        "detail": "OSS Tables answered 403.",
        "event": raw.decode(),
        "event_encoding": "utf-8",
        "event_id": "event-1",
        "arn": str(ARN),
        "status": 403,
        "code": "ForbiddenException",
        "message": "No.",
        "ec": "0002-00000040",
        "oss_request_id": "OSS-1",
        "function": "encrypt-on-create",
        "function_request_id": "request-1",
        "attempts": 3,
        "redrives": 2,
        "at": "2026-01-02T03:04:05.000Z",
    }


def test_what_is_not_known_is_null() -> None:
    """Without a request no answer is told, and no try is counted; no key is left out."""
    box = LetterBox()

    post_of(box).write(InvalidEvent("No."), event=delivery_of(b"x"), arn=None)

    (letter,) = box.read()
    nulls = {"event_id", "arn", "status", "code", "message", "ec", "oss_request_id"}
    assert {key for key, value in letter.items() if value is None} == nulls
    assert len(letter) == 18
    assert (letter["reason"], letter["attempts"], letter["redrives"]) == ("invalid_event", 0, 0)


def test_time_has_milliseconds() -> None:
    """`at` is UTC to the millisecond, with a Z."""
    box = LetterBox()
    post = DeadLetters(box.put, LogLines().error, "f", "r", now=FakeTime(passed=0.0456).now)

    letter = post.write(REJECTED, event=delivery_of(b"x"), arn=None)

    assert letter.dead_letter.at == "2026-01-02T03:04:05.045Z"


@pytest.mark.parametrize(
    ("other", "is_repeat"),
    [
        ({"raw": b"y", "redrives": 5}, True),
        ({"source": "acs.ecs"}, False),
        ({"event_id": "event-2"}, False),
        ({"dead_end": InvalidEvent("No.")}, False),
    ],
    ids=["only what has changed", "source", "event id", "reason"],
)
def test_a_repeat_has_the_same_id(other: dict[str, Any], is_repeat: bool) -> None:
    """Source, event id and reason make the id, whatever else has changed meanwhile."""
    known: dict[str, Any] = {"raw": b"x", "source": "acs.oss", "event_id": "event-1"}

    first, second = letter_about(**known), letter_about(**(known | other))

    assert (first["id"] == second["id"]) is is_repeat


def test_without_an_event_id_the_bytes_make_the_id() -> None:
    """The sha256 of the event stands in for an id that it does not have."""
    letter = letter_about(b"not json")

    assert letter["id"] == str(uuid5(NAMESPACE_URL, sha256(b"not json").hexdigest()))
    assert letter_about(b"not json", redrives=1)["id"] == letter["id"]
    assert letter_about(b"other")["id"] != letter["id"]


def test_the_long_id_of_an_event_is_cut_only_where_it_is_shown() -> None:
    """Two events whose ids differ after 200 characters have letters of their own."""
    ends = [letter_about(b"x", event_id="e" * 300 + end) for end in "ab"]

    assert ends[0]["id"] != ends[1]["id"]
    assert all(len(json.dumps(letter["event_id"])) <= 200 for letter in ends)


# The event in it.

EVENTS = {
    "JSON": (b'{"a": 1}', "utf-8"),
    "text": ("größe \u20ac \U0001f600".encode(), "utf-8"),
    "line ends": (b"\r\n\x0b\xe2\x80\xa8", "utf-8"),
    "binary": (b"\xff\xfe\x00", "base64"),
    "half a character": (b"\xed\xa0\x80", "base64"),
    "binary that just fits": (b"\xff" * 34_000, "base64"),
    "escapes that do not fit": (b"\x01" * 20_000, "base64"),
    "a large text": (b"a" * 60_000, "gzip+base64"),
    "a megabyte": (b'{"a": 1}' * 131_072, "gzip+base64"),
}


def unpacked(letter: dict[str, Any]) -> bytes:
    """The event in a letter, by the contract alone."""
    text: str = letter["event"]
    match letter["event_encoding"]:
        case "utf-8":
            return text.encode()
        case "base64":
            return b64decode(text, validate=True)
        case encoding:
            assert encoding == "gzip+base64"
            return gzip.decompress(b64decode(text, validate=True))


@pytest.mark.parametrize(("raw", "encoding"), EVENTS.values(), ids=EVENTS)
def test_an_event_is_kept_byte_for_byte(raw: bytes, encoding: str) -> None:
    """As text where that is what it is and fits, else in base64, else compressed before."""
    letter = letter_about(raw)

    assert letter["event_encoding"] == encoding
    assert unpacked(letter) == raw


@pytest.mark.parametrize(
    "raw",
    [
        NOISE[:36_000],
        NOISE,
        b"a" * (LARGEST - 600),
        "\u20ac".encode() * 15_500,
        "\U0001f600".encode() * 11_900,
        b'"' * 24_000,
    ],
    ids=["noise beyond base64", "noise", "just below the limit", "euros", "emoji", "quotes"],
)
def test_a_letter_fits_into_a_message(raw: bytes) -> None:
    """No letter is larger than 47 KB in bytes, which base64 makes less than SMQ's 64 KB."""
    box = LetterBox()

    post_of(box).write(REJECTED, event=delivery_of(raw), arn=ARN)

    assert len(box.letters[0]) <= LARGEST


def test_an_event_that_fits_nowhere_goes_to_the_log() -> None:
    """Its letter tells size and hash, and numbered chunks in the log hold its bytes."""
    log = LogLines()

    letter = letter_about(NOISE, log=log)

    assert letter["event"] == ""
    assert str(len(NOISE)) in letter["detail"]
    assert sha256(NOISE).hexdigest() in letter["detail"]
    assert letter["detail"].startswith(str(REJECTED))
    assert [line["part"] for line in log.lines] == list(range(1, len(log.lines) + 1))
    assert {(line["parts"], line["dead_letter_id"]) for line in log.lines} == {
        (len(log.lines), letter["id"])
    }
    assert b"".join(b64decode(line["event_base64"]) for line in log.lines) == NOISE


def test_an_event_that_fits_is_not_logged() -> None:
    """Where the letter holds the event, the log holds nothing."""
    log = LogLines()

    letter_about(b"x" * 60_000, log=log)

    assert log.lines == []


def reopened(raw: bytes) -> list[tuple[bytes, int]]:
    """What is found in the letters of the events in a payload, once these are sent again."""
    box = LetterBox()
    for delivery in open_payload(raw).events:
        post_of(box).write(REJECTED, event=delivery, arn=None)
    opened = [open_payload(letter).events for letter in box.letters]
    assert all(len(deliveries) == 1 for deliveries in opened)
    return [(deliveries[0].raw, deliveries[0].redrives) for deliveries in opened]


@settings(deadline=None)
@given(
    raw=st.binary(min_size=1, max_size=2000)
    | st.text(min_size=1, max_size=2000).map(str.encode)
    | st.binary(min_size=1, max_size=8).map(lambda piece: piece * 20_000)
)
@example(b"[]")
@example(b"[{}, 1 , [2]]")
@example(b'{"requestPayload": "[1, {\\"a\\": 2}]"}')
@example(b"\xef\xbb\xbf{}")
@example(b"null")
def test_a_letter_can_be_sent_again(raw: bytes) -> None:
    """Whatever came, opening its letter brings the very bytes that were to be kept."""
    innermost = [(delivery.raw, 0) for delivery in open_payload(raw).events]

    assert reopened(raw) == innermost


def test_a_letter_without_an_event_is_kept_whole() -> None:
    """What an invocation without a payload left holds nothing to send again, and is not lost."""
    box = LetterBox()
    post_of(box).write(REJECTED, event=delivery_of(b""), arn=None)

    assert reopened(box.letters[0]) == [(box.letters[0], 0)]


def test_redrives_are_carried_on() -> None:
    """The letter of a letter keeps the innermost event and how often it was sent again."""
    box = LetterBox()
    post_of(box).write(REJECTED, event=delivery_of(b'{"a": 1}', redrives=3), arn=None)

    assert reopened(box.letters[0]) == [(b'{"a": 1}', 3)]


# Where it goes.


def put_into(path: Path, log: LogLines | None = None) -> DeadLetters:
    """Letters that go into a file, by way of the setting."""
    environment = {"GUARD_DEAD_LETTER_QUEUE": f"file:{path}"}
    return DeadLetters(
        put=open_destination(invocation_of(FakeOssTables(), environment=environment)).put,
        log_error=(log or LogLines()).error,
        function="f",
        function_request_id="r",
        now=lambda: START,
    )


def test_letters_go_into_a_file_line_by_line(tmp_path: Path) -> None:
    """The file is made where it is missing, is nobody else's to read, and has a line a letter."""
    file = tmp_path / "letters.jsonl"
    post = put_into(file)

    for raw in (b"one\ntwo", "\u2028 \u0085".encode(), b"\xff"):
        post.write(REJECTED, event=delivery_of(raw), arn=None)

    content = file.read_bytes()
    assert content.endswith(b"\n")
    assert [unpacked(json.loads(line)) for line in content.split(b"\n")[:-1]] == [
        b"one\ntwo",
        "\u2028 \u0085".encode(),
        b"\xff",
    ]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_torn_line_stays_alone(tmp_path: Path) -> None:
    """What a crash has left of a line does not take the next letter along."""
    file = tmp_path / "letters.jsonl"
    file.write_bytes(b'{"whole": 1}\n{"to')

    append_line(file, b'{"whole": 2}')
    append_line(file, b'{"whole": 3}')

    assert file.read_bytes().split(b"\n") == [
        b'{"whole": 1}',
        b'{"to',
        b'{"whole": 2}',
        b'{"whole": 3}',
        b"",
    ]


def test_a_line_is_on_the_disk_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole line is synced to the disk when the call returns."""
    file = tmp_path / "letters.jsonl"
    synced: list[bytes] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(file.read_bytes()))

    append_line(file, b"letter")

    assert synced == [b"letter\n"]


def test_a_disk_that_takes_little_at_a_time_gets_the_whole_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A write that takes only some bytes is followed by one for the rest."""
    file = tmp_path / "letters.jsonl"
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))

    append_line(file, b"a longer letter")

    assert file.read_bytes() == b"a longer letter\n"


# When it goes nowhere.


def test_a_letter_that_nobody_takes_is_logged_whole() -> None:
    """The log then holds the letter as it would have been written, and the event comes again."""
    log, kept = LogLines(), LetterBox()
    delivery = delivery_of(b'{"a": 1}', source="acs.oss", event_id="event-1")
    post_of(kept).write(REJECTED, event=delivery, arn=ARN)

    with pytest.raises(DeadLetterNotWritten, match="full"):
        post_of(LetterBox(room=0), log).write(REJECTED, event=delivery, arn=ARN)

    (line,) = log.lines
    assert [line["dead_letter"]] == kept.read()
    assert issubclass(DeadLetterNotWritten, Unavailable)


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("{folder}/nowhere/letters.jsonl", "No such file or directory"),
        ("/dev/full", r"No space left.*; the file may hold a part of the line"),
    ],
    ids=["no folder", "a full disk"],
)
def test_a_file_that_cannot_be_written_takes_no_letters(
    path: str, why: str, tmp_path: Path
) -> None:
    """The whole letter is in the log, and the sentence says what may be in the file."""
    log = LogLines()
    post = put_into(Path(path.format(folder=tmp_path)), log)

    with pytest.raises(DeadLetterNotWritten, match=why):
        post.write(REJECTED, event=delivery_of(b"event"), arn=None)

    assert log.lines[0]["dead_letter"]["event"] == "event"


def test_a_queue_that_refuses_takes_no_letters() -> None:
    """A queue's refusal is logged and raised at once."""
    log = LogLines()
    service = FakeSmq(troubles={"POST": [Reply(403, b"<Error><Code>AccessDenied</Code></Error>")]})
    queue = f"acs:mns:{REGION}:{ACCOUNT}:/queues/dlq"
    invocation = invocation_of(service, environment={"GUARD_DEAD_LETTER_QUEUE": queue})
    post = DeadLetters(partial(put_into_queue, invocation), log.error, "f", "r", now=lambda: START)

    with pytest.raises(DeadLetterNotWritten, match="AccessDenied"):
        post.write(REJECTED, event=delivery_of(b"event"), arn=None)

    assert log.lines[0]["dead_letter"]["event"] == "event"
    assert service.time.slept == []


def no_credentials() -> Credentials:
    raise ConfigurationError("There is no access key.")


@pytest.mark.parametrize(
    "queue",
    ["", f"acs:mns:{REGION}:{ACCOUNT}:/queues/dlq"],
    ids=["no destination", "no credentials"],
)
def test_a_letter_that_cannot_even_be_posted_is_logged_whole(queue: str) -> None:
    """Whatever keeps a letter from its destination, the log has it and the invocation raises."""
    log = LogLines()
    invocation = invocation_of(
        FakeSmq(),
        environment={"GUARD_DEAD_LETTER_QUEUE": queue},
        read_credentials=no_credentials,
    )
    post = DeadLetters(partial(put_into_queue, invocation), log.error, "f", "r", now=lambda: START)

    with pytest.raises((ConfigurationError, DeadLetterNotWritten)):
        post.write(REJECTED, event=delivery_of(b"event"), arn=None)

    assert [line["dead_letter"]["event"] for line in log.lines] == ["event"]
