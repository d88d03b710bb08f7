"""The watch: list the buckets of each region again every few seconds, and check the new ones.

An event may come ten minutes late or never, and a timer calls once a minute. A table that is made
until then stays unencrypted.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from encryption_guard.arn import Scope
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Clock
from encryption_guard.sweep.findings import FAILED, NOT_REACHED, Finding
from encryption_guard.sweep.work_lists import Results, Step

# A region that throttles is asked at least this often.
MAX_INTERVAL_SECONDS = 60.0


class Pace(NamedTuple):
    """How often a region is listed, in seconds, and the instants of the first and the last list.

    The instants are those of the monotonic clock.
    """

    seconds: float
    starts_at: float
    ends_at: float


@dataclass(slots=True)
class RegionWatch:
    """The lists of one region: `read` lists it once. While the service throttles, fewer follow."""

    scope: Scope
    pace: Pace
    clock: Clock
    throttle: Throttle
    read: Callable[[], Results]
    _interval: float = field(init=False)

    def __post_init__(self) -> None:
        self._interval = self.pace.seconds

    def first(self) -> Step | None:
        """Return the step of the first list; None if there is no time for one."""
        return self._step_at(max(self.pace.starts_at, self.clock.monotonic()))

    def _step_at(self, due: float) -> Step | None:
        if due > self.pace.ends_at:
            return None
        fallback = Finding.of_list(self.scope)
        run, again = partial(self._run, due), partial(self._next, due)
        return Step(self.scope, fallback, run, is_list=True, again=again)

    def _run(self, due: float, _: object) -> Results:
        self.clock.sleep(max(due - self.clock.monotonic(), 0))
        return self.read()

    def _next(self, due: float) -> Step | None:
        pause, now, end = self.throttle.left(), self.clock.monotonic(), self.pace.ends_at
        if pause:
            self._interval = min(2 * self._interval, MAX_INTERVAL_SECONDS)
            return self._step_at(max(due + self._interval, now + pause))
        self._interval = self.pace.seconds
        # A list that took long leaves out the next ones. The last one is at the end, so that the
        # next call of the timer follows within an interval.
        following = max(due + self._interval, now)
        return self._step_at(min(following, end) if max(due, now) < end else following)


@dataclass(slots=True)
class LatestFindings:
    """Passes on the findings of a watch, which may check a bucket several times.

    Of a failure only the last finding is reported, at the end, and none if a later check succeeds.
    """

    report: Callable[[Finding], None]
    _failures: dict[Hashable, Finding] = field(default_factory=dict)

    def add(self, finding: Finding) -> None:
        """Report a finding, or keep a failure."""
        key = self._key(finding)
        self._failures.pop(key, None)
        if finding.kind != "table" and finding.outcome in (FAILED, NOT_REACHED):
            self._failures[key] = finding
        else:
            self.report(finding)

    def forget_lists(self, scope: Scope) -> None:
        """Forget the failed lists of a region, because it has just been listed again."""
        self._failures = {
            key: finding
            for key, finding in self._failures.items()
            if finding.kind != "region" or finding.scope != scope
        }

    def end(self) -> None:
        """Report the failures that are left."""
        for finding in self._failures.values():
            self.report(finding)

    def _key(self, finding: Finding) -> Hashable:
        # A list may have several entries that cannot be read.
        detail = finding.detail if finding.kind == "region" else None
        return finding.scope, finding.arn, finding.created_at, detail
