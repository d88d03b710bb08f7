"""After somebody removed the encryption of a bucket: who, what became of it, and whose tables."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.enforcement import (
    AlreadyEncrypted,
    DeadLettered,
    Detected,
    Encrypted,
    KeptStronger,
    Outcome,
    Skipped,
    needs_table_audit,
)
from encryption_guard.enforcement.handler import to_audit
from encryption_guard.enforcement.policy import Cause
from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED, log_outcome, open_logger
from encryption_guard.settings import Settings
from tests.unit.enforcement.test_enforcement import Guard
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    START,
    FakeOssTables,
    Reply,
    creation_of,
    forget_logger,
)

REMOVAL = "DeleteTableBucketEncryption"
ALICE = {"type": "ram-user", "userName": "alice", "accountId": ACCOUNT}
BY = f"ram-user:alice of {ACCOUNT} from 203.0.113.9"
REMOVED_AT = datetime(2026, 1, 2, 3, 4, 4, tzinfo=timezone.utc)
MANAGED = ARN._replace(name="oss-managed-table-bucket")
FOREIGN = ARN._replace(account_id="99999")
EXEMPT = json.dumps([{"bucket": ARN.name, "reason": "drift tests"}])


def removal(arn: object = ARN, **record: object) -> dict[str, Any]:
    """The event of a removal by Alice, one second ago."""
    named: dict[str, Any] = {"userIdentity": ALICE, "sourceIpAddress": "203.0.113.9"}
    return creation_of(str(arn), **{"eventName": REMOVAL, **named, **record})


def one(
    event: object, service: FakeOssTables | None = None, environment: Mapping[str, str] = {}
) -> Outcome:
    """The outcome of an event."""
    guard = Guard(service or FakeOssTables(), environment)
    (outcome,) = guard.process(json.dumps(event).encode()).outcomes
    return outcome


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a logger of this test alone writes."""
    forget_logger()
    yield io.StringIO()
    forget_logger()


def logged(outcome: Outcome, stream: io.StringIO, **options: bool) -> dict[str, Any]:
    """The line of an outcome."""
    log_outcome(outcome, logger=open_logger(stream), **options)
    line: dict[str, Any] = json.loads(stream.getvalue())
    return line


REFUSED = {"PUT": [Reply(403, b'{"message": "No."}', {"x-oss-error-type": "Forbidden"})]}
# What happens after a removal: the event, the bucket's encryption, the setting, and the line.
AFTER: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, str], str, str]] = {
    "it is encrypted again": (removal(), {}, {}, "encrypted", "WARNING"),
    "somebody was faster": (
        removal(),
        {"buckets": {str(ARN): "AES256"}},
        {},
        "already_encrypted",
        "WARNING",
    ),
    "its owner chose KMS": (
        removal(),
        {"buckets": {str(ARN): "KMS"}},
        {},
        "kept_stronger",
        "WARNING",
    ),
    "its owner chose what nobody knows": (
        removal(),
        {"buckets": {str(ARN): "ROT13"}},
        {},
        "kept_stronger",
        "WARNING",
    ),
    "the guard only looks": (removal(), {}, {"GUARD_MODE": "detect"}, "detected", "WARNING"),
    "the guard may not": (removal(), {"troubles": REFUSED}, {}, "dead_lettered", "WARNING"),
    "the bucket is exempt": (removal(), {}, {"GUARD_EXEMPTIONS": EXEMPT}, "skipped", "INFO"),
    "the bucket is OSS's own": (removal(MANAGED), {}, {}, "skipped", "INFO"),
    "the bucket is gone": (removal(), {"buckets": {}}, {}, "skipped", "INFO"),
    "the bucket is another's": (removal(FOREIGN), {}, {}, "dead_lettered", "WARNING"),
    "nobody knows the bucket": (removal(responseElements={}), {}, {}, "dead_lettered", "WARNING"),
}
NOT_PROTECTED = {"the bucket is another's", "nobody knows the bucket"}
after_removal = pytest.mark.parametrize("case", AFTER)


@after_removal
def test_whatever_comes_after_a_removal_the_line_says_who_did_it(
    case: str, stream: io.StringIO
) -> None:
    """The line of a protected bucket is a warning, and is found by its message."""
    event, service, environment, kind, level = AFTER[case]

    outcome = one(event, FakeOssTables(**service), environment)
    line = logged(outcome, stream)

    assert (line["outcome"], line["by"], line["level"]) == (kind, BY, level)
    assert outcome.as_dict()["by"] == BY
    is_protected = level == "WARNING" and case not in NOT_PROTECTED
    assert (line["message"] == "encryption removed") is is_protected


@pytest.mark.parametrize(
    "event",
    [
        creation_of(ARN, userIdentity=ALICE),
        creation_of(ARN, userIdentity=ALICE, eventName="DeleteTableBucket"),
        removal(errorCode="ForbiddenException", responseElements=None),
        [1],
    ],
    ids=["a creation", "another call", "a removal that failed", "no event"],
)
def test_only_a_removal_tells_who_did_it(event: object) -> None:
    """Otherwise nobody did anything that has to be asked about."""
    outcome = one(event)

    assert outcome.by is None
    assert not isinstance(outcome, Encrypted) or outcome.cause == "created"


def test_a_removal_by_nobody_is_a_warning_too(stream: io.StringIO) -> None:
    """An event without an identity says that it happened."""
    outcome = one(removal(userIdentity=None, sourceIpAddress=None))

    line = logged(outcome, stream)

    assert (line["message"], line["by"], line["level"]) == ("encryption removed", None, "WARNING")


@after_removal
def test_the_tables_are_looked_at_unless_somebody_has_to_act_first(case: str) -> None:
    """However soon it was encrypted again; after a dead letter the redrive looks."""
    event, service, environment, kind, _ = AFTER[case]

    outcome = one(event, FakeOssTables(**service), environment)

    assert needs_table_audit(outcome) is (kind not in ("skipped", "dead_lettered"))


@pytest.mark.parametrize("case", ["it is encrypted again", "somebody was faster"])
def test_the_time_without_encryption_begins_with_the_removal(case: str) -> None:
    """It ends when the service confirmed the encryption, or at the latest when it was seen."""
    event, service, environment, _, _ = AFTER[case]

    outcome = one(event, FakeOssTables(**service), environment)

    assert (outcome.unencrypted_since, outcome.unencrypted_until) == (REMOVED_AT, START)


def encrypted(milliseconds: int | None, cause: Cause | None = "created") -> Encrypted:
    return Encrypted(reason="created", time_to_encrypt_ms=milliseconds, cause=cause)


@pytest.mark.parametrize(
    ("outcome", "needed"),
    [
        (encrypted(5000), False),
        (encrypted(5001), True),
        (encrypted(None), True),
        (encrypted(0, "drift"), True),
        (AlreadyEncrypted(reason="AES256", cause="created"), False),
        (AlreadyEncrypted(reason="AES256", cause="drift"), True),
        (KeptStronger(reason="KMS", cause="created"), False),
        (KeptStronger(reason="KMS", cause="drift"), True),
        (Detected(reason="would_encrypt", cause="created"), False),
        (Detected(reason="would_encrypt", cause="drift"), True),
        (DeadLettered(reason="rejected", cause="drift"), False),
        (Skipped(reason="gone", cause="drift"), False),
    ],
)
def test_a_look_at_tables_has_a_cause(outcome: Outcome, needed: bool, stream: io.StringIO) -> None:
    """It is needed after a late encryption and after a removal; without it the line says so."""
    line = logged(outcome, stream, audits_tables=False)

    assert needs_table_audit(outcome) is needed
    assert line.get("detail") == (TABLES_NOT_CHECKED if needed else None)


def test_a_line_says_nothing_of_tables_that_are_looked_at(stream: io.StringIO) -> None:
    """What was found there are lines of their own."""
    assert "detail" not in logged(encrypted(None), stream)


@pytest.mark.parametrize(("audit", "looks"), [("late", True), ("true", True), ("false", False)])
def test_the_setting_decides_about_the_look(audit: str, looks: bool) -> None:
    """Only `false` goes without."""
    settings = Settings.from_environment({"GUARD_AUDIT_TABLES": audit})
    late = encrypted(timedelta(minutes=1) // timedelta(milliseconds=1))

    assert to_audit([late, encrypted(1)], settings) == ((late,) if looks else ())
