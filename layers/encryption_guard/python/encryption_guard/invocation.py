"""The resources of one invocation: clock, time budget, settings, credentials and transport."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple, NewType

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.settings import Settings

# One request, including its retries and pauses, may take this share of the remaining time. The dead
# letter of a failed request needs the rest.
REQUEST_SHARE = 0.6

# A transport whose every wait ends at the deadline of `http.deadlines`. The transports of httpx do
# not have this type: their time-outs restart with every read.
DeadlineTransport = NewType("DeadlineTransport", httpx.BaseTransport)


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Clock(NamedTuple):
    """The sources of time and randomness, which a test can replace.

    `now` returns UTC, `monotonic` and `sleep` use seconds, `chance` returns from 0 to below 1.
    """

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class TimeBudget(NamedTuple):
    """The time of one invocation; `ends_at` is an instant of the monotonic clock."""

    ends_at: float
    clock: Clock

    def remaining(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(self.ends_at - self.clock.monotonic(), 0)

    def request_deadline(self) -> float:
        """Return the instant at which a request that starts now must end, retries included."""
        return self.clock.monotonic() + REQUEST_SHARE * self.remaining()


def _discard_nothing(_: Credentials) -> None:
    """Do nothing: a function reads the key of its role again for each request."""


class Invocation(NamedTuple):
    """The resources that every request of one invocation uses; only the transport outlives it.

    A retry calls `discard_credentials` with a key that the service refused, before it reads again.
    `request_id` is that of the function's invocation; a command has none.
    """

    transport: DeadlineTransport
    settings: Settings
    read_credentials: Callable[[], Credentials]
    budget: TimeBudget
    clock: Clock
    discard_credentials: Callable[[Credentials], None] = _discard_nothing
    request_id: str = ""

    def __repr__(self) -> str:
        # `read_credentials` may hold the platform's context, which contains the access key.
        return f"Invocation({self.settings!r}, {self.budget!r})"

    def within(self, seconds: float) -> Invocation:
        """Return a copy of the invocation that ends in `seconds`, or earlier if this one does."""
        end = min(self.budget.ends_at, self.clock.monotonic() + seconds)
        return self._replace(budget=TimeBudget(end, self.clock))

    def attempt_deadline(self, request_deadline: float) -> float:
        """Return the instant at which an attempt that starts now must end."""
        one_attempt = self.clock.monotonic() + self.settings.http_timeout_seconds
        return min(one_attempt, request_deadline)
