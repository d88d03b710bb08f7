"""Work lists: each region has its own, a few threads that work on it, and waits for nobody else."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from encryption_guard.arn import Scope
from encryption_guard.errors import InvalidEvent, Refused, Unavailable
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Clock, Invocation
from encryption_guard.services.inventory import Listing
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.sweep.findings import Finding

# In one instance, each with at most one connection: as many as the transport keeps open.
MAX_THREADS = 64
# Side by side, twice as many as there are: each more takes memory, and gains nothing.
MAX_REGIONS_AT_ONCE = 16
# Steps handed to each thread of a region at a time: none waits for the thread that reports.
AHEAD = 2

Thing = TypeVar("Thing")


class Session(NamedTuple):
    """What one step asks the service with: its time is the step's."""

    invocation: Invocation
    tables: OssTables
    throttle: Throttle


@dataclass(frozen=True, slots=True)
class Step:
    """Something to do; `about` is the finding of it as long as nothing is known.

    What has a `name` is done once, however often it is listed.
    """

    scope: Scope
    about: Finding
    run: Callable[[Session], Iterable[Finding | Step]]
    name: str | None = None
    is_list: bool = False


Results = list[Finding | Step]


def read_list(
    scope: Scope, listing: Listing, about: Finding, follow: Callable[[Any], Step | None]
) -> Step:
    """Read a list page by page; `follow` makes a step of an entry, or raises InvalidEvent.

    It makes none of what needs no look.
    """
    return Step(scope, about, partial(_read_page, scope, listing, about, follow), is_list=True)


def _read_page(
    scope: Scope,
    listing: Listing,
    about: Finding,
    follow: Callable[[Any], Step | None],
    session: Session,
) -> Iterator[Finding | Step]:
    """A step for each entry of a page, in another order each time, and one for the next page."""
    operation = listing.operation.name
    try:
        page = listing.page(session.tables)
    except (Refused, Unavailable) as error:
        yield about.not_listed(error, operation)
        return
    steps: list[Step] = []
    for entry in page.entries:
        try:
            step = follow(entry)
        except InvalidEvent as error:
            yield replace(about, reason="unreadable", detail=str(error))
        else:
            steps += [step] if step else []
    yield from shuffled(steps, session.invocation.clock)
    if page.rest:
        yield read_list(scope, page.rest, about, follow)
    elif page.is_circular:
        twice = f"{operation} gave the same continuation token twice"
        yield replace(about, detail=f"{twice}: there may be more than was listed.")


def shuffled(things: Iterable[Thing], clock: Clock) -> list[Thing]:
    """In another order each time: what one sweep does not reach, another one will."""
    return sorted(things, key=lambda _: clock.chance())


def work_through(
    lists: Iterable[Iterable[Step]],
    work: Callable[[Step], Results],
    *,
    workers: int,
    report: Callable[[Finding], None],
    expect: Callable[[int], object],
) -> None:
    """Do the steps of all lists and those that they lead to; report findings from this thread.

    `work` must not raise.
    """
    waiting = deque(lists)
    threads = max(1, min(workers, MAX_THREADS // max(len(waiting), 1)))
    done: Done = SimpleQueue()
    under_way: list[_Region] = []
    try:
        while waiting or under_way:
            while waiting and len(under_way) < MAX_REGIONS_AT_ONCE:
                region = _Region(deque(waiting.popleft()), ThreadPoolExecutor(threads), threads)
                under_way.append(region)
                region.begin(work, done)
            region, step, future = done.get()
            findings, new = region.sort(step, future.result())
            region.begin(work, done)
            if not region.under_way:
                region.pool.shutdown()
                under_way.remove(region)
            if step.is_list:
                expect(len(findings) + new)
            for finding in findings:
                report(finding)
    finally:
        for region in under_way:
            region.pool.shutdown(cancel_futures=True)


@dataclass(slots=True, eq=False)
class _Region:
    """The work list of one region, and the threads that work on it."""

    waiting: deque[Step]
    pool: ThreadPoolExecutor
    threads: int
    # What waits until there is nothing else to do.
    later: deque[Step] = field(default_factory=deque)
    under_way: int = 0
    met: set[str] = field(default_factory=set)

    def begin(self, work: Callable[[Step], Results], done: Done) -> None:
        """Hand steps to the threads; more of them would only take memory."""
        if not self.waiting and not self.under_way:
            self.waiting, self.later = self.later, self.waiting
        while self.waiting and self.under_way < AHEAD * self.threads:
            step = self.waiting.popleft()
            self.under_way += 1
            future = self.pool.submit(work, step)
            future.add_done_callback(partial(self._ended, step, done))

    def _ended(self, step: Step, done: Done, future: Future[Results]) -> None:
        done.put((self, step, future))

    def sort(self, step: Step, results: Results) -> tuple[list[Finding], int]:
        """Keep what a step leads to; returns its findings, and how many things were new."""
        self.under_way -= 1
        findings = [result for result in results if isinstance(result, Finding)]
        before = len(self.met)
        steps = [each for each in results if not isinstance(each, Finding) and self._is_new(each)]
        if step.is_list:
            # Before the rest of other lists, so that there is never much that waits.
            self.waiting.extendleft(reversed(steps))
        else:
            self.later.extend(steps)
        return findings, len(self.met) - before

    def _is_new(self, step: Step) -> bool:
        # A list that changes between two pages may hold a bucket twice.
        if step.name is None:
            return True
        is_new = step.name not in self.met
        self.met.add(step.name)
        return is_new


Done = SimpleQueue[tuple[_Region, Step, "Future[Results]"]]
