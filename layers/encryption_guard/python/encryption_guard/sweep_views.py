"""What a sweep found, in words: the same ones on the page and in the terminal."""

from __future__ import annotations

from datetime import date, datetime, timezone
from itertools import pairwise
from typing import Final

from encryption_guard.findings import FAILED, NOT_REACHED, UNPROTECTED, Finding
from encryption_guard.oss_tables import State

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


def done(finding: Finding) -> str:
    """What was done, or would be, in a few words; `detail` may say more."""
    if finding.outcome == "skipped":
        return _left_alone(finding)
    if finding.outcome == FAILED:
        return _FAILED.get(finding.reason, "failed")
    reason = _REASONS.get(finding.reason, finding.reason.replace("_", " "))
    return _DONE[finding.outcome].format(reason=reason)


def told(finding: Finding) -> str:
    """The same on a line of its own, with the reason where something failed."""
    if finding.outcome == FAILED and finding.detail:
        return f"{done(finding)}: {finding.detail}"
    return done(finding)


def _left_alone(finding: Finding) -> str:
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


def not_well_first(finding: Finding) -> tuple[int, tuple[str, ...]]:
    """A key to sort by: not encrypted, unknown, left alone, encrypted; then region and names."""
    kind = "skipped" if finding.outcome == "skipped" else finding.state
    rank = ("not_encrypted", "unknown", "skipped", "encrypted").index(kind)
    return rank, in_order(finding)
