"""The watch: list the buckets of each region again every few seconds, and check the new ones.

An event may come ten minutes late or never, and a timer calls once a minute. A table that is made
until then stays unencrypted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable
from dataclasses import dataclass, field
from functools import partial
from typing import NamedTuple

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Clock
from encryption_guard.sweep.findings import FAILED, NOT_REACHED, Finding, Slow
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
    """The lists of one region: `read` lists it once. While the service throttles, fewer follow.

    `paces` holds the slower pace of such a region, also for later calls of the function.
    """

    scope: Scope
    pace: Pace
    clock: Clock
    throttle: Throttle
    paces: dict[Scope, Slow]
    read: Callable[[], Results]
    _was_throttled: bool = False

    def first(self) -> Step | None:
        """Return the step of the first list; None if there is no time for one."""
        slow = self.paces.get(self.scope)
        due = max(self.pace.starts_at, slow.next_at if slow else -math.inf)
        return self._step_at(max(due, self.clock.monotonic() + self.throttle.left()))

    def _step_at(self, due: float) -> Step | None:
        if due > self.pace.ends_at:
            return None
        fallback = Finding.of_list(self.scope)
        run, again = partial(self._run, due), partial(self._next, due)
        return Step(self.scope, fallback, run, is_list=True, again=again)

    def _run(self, due: float, _: object) -> Results:
        self.clock.sleep(max(due - self.clock.monotonic(), 0))
        holds = self.throttle.holds
        results = self.read()
        # A pause may be over before the step has ended.
        self._was_throttled = self.throttle.holds > holds
        return results

    def _next(self, due: float) -> Step | None:
        pause, now, end = self.throttle.left(), self.clock.monotonic(), self.pace.ends_at
        if pause or self._was_throttled:
            last = self.paces.get(self.scope, Slow(self.pace.seconds, now)).interval
            interval = min(2 * last, MAX_INTERVAL_SECONDS)
            slow = Slow(interval, max(due + interval, now + pause))
            self.paces[self.scope] = slow
            return self._step_at(slow.next_at)
        self.paces.pop(self.scope, None)
        # A list that took long leaves out the next ones. The last one is at the end, so that the
        # next call of the timer follows within an interval.
        following = max(due + self.pace.seconds, now)
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
        self._keep(lambda finding: finding.kind != "region" or finding.scope != scope)

    def forget_missing(self, scope: Scope, listed: Collection[TableBucketArn]) -> None:
        """Forget the failures of buckets that a whole list of their region does not have."""
        self._keep(lambda finding: finding.scope != scope or finding.arn in {None, *listed})

    def _keep(self, is_kept: Callable[[Finding], bool]) -> None:
        self._failures = {key: each for key, each in self._failures.items() if is_kept(each)}

    def end(self) -> None:
        """Report the failures that are left."""
        for finding in self._failures.values():
            self.report(finding)

    def _key(self, finding: Finding) -> Hashable:
        # A list may have several entries that cannot be read.
        detail = finding.detail if finding.kind == "region" else None
        return finding.scope, finding.arn, finding.created_at, detail
