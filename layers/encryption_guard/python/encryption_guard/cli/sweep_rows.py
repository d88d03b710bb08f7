"""What a sweep found, in words and in rows: for a terminal, a page, a spreadsheet, a program."""

from __future__ import annotations

from datetime import date, datetime, timezone
from itertools import pairwise
from typing import Any, Final

from encryption_guard.services.oss_tables import State
from encryption_guard.sweep.findings import (
    ENCRYPTED_SINCE_UNKNOWN,
    FAILED,
    NOT_REACHED,
    UNPROTECTED,
    Finding,
    Tally,
    Totals,
)
from encryption_guard.untrusted import plain
from encryption_guard.version import __version__

BUCKET_HEADINGS = ("region", "bucket", "created", "encryption", "done, or to be done")
TABLE_HEADINGS = ("region", "bucket", "table", "created", "encryption", "what to do")
TOTAL_HEADINGS = ("region", "buckets", "encrypted", "not encrypted", "unknown", "exempt")
AUDIT_HEADINGS = ("tables", "unprotected", "unknown tables")

CSV_COLUMNS = (
    "kind",
    "region",
    "bucket",
    "namespace",
    "table",
    "created_at",
    "state",
    "encryption",
    "outcome",
    "reason",
    "detail",
    "exemption",
    "exempt_until",
    "time_to_encrypt_ms",
    "status",
    "code",
    "oss_request_id",
    "arn",
    "version",
)

# How a person calls the three states.
STATE_WORDS: Final[dict[State, str]] = {
    "not_encrypted": "not encrypted",
    "unknown": "unknown",
    "encrypted": "encrypted",
}
NOT_KNOWN: Final = "not known"

_DONE = {
    "encrypted": "encrypted now ({reason})",
    "already_encrypted": "nothing to do",
    "kept_stronger": "kept {reason}",
    "detected": "would be encrypted",
    "dead_lettered": "refused, kept as a dead letter ({reason})",
    NOT_REACHED: "not reached",
    UNPROTECTED: "its owner has to recreate it",
}
_FAILED = {
    "unread": "could not be read",
    "gone": "not found",
    "unavailable": "could not be encrypted",
    "not_confirmed": "encrypted, but not confirmed",
    "not_listed": "could not be listed",
    "unreadable": "could not be listed in full",
    "error": "the guard failed",
}
_REASONS = {"created": "new"}

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def action(finding: Finding) -> str:
    """What was done, or would be, in a few words; `detail` may say more."""
    if finding.outcome == "skipped":
        return _exempt_reason(finding)
    if finding.outcome == FAILED:
        return _FAILED.get(finding.reason, "failed")
    if finding.reason == "made_before":
        return "made while its bucket was open: its owner has to recreate it"
    reason = _REASONS.get(finding.reason, finding.reason.replace("_", " "))
    return _DONE[finding.outcome].format(reason=reason)


def description(finding: Finding) -> str:
    """The same on a line of its own, with the reason where something failed."""
    if finding.outcome == FAILED and finding.detail:
        return f"{action(finding)}: {finding.detail}"
    if finding.detail == ENCRYPTED_SINCE_UNKNOWN:
        return f"{action(finding)}; since when it is encrypted is not known"
    return action(finding)


def _exempt_reason(finding: Finding) -> str:
    exemption = finding.exemption
    if not exemption:
        return "managed by OSS"
    until = f" until {day(exemption.expires)}" if exemption.expires else ""
    return f"exempt{until}: {exemption.reason}"


def day(at: date | None) -> str:
    """A day of the calendar; of a moment, its day in UTC."""
    if at is None:
        return NOT_KNOWN
    return (_utc(at).date() if isinstance(at, datetime) else at).isoformat()


def minute(at: datetime | None) -> str | None:
    """A moment, to the minute."""
    return f"{_utc(at):%Y-%m-%d %H:%M} UTC" if at else None


def _utc(at: datetime) -> datetime:
    try:
        return at.astimezone(timezone.utc)
    # A service may say anything, such as a moment before the first year.
    except OverflowError:
        return at


def seconds(milliseconds: int) -> str:
    """A time span, in the two largest units that fit."""
    whole = round(milliseconds / 1000)
    if whole < 60:
        return f"{milliseconds / 1000:.1f} s"
    (size, unit), (smaller, below) = next(two for two in pairwise(_UNITS) if whole >= two[0][0])
    rest = whole % size // smaller
    return f"{whole // size} {unit}" + (f" {rest} {below}" if rest else "")


def in_order(finding: Finding) -> tuple[str, ...]:
    """A key to sort by: region and names."""
    names = (finding.region, finding.bucket, finding.namespace, finding.table)
    return tuple(name or "" for name in names)


def problems_first(finding: Finding) -> tuple[int, tuple[str, ...]]:
    """A key to sort by: not encrypted, unknown, left alone, encrypted; then region and names."""
    kind = "skipped" if finding.outcome == "skipped" else finding.state
    rank = ("not_encrypted", "unknown", "skipped", "encrypted").index(kind)
    return rank, in_order(finding)


def counted(number: int, what: str) -> str:
    """A number of things, in words that fit it."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


# In rows.


def is_shown(finding: Finding) -> bool:
    """Whether a finding has a row: every bucket and region, and of the tables those amiss."""
    return finding.kind != "table" or not finding.ok


def row(finding: Finding) -> tuple[str | None, ...]:
    """The cells under BUCKET_HEADINGS, or of a table those under TABLE_HEADINGS."""
    table = ".".join(part for part in (finding.namespace, finding.table) if part)
    return (
        finding.region,
        finding.bucket,
        *([table] if finding.kind == "table" else []),
        minute(finding.created_at),
        # The algorithm, or which of the other two states it is.
        finding.encryption or STATE_WORDS[finding.state],
        description(finding),
    )


def total_rows(totals: Totals, *, audited: bool) -> list[tuple[str, ...]]:
    """The cells under TOTAL_HEADINGS, and AUDIT_HEADINGS where tables were looked at."""
    named = [(scope.region, tally) for scope, tally in totals.regions.items()]
    if len(named) > 1:
        named.append(("all", totals.all))
    return [(region, *_numbers(tally, audited=audited)) for region, tally in named]


def _numbers(tally: Tally, *, audited: bool) -> tuple[str, ...]:
    buckets = f"{tally.buckets}{' or more' if tally.not_listed else ''}"
    shown = [tally.encrypted, tally.not_encrypted, tally.unknown, tally.exempt]
    if audited:
        shown += [tally.tables, tally.unprotected_tables, tally.unknown_tables]
    return (buckets, *map(str, shown))


def csv_cells(finding: Finding) -> list[str]:
    """The cells under CSV_COLUMNS; none of them is a formula to a spreadsheet."""
    exemption = finding.exemption
    fields: dict[str, Any] = {
        **finding.as_dict(),
        "exemption": exemption.reason if exemption else None,
        "exempt_until": exemption.expires if exemption else None,
        "version": __version__,
    }
    return [_cell(fields[column]) for column in CSV_COLUMNS]


def _cell(value: object) -> str:
    text = "" if value is None else plain(value)
    return f"'{text}" if text.startswith(("=", "+", "-", "@")) else text


def summary(totals: Totals, *, applied: bool, audited: bool) -> str:
    """How it went, in a sentence."""
    tally = totals.all
    parts = [
        f"{tally.encrypted} encrypted",
        *([f"{tally.newly_encrypted} of them now"] if applied else []),
        f"{tally.not_encrypted} not encrypted",
        f"{tally.unknown} unknown",
        f"{tally.exempt} exempt",
    ]
    told = f"{counted(tally.buckets, 'table bucket')}: {', '.join(parts)}"
    if tally.dead_lettered:
        told += f"; {counted(tally.dead_lettered, 'dead letter')}"
    if audited:
        told += (
            f"; {counted(tally.tables, 'table')}: {tally.unprotected_tables} unprotected,"
            f" {tally.unknown_tables} unknown"
        )
    if tally.not_listed:
        told += f"; {counted(tally.not_listed, 'list')} not read to the end: there may be more"
    return f"{told}."
