"""Everything about one queued message, for a person or a program.

Messages contain untrusted text. All text for a terminal is escaped, and a command to paste contains
only a message ID, which SMQ assigns, and the validated ARN of a table bucket.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from shlex import quote
from typing import Any

from encryption_guard.cli.dead_letter_rows import age, status_and_code
from encryption_guard.cli.remedies import missing_right, named_bucket, remedy_for
from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.dead_letters.redrivable import obstacle_of
from encryption_guard.untrusted import loads, plain, plain_json, plain_json_text

KINDS = {
    "dead_letter": "a dead letter from the guard",
    "destination_record": "a failure record from Function Compute",
    "cloud_event": "an undelivered event from EventBridge",
    "unknown": "a message of an unknown kind",
}
# Of the buckets that one message names, `show` prints this many.
MAX_BUCKETS_SHOWN = 10

# A message of 3 KB may unpack to 256 KB, and these to 100 MB of lines with indentation.
MAX_SHOWN_BYTES = 256 * 1024
# What `show` prints besides the events and the message itself.
RESERVED_BYTES = 64 * 1024


def contents(queued: QueuedMessage, *, in_full: bool) -> dict[str, Any]:
    """Return the unchanged body, which can be put back into a queue, and the events in it.

    Only `in_full` shows a body that no queue can hold and a file can. Events that do not fit into
    MAX_SHOWN_BYTES are left out: the body contains them.
    """
    room = MAX_SHOWN_BYTES - RESERVED_BYTES
    body = readable(queued.body)
    is_cut = not in_full and _size_as_json(body) > room
    if is_cut:
        body = readable(queued.body[: room // 2])
    room -= _size_as_json(body)
    events = []
    for event in queued.message.events:
        text = readable(event.raw)
        room -= _size_as_json(text)
        if room < 0:
            break
        events.append(text)
    left_out = len(queued.message.events) - len(events)
    return {
        "body": body,
        "body_is_cut": is_cut,
        "events_in_it": events,
        "events_left_out": left_out,
    }


def readable(data: bytes) -> str:
    """Return UTF-8 text unchanged, and other bytes as `base64:` followed by their Base64 form.

    A text of which JSON needs more than twice the size counts as other bytes.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = None
    if text is None or _size_as_json(text) > 2 * len(data) + 2:
        return f"base64:{b64encode(data).decode()}"
    return text


def _size_as_json(text: str) -> int:
    return len(plain_json(text).encode("utf-8", "surrogatepass"))


def details(queued: QueuedMessage, now: datetime, *, queue: str | None = None) -> str:
    """Return everything about one message as text for a terminal, at most MAX_SHOWN_BYTES.

    The suggested commands contain `--queue` with `queue`, the value that the operator passed.
    """
    summary = queued.message.summary
    fields = _fields(queued, now).items()
    lines = [f"{name:17} {plain(value)}" for name, value in fields if value]
    statement = missing_right(summary)
    if statement:
        lines += ["", "The missing permission, as a RAM policy statement:"]
        lines += [plain_json(statement, indent=2)]
    lines += ["", *map(plain, _commands(queued, queue))]
    room = MAX_SHOWN_BYTES - RESERVED_BYTES
    if queued.message.events:
        lines += _shown_events([event.raw for event in queued.message.events], room)
    else:
        lines += ["", "Message:", _cut(plain(readable(queued.body)), room)]
    return "\n".join([*lines, ""])


def _shown_events(events: Sequence[bytes], room: int) -> Iterator[str]:
    """Yield each event under a heading, until the room is used."""
    for number, event in enumerate(events):
        text = _laid_out(event, room)
        yield from ("", "Event:", text)
        room -= len(text.encode()) + len("Event:") + 3
        left_out = len(events) - number - 1
        if room <= 0 and left_out:
            yield f"({left_out} more not shown)"
            return


def _laid_out(event: bytes, room: int) -> str:
    """Return JSON with indentation if it fits, and any other text on one line, cut to the room."""
    with suppress(ValueError, RecursionError):
        return "".join(_pieces(loads(event), room))
    return _cut(plain(readable(event)), room)


def _cut(text: str, room: int) -> str:
    shown = text.encode()[:room].decode(errors="ignore")
    left_out = len(text) - len(shown)
    return f"{shown}... ({left_out} more characters not shown)" if left_out else shown


def _pieces(document: object, room: int) -> Iterator[str]:
    """Yield the pieces of a JSON text with indentation; raises ValueError if it does not fit."""
    for piece in json.JSONEncoder(indent=2, ensure_ascii=False).iterencode(document):
        escaped = plain_json_text(piece)
        room -= len(escaped.encode())
        if room < 0:
            raise ValueError("the document does not fit")
        yield escaped


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
        "message ID": queued.key,
        "bucket": _buckets(queued),
        "stated bucket": _stated(summary),
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


def _buckets(queued: QueuedMessage) -> str:
    arns = queued.message.named.arns
    names = ", ".join(map(str, arns[:MAX_BUCKETS_SHOWN]))
    more = len(arns) - MAX_BUCKETS_SHOWN
    return f"{names} and {more} more" if more > 0 else names


def _stated(summary: MessageSummary) -> str | None:
    if not summary.stated_arn:
        return None
    return f"{summary.stated_arn} (the message contains no event that proves it)"


def _commands(queued: QueuedMessage, queue: str | None) -> list[str]:
    # Operators paste these lines into a shell. Nobody can choose the key of a message, and a bucket
    # is printed only if its ARN is valid.
    queue_option = f"--queue {quote(queue)} " if queue else ""
    key, commands = quote(queued.key), []
    if not obstacle_of(queued.message):
        commands.append(f"encryption-guard dead-letters redrive {key} {queue_option}--apply")
    if arn := named_bucket(queued.message.summary):
        commands.append(f"encryption-guard enforce {arn} --apply")
    discard = f"encryption-guard dead-letters discard {key} {queue_option}"
    return [*commands, f'{discard}--because "..." --apply']
