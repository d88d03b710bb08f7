"""A sweep with a watch, as the function runs it, in front of a fake service, and its lists."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from encryption_guard.arn import Scope
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.settings import TableAudit
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.findings import Finding, Memory
from encryption_guard.sweep.watch import Pace
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    FakeOssTables,
    LetterBox,
    LogLines,
    Reply,
    invocation_of,
)

HERE = Scope(ACCOUNT, REGION)
LIST, GET, PUT = "ListTableBuckets", "GetTableBucketEncryption", "PutTableBucketEncryption"


def dead_letters_of(
    service: FakeOssTables, box: LetterBox | None = None, log: LogLines | None = None
) -> DeadLetters:
    """The dead letters of a function, written at the time of this service."""
    return DeadLetters(
        put=(box or LetterBox()).put,
        log_error=(log or LogLines()).error,
        function="encrypt-on-create",
        function_request_id="request-1",
        now=service.time.now,
    )


def at_list(service: FakeOssTables, number: int, do: Callable[[], object]) -> None:
    """Do something when that list is asked for, before it is answered."""
    answer = service.answer

    def answered(request: httpx.Request) -> Reply:
        if service.operation(request) == LIST and service.operations().count(LIST) == number:
            do()
        return answer(request)

    service.answer = answered  # type: ignore[method-assign]


def finding(scope: Scope = HERE, **told: Any) -> Finding:
    """A bucket that could not be read, but for what is told of it."""
    known: dict[str, Any] = {
        "kind": "bucket",
        "scope": scope,
        "state": "unknown",
        "outcome": "failed",
        "reason": "unread",
        "arn": ARN,
    }
    return Finding(**known | told)


def bug() -> None:
    """What no list should do."""
    raise KeyError("a bug")


@dataclass
class Watching:
    """A sweep with a watch of 55 s, in front of a service; its instance remembers."""

    service: FakeOssTables
    memory: Memory = field(default_factory=Memory)
    box: LetterBox = field(default_factory=LetterBox)
    audit: TableAudit = "late"
    every: float = 5

    def run(self, *scopes: Scope, reads_all: bool = False, length: float = 55) -> list[Finding]:
        """One call of the timer: its findings."""
        found: list[Finding] = []
        start = self.service.time.monotonic()
        Sweep(
            invocation=invocation_of(self.service, seconds=96),
            dead_letters=dead_letters_of(self.service, self.box),
            apply=True,
            audit=self.audit,
            report=found.append,
            memory=self.memory,
            found_by="sweep",
            reads_all=reads_all,
            watch=Pace(self.every, start + self.every * reads_all, start + length),
        ).check_buckets(scopes or (HERE,))
        return found

    def asked(self, operation: str) -> int:
        """How many requests of this operation the service got."""
        return self.service.operations().count(operation)
