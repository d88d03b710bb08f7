"""Views of many queued messages: tables, groups and result lines.

Messages contain untrusted text, so all text for a terminal is escaped.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal

from encryption_guard.cli.console import Stdout, is_narrow
from encryption_guard.cli.dead_letter_ids import MIN_ID_PREFIX, AmbiguousId
from encryption_guard.cli.redrive import Result
from encryption_guard.cli.remedies import missing_right, remedy_for
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.enforcement import Outcome
from encryption_guard.untrusted import plain

STATES = {
    "planned": "planned",
    "done": "done",
    "done_not_removed": "done, not removed",
    "failed": "failed",
    "left": "skipped",
    "returned": "failed again",
    "nothing_to_redrive": "nothing to redrive",
}
HEADINGS = ("age", "ID", "reason", "bucket", "status", "redrives")
Grouping = Literal["reason", "bucket", "code"]


@dataclass(frozen=True, slots=True)
class Listed:
    """The summary of a queued message, without its contents: a list may hold hundreds."""

    summary: MessageSummary
    key: str
    since: datetime | None

    @classmethod
    def of(cls, queued: QueuedMessage) -> Listed:
        """Keep only the parts of a queued message that a list shows."""
        return cls(queued.message.summary, queued.key, queued.since)

    def as_dict(self) -> dict[str, Any]:
        """Return the summary, its cause and its remedy for JSON output."""
        remedy = remedy_for(self.summary)
        return {
            **asdict(self.summary),
            "bucket": self.summary.bucket,
            "message_id": self.key,
            "since": self.since,
            "cause": remedy.cause,
            "meaning": remedy.meaning,
            "what_to_do": remedy.what_to_do,
            "missing_right": missing_right(self.summary),
        }

    def row(self, now: datetime) -> tuple[str | None, ...]:
        """Return the table cells for HEADINGS."""
        summary = self.summary
        return (
            age(self.since, now),
            summary.id[:MIN_ID_PREFIX],
            labelled(self),
            bucket_or_number(summary),
            status_and_code(summary),
            str(summary.redrives),
        )


def labelled(message: Listed) -> str:
    """Return the reason of a message with its cause, for example `rejected: no permission`."""
    reason, cause = message.summary.reason, remedy_for(message.summary).cause
    return reason if cause == reason.replace("_", " ") else f"{reason}: {cause}"


def bucket_or_number(summary: MessageSummary) -> str | None:
    """Return the name of the bucket, or the number of buckets if a message names several."""
    return f"{summary.buckets} buckets" if summary.buckets > 1 else summary.bucket


@dataclass(frozen=True, slots=True)
class Group:
    """The messages with one value in common: their number, the oldest time and the remedies.

    `what_to_do` has the remedy of each cause.
    """

    by: Grouping
    value: str | None
    messages: int
    oldest: datetime | None
    causes: list[str]
    what_to_do: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields for JSON output."""
        return asdict(self)

    def row(self, now: datetime) -> tuple[str | None, ...]:
        """Return the value, the number, the age of the oldest message and the causes."""
        return self.value, str(self.messages), age(self.oldest, now), ", ".join(self.causes)


def grouped(listed: Sequence[Listed], by: Grouping) -> list[Group]:
    """Group messages, which are sorted from old to new, and return the largest group first."""
    members: dict[str | None, list[Listed]] = defaultdict(list)
    for message in listed:
        members[getattr(message.summary, by)].append(message)
    groups = []
    for value, messages in members.items():
        advice = _advice(messages)
        oldest = messages[0].since
        groups.append(Group(by, value, len(messages), oldest, list(advice), list(advice.values())))
    return sorted(groups, key=lambda group: -group.messages)


def print_list(listed: Sequence[Listed], now: datetime, stdout: Stdout) -> None:
    """Print a row for each message, and below them what to do about each cause."""
    # On a narrow terminal, the last column is left out.
    columns = len(HEADINGS) - 1 if is_narrow() else len(HEADINGS)
    stdout.table(HEADINGS[:columns], [message.row(now)[:columns] for message in listed])
    _print_advice(_advice(listed), stdout)


def print_groups(groups: Sequence[Group], by: Grouping, now: datetime, stdout: Stdout) -> None:
    """Print a row for each group, and below them what to do about each cause."""
    stdout.table((by, "messages", "oldest", "cause"), [group.row(now) for group in groups])
    _print_advice(
        {
            cause: what_to_do
            for group in groups
            for cause, what_to_do in zip(group.causes, group.what_to_do, strict=True)
        },
        stdout,
    )


def _advice(listed: Sequence[Listed]) -> dict[str, str]:
    """Return the remedy of each cause, once for all its messages."""
    return {labelled(message): remedy_for(message.summary).what_to_do for message in listed}


def _print_advice(advice: dict[str, str], stdout: Stdout) -> None:
    for label, what_to_do in advice.items():
        stdout.paragraph(label, what_to_do)


def ambiguity(error: AmbiguousId, *, now: datetime) -> Iterator[str]:
    """Yield lines that list the messages which each ambiguous ID names, with their message IDs."""
    for word, total, listed in error.ambiguous:
        yield (
            f"the ID {word} names {total} messages, so nothing was done. Pass the message ID of the"
            " one that you mean:"
        )
        for key, summary, since in listed:
            about = bucket_or_number(summary) or "no bucket"
            yield f"  {key}  {age(since, now) or '-'}  {summary.id}  {summary.reason}  {about}"
        if total > len(listed):
            yield f"  and {total - len(listed)} more"


def age(since: datetime | None, now: datetime) -> str | None:
    """Return the elapsed time in its largest whole unit, such as `3 h`; None without a start."""
    if since is None:
        return None
    seconds = max(int((now - since).total_seconds()), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def status_and_code(source: MessageSummary | Outcome) -> str:
    """Return the HTTP status and the error code, or the part that is known."""
    return " ".join(str(part) for part in (source.status, source.code) if part)


def result_as_dict(result: Result) -> dict[str, Any]:
    """Return the summary of a message and its result for JSON output."""
    fields = {"message_id": result.key, "state": result.state, "result": result.detail}
    return {**asdict(result.summary), "bucket": result.summary.bucket, **fields}


def result_line(result: Result) -> str:
    """Return the result as one line of text."""
    summary = result.summary
    subject = bucket_or_number(summary) or summary.event_id or "-"
    cells = (summary.id[:MIN_ID_PREFIX], f"{STATES[result.state]:18}", f"{subject:24}")
    return plain("  ".join([*cells, result.detail]))
