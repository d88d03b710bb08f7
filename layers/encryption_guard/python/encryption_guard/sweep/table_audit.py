"""The table audit: find tables that are older than the encryption of their bucket.

namespaces of a bucket ─▶ tables of a namespace ─▶ encryption of a table: read, never changed

The encryption that a table shows may be the current one of its bucket, so the audit also compares
creation times: https://www.alibabacloud.com/help/en/oss/developer-reference/gettableencryption
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import NamedTuple

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.services.inventory import (
    ListedTable,
    namespace_list,
    read_namespace,
    read_table,
    table_list,
)
from encryption_guard.services.oss_tables import Reading, State
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    NO_CREATION_TIME,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    RECREATE_TABLE,
    UNPROTECTED,
    Finding,
    UnencryptedPeriod,
)
from encryption_guard.sweep.work_lists import Session, Step, list_step


class AuditedBucket(NamedTuple):
    """A bucket whose tables are audited, and the known periods in which it was unencrypted."""

    arn: TableBucketArn
    unencrypted_periods: tuple[UnencryptedPeriod, ...] = ()
    # Distinguishes the bucket from a deleted one with the same name.
    incarnation: str | datetime | None = None

    def unencrypted_period(self, at: datetime | None) -> UnencryptedPeriod | None:
        """Return the period that contains this time, an exact one if possible."""
        periods = [period for period in self.unencrypted_periods if at and period.contains(at)]
        return max(periods, key=lambda period: period.is_exact, default=None)


def audit_step(scope: Scope, bucket: AuditedBucket) -> Step:
    """Return the step that checks all tables of a bucket, namespace by namespace."""
    fallback = Finding.of_list(scope, bucket.arn)
    namespaces = namespace_list(bucket.arn)
    return list_step(scope, namespaces, fallback, partial(_namespace_step, scope, bucket))


def _namespace_step(scope: Scope, bucket: AuditedBucket, entry: object) -> Step:
    namespace = read_namespace(entry)
    fallback = Finding.of_list(scope, bucket.arn, namespace)
    make_step = partial(_table_step, scope, bucket, namespace)
    return list_step(scope, table_list(bucket.arn, namespace), fallback, make_step)


def _table_step(scope: Scope, bucket: AuditedBucket, namespace: str, entry: object) -> Step:
    table = ListedTable.read(entry, bucket=bucket.arn, namespace=namespace)
    name = f"{bucket.arn} {bucket.incarnation}/{namespace}/{table.name}"
    run = partial(_check_table, scope, table, bucket)
    return Step(scope, Finding.of(scope, table), run, name)


def _check_table(
    scope: Scope, table: ListedTable, bucket: AuditedBucket, session: Session
) -> Iterator[Finding]:
    reading = read_table(session.tables, table)
    yield table_finding(Finding.of(scope, table, reading), reading, bucket)


def table_finding(found: Finding, reading: Reading, bucket: AuditedBucket) -> Finding:
    """Return the finding of a table with this reading, in this bucket.

    The guard cannot encrypt a table: its owner has to recreate it.
    """
    if reading.state == "unknown" and not reading.algorithm:
        return found
    period = bucket.unencrypted_period(found.created_at)
    if period and (period.is_exact or reading.state != "not_encrypted"):
        state: State = "not_encrypted" if reading.state == "not_encrypted" else "unknown"
        exact, perhaps = CREATED_WHILE_UNENCRYPTED, PERHAPS_CREATED_WHILE_UNENCRYPTED
        detail = exact if period.is_exact else perhaps
        return replace(found, state=state, outcome=UNPROTECTED, reason="made_before", detail=detail)
    if reading.state == "not_encrypted":
        return replace(
            found, outcome=UNPROTECTED, reason="created_unencrypted", detail=RECREATE_TABLE
        )
    if bucket.unencrypted_periods and not found.created_at:
        return replace(found, state="unknown", reason="unread", detail=NO_CREATION_TIME)
    return found.with_kept_encryption(reading)
