"""A sweep inside a function: within its time, with log lines and the memory of its instance."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.duplicates import skip_duplicates
from encryption_guard.enforcement.handler import open_dead_letters, shared_members
from encryption_guard.enforcement.policy import acts_on, expiring
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.errors import Unavailable
from encryption_guard.events import BucketEvent
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.self_invocation import invoke_self
from encryption_guard.services.sts import read_clock
from encryption_guard.settings import Exemption
from encryption_guard.sweep import Sweep, shares
from encryption_guard.sweep.accounts import (
    SweptAccounts,
    accounts_of_share,
    accounts_to_sweep,
    enter_members,
)
from encryption_guard.sweep.findings import (
    NOT_REACHED,
    Finding,
    Memory,
    Totals,
    log_finding,
)
from encryption_guard.sweep.shares import Share
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
# For the calls that start all shares: one that starts later would be superseded soon.
START_SECONDS = 30.0
# For the request that tells whether the clock of the instance is ahead.
CLOCK_SECONDS = 5.0

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


def sweep(invocation: Invocation, context: Any, payload: object = b"") -> dict[str, Any]:
    """Sweep the accounts and regions of the settings, and return the totals and findings.

    With more than GUARD_ACCOUNTS_PER_SHARE accounts, the timer's call starts one call for each
    share of them instead, and a call whose payload is a share sweeps that one.

    Raises ConfigurationError if there are no credentials, and the first unexpected exception after
    the sweep has ended. A payload raises what `read_share` raises.
    """
    invocation.read_credentials()  # without credentials, fail once and not for each bucket
    if share := shares.read_share(payload):
        return _sweep_share(invocation, context, share)
    accounts = accounts_to_sweep(invocation, shared_members())
    if len(accounts.account_ids) <= invocation.settings.accounts_per_share:
        return _sweep_accounts(invocation, context, accounts)
    return _start_shares(invocation, accounts, shares.instant_of(payload, invocation.clock.now()))


def _sweep_share(invocation: Invocation, context: Any, share: Share) -> dict[str, Any]:
    """Sweep the accounts of a share, unless a later share has them."""
    if late := shares.superseded(share.title, share.instant, _now(invocation, share.instant)):
        return _not_swept([late], message="share superseded", share=share.name)
    accounts = accounts_of_share(invocation, shared_members(), share.account_ids)
    return _sweep_accounts(invocation, context, accounts, share=share)


def _start_shares(
    invocation: Invocation, accounts: SweptAccounts, instant: datetime
) -> dict[str, Any]:
    """Start a call for each share; what came too late would only start shares that do nothing."""
    if late := shares.superseded("timer's call", instant, _now(invocation, instant)):
        return _not_swept([late], message="share superseded")
    parts = shares.split(accounts.account_ids, invocation.settings.accounts_per_share, instant)
    limited = invocation.within(START_SECONDS)
    not_started = shares.start(parts, functools.partial(invoke_self, limited))
    return _not_swept(
        [*accounts.problems, *not_started],
        message="shares started",
        shares={each.name: list(each.account_ids) for each in parts},
    )


def _now(invocation: Invocation, instant: datetime) -> datetime:
    """Return the time; after a minute, that of STS, because this clock may be ahead."""
    now = invocation.clock.now()
    if now - instant <= shares.INTERVAL:
        return now
    try:
        return read_clock(invocation.within(CLOCK_SECONDS))
    except (ApiRefused, Unavailable):
        return now


def _not_swept(findings: Iterable[Finding], *, message: str, **fields: Any) -> dict[str, Any]:
    """Report a call that checks no bucket itself."""
    report = SweepReport(Totals())
    for finding in findings:
        report.add(finding)
    result = {**fields, **report.as_dict(())}
    log = open_logger().info if result["ok"] else open_logger().warning
    log(message, extra={name: result[name] for name in ("ok", *fields)})
    return result


def _sweep_accounts(
    invocation: Invocation,
    context: Any,
    accounts: SweptAccounts,
    *,
    share: Share | None = None,
) -> dict[str, Any]:
    """Sweep these accounts in this call; those of a share are in the result and in the last line.

    A full sweep reads all buckets. This instance runs one if the last one of an account started at
    least GUARD_SWEEP_EVERY seconds ago; in between it reads only the buckets that it has not
    checked. With GUARD_WATCH_SECONDS it lists the regions again until shortly before the next call,
    and checks each new bucket at once.
    """
    began_at = invocation.clock.monotonic()
    settings = invocation.settings
    regions = settings.sweep_regions or (context.region,)
    scopes = [Scope(account, region) for account in accounts.account_ids for region in regions]
    memory = _memory()
    is_full = memory.start_full_sweep(
        accounts.account_ids, now=began_at, every=settings.sweep_every - TIMER_JITTER_SECONDS
    )
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
            watch=_pace(limited, began_at, is_full=is_full, late=_late(invocation, share)),
            enter_account=enter_members(shared_members(), settings),
            warn=lambda sentence: open_logger().warning("unknown type", detail=sentence),
        ).check_buckets(scopes)
    finally:
        named = {"share": share.name, "accounts": accounts.account_ids} if share else {}
        result = {"full": is_full, **named, **report.as_dict(expiring_soon)}
        _log_end(result, is_quiet=report.totals.all.ok and not (expiring_soon and is_full))
    return result


def _late(invocation: Invocation, share: Share | None) -> float:
    """Return how many seconds a share waited for an instance."""
    if share is None:
        return 0.0
    return max((invocation.clock.now() - share.instant).total_seconds(), 0.0)


def _pace(invocation: Invocation, began_at: float, *, is_full: bool, late: float) -> Pace | None:
    """Return when the watch lists, or None without GUARD_WATCH_SECONDS.

    The watch of a share that came late ends as that of the others, before the next one begins.
    """
    seconds = invocation.settings.watch_seconds
    if not seconds:
        return None
    # A full sweep begins with a list of its own.
    starts_at = began_at + (seconds if is_full else 0)
    ends_at = invocation.budget.ends_at - LAST_LIST_SECONDS
    return Pace(seconds, starts_at, min(began_at + WATCH_END_SECONDS - late, ends_at))


def _log_end(result: dict[str, Any], *, is_quiet: bool) -> None:
    named = ("full", "ok", "totals", "warnings", "share", "accounts")
    summary = {name: result[name] for name in named if name in result}
    message = "sweep finished" if result["full"] else "watch finished"
    log = open_logger().info if is_quiet else open_logger().warning
    log(message, extra=summary)
