"""Write dead letters to their destination, or to the log if the destination fails."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import DeadLetterNotWritten, PermanentError
from encryption_guard.events.envelopes import Event
from encryption_guard.invocation import Invocation
from encryption_guard.untrusted import shortened

if TYPE_CHECKING:
    from encryption_guard.dead_letters.document import DeadLetter

# Bytes of an event in one log line.
LOG_CHUNK_BYTES = 8 * 1024


class Written(NamedTuple):
    """A dead letter that is in the queue; `was_waiting` if an equal one was there already."""

    dead_letter: DeadLetter
    was_waiting: bool


class DeadLetters(NamedTuple):
    """A writer for the dead letters of one invocation.

    `put` stores a dead letter or raises; it returns False if it stored none because an equal one
    waits in the queue already. `log_error` takes a constant message and keyword fields.
    """

    put: Callable[[DeadLetter], bool | None]
    log_error: Callable[..., None]
    function: str
    function_request_id: str
    now: Callable[[], datetime]

    def write(
        self,
        error: PermanentError,
        *,
        event: Event,
        arn: TableBucketArn | None,
    ) -> Written:
        """Write one dead letter and return it.

        Raises DeadLetterNotWritten if `put` fails; the log then holds the whole dead letter.
        """
        dead_letter = self._new(error, event, arn)
        if event.raw and not dead_letter.event:
            self._log_in_chunks(dead_letter, event.raw)
        try:
            is_waiting = self.put(dead_letter) is False
        # After any error, the log is the only place left for the dead letter.
        except Exception as put_error:
            self.log_error("dead letter not written", dead_letter=dead_letter.model_dump())
            raise DeadLetterNotWritten(
                f"The dead letter {dead_letter.id} was not written: {put_error}"
            ) from put_error
        return Written(dead_letter, is_waiting)

    def _new(self, error: PermanentError, event: Event, arn: TableBucketArn | None) -> DeadLetter:
        # Only a failure needs this import, which loads all of pydantic.
        from encryption_guard.dead_letters.document import DeadLetter, dead_letter_id, fit

        empty = DeadLetter(
            id=dead_letter_id(event, error.reason),
            reason=error.reason,
            detail=str(error),
            event="",
            event_encoding="utf-8",
            event_id=shortened(event.event_id) if event.event_id else None,
            arn=str(arn) if arn else None,
            status=error.status,
            code=error.code,
            message=error.message,
            ec=error.ec,
            oss_request_id=error.oss_request_id,
            function=self.function,
            function_request_id=self.function_request_id,
            attempts=error.attempts,
            redrives=event.redrives,
            at=self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        return fit(empty, event.raw)

    def _log_in_chunks(self, dead_letter: DeadLetter, raw: bytes) -> None:
        parts = -(-len(raw) // LOG_CHUNK_BYTES)
        for number in range(parts):
            chunk = raw[number * LOG_CHUNK_BYTES : (number + 1) * LOG_CHUNK_BYTES]
            self.log_error(
                "event too large for its dead letter",
                dead_letter_id=dead_letter.id,
                part=number + 1,
                parts=parts,
                event_base64=b64encode(chunk).decode(),
            )


def put_into_queue(invocation: Invocation, dead_letter: DeadLetter) -> None:
    """Put a dead letter into the destination that GUARD_DEAD_LETTER_QUEUE names.

    Raises Unavailable, ConfigurationError or OSError if the destination does not store it.
    """
    # Only a failure needs this import.
    from encryption_guard.dead_letters.destinations import open_destination

    open_destination(invocation).put(dead_letter)
