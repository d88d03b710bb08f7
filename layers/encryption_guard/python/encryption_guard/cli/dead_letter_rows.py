"""Dead letters as a person or a program reads them: a row, a group, a line, the whole story.

Everything here is pure. What a letter says is foreign: whatever is for a terminal is made plain.
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
    "dead_letter": "a dead letter of the guard",
    "destination_record": "a record of Function Compute's failure destination",
    "cloud_event": "an event from EventBridge",
    "unknown": "a message of no known kind",
}
STATES = {
    "planned": "planned",
    "done": "done",
    "done_not_removed": "done, not removed",
    "failed": "failed",
    "left": "left alone",
    "returned": "came back",
}
HEADINGS = ("age", "ID", "reason", "bucket", "status", "redrives", "what to do")

Grouping = Literal["reason", "bucket", "code"]


@dataclass(frozen=True, slots=True)
class Listed:
    """A letter without its contents, of which there may be hundreds."""

    letter: MessageSummary
    key: str
    since: datetime | None

    @classmethod
    def of(cls, waiting: QueuedMessage) -> Listed:
        """What a list keeps of a letter that waits."""
        return cls(waiting.message.summary, waiting.key, waiting.since)

    def as_dict(self) -> dict[str, Any]:
        """Everything known of it, and what to do."""
        remedy = remedy_for(self.letter)
        return {
            **asdict(self.letter),
            "bucket": self.letter.bucket,
            "message_id": self.key,
            "since": self.since,
            "cause": remedy.cause,
            "meaning": remedy.meaning,
            "what_to_do": remedy.what_to_do,
            "missing_right": missing_right(self.letter),
        }

    def row(self, now: datetime) -> tuple[str | None, ...]:
        """The cells under HEADINGS."""
        letter = self.letter
        return (
            age(self.since, now),
            letter.id[:MIN_ID_PREFIX],
            letter.reason,
            letter.bucket,
            status_and_code(letter),
            str(letter.redrives),
            remedy_for(letter).what_to_do,
        )


@dataclass(frozen=True, slots=True)
class Group:
    """How many letters have one thing in common, how old the oldest is, and what to do."""

    by: Grouping
    value: str | None
    letters: int
    oldest: datetime | None
    what_to_do: list[str]

    def as_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        return asdict(self)

    def row(self, now: datetime) -> tuple[str | None, ...]:
        """Value, number, age of the oldest, what to do."""
        return self.value, str(self.letters), age(self.oldest, now), " ".join(self.what_to_do)


def grouped(listed: Sequence[Listed], by: Grouping) -> list[Group]:
    """The largest group first; `listed` has the oldest letter first."""
    members: dict[str | None, list[Listed]] = defaultdict(list)
    for one in listed:
        members[getattr(one.letter, by)].append(one)
    groups = []
    for value, found in members.items():
        remedy = dict.fromkeys(remedy_for(one.letter).what_to_do for one in found)
        groups.append(Group(by, value, len(found), found[0].since, list(remedy)))
    return sorted(groups, key=lambda group: -group.letters)


def age(since: datetime | None, now: datetime) -> str | None:
    """How long ago, in the largest unit that fits."""
    if since is None:
        return None
    seconds = max(int((now - since).total_seconds()), 0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


def status_and_code(about: MessageSummary | Outcome) -> str:
    """Status and code, as far as there are any."""
    return " ".join(str(part) for part in (about.status, about.code) if part)


def result_as_dict(result: Result) -> dict[str, Any]:
    """A letter and what became of it."""
    told = {"message_id": result.key, "state": result.state, "result": result.detail}
    return {**asdict(result.letter), "bucket": result.letter.bucket, **told}


def result_line(result: Result) -> str:
    """The same on one line."""
    letter = result.letter
    about = letter.bucket or letter.event_id or "-"
    cells = (letter.id[:MIN_ID_PREFIX], f"{STATES[result.state]:17}", f"{about:24}")
    return plain("  ".join([*cells, result.detail]))


def contents(waiting: QueuedMessage) -> dict[str, Any]:
    """The message as it is, so that it could be put back, and the events in it."""
    events = [readable(event.raw) for event in waiting.message.events]
    return {"body": readable(waiting.body), "events_in_it": events}


def readable(data: bytes) -> str:
    """The text, or `base64:` and what it needs where it is none."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return f"base64:{b64encode(data).decode()}"


def details(waiting: QueuedMessage, now: datetime, *, queue: str | None = None) -> str:
    """All there is to tell about one letter, for a terminal; `queue` as the operator named it."""
    letter = waiting.message.summary
    lines = [f"{name:17} {plain(value)}" for name, value in _fields(waiting, now).items() if value]
    right = missing_right(letter)
    if right:
        lines += ["", "The missing right, as a statement of a RAM policy:"]
        lines += [plain_json(right, indent=2)]
    lines += ["", *map(plain, _commands(letter, queue))]
    for event in waiting.message.events:
        lines += ["", "Event:", _indented(event.raw)]
    if not waiting.message.events:
        lines += ["", "Message:", plain(readable(waiting.body))]
    return "\n".join([*lines, ""])


def _indented(event: bytes) -> str:
    """The event for a person to read; as it is where it is no JSON."""
    try:
        return plain_json(loads(event), indent=2)
    except ValueError:
        return plain(readable(event))


def _fields(waiting: QueuedMessage, now: datetime) -> dict[str, str | None]:
    letter = waiting.message.summary
    remedy = remedy_for(letter)
    ids = (("EC", letter.ec), ("OSS request id", letter.oss_request_id))
    said = [status_and_code(letter), letter.message, *(f"({k} {v})" for k, v in ids if v)]
    at = waiting.since
    return {
        "letter": f"{letter.id}, {KINDS[letter.kind]}",
        "bucket": letter.arn,
        "event": letter.event_id,
        "waiting since": f"{at:%Y-%m-%d %H:%M:%S} UTC ({age(at, now)})" if at else None,
        "reason": f"{letter.reason}: {remedy.cause}",
        "what happened": letter.detail,
        "the service said": " ".join(filter(None, said)),
        "function": letter.function,
        "its request id": letter.function_request_id,
        "tries": str(letter.attempts or ""),
        "redriven": f"{letter.redrives} times",
        "what it means": remedy.meaning,
        "what to do": remedy.what_to_do,
    }


def _commands(letter: MessageSummary, queue: str | None) -> list[str]:
    # To be pasted into a shell, where a letter's words must be nothing but words.
    on = f"--queue {quote(queue)} " if queue else ""
    commands = []
    if letter.events:
        commands.append(f"encryption-guard dead-letters redrive {letter.id} {on}--apply")
    if letter.arn:
        commands.append(f"encryption-guard enforce {quote(letter.arn)}")
    discard = f'encryption-guard dead-letters discard {letter.id} {on}--because "..." --apply'
    return [*commands, discard]
