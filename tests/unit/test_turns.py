"""Jobs take turns: none is lost, none is begun too late, and none holds up the others."""

from __future__ import annotations

import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.findings import Finding
from encryption_guard.turns import ENOUGH, Job, Turns, take_turns

Results = Iterable["Finding | Job[Do]"]


@dataclass(frozen=True)
class Do:
    """What a job does, by name."""

    name: str
    run: Callable[[], Results]


def finding(name: str, *, region: str = "r", outcome: str = "done") -> Finding:
    return Finding(
        kind="bucket", region=region, state="unknown", outcome=outcome, reason="x", bucket=name
    )


def job(
    name: str,
    *,
    rank: int = 0,
    region: str = "r",
    run: Callable[[], Results] | None = None,
) -> Job[Do]:
    """A job that finds something of its own name, or does what is given."""
    found = [finding(name, region=region)]
    return Job(rank, region, Do(name, run or (lambda: found)))


def work(job: Job[Do]) -> Results:
    return job.step.run()


def failed(job: Job[Do], error: Exception) -> Finding:
    told = f"The guard itself failed: {type(error).__name__}."
    about = finding(job.step.name, region=job.region, outcome="failed")
    return replace(about, reason="error", detail=told)


def names(jobs: Iterable[Job[Do]]) -> list[str | None]:
    return [job.step.name for job in jobs]


def taken(turns: Turns[Do]) -> Iterator[Job[Do]]:
    while job := turns.take():
        yield job


@dataclass
class Desk:
    """Where findings arrive: what they are, how it was called, and from which thread."""

    found: list[Finding] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def report(self, finding: Finding) -> None:
        self.threads.add(threading.get_ident())
        self.found.append(finding)

    def told(self, outcome: str = "done") -> list[str | None]:
        return [finding.bucket for finding in self.found if finding.outcome == outcome]


def never() -> bool:
    return False


def run_all(
    jobs: Iterable[Job[Do]],
    *,
    workers: int,
    over: Callable[[], bool],
    report: Callable[[Finding], None],
    closed_for: Callable[[str], float] = lambda _: 0,
    rest: Callable[[float], None] = time.sleep,
) -> list[Exception]:
    """Let the jobs take turns, and report those that were left as not reached."""
    turns = Turns(jobs)
    bugs = take_turns(
        turns,
        work=work,
        failed=failed,
        workers=workers,
        over=over,
        closed_for=closed_for,
        rest=rest,
        report=report,
    )
    for left in turns.left():
        report(finding(left.step.name, region=left.region, outcome="not_reached"))
    return bugs


# What comes next.


def test_nothing_waits_where_there_is_no_job() -> None:
    """There is no next one, however often one asks."""
    turns = Turns[Do]([])

    assert [turns.take(), turns.take()] == [None, None]


def test_jobs_of_a_lower_rank_come_first() -> None:
    """In whatever order they were added."""
    turns = Turns([job("c", rank=2), job("a", rank=0), job("d", rank=2), job("b", rank=1)])

    assert names(taken(turns)) == ["a", "b", "c", "d"]


def test_regions_run_all() -> None:
    """A region with many jobs does not hold up one with few; within one the order is kept."""
    jobs = [job(f"x{n}", region="x") for n in range(4)]
    jobs += [job("y0", region="y")]
    jobs += [job(f"z{n}", region="z") for n in range(2)]

    assert names(taken(Turns(jobs))) == ["x0", "y0", "z0", "x1", "z1", "x2", "x3"]


def test_the_regions_of_each_rank_run_all() -> None:
    """A rank is done before the next one begins."""
    jobs = [
        job(f"{region}{rank}{n}", rank=rank, region=region)
        for rank in (1, 0)
        for region in "xy"
        for n in range(2)
    ]

    order = names(taken(Turns(jobs)))

    assert order == ["x00", "y00", "x01", "y01", "x10", "y10", "x11", "y11"]


def test_a_job_that_is_added_later_waits_behind_those_of_its_region() -> None:
    """But goes before those of a higher rank."""
    turns = Turns([job("a"), job("b"), job("z", rank=1)])
    first = turns.take()
    turns.add(job("c"))

    assert first
    assert names([first, *taken(turns)]) == ["a", "b", "c", "z"]


def test_a_region_may_come_back() -> None:
    """When all its jobs are done and another one is added it has its turn as before."""
    turns = Turns([job("a", region="x")])
    order = list(taken(turns))
    turns.add(job("b", region="y"))
    turns.add(job("c", region="x"))

    assert names([*order, *taken(turns)]) == ["a", "b", "c"]


placed = st.tuples(st.integers(0, 2), st.sampled_from("xyz"))


@given(st.lists(placed, max_size=20))
def test_every_job_has_one_turn_in_order(places: list[tuple[int, str]]) -> None:
    """None is lost or taken twice, ranks ascend, and a region's jobs of a rank keep their order."""
    jobs = [job(f"{n}", rank=rank, region=region) for n, (rank, region) in enumerate(places)]

    order = list(taken(Turns(jobs)))

    assert Counter(names(order)) == Counter(names(jobs))
    assert [job.rank for job in order] == sorted(job.rank for job in jobs)
    for place in set(places):
        numbers = [int(name or "") for name in names(order) if places[int(name or "")] == place]
        assert numbers == sorted(numbers)


@given(st.lists(st.sampled_from("xyz"), max_size=20))
def test_no_region_waits_for_another_twice(regions: list[str]) -> None:
    """As long as a region has jobs, no other one has two turns in between."""
    jobs = [job(f"{n}", region=region) for n, region in enumerate(regions)]

    order = [job.region for job in taken(Turns(jobs))]

    for region in set(regions):
        turns = [at for at, other in enumerate(order) if other == region]
        for start, end in zip([-1, *turns], turns, strict=False):
            assert max(Counter(order[start + 1 : end]).values(), default=0) <= 1


# All of them.


@pytest.mark.parametrize("workers", [1, 2, 8])
def test_all_jobs_are_run_and_what_they_find_is_reported(workers: int) -> None:
    """Each once, however many there are at a time, and nothing went wrong."""
    desk = Desk()
    jobs = [job(f"{n}", region="xyz"[n % 3]) for n in range(30)]

    bugs = run_all(jobs, workers=workers, over=never, report=desk.report)

    assert (sorted(map(str, desk.told())), bugs) == (sorted(str(n) for n in range(30)), [])
    assert len(desk.found) == 30


def test_nothing_to_do_is_done_at_once() -> None:
    """Without a job there is neither a finding nor a bug."""
    desk = Desk()

    bugs = run_all([], workers=2, over=never, report=desk.report)

    assert (desk.found, bugs) == ([], [])


@pytest.mark.parametrize("workers", [1, 4])
def test_jobs_make_jobs(workers: int) -> None:
    """And those make more; what a job finds is reported with them."""

    def tree(name: str, depth: int) -> Results:
        yield finding(name)
        if depth:
            for n in range(3):
                yield job(name, rank=-depth, run=lambda n=n: tree(f"{name}{n}", depth - 1))  # type: ignore[misc]

    desk = Desk()

    bugs = run_all(
        [job("", run=lambda: tree("", 3))], workers=workers, over=never, report=desk.report
    )

    assert bugs == []
    assert Counter(desk.told()).most_common(1) == [("", 1)]
    assert len(desk.told()) == 1 + 3 + 9 + 27


def test_one_worker_keeps_the_order() -> None:
    """A job of a lower rank that a job makes comes before those that wait already."""
    desk = Desk()
    first = job("a", rank=1, run=lambda: [finding("a"), job("c", rank=1), job("b", rank=0)])

    run_all([first, job("d", rank=1)], workers=1, over=never, report=desk.report)

    assert desk.told() == ["a", "b", "d", "c"]


@pytest.mark.parametrize("workers", [1, 3, 8])
def test_never_more_than_so_many_are_under_way(workers: int) -> None:
    """As many as there are workers at a time, if there are as many jobs."""
    lock = threading.Lock()
    under_way = most = 0
    all_here = threading.Barrier(workers, timeout=10)

    def run() -> Results:
        nonlocal under_way, most
        with lock:
            under_way += 1
            most = max(most, under_way)
        all_here.wait()
        time.sleep(0.002)
        with lock:
            under_way -= 1
        return []

    jobs = [job(f"{n}", run=run) for n in range(3 * workers)]

    bugs = run_all(jobs, workers=workers, over=never, report=Desk().report)

    assert (most, bugs) == (workers, [])


def test_findings_are_reported_by_who_called() -> None:
    """One thread counts and writes, whichever threads do the work."""
    desk = Desk()
    workers: set[int] = set()

    def run() -> Results:
        workers.add(threading.get_ident())
        return [finding("a")]

    run_all(
        [job(f"{n}", run=run) for n in range(20)],
        workers=4,
        over=lambda: len(desk.found) >= 10,
        report=desk.report,
    )

    assert desk.threads == {threading.get_ident()}
    assert threading.get_ident() not in workers


def test_a_finding_is_reported_at_once() -> None:
    """It does not wait for the jobs that take longer."""
    desk, reported = Desk(), threading.Event()

    def report(found: Finding) -> None:
        desk.report(found)
        reported.set()

    slow = job("slow", run=lambda: [finding("slow" if reported.wait(10) else "too late")])

    run_all([slow, job("quick")], workers=2, over=never, report=report)

    assert desk.told() == ["quick", "slow"]


def test_a_slow_job_does_not_hold_up_those_that_a_quick_one_makes() -> None:
    """There is no waiting for all that are under way before more are begun."""
    desk, done = Desk(), threading.Event()

    def last() -> Results:
        done.set()
        return [finding("last")]

    slow = job("slow", run=lambda: [finding("slow" if done.wait(10) else "too late")])
    quick = job("quick", run=lambda: [finding("quick"), job("last", run=last)])

    run_all([slow, quick], workers=2, over=never, report=desk.report)

    assert desk.told()[0] == "quick"
    assert set(desk.told()) == {"quick", "last", "slow"}


def test_when_it_is_over_nothing_is_begun() -> None:
    """What waits is reported as not reached, in the order of its turns."""
    desk = Desk()
    jobs = [job("c", rank=1), job("a", region="x"), job("b", region="y")]

    bugs = run_all(jobs, workers=2, over=lambda: True, report=desk.report)

    assert (desk.told(), desk.told("not_reached"), bugs) == ([], ["a", "b", "c"], [])


def test_when_it_is_over_what_is_under_way_comes_to_its_end() -> None:
    """Its findings are reported; the jobs that it makes then are not reached."""
    desk, is_over = Desk(), threading.Event()

    def run() -> Results:
        is_over.set()
        time.sleep(0.02)
        return [finding("a"), job("b"), finding("c")]

    jobs = [job("a", run=run), job("d")]

    bugs = run_all(jobs, workers=1, over=is_over.is_set, report=desk.report)

    assert desk.told() == ["a", "c"]
    assert sorted(map(str, desk.told("not_reached"))) == ["b", "d"]
    assert bugs == []


@given(st.lists(st.integers(0, 3), max_size=8), st.integers(0, 12), st.integers(1, 3))
def test_every_job_is_run_or_not_reached(children: list[int], begun: int, workers: int) -> None:
    """Whenever it is over, each job is accounted for exactly once."""
    desk = Desk()
    left = iter(range(begun))

    def parent(number: int, of: int) -> Job[Do]:
        def run() -> Results:
            yield finding(f"{number}")
            for child in range(of):
                yield job(f"{number}.{child}", rank=1)

        return job(f"{number}", run=run)

    jobs = [parent(number, of) for number, of in enumerate(children)]
    run_all(jobs, workers=workers, over=lambda: next(left, None) is None, report=desk.report)

    told = Counter(desk.told()) + Counter(desk.told("not_reached"))
    expected = {f"{n}" for n in range(len(children))}
    for number, of in enumerate(children):
        if f"{number}" in desk.told():
            expected |= {f"{number}.{child}" for child in range(of)}
    assert told == Counter(expected)
    assert len(desk.told()) <= begun


def failing() -> Results:
    raise ZeroDivisionError("secret detail")


def failing_later() -> Results:
    yield finding("before")
    raise ZeroDivisionError("secret detail")


@pytest.mark.parametrize("run", [failing, failing_later], ids=["at once", "later"])
@pytest.mark.parametrize("workers", [1, 4])
def test_a_bug_costs_the_others_nothing(run: Callable[[], Results], workers: int) -> None:
    """The job is a failed finding that names the kind of bug, and the bug is returned."""
    desk = Desk()
    jobs = [job("a"), job("bad", run=run), job("b"), job("c", rank=1)]

    bugs = run_all(jobs, workers=workers, over=never, report=desk.report)

    (failed,) = [found for found in desk.found if found.outcome == "failed"]
    assert set(desk.told()) >= {"a", "b", "c"}
    assert [type(bug) for bug in bugs] == [ZeroDivisionError]
    assert (failed.bucket, failed.reason, failed.state) == ("bad", "error", "unknown")
    assert "ZeroDivisionError" in (failed.detail or "")
    assert "secret" not in (failed.detail or "")


def test_what_a_job_made_before_its_bug_is_not_lost() -> None:
    """A page whose last entry brings a bug to light still has its other entries looked at."""

    def page() -> Results:
        yield job("a")
        yield finding("b")
        raise ZeroDivisionError

    desk = Desk()

    bugs = run_all([job("page", run=page)], workers=1, over=never, report=desk.report)

    assert sorted(map(str, desk.told())) == ["a", "b"]
    assert (desk.told("failed"), len(bugs)) == (["page"], 1)


def test_all_bugs_are_returned() -> None:
    """In the order in which they came to light."""
    desk = Desk()
    jobs = [job(f"{n}", run=failing) for n in range(5)]

    bugs = run_all(jobs, workers=2, over=never, report=desk.report)

    assert len(bugs) == 5
    assert sorted(map(str, desk.told("failed"))) == ["0", "1", "2", "3", "4"]


# Regions that are not ready.


def test_a_region_that_is_not_ready_is_passed_over() -> None:
    """Whatever its rank, and as long as it is not."""
    jobs = [job("a", region="closed"), job("b", region="open", rank=1), job("c", region="open")]
    turns = Turns(jobs)

    first = [turns.take(lambda region: region == "closed") for _ in range(3)]
    then = turns.take()

    assert names(filter(None, first)) == ["c", "b"]
    assert first[2] is None
    assert names(filter(None, [then])) == ["a"]
    assert not turns


def test_the_others_go_on_while_a_region_waits() -> None:
    """And when it is ready it has its turn; nothing is done in between but resting."""
    desk, rested = Desk(), list[float]()
    jobs = [job("slow", region="closed"), *(job(str(n), region="open") for n in range(3))]

    bugs = run_all(
        jobs,
        workers=1,
        over=never,
        report=desk.report,
        closed_for=lambda region: 0.2 if region == "closed" and len(rested) < 5 else 0,
        rest=rested.append,
    )

    assert bugs == []
    assert desk.told() == ["0", "1", "2", "slow"]
    assert rested == [0.2] * 5


def test_a_region_may_become_ready_while_another_is_at_work() -> None:
    """A free worker does not wait for the busy ones."""
    desk, is_open, done = Desk(), threading.Event(), threading.Event()

    def long() -> Results:
        is_open.set()
        assert done.wait(10)
        return [finding("long")]

    def waited() -> Results:
        done.set()
        return [finding("waited")]

    jobs = [job("long", region="open", run=long), job("waited", region="closed", run=waited)]

    run_all(
        jobs,
        workers=2,
        over=never,
        report=desk.report,
        closed_for=lambda region: 0.01 if region == "closed" and not is_open.is_set() else 0,
    )

    assert sorted(filter(None, desk.told())) == ["long", "waited"]


def test_a_region_that_never_gets_ready_is_not_reached() -> None:
    """When the time is over it is left, and the rest was done."""
    desk, rested = Desk(), list[float]()

    run_all(
        [job("never", region="closed"), job("a", region="open")],
        workers=2,
        over=lambda: len(rested) >= 3,
        report=desk.report,
        closed_for=lambda region: 7 if region == "closed" else 0,
        rest=rested.append,
    )

    assert desk.told() == ["a"]
    assert desk.told("not_reached") == ["never"]


def test_nobody_waits_for_a_region_that_is_closed_for_good() -> None:
    """What is left is told at once."""
    desk, rested = Desk(), list[float]()

    run_all(
        [job("never", region="closed"), job("a", region="open")],
        workers=2,
        over=never,
        report=desk.report,
        closed_for=lambda region: math.inf if region == "closed" else 0,
        rest=rested.append,
    )

    assert (desk.told(), desk.told("not_reached")) == (["a"], ["never"])
    assert rested == []


def test_only_some_of_many_regions_are_begun_at_a_time() -> None:
    """As long as enough waits, no further region is listed: memory does not grow with them."""
    buckets = [job("bucket", region="r", rank=1) for _ in range(ENOUGH)]
    lists = [job(f"{n}", region=f"region-{n}", rank=1) for n in range(3 * ENOUGH)]
    turns = Turns(lists[:1])
    for one in buckets:
        turns.add(one)
    full = Turns(lists)

    assert names([next(taken(turns))]) == ["bucket"]
    assert names(taken(full)) == [f"{n}" for n in range(3 * ENOUGH)]


def test_a_closed_region_does_not_keep_others_from_beginning() -> None:
    """However much of it waits."""
    turns = Turns([job("open", region="open")])
    for n in range(2 * ENOUGH):
        turns.add(job(f"{n}", region="closed"))

    first = turns.take(lambda region: math.inf if region == "closed" else 0)

    assert first is not None
    assert first.step.name == "open"
    assert turns.soonest(lambda _: math.inf) == math.inf


def test_a_lower_rank_that_is_still_to_come_comes_first() -> None:
    """However much of a higher one waits."""
    turns = Turns(
        [*(job(f"{n}", rank=2) for n in range(2 * ENOUGH)), job("first", rank=1, region="x")]
    )
    for n in range(2 * ENOUGH):
        turns.add(job(f"later {n}", rank=3))

    assert names([next(taken(turns))]) == ["first"]


def test_nobody_spins_when_it_is_over() -> None:
    """What is under way is waited for, once."""
    asked: list[str] = []
    over = threading.Event()

    def slow_one() -> Results:
        over.set()
        time.sleep(0.2)
        return []

    def closed_for(region: str) -> float:
        asked.append(region)
        return 0

    jobs = [job("slow", run=slow_one), *(job(f"{n}") for n in range(3))]
    run_all(jobs, workers=1, over=over.is_set, report=Desk().report, closed_for=closed_for)

    assert len(asked) < 20
