"""Jobs that make jobs, several at a time, each region in its turn until the time is over."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

from encryption_guard.findings import Finding

# How long to rest at most before it is looked whether all is over.
REST_SECONDS = 0.5
# With so many waiting none of the first jobs is added: of thousands of regions, each with its
# buckets, only some are in memory at a time.
ENOUGH = 128

Step = TypeVar("Step")


@dataclass(frozen=True, slots=True)
class Job(Generic[Step]):
    """A step to take in a region, for the first time or again; a lower rank comes first."""

    rank: int
    region: str
    step: Step
    turn: int = 1


# What came of a job, and what it should not have run into.
Ran = tuple[list["Finding | Job[Step]"], "Exception | None"]


class Turns(Generic[Step]):
    """What waits, by rank; within a rank a slow or a large region does not hold up the others."""

    def __init__(self, jobs: Iterable[Job[Step]]) -> None:
        self._to_come = deque(sorted(jobs, key=lambda job: job.rank))
        self._ranks: dict[int, dict[str, deque[Job[Step]]]] = {}
        self._waiting = 0

    def __bool__(self) -> bool:
        return bool(self._waiting or self._to_come)

    def add(self, job: Job[Step]) -> None:
        """Put a job behind the others of its rank and region."""
        regions = self._ranks.setdefault(job.rank, {})
        regions.setdefault(job.region, deque()).append(job)
        self._waiting += 1

    def take(self, closed_for: Callable[[str], float] = lambda _: 0) -> Job[Step] | None:
        """The next one whose region is not closed, if there is one."""
        while True:
            while self._to_come and self._has_room(self._to_come[0]):
                self.add(self._to_come.popleft())
            job = self._first_open(closed_for)
            if job or not self._to_come:
                return job
            # All that waits is closed.
            self.add(self._to_come.popleft())

    def _has_room(self, job: Job[Step]) -> bool:
        waiting = [rank for rank, regions in self._ranks.items() if regions]
        return self._waiting < ENOUGH or job.rank < min(waiting)

    def _first_open(self, closed_for: Callable[[str], float]) -> Job[Step] | None:
        for _, regions in sorted(self._ranks.items()):
            for region in regions:
                if not closed_for(region):
                    return self._take_from(regions, region)
        return None

    def _take_from(self, regions: dict[str, deque[Job[Step]]], region: str) -> Job[Step]:
        jobs = regions.pop(region)
        job = jobs.popleft()
        if jobs:
            regions[region] = jobs
        self._waiting -= 1
        return job

    def soonest(self, closed_for: Callable[[str], float]) -> float:
        """Seconds until a region that waits is open; infinite where none ever is."""
        regions = {region for regions in self._ranks.values() for region in regions}
        return min(map(closed_for, regions), default=math.inf)

    def left(self) -> Iterator[Job[Step]]:
        """Take all that is left, open or not."""
        while job := self.take():
            yield job


def take_turns(
    turns: Turns[Step],
    *,
    work: Callable[[Job[Step]], Iterable[Finding | Job[Step]]],
    failed: Callable[[Job[Step], Exception], Finding],
    workers: int,
    over: Callable[[], bool],
    closed_for: Callable[[str], float],
    rest: Callable[[float], None],
    report: Callable[[Finding], None],
) -> list[Exception]:
    """Do the work of all jobs until it is `over`, and report each finding at once, from here.

    A region that is `closed_for` some seconds waits, and the others do not; for an infinite time
    nobody waits. Returns what the work raised, which it should not, and which has `failed`; what
    was never begun is left in `turns`.
    """
    under_way: set[Future[Ran[Step]]] = set()
    bugs: list[Exception] = []
    with ThreadPoolExecutor(workers) as pool:
        while under_way or (turns and not over()):
            while len(under_way) < workers and not over() and (job := turns.take(closed_for)):
                under_way.add(pool.submit(_run, job, work, failed))
            is_idle = len(under_way) < workers and not over()
            pause = min(turns.soonest(closed_for), REST_SECONDS) if is_idle and turns else None
            if not under_way:
                if turns.soonest(closed_for) == math.inf:
                    break
                rest(pause or 0)
                continue
            done, under_way = wait(under_way, pause, return_when=FIRST_COMPLETED)
            for future in done:
                results, bug = future.result()
                bugs += [bug] if bug else []
                for result in results:
                    if isinstance(result, Job):
                        turns.add(result)
                    else:
                        report(result)
    return bugs


def _run(
    job: Job[Step],
    work: Callable[[Job[Step]], Iterable[Finding | Job[Step]]],
    failed: Callable[[Job[Step], Exception], Finding],
) -> Ran[Step]:
    results: list[Finding | Job[Step]] = []
    try:
        results.extend(work(job))
    # A bug that one bucket brings to light must not cost the others their turn: it is raised by
    # the door when they are done.
    except Exception as error:
        results.append(failed(job, error))
        return results, error
    return results, None
