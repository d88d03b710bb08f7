"""Work lists: each region has its own list and threads, and waits for no other region."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from queue import SimpleQueue
from typing import Any, NamedTuple, TypeVar

from encryption_guard.arn import Scope
from encryption_guard.errors import InvalidEvent, Refused, Unavailable
from encryption_guard.http.retries import Throttle
from encryption_guard.invocation import Clock, Invocation
from encryption_guard.services.inventory import BucketIdentity, Listing
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.sweep.findings import Finding

# In all regions together, if no watch needs more. Each thread has at most one connection, and the
# transport allows 128.
MAX_THREADS = 64
# For a watch, each region has its part of these: as many as a share of ten accounts has in eight
# regions, and some more. If a region has more accounts, its lists take turns, and one that is
# throttled may hold back others.
MAX_WATCH_THREADS = 96
# Of each region, beside those of a watch.
MIN_WORKERS = 2
# Twice as many as OSS Tables has; more regions side by side only take memory.
MAX_REGIONS_AT_ONCE = 16
# Threads of each region for urgent steps, beside the others.
URGENT_THREADS = 4
# Steps that a region hands to its pool for each thread, so that a thread always finds work.
STEPS_PER_THREAD = 2

T = TypeVar("T")


class Session(NamedTuple):
    """The client that a step uses; its invocation ends with the time of the step."""

    invocation: Invocation
    tables: OssTables
    throttle: Throttle


@dataclass(frozen=True, slots=True)
class Step:
    """A unit of work; `fallback` is its finding if it does not run, or fails.

    Steps with the same `name` run once, even if a list has the name twice. A step with `again`
    repeats: it has a thread for such steps, in which it may sleep, and `again` returns the next
    one. It gets no session.
    """

    scope: Scope
    fallback: Finding
    run: Callable[[Any], Iterable[Finding | Step]]
    name: str | None = None
    is_list: bool = False
    again: Callable[[], Step | None] | None = None
    # An urgent step does not wait behind others: a few threads are for such steps alone.
    is_urgent: bool = False
    # What the step is about, if no other step may be about it at the same time.
    key: BucketIdentity | None = None


Results = list[Finding | Step]


def list_step(
    scope: Scope, listing: Listing, fallback: Finding, make_step: Callable[[Any], Step | None]
) -> Step:
    """Return the step that reads a list page by page.

    `make_step` returns the step of an entry, or None to skip the entry. It raises InvalidEvent if
    the entry is unreadable.
    """
    run = partial(_read_page, scope, listing, fallback, make_step)
    return Step(scope, fallback, run, is_list=True)


def _read_page(
    scope: Scope,
    listing: Listing,
    fallback: Finding,
    make_step: Callable[[Any], Step | None],
    session: Session,
) -> Iterator[Finding | Step]:
    """Yield a step for each entry of a page, shuffled, and a step for the next page."""
    operation = listing.operation.name
    try:
        page = listing.page(session.tables)
    except (Refused, Unavailable) as error:
        yield fallback.with_list_error(error, operation)
        return
    steps: list[Step] = []
    for entry in page.entries:
        try:
            step = make_step(entry)
        except InvalidEvent as error:
            yield replace(fallback, reason="unreadable", detail=str(error))
        else:
            steps += [step] if step else []
    yield from shuffled(steps, session.invocation.clock)
    if page.rest:
        yield list_step(scope, page.rest, fallback, make_step)
    elif page.is_circular:
        why = f"{operation} returned the same continuation token twice: there may be more entries."
        yield replace(fallback, detail=why)


def shuffled(items: Iterable[T], clock: Clock) -> list[T]:
    """Return the items in random order, so that no sweep always misses the same ones."""
    return sorted(items, key=lambda _: clock.chance())


def run_steps(
    lists: Iterable[Iterable[Step]],
    run_step: Callable[[Step], Results],
    *,
    workers: int,
    report: Callable[[Finding], None],
    expect_more: Callable[[int], object],
    listed: Callable[[Step, Sequence[Finding]], object],
    region_done: Callable[[str], object],
) -> None:
    """Run the steps of all lists, one list for each region, and the steps that they return.

    Calls these from the calling thread: `listed` with the step of a list and the fallbacks of its
    entries, `report`, and `region_done` after the last finding of a region. `run_step` must not
    raise.
    """
    waiting = deque(list(each) for each in lists)
    regions = max(len(waiting), 1)
    # As far as possible, a step that repeats has a thread of its own.
    own_threads = max(1, MAX_WATCH_THREADS // regions)
    repeating = sum(
        min(sum(step.again is not None for step in steps), own_threads) for steps in waiting
    )
    least = min(workers, MIN_WORKERS if repeating else 1)
    threads = max(least, min(workers, (MAX_THREADS - repeating) // regions))
    # A region whose steps repeat does not end before the others.
    at_once = len(waiting) if repeating else MAX_REGIONS_AT_ONCE
    done: Done = SimpleQueue()
    running: list[_Region] = []
    try:
        while waiting or running:
            while waiting and len(running) < at_once:
                region = _Region(
                    ThreadPoolExecutor(threads), threads, ThreadPoolExecutor(own_threads)
                )
                running.append(region)
                region.add(waiting.popleft())
                region.start_steps(run_step, done)
            region, step, future = done.get()
            findings, new = region.collect(step, future.result())
            region.start_steps(run_step, done)
            if region.is_done:
                region.shutdown()
                running.remove(region)
            if step.is_list:
                expect_more(len(findings) + len(new))
                listed(step, new)
            for finding in findings:
                report(finding)
            if region not in running:
                region_done(step.scope.region)
    finally:
        for region in running:
            region.shutdown(cancel_futures=True)


@dataclass(slots=True, eq=False)
class _Region:
    """The work list of one region, and its threads; `running` counts the steps in the pool.

    `beside` counts the others: steps that repeat have their own threads, which may sleep, and
    urgent ones have a few.
    """

    pool: ThreadPoolExecutor
    threads: int
    own_threads: ThreadPoolExecutor
    waiting: deque[Step] = field(default_factory=deque)
    # Steps that run when nothing else of the region is left.
    deferred: deque[Step] = field(default_factory=deque)
    urgent_threads: ThreadPoolExecutor = field(
        default_factory=partial(ThreadPoolExecutor, URGENT_THREADS)
    )
    to_repeat: deque[Step] = field(default_factory=deque)
    urgent: deque[Step] = field(default_factory=deque)
    running: int = 0
    beside: int = 0
    seen: set[str] = field(default_factory=set)

    def add(self, steps: Iterable[Step]) -> None:
        """Add the first steps of the region."""
        for step in steps:
            (self.waiting if step.again is None else self.to_repeat).append(step)

    def shutdown(self, *, cancel_futures: bool = False) -> None:
        """End the threads."""
        for pool in (self.pool, self.own_threads, self.urgent_threads):
            pool.shutdown(cancel_futures=cancel_futures)

    def start_steps(self, run_step: Callable[[Step], Results], done: Done) -> None:
        """Hand a few steps to the threads; more would only take memory."""
        for steps, threads in (
            (self.to_repeat, self.own_threads),
            (self.urgent, self.urgent_threads),
        ):
            while steps:
                self.beside += 1
                self._submit(threads, steps.popleft(), run_step, done)
        if not self.waiting and not self.running:
            self.waiting, self.deferred = self.deferred, self.waiting
        while self.waiting and self.running < STEPS_PER_THREAD * self.threads:
            self.running += 1
            self._submit(self.pool, self.waiting.popleft(), run_step, done)

    def _submit(
        self,
        pool: ThreadPoolExecutor,
        step: Step,
        run_step: Callable[[Step], Results],
        done: Done,
    ) -> None:
        future = pool.submit(run_step, step)
        future.add_done_callback(partial(self._put_done, step, done))

    def _put_done(self, step: Step, done: Done, future: Future[Results]) -> None:
        done.put((self, step, future))

    def collect(self, step: Step, results: Results) -> tuple[list[Finding], list[Finding]]:
        """Queue the steps that a step returned; return its findings, and the fallbacks of names."""
        if step.is_urgent or step.again is not None:
            self.beside -= 1
        else:
            self.running -= 1
        findings = [result for result in results if isinstance(result, Finding)]
        steps = [each for each in results if not isinstance(each, Finding) and self._is_new(each)]
        names = [each.fallback for each in steps if each.name is not None]
        self.to_repeat.extend(each for each in steps if each.again is not None)
        self.urgent.extend(each for each in steps if each.is_urgent)
        steps = [each for each in steps if each.again is None and not each.is_urgent]
        if step.is_list:
            # Before the rest of other lists, so that few steps wait at a time.
            self.waiting.extendleft(reversed(steps))
        else:
            self.deferred.extend(steps)
        return findings, names

    @property
    def is_done(self) -> bool:
        """Whether nothing of the region is left to do."""
        return not self.running and not self.beside

    def _is_new(self, step: Step) -> bool:
        # If a list changes between two pages, both may have the same bucket.
        if step.name is None:
            return True
        is_new = step.name not in self.seen
        self.seen.add(step.name)
        return is_new


Done = SimpleQueue[tuple[_Region, Step, "Future[Results]"]]
