"""The gap audit: what a table shows, and whether its age lets that be believed."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from encryption_guard.arn import Scope
from encryption_guard.services.inventory import ListedTable
from encryption_guard.services.oss_tables import Reading
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    NO_CREATION_TIME,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    RECREATE_TABLE,
    Finding,
    UnencryptedPeriod,
)
from encryption_guard.sweep.table_audit import AuditedBucket, table_finding
from tests.unit.fakes import ARN, START

HERE = Scope.of(ARN)
BEFORE = START - timedelta(microseconds=1)
READINGS = {
    "AES256": Reading("encrypted", "AES256", known_as="AES256", status=200),
    "KMS": Reading("encrypted", "KMS", known_as="KMS", status=200),
    "ROT13": Reading("unknown", "ROT13", why="Nobody knows it.", status=200),
    "none": Reading("not_encrypted", status=200),
    "unread": Reading("unknown", why="OSS Tables answered 403.", status=403),
    "gone": Reading("unknown", why="It is not there.", gone=True, status=404),
}
SHOWN = {
    "AES256": ("encrypted", "already_encrypted", "AES256"),
    "KMS": ("encrypted", "kept_stronger", "KMS"),
    "ROT13": ("unknown", "kept_stronger", "ROT13"),
    "none": ("not_encrypted", "unprotected", "created_unencrypted"),
    "unread": ("unknown", "failed", "unread"),
    "gone": ("unknown", "failed", "gone"),
}
FAILED = ("unread", "gone")


def judge(reading: str, created_at: datetime | None, unencrypted_until: datetime | None) -> Finding:
    table = ListedTable(ARN, "sales", "orders", created_at)
    times = (UnencryptedPeriod(None, unencrypted_until),) if unencrypted_until else ()
    found = Finding.of(HERE, table, READINGS[reading])
    return table_finding(found, READINGS[reading], AuditedBucket(ARN, times))


def told(finding: Finding) -> tuple[str, str, str]:
    return finding.state, finding.outcome, finding.reason


@pytest.mark.parametrize(
    ("reading", "state"),
    [("AES256", "unknown"), ("KMS", "unknown"), ("ROT13", "unknown"), ("none", "not_encrypted")],
)
def test_what_was_made_while_its_bucket_was_open_is_unprotected(reading: str, state: str) -> None:
    """Whatever it shows, which is told with it: its bucket may have got that only afterwards."""
    found = judge(reading, BEFORE, START)

    assert told(found) == (state, "unprotected", "made_before")
    assert (found.detail, found.encryption) == (
        CREATED_WHILE_UNENCRYPTED,
        READINGS[reading].algorithm,
    )


@pytest.mark.parametrize("created_at", [BEFORE, None])
@pytest.mark.parametrize("reading", FAILED)
def test_what_cannot_be_read_is_unknown_whatever_its_age(
    reading: str, created_at: datetime | None
) -> None:
    """An error says nothing of a table: the finding tells the error."""
    found = judge(reading, created_at, START)

    assert told(found) == SHOWN[reading]
    assert found.detail == READINGS[reading].why


@pytest.mark.parametrize("reading", ["AES256", "KMS", "ROT13"])
def test_what_does_not_tell_its_age_is_unknown(reading: str) -> None:
    """In a bucket that was open, what it shows proves nothing."""
    found = judge(reading, None, START)

    assert told(found) == ("unknown", "failed", "unread")
    assert found.detail == NO_CREATION_TIME


def test_what_has_no_encryption_needs_no_age() -> None:
    """It says itself that it is not encrypted."""
    found = judge("none", None, START)

    assert told(found) == SHOWN["none"]
    assert found.detail == RECREATE_TABLE


@pytest.mark.parametrize(
    ("created_at", "unencrypted_until"),
    [(START, START), (START + timedelta(days=1), START), (BEFORE, None), (None, None)],
    ids=["at that moment", "a day later", "nobody knows until when", "nor its age"],
)
@pytest.mark.parametrize("reading", READINGS)
def test_otherwise_a_table_is_what_it_shows(
    reading: str, created_at: datetime | None, unencrypted_until: datetime | None
) -> None:
    """It was made after its bucket was encrypted, or nothing speaks against it."""
    assert told(judge(reading, created_at, unencrypted_until)) == SHOWN[reading]


HOUR = timedelta(hours=1)
DRIFTED = AuditedBucket(
    ARN, (UnencryptedPeriod(None, START - 9 * HOUR), UnencryptedPeriod(START, START + HOUR))
)


@pytest.mark.parametrize(
    ("hours", "was_open"),
    [(-10, True), (-9, False), (-1, False), (0, True), (0.5, True), (1, False), (2, False)],
)
def test_a_table_counts_by_whether_its_bucket_was_open_then(hours: float, was_open: bool) -> None:
    """Of a bucket whose encryption was taken off, older tables are what they show."""
    table = ListedTable(ARN, "sales", "orders", START + hours * HOUR)

    found = Finding.of(HERE, table, READINGS["AES256"])
    found = table_finding(found, READINGS["AES256"], DRIFTED)

    assert found.reason == ("made_before" if was_open else "AES256")


PERHAPS = UnencryptedPeriod(START, START + 2 * HOUR, is_exact=False)


def judged(reading: str, *periods: UnencryptedPeriod) -> Finding:
    """A table of half an hour after START, in a bucket with these periods."""
    table = ListedTable(ARN, "sales", "orders", START + HOUR / 2)
    found = Finding.of(HERE, table, READINGS[reading])
    return table_finding(found, READINGS[reading], AuditedBucket(ARN, periods))


@pytest.mark.parametrize("reading", ["AES256", "KMS", "ROT13"])
def test_what_was_perhaps_made_while_its_bucket_was_open_is_told_as_that(reading: str) -> None:
    """Where nobody knows exactly when the bucket was open, the table is named, but not accused."""
    found = judged(reading, PERHAPS)

    assert told(found) == ("unknown", "unprotected", "made_before")
    assert found.detail == PERHAPS_CREATED_WHILE_UNENCRYPTED


def test_what_shows_no_encryption_is_not_perhaps_open() -> None:
    """It is not encrypted, whenever it was made."""
    found = judged("none", PERHAPS)

    assert told(found) == SHOWN["none"]
    assert found.detail == RECREATE_TABLE


@pytest.mark.parametrize("reading", ["AES256", "none"])
def test_what_is_known_exactly_counts_before_what_is_not(reading: str) -> None:
    """Of two times that contain a table, the exact one decides."""
    found = judged(reading, PERHAPS, UnencryptedPeriod(START, START + HOUR), PERHAPS)

    assert (found.reason, found.detail) == ("made_before", CREATED_WHILE_UNENCRYPTED)
