"""A sweep inside a function: within its time, with log lines and the memory of its instance."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.enforcement.handler import open_dead_letters, shared_members
from encryption_guard.enforcement.policy import acts_on, expiring
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.events import BucketEvent
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.settings import Exemption
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.accounts import accounts_to_sweep, enter_members
from encryption_guard.sweep.findings import (
    NOT_REACHED,
    Finding,
    Memory,
    Totals,
    log_finding,
)
from encryption_guard.sweep.watch import Pace

# The rest of the time is for the last dead letter, the log and the result.
SWEEP_SHARE = 0.8
# Findings of each kind in the result; the totals count all.
MAX_LISTED = 100
# Seconds by which the timer may fire early.
TIMER_JITTER_SECONDS = 15.0
# The timer of template.yaml calls each minute: the watch ends before the next call.
WATCH_END_SECONDS = 55.0
# If the time-out ends the watch earlier, this is left for its last list and for new buckets.
LAST_LIST_SECONDS = 2.0

_memory = functools.cache(Memory)


def holds_bucket_event(payload: object) -> bool:
    """Return whether a payload holds an event of the audit trail, not only one of a timer."""
    return any(isinstance(event.parsed, BucketEvent) for event in open_payload(payload).events)


@dataclass(slots=True)
class SweepReport:
    """The result of one sweep: its totals, and the findings that an operator may need."""

    totals: Totals
    problems: list[Finding] = field(default_factory=list)
    encrypted: list[Finding] = field(default_factory=list)
    not_reached: list[Finding] = field(default_factory=list)

    def add(self, finding: Finding) -> None:
        """Count and log one finding, and list it if it matters and the list is not full."""
        self.totals.count(finding)
        if finding.outcome == NOT_REACHED:
            findings = self.not_reached
        else:
            findings = self.encrypted if finding.ok else self.problems
        has_room = len(findings) < MAX_LISTED
        if has_room and not (finding.ok and finding.outcome != "encrypted"):
            findings.append(finding)
        # Thousands of log lines could take longer than the time that is left.
        if has_room or finding.outcome != NOT_REACHED:
            log_finding(finding, logger=open_logger())

    def as_dict(self, expiring_soon: Iterable[Exemption]) -> dict[str, Any]:
        """Return the result of the function, for JSON."""
        lists = {
            "encrypted": self.encrypted,
            "problems": self.problems,
            "not_reached": self.not_reached,
        }
        findings = {name: [each.as_dict() for each in found] for name, found in lists.items()}
        return self.totals.as_dict(expiring_soon) | findings


def sweep(invocation: Invocation, context: Any) -> dict[str, Any]:
    """Sweep the accounts and regions of the settings, and return the totals and findings.

    A full sweep reads all buckets. This instance runs one if its last one started at least
    GUARD_SWEEP_EVERY seconds ago; in between it reads only the buckets that it has not checked.
    With GUARD_WATCH_SECONDS it lists the regions again until shortly before the next call, and
    checks each new bucket at once.

    Raises ConfigurationError if there are no credentials, and the first unexpected exception after
    the sweep has ended.
    """
    began_at = invocation.clock.monotonic()
    invocation.read_credentials()  # without credentials, fail once and not for each bucket
    settings = invocation.settings
    regions = settings.sweep_regions or (context.region,)
    accounts = accounts_to_sweep(invocation, shared_members)
    scopes = [Scope(account, region) for account in accounts.account_ids for region in regions]
    memory = _memory()
    is_full = _start_full_sweep(memory, invocation)
    report = SweepReport(Totals.empty(scopes))
    for problem in accounts.problems:
        report.add(problem)
    expiring_soon = expiring(settings, today=invocation.clock.now().date())
    dead_letters = open_dead_letters(invocation, context)
    put = skip_duplicates(
        dead_letters.put,
        invocation,
        written=memory.dead_letters,
        acts_on=functools.partial(acts_on, settings=settings, today=invocation.clock.now().date()),
    )
    try:
        limited = invocation.within(SWEEP_SHARE * invocation.budget.remaining())
        Sweep(
            invocation=limited,
            dead_letters=dead_letters._replace(put=put),
            apply=True,
            audit=settings.audit_tables,
            report=report.add,
            memory=memory,
            found_by="sweep",
            reads_all=is_full,
            watch=_pace(limited, began_at, is_full=is_full),
            enter_account=enter_members(shared_members, settings),
            warn=lambda sentence: open_logger().warning("unknown type", detail=sentence),
        ).check_buckets(scopes)
    finally:
        result = {"full": is_full, **report.as_dict(expiring_soon)}
        _log_end(result, is_quiet=report.totals.all.ok and not (expiring_soon and is_full))
    return result


def _pace(invocation: Invocation, began_at: float, *, is_full: bool) -> Pace | None:
    """Return when the watch lists, or None without GUARD_WATCH_SECONDS."""
    seconds = invocation.settings.watch_seconds
    if not seconds:
        return None
    # A full sweep begins with a list of its own.
    starts_at = began_at + (seconds if is_full else 0)
    ends_at = invocation.budget.ends_at - LAST_LIST_SECONDS
    return Pace(seconds, starts_at, min(began_at + WATCH_END_SECONDS, ends_at))


def _start_full_sweep(memory: Memory, invocation: Invocation) -> bool:
    """Return whether a full sweep is due, and record that it starts."""
    now = invocation.clock.monotonic()
    elapsed = now - memory.full_sweep_started_at
    is_full = elapsed + TIMER_JITTER_SECONDS >= invocation.settings.sweep_every
    if is_full:
        memory.full_sweep_started_at = now
    return is_full


def _log_end(result: dict[str, Any], *, is_quiet: bool) -> None:
    summary = {name: result[name] for name in ("full", "ok", "totals", "warnings")}
    message = "sweep finished" if result["full"] else "watch finished"
    log = open_logger().info if is_quiet else open_logger().warning
    log(message, extra=summary)
