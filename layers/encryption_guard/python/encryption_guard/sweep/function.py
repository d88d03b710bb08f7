"""The sweep inside a function: within its time, into its log, and with what it remembers."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.enforcement import Encrypted, Outcome
from encryption_guard.enforcement.handler import open_dead_letters
from encryption_guard.enforcement.policy import expiring
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.events import BucketEvent
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.settings import Exemption
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.findings import (
    NOT_REACHED,
    Finding,
    Memory,
    OpenTime,
    Totals,
    log_finding,
)
from encryption_guard.sweep.table_audit import OpenBucket

# What is left is for the last bucket's dead letter, and for saying how it went.
SWEEP_SHARE = 0.8
# A bucket that was encrypted later than this after its creation had time to get tables.
LATE_AFTER_MS = 5000
# Of each kind; the totals tell how many there are.
MAX_LISTED = 100

# A timer may be early.
JITTER_SECONDS = 15.0

_memory = functools.cache(Memory)


def is_event(payload: object) -> bool:
    """Whether a payload holds an event of the audit trail, and is no timer's."""
    return any(isinstance(d.parsed, BucketEvent) for d in open_payload(payload).events)


@dataclass(slots=True)
class SweepReport:
    """What one sweep found: all of it counted, what matters kept, and logged."""

    totals: Totals
    memory: Memory
    problems: list[Finding] = field(default_factory=list)
    done: list[Finding] = field(default_factory=list)
    not_reached: list[Finding] = field(default_factory=list)

    def note(self, finding: Finding) -> None:
        """Take one finding."""
        self.totals.count(finding)
        self.memory.keep(finding)
        if finding.outcome == NOT_REACHED:
            kept = self.not_reached
        else:
            kept = self.done if finding.ok else self.problems
        is_shown = len(kept) < MAX_LISTED
        if is_shown and not (finding.ok and finding.outcome != "encrypted"):
            kept.append(finding)
        # Of what was not reached there may be too much to log in the time that is left.
        if is_shown or finding.outcome != NOT_REACHED:
            log_finding(finding, logger=open_logger())

    def as_dict(self, ending: Iterable[Exemption]) -> dict[str, Any]:
        """The function's result."""
        kept = {"encrypted": self.done, "problems": self.problems, "not_reached": self.not_reached}
        lists = {name: [each.as_dict() for each in found] for name, found in kept.items()}
        return self.totals.as_dict(ending) | lists


def sweep(invocation: Invocation, context: Any) -> dict[str, Any]:
    """Sweep the regions of the settings, and say how it went.

    All buckets are read where that was last begun GUARD_SWEEP_EVERY seconds ago, or never by this
    instance; in between only those that it has not met.

    Raises ConfigurationError where there are no credentials, and afterwards what it should not have
    run into.
    """
    invocation.read_credentials()  # none are one failure, not that of every bucket
    settings = invocation.settings
    regions = settings.sweep_regions or (context.region,)
    scopes = [Scope(settings.account_id, region) for region in regions]
    memory = _memory()
    is_full = _begins_full(memory, invocation)
    diary = SweepReport(Totals.of(scopes), memory)
    ending = expiring(settings, today=invocation.clock.now().date())
    letters = open_dead_letters(invocation, context)
    put = skip_duplicates(letters.put, invocation, written=memory.letters)
    try:
        Sweep(
            invocation=invocation.within(SWEEP_SHARE * invocation.budget.remaining()),
            dead_letters=letters._replace(put=put),
            apply=True,
            audit=settings.audit_tables,
            report=diary.note,
            memory=memory,
            skip=frozenset(memory.met),
            warn=lambda sentence: open_logger().warning("unknown type", detail=sentence),
        ).buckets_of(scopes)
    finally:
        told = {"full": is_full, **diary.as_dict(ending)}
        _log_end(told, is_quiet=diary.totals.all.ok and not (ending and is_full))
    return told


def _begins_full(memory: Memory, invocation: Invocation) -> bool:
    """Whether this call reads all buckets; then nothing counts as met any more."""
    now = invocation.clock.monotonic()
    is_full = now - memory.swept_at + JITTER_SECONDS >= invocation.settings.sweep_every
    if is_full:
        memory.met.clear()
        memory.swept_at = now
    return is_full


def _log_end(told: dict[str, Any], *, is_quiet: bool) -> None:
    brief = {name: told[name] for name in ("full", "ok", "totals", "warnings")}
    what = "sweep finished" if told["full"] else "watch finished"
    log = open_logger().info if is_quiet else open_logger().warning
    log(what, extra=brief)


def look_for_gaps(outcomes: Iterable[Outcome], invocation: Invocation, context: Any) -> None:
    """Look at the tables of each bucket that was encrypted only when it could have had some."""
    late = [
        OpenBucket(outcome.arn, (_open_time(outcome, outcome.open_until),))
        for outcome in outcomes
        if isinstance(outcome, Encrypted) and outcome.arn and outcome.open_until
        if _is_late(outcome)
    ]
    Sweep(
        invocation=invocation.within(SWEEP_SHARE * invocation.budget.remaining()),
        dead_letters=open_dead_letters(invocation, context),
        apply=False,
        audit=True,
        report=functools.partial(log_finding, logger=open_logger()),
    ).tables_of(late)


def _open_time(outcome: Outcome, until: datetime) -> OpenTime:
    took = outcome.time_to_encrypt_ms
    # Whose encryption was taken off had one before.
    is_since = outcome.reason == "drift" and took is not None
    return OpenTime(until - timedelta(milliseconds=took or 0) if is_since else None, until)


def _is_late(outcome: Outcome) -> bool:
    return outcome.time_to_encrypt_ms is None or outcome.time_to_encrypt_ms > LATE_AFTER_MS
