"""Which messages a redrive takes, and why it leaves the others."""

from __future__ import annotations

import json
from typing import Any

import pytest

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.messages import open_message
from encryption_guard.dead_letters.redrivable import (
    CREATION_FUNCTION,
    OWN_FUNCTIONS,
    SWEEP_FUNCTION,
    Obstacle,
    is_redrivable,
    obstacle_of,
)
from tests.emulators.cloud import deployment
from tests.emulators.template import function_props
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    creation_of,
    dead_letter_of,
    destination_record_of,
)

HERE = Scope(ACCOUNT, REGION)
NOTHING = "the message contains no event of a table bucket to process: "
TIMER = {"triggerTime": "2026-11-22T12:00:00Z", "triggerName": "sweep", "payload": ""}
DELETED = creation_of(ARN, eventName="DeleteTableBucket")
FAILED = creation_of(ARN, responseElements=None, errorCode="Denied", resourceName=ARN.name)


def test_the_functions_are_those_of_the_template() -> None:
    """What a deployment calls them is what a redrive looks for."""
    template = deployment()

    assert function_props(template, "encrypt_on_create")["functionName"] == CREATION_FUNCTION
    assert function_props(template, "sweep")["functionName"] == SWEEP_FUNCTION


@pytest.mark.parametrize(
    "body",
    [
        dead_letter_of(creation_of(ARN), redrives=2),
        dead_letter_of(creation_of(ARN, eventName="DeleteTableBucketEncryption")),
        destination_record_of(creation_of(ARN)),
        destination_record_of([creation_of(ARN), creation_of(f"{ARN}-2")]),
        json.dumps(creation_of(ARN)).encode(),
    ],
    ids=["letter", "drift", "record", "array", "event"],
)
def test_nothing_speaks_against_events_of_table_buckets(body: bytes) -> None:
    """A creation or a removal that was redriven less often than the limit may go."""
    message = open_message(body, HERE)

    assert obstacle_of(message) is None
    assert is_redrivable(message, HERE, OWN_FUNCTIONS, lambda _: True)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"hello", "The kind of this message is not known."),
        (dead_letter_of(creation_of(ARN), version=2), 'The dead letter has version "2"'),
        (dead_letter_of(creation_of(ARN), arn="other"), "The message states the bucket"),
        (dead_letter_of(creation_of(ARN), event=""), "OSS Tables answered 403."),
        (
            dead_letter_of("x", reason="invalid_event", event="x"),
            "The event is not a JSON object: Invalid JSON",
        ),
        (destination_record_of({"command": "rm", "everything": True}), "The event contains no"),
        (destination_record_of(DELETED), "The guard acts on CreateTableBucket and"),
        (destination_record_of(FAILED), "The audit trail records that this call failed."),
        (destination_record_of([DELETED, FAILED]), "The guard acts on CreateTableBucket and"),
        (json.dumps(creation_of(ARN, responseElements=None)).encode(), "The event names no table"),
    ],
    ids=[
        *("unknown", "version", "contradiction", "empty", "unreadable"),
        *("no audit event", "deleted", "failed", "neither of two", "no bucket"),
    ],
)
def test_what_is_no_event_of_a_table_bucket_goes_nowhere(body: bytes, why: str) -> None:
    """No option of the command changes that, so it does not make the command fail each time."""
    obstacle = obstacle_of(open_message(body, HERE), max_redrives=1000)

    assert obstacle is not None
    assert obstacle.reason.startswith(NOTHING + why)
    assert obstacle.is_final


@pytest.mark.parametrize("other", ["x", TIMER, DELETED, FAILED, {}], ids=str)
@pytest.mark.parametrize("first", [True, False])
def test_an_array_with_one_other_item_is_left(first: bool, other: object) -> None:
    """Its events of table buckets are real, so somebody has to look: it counts as skipped."""
    items = [other, creation_of(ARN)] if first else [creation_of(ARN), other]

    obstacle = obstacle_of(open_message(destination_record_of(items), HERE))

    assert obstacle is not None
    assert obstacle.reason.startswith("only 1 of the 2 events in the message are of a table bucket")
    assert not obstacle.is_final


SHARE = {"share": {"version": 1, "name": "a-share", "accounts": ["12345"]}}


@pytest.mark.parametrize("call", [TIMER, SHARE], ids=["timer", "share"])
def test_the_record_of_a_sweep_is_left(call: dict[str, Any]) -> None:
    """Its event is no bucket's: sending it to the creation function would help nobody."""
    message = open_message(destination_record_of(call), HERE)

    assert message.summary.is_sweep
    assert obstacle_of(message) == Obstacle(
        "a sweep failed, and the next sweep repeats its work: discard the message", is_final=True
    )


def test_an_event_of_a_bucket_is_no_sweep_although_it_has_the_fields_of_a_timer() -> None:
    """Else the writer of a message could have it discarded."""
    message = open_message(destination_record_of(creation_of(ARN) | TIMER | SHARE), HERE)

    assert not message.summary.is_sweep
    assert obstacle_of(message) is None


@pytest.mark.parametrize("redrives", [3, 4])
def test_what_was_redriven_often_enough_is_left(redrives: int) -> None:
    """A loop ends at the limit."""
    message = open_message(dead_letter_of(creation_of(ARN), redrives=redrives), HERE)

    assert obstacle_of(message, max_redrives=3) == Obstacle(
        f"the redrive count ({redrives}) has reached the limit (3): fix the cause, then raise"
        " --max-redrives"
    )
    assert not is_redrivable(message, HERE, OWN_FUNCTIONS, lambda _: True)


@pytest.mark.parametrize(
    ("function", "expected"), [(CREATION_FUNCTION, False), (SWEEP_FUNCTION, True)]
)
def test_only_the_sweep_function_acts_in_another_region(function: str, expected: bool) -> None:
    """The creation function refuses it as foreign."""
    arn = str(ARN).replace(HERE.region, "us-east-1")
    message = open_message(dead_letter_of(creation_of(arn), function=function), HERE)

    assert is_redrivable(message, HERE, OWN_FUNCTIONS, lambda _: True) is expected
