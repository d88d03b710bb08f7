"""A dead letter as it is written: the document, which is a contract, and the event in it."""

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
from encryption_guard.events.envelopes import MAX_DECODED_BYTES, Event

# SMQ takes 64 KB and a base64 body is a third longer: this leaves room for the XML around it.
MAX_DEAD_LETTER_BYTES = 47 * 1024
# What is kept compressed, for an operator to read; the function opens no more than LARGEST_EVENT.
MAX_COMPRESSED_EVENT_BYTES = 4 * 1024 * 1024

Encoding = Literal["utf-8", "base64", "gzip+base64"]


class DeadLetter(BaseModel):
    """An event that no retry can help, with all an operator needs to mend it and send it again."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    version: Literal[1] = 1
    id: str
    reason: Reason
    detail: str
    event: str
    event_encoding: Encoding
    event_id: str | None
    arn: str | None
    status: int | None
    code: str | None
    message: str | None
    ec: str | None
    oss_request_id: str | None
    function: str
    function_request_id: str
    attempts: int = Field(ge=0)
    redrives: int = Field(ge=0)
    at: str

    def body(self) -> bytes:
        """The letter as it is written."""
        return self.model_dump_json().encode()


def dead_letter_id(event: Event, reason: str) -> str:
    """The same for a repeat of the same event with the same result."""
    if event.event_id:
        return str(uuid5(NAMESPACE_URL, f"{event.source or ''}/{event.event_id}/{reason}"))
    return str(uuid5(NAMESPACE_URL, sha256(event.raw).hexdigest()))


def fit(letter: DeadLetter, raw: bytes) -> DeadLetter:
    """Put the event into the letter in the first encoding that keeps it within LARGEST_LETTER.

    An event that fits in none is left out; its size and hash go to `detail`.
    """
    for encoding, text in encodings(raw, largest=MAX_COMPRESSED_EVENT_BYTES):
        filled = letter.model_copy(update={"event": text, "event_encoding": encoding})
        if len(text) <= MAX_DEAD_LETTER_BYTES and len(filled.body()) <= MAX_DEAD_LETTER_BYTES:
            return filled
    lost = f" The event is too large: {len(raw)} bytes, sha256 {sha256(raw).hexdigest()}."
    return letter.model_copy(update={"detail": letter.detail + lost})


def encodings(raw: bytes, *, largest: int = MAX_DECODED_BYTES) -> Iterator[tuple[Encoding, str]]:
    """Each form that an event may have in a letter; compressed only up to the `largest`."""
    with suppress(UnicodeDecodeError):
        yield "utf-8", raw.decode()
    yield "base64", b64encode(raw).decode()
    if len(raw) <= largest:
        # Level 9, the default, takes up to thirty times as long for a twentieth less.
        yield "gzip+base64", b64encode(gzip.compress(raw, 6, mtime=0)).decode()
