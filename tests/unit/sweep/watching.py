"""A sweep with a watch, as the function runs it, in front of a fake service."""

from __future__ import annotations

from dataclasses import dataclass, field

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.settings import TableAudit
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.findings import Finding, Memory
from encryption_guard.sweep.watch import Pace
from tests.unit.fakes import ACCOUNT, REGION, FakeOssTables, LetterBox, LogLines, invocation_of

HERE = Scope(ACCOUNT, REGION)
LIST, GET, PUT = "ListTableBuckets", "GetTableBucketEncryption", "PutTableBucketEncryption"


@dataclass
class Watching:
    """A sweep with a watch of 55 s, in front of a service; its instance remembers."""

    service: FakeOssTables
    memory: Memory = field(default_factory=Memory)
    box: LetterBox = field(default_factory=LetterBox)
    audit: TableAudit = "late"

    def run(self, *scopes: Scope, reads_all: bool = False, length: float = 55) -> list[Finding]:
        """One call of the timer: its findings."""
        found: list[Finding] = []
        start = self.service.time.monotonic()
        Sweep(
            invocation=invocation_of(self.service, seconds=96),
            dead_letters=DeadLetters(
                put=self.box.put,
                log_error=LogLines().error,
                function="sweep",
                function_request_id="request-1",
                now=self.service.time.now,
            ),
            apply=True,
            audit=self.audit,
            report=found.append,
            memory=self.memory,
            found_by="sweep",
            reads_all=reads_all,
            watch=Pace(5, start + (5 if reads_all else 0), start + length),
        ).check_buckets(scopes or (HERE,))
        return found

    def asked(self, operation: str) -> int:
        """How many requests of this operation the service got."""
        return self.service.operations().count(operation)
