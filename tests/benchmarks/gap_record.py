"""When OSS Tables itself saw each bucket come and be encrypted."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from tests.benchmarks.gap_figures import EVENTS, Creation, Measured
from tests.emulators.oss_tables import ApiCall, OssTables

PUT, CREATE, LIST = "PutTableBucketEncryption", "CreateTableBucket", "ListTableBuckets"


class Record:
    """The instants, by the service's clock; `begin` starts the count of the requests."""

    def __init__(self, tables: OssTables) -> None:
        self.encrypted: dict[str, datetime] = {}
        self.created: dict[str, datetime] = {}
        self._tables = tables
        self._pass_on = tables.on_event
        self._from = 0
        tables.on_event = self._note

    def _note(self, call: ApiCall) -> None:
        if call.error_code is None and call.bucket:
            if call.operation == CREATE:
                self.created.setdefault(call.bucket, call.at)
            if call.operation == PUT:
                self.encrypted.setdefault(call.bucket, call.at)
        if self._pass_on is not None:
            self._pass_on(call)

    def plant(self, name: str, at: datetime) -> str:
        """Put a bucket there that nobody reports, and return its ARN."""
        self.created[name] = at
        return self._tables.plant(name, created_at=at)

    def begin(self) -> None:
        """Count requests from now on."""
        self._from = len(self._tables.requests)

    def measured(
        self, creations: Iterable[Creation], *, seconds: float, cpu: float | None = None
    ) -> Measured:
        """What came of these buckets; raises RuntimeError unless all were encrypted."""
        gaps: dict[str, list[float]] = {event: [] for event in EVENTS}
        for creation in creations:
            if creation.name not in self.encrypted:
                raise RuntimeError(f"{creation.name} was not encrypted")
            gap = self.encrypted[creation.name] - self.created[creation.name]
            gaps[creation.event].append(gap.total_seconds())
        asked = [each.operation for each in self._tables.requests[self._from :]]
        return Measured(gaps, seconds, len(asked) - asked.count(CREATE), asked.count(LIST), cpu)
