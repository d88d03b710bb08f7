"""A waiting message of each kind, and summaries with as little as there can be."""

from __future__ import annotations

import json
from typing import Any

from encryption_guard.dead_letters.destinations import QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary
from tests.unit.fakes import ARN, creation_of, dead_letter_of, destination_record_of, waiting_of

REJECTED = waiting_of(dead_letter_of(creation_of(ARN)))
RECORD = waiting_of(destination_record_of(creation_of(ARN)), key="message-2")
RULE = waiting_of(json.dumps(creation_of(ARN)).encode(), key="message-3")
NO_LETTER = waiting_of(b"\x1b[31mhello", key="message-4")
KNOWN = {"dead_letter": REJECTED, "record": RECORD, "rule": RULE, "unknown": NO_LETTER}


def about(**told: Any) -> MessageSummary:
    """A letter with what is told of it, and as little besides as there can be."""
    known: dict[str, Any] = {
        "id": REJECTED.message.summary.id,
        "kind": "dead_letter",
        "reason": "rejected",
        "detail": "OSS Tables answered 403.",
    }
    return MessageSummary(**known | told)


def letter(number: int = 1, *, redrives: int = 0, key: str | None = None) -> QueuedMessage:
    """The letter of an event that is another one for each number."""
    body = dead_letter_of(creation_of(ARN, event_id=f"event-{number}"), redrives=redrives)
    return waiting_of(body, key=key or f"message-{number}")
