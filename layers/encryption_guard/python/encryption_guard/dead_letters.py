"""Where dead letters go, and what is done when they cannot."""

from __future__ import annotations

import os
from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from encryption_guard.config import Queue
from encryption_guard.errors import (
    ConfigurationError,
    DeadEnd,
    LetterNotWritten,
    shortened,
)
from encryption_guard.invocation import Invocation
from encryption_guard.payloads import Delivery

if TYPE_CHECKING:
    from encryption_guard.dead_letter_document import DeadLetter

LOG_CHUNK = 8 * 1024


class DeadLetters(NamedTuple):
    """Writes the letters of one invocation.

    `put` raises unless the letter is safe; `log_error` is the last resort: a constant message and
    keys.
    """

    put: Callable[[DeadLetter], None]
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
        # With all of pydantic, which only a failure needs.
        from encryption_guard.dead_letter_document import DeadLetter, fit, letter_id

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
            self.put(letter)
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


def open_destination(invocation: Invocation) -> Callable[[DeadLetter], None]:
    """What puts a letter where GUARD_DEAD_LETTER_QUEUE says."""

    def put(letter: DeadLetter) -> None:
        match invocation.settings.dead_letter_queue:
            case Queue() as queue:
                from encryption_guard.smq import SmqQueue  # only a failure needs it

                SmqQueue(queue, invocation).send(letter.body())
            case Path() as path:
                append_line(path, letter.body())
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
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; a part of it may be in the file", str(path)
        ) from error
    finally:
        os.close(descriptor)
