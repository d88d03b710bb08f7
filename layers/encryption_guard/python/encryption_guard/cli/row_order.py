"""The order of rows: the same for each sweep of the same buckets, and each row as early as it can.

Regions follow each other by name. Within a region, the buckets have the order of their list, then
come the tables, and the lists that could not be read.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from encryption_guard.cli.sweep_rows import sort_key
from encryption_guard.sweep.findings import Finding

Key = tuple[str, ...]


class RowOrder:
    """Holds back each finding until those before it are printed."""

    def __init__(self, regions: Iterable[str]) -> None:
        self._regions = deque(sorted(set(regions)))
        self._finished: set[str] = set()
        self._listed: dict[str, deque[Key]] = defaultdict(deque)
        self._buckets: dict[str, dict[Key, Finding]] = defaultdict(dict)
        self._others: dict[str, list[Finding]] = defaultdict(list)

    def expect(self, listed: Iterable[Finding]) -> None:
        """Note the buckets of one page of a list; their findings follow."""
        for finding in sorted(listed, key=sort_key):
            if finding.kind == "bucket":
                self._listed[finding.region].append(sort_key(finding))

    def add(self, finding: Finding) -> Iterator[Finding]:
        """Take a finding, and yield those that can be printed now."""
        if finding.kind == "bucket":
            self._buckets[finding.region][sort_key(finding)] = finding
        else:
            self._others[finding.region].append(finding)
        yield from self._ready()

    def finish(self, region: str) -> Iterator[Finding]:
        """Note that a region has no further findings, and yield those that can be printed now."""
        self._finished.add(region)
        yield from self._ready()

    def rest(self) -> Iterator[Finding]:
        """Yield what is left, if a sweep has ended early."""
        self._finished.update(self._regions)
        yield from self._ready()

    def _ready(self) -> Iterator[Finding]:
        while self._regions:
            region = self._regions[0]
            buckets, listed = self._buckets[region], self._listed[region]
            while listed and listed[0] in buckets:
                yield buckets.pop(listed.popleft())
            if region not in self._finished:
                return
            left = [*buckets.values(), *self._others.pop(region, [])]
            buckets.clear()
            self._regions.popleft()
            yield from sorted(left, key=lambda finding: (finding.kind, sort_key(finding)))
