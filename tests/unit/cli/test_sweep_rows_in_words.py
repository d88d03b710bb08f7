"""What a sweep found, in words."""

from __future__ import annotations

from datetime import date, datetime, timedelta, timezone

import pytest

from encryption_guard.cli.sweep_rows import (
    action,
    day,
    description,
    duration,
    minute,
    problems_first,
)
from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    FAILED,
    NOT_REACHED,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    Finding,
)
from tests.unit.sweep.sweeps import LAB, OLD, PARTNER, bucket, everything, exempt, table, without

HANGZHOU = "cn-hangzhou"
WORDS: list[tuple[Finding, str]] = [
    (bucket(outcome="encrypted", reason="created"), "encrypted now (new)"),
    (bucket(outcome="encrypted", reason="drift"), "encrypted now (drift)"),
    (bucket(), "nothing to do"),
    (bucket(outcome="kept_stronger", reason="KMS"), "kept KMS"),
    (without(), "would be encrypted"),
    (exempt("a", HANGZHOU, LAB), f"exempt until 2026-12-02: {LAB.reason}"),
    (exempt("a", HANGZHOU, PARTNER), f"exempt: {PARTNER.reason}"),
    (exempt("a", HANGZHOU, None), "managed by OSS"),
    (
        without(outcome="dead_lettered", reason="not_found"),
        "dead-lettered (not found)",
    ),
    (
        without(outcome="dead_lettered", reason="not_found", dead_letter="waiting"),
        "not found; a dead letter waits already",
    ),
    (without(outcome=NOT_REACHED, reason="time_over"), "not reached"),
    (table("t", "n", bucket()), "its owner has to recreate it"),
    (
        table("t", "n", bucket(), reason="made_before", detail=CREATED_WHILE_UNENCRYPTED),
        "created while its bucket was unencrypted: its owner has to recreate it",
    ),
    (
        table("t", "n", bucket(), reason="made_before", detail=PERHAPS_CREATED_WHILE_UNENCRYPTED),
        "perhaps created while its bucket was unencrypted: its owner has to recreate it",
    ),
    (without(outcome=FAILED, reason="unread"), "could not be read"),
    (without(outcome=FAILED, reason="gone"), "not found"),
    (without(outcome=FAILED, reason="unavailable"), "could not be encrypted"),
    (without(outcome=FAILED, reason="not_confirmed"), "encryption not confirmed"),
    (without(outcome=FAILED, reason="not_listed"), "could not be listed"),
    (without(outcome=FAILED, reason="unreadable"), "could not be listed in full"),
    (without(outcome=FAILED, reason="error"), "the guard failed"),
    (without(outcome=FAILED, reason="something new"), "failed"),
]


@pytest.mark.parametrize(("finding", "words"), WORDS, ids=[words for _, words in WORDS])
def test_every_outcome_has_its_words(finding: Finding, words: str) -> None:
    """What was done or would be, so that nobody has to know the names in the log."""
    assert action(finding) == words


def test_every_outcome_that_there_is_has_words() -> None:
    """Nothing that a sweep may find is without them."""
    assert all(action(finding) for finding in everything())


def test_a_bucket_whose_tables_nobody_looked_at_says_so_on_its_line() -> None:
    """It was encrypted late, or again, and the look is switched off."""
    late = bucket(outcome="encrypted", reason="drift", detail=TABLES_NOT_CHECKED)

    assert description(late) == "encrypted now (drift); its tables were not checked"


def test_a_failure_says_why_on_its_line() -> None:
    """Where something failed the sentence follows; where nothing did there is none."""
    failed = without(outcome=FAILED, reason="unread", detail="No answer.")

    assert description(failed) == "could not be read: No answer."
    assert description(without(outcome=FAILED, reason="unread")) == "could not be read"
    assert description(bucket(detail="Not of interest.")) == "nothing to do"


@pytest.mark.parametrize(
    ("milliseconds", "words"),
    [
        (0, "0.0 s"),
        (4210, "4.2 s"),
        (59_400, "59.4 s"),
        (59_900, "1 min"),
        (83_000, "1 min 23 s"),
        (3_600_000, "1 h"),
        (5_400_000, "1 h 30 min"),
        (90_000_000, "1 d 1 h"),
        (200 * 86_400_000, "200 d"),
    ],
)
def test_a_span_is_told_in_the_units_that_fit(milliseconds: int, words: str) -> None:
    """From tenths of a second to days, never more than two units."""
    assert duration(milliseconds) == words


def test_days_and_minutes_are_those_of_utc() -> None:
    """Whatever zone the service tells its times in."""
    at = datetime(2026, 3, 1, 6, 30, tzinfo=timezone(timedelta(hours=8)))

    assert (day(at), minute(at)) == ("2026-02-28", "2026-02-28 22:30 UTC")
    assert (day(date(2026, 3, 1)), day(None)) == ("2026-03-01", "not known")


def test_a_time_before_all_times_can_be_told() -> None:
    """A service may say anything; the page is written all the same."""
    at = datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14)))

    assert day(at) == "0001-01-01"


def test_what_is_not_well_comes_first() -> None:
    """Not encrypted, unknown, left alone, encrypted; then by name."""
    unknown = without("b", state="unknown", outcome=FAILED, reason="unread")
    left = exempt("a", HANGZHOU, OLD)

    ordered = sorted([bucket("c"), left, unknown, bucket("a"), without("z")], key=problems_first)

    assert ordered == [without("z"), unknown, left, bucket("a"), bucket("c")]


def test_tables_are_in_order_of_their_names() -> None:
    """Bucket, namespace, table; what has no name before what has."""
    of = bucket()
    found = [table("a", "b", of), table("b", "a", of), table(None, None, of)]

    names = [(one.namespace, one.table) for one in sorted(found, key=problems_first)]

    assert names == [(None, None), ("a", "b"), ("b", "a")]
