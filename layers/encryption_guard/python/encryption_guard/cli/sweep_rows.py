"""The findings of a sweep as text and rows, for a terminal, a CSV file and the HTML report."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, timezone
from itertools import pairwise
from typing import Final

from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED
from encryption_guard.services.oss_tables import State
from encryption_guard.settings import Settings
from encryption_guard.sweep.findings import (
    ENCRYPTED_SINCE_UNKNOWN,
    FAILED,
    NOT_REACHED,
    PERHAPS_CREATED_WHILE_UNENCRYPTED,
    UNPROTECTED,
    Finding,
    Tally,
    Totals,
)

BUCKET_HEADINGS = ("region", "bucket", "created", "encryption", "action")
TABLE_HEADINGS = ("region", "bucket", "table", "created", "encryption", "what to do")
CHANGE_HEADINGS = ("change", "bucket or table", "before", "now")
# Only in a sweep of several accounts: the first column of each table.
ACCOUNT_HEADING = "account"
TALLY_HEADINGS = ("buckets", "encrypted", "not encrypted", "unknown", "exempt")
AUDIT_HEADINGS = ("tables", "unprotected", "unknown tables")

# The three states, as an operator reads them.
STATE_WORDS: Final[dict[State, str]] = {
    "not_encrypted": "not encrypted",
    "unknown": "unknown",
    "encrypted": "encrypted",
}
NOT_KNOWN: Final = "not known"

# The findings that are about no region.
OF_ACCOUNTS: Final = frozenset({"organization", "account"})

_ACTIONS = {
    "encrypted": "encrypted now ({reason})",
    "already_encrypted": "nothing to do",
    "kept_stronger": "kept {reason}",
    "detected": "would be encrypted",
    "dead_lettered": "dead-lettered ({reason})",
    NOT_REACHED: "not reached",
    UNPROTECTED: "its owner has to recreate it",
}
_FAILURES = {
    "unread": "could not be read",
    "gone": "not found",
    "unavailable": "could not be encrypted",
    "not_confirmed": "encryption not confirmed",
    "not_listed": "could not be listed",
    "unreadable": "could not be listed in full",
    "error": "the guard failed",
}
_FAILURES_OF_ACCOUNTS = {
    "not_prepared": "the account is not prepared",
    "unavailable": "the account could not be entered",
    "refused": "the account could not be entered",
    "directory_unreadable": "the accounts could not be listed",
    "directory_incomplete": "the accounts could not be listed in full",
}
_REASONS = {"created": "new"}

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def action(finding: Finding) -> str:
    """Return what the sweep did or would do, in a few words; `detail` may have more."""
    if finding.outcome == "skipped":
        return _exempt_reason(finding)
    if finding.kind in OF_ACCOUNTS:
        return _FAILURES_OF_ACCOUNTS[finding.reason]
    if finding.outcome == FAILED:
        return _FAILURES.get(finding.reason, "failed")
    if finding.reason == "made_before":
        perhaps = "perhaps " if finding.detail == PERHAPS_CREATED_WHILE_UNENCRYPTED else ""
        return f"{perhaps}created while its bucket was unencrypted: its owner has to recreate it"
    reason = _REASONS.get(finding.reason, finding.reason.replace("_", " "))
    if finding.dead_letter == "waiting":
        return f"{reason}; a dead letter waits already"
    return _ACTIONS[finding.outcome].format(reason=reason)


def description(finding: Finding) -> str:
    """Return the action, followed by the cause of a failure."""
    if finding.outcome == FAILED and finding.detail:
        return f"{action(finding)}: {finding.detail}"
    if finding.detail == ENCRYPTED_SINCE_UNKNOWN:
        return f"{action(finding)}; the start of its encryption is unknown"
    if finding.detail == TABLES_NOT_CHECKED:
        return f"{action(finding)}; its tables were not checked"
    return action(finding)


def _exempt_reason(finding: Finding) -> str:
    exemption = finding.exemption
    if not exemption:
        return "managed by OSS"
    until = f" until {day(exemption.expires)}" if exemption.expires else ""
    return f"exempt{until}: {exemption.reason}"


def day(at: date | None) -> str:
    """Return a date in ISO format; the date of a time is that in UTC."""
    if at is None:
        return NOT_KNOWN
    return (_utc(at).date() if isinstance(at, datetime) else at).isoformat()


def minute(at: datetime | None) -> str | None:
    """Return a time in UTC, to the minute."""
    return f"{_utc(at):%Y-%m-%d %H:%M} UTC" if at else None


def second(at: datetime) -> str:
    """Return a time in UTC, to the second."""
    return f"{_utc(at):%Y-%m-%d %H:%M:%S} UTC"


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(timezone.utc)
    # A service may send a time that is outside the range of datetime in UTC.
    except OverflowError:
        return at


def duration(milliseconds: int) -> str:
    """Return a duration in the two largest units that fit.

    >>> duration(4210), duration(5_400_000)
    ('4.2 s', '1 h 30 min')
    """
    whole = round(milliseconds / 1000)
    if whole < 60:
        return f"{milliseconds / 1000:.1f} s"
    units = pairwise(_UNITS)
    (size, unit), (lower_size, lower_unit) = next(two for two in units if whole >= two[0][0])
    rest = whole % size // lower_size
    return f"{whole // size} {unit}" + (f" {rest} {lower_unit}" if rest else "")


def sort_key(finding: Finding) -> tuple[str, ...]:
    """Return a sort key: account, region, bucket, namespace, table."""
    names = (*finding.scope, finding.bucket, finding.namespace, finding.table)
    return tuple([name or "" for name in names])


def problems_first(finding: Finding) -> tuple[int, tuple[str, ...]]:
    """Return a sort key: not encrypted, unknown, skipped, encrypted; then account and names."""
    kind = "skipped" if finding.outcome == "skipped" else finding.state
    rank = ("not_encrypted", "unknown", "skipped", "encrypted").index(kind)
    return rank, sort_key(finding)


def pluralize(number: int, noun: str) -> str:
    """Return a number and a noun, in the singular for 1."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


# Rows.


def has_row(finding: Finding) -> bool:
    """Return whether a finding has a row; encrypted tables are only counted."""
    return finding.kind != "table" or not finding.ok


def is_unseen(finding: Finding) -> bool:
    """Return whether a bucket, table or list is unknown because it could not be read."""
    is_failed = finding.outcome in (FAILED, NOT_REACHED) and finding.reason != "error"
    return finding.state == "unknown" and is_failed


def row(finding: Finding) -> tuple[str | None, ...]:
    """Return the cells under BUCKET_HEADINGS, or those under TABLE_HEADINGS for a table."""
    table = ".".join(part for part in (finding.namespace, finding.table) if part)
    return (
        finding.region,
        finding.bucket,
        *([table] if finding.kind == "table" else []),
        minute(finding.created_at),
        finding.encryption or STATE_WORDS[finding.state],
        description(finding),
    )


def audits(settings: Settings, totals: Totals) -> bool:
    """Return whether the sweep checks every table, or has checked some of late buckets."""
    return settings.audit_tables == "true" or bool(totals.all.tables)


def tally_rows(
    tallies: Iterable[tuple[tuple[str, ...], Tally]], *, audited: bool
) -> list[tuple[str, ...]]:
    """Return a row for each tally: its names, then the cells under TALLY_HEADINGS.

    If tables were checked, those under AUDIT_HEADINGS follow.
    """
    return [(*names, *_numbers(tally, audited=audited)) for names, tally in tallies]


def _numbers(tally: Tally, *, audited: bool) -> tuple[str, ...]:
    buckets = f"{tally.buckets}{' or more' if tally.not_listed else ''}"
    shown = [tally.encrypted, tally.not_encrypted, tally.unknown, tally.exempt]
    if audited:
        shown += [tally.tables, tally.unprotected_tables, tally.unknown_tables]
    return (buckets, *map(str, shown))


def summary(
    totals: Totals, *, applied: bool, audited: bool, accounts: Sequence[Finding] = ()
) -> str:
    """Return the totals as one sentence; `accounts` are the findings of the kinds OF_ACCOUNTS."""
    tally = totals.all
    parts = [
        f"{tally.encrypted} encrypted",
        *([f"{tally.newly_encrypted} of them now"] if applied else []),
        f"{tally.not_encrypted} not encrypted",
        f"{tally.unknown} unknown",
        f"{tally.exempt} exempt",
    ]
    text = f"{pluralize(tally.buckets, 'table bucket')}: {', '.join(parts)}"
    if written := tally.dead_lettered - tally.already_waiting:
        text += f"; {pluralize(written, 'dead letter')} written"
    if tally.already_waiting:
        wait = "waits" if tally.already_waiting == 1 else "wait"
        text += f"; {pluralize(tally.already_waiting, 'dead letter')} {wait} already"
    if audited:
        text += (
            f"; {pluralize(tally.tables, 'table')}: {tally.unprotected_tables} unprotected,"
            f" {tally.unknown_tables} unknown"
        )
    if unread := unread_lists(tally, accounts):
        text += f"; {', '.join(unread)}: there may be more"
    return f"{text}."


def unread_lists(tally: Tally, accounts: Sequence[Finding]) -> list[str]:
    """Return what was not entered or not read to its end, so that there may be more buckets."""
    closed = sum(finding.kind == "account" for finding in accounts)
    lists = tally.not_listed - len(accounts)
    parts = (
        f"{pluralize(closed, 'account')} could not be entered" if closed else "",
        "the list of accounts is incomplete" if len(accounts) > closed else "",
        f"{pluralize(lists, 'list')} could not be read" if lists else "",
    )
    return [part for part in parts if part]
