"""What an operator reads of letters, and that a letter cannot make anything else of it."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any, get_args

import pytest

from encryption_guard.cli.dead_letter_rows import (
    HEADINGS,
    STATES,
    Listed,
    age,
    grouped,
    result_line,
    status_and_code,
)
from encryption_guard.cli.redrive import Result, State
from encryption_guard.cli.remedies import remedy_for
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import (
    MessageSummary,
)
from encryption_guard.untrusted import plain_json
from tests.unit.cli.waiting_messages import KNOWN, NO_LETTER, REJECTED, about
from tests.unit.fakes import (
    ARN,
    START,
    creation_of,
    destination_record_of,
    waiting_of,
)

NOW = START + timedelta(hours=3)


def listed(key: str = "message-1", *, since: datetime | None = START, **told: Any) -> Listed:
    return Listed(about(**told), key, since)


# How long ago.


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (-1, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3599, "59 min"),
        (86399, "23 h"),
        (100 * 86400, "100 d"),
    ],
)
def test_an_age_is_in_the_largest_unit_that_fits(seconds: float, expected: str) -> None:
    """One number is enough; a letter from the future is new."""
    assert age(START, START + timedelta(seconds=seconds)) == expected


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
    """Age, ID, reason with cause, bucket, answer and redrives stand under their headings."""
    row = Listed.of(REJECTED).row(NOW)

    assert len(row) == len(HEADINGS)
    assert row == (
        "3 h",
        REJECTED.message.summary.id[:8],
        "rejected: no permission",
        "my-table-bucket",
        "403 ForbiddenException",
        "0",
    )


def test_a_row_leaves_out_what_is_not_known() -> None:
    """A message of no known kind has no bucket and no answer, and may have no age."""
    row = replace(Listed.of(NO_LETTER), since=None).row(NOW)

    assert row[0] is None
    assert row[2:6] == ("unknown", None, "", "0")


def test_a_row_of_several_buckets_tells_their_number() -> None:
    """No single one of them is the bucket of the letter."""
    events = [creation_of(f"{ARN}-{n}") for n in range(3)]

    row = Listed.of(waiting_of(destination_record_of(events))).row(NOW)

    assert row[3] == "3 buckets"


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


def test_a_group_tells_its_number_its_age_and_its_causes() -> None:
    """The age is that of the first, and each cause is named once, with its advice in JSON."""
    one = listed("a", events=1, reason="conflict")
    other = listed("b", since=None, events=1, reason="not_found")
    (group,) = grouped([one, other, one], "code")
    gone = "If the bucket exists now, redrive; otherwise, discard the message."

    assert group.row(NOW) == (None, "3", "3 h", "conflict, not_found: gone")
    assert group.as_dict() == {
        "by": "code",
        "value": None,
        "messages": 3,
        "oldest": START,
        "causes": ["conflict", "not_found: gone"],
        "what_to_do": ["Redrive the message.", gone],
    }


# Results.


@pytest.mark.parametrize("state", get_args(State))
def test_a_result_is_one_line(state: State) -> None:
    """ID, state and bucket in columns, then what there is to say."""
    result = Result(REJECTED.message.summary, "message-1", state, "accepted, request 1-2")

    line = result_line(result)

    id_8 = REJECTED.message.summary.id[:8]
    told = f"{STATES[state]:18}"
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
