"""The gap audit: tables that were created before their bucket was encrypted.

namespaces of a bucket ─▶ tables of a namespace ─▶ encryption of a table: read, never changed
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from encryption_guard.arn import TableBucketArn
from encryption_guard.findings import UNPROTECTED, WHAT_ITS_OWNER_HAS_TO_DO, Finding
from encryption_guard.inventory import (
    ListedTable,
    namespace_list,
    read_namespace,
    read_table,
    table_list,
)
from encryption_guard.work_lists import Session, Step, Where, read_list


def audit(where: Where, bucket: TableBucketArn) -> Step:
    """Look at all tables of a bucket, namespace by namespace."""
    about = Finding.of_list(where.region, bucket)
    return read_list(where, namespace_list(bucket), about, partial(_namespace, where, bucket))


def _namespace(where: Where, bucket: TableBucketArn, entry: object) -> Step:
    namespace = read_namespace(entry)
    about = Finding.of_list(where.region, bucket, namespace)
    follow = partial(_table, where, bucket, namespace)
    return read_list(where, table_list(bucket, namespace), about, follow)


def _table(where: Where, bucket: TableBucketArn, namespace: str, entry: object) -> Step:
    table = ListedTable.read(entry, bucket=bucket, namespace=namespace)
    name = f"{bucket}/{namespace}/{table.name}"
    return Step(where, Finding.of(table), partial(_look_at, table), name)


def _look_at(table: ListedTable, session: Session) -> Iterator[Finding]:
    """Read a table's encryption; of one without only its owner can make another."""
    reading = read_table(session.tables, table)
    found = Finding.of(table, reading)
    if reading.algorithm:
        found = found.kept(reading)
    elif reading.state == "not_encrypted":
        why, what_to_do = "created_unencrypted", WHAT_ITS_OWNER_HAS_TO_DO
        found = replace(found, outcome=UNPROTECTED, reason=why, detail=what_to_do)
    yield found
