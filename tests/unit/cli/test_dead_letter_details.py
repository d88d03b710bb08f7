"""Everything about one letter, and that a letter cannot make anything else of it."""

from __future__ import annotations

import gzip
import json
import shlex
from base64 import b64encode
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.cli.dead_letter_details import (
    KINDS,
    MAX_SHOWN_BYTES,
    contents,
    details,
    readable,
)
from encryption_guard.cli.dead_letter_rows import (
    Listed,
)
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import (
    Message,
    MessageSummary,
)
from encryption_guard.events.envelopes import open_payload
from encryption_guard.untrusted import plain_json
from tests.unit.cli.waiting_messages import KNOWN, NO_LETTER, REJECTED, about
from tests.unit.fakes import (
    ARN,
    START,
    creation_of,
    dead_letter_of,
    destination_record_of,
    waiting_of,
)
from tests.unit.legible import assert_legible

NOW = START + timedelta(hours=3)


def test_contents_are_the_message_and_its_events() -> None:
    """The body is as it is in the queue, and each event as it would be sent."""
    events = [creation_of(ARN, event_id=f"event-{n}") for n in range(2)]
    waiting = waiting_of(destination_record_of(events))

    told = contents(waiting, in_full=False)

    assert (told["body"], told["body_is_cut"]) == (waiting.body.decode(), False)
    assert [json.loads(event) for event in told["events_in_it"]] == events
    assert told["events_left_out"] == 0


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ""),
        ("\u00e9\n".encode(), "\u00e9\n"),
        (b"\xff\x00", "base64:/wA="),
        (b"\x01" * 6, "base64:AQEBAQEB"),
    ],
    ids=["nothing", "text", "no text", "text of escapes"],
)
def test_bytes_are_told_so_that_they_can_be_restored(data: bytes, expected: str) -> None:
    """Text is text; anything else says that it is base64."""
    assert readable(data) == expected


REJECTED_STORY = """\
ID                61f6da2f-e3f1-5cfe-b97b-2d289b06eea8, a dead letter from the guard
message ID        message-1
bucket            acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket
event ID          event-1
in queue since    2026-01-02 03:04:05 UTC (3 h)
reason            rejected: no permission
what happened     OSS Tables answered 403.
service response  403 ForbiddenException You have no right to perform \
oss:PutTableBucketEncryption. (EC 0003-00000001) (OSS request ID OSS-1)
function          oss-tables-encrypt-on-create
FC request ID     FC-1
attempts          1
redrives          0
what it means     The function's role is not allowed to change the bucket's encryption, or a \
bucket policy denies it.
what to do        Grant oss:PutTableBucketEncryption on the bucket to the function's role, and \
check the bucket policy for a Deny statement; then redrive.

The missing permission, as a RAM policy statement:
{
  "Effect": "Allow",
  "Action": [
    "oss:GetTableBucketEncryption",
    "oss:PutTableBucketEncryption"
  ],
  "Resource": [
    "acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket"
  ]
}

encryption-guard dead-letters redrive message-1 --apply
encryption-guard enforce acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket --apply
encryption-guard dead-letters discard message-1 --because "..." --apply

Event:
{
  "source": "acs.oss",
  "type": "oss:ActionTrail:ApiCall",
  "data": {
    "eventName": "CreateTableBucket",
    "eventTime": "2026-01-02T03:04:04Z",
    "responseElements": {
      "arn": "acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket"
    }
  },
  "id": "event-1"
}
"""
UNKNOWN_STORY = """\
ID                3cac5459-93a9-598e-94ee-a70a54840d80, a message of an unknown kind
message ID        message-4
in queue since    2026-01-02 03:04:05 UTC (3 h)
reason            unknown: unknown
what happened     The kind of this message is not known. The event is not a JSON object: Invalid \
JSON: Expecting value: line 1 column 1 (char 0).
redrives          0
what it means     The guard cannot read the message, or it contradicts the event in it: another \
program or an attacker wrote it, it is damaged, or a newer version of the guard wrote it.
what to do        Read the message with `show`; if it is not needed, discard it by its ID. A \
redrive skips it. If it contradicts its event, find out who may write to the queue.

encryption-guard dead-letters discard message-4 --because "..." --apply

Message:
\\x1b[31mhello
"""


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(REJECTED, REJECTED_STORY), (NO_LETTER, UNKNOWN_STORY)],
    ids=["rejected", "unknown"],
)
def test_a_story_tells_everything(waiting: QueuedMessage, expected: str) -> None:
    """What happened, what it means and what to do; the commands; the event, or else the message."""
    assert details(waiting, NOW) == expected


@pytest.mark.parametrize("waiting", KNOWN.values(), ids=KNOWN)
def test_a_story_names_the_kind(waiting: QueuedMessage) -> None:
    """Each of the kinds that share the queue is told as what it is."""
    first, *_ = details(waiting, NOW).splitlines()

    assert first.endswith(KINDS[waiting.message.summary.kind])


def test_a_story_without_a_time_leaves_it_out() -> None:
    """Where nobody wrote down when the letter came, the line is missing."""
    told = details(replace(REJECTED, since=None), NOW)

    assert "in queue since" not in told


def test_a_letter_whose_event_is_lost_cannot_be_redriven() -> None:
    """The message is shown instead of the event, and no command that could not work."""
    waiting = waiting_of(dead_letter_of(creation_of(ARN), event=""))

    told = details(waiting, NOW)

    assert "dead-letters redrive" not in told
    assert f"stated bucket     {ARN} (the message contains no event that proves it)\n" in told
    assert f"encryption-guard enforce {ARN} --apply\n" in told
    assert told.endswith(f"Message:\n{waiting.body.decode()}\n")


# What comes from outside.

ANY_CHARACTER = st.characters() | st.sampled_from("\x1b\x07\x9b\x7f\r\n\t\0\u202e\ud800'\"`$;&|\\ ")


def in_a_queue(letter: MessageSummary, body: bytes) -> QueuedMessage:
    """A message that says what it likes."""
    deliveries = open_payload(body).events if letter.events else ()
    return QueuedMessage("message-1", body, Message(letter, deliveries), letter.at)


def commands_in(told: str) -> list[str]:
    return [line for line in told.splitlines() if line.startswith("encryption-guard ")]


HOSTILE_NAMES = [
    *(
        "$(reboot)",
        "`reboot`",
        "a;reboot",
        "a'b\"c",
        "a\nreboot",
        "a && reboot",
        "~",
        "*",
        "-",
        ".",
    ),
    *("/home/me/.aliyun/config.json", "~/.ssh/id_ed25519", "--event", "events/one.json"),
    *("acs:osstables:cn-hangzhou:1234567890123456:bucket/*", f"{ARN}\n", f"{ARN} -", f" {ARN}"),
    "acs:oss:cn-hangzhou:1234567890123456:bucket/orders",
]


@given(name=st.sampled_from(HOSTILE_NAMES) | st.text(ANY_CHARACTER, max_size=40))
@pytest.mark.parametrize("field", ["arn", "stated_arn"])
def test_what_is_no_bucket_is_in_no_command(field: str, name: str) -> None:
    """A path would make `enforce` read a file: neither a command nor an advice holds it."""
    letter = about(**{field: name}, status=403, events=0)
    waiting = in_a_queue(letter, b"{}")

    advice = Listed.of(waiting).as_dict()

    assert commands_in(details(waiting, NOW)) == [
        'encryption-guard dead-letters discard message-1 --because "..." --apply'
    ]
    assert advice["missing_right"] is None
    texts = [value for key, value in advice.items() if key in ("what_to_do", "meaning", "cause")]
    assert name not in "".join(HOSTILE_NAMES) or all(f" {name} " not in text for text in texts)


@given(key=st.text(ANY_CHARACTER, min_size=1, max_size=40).filter(str.isprintable))
def test_a_command_can_be_pasted_into_a_shell(key: str) -> None:
    """Whatever a queue calls a message is one word of the command, and nothing else."""
    told = details(replace(REJECTED, key=key), NOW)

    program, queue = "encryption-guard", "dead-letters"
    assert [shlex.split(command) for command in commands_in(told)] == [
        [program, queue, "redrive", key, "--apply"],
        [program, "enforce", str(ARN), "--apply"],
        [program, queue, "discard", key, "--because", "...", "--apply"],
    ]


# What would fill the screen, or the memory.

EVENT = creation_of(ARN)


def packed(event: object) -> bytes:
    """A letter of ours with this event, compressed."""
    text = event if isinstance(event, bytes) else json.dumps(event).encode()
    event_text = b64encode(gzip.compress(text)).decode()
    return dead_letter_of(EVENT, event=event_text, event_encoding="gzip+base64")


def nested(depth: int, inner: str) -> bytes:
    """An event with arrays in arrays, and this in the innermost one."""
    whole = json.dumps(creation_of(ARN, deep="HERE"))
    return whole.replace('"HERE"', "[" * depth + inner + "]" * depth).encode()


FLOODS = {
    "2.4 MB of zeros, 400 deep": packed(nested(400, "0," * 1_200_000 + "0")),
    "900 deep": packed(nested(900, "0")),
    "60,000 keys": packed(creation_of(ARN, wide={str(n): n for n in range(20_000)})),
    "one key of 200 KB": packed(creation_of(ARN, **{"x" * 200_000: "1"})),
    "one text of 250 KB": packed(creation_of(ARN, text="x" * 250_000)),
    "50,000 controls": packed(
        json.dumps(creation_of(ARN, text="\u202e" * 50_000), ensure_ascii=False).encode()
    ),
    "300 events": destination_record_of([creation_of(ARN, event_id=str(n)) for n in range(300)]),
    "1000 events of 250 bytes": json.dumps(
        {"requestContext": {}, "requestPayload": json.loads(packed([EVENT] * 1000))}
    ).encode(),
    "48 KB of NUL": b"\0" * 48_000,
    "a line of 10 MB": b"[" * 10_000_000,
    "many texts": destination_record_of(
        EVENT, requestId="\U000e0041" * 9000, condition="\0" * 9000
    ),
}


@pytest.mark.parametrize("body", FLOODS.values(), ids=FLOODS)
def test_whatever_a_message_holds_a_story_is_bounded(body: bytes) -> None:
    """Neither the indentation of a few bytes nor their escapes make it longer than 256 KB."""
    waiting = waiting_of(body)

    told = details(waiting, NOW)
    as_json = plain_json(Listed.of(waiting).as_dict() | contents(waiting, in_full=False))

    assert len(told.encode()) <= MAX_SHOWN_BYTES
    assert len(as_json.encode()) <= MAX_SHOWN_BYTES
    assert_legible(told, lines=True)
    assert_legible(as_json)


def test_events_that_are_left_out_are_counted() -> None:
    """Who reads a story, or its JSON, knows that it is not all; the body has them all."""
    waiting = waiting_of(FLOODS["1000 events of 250 bytes"])

    told, as_json = details(waiting, NOW), contents(waiting, in_full=False)

    shown = told.count("Event:\n")
    assert 0 < shown < 1000
    assert told.endswith(f"({1000 - shown} more not shown)\n")
    assert len(as_json["events_in_it"]) + as_json["events_left_out"] == 1000
    assert as_json["body"] == waiting.body.decode()


def test_a_text_that_is_cut_says_how_much_is_missing() -> None:
    """An event that does not fit with indentation is shown on one line, up to the limit."""
    told = details(waiting_of(FLOODS["one text of 250 KB"]), NOW)

    missing = int(told.rpartition("... (")[2].removesuffix(" more characters not shown)\n"))
    assert len(told) + missing > 250_000


@pytest.mark.parametrize("in_full", [True, False])
def test_only_a_log_has_a_body_that_no_queue_could_hold(in_full: bool) -> None:
    """What is discarded for good is logged in full; `show` cuts it, and says so."""
    waiting = waiting_of(FLOODS["a line of 10 MB"])

    told = contents(waiting, in_full=in_full)

    assert told["body_is_cut"] is not in_full
    assert (told["body"].encode() == waiting.body) is in_full


def test_a_story_names_ten_buckets_of_many() -> None:
    """The rest is a number."""
    events = [creation_of(f"{ARN}-{n}") for n in range(12)]

    told = details(waiting_of(destination_record_of(events)), NOW)

    (line,) = (line for line in told.splitlines() if line.startswith("bucket "))
    assert line.endswith(f"{ARN}-9 and 2 more")
    assert "encryption-guard enforce" not in told
