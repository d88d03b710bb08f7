"""The gap audit: tables that were created before their bucket was encrypted.

namespaces of a bucket ─▶ tables of a namespace ─▶ encryption of a table: read, never changed

What a table shows may be inherited from its bucket as it is now, so its age counts as well:
https://www.alibabacloud.com/help/en/oss/developer-reference/gettableencryption
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
    MADE_BEFORE,
    NO_CREATION_TIME,
    RECREATE_TABLE,
    UNPROTECTED,
    Finding,
    OpenTime,
)
from encryption_guard.sweep.work_lists import Session, Step, read_list


class OpenBucket(NamedTuple):
    """A bucket, and the times in which it is known to have been open; none where nobody knows."""

    arn: TableBucketArn
    times: tuple[OpenTime, ...] = ()

    def was_open(self, at: datetime) -> bool:
        """Whether it is known to have been open then."""
        return any(time.contains(at) for time in self.times)


def audit(scope: Scope, bucket: OpenBucket) -> Step:
    """Look at all tables of a bucket, namespace by namespace."""
    about = Finding.of_list(scope, bucket.arn)
    return read_list(scope, namespace_list(bucket.arn), about, partial(_namespace, scope, bucket))


def _namespace(scope: Scope, bucket: OpenBucket, entry: object) -> Step:
    namespace = read_namespace(entry)
    about = Finding.of_list(scope, bucket.arn, namespace)
    follow = partial(_table, scope, bucket, namespace)
    return read_list(scope, table_list(bucket.arn, namespace), about, follow)


def _table(scope: Scope, bucket: OpenBucket, namespace: str, entry: object) -> Step:
    table = ListedTable.read(entry, bucket=bucket.arn, namespace=namespace)
    name = f"{bucket.arn}/{namespace}/{table.name}"
    run = partial(_look_at, scope, table, bucket)
    return Step(scope, Finding.of(scope, table), run, name)


def _look_at(
    scope: Scope, table: ListedTable, bucket: OpenBucket, session: Session
) -> Iterator[Finding]:
    reading = read_table(session.tables, table)
    yield table_finding(Finding.of(scope, table, reading), reading, bucket)


def table_finding(found: Finding, reading: Reading, bucket: OpenBucket) -> Finding:
    """What is found of a table that shows this, in this bucket.

    Of a table that is not encrypted only its owner can make another.
    """
    if reading.state == "unknown" and not reading.algorithm:
        return found
    if found.created_at and bucket.was_open(found.created_at):
        state: State = "not_encrypted" if reading.state == "not_encrypted" else "unknown"
        return replace(
            found, state=state, outcome=UNPROTECTED, reason="made_before", detail=MADE_BEFORE
        )
    if reading.state == "not_encrypted":
        why, what_to_do = "created_unencrypted", RECREATE_TABLE
        return replace(found, outcome=UNPROTECTED, reason=why, detail=what_to_do)
    if bucket.times and not found.created_at:
        return replace(found, state="unknown", reason="unread", detail=NO_CREATION_TIME)
    return found.kept(reading)
