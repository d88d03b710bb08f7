"""Where dead letters go, and what is done when they cannot."""

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
        dead_end: PermanentError,
        *,
        event: Event,
        arn: TableBucketArn | None,
    ) -> DeadLetter:
        """Write one letter.

        Raises LetterNotWritten when nobody confirmed it; the whole letter is then in the log.
        """
        letter = self._new(dead_end, event, arn)
        if event.raw and not letter.event:
            self._log_in_chunks(letter, event.raw)
        try:
            self.put(letter)
        # Whatever kept the letter from being written, it has to be in the log.
        except Exception as error:
            self.log_error("dead letter not written", dead_letter=letter.model_dump())
            raise DeadLetterNotWritten(
                f"The dead letter {letter.id} was not written: {error}"
            ) from error
        return letter

    def _new(
        self, dead_end: PermanentError, event: Event, arn: TableBucketArn | None
    ) -> DeadLetter:
        # With all of pydantic, which only a failure needs.
        from encryption_guard.dead_letters.document import DeadLetter, dead_letter_id, fit

        empty = DeadLetter(
            id=dead_letter_id(event, dead_end.reason),
            reason=dead_end.reason,
            detail=str(dead_end),
            event="",
            event_encoding="utf-8",
            event_id=shortened(event.event_id) if event.event_id else None,
            arn=str(arn) if arn else None,
            status=dead_end.status,
            code=dead_end.code,
            message=dead_end.message,
            ec=dead_end.ec,
            oss_request_id=dead_end.oss_request_id,
            function=self.function,
            function_request_id=self.function_request_id,
            attempts=dead_end.attempts,
            redrives=event.redrives,
            at=self.now().isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        )
        return fit(empty, event.raw)

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


def put_into_queue(invocation: Invocation, letter: DeadLetter) -> None:
    """Put a letter where GUARD_DEAD_LETTER_QUEUE says, and return when it is safe there.

    Raises Unavailable, ConfigurationError or OSError where it is not.
    """
    from encryption_guard.dead_letters.destinations import open_destination  # a failure's alone

    open_destination(invocation).put(letter)
