"""The watch where buckets come and go, services hang or throttle, and calls follow each other."""

from __future__ import annotations

import json
import threading
import time as real
from dataclasses import dataclass
from itertools import repeat
from typing import Any

import httpx
import pytest

from encryption_guard.arn import Scope
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    FakeOssTables,
    FakeTime,
    Reply,
)
from tests.unit.sweep.watching import GET, LIST, PUT, Watching, at_list, bug

DOWN = Reply(503, b"{}", {"x-oss-request-id": "OSS-9"})
LATE, FRESH = "2026-01-02T03:00:00Z", "2026-01-02T03:04:04Z"


@dataclass
class Paced(FakeTime):
    """Whoever waits for seconds lets the others work in the meantime."""

    def sleep(self, seconds: float) -> None:
        if seconds >= 2:
            real.sleep(0.05)
        super().sleep(seconds)


def entry(created: str | None, name: str = ARN.name, ident: str | None = None) -> dict[str, Any]:
    arn = ARN._replace(name=name)
    told = {"arn": str(arn), "name": name, "type": "customer"}
    if created:
        told["createdAt"] = created
    if ident:
        told["tableBucketId"] = ident
    return told


class Scripted(FakeOssTables):
    """Its lists are these pages, the last one again and again; `before` runs before each list."""

    def __init__(self, *pages: Any, **rest: Any) -> None:
        super().__init__(**rest)
        self.pages = list(pages)

    def answer(self, request: httpx.Request) -> Reply:
        answer = super().answer(request)
        if self.operation(request) != LIST or answer.status != 200:
            return answer
        page = self.pages.pop(0) if len(self.pages) > 1 else self.pages[0]
        return Reply(200, json.dumps(page).encode(), answer.headers)


def test_a_bucket_created_again_between_two_pages_is_checked_in_the_same_call() -> None:
    """It has the name of the deleted one, which the page before showed."""
    first = {"tableBuckets": [entry(LATE, ident="id-1")], "continuationToken": "more"}
    second = {"tableBuckets": [entry(FRESH, ident="id-2")]}
    watching = Watching(Scripted(first, second, time=Paced()))

    watching.run(reads_all=True)

    # The whole lists that followed do not have the first one.
    assert watching.memory.checked == {(ARN, "id-2")}


def test_a_bug_on_a_later_page_leaves_no_bucket_reserved() -> None:
    """What the first page showed is checked after the next list."""
    names = ("aaa", "b", "bbb")  # the second one is no name of a bucket
    service = FakeOssTables(
        {str(ARN._replace(name=name)): "" for name in names}, page_size=1, time=Paced()
    )
    at_list(service, 3, bug)
    with pytest.raises(KeyError):
        Watching(service).run()

    assert list(service.buckets.values()) == ["AES256", "", "AES256"]


def test_a_watch_without_time_lists_nothing() -> None:
    """Such as of a function whose time-out is two seconds; no region throttles."""
    watching = Watching(FakeOssTables())

    assert watching.run(length=-1) == []
    assert watching.service.operations() == []


def test_a_region_that_throttles_beyond_the_call_is_reported() -> None:
    """It was not listed, and the result must not say that all is well."""
    service = FakeOssTables(troubles={LIST: [Reply(429, b"{}", {"retry-after": "3600"})]})
    watching = Watching(service)
    watching.run()

    (found,) = watching.run()

    assert (found.kind, found.outcome, found.reason) == ("region", "not_reached", "throttled")


def test_the_list_of_an_audit_does_not_hide_that_a_region_could_not_be_listed() -> None:
    """Only a list of buckets tells that the region can be listed again."""
    service = FakeOssTables({str(ARN): "AES256"}, created={str(ARN): LATE}, time=Paced())
    is_last = threading.Event()
    answered = service.answer

    def answer(request: httpx.Request) -> Reply:
        operation = service.operation(request)
        if operation == LIST and service.operations().count(LIST) > 1:
            if service.time.passed >= 55:
                is_last.set()
            raise httpx.ReadError("gone")
        if operation == "ListNamespaces":  # an audit that takes longer than the watch
            assert is_last.wait(10)
            real.sleep(0.2)
        return answered(request)

    service.answer = answer  # type: ignore[method-assign]
    found = Watching(service, audit="true").run(reads_all=True)

    assert [each.reason for each in found if each.kind == "region"] == ["not_listed"]


def test_a_bucket_that_was_deleted_after_a_failure_is_no_problem() -> None:
    """Eleven later lists show that it does not exist."""
    service = FakeOssTables(troubles={GET: [DOWN] * 4}, time=Paced())
    at_list(service, 2, service.buckets.clear)
    watching = Watching(service)
    found = watching.run()

    assert service.operations().count(LIST) > 6
    assert [(each.bucket, each.outcome) for each in found] == []
    assert watching.memory.failed == {}


def test_a_late_audit_that_failed_is_done_by_the_next_full_sweep() -> None:
    """Nobody else would ever look at these tables."""
    service = FakeOssTables(
        created={str(ARN): LATE, (str(ARN), "web", "clicks"): LATE},
        tables={(str(ARN), "web", "clicks"): ""},
        troubles={"ListNamespaces": [DOWN] * 4},
    )
    watching = Watching(service)
    first = watching.run(reads_all=True)
    assert [each.reason for each in first if each.kind == "table"] == ["not_listed"]

    again = [*watching.run(), *watching.run(reads_all=True)]

    assert [each.table for each in again if each.kind == "table"] == ["clicks"]


@pytest.mark.parametrize(("asked", "minutes", "most"), [("1", 10, 15), ("3600", 3, 1)])
def test_a_region_that_throttles_is_listed_less_often_by_the_calls_of_a_timer(
    asked: str, minutes: int, most: int
) -> None:
    """As docs/operate.md has it: down to once a minute, and never before the pause is over."""
    service = FakeOssTables(troubles={LIST: repeat(Reply(429, b"{}", {"retry-after": asked}))})
    watching = Watching(service)
    start = service.time.monotonic()
    for minute in range(minutes):
        service.time.sleep(max(start + 60 * minute - service.time.monotonic(), 0))
        watching.run()

    assert 1 <= service.operations().count(LIST) <= most


def test_tables_of_a_bucket_that_was_created_again_are_audited() -> None:
    """They have the names of the deleted ones."""
    created: dict[str | tuple[str, str, str], str | None] = {
        str(ARN): "2026-01-02T03:03:04Z",
        (str(ARN), "web", "clicks"): FRESH,
    }
    service = FakeOssTables(created=created, tables={(str(ARN), "web", "clicks"): ""}, time=Paced())

    def create_again() -> None:
        service.buckets[str(ARN)] = ""
        service.created[str(ARN)] = "2026-01-02T03:04:05Z"

    at_list(service, 4, create_again)
    found = Watching(service).run()

    assert [each.outcome for each in found if each.kind == "bucket"] == ["encrypted"] * 2
    assert [each.outcome for each in found if each.table] == ["unprotected"] * 2


def test_a_bucket_without_id_and_time_is_checked_again_after_it_was_gone() -> None:
    """A list without it tells that the next one is another bucket."""
    there: dict[str, Any] = {"tableBuckets": [entry(None)]}
    gone: dict[str, Any] = {"tableBuckets": []}
    service = Scripted(there, gone, there, time=Paced())
    at_list(service, 3, lambda: service.buckets.update({str(ARN): ""}))
    Watching(service).run()

    assert service.buckets[str(ARN)] == "AES256"


class RealTime(FakeTime):
    """It passes by itself."""

    _begin = real.monotonic()

    def now(self) -> Any:
        self.passed = real.monotonic() - self._begin
        return super().now()

    def monotonic(self) -> float:
        return real.monotonic()

    def sleep(self, seconds: float) -> None:
        real.sleep(max(seconds, 0))


def test_all_regions_are_watched_from_the_start() -> None:
    """The seventeenth too; settings allow any number."""
    scopes = [Scope(ACCOUNT, f"xx-region-{number}") for number in range(17)]
    service = FakeOssTables({}, time=RealTime())
    Watching(service, every=0.2).run(*scopes, length=1)

    lists = service.asked_about(LIST)
    assert min(lists.count(scope.region) for scope in scopes) >= 3


@pytest.mark.parametrize("reads_all", [False, True], ids=["between", "full sweep"])
def test_a_new_bucket_does_not_wait_for_others_that_hang(reads_all: bool) -> None:
    """Sixteen steps are handed to eight threads; the new bucket waits behind all of them."""
    names = [f"slow-{number:02}" for number in range(20)]
    service = FakeOssTables({str(ARN._replace(name=name)): "AES256" for name in names})
    service.time = RealTime()
    answered, is_encrypted, waited = service.answer, threading.Event(), []

    def answer(request: httpx.Request) -> Reply:
        operation = service.operation(request)
        if operation == GET and service.resource(request).startswith("slow"):
            waited.append(is_encrypted.wait(10))
        if operation == PUT:
            is_encrypted.set()
        return answered(request)

    service.answer = answer  # type: ignore[method-assign]
    at_list(service, 2, lambda: service.buckets.update({str(ARN): ""}))
    Watching(service, every=0.2).run(reads_all=reads_all, length=1)

    assert waited == [True] * len(names)
