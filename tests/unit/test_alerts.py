"""The alerts of template.yaml on the lines that the guard logs: what raises each, and what not."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.arn import Scope
from encryption_guard.enforcement import (
    AlreadyEncrypted,
    DeadLettered,
    Detected,
    Encrypted,
    Outcome,
    Skipped,
)
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.sweep.findings import Finding, log_finding
from tests.emulators.cloud import deployment
from tests.emulators.log_alerts import Alert, LogStore
from tests.emulators.serverless_devs.checks import indexed, made
from tests.unit.fakes import ARN, forget_logger

RESOURCES = deployment({"GUARD_ACTION_POLICY": "sls.builtin"})["resources"]
ALERTS = {
    alert["Detail"]["Name"].removeprefix("encryption-guard-"): alert["Detail"]
    for alert in made(RESOURCES, "ALIYUN::SLS::Alert")
}
ALICE = "ram-user:alice of 1234567890123456 from 203.0.113.9"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
OTHER = ARN._replace(name="other")


@dataclass
class Log:
    """What the functions have written, as records of the log service."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def outcome(self, outcome: Outcome, *, ago: float = 0.0, times: int = 1) -> None:
        """Log an outcome so many minutes ago."""
        for _ in range(times):
            stream = io.StringIO()
            forget_logger()
            log_outcome(outcome, logger=open_logger(stream))
            self._add(stream, ago)

    def finding(self, reason: str, *, ago: float = 0.0) -> None:
        """Log that a sweep encrypted the bucket, for this reason."""
        found = Finding(
            kind="bucket",
            scope=Scope.of(ARN),
            state="encrypted",
            outcome="encrypted",
            reason=reason,
            arn=ARN,
        )
        stream = io.StringIO()
        forget_logger()
        log_finding(found, logger=open_logger(stream))
        self._add(stream, ago)

    def _add(self, stream: io.StringIO, ago: float) -> None:
        line = json.loads(stream.getvalue())
        line["timestamp"] = (NOW - timedelta(minutes=ago)).isoformat()
        request = f"request-{len(self.records)}"
        self.records.append({"message": json.dumps(line), "requestId": request})

    def rows(self, name: str, store: LogStore) -> list[dict[str, Any]]:
        """What an alert tells of it now."""
        return Alert(ALERTS[name], store).rows(self.records, NOW)

    def risen(self, store: LogStore) -> set[str]:
        """The alerts that rise."""
        return {name for name in ALERTS if self.rows(name, store)}


@pytest.fixture
def log() -> Iterator[Log]:
    """A log of this test alone."""
    yield Log()
    forget_logger()


# Nobody knows whether the service splits a text of this index into words, and what a null is.
STORE = LogStore(indexed(RESOURCES))
both_readings = pytest.mark.parametrize(
    "store", [STORE, replace(STORE, splits=False, null="null")], ids=["words", "whole texts"]
)


def removed(kind: type[Outcome], event_id: str | None = "event-1", **rest: Any) -> Outcome:
    """The outcome of a removal by Alice."""
    known: dict[str, Any] = {"reason": "AES256", "arn": ARN, "by": ALICE, "cause": "drift"}
    return kind(**known | {"event_id": event_id} | rest)


RESTORED = removed(Encrypted, reason="drift", time_to_encrypt_ms=900)
FAILED = Skipped(reason="call_failed", event_id="event-1")
ORDINARY = (
    Encrypted(reason="created", arn=ARN, cause="created", time_to_encrypt_ms=59_999),
    AlreadyEncrypted(reason="AES256", arn=ARN, cause="created"),
    Skipped(reason="exempt: drift, with its encryption removed", arn=ARN, by=ALICE),
    Skipped(reason="gone", arn=ARN, by=ALICE, cause="drift"),
    DeadLettered(reason="rejected", arn=ARN, cause="created"),
)


@both_readings
def test_what_is_ordinary_raises_no_alert(log: Log, store: LogStore) -> None:
    """Nor do the words of an exemption's reason, which anybody may write."""
    for outcome in ORDINARY:
        log.outcome(outcome, times=2)
    log.outcome(FAILED, times=20)
    log.finding("created")

    assert log.risen(store) == set()


@both_readings
@pytest.mark.parametrize(
    "outcome",
    [
        RESTORED,
        removed(AlreadyEncrypted),
        removed(Detected, reason="would_encrypt"),
        removed(DeadLettered, reason="rejected"),
    ],
    ids=lambda outcome: outcome.outcome,
)
def test_a_removal_raises_its_own_alert(log: Log, outcome: Outcome, store: LogStore) -> None:
    """Whatever became of it; the alert has the bucket, and who did it."""
    log.outcome(outcome)

    (row,) = log.rows("removed", store)

    assert (row["arn"], row["who"]) == (str(ARN), ALICE)
    assert log.risen(store) == {"removed"}


@both_readings
def test_a_removal_that_only_a_sweep_has_found_raises_it_too(log: Log, store: LogStore) -> None:
    """Three regions publish no events."""
    log.finding("drift")

    assert log.risen(store) == {"removed"}


@both_readings
def test_each_bucket_is_an_alert_of_its_own(log: Log, store: LogStore) -> None:
    """Two removals of two buckets are two rows, and none of them is a second one."""
    log.outcome(RESTORED)
    log.outcome(removed(Encrypted, "event-2", reason="drift", arn=OTHER))

    assert {row["arn"] for row in log.rows("removed", store)} == {str(ARN), str(OTHER)}
    assert log.risen(store) == {"removed"}


AGAIN = removed(Encrypted, "event-2", reason="drift")
# Lines of one bucket, the minutes ago, and whether it was removed more than once.
SEQUENCES: dict[str, tuple[list[tuple[Outcome | str, float]], bool]] = {
    "two events": ([(RESTORED, 50), (AGAIN, 1)], True),
    "an hour between": ([(RESTORED, 61), (AGAIN, 0)], False),
    "one event, twice": ([(RESTORED, 50), (removed(AlreadyEncrypted), 49)], False),
    "a sweep, then its event": ([("drift", 50), (removed(AlreadyEncrypted), 45)], False),
    "two events, both after somebody else": (
        [(removed(AlreadyEncrypted), 50), (removed(AlreadyEncrypted, "event-2"), 40)],
        True,
    ),
    "two events in mode detect": (
        [(removed(Detected), 50), (removed(Detected, "event-2"), 40)],
        True,
    ),
    "two sweeps": ([("drift", 50), ("drift", 40)], True),
    "a sweep, and an event that encrypted": ([("drift", 50), (AGAIN, 40)], True),
    "events without an id": (
        [(removed(Encrypted, None), 50), (removed(Encrypted, None), 40)],
        True,
    ),
}


@both_readings
@pytest.mark.parametrize("case", SEQUENCES)
def test_the_second_removal_within_an_hour_raises_the_second_alert(
    log: Log, case: str, store: LogStore
) -> None:
    """One act is one, however many lines it has."""
    lines, is_again = SEQUENCES[case]
    for line, ago in lines:
        if isinstance(line, str):
            log.finding(line, ago=ago)
        else:
            log.outcome(line, ago=ago)

    assert [row["arn"] for row in log.rows("removed-again", store)] == [str(ARN)] * is_again


@both_readings
def test_a_flood_of_failed_calls_raises_an_alert(log: Log, store: LogStore) -> None:
    """Each of them starts the function; a few are everyday."""
    log.outcome(FAILED, times=21)

    assert log.risen(store) == {"failed-calls"}
    assert log.rows("failed-calls", store) == [{"failed_calls": 21}]
