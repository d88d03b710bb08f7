"""The buckets of `gap.py`, and from what was measured of each build to medians and ratios."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median, quantiles
from typing import Any

DAY = 86_400
NEVER, LATE, ON_TIME = "never", "ten minutes late", "on time"
# Seconds from a creation to its event.
EVENTS: Mapping[str, float | None] = {NEVER: None, LATE: 600.0, ON_TIME: 0.0}
# Those that only the timer finds before the event.
MISSED = (NEVER, LATE)
Gaps = Mapping[str, Sequence[float]]


@dataclass(frozen=True, order=True)
class Creation:
    """A bucket, and how many seconds after the first tick of the timer it is created."""

    at: float
    name: str
    event: str

    @property
    def event_at(self) -> float | None:
        """When its event comes, if ever."""
        delay = EVENTS[self.event]
        return None if delay is None else self.at + delay


def creations(counts: Mapping[str, int], *, first: float, last: float, seed: int) -> list[Creation]:
    """So many of each kind at random instants, in their order; the same ones for the same seed."""
    chance = random.Random(seed)
    return sorted(
        Creation(chance.uniform(first, last), f"{event.replace(' ', '-')}-{number}", event)
        for event, count in counts.items()
        for number in range(count)
    )


@dataclass(frozen=True)
class Measured:
    """One build in one cloud: the gaps of each kind, and what its functions spent.

    `seconds` is how long the cloud ran by its own clock. `cpu` is None where nobody could tell it.
    """

    gaps: Gaps
    seconds: float
    requests: int
    lists: int
    cpu: float | None = None

    def a_day(self) -> dict[str, float | None]:
        """The requests, those for lists among them, and CPU seconds, as if it went on so."""
        days = self.seconds / DAY
        cpu = None if self.cpu is None else self.cpu / days
        return {"requests": self.requests / days, "lists": self.lists / days, "cpu_seconds": cpu}


@dataclass(frozen=True)
class Compared:
    """The gaps of this build and of the one before, if there is one, in seconds."""

    ours: Sequence[float]
    baseline: Sequence[float] = ()

    def as_dict(self) -> dict[str, Any]:
        """What the document has of them; None where there is nothing to compare with."""
        ours, before = figures(self.ours), figures(self.baseline)
        return {
            "median_ratio": _ratio(ours, before, "median"),
            "p95_ratio": _ratio(ours, before, "p95"),
            "ours": ours,
            "baseline": before,
        }


def figures(gaps: Sequence[float]) -> dict[str, float] | None:
    """How many, their median and their 95th percentile; None of less than two."""
    if len(gaps) < 2:
        return None
    p95 = quantiles(gaps, n=20, method="inclusive")[-1]
    return {"buckets": len(gaps), "median": median(gaps), "p95": p95}


def _ratio(
    ours: Mapping[str, float] | None, baseline: Mapping[str, float] | None, name: str
) -> float | None:
    return ours[name] / baseline[name] if ours and baseline else None


@dataclass(frozen=True)
class Comparison:
    """Both builds in every kind of run."""

    ours: Mapping[str, Measured]
    baseline: Mapping[str, Measured] = field(default_factory=dict)

    def of(self, events: Iterable[str], runs: Iterable[str] | None = None) -> Compared:
        """The buckets of such events, in these runs or in all."""
        named, kinds = list(runs or self.ours), list(events)
        return Compared(_pooled(self.ours, named, kinds), _pooled(self.baseline, named, kinds))

    def events(self, run: str) -> list[str]:
        """The kinds that were there."""
        return [event for event in EVENTS if self.ours[run].gaps.get(event)]

    def document(self) -> dict[str, Any]:
        """All figures: first the ratios of the buckets that events missed, in all runs."""
        missed = self.of(MISSED).as_dict()
        return {
            "median_ratio": missed["median_ratio"],
            "p95_ratio": missed["p95_ratio"],
            "events": {event: self.of([event]).as_dict() for event in EVENTS},
            "runs": {run: self._run(run) for run in self.ours},
        }

    def _run(self, run: str) -> dict[str, Any]:
        builds = {"ours": self.ours, "baseline": self.baseline}
        return {
            "events": {event: self.of([event], [run]).as_dict() for event in self.events(run)},
            "a_day": {name: runs[run].a_day() for name, runs in builds.items() if run in runs},
        }


def _pooled(
    measured: Mapping[str, Measured], runs: Sequence[str], events: Sequence[str]
) -> list[float]:
    return [
        gap
        for run in runs
        if run in measured
        for event in events
        for gap in measured[run].gaps.get(event, ())
    ]
