"""The dead letter as a JSON document: a versioned contract that includes the original event."""

from __future__ import annotations

import gzip
from base64 import b64encode
from collections.abc import Iterator
from contextlib import suppress
from hashlib import sha256
from typing import Literal
from uuid import NAMESPACE_URL, uuid5

from pydantic import BaseModel, ConfigDict, Field

from encryption_guard.errors import Reason
from encryption_guard.events.envelopes import MAX_DECODED_BYTES, MAX_REDRIVES, Event

# SMQ accepts 64 KB, and base64 makes a body a third longer. The rest is for the XML around it.
MAX_DEAD_LETTER_BYTES = 47 * 1024
# A dead letter keeps a compressed event up to this size, for an operator to unpack. The functions
# and the commands unpack at most MAX_DECODED_BYTES.
MAX_COMPRESSED_EVENT_BYTES = 4 * 1024 * 1024
# More requests than one event can cause: GUARD_MAX_ATTEMPTS is at most 20.
MAX_ATTEMPTS = 1000

Encoding = Literal["utf-8", "base64", "gzip+base64"]


class DeadLetter(BaseModel):
    """An event that no retry can fix, with the facts that an operator needs to redrive it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    id: str
    reason: Reason
    detail: str
    event: str
    event_encoding: Encoding
    event_id: str | None
    arn: str | None
    status: int | None = Field(ge=100, le=999)
    code: str | None
    message: str | None
    ec: str | None
    oss_request_id: str | None
    function: str
    function_request_id: str
    attempts: int = Field(ge=0, le=MAX_ATTEMPTS)
    redrives: int = Field(ge=0, le=MAX_REDRIVES)
    at: str

    def body(self) -> bytes:
        """Return the dead letter as JSON in UTF-8."""
        return self.model_dump_json().encode()


def dead_letter_id(event: Event, reason: str) -> str:
    """Return the ID of a dead letter, equal for each repeat of an event with the same reason.

    If the event has no ID, the ID depends on the bytes of the event alone.
    """
    if event.event_id:
        return str(uuid5(NAMESPACE_URL, f"{event.source or ''}/{event.event_id}/{reason}"))
    return str(uuid5(NAMESPACE_URL, sha256(event.raw).hexdigest()))


def fit(dead_letter: DeadLetter, raw: bytes) -> DeadLetter:
    """Add the event to a dead letter, in the first encoding that fits MAX_DEAD_LETTER_BYTES.

    If none fits, `event` stays empty, and `detail` states the size and hash of the event.
    """
    for encoding, text in encodings(raw, largest=MAX_COMPRESSED_EVENT_BYTES):
        filled = dead_letter.model_copy(update={"event": text, "event_encoding": encoding})
        if len(text) <= MAX_DEAD_LETTER_BYTES and len(filled.body()) <= MAX_DEAD_LETTER_BYTES:
            return filled
    size = f"{len(raw)} bytes, sha256 {sha256(raw).hexdigest()}"
    detail = f"{dead_letter.detail} The event is too large for its dead letter: {size}."
    return dead_letter.model_copy(update={"detail": detail})


def encodings(raw: bytes, *, largest: int = MAX_DECODED_BYTES) -> Iterator[tuple[Encoding, str]]:
    """Yield each encoding that an event may have in a dead letter, with the encoded text.

    An event of more than `largest` bytes is not compressed.

    >>> [encoding for encoding, _ in encodings(b"{}")]
    ['utf-8', 'base64', 'gzip+base64']
    """
    with suppress(UnicodeDecodeError):
        yield "utf-8", raw.decode()
    yield "base64", b64encode(raw).decode()
    if len(raw) <= largest:
        # The default, level 9, takes up to 30 times as long and saves only 5 % more.
        yield "gzip+base64", b64encode(gzip.compress(raw, 6, mtime=0)).decode()
