"""GUARD_AUDIT_TABLES=late: a sweep looks once at the tables of what stayed unencrypted for long."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from typing import Any

import pytest

from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED, open_logger
from encryption_guard.settings import TableAudit
from encryption_guard.sweep.findings import (
    CREATED_WHILE_UNENCRYPTED,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    Finding,
    log_finding,
)
from tests.unit.fakes import ARN, FakeOssTables, Reply, forget_logger
from tests.unit.sweep.test_sweep import ORDERS, Guard

NAME = str(ARN)
# One second, six seconds, and two days before a sweep.
YOUNG, LATE, OLD = "2026-01-02T03:04:04Z", "2026-01-02T03:03:59Z", "2025-12-31T03:04:05Z"
EXEMPT = json.dumps([{"bucket": ARN.name, "reason": "a test"}])
REFUSED = Reply(403, b'{"message": "No."}', {"x-oss-error-type": "ForbiddenException"})


def service(created: str | None = OLD, *, encryption: str = "", **rest: Any) -> FakeOssTables:
    """A bucket of this time, with a table that shows an encryption."""
    known: dict[str, Any] = {
        "created": {NAME: created, ORDERS: created},
        "tables": {ORDERS: "AES256"},
    }
    return FakeOssTables({NAME: encryption}, **known | rest)


def guard_of(tables: FakeOssTables, audit: TableAudit = "late", **rest: Any) -> Guard:
    return Guard(tables, audit=audit, **rest)


def looked(guard: Guard, found: list[Finding]) -> bool:
    """Whether tables were asked for; a finding of a table says the same."""
    asked = bool(guard.service.asked_about("ListNamespaces"))
    assert asked == any(finding.kind == "table" for finding in found)
    guard.service.requests.clear()
    return asked


@pytest.mark.parametrize(
    ("created", "expected", "detail"),
    [
        (YOUNG, False, None),
        (LATE, True, CREATED_WHILE_UNENCRYPTED),
        (OLD, True, PERHAPS_CREATED_WHILE_UNENCRYPTED),
        (None, True, None),
    ],
    ids=["new", "late", "old", "nobody knows"],
)
def test_the_tables_of_what_was_late_are_looked_at(
    created: str | None, expected: bool, detail: str | None
) -> None:
    """Those of a bucket that was open for more than five seconds may have slipped in."""
    guard = guard_of(service(created))

    found = guard.sweep()

    tables = [finding for finding in found if finding.kind == "table"]
    assert looked(guard, found) is expected
    if detail:
        assert [(one.reason, one.detail) for one in tables] == [("made_before", detail)]


def test_they_are_looked_at_once() -> None:
    """The next sweep finds the bucket encrypted, as any other."""
    guard = guard_of(service())

    looks = [looked(guard, guard.sweep()) for _ in range(3)]

    assert looks == [True, False, False]


def test_after_each_removal_they_are_looked_at_again() -> None:
    """A removal that no event told is found by the next sweep, which knows since when at most."""
    guard = guard_of(service(encryption="AES256"))
    before = looked(guard, guard.sweep())
    found: list[Finding] = []
    looks = []
    for _ in range(2):
        guard.service.time.passed += 60
        guard.service.buckets[NAME] = ""
        guard.service.created[ORDERS] = guard.service.time.now().isoformat()
        guard.service.time.passed += 60
        found = guard.sweep()
        looks.append(looked(guard, found))

    assert (before, looks) == (False, [True, True])
    assert [finding.reason for finding in found] == ["drift", "made_before"]
    assert found[1].detail == PERHAPS_CREATED_WHILE_UNENCRYPTED


def test_what_could_not_be_confirmed_is_looked_at_when_it_is() -> None:
    """A PUT that is not read back leaves the look to the sweep that reads it."""
    # Before the PUT twice, and after it four times.
    unread = [Reply(200, b'{"encryptionConfiguration": {}}')] * 6
    guard = guard_of(service(troubles={"GetTableBucketEncryption": unread}))

    first = guard.sweep()
    early = looked(guard, first)
    second = guard.sweep()

    assert [finding.reason for finding in first] == ["not_confirmed"]
    assert (early, looked(guard, second)) == (False, True)


@pytest.mark.parametrize(
    ("tables", "rest"),
    [
        (service(), {"apply": False}),
        (service(), {"environment": {"GUARD_MODE": "detect"}}),
        (service(), {"environment": {"GUARD_EXEMPTIONS": EXEMPT}}),
        (service(encryption="AES256"), {}),
        (service(troubles={"PUT": [REFUSED]}), {}),
    ],
    ids=["a plan", "detect", "exempt", "encrypted before", "refused"],
)
def test_what_the_sweep_did_not_encrypt_is_not_looked_at(
    tables: FakeOssTables, rest: dict[str, Any]
) -> None:
    """Nothing is asked about tables where the sweep changed nothing."""
    guard = guard_of(tables, **rest)

    assert not looked(guard, guard.sweep())


def test_what_became_exempt_in_between_is_not_looked_at() -> None:
    """Whoever exempts a bucket does not want to hear of its tables."""
    guard = guard_of(service(troubles={"PUT": [REFUSED]}))
    guard.sweep()
    guard.environment = {"GUARD_EXEMPTIONS": EXEMPT}
    guard.service.buckets[NAME] = "AES256"

    assert not looked(guard, guard.sweep())


def test_without_an_audit_the_line_says_that_nobody_looked() -> None:
    """Once, where there was a reason to look."""
    guard = guard_of(service(), "false")

    found = [guard.one() for _ in range(2)]

    assert [finding.detail for finding in found] == [TABLES_NOT_CHECKED, None]
    assert not looked(guard, found)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a logger of this test alone writes."""
    forget_logger()
    yield io.StringIO()
    forget_logger()


@pytest.mark.parametrize(("created", "level"), [(LATE, "INFO"), (OLD, "WARNING")])
def test_a_removal_that_a_sweep_finds_is_a_warning(
    created: str, level: str, stream: io.StringIO
) -> None:
    """Somebody has to ask why; a new bucket whose event did not come is what sweeps are for."""
    found = guard_of(service(created), "false").one()

    log_finding(found, logger=open_logger(stream))

    assert (json.loads(stream.getvalue())["level"], found.outcome) == (level, "encrypted")
