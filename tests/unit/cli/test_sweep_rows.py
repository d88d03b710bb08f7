"""What a sweep found, as rows of a table, of a spreadsheet, and as JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timezone

import pytest

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.cli.sweep_rows import (
    AUDIT_HEADINGS,
    BUCKET_HEADINGS,
    TABLE_HEADINGS,
    TALLY_HEADINGS,
    has_row,
    row,
    sort_key,
    summary,
    tally_rows,
)
from encryption_guard.settings import Exemption
from encryption_guard.sweep.findings import (
    ENCRYPTED_SINCE_UNKNOWN,
    FAILED,
    UNPROTECTED,
    Finding,
    Totals,
)
from encryption_guard.version import __version__

SAMPLES = Exemption.read({"bucket": "scratch-*", "reason": "samples", "expires": "2026-12-01"})
HERE = Scope(None, "cn-hangzhou")


def arn_of(name: str) -> TableBucketArn:
    return TableBucketArn("cn-hangzhou", "1234567890123456", name)


BUCKET = Finding(
    kind="bucket",
    scope=HERE,
    state="encrypted",
    outcome="already_encrypted",
    reason="AES256",
    arn=arn_of("orders"),
    created_at=datetime(2026, 11, 22, 12, 34, 56, tzinfo=timezone.utc),
    encryption="AES256",
    status=200,
)
OPEN = replace(
    BUCKET,
    arn=arn_of("parts"),
    state="not_encrypted",
    outcome="detected",
    reason="would_encrypt",
    encryption=None,
)
EXEMPT = replace(
    OPEN, arn=arn_of("scratch-1"), outcome="skipped", reason="exempt: samples", exemption=SAMPLES
)
LOST = replace(
    OPEN, arn=arn_of("lost"), state="unknown", outcome=FAILED, reason="unread", detail="No answer."
)
REGION = Finding(
    kind="region",
    scope=Scope(None, "cn-nowhere"),
    state="unknown",
    outcome=FAILED,
    reason="not_listed",
    detail="No answer.",
)
TABLE = replace(
    OPEN,
    kind="table",
    arn=arn_of("orders"),
    namespace="sales",
    table="invoices",
    outcome=UNPROTECTED,
    reason="created_unencrypted",
)
ENCRYPTED_TABLE = replace(TABLE, state="encrypted", outcome="already_encrypted", reason="AES256")
ALL = [BUCKET, OPEN, EXEMPT, LOST, REGION, TABLE, ENCRYPTED_TABLE]


def counted(*findings: Finding) -> Totals:
    totals = Totals.empty([HERE])
    for finding in findings:
        totals.count(finding)
    return totals


def test_a_table_from_before_is_told_as_that() -> None:
    """It may show an encryption, so the row says why it is amiss."""
    table = replace(TABLE, state="unknown", encryption="AES256", reason="made_before")

    said = "created while its bucket was unencrypted: its owner has to recreate it"
    assert row(table)[-2:] == ("AES256", said)


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


def test_a_note_stands_with_what_was_done() -> None:
    """Since when a bucket is encrypted is not known where its tables were looked at."""
    cells = row(replace(BUCKET, detail=ENCRYPTED_SINCE_UNKNOWN))

    assert cells[4] == "nothing to do; the start of its encryption is unknown"


def test_a_region_that_failed_has_a_row_without_a_bucket() -> None:
    """Its sentence stands where else stands what was done."""
    region, bucket, created, _, action = row(REGION)

    assert (region, bucket, created) == ("cn-nowhere", None, None)
    assert action is not None
    assert action.endswith("No answer.")


def test_a_table_has_its_row() -> None:
    """Bucket, namespace and name, creation, and what its owner has to do."""
    cells = row(TABLE)

    assert cells[:5] == (
        "cn-hangzhou",
        "orders",
        "sales.invoices",
        "2026-11-22 12:34 UTC",
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

    audit = {"cn-hangzhou": ("2", "1", "0"), "cn-nowhere": ("0", "0", "0")}
    expected = [
        ("cn-hangzhou", "4", "1", "1", "1", "1"),
        ("cn-nowhere", "0 or more", "0", "0", "0", "0"),
    ]
    assert rows == [(*row, *(audit[row[0]] if audited else ())) for row in expected]
    assert len(rows[0]) == 1 + len(TALLY_HEADINGS) + (len(AUDIT_HEADINGS) if audited else 0)


def test_the_totals_are_told_in_json() -> None:
    """For programs: all numbers, whether all is well, and the warnings."""
    told = counted(*ALL).as_dict([SAMPLES])

    assert json.loads(json.dumps(told)) == told
    assert (told["ok"], told["version"]) == (False, __version__)
    assert told["totals"]["buckets"] == 4
    assert set(told["regions"]) == {"cn-hangzhou", "cn-nowhere"}
    assert told["warnings"] == [SAMPLES.warning]
    assert "2026-12-01" in SAMPLES.warning


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
            [NEW],
            True,
            False,
            "1 table bucket: 1 encrypted, 1 of them now, 0 not encrypted, 0 unknown, 0 exempt.",
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
            [DEAD, WAITING],
            True,
            False,
            "2 table buckets: 0 encrypted, 0 of them now, 2 not encrypted, 0 unknown, 0 exempt;"
            " 1 dead letter written; 1 dead letter waits already.",
        ),
        (
            [WAITING, WAITING],
            True,
            False,
            "2 table buckets: 0 encrypted, 0 of them now, 2 not encrypted, 0 unknown, 0 exempt;"
            " 2 dead letters wait already.",
        ),
    ],
    ids=["nothing", "applied", "problems", "audited", "written and waiting", "two wait"],
)
def test_a_sentence_says_how_it_went(
    findings: list[Finding], applied: bool, audited: bool, expected: str
) -> None:
    """The numbers in words, and what may be missing."""
    assert summary(counted(*findings), applied=applied, audited=audited) == expected
