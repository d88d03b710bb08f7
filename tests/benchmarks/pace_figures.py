"""From what an emulated OSS Tables was asked, and when, to the pace that a watch kept."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from statistics import median
from typing import Any, Literal, NamedTuple

from tests.benchmarks.gap_record import LIST

WATCH_SECONDS = 5.0
# An interval may be longer by so much.
TOLERANCE_SECONDS = 1.0
FULL_SWEEPS_AN_HOUR, MINUTES_AN_HOUR = 12, 60
Phase = Literal["full sweep", "steady", "hand-over"]
FULL, STEADY, HAND_OVER = PHASES = ("full sweep", "steady", "hand-over")


class Asked(NamedTuple):
    """One request: when it came, in seconds after the first tick."""

    at: float
    region: str
    operation: str


class Pace(NamedTuple):
    """The seconds between two lists of a region; `late` is how many were too long."""

    intervals: int
    median: float
    longest: float
    late: int


def paces(asked: Iterable[Asked], ticks: Sequence[float]) -> dict[str, Pace]:
    """The pace in each phase that had an interval.

    An interval with a tick in it is a hand-over from one invocation to the next; one with another
    request than a list, of any region, is part of a full sweep, because no bucket is new.
    """
    requests = list(asked)
    busy = sorted(each.at for each in requests if each.operation != LIST)
    found: dict[str, list[float]] = {phase: [] for phase in PHASES}
    for start, end in _intervals(requests):
        if any(start < tick <= end for tick in ticks):
            phase = HAND_OVER
        else:
            phase = FULL if any(start <= at <= end for at in busy) else STEADY
        found[phase].append(end - start)
    return {phase: _pace(intervals) for phase, intervals in found.items() if intervals}


def _intervals(requests: Iterable[Asked]) -> Iterator[tuple[float, float]]:
    lists: dict[str, list[float]] = defaultdict(list)
    for each in requests:
        if each.operation == LIST:
            lists[each.region].append(each.at)
    for instants in lists.values():
        yield from pairwise(sorted(instants))


def _pace(intervals: Sequence[float]) -> Pace:
    late = sum(each > WATCH_SECONDS + TOLERANCE_SECONDS for each in intervals)
    return Pace(len(intervals), median(intervals), max(intervals), late)


class Costs(NamedTuple):
    """What an instance spent: CPU seconds in each minute, the first with a full sweep, and KiB."""

    minutes: Sequence[float]
    peak: int

    @property
    def cpu_an_hour(self) -> float:
        """With as many full sweeps as by default; what the first one costs more includes TLS."""
        full, *others = self.minutes
        usual = sum(others) / len(others)
        return MINUTES_AN_HOUR * usual + FULL_SWEEPS_AN_HOUR * max(full - usual, 0)


class Held(NamedTuple):
    """One instance that was held to its share: what it asked for, and what it spent."""

    asked: Sequence[Asked]
    ticks: Sequence[float]
    spent: Costs

    @property
    def full_sweep(self) -> float:
        """Seconds from the first tick to the last request of its sweep that was no list."""
        later = self.ticks[1]
        return max(e.at for e in self.asked if e.operation != LIST and e.at < later)

    def document(self) -> dict[str, Any]:
        """All figures."""
        phases = paces(self.asked, self.ticks)
        return {
            "pace": {phase: pace._asdict() for phase, pace in phases.items()},
            "full_sweep_seconds": self.full_sweep,
            "peak_mib": self.spent.peak / 1024,
            "cpu_seconds_an_hour": self.spent.cpu_an_hour,
            "cpu_seconds_a_minute": list(self.spent.minutes),
        }
