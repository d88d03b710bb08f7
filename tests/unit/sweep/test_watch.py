"""The watch: regions are listed again and again, and each new bucket is checked once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from itertools import repeat
from typing import Any

import httpx
import pytest

from encryption_guard.arn import Scope
from encryption_guard.http.retries import Throttle
from encryption_guard.sweep.findings import Finding, Memory, Retry, Slow
from encryption_guard.sweep.watch import LatestFindings, Pace, RegionWatch
from encryption_guard.sweep.work_lists import Results
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    Broken,
    FakeOssTables,
    FakeTime,
    Reply,
)
from tests.unit.sweep.watching import GET, HERE, LIST, PUT, Watching, at_list, bug, finding

THERE = Scope(ACCOUNT, "us-east-1")
START = 1000.0  # where FakeTime begins
DOWN = Reply(503, b"{}", {"x-oss-request-id": "OSS-9"})


# When a region is listed.


@dataclass
class Watched:
    """One region; each list takes some seconds, may start a pause, and ends seconds after that."""

    takes: float = 0.0
    ends: float = 0.0
    pauses: list[float] = field(default_factory=list)
    time: FakeTime = field(default_factory=FakeTime)
    lists: list[float] = field(default_factory=list)
    paces: dict[Scope, Slow] = field(default_factory=dict)

    def run(self, pace: Pace) -> list[float]:
        """The seconds after the start at which the region was listed."""
        clock = self.time.as_clock()
        throttle = Throttle(clock)

        def read() -> Results:
            self.lists.append(self.time.passed)
            self.time.passed += self.takes
            if self.pauses and (pause := self.pauses.pop(0)):
                throttle.hold(pause)
            self.time.passed += self.ends
            return []

        step = RegionWatch(HERE, pace, clock, throttle, self.paces, read).first()
        while step:
            assert list(step.run(None)) == []  # needs no session
            assert step.again
            step = step.again()
        return self.lists


@pytest.mark.parametrize("seconds", [1, 5, 7, 30, 60])
def test_a_region_is_listed_every_few_seconds_until_the_end(seconds: int) -> None:
    """The last list is at the end: the next call of the timer follows within an interval."""
    lists = Watched().run(Pace(seconds, START, START + 55))

    assert lists == sorted({*range(0, 55, seconds), 55})
    assert 60 - lists[-1] <= max(seconds, 5)


def test_a_full_sweep_lists_first() -> None:
    """Then the watch begins one interval later."""
    assert Watched().run(Pace(5, START + 5, START + 20)) == [5, 10, 15, 20]


def test_nothing_is_listed_without_time() -> None:
    """Such as after a cold start that took all of it."""
    assert Watched().run(Pace(5, START, START - 1)) == []


def test_a_list_that_takes_longer_than_the_pace_leaves_out_the_next_ones() -> None:
    """It is not followed by those that were missed."""
    assert Watched(takes=7).run(Pace(5, START, START + 30)) == [0, 7, 14, 21, 28]
    assert Watched(takes=7).run(Pace(5, START, START + 28)) == [0, 7, 14, 21, 28]


def test_a_region_that_throttles_is_asked_less_often() -> None:
    """Never before its pause is over; the first list without a pause ends that."""
    lists = Watched(pauses=[1, 1, 17, 0]).run(Pace(5, START, START + 120))

    assert lists[:6] == [0, 10, 30, 70, 75, 80]


def test_a_region_that_throttles_for_long_is_asked_once_a_minute() -> None:
    """It may have recovered."""
    lists = Watched(pauses=[1.0] * 20).run(Pace(5, START, START + 400))

    assert lists == [0, 10, 30, 70, 130, 190, 250, 310, 370]


def test_a_throttled_list_is_noticed_although_its_pause_is_over() -> None:
    """Without Retry-After the pause is below 0.2 s, less than a slow instance needs to see it."""
    lists = Watched(pauses=[0.002] * 12, ends=0.05).run(Pace(5, START, START + 55))

    assert len(lists) < 12


# What is reported of it.


UNLISTED: dict[str, Any] = {"kind": "region", "arn": None, "reason": "not_listed"}
WELL = finding(state="encrypted", outcome="encrypted", reason="created")


@pytest.fixture
def reported() -> list[Finding]:
    """The findings that were passed on."""
    return []


@pytest.fixture
def latest(reported: list[Finding]) -> LatestFindings:
    """What passes them on."""
    return LatestFindings(reported.append)


def test_a_bucket_that_succeeds_at_last_has_no_failure(
    latest: LatestFindings, reported: list[Finding]
) -> None:
    """It is reported at once, and once."""
    for found in (finding(), finding(outcome="not_reached"), WELL):
        latest.add(found)
    latest.end()

    assert reported == [WELL]


def test_a_bucket_that_fails_again_and_again_is_one_failure(
    latest: LatestFindings, reported: list[Finding]
) -> None:
    """The last one; what happened to other buckets is not delayed."""
    last = finding(detail="The third time.")
    for found in (finding(), finding(detail="The second time."), last):
        latest.add(found)
    assert reported == []
    latest.end()

    assert reported == [last]


def test_a_list_that_succeeds_forgets_that_it_failed(
    latest: LatestFindings, reported: list[Finding]
) -> None:
    """Of this region alone; a bucket that was not read is still not read."""
    elsewhere = finding(THERE, **UNLISTED)
    for found in (finding(**UNLISTED), elsewhere, finding()):
        latest.add(found)
    latest.forget_lists(HERE)
    latest.end()

    assert reported == [elsewhere, finding()]


def test_each_entry_that_cannot_be_read_is_reported(
    latest: LatestFindings, reported: list[Finding]
) -> None:
    """They have no name, and differ by what is wrong with them."""
    entries = [finding(**UNLISTED | {"reason": "unreadable", "detail": word}) for word in "ab"]
    for found in entries:
        latest.add(found)
    latest.end()

    assert reported == entries


def test_tables_are_reported_at_once(latest: LatestFindings, reported: list[Finding]) -> None:
    """A watch looks at the tables of a bucket once."""
    table = finding(kind="table", namespace="web", table="clicks")
    latest.add(table)

    assert reported == [table]


# With a service.


def outcomes(findings: list[Finding]) -> list[tuple[str, str, str]]:
    return sorted((each.bucket or "", each.outcome, each.found_by or "") for each in findings)


class Growing(FakeOssTables):
    """A region in which buckets appear, one after each of its next lists; None is no bucket."""

    def __init__(self, *names: str | None) -> None:
        super().__init__({})
        self.names = list(names)

    def answer(self, request: httpx.Request) -> Reply:
        answer = super().answer(request)
        if self.operation(request) == LIST and self.names and (name := self.names.pop(0)):
            self.buckets[str(ARN._replace(name=name))] = ""
        return answer


def test_new_buckets_are_encrypted_while_the_watch_goes_on() -> None:
    """Each is read and encrypted once, and no list is left out."""
    watching = Watching(Growing("first", "second", "third"))

    found = watching.run()

    names = ("first", "second", "third")
    assert outcomes(found) == sorted((name, "encrypted", "watch") for name in names)
    assert set(watching.service.buckets.values()) == {"AES256"}
    assert (watching.asked(LIST), watching.asked(PUT)) == (12, 3)


def test_a_full_sweep_and_the_watch_share_what_they_have_checked() -> None:
    """Each bucket is read once, whichever list shows it first; one that appears later is found."""
    service = Growing(None, None, "new")
    service.buckets |= {str(ARN._replace(name=f"old-{n}")): "AES256" for n in range(3)}
    watching = Watching(service)

    found = watching.run(reads_all=True)

    done = {name: outcome for name, outcome, _ in outcomes(found)}
    old = {f"old-{n}": "already_encrypted" for n in range(3)}
    assert (len(found), done) == (4, {"new": "encrypted", **old})
    assert watching.asked(GET) == 3 + 3  # a new one is read, read before its PUT, and read back


def test_what_an_earlier_call_has_checked_is_not_read_again() -> None:
    """Until the next full sweep."""
    watching = Watching(FakeOssTables())
    watching.run()
    before = watching.asked(GET)

    assert watching.run() == []
    assert watching.asked(GET) == before
    assert watching.asked(LIST) == 24


def test_a_bucket_that_could_not_be_read_is_checked_again() -> None:
    """In the same call, so that it stays open for seconds and not for a minute."""
    service = FakeOssTables(troubles={GET: [DOWN] * 4})
    watching = Watching(service)

    found = watching.run()

    assert outcomes(found) == [(ARN.name, "encrypted", "watch")]


def test_a_bucket_that_always_fails_is_checked_a_few_times_and_reported_once() -> None:
    """The pause doubles: a thousand such buckets must not fill the time."""
    watching = Watching(FakeOssTables(troubles={GET: repeat(DOWN)}))

    found = watching.run()

    assert outcomes(found) == [(ARN.name, "failed", "watch")]
    # Four tries of each check.
    assert watching.asked(GET) <= 4 * 5


def test_a_bucket_is_not_read_within_the_pause_after_a_failed_check() -> None:
    """Which an earlier call of the timer may have started."""
    created = datetime(2026, 1, 2, tzinfo=timezone.utc)
    service = FakeOssTables(created={str(ARN): created.isoformat()})
    watching = Watching(service, Memory(failed={(ARN, created): Retry(5.0, START + 4.0)}))

    watching.run(length=0)
    assert (watching.asked(LIST), watching.asked(GET)) == (1, 0)

    service.time.passed = 4.0
    watching.run(length=0)
    assert service.buckets[str(ARN)] == "AES256"


def test_a_refused_bucket_is_one_dead_letter() -> None:
    """The next full sweep tries again."""
    refused = Reply(403, b'{"message": "No."}', {"x-oss-error-type": "Denied"})
    watching = Watching(FakeOssTables(troubles={PUT: repeat(refused)}))

    found = watching.run()

    assert outcomes(found) == [(ARN.name, "dead_lettered", "watch")]
    assert (watching.asked(PUT), len(watching.box.letters)) == (1, 1)


def test_a_list_that_fails_is_not_repeated_within_its_interval() -> None:
    """At most so many requests a minute as the setting allows; the region is one problem."""
    watching = Watching(FakeOssTables(troubles={LIST: repeat(Broken(httpx.ReadError))}))

    (found,) = watching.run()

    assert (found.kind, found.outcome, found.reason) == ("region", "failed", "not_listed")
    assert watching.asked(LIST) == 12


def test_a_list_that_fails_once_is_no_problem() -> None:
    """The next one shows all buckets."""
    watching = Watching(FakeOssTables(troubles={LIST: [Broken(httpx.ReadError)]}))

    assert outcomes(watching.run()) == [(ARN.name, "encrypted", "watch")]


def test_all_pages_of_a_list_are_read_each_time() -> None:
    """A new bucket may be on any of them."""
    names = [f"bucket-{number}" for number in range(5)]
    service = FakeOssTables({str(ARN._replace(name=name)): "" for name in names}, page_size=2)
    watching = Watching(service)

    found = watching.run()

    assert outcomes(found) == [(name, "encrypted", "watch") for name in names]
    assert watching.asked(LIST) == 3 * 12


def test_a_bug_in_a_list_does_not_end_the_watch() -> None:
    """It is raised at the end, after all that could be done."""
    service = FakeOssTables()
    at_list(service, 1, bug)
    watching = Watching(service)

    with pytest.raises(KeyError, match="a bug"):
        watching.run()

    assert service.buckets[str(ARN)] == "AES256"
    assert watching.asked(LIST) == 12


def test_a_bucket_that_was_created_again_is_checked_again() -> None:
    """The service has another ID for it, and the same name."""
    service = FakeOssTables(created={str(ARN): "2026-01-02T03:04:04Z"})
    watching = Watching(service)
    watching.run()
    service.buckets[str(ARN)] = ""
    service.created[str(ARN)] = "2026-01-02T04:04:04Z"

    assert outcomes(watching.run()) == [(ARN.name, "encrypted", "watch")]
