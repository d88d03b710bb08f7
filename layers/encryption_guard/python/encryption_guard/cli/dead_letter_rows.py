"""Views of queued messages for people and programs: table rows, groups, result lines and details.

All functions are pure. Messages contain untrusted text, so all text for a terminal is escaped.
"""

from __future__ import annotations

from base64 import b64encode
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from shlex import quote
from typing import Any, Literal

from encryption_guard.cli.redrive import MIN_ID_PREFIX, Result
from encryption_guard.cli.remedies import missing_right, remedy_for
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.enforcement import Outcome
from encryption_guard.untrusted import loads, plain, plain_json

KINDS = {
    "dead_letter": "a dead letter from the guard",
    "destination_record": "a failure record from Function Compute",
    "cloud_event": "an undelivered event from EventBridge",
    "unknown": "a message of an unknown kind",
}
STATES = {
    "planned": "planned",
    "done": "done",
    "done_not_removed": "done, not removed",
    "failed": "failed",
    "left": "skipped",
    "returned": "failed again",
}
HEADINGS = ("age", "ID", "reason", "bucket", "status", "redrives", "what to do")

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
            summary.reason,
            summary.bucket,
            status_and_code(summary),
            str(summary.redrives),
            remedy_for(summary).what_to_do,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """The messages with one value in common: their number, the oldest time and the remedies."""

    by: Grouping
    value: str | None
    messages: int
    oldest: datetime | None
    what_to_do: list[str]

    def as_dict(self) -> dict[str, Any]:
        """Return all fields for JSON output."""
        return asdict(self)

    def row(self, now: datetime) -> tuple[str | None, ...]:
        """Return the value, the number, the age of the oldest message and the remedies."""
        return self.value, str(self.messages), age(self.oldest, now), " ".join(self.what_to_do)


def grouped(listed: Sequence[Listed], by: Grouping) -> list[Group]:
    """Group messages, which are sorted from old to new, and return the largest group first."""
    members: dict[str | None, list[Listed]] = defaultdict(list)
    for message in listed:
        members[getattr(message.summary, by)].append(message)
    groups = []
    for value, messages in members.items():
        remedies = dict.fromkeys(remedy_for(message.summary).what_to_do for message in messages)
        groups.append(Group(by, value, len(messages), messages[0].since, list(remedies)))
    return sorted(groups, key=lambda group: -group.messages)


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
    subject = summary.bucket or summary.event_id or "-"
    cells = (summary.id[:MIN_ID_PREFIX], f"{STATES[result.state]:17}", f"{subject:24}")
    return plain("  ".join([*cells, result.detail]))


def contents(queued: QueuedMessage) -> dict[str, Any]:
    """Return the unchanged body, which can be put back into a queue, and the events in it."""
    events = [readable(event.raw) for event in queued.message.events]
    return {"body": readable(queued.body), "events_in_it": events}


def readable(data: bytes) -> str:
    """Return UTF-8 text unchanged, and other bytes as `base64:` followed by their Base64 form."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{b64encode(data).decode()}"


def details(queued: QueuedMessage, now: datetime, *, queue: str | None = None) -> str:
    """Return everything about one message as text for a terminal.

    The suggested commands contain `--queue` with `queue`, the value that the operator passed.
    """
    summary = queued.message.summary
    fields = _fields(queued, now).items()
    lines = [f"{name:17} {plain(value)}" for name, value in fields if value]
    statement = missing_right(summary)
    if statement:
        lines += ["", "The missing permission, as a RAM policy statement:"]
        lines += [plain_json(statement, indent=2)]
    lines += ["", *map(plain, _commands(summary, queue))]
    for event in queued.message.events:
        lines += ["", "Event:", _indented(event.raw)]
    if not queued.message.events:
        lines += ["", "Message:", plain(readable(queued.body))]
    return "\n".join([*lines, ""])


def _indented(event: bytes) -> str:
    """Return JSON with indentation, and any other text on one line."""
    try:
        return plain_json(loads(event), indent=2)
    except ValueError:
        return plain(readable(event))


def _fields(queued: QueuedMessage, now: datetime) -> dict[str, str | None]:
    summary = queued.message.summary
    remedy = remedy_for(summary)
    ids = (("EC", summary.ec), ("OSS request ID", summary.oss_request_id))
    response = [
        status_and_code(summary),
        summary.message,
        *(f"({name} {value})" for name, value in ids if value),
    ]
    since = queued.since
    return {
        "ID": f"{summary.id}, {KINDS[summary.kind]}",
        "bucket": summary.arn,
        "event ID": summary.event_id,
        "in queue since": f"{since:%Y-%m-%d %H:%M:%S} UTC ({age(since, now)})" if since else None,
        "reason": f"{summary.reason}: {remedy.cause}",
        "what happened": summary.detail,
        "service response": " ".join(filter(None, response)),
        "function": summary.function,
        "FC request ID": summary.function_request_id,
        "attempts": str(summary.attempts or ""),
        "redrives": str(summary.redrives),
        "what it means": remedy.meaning,
        "what to do": remedy.what_to_do,
    }


def _commands(summary: MessageSummary, queue: str | None) -> list[str]:
    # Operators paste these lines into a shell, so untrusted values are quoted.
    queue_option = f"--queue {quote(queue)} " if queue else ""
    commands = []
    if summary.events:
        commands.append(f"encryption-guard dead-letters redrive {summary.id} {queue_option}--apply")
    if summary.arn:
        commands.append(f"encryption-guard enforce {quote(summary.arn)}")
    discard = f"encryption-guard dead-letters discard {summary.id} {queue_option}"
    return [*commands, f'{discard}--because "..." --apply']
