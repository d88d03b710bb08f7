"""The alerts and charts of template.yaml on the lines that the guard logs."""

from __future__ import annotations

import io
import json
import re
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
from encryption_guard.errors import Unavailable
from encryption_guard.sweep.findings import Finding, log_finding
from encryption_guard.sweep.shares import Share, start, superseded
from tests.documents import REPOSITORY
from tests.emulators.cloud import deployment
from tests.emulators.log_alerts import Alert, Chart, LogStore
from tests.emulators.serverless_devs.checks import indexed, made
from tests.unit.fakes import ARN, forget_logger

RESOURCES = deployment({"GUARD_ACTION_POLICY": "sls.builtin"})["resources"]
ALERTS = {
    alert["Detail"]["Name"].removeprefix("encryption-guard-"): alert["Detail"]
    for alert in made(RESOURCES, "ALIYUN::SLS::Alert")
}
(DASHBOARD,) = made(RESOURCES, "ALIYUN::SLS::Dashboard")
CHARTS = {chart["title"]: chart for chart in DASHBOARD["Charts"]}
ALICE = "ram-user:alice of 1234567890123456 from 203.0.113.9"
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=timezone.utc)
OTHER = ARN._replace(name="other")


def refuse(_: bytes) -> str:
    """Function Compute does not take the call."""
    raise Unavailable("InvokeFunction answered 503.")


@dataclass
class Log:
    """What the functions have written, as records of the log service."""

    records: list[dict[str, Any]] = field(default_factory=list)

    def outcome(
        self, outcome: Outcome, *, ago: float = 0.0, times: int = 1, way: str | None = None
    ) -> None:
        """Log an outcome so many minutes ago."""
        for _ in range(times):
            stream = io.StringIO()
            forget_logger()
            log_outcome(outcome, logger=open_logger(stream))
            self._add(stream, ago, way)

    def finding(
        self,
        reason: str,
        *,
        ago: float = 0.0,
        outcome: str = "encrypted",
        ms: int | None = None,
        way: str | None = None,
        times: int = 1,
    ) -> None:
        """Log what a sweep did about the bucket, and the reason."""
        found = Finding(
            kind="bucket",
            scope=Scope.of(ARN),
            state="encrypted" if outcome == "encrypted" else "not_encrypted",
            outcome=outcome,
            reason=reason,
            arn=ARN,
            time_to_encrypt_ms=ms,
        )
        for _ in range(times):
            stream = io.StringIO()
            forget_logger()
            log_finding(found, logger=open_logger(stream))
            self._add(stream, ago, way)

    def lost(self, *ago: float, reason: str = "superseded") -> None:
        """Log a share that was lost, at each of these minutes ago, as a sweep does."""
        if reason == "not_started":
            (found,) = start([Share((ARN.account_id,), NOW)], refuse)
        else:
            late = superseded("share 0a1b2c", NOW - timedelta(seconds=61), NOW)
            assert late
            found = late
        self.logged(found, *ago)

    def logged(self, found: Finding, *ago: float) -> None:
        """Log a finding at each of these minutes ago."""
        for minute in ago:
            stream = io.StringIO()
            forget_logger()
            log_finding(found, logger=open_logger(stream))
            self._add(stream, minute)

    def sweeps(self, *ago: float, message: str = "watch finished") -> None:
        """Log the end of a sweep, at each of these minutes ago."""
        for minute in ago:
            stream = io.StringIO()
            forget_logger()
            open_logger(stream).info(message, extra={"full": message.startswith("sweep")})
            self._add(stream, minute)

    def _add(self, stream: io.StringIO, ago: float, way: str | None = None) -> None:
        line = json.loads(stream.getvalue())
        line["timestamp"] = (NOW - timedelta(minutes=ago)).isoformat()
        # Without a way it is a line of an earlier version.
        line.pop("found_by", None)
        if way:
            line["found_by"] = way
        request = f"request-{len(self.records)}"
        self.records.append({"message": json.dumps(line), "requestId": request})

    def rows(self, name: str, store: LogStore) -> list[dict[str, Any]]:
        """What an alert tells of it now."""
        return Alert(ALERTS[name], store).rows(self.records, NOW)

    def risen(self, store: LogStore) -> set[str]:
        """The alerts that rise."""
        alerts = {name: Alert(detail, store) for name, detail in ALERTS.items()}
        return {name for name, alert in alerts.items() if alert.is_raised(self.records, NOW)}

    def shown(self, title: str, store: LogStore) -> list[dict[str, Any]]:
        """What a chart shows of it now."""
        return Chart(CHARTS[title], store).rows(self.records, NOW)


@pytest.fixture
def log() -> Iterator[Log]:
    """A log of this test alone, in which a sweep ended each minute."""
    log = Log()
    log.sweeps(*range(11))
    yield log
    forget_logger()


# Nobody knows whether the service splits a text of this index into words, what a null is, and
# whether a count of nothing is a row.
STORE = LogStore(indexed(RESOURCES))
both_readings = pytest.mark.parametrize(
    "store",
    [STORE, replace(STORE, splits=False, null="null", counts_nothing=False)],
    ids=["words", "whole texts"],
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


# The minutes ago at which a share was lost, and whether the alert rises.
LOSSES: dict[str, tuple[list[float], bool]] = {
    "one of twenty each minute": ([*range(10)], True),
    "three": ([0, 4, 9], True),
    "two, as after two deaths": ([0, 4], False),
    "three in a quarter of an hour": ([0, 5, 14], False),
}


@both_readings
@pytest.mark.parametrize("reason", ["superseded", "not_started"])
@pytest.mark.parametrize("case", LOSSES)
def test_lost_shares_raise_an_alert(log: Log, case: str, reason: str, store: LogStore) -> None:
    """Although other shares end each minute; a single one is ordinary."""
    ago, is_raised = LOSSES[case]
    log.lost(*ago, reason=reason)

    assert log.risen(store) == ({"lost-shares"} if is_raised else set())


@both_readings
def test_other_findings_about_accounts_are_no_lost_shares(log: Log, store: LogStore) -> None:
    """An account without the role is named by the sweep and by status, each minute."""
    for reason in ("not_prepared", "superseded"):
        found = Finding.of_accounts(ARN.account_id, kind="account", reason=reason, detail="Why.")
        log.logged(found, *range(10))

    assert log.risen(store) == set()


# The minutes ago at which a sweep ended, and whether the alert on silence rises.
SILENCES: dict[str, tuple[list[float], bool]] = {
    "each minute": ([*range(30)], False),
    "nine minutes apart": ([0.5, 9.5], False),
    "none for five minutes": ([*range(6, 30)], False),
    "none for ten minutes": ([*range(11, 30)], True),
    "none ever": ([], True),
}


@both_readings
@pytest.mark.parametrize("message", ["sweep finished", "watch finished"])
@pytest.mark.parametrize("case", SILENCES)
def test_ten_minutes_without_a_sweep_raise_an_alert(
    case: str, message: str, store: LogStore
) -> None:
    """Either line shows that the sweep is alive; no other line does."""
    ago, is_silent = SILENCES[case]
    log = Log()
    log.sweeps(*ago, message=message)
    log.finding("created")
    log.sweeps(0, 5, 9, message="table audit finished")
    forget_logger()

    assert log.risen(store) == ({"silent"} if is_silent else set())


@both_readings
@pytest.mark.parametrize(("first_line", "is_silent"), [(1, False), (4, False), (6, True)])
def test_a_new_deployment_raises_no_alert(
    first_line: int, store: LogStore, *, is_silent: bool
) -> None:
    """As long as its function logs within five minutes after the first check."""
    created, log = NOW - timedelta(minutes=5), Log()
    log.sweeps(*range(5 - first_line, -1, -1))
    forget_logger()
    alert = Alert(ALERTS["silent"], store)

    checks = [alert.is_raised(log.records, at, created=created) for at in (created, NOW)]

    assert checks == [False, is_silent]


# The charts.


@both_readings
@pytest.mark.parametrize("title", CHARTS)
def test_a_chart_of_an_empty_log_can_be_drawn(title: str, store: LogStore) -> None:
    """A new deployment has no line, and no chart fails for it."""
    assert Log().shown(title, store) == []


@both_readings
def test_encryptions_are_counted_by_way(log: Log, store: LogStore) -> None:
    """Those of lines without a way, which an older version wrote, are counted too."""
    log.outcome(ORDINARY[0], times=2, way="event")
    log.outcome(RESTORED, way="event")
    log.finding("created", way="watch", times=4)
    log.finding("drift", way="sweep", ago=9 * 1440)
    log.outcome(ORDINARY[0])
    log.outcome(ORDINARY[1], way="event")

    assert log.shown("encryptions-by-way", store) == [
        {"way": "watch", "encryptions": 4},
        {"way": "event", "encryptions": 3},
        {"way": "unknown", "encryptions": 1},
    ]


@both_readings
def test_the_time_to_encrypt_is_shown_by_way(log: Log, store: LogStore) -> None:
    """Median and 95th percentile of new buckets: an old one would show its age."""
    for number in range(1, 101):
        log.finding("created", way="watch", ms=number * 10)
    log.finding("drift", way="watch", ms=90_000_000)
    log.outcome(ORDINARY[0], way="event")

    assert log.shown("time-to-encrypt", store) == [
        {"way": "event", "median_ms": 59_999, "p95_ms": 59_999, "longest_ms": 59_999},
        {"way": "watch", "median_ms": 500, "p95_ms": 950, "longest_ms": 1000},
    ]


@both_readings
def test_dead_letters_are_shown_by_hour(log: Log, store: LogStore) -> None:
    """A sweep names a waiting one each time, so a bucket, or an event without one, counts once."""
    log.finding("rejected", outcome="dead_lettered", ago=1, times=3)
    log.outcome(removed(DeadLettered, reason="rejected"), ago=2)
    log.finding("rejected", outcome="dead_lettered", ago=70)
    for event_id in ("event-7", "event-7", "event-8", None):
        log.outcome(DeadLettered(reason="invalid_event", event_id=event_id), ago=75)

    assert log.shown("dead-letters", store) == [
        {"since": "2026-11-22 10:00", "dead_letters": 4},
        {"since": "2026-11-22 11:00", "dead_letters": 1},
    ]


@both_readings
def test_removals_are_shown_with_bucket_and_person(log: Log, store: LogStore) -> None:
    """The latest first."""
    log.outcome(RESTORED, ago=90)
    log.finding("drift", ago=80)
    log.outcome(removed(Detected, "event-2", arn=OTHER, by=None), ago=5)
    log.outcome(ORDINARY[2])

    assert log.shown("encryptions-removed", store) == [
        {"arn": str(OTHER), "who": None, "log_lines": 1, "last_seen": "2026-11-22 11:55"},
        {"arn": str(ARN), "who": ALICE, "log_lines": 2, "last_seen": "2026-11-22 10:40"},
    ]


@both_readings
def test_the_age_of_the_last_sweep_is_shown(store: LogStore) -> None:
    """Of a sweep and of a watch, each by itself."""
    log = Log()
    log.sweeps(4, 9, message="sweep finished")
    log.sweeps(1, 2, 3)

    assert log.shown("last-sweep", store) == [
        {"line": "watch finished", "age_seconds": 60, "last_seen": "2026-11-22 11:59"},
        {"line": "sweep finished", "age_seconds": 240, "last_seen": "2026-11-22 11:56"},
    ]


def test_the_documented_queries_are_those_of_the_dashboard() -> None:
    """Whoever has no dashboard pastes the same."""
    page = (REPOSITORY / "docs" / "operate.md").read_text("utf-8")
    section = re.split(r"^## ", page.partition("\n## The dashboard\n")[2], flags=re.MULTILINE)[0]
    pasted = re.findall(r"```sql\n(.*?)\n```", section, flags=re.DOTALL)
    queries = [chart["search"]["query"] for chart in CHARTS.values()]

    assert [" ".join(query.split()) for query in pasted] == queries
