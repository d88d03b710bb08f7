"""The table audit after an event: check the tables that its bucket got while it was unencrypted."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING

from encryption_guard.arn import TableBucketArn
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import Detected, Encrypted, Outcome, open_members
from encryption_guard.invocation import Invocation
from encryption_guard.settings import Settings
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.accounts import enter_members
from encryption_guard.sweep.findings import Finding, Totals, UnencryptedPeriod, log_finding
from encryption_guard.sweep.table_audit import AuditedBucket

if TYPE_CHECKING:
    from aws_lambda_powertools import Logger

    from encryption_guard.enforcement.members import Members

# The rest of the time is for the log and the result.
AUDIT_SHARE = 0.8
# The log has at most this many lines about tables; the last line counts all of them.
MAX_LOGGED = 1000


@dataclass(slots=True)
class AuditLog:
    """The log of one audit: a line for each table with a problem, and one with the totals."""

    logger: Logger
    totals: Totals = field(default_factory=Totals)
    problems: int = 0

    def add(self, finding: Finding) -> None:
        """Count one finding, and log it unless there are too many."""
        self.totals.count(finding)
        self.problems += not finding.ok
        if finding.ok or self.problems <= MAX_LOGGED:
            log_finding(finding, logger=self.logger)

    def log_end(self, buckets: Iterable[TableBucketArn]) -> None:
        """Log the totals."""
        tally = self.totals.all
        log = self.logger.info if tally.ok else self.logger.warning
        fields = {
            "ok": tally.ok,
            "buckets": [str(arn) for arn in buckets],
            "tables": tally.tables,
            "unprotected_tables": tally.unprotected_tables,
            "unknown_tables": tally.unknown_tables,
            "not_listed": tally.not_listed,
            "not_reached": tally.not_reached,
            "not_logged": max(self.problems - MAX_LOGGED, 0),
        }
        log("table audit finished", extra=fields)


def audit_tables(
    outcomes: Iterable[Outcome],
    *,
    invocation: Invocation,
    dead_letters: DeadLetters,
    logger: Logger,
    members: Callable[[Settings], Members] = open_members,
) -> None:
    """Check the tables of the buckets of these outcomes, and log what was found.

    An error is logged and not raised: the buckets are encrypted, and no retry must repeat that.
    """
    buckets = _merge(outcomes)
    if not buckets:
        return
    log = AuditLog(logger)
    try:
        Sweep(
            invocation=invocation.within(AUDIT_SHARE * invocation.budget.remaining()),
            dead_letters=dead_letters,
            apply=False,
            audit="true",
            report=log.add,
            enter_account=enter_members(members, invocation.settings),
        ).audit_tables(buckets)
    # The audit is the last step, and even a bug in it must not fail the event.
    except Exception:
        logger.exception("table audit failed")
    log.log_end(bucket.arn for bucket in buckets)


def _merge(outcomes: Iterable[Outcome]) -> list[AuditedBucket]:
    """Return each bucket once, with the periods of all its outcomes."""
    found = [
        (outcome.arn, _unencrypted_period(outcome, outcome.unencrypted_until))
        for outcome in outcomes
        if outcome.arn and outcome.unencrypted_until
    ]
    periods: dict[TableBucketArn, tuple[UnencryptedPeriod, ...]] = {}
    for arn, period in found:
        periods[arn] = (*periods.get(arn, ()), period)
    return [AuditedBucket(arn, merged) for arn, merged in periods.items()]


def _unencrypted_period(outcome: Outcome, until: datetime) -> UnencryptedPeriod:
    since = outcome.unencrypted_since
    if outcome.cause == "created":
        # A bucket that an operator names may be old, and may have been encrypted before.
        return UnencryptedPeriod(None, until, outcome.time_to_encrypt_ms is not None)
    if not since or since > until:
        return UnencryptedPeriod(None, until, is_exact=False)
    # If someone else encrypted the bucket again, nobody knows when. A dead letter of a sweep names
    # no caller, and its time is the creation of the bucket.
    is_exact = outcome.by is not None and isinstance(outcome, Encrypted | Detected)
    return UnencryptedPeriod(since, until, is_exact)
