"""What a sweep found, as rows of a table, as JSON, and in words."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone

import pytest

from encryption_guard.arn import Scope
from encryption_guard.cli.sweep_rows import (
    AUDIT_HEADINGS,
    BUCKET_HEADINGS,
    TABLE_HEADINGS,
    TALLY_HEADINGS,
    action,
    day,
    description,
    duration,
    has_row,
    minute,
    problems_first,
    row,
    sort_key,
    summary,
    tally_rows,
)
from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    ENCRYPTED_SINCE_UNKNOWN,
    FAILED,
    NOT_REACHED,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    Finding,
    Totals,
)
from encryption_guard.version import __version__
from tests.unit.sweep.sweeps import (
    LAB,
    OLD,
    PARTNER,
    REFUSED_REGION,
    bucket,
    exempt,
    table,
    without,
)

HERE = "cn-hangzhou"
BUCKET = bucket(created_at=datetime(2026, 11, 22, 12, 34, 56, tzinfo=timezone.utc))
OPEN = without("parts")
EXEMPT = exempt("lab-1", HERE, LAB, state="not_encrypted")
LOST = without("lost", state="unknown", outcome=FAILED, reason="unread", detail="No answer.")
REGION = REFUSED_REGION
TABLE = table("invoices", "sales", BUCKET)
ENCRYPTED_TABLE = replace(TABLE, state="encrypted", outcome="already_encrypted", reason="AES256")
ALL = [BUCKET, OPEN, EXEMPT, LOST, REGION, TABLE, ENCRYPTED_TABLE]


def counted(*findings: Finding) -> Totals:
    totals = Totals.empty([Scope(None, HERE)])
    for finding in findings:
        totals.count(finding)
    return totals


def test_a_bucket_has_its_row() -> None:
    """Region, name, creation to the minute, encryption, and what was done."""
    cells = row(BUCKET)

    assert cells == ("cn-hangzhou", "orders", "2026-11-22 12:34 UTC", "AES256", "nothing to do")
    assert len(cells) == len(BUCKET_HEADINGS)


@pytest.mark.parametrize(
    ("finding", "shown"),
    [(BUCKET, "AES256"), (OPEN, "not encrypted"), (LOST, "unknown"), (REGION, "unknown")],
    ids=lambda value: value.bucket if isinstance(value, Finding) else value,
)
def test_the_encryption_is_one_of_three_states(finding: Finding, shown: str) -> None:
    """An algorithm, none, or not known: never nothing at all."""
    assert row(finding)[3] == shown


def test_a_region_that_failed_has_a_row_without_a_bucket() -> None:
    """Its sentence stands where else stands what was done."""
    region, name, created, _, done = row(REGION)

    assert (region, name, created) == ("us-east-1", None, None)
    assert done is not None
    assert done.endswith("grant oss:ListTableBuckets.")


def test_a_table_has_its_row() -> None:
    """Bucket, namespace and name, creation, and what its owner has to do."""
    cells = row(TABLE)

    assert cells[:5] == (
        "cn-hangzhou",
        "orders",
        "sales.invoices",
        "2026-04-16 22:32 UTC",
        "not encrypted",
    )
    assert len(cells) == len(TABLE_HEADINGS)


def test_only_tables_that_are_well_have_no_row() -> None:
    """Every bucket and every region that failed is shown, and each table that is amiss."""
    assert [finding for finding in ALL if not has_row(finding)] == [ENCRYPTED_TABLE]


def test_rows_are_in_order_of_names() -> None:
    """By region, bucket, namespace and table."""
    shuffled = [TABLE, REGION, LOST, BUCKET]

    assert sorted(shuffled, key=sort_key) == [LOST, BUCKET, TABLE, REGION]


@pytest.mark.parametrize("audited", [False, True])
def test_totals_have_a_row_for_each_region(audited: bool) -> None:
    """Numbers under their headings; a region that could not be listed may have more."""
    tallies = counted(*ALL).by_region().items()

    rows = tally_rows([((region,), tally) for region, tally in tallies], audited=audited)

    audit = {"cn-hangzhou": ("2", "1", "0"), "us-east-1": ("0", "0", "0")}
    expected = [
        ("cn-hangzhou", "4", "1", "1", "1", "1"),
        ("us-east-1", "0 or more", "0", "0", "0", "0"),
    ]
    assert rows == [(*row, *(audit[row[0]] if audited else ())) for row in expected]
    assert len(rows[0]) == 1 + len(TALLY_HEADINGS) + (len(AUDIT_HEADINGS) if audited else 0)


def test_the_totals_are_told_in_json() -> None:
    """For programs: all numbers, whether all is well, and the warnings."""
    told = counted(*ALL).as_dict([LAB])

    assert json.loads(json.dumps(told)) == told
    assert (told["ok"], told["version"]) == (False, __version__)
    assert told["totals"]["buckets"] == 4
    assert set(told["regions"]) == {"cn-hangzhou", "us-east-1"}
    assert told["warnings"] == [LAB.warning]
    assert "2026-12-02" in LAB.warning


DEAD = replace(OPEN, outcome="dead_lettered", reason="rejected")
WAITING = replace(DEAD, dead_letter="waiting")
NEW = replace(BUCKET, outcome="encrypted", reason="created")


@pytest.mark.parametrize(
    ("findings", "applied", "audited", "expected"),
    [
        (
            [],
            False,
            False,
            "0 table buckets: 0 encrypted, 0 not encrypted, 0 unknown, 0 exempt.",
        ),
        (
            [BUCKET, DEAD, EXEMPT, REGION],
            False,
            False,
            "3 table buckets: 1 encrypted, 1 not encrypted, 0 unknown, 1 exempt; 1 dead letter"
            " written; 1 list could not be read: there may be more.",
        ),
        (
            [BUCKET, TABLE, ENCRYPTED_TABLE],
            False,
            True,
            "1 table bucket: 1 encrypted, 0 not encrypted, 0 unknown, 0 exempt; 2 tables: 1"
            " unprotected, 0 unknown.",
        ),
        (
            [NEW, DEAD, WAITING, WAITING],
            True,
            False,
            "4 table buckets: 1 encrypted, 1 of them now, 3 not encrypted, 0 unknown, 0 exempt;"
            " 1 dead letter written; 2 dead letters wait already.",
        ),
    ],
    ids=["nothing", "problems", "audited", "applied"],
)
def test_a_sentence_says_how_it_went(
    findings: list[Finding], applied: bool, audited: bool, expected: str
) -> None:
    """The numbers in words, and what may be missing."""
    assert summary(counted(*findings), applied=applied, audited=audited) == expected


# In words.

WORDS: list[tuple[Finding, str]] = [
    (bucket(outcome="encrypted", reason="created"), "encrypted now (new)"),
    (bucket(outcome="encrypted", reason="drift"), "encrypted now (drift)"),
    (bucket(), "nothing to do"),
    (bucket(outcome="kept_stronger", reason="KMS"), "kept KMS"),
    (without(), "would be encrypted"),
    (exempt("a", HERE, LAB), f"exempt until 2026-12-02: {LAB.reason}"),
    (exempt("a", HERE, PARTNER), f"exempt: {PARTNER.reason}"),
    (exempt("a", HERE, None), "managed by OSS"),
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


def test_a_bucket_whose_tables_nobody_looked_at_says_so_on_its_line() -> None:
    """It was encrypted late, or again, and the look is switched off."""
    late = bucket(outcome="encrypted", reason="drift", detail=TABLES_NOT_CHECKED)

    assert description(late) == "encrypted now (drift); its tables were not checked"


def test_a_note_stands_with_what_was_done() -> None:
    """Since when a bucket is encrypted is not known where its tables were looked at."""
    noted = bucket(detail=ENCRYPTED_SINCE_UNKNOWN)

    assert description(noted) == "nothing to do; the start of its encryption is unknown"


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
    left = exempt("a", HERE, OLD)

    ordered = sorted([bucket("c"), left, unknown, bucket("a"), without("z")], key=problems_first)

    assert ordered == [without("z"), unknown, left, bucket("a"), bucket("c")]


def test_tables_are_in_order_of_their_names() -> None:
    """Bucket, namespace, table; what has no name before what has."""
    of = bucket()
    found = [table("a", "b", of), table("b", "a", of), table(None, None, of)]

    names = [(one.namespace, one.table) for one in sorted(found, key=problems_first)]

    assert names == [(None, None), ("a", "b"), ("b", "a")]
