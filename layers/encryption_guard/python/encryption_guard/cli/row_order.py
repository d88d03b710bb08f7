"""The order of rows: the same for each sweep of the same buckets, and each row as early as it can.

Accounts follow each other, and in each of them its regions by name. Within a region, the buckets
have the order of their list, then come the tables, and the lists that could not be read. The
accounts that were not entered come last.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterable, Iterator

from encryption_guard.arn import Scope
from encryption_guard.cli.sweep_rows import sort_key
from encryption_guard.sweep.findings import Finding

Key = tuple[str, ...]


class RowOrder:
    """Holds back each finding until those before it are printed."""

    def __init__(self, scopes: Iterable[Scope]) -> None:
        # A sweep knows all of its accounts, or none.
        self._scopes = deque(sorted(set(scopes), key=lambda each: (each[0] or "", each[1])))
        self._finished: set[str] = set()
        self._listed: dict[Scope, deque[Key]] = defaultdict(deque)
        self._buckets: dict[Scope, dict[Key, Finding]] = defaultdict(dict)
        self._others: dict[Scope, list[Finding]] = defaultdict(list)

    def expect(self, listed: Iterable[Finding]) -> None:
        """Note the buckets of one page of a list; their findings follow."""
        for finding in sorted(listed, key=sort_key):
            if finding.kind == "bucket":
                self._listed[finding.scope].append(sort_key(finding))

    def add(self, finding: Finding) -> Iterator[Finding]:
        """Take a finding, and yield those that can be printed now."""
        if finding.kind == "bucket":
            self._buckets[finding.scope][sort_key(finding)] = finding
        else:
            self._others[finding.scope].append(finding)
        yield from self._ready()

    def finish(self, region: str) -> Iterator[Finding]:
        """Note that a region has no further findings, and yield those that can be printed now."""
        self._finished.add(region)
        yield from self._ready()

    def rest(self) -> Iterator[Finding]:
        """Yield what is left: of a sweep that has ended early, and about whole accounts."""
        self._finished.update(scope.region for scope in self._scopes)
        yield from self._ready()
        left = [finding for findings in self._others.values() for finding in findings]
        self._others.clear()
        yield from sorted(left, key=sort_key)

    def _ready(self) -> Iterator[Finding]:
        while self._scopes:
            scope = self._scopes[0]
            buckets, listed = self._buckets[scope], self._listed[scope]
            while listed and listed[0] in buckets:
                yield buckets.pop(listed.popleft())
            if scope.region not in self._finished:
                return
            left = [*buckets.values(), *self._others.pop(scope, [])]
            buckets.clear()
            self._scopes.popleft()
            yield from sorted(left, key=lambda finding: (finding.kind, sort_key(finding)))
