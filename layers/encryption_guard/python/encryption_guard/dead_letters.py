"""Dead letters: the document, and where it goes."""

from __future__ import annotations

import gzip
import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from encryption_guard.config import Queue
from encryption_guard.errors import (
    ConfigurationError,
    DeadEnd,
    LetterNotWritten,
    Reason,
    shortened,
)
from encryption_guard.payloads import LARGEST_EVENT, Delivery
from encryption_guard.transport import Invocation

# SMQ takes 64 KB and a base64 body is a third longer: this leaves room for the XML around it.
LARGEST_LETTER = 47 * 1024
# What is kept compressed, for an operator to read; the function opens no more than LARGEST_EVENT.
LARGEST_PACKED = 4 * 1024 * 1024
LOG_CHUNK = 8 * 1024

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


def letter_id(delivery: Delivery, reason: str) -> str:
    """The same for a repeat of the same event with the same result."""
    from uuid import NAMESPACE_URL, uuid5  # only a failure needs it

    if delivery.event_id:
        return str(uuid5(NAMESPACE_URL, f"{delivery.source or ''}/{delivery.event_id}/{reason}"))
    return str(uuid5(NAMESPACE_URL, sha256(delivery.raw).hexdigest()))


def fit(letter: DeadLetter, raw: bytes) -> DeadLetter:
    """Put the event into the letter in the first encoding that keeps it within LARGEST_LETTER.

    An event that fits in none is left out; its size and hash go to `detail`.
    """
    for encoding, text in encodings(raw, largest=LARGEST_PACKED):
        filled = letter.model_copy(update={"event": text, "event_encoding": encoding})
        if len(text) <= LARGEST_LETTER and len(filled.body()) <= LARGEST_LETTER:
            return filled
    lost = f" The event is too large: {len(raw)} bytes, sha256 {sha256(raw).hexdigest()}."
    return letter.model_copy(update={"detail": letter.detail + lost})


def encodings(raw: bytes, *, largest: int = LARGEST_EVENT) -> Iterator[tuple[Encoding, str]]:
    """Each form that an event may have in a letter; compressed only up to the `largest`."""
    with suppress(UnicodeDecodeError):
        yield "utf-8", raw.decode()
    yield "base64", b64encode(raw).decode()
    if len(raw) <= largest:
        # Level 9, the default, takes up to thirty times as long for a twentieth less.
        yield "gzip+base64", b64encode(gzip.compress(raw, 6, mtime=0)).decode()


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """Writes the letters of one invocation.

    `put` takes a letter's bytes and raises unless they are safe; `log_error` is the last resort: a
    constant message and keys.
    """

    put: Callable[[bytes], None]
    log_error: Callable[..., None]
    function: str
    function_request_id: str
    now: Callable[[], datetime]

    def write(
        self,
        dead_end: DeadEnd,
        *,
        delivery: Delivery,
        arn: str | None,
    ) -> DeadLetter:
        """Write one letter.

        Raises LetterNotWritten when nobody confirmed it; the whole letter is then in the log.
        """
        empty = DeadLetter(
            id=letter_id(delivery, dead_end.reason),
            reason=dead_end.reason,
            detail=str(dead_end),
            event="",
            event_encoding="utf-8",
            event_id=shortened(delivery.event_id) if delivery.event_id else None,
            arn=arn,
            status=dead_end.status,
            code=dead_end.code,
            message=dead_end.message,
            ec=dead_end.ec,
            oss_request_id=dead_end.oss_request_id,
            function=self.function,
            function_request_id=self.function_request_id,
            attempts=dead_end.attempts,
            redrives=delivery.redrives,
            at=self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        letter = fit(empty, delivery.raw)
        if delivery.raw and not letter.event:
            self._log_in_chunks(letter, delivery.raw)
        try:
            self.put(letter.body())
        # Whatever kept the letter from being written, it has to be in the log.
        except Exception as error:
            self.log_error("dead letter not written", dead_letter=letter.model_dump())
            raise LetterNotWritten(
                f"The dead letter {letter.id} was not written: {error}"
            ) from error
        return letter

    def _log_in_chunks(self, letter: DeadLetter, raw: bytes) -> None:
        parts = -(-len(raw) // LOG_CHUNK)
        for number in range(parts):
            chunk = raw[number * LOG_CHUNK : (number + 1) * LOG_CHUNK]
            self.log_error(
                "event too large for its dead letter",
                dead_letter_id=letter.id,
                part=number + 1,
                parts=parts,
                event_base64=b64encode(chunk).decode(),
            )


def open_destination(invocation: Invocation) -> Callable[[bytes], None]:
    """What puts a letter where GUARD_DEAD_LETTER_QUEUE says."""

    def put(letter: bytes) -> None:
        match invocation.settings.dead_letter_queue:
            case Queue() as queue:
                from encryption_guard.smq import SmqQueue  # only a failure needs it

                SmqQueue(queue, invocation).send(letter)
            case Path() as path:
                append_line(path, letter)
            case _:
                raise ConfigurationError(
                    "GUARD_DEAD_LETTER_QUEUE is not set; set it to"
                    " acs:mns:<region>:<account id>:/queues/<name> or file:<path>."
                )

    return put


def append_line(path: Path, line: bytes) -> None:
    """Add a line to a file and return only when it is on the disk; raises OSError otherwise."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # Whoever crashed in the middle of a line must not take this one along.
        torn = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        left = memoryview((b"\n" if torn else b"") + line + b"\n")
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
