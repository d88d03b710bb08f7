"""Work lists: every step is done once, and no region waits for another one."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pytest

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.sweep.findings import Finding
from encryption_guard.sweep.work_lists import (
    MAX_REGIONS_AT_ONCE,
    STEPS_PER_THREAD,
    Results,
    Session,
    Step,
    run_steps,
    shuffled,
)
from tests.unit.fakes import FakeTime

Work = Callable[[Step], Results]
PATIENCE_SECONDS = 20.0


def finding(name: str) -> Finding:
    return Finding(
        kind="bucket",
        scope=Scope(None, "r"),
        state="unknown",
        outcome="done",
        reason="x",
        arn=TableBucketArn("r", "1", name),
    )


def nothing(_: Session) -> Results:
    return []


def step(name: str, *, is_list: bool = False) -> Step:
    """Something to do that finds its own name."""
    return Step(Scope(None, "r"), finding(name), nothing, name=name, is_list=is_list)


def found(step: Step) -> Results:
    return [step.fallback]


@dataclass
class Desk:
    """Where findings arrive, what was expected before, and from which thread it was called."""

    names: list[str | None] = field(default_factory=list)
    expected: list[int] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)
    listed: list[Sequence[Finding]] = field(default_factory=list)
    # Each finished region, and how many findings were reported by then.
    done: list[tuple[str, int]] = field(default_factory=list)

    def report(self, finding: Finding) -> None:
        self.threads.add(threading.get_ident())
        self.names.append(finding.bucket)

    def run(
        self,
        lists: Iterable[Iterable[Step]],
        work: Work = found,
        workers: int = 1,
        report: Callable[[Finding], None] | None = None,
    ) -> None:
        run_steps(
            lists,
            work,
            workers=workers,
            report=report or self.report,
            expect_more=self.expected.append,
            listed=lambda _, found: self.listed.append(found),
            region_done=lambda region: self.done.append((region, len(self.names))),
        )


def leading(to: Mapping[str, Sequence[Step]]) -> Work:
    """A step finds its name, and leads to these."""
    return lambda step: [step.fallback, *to.get(step.name or "", ())]


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("regions", [1, 3, 100])
def test_every_step_is_done_once(regions: int, workers: int) -> None:
    """Those that others lead to as well, in however many regions."""
    lists = [[step(f"{region}", is_list=True)] for region in range(regions)]
    to = {
        f"{region}": [step(f"{region}-{number}") for number in range(30)]
        for region in range(regions)
    }
    desk = Desk()

    desk.run(lists, leading(to), workers)

    names = [*to, *(each.name for steps in to.values() for each in steps)]
    assert Counter(desk.names) == Counter(names)


def test_nothing_to_do_is_done_at_once() -> None:
    """Without a list there is no finding."""
    desk = Desk()

    desk.run([])

    assert desk.names == []


def test_findings_are_reported_from_the_thread_that_called() -> None:
    """One thread counts and writes, whichever threads do the work."""
    desk, at_work = Desk(), set()

    def work(step: Step) -> Results:
        at_work.add(threading.get_ident())
        return found(step)

    desk.run([[step(f"{number}") for number in range(20)]], work, workers=4)

    assert desk.threads == {threading.get_ident()}
    assert threading.get_ident() not in at_work


def test_a_finding_is_reported_at_once() -> None:
    """It does not wait for a step that takes longer."""
    reported = threading.Event()
    waited = []

    def work(step: Step) -> Results:
        if step.name == "slow":
            waited.append(reported.wait(PATIENCE_SECONDS))
        return found(step)

    def report(finding: Finding) -> None:
        if finding.bucket == "quick":
            reported.set()

    Desk().run([[step("slow"), step("quick")]], work, workers=2, report=report)

    assert waited == [True]


def test_no_region_waits_for_another_one() -> None:
    """All steps of a region are done while all threads of another one are held up."""
    rest = [f"b-{number}" for number in range(50)]
    done: set[str | None] = set()
    is_done = threading.Event()
    waited = []

    def work(step: Step) -> Results:
        if step.name and step.name.startswith("a"):
            waited.append(is_done.wait(PATIENCE_SECONDS))
        done.add(step.name)
        if done >= set(rest):
            is_done.set()
        return found(step)

    Desk().run([[step(f"a-{number}") for number in range(20)], map(step, rest)], work, workers=8)

    assert waited == [True] * 20


@pytest.mark.parametrize(
    ("regions", "workers", "threads"),
    [(1, 8, 8), (1, 3, 3), (8, 8, 64), (9, 8, 63), (16, 8, 64), (64, 8, 16), (100, 8, 16)],
)
def test_so_many_threads_work_at_a_time(regions: int, workers: int, threads: int) -> None:
    """As many as wanted in each region, at most 64 in all, and no fewer than there is work for."""
    together, are_together = threading.Barrier(threads), threading.Event()
    too_many: list[str | None] = []

    def work(step: Step) -> Results:
        if step.name and step.name.startswith("together"):
            together.wait(PATIENCE_SECONDS)
            # Long enough for one too many to begin.
            time.sleep(0.1)
            are_together.set()
        elif not are_together.is_set():
            too_many.append(step.name)
        return found(step)

    at_first = min(regions, MAX_REGIONS_AT_ONCE)
    each = threads // at_first
    lists = [
        [step(f"{'together' if region < at_first and n < each else 'later'}-{n}") for n in range(9)]
        for region in range(regions)
    ]
    Desk().run(lists, work, workers)

    assert too_many == []


@pytest.mark.parametrize(
    ("regions", "watched", "threads"), [(1, 120, 96), (8, 10, 80), (8, 20, 96), (8, 2, 16)]
)
def test_repeating_steps_share_a_few_threads(regions: int, watched: int, threads: int) -> None:
    """Each comes as often as the others of its region, however many there are."""
    working, most, lock = 0, 0, threading.Lock()
    turns: Counter[str] = Counter()

    def run(step: Step) -> Results:
        nonlocal working, most
        with lock:
            working += 1
            most = max(most, working)
            turns[str(step.fallback.arn)] += 1
        time.sleep(0.005)
        with lock:
            working -= 1
        following = step.again() if step.again else None
        return [following] if following else []

    def repeating(name: str, left: int) -> Step:
        again = (lambda: repeating(name, left - 1)) if left else (lambda: None)
        return replace(step(name, is_list=True), name=None, again=again)

    lists = [[repeating(f"{region}-{n}", 2) for n in range(watched)] for region in range(regions)]
    Desk().run(lists, run, workers=8)

    assert 1 < most <= threads
    assert set(turns.values()) == {3}
    assert len(turns) == regions * watched


def test_what_a_list_leads_to_comes_first() -> None:
    """Before the rest of other lists, in its order."""
    to = {"x": [step("x1"), step("x2", is_list=True)], "x2": [step("x3")]}
    desk = Desk()

    desk.run([[step("x", is_list=True), step("y"), step("z")]], leading(to))

    # One step is with the thread already.
    assert desk.names == ["x", "y", "x1", "x2", "z", "x3"]


def test_what_a_bucket_leads_to_comes_last() -> None:
    """When nothing else of the region is left to do, further pages included."""
    to = {
        "page-1": [step("a"), step("b"), step("page-2", is_list=True)],
        "page-2": [step("c")],
        "a": [step("a-tables")],
        "b": [step("b-tables")],
    }
    desk = Desk()

    desk.run([[step("page-1", is_list=True)]], leading(to))

    assert desk.names == ["page-1", "a", "b", "page-2", "c", "a-tables", "b-tables"]


def test_what_a_page_lists_is_told_before_it_is_done() -> None:
    """Each entry by its fallback; a step without a name is no entry."""
    desk = Desk()

    desk.run([[step("list", is_list=True)]], leading({"list": [step("a"), step("b")]}))

    assert [[each.bucket for each in page] for page in desk.listed] == [["a", "b"]]


def test_a_region_is_done_after_its_last_finding() -> None:
    """Each of them once, whatever its steps have led to."""
    desk = Desk()
    lists = [[step("list", is_list=True)], [replace(step("there"), scope=Scope(None, "cn-b"))]]

    desk.run(lists, leading({"list": [step("a"), step("b")]}))

    done = dict(desk.done)
    assert len(desk.done) == len(done) == 2
    assert max(done.values()) == len(desk.names) == 4


def test_what_is_listed_twice_is_done_once() -> None:
    """On one page, or on two; what has no name is always done."""
    again = [step("same"), step("same"), Step(Scope(None, "r"), finding("page"), nothing)]
    to = {"first": again, "second": again}
    desk = Desk()

    desk.run([[step("first", is_list=True), step("second", is_list=True)]], leading(to))

    assert Counter(desk.names) == Counter(["first", "second", "same", "page", "page"])
    # What a list found, and what is new in it.
    assert desk.expected == [2, 1]


def test_a_long_list_does_not_wait_in_memory() -> None:
    """A page is read only when most of the one before is done."""
    listed, done = 0, 0
    waiting: list[int] = []

    def work(each: Step) -> Results:
        nonlocal listed, done
        if not each.is_list:
            done += 1
            return found(each)
        waiting.append(listed - done)
        page = int(each.name or 0)
        listed += 100
        entries = [step(f"{page}-{number}") for number in range(100)]
        return [*entries, *([step(f"{page + 1}", is_list=True)] if page < 20 else [])]

    desk = Desk()
    desk.run([[step("0", is_list=True)]], work, workers=4)

    assert len(desk.names) == 21 * 100
    assert max(waiting) <= STEPS_PER_THREAD * 4


def test_a_report_that_fails_ends_all_work() -> None:
    """What waits is not begun, also where it was handed to a thread, and the error is raised."""
    begun: list[str | None] = []
    has_failed = threading.Event()

    def work(step: Step) -> Results:
        begun.append(step.name)
        if step.name != "0":
            has_failed.wait(PATIENCE_SECONDS)
            # Long enough to be told that all is over.
            time.sleep(0.3)
        return found(step)

    def report(_: Finding) -> None:
        has_failed.set()
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        Desk().run([[step(f"{n}") for n in range(1000)]], work, workers=2, report=report)

    assert set(begun) <= {"0", "1", "2"}


def test_what_ends_a_thread_is_raised() -> None:
    """A step that is not done keeps nobody waiting for it."""

    def work(_: Step) -> Results:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        Desk().run([[step("a")]], work)


def test_steps_are_shuffled_by_chance() -> None:
    """Each time anew; the same chance gives the same order."""
    steps = [step(name) for name in "abcd"]
    chances = iter([0.4, 0.1, 0.3, 0.2])
    clock = FakeTime().as_clock()

    drawn = shuffled(steps, clock._replace(chance=lambda: next(chances)))

    assert [each.name for each in drawn] == ["b", "d", "c", "a"]
    assert shuffled(steps, clock) == steps
