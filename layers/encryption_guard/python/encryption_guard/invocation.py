"""What one invocation has: time, settings, credentials, and the connections that outlive it."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from datetime import datetime, timezone
from typing import NamedTuple, NewType

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.settings import Settings

# One request, its repeats and pauses included, may take this much of the time that is left: the
# dead letter of a request that failed needs the rest.
REQUEST_SHARE = 0.6

# A transport on which every wait ends at the deadline of `http.deadlines`. httpx's own are not of
# this type: their time-outs start again with every read.
DeadlineTransport = NewType("DeadlineTransport", httpx.BaseTransport)


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Clock(NamedTuple):
    """Time and chance, as arguments: `now` in UTC, the rest in seconds."""

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class TimeBudget(NamedTuple):
    """What is left of one invocation; instants are those of the monotonic clock."""

    ends_at: float
    clock: Clock

    def remaining(self) -> float:
        """Seconds left; never less than zero."""
        return max(self.ends_at - self.clock.monotonic(), 0)

    def request_deadline(self) -> float:
        """The instant at which a request that starts now has to be over, repeats included."""
        return self.clock.monotonic() + REQUEST_SHARE * self.remaining()


class Invocation(NamedTuple):
    """What every request of one invocation needs; only the transport outlives it."""

    transport: DeadlineTransport
    settings: Settings
    read_credentials: Callable[[], Credentials]
    budget: TimeBudget
    clock: Clock

    def __repr__(self) -> str:
        # What reads the credentials may hold the platform's context, and so the key.
        return f"Invocation({self.settings!r}, {self.budget!r})"

    def within(self, seconds: float) -> Invocation:
        """The same, over in so many seconds if it is not over before."""
        end = min(self.budget.ends_at, self.clock.monotonic() + seconds)
        return self._replace(budget=TimeBudget(end, self.clock))

    def attempt_deadline(self, request_deadline: float) -> float:
        """The instant at which an attempt that starts now has to be over."""
        one_attempt = self.clock.monotonic() + self.settings.http_timeout_seconds
        return min(one_attempt, request_deadline)
