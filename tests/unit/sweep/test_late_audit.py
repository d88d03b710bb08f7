"""The look at tables after an event: what it tells, how much of it, and that it fails nothing."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import repeat
from typing import Any

import httpx
import pytest

from encryption_guard.arn import TableBucketArn
from encryption_guard.enforcement import (
    AlreadyEncrypted,
    Detected,
    Encrypted,
    KeptStronger,
    Outcome,
)
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.sweep import late_audit
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
)
from encryption_guard.sweep.late_audit import audit_tables
from tests.unit.fakes import (
    ARN,
    START,
    Broken,
    FakeOssTables,
    forget_logger,
    invocation_of,
)
from tests.unit.sweep.watching import dead_letters_of

SECOND = timedelta(seconds=1)
OTHER = ARN._replace(name="other")
# The encryption was removed ten seconds ago, and set again three seconds ago.
REMOVED, SET_AGAIN = START - 10 * SECOND, START - 3 * SECOND
AGES = {"before": 11, "first": 10, "last": 4, "after": 3}


def at(seconds: int) -> str:
    """So many seconds ago, as the service writes it."""
    return (START - seconds * SECOND).strftime("%Y-%m-%dT%H:%M:%SZ")


def a_bucket(**rest: Any) -> FakeOssTables:
    """A bucket whose tables are named after when they were created; all show AES256."""
    tables = {(str(ARN), "sales", name): "AES256" for name in AGES}
    created: dict[Any, str | None] = {
        (str(ARN), "sales", name): at(seconds) for name, seconds in AGES.items()
    }
    return FakeOssTables({str(ARN): "AES256"}, tables=tables, created=created, **rest)


def after(
    kind: type[Outcome],
    since: datetime | None = REMOVED,
    until: datetime = SET_AGAIN,
    arn: TableBucketArn = ARN,
    **rest: Any,
) -> Outcome:
    """The outcome of a removal."""
    known: dict[str, Any] = {"reason": "drift", "cause": "drift", "time_to_encrypt_ms": 7000}
    times = {"unencrypted_since": since, "unencrypted_until": until, "by": "ram-user:alice"}
    return kind(**known | times | {"arn": arn} | rest)


@dataclass
class Audit:
    """An audit, and what it logged."""

    service: FakeOssTables = field(default_factory=a_bucket)
    seconds: float = 60.0
    stream: io.StringIO = field(default_factory=io.StringIO)

    def of(self, *outcomes: Outcome) -> list[dict[str, Any]]:
        # A process keeps its first logger, and the stream of that.
        forget_logger()
        invocation = invocation_of(self.service, seconds=self.seconds)
        audit_tables(
            outcomes,
            invocation=invocation,
            dead_letters=dead_letters_of(self.service),
            logger=open_logger(self.stream),
        )
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture(autouse=True)
def logger_of_its_own() -> Iterator[None]:
    """Let the next test have a logger of its own."""
    yield
    forget_logger()


def named(lines: list[dict[str, Any]]) -> dict[str, str]:
    """The tables that are accused, with the sentence about them."""
    return {line["table"]: line["detail"] for line in lines if line.get("reason") == "made_before"}


def test_the_tables_of_the_time_without_encryption_are_named_exactly() -> None:
    """From the second of the removal until the PUT, whatever they show; no others."""
    lines = Audit().of(after(Encrypted))

    assert named(lines) == dict.fromkeys(("first", "last"), CREATED_WHILE_UNENCRYPTED)
    assert {line["level"] for line in lines} == {"WARNING"}


def test_the_last_line_has_the_totals() -> None:
    """It says for which buckets, so that a look that found nothing is there too."""
    found, nothing = (
        Audit().of(after(Encrypted, since=since))[-1] for since in (REMOVED, SET_AGAIN)
    )

    assert (found["message"], found["level"]) == ("table audit finished", "WARNING")
    assert (nothing["message"], nothing["level"]) == ("table audit finished", "INFO")
    counted = ("ok", "buckets", "tables", "unprotected_tables", "not_reached", "not_logged")
    assert [found[name] for name in counted] == [False, [str(ARN)], 4, 2, 0, 0]
    assert [nothing[name] for name in counted] == [True, [str(ARN)], 4, 0, 0, 0]


@pytest.mark.parametrize(
    ("outcome", "expected", "is_exact"),
    [
        (after(Detected, until=START), {"first", "last", "after"}, True),
        (after(AlreadyEncrypted, until=START), {"first", "last", "after"}, False),
        (after(KeptStronger, until=START), {"first", "last", "after"}, False),
        (after(Encrypted, since=None), {"before", "first", "last"}, False),
        (after(Encrypted, since=START + SECOND), {"before", "first", "last"}, False),
        (after(Encrypted, by=None), {"first", "last"}, False),
        (after(Encrypted, None, cause="created"), {"before", "first", "last"}, True),
        (
            after(Encrypted, None, cause="created", time_to_encrypt_ms=None),
            {"before", "first", "last"},
            False,
        ),
    ],
    ids=[
        *("detect", "set by another", "KMS by another", "no time", "a time to come"),
        *("a dead letter of a sweep", "created", "by an operator"),
    ],
)
def test_where_the_time_is_not_known_exactly_the_sentence_says_so(
    outcome: Outcome, expected: set[str], *, is_exact: bool
) -> None:
    """Whoever set the encryption again did not say when; nor does an event without a time."""
    sentence = CREATED_WHILE_UNENCRYPTED if is_exact else PERHAPS_CREATED_WHILE_UNENCRYPTED

    assert named(Audit().of(outcome)) == dict.fromkeys(expected, sentence)


def test_a_bucket_of_several_events_is_looked_at_once() -> None:
    """With the times of all of them."""
    audit = Audit()
    early = after(Encrypted, since=REMOVED, until=REMOVED + SECOND)
    late = after(Encrypted, since=SET_AGAIN, until=START)

    lines = audit.of(early, late)

    assert set(named(lines)) == {"first", "after"}
    assert audit.service.asked_about("ListNamespaces") == [ARN.name]


def test_without_a_bucket_there_is_no_line() -> None:
    """Most invocations have nothing to look at."""
    assert Audit().of() == []


def test_there_are_only_so_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The rest is counted: thousands of lines would take longer than the function has."""
    monkeypatch.setattr(late_audit, "MAX_LOGGED", 1)

    *tables, last = Audit().of(after(Encrypted))

    assert len(tables) == 1
    assert (last["unprotected_tables"], last["not_logged"]) == (2, 1)


def test_what_there_is_no_time_for_is_told() -> None:
    """The look ends with the function's time, as a line and not as a failure."""
    lines = Audit(seconds=0.5).of(after(Encrypted))

    assert [(line.get("outcome"), line["level"]) for line in lines] == [
        ("not_reached", "WARNING"),
        (None, "WARNING"),
    ]
    assert (lines[-1]["not_reached"], lines[-1]["ok"]) == (1, False)


def test_even_a_bug_in_the_look_fails_nothing() -> None:
    """It is an error in the log, and the other buckets are looked at."""
    service = a_bucket(troubles={f"GET {OTHER.name}": [Broken(ZeroDivisionError)]})
    service.buckets[str(OTHER)] = "AES256"

    lines = Audit(service).of(after(Encrypted, arn=OTHER), after(Encrypted))

    errors = [line["message"] for line in lines if line["level"] == "ERROR"]
    assert errors == ["table audit failed"]
    assert set(named(lines)) == {"first", "last"}
    assert lines[-1]["ok"] is False


def test_a_service_that_does_not_answer_is_told() -> None:
    """As a list that could not be read."""
    service = a_bucket(troubles={"GET": repeat(Broken(httpx.ReadError))})

    first, last = Audit(service).of(after(Encrypted))

    assert (first["reason"], first["level"]) == ("not_listed", "WARNING")
    assert (last["not_listed"], last["ok"]) == (1, False)
