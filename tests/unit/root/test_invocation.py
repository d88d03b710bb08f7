"""Time budgets, and what an invocation shows of itself."""

from __future__ import annotations

import functools
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.invocation import Clock, TimeBudget
from tests.unit.fakes import FakeOssTables, FakeTime, invocation_of

TOKEN = "CAIS+planted/Token=0123456789abcdef=="


def test_the_clock_is_the_worlds_unless_given() -> None:
    """Without arguments it tells UTC, a time that only grows, and chance below one."""
    clock = Clock()

    before = clock.monotonic()
    now = clock.now()
    clock.sleep(0)

    assert now.utcoffset() == timedelta()
    assert abs(now - datetime.now(timezone.utc)) < timedelta(minutes=1)
    assert clock.monotonic() >= before
    assert 0 <= clock.chance() < 1


def test_a_budget_shrinks_and_never_gets_below_zero() -> None:
    """What remains is what the clock leaves of it, and nothing once that is used up."""
    time = FakeTime()
    budget = TimeBudget(time.monotonic() + 10, time.as_clock())

    remaining = []
    for _ in range(3):
        remaining.append(budget.remaining())
        time.passed += 6

    assert remaining == [10, 4, 0]


@given(left=st.floats(0, 1000), passed=st.floats(0, 2000))
def test_a_request_may_use_sixty_percent_of_the_rest(left: float, passed: float) -> None:
    """The share is taken of what is left at that moment, and is never negative."""
    time = FakeTime()
    budget = TimeBudget(time.monotonic() + left, time.as_clock())
    time.passed += passed

    until = budget.request_deadline()

    share = until - time.monotonic()
    assert share == pytest.approx(0.6 * max(left - passed, 0), abs=1e-6)
    assert share >= 0


@pytest.mark.parametrize(
    ("end_of_request", "seconds"),
    [(3.0, 3.0), (5.0, 5.0), (30.0, 5.0)],
    ids=["the request ends first", "both", "the try ends first"],
)
def test_a_try_ends_after_its_time_out_or_with_its_request(
    end_of_request: float, seconds: float
) -> None:
    """GUARD_HTTP_TIMEOUT_SECONDS bounds a try, and the request's own end does so too."""
    service = FakeOssTables()
    invocation = invocation_of(service, environment={"GUARD_HTTP_TIMEOUT_SECONDS": "5"})
    now = service.time.monotonic()

    end = invocation.attempt_deadline(now + end_of_request)

    assert end == now + seconds


@pytest.mark.parametrize(
    ("seconds", "left"),
    [(20.0, 20.0), (60.0, 60.0), (90.0, 60.0)],
    ids=["earlier", "then", "later"],
)
def test_a_part_of_an_invocation_ends_no_later_than_the_whole(seconds: float, left: float) -> None:
    """The rest of it is the same, and the whole keeps its time."""
    whole = invocation_of(FakeOssTables(), seconds=60.0)

    part = whole.within(seconds)

    assert part == whole._replace(budget=part.budget)
    assert (part.budget.remaining(), whole.budget.remaining()) == (left, 60.0)


def test_an_invocation_does_not_show_its_credentials() -> None:
    """What reads them may hold them: the platform's context does."""
    context = SimpleNamespace(credentials=SimpleNamespace(security_token=TOKEN))
    read = functools.partial(Credentials.read, context)

    invocation = invocation_of(FakeOssTables(), read_credentials=read)

    assert TOKEN in repr(read)
    assert TOKEN not in repr(invocation)
