"""What an operator reads of letters, and that a letter cannot make anything else of it."""

from __future__ import annotations

import json
import shlex
from dataclasses import fields, replace
from datetime import datetime, timedelta, timezone
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.cli.dead_letter_rows import (
    HEADINGS,
    KINDS,
    STATES,
    Listed,
    age,
    contents,
    details,
    grouped,
    readable,
    result_as_dict,
    result_line,
    status_and_code,
)
from encryption_guard.cli.redrive import Result, State
from encryption_guard.cli.remedies import remedy_for
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import (
    FUNCTION_FAILED,
    NOT_DELIVERED,
    UNKNOWN,
    Kind,
    Message,
    MessageSummary,
)
from encryption_guard.errors import Reason
from encryption_guard.events.envelopes import open_payload
from encryption_guard.untrusted import plain, plain_json
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

REJECTED = waiting_of(dead_letter_of(creation_of(ARN)))
RECORD = waiting_of(destination_record_of(creation_of(ARN)), key="message-2")
RULE = waiting_of(json.dumps(creation_of(ARN)).encode(), key="message-3")
NO_LETTER = waiting_of(b"\x1b[31mhello", key="message-4")
KNOWN = {"dead_letter": REJECTED, "record": RECORD, "rule": RULE, "unknown": NO_LETTER}


def about(**told: Any) -> MessageSummary:
    """A letter with what is told of it, and as little besides as there can be."""
    known: dict[str, Any] = {
        "id": REJECTED.message.summary.id,
        "kind": "dead_letter",
        "reason": "rejected",
        "detail": "OSS Tables answered 403.",
    }
    return MessageSummary(**known | told)


def listed(key: str = "message-1", *, since: datetime | None = START, **told: Any) -> Listed:
    return Listed(about(**told), key, since)


# How long ago.


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"),
        (0, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (3600, "1 h"),
        (86399, "23 h"),
        (86400, "1 d"),
        (100 * 86400, "100 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_fits(seconds: float, expected: str) -> None:
    """One number is enough; a letter from the future is new."""
    assert age(START, START + timedelta(seconds=seconds)) == expected


def test_no_time_has_no_age() -> None:
    """Where nobody wrote down when it came, nothing is made up."""
    assert age(None, NOW) is None


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, ""),
        ({"status": 403}, "403"),
        ({"code": "Unavailable"}, "Unavailable"),
        ({"status": 403, "code": "ForbiddenException"}, "403 ForbiddenException"),
    ],
    ids=["nothing", "status", "code", "both"],
)
def test_an_answer_is_status_and_code(told: dict[str, Any], expected: str) -> None:
    """What is not known is left out."""
    assert status_and_code(about(**told)) == expected


# A list.


def test_a_row_has_a_cell_for_each_heading() -> None:
    """Age, ID, reason, bucket, answer, redrives and advice stand under their headings."""
    row = Listed.of(REJECTED).row(NOW)

    assert len(row) == len(HEADINGS)
    assert row == (
        "3 h",
        REJECTED.message.summary.id[:8],
        "rejected",
        "my-table-bucket",
        "403 ForbiddenException",
        "0",
        "Grant oss:PutTableBucketEncryption on the bucket to the function's role, and check the"
        " bucket policy for a Deny statement; then redrive.",
    )


def test_a_row_leaves_out_what_is_not_known() -> None:
    """A message of no known kind has no bucket and no answer, and may have no age."""
    row = replace(Listed.of(NO_LETTER), since=None).row(NOW)

    assert row[0] is None
    assert row[2:6] == ("unknown", None, "", "0")


@pytest.mark.parametrize("waiting", KNOWN.values(), ids=KNOWN)
def test_a_letter_as_json_has_all_that_is_known(waiting: QueuedMessage) -> None:
    """Every field of the letter, where it is, since when, what it means and what to do."""
    letter = waiting.message.summary
    advice = remedy_for(letter)

    told = json.loads(plain_json(Listed.of(waiting).as_dict()))

    assert {field.name for field in fields(MessageSummary)} <= set(told)
    assert told["id"] == letter.id
    assert told["bucket"] == letter.bucket
    assert told["message_id"] == waiting.key
    assert told["since"] == "2026-01-02T03:04:05+00:00"
    assert (told["cause"], told["meaning"]) == (advice.cause, advice.meaning)
    assert told["what_to_do"] == advice.what_to_do


def test_a_missing_right_is_part_of_the_json() -> None:
    """The statement that would help can be taken from there."""
    told = Listed.of(REJECTED).as_dict()

    assert told["missing_right"]["Resource"] == [str(ARN)]
    assert Listed.of(NO_LETTER).as_dict()["missing_right"] is None


# Groups.


@pytest.mark.parametrize(
    ("by", "values"),
    [
        ("reason", [("rejected", 3), ("conflict", 1)]),
        ("bucket", [("orders", 3), (None, 1)]),
        ("code", [("ForbiddenException", 2), (None, 2)]),
    ],
)
def test_letters_are_grouped_by_what_they_have_in_common(by: Any, values: object) -> None:
    """The largest group comes first; among equals the order stays."""
    orders = "acs:osstables:cn-hangzhou:1234567890123456:bucket/orders"
    found = [
        listed("a", code="ForbiddenException"),
        listed("b", arn=orders),
        listed("c", arn=orders, code="ForbiddenException"),
        listed("d", arn=orders, reason="conflict"),
    ]

    groups = grouped(found, by)

    assert [(group.value, group.messages) for group in groups] == values
    assert {group.by for group in groups} == {by}


def test_no_letters_are_no_groups() -> None:
    """An empty list stays empty."""
    assert grouped([], "reason") == []


def test_a_group_tells_its_number_its_age_and_what_to_do() -> None:
    """The age is that of the first, and each advice is given once."""
    one = listed("a", events=1, reason="conflict")
    other = listed("b", since=None, events=1, reason="not_found")
    (group,) = grouped([one, other, one], "code")
    gone = "If the bucket exists now, redrive; otherwise, discard the message."

    assert group.row(NOW) == (None, "3", "3 h", f"Redrive the message. {gone}")
    assert group.as_dict() == {
        "by": "code",
        "value": None,
        "messages": 3,
        "oldest": START,
        "what_to_do": ["Redrive the message.", gone],
    }


# Results.


@pytest.mark.parametrize("state", get_args(State))
def test_a_result_is_one_line(state: State) -> None:
    """ID, state and bucket in columns, then what there is to say."""
    result = Result(REJECTED.message.summary, "message-1", state, "accepted, request 1-2")

    line = result_line(result)

    id_8 = REJECTED.message.summary.id[:8]
    told = f"{STATES[state]:17}"
    assert line == f"{id_8}  {told}  my-table-bucket           accepted, request 1-2"


@pytest.mark.parametrize(
    ("told", "expected"),
    [({"event_id": "event-1"}, "event-1"), ({}, "-")],
    ids=["event", "nothing"],
)
def test_a_result_without_a_bucket_is_about_its_event(told: dict[str, Any], expected: str) -> None:
    """Where no bucket is known the event's id takes its place."""
    line = result_line(Result(about(**told), "message-1", "left", "not now"))

    assert line.split() == [
        REJECTED.message.summary.id[:8],
        "skipped",
        expected,
        "not",
        "now",
    ]


def test_a_result_as_json_has_the_letter_and_its_end() -> None:
    """What became of it stands beside all fields of the letter."""
    result = Result(REJECTED.message.summary, "message-1", "done_not_removed", "accepted, but")

    told = json.loads(plain_json(result_as_dict(result)))

    assert {field.name for field in fields(MessageSummary)} <= set(told)
    assert told["bucket"] == "my-table-bucket"
    assert (told["message_id"], told["state"]) == ("message-1", "done_not_removed")
    assert told["result"] == "accepted, but"
    assert told["at"] == "2026-01-02T03:04:05+00:00"


# Everything about one.


def test_contents_are_the_message_and_its_events() -> None:
    """The body is as it is in the queue, and each event as it would be sent."""
    events = [creation_of(ARN, event_id=f"event-{n}") for n in range(2)]
    waiting = waiting_of(destination_record_of(events))

    told = contents(waiting)

    assert told["body"] == waiting.body.decode()
    assert [json.loads(event) for event in told["events_in_it"]] == events


@pytest.mark.parametrize(
    ("data", "expected"),
    [(b"", ""), ("\u00e9\n".encode(), "\u00e9\n"), (b"\xff\x00", "base64:/wA=")],
    ids=["nothing", "text", "no text"],
)
def test_bytes_are_told_so_that_they_can_be_restored(data: bytes, expected: str) -> None:
    """Text is text; anything else says that it is base64."""
    assert readable(data) == expected


REJECTED_STORY = """\
ID                61f6da2f-e3f1-5cfe-b97b-2d289b06eea8, a dead letter from the guard
bucket            acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket
event ID          event-1
in queue since    2026-01-02 03:04:05 UTC (3 h)
reason            rejected: no permission
what happened     OSS Tables answered 403.
service response  403 ForbiddenException You have no right to perform \
oss:PutTableBucketEncryption. (EC 0003-00000001) (OSS request ID OSS-1)
function          acs:fc:cn-hangzhou:1234567890123456:functions/encrypt-on-create
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

encryption-guard dead-letters redrive 61f6da2f-e3f1-5cfe-b97b-2d289b06eea8 --apply
encryption-guard enforce acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket
encryption-guard dead-letters discard 61f6da2f-e3f1-5cfe-b97b-2d289b06eea8 --because "..." --apply

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
RECORD_STORY = """\
ID                6137e202-33a8-5a85-85d3-b6f4e2d296ae, a failure record from Function Compute
bucket            acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket
event ID          event-1
in queue since    2026-01-02 03:04:05 UTC (3 h)
reason            function_failed: service down
what happened     The function failed after 4 tries: No answer in 4 tries.
service response  Unavailable No answer in 4 tries.
function          acs:fc:cn-hangzhou:1234567890123456:functions/encrypt-on-create
FC request ID     FC-1
attempts          4
redrives          0
what it means     OSS Tables gave no final answer at any attempt, for example because it timed out \
or returned a 5xx status.
what to do        Wait until OSS Tables works again, then redrive.

encryption-guard dead-letters redrive 6137e202-33a8-5a85-85d3-b6f4e2d296ae --apply
encryption-guard enforce acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket
encryption-guard dead-letters discard 6137e202-33a8-5a85-85d3-b6f4e2d296ae --because "..." --apply

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
in queue since    2026-01-02 03:04:05 UTC (3 h)
reason            unknown: unknown
what happened     The kind of this message is not known. The event is not a JSON object: Invalid \
JSON: Expecting value: line 1 column 1 (char 0).
redrives          0
what it means     The guard cannot read the message: another program wrote it, it is damaged, or a \
newer version of the guard wrote it.
what to do        Read the message with `show`; if it is not needed, discard it by its ID. A \
redrive skips it.

encryption-guard dead-letters discard 3cac5459-93a9-598e-94ee-a70a54840d80 --because "..." --apply

Message:
\\x1b[31mhello
"""


@pytest.mark.parametrize(
    ("waiting", "expected"),
    [(REJECTED, REJECTED_STORY), (RECORD, RECORD_STORY), (NO_LETTER, UNKNOWN_STORY)],
    ids=["rejected", "destination record", "unknown"],
)
def test_a_story_tells_everything(waiting: QueuedMessage, expected: str) -> None:
    """What happened, what it means and what to do; the commands; the event, or else the message."""
    assert details(waiting, NOW) == expected


@pytest.mark.parametrize("waiting", KNOWN.values(), ids=KNOWN)
def test_a_story_names_the_kind(waiting: QueuedMessage) -> None:
    """Each of the kinds that share the queue is told as what it is."""
    first, *_ = details(waiting, NOW).splitlines()

    assert first.endswith(KINDS[waiting.message.summary.kind])


def test_a_story_tells_every_event() -> None:
    """A letter of several events shows them all."""
    events = [creation_of(ARN, event_id=f"event-{n}") for n in range(3)]

    told = details(waiting_of(destination_record_of(events)), NOW)

    assert [told.count(json.dumps(event, indent=2)) for event in events] == [1, 1, 1]


def test_a_story_without_a_time_leaves_it_out() -> None:
    """Where nobody wrote down when the letter came, the line is missing."""
    told = details(replace(REJECTED, since=None), NOW)

    assert "in queue since" not in told


def test_a_letter_whose_event_is_lost_cannot_be_redriven() -> None:
    """The message is shown instead of the event, and no command that could not work."""
    waiting = waiting_of(dead_letter_of(creation_of(ARN), event=""))

    told = details(waiting, NOW)

    assert "redrive 61f6da2f" not in told
    assert f"encryption-guard enforce {ARN}\n" in told
    assert told.endswith(f"Message:\n{waiting.body.decode()}\n")


# What comes from outside.

ANY_CHARACTER = st.characters() | st.sampled_from("\x1b\x07\x9b\x7f\r\n\t\0\u202e\ud800'\"`$;&|\\ ")
ANY_TEXT = st.text(ANY_CHARACTER, max_size=40)
ANY_TIME = st.datetimes(timezones=st.just(timezone.utc))
ANY_LETTER = st.builds(
    MessageSummary,
    id=st.uuids().map(str),
    kind=st.sampled_from(get_args(Kind)),
    reason=st.sampled_from([*get_args(Reason), FUNCTION_FAILED, NOT_DELIVERED, UNKNOWN]),
    detail=ANY_TEXT,
    arn=st.none() | ANY_TEXT,
    event_id=st.none() | ANY_TEXT,
    events=st.integers(0, 3),
    status=st.none() | st.sampled_from([0, 400, 403]),
    code=st.none() | ANY_TEXT,
    message=st.none() | ANY_TEXT,
    ec=st.none() | ANY_TEXT,
    oss_request_id=st.none() | ANY_TEXT,
    function=st.none() | ANY_TEXT,
    function_request_id=st.none() | ANY_TEXT,
    at=st.none() | ANY_TIME,
)
ANY_BODY = st.binary(max_size=60) | ANY_TEXT.map(lambda text: text.encode("utf-8", "surrogatepass"))


def in_a_queue(letter: MessageSummary, body: bytes) -> QueuedMessage:
    """A message that says what it likes."""
    deliveries = open_payload(body).events if letter.events else ()
    return QueuedMessage("message-1", body, Message(letter, deliveries), letter.at)


@given(letter=ANY_LETTER, state=st.sampled_from(get_args(State)), detail=ANY_TEXT)
def test_a_result_does_not_steer_the_terminal(
    letter: MessageSummary, state: State, detail: str
) -> None:
    """Whatever it holds, a result is one line that can be read safely."""
    assert_legible(result_line(Result(letter, "message-1", state, detail)))


@given(letter=ANY_LETTER, body=ANY_BODY)
def test_a_story_does_not_steer_the_terminal(letter: MessageSummary, body: bytes) -> None:
    """Whatever a message holds, its story is lines that can be read safely."""
    assert_legible(details(in_a_queue(letter, body), NOW), lines=True)


@given(letter=ANY_LETTER, body=ANY_BODY)
def test_everything_can_be_told_as_json(letter: MessageSummary, body: bytes) -> None:
    """Whatever a message holds, each form of it is one safe line that reads back."""
    waiting = in_a_queue(letter, body)
    one = Listed.of(waiting)
    (group,) = grouped([one], "bucket")
    result = Result(letter, "message-1", "left", letter.detail)

    for told in (one.as_dict() | contents(waiting), group.as_dict(), result_as_dict(result)):
        line = plain_json(told)

        assert_legible(line)
        assert set(json.loads(line)) == set(told)


@given(body=ANY_BODY)
def test_any_message_has_a_story(body: bytes) -> None:
    """Whatever lies in the queue can be listed and shown."""
    waiting = waiting_of(body)

    assert_legible(details(waiting, NOW), lines=True)
    assert len(Listed.of(waiting).row(NOW)) == len(HEADINGS)


@given(arn=st.text(ANY_CHARACTER, min_size=1, max_size=40))
def test_a_command_can_be_pasted_into_a_shell(arn: str) -> None:
    """Whatever a letter calls its bucket is one word of the command, and nothing else."""
    letter = about(arn=arn, events=1)
    told = details(in_a_queue(letter, b"{}"), NOW)

    commands = [line for line in told.splitlines() if line.startswith("encryption-guard ")]

    program, queue = "encryption-guard", "dead-letters"
    assert [shlex.split(command) for command in commands] == [
        [program, queue, "redrive", letter.id, "--apply"],
        [program, "enforce", plain(arn)],
        [program, queue, "discard", letter.id, "--because", "...", "--apply"],
    ]


@pytest.mark.parametrize(
    "arn",
    ["$(reboot)", "`reboot`", "a;reboot", "a'b\"c", "a\nreboot", "a && reboot", "~", "*"],
    ids=["$()", "``", ";", "quotes", "line end", "&&", "home", "glob"],
)
def test_a_hostile_name_is_quoted(arn: str) -> None:
    """A shell would read it as the one word that it is."""
    told = details(in_a_queue(about(arn=arn), b"{}"), NOW)

    (command,) = (line for line in told.splitlines() if line.startswith("encryption-guard enf"))

    assert command == f"encryption-guard enforce {shlex.quote(plain(arn))}"
