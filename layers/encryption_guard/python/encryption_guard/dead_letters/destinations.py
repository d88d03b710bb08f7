"""Where dead letters go and wait: an SMQ queue, or a local file with a letter on each line.

Each is a class with `put`, `peek`, `read` and `remove`; nobody else has to know which one it is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from errno import EINVAL
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Protocol

from encryption_guard.arn import Scope
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.messages import Message, decoded, open_message
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.invocation import Invocation
from encryption_guard.services.smq import SmqMessage, SmqQueue
from encryption_guard.settings import QueueArn
from encryption_guard.untrusted import instant

# Every request of a long run has its own time.
REQUEST_SECONDS = 30.0
# Enough for all tries of one event, so that nobody else is handed the letter meanwhile.
LEASE_SECONDS = 120
MIN_HIDE_SECONDS = 1
# Requests under way at a time.
WORKERS = 8
# One node answers for itself, and the next for itself: one "empty" is not everybody's word.
EMPTY_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A letter in its queue: `key` is what keeps or removes it there."""

    key: str
    body: bytes
    message: Message
    # When it was put there; None where nobody wrote it down.
    since: datetime | None


class Peek(NamedTuple):
    """What is in sight of a queue, hidden from nobody; `is_all` where nothing else can wait."""

    letters: tuple[QueuedMessage, ...]
    is_all: bool


class Destination(Protocol):
    """What can be done with dead letters; `put`, `keep` and `remove` from any thread."""

    @property
    def scope(self) -> Scope | None:
        """The account and the region that its letters are of; None where it does not tell."""

    def put(self, letter: DeadLetter) -> None:
        """Add a letter; returns when it is safe. Raises Unavailable or OSError where it is not."""

    def peek(self) -> Peek:
        """What is in sight without hiding it."""

    def read(self) -> Iterator[QueuedMessage]:
        """Every letter once, hidden from others until it is released."""

    def keep(self, key: str) -> bool:
        """Make sure of a letter for as long as one event takes; False if somebody else has it."""

    def remove(self, key: str) -> bool:
        """Remove a letter for good; False if it is no longer ours to remove."""

    def release(self) -> None:
        """Let others see again what was read and not removed; returns when they do."""


@contextmanager
def leased(destination: Destination) -> Iterator[Iterator[QueuedMessage]]:
    """Every letter; whatever happens, what was not removed is released at the end."""
    try:
        yield destination.read()
    finally:
        destination.release()


class SmqDestination:
    """An SMQ queue.

    There is no listing in SMQ: a peek shows at most 16 messages of one node, and always the same
    ones. So letters are received, which hides them, until no new one comes, and released after.
    """

    def __init__(self, queue: QueueArn, invocation: Invocation) -> None:
        self._queue = queue
        self._invocation = invocation
        # A letter whose time has run out is handed out again, with a new handle.
        self._handles: dict[str, str] = {}
        self._removed: set[str] = set()

    @property
    def scope(self) -> Scope:
        """The queue's own: a guard's queue is where the guard is."""
        return Scope(self._queue.account_id, self._queue.region)

    def put(self, letter: DeadLetter) -> None:
        """Send a message, within the time of the invocation; raises Unavailable."""
        SmqQueue(self._queue, self._invocation).send(letter.body())

    def peek(self) -> Peek:
        """At most 16 letters, of one node of the service."""
        return Peek(tuple(map(self._read, self._smq().peek())), is_all=False)

    def read(self) -> Iterator[QueuedMessage]:
        """Receive until several answers in a row were empty.

        Raises Unavailable where a whole round brought nothing but letters that are known.
        """
        known = self._handles
        empty = repeated = 0
        while empty < EMPTY_ANSWERS:
            messages = self._smq().receive()
            empty = 0 if messages else empty + 1
            new = [message for message in messages if message.message_id not in known]
            # All of them before the first is given away: whoever stops there has to release these.
            known |= {m.message_id: m.receipt_handle or "" for m in messages}
            for message in messages:
                if message not in new:
                    # Its time ran out.
                    self.keep(message.message_id)
            yield from map(self._read, new)
            repeated = 0 if new else repeated + len(messages)
            if repeated > len(known):
                raise self._going_round()

    def _going_round(self) -> Unavailable:
        return Unavailable(
            f"The queue {self._queue.name} gives the same letters again and again: its visibility"
            f" time-out is too short for {len(self._handles)} letters. There may be more."
        )

    def keep(self, key: str) -> bool:
        """Hide a letter for LEASE_SECONDS from now."""
        handle = self._smq().hide(self._handles[key], seconds=LEASE_SECONDS)
        if handle:
            self._handles[key] = handle
        return handle is not None

    def remove(self, key: str) -> bool:
        """Delete the message."""
        removed = self._smq().delete(self._handles[key])
        if removed:
            self._removed.add(key)
        return removed

    def release(self) -> None:
        """Make the messages visible in a second, the least that SMQ knows, and wait for it.

        Whoever looks next, most likely the same operator, should not find the queue empty. What
        cannot be released is visible again when the queue's own time-out is over.
        """
        from concurrent.futures import ThreadPoolExecutor  # only who reads needs it

        clock = self._invocation.clock
        until = clock.monotonic() + REQUEST_SECONDS

        def soon(key: str) -> None:
            # A queue that is gone should not hold up the end of a command for each of its letters.
            if clock.monotonic() < until:
                with suppress(Unavailable):
                    self._smq().hide(self._handles[key], seconds=MIN_HIDE_SECONDS)

        held = self._handles.keys() - self._removed
        if held:
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(soon, held))
            clock.sleep(MIN_HIDE_SECONDS)

    def _smq(self) -> SmqQueue:
        return SmqQueue(self._queue, self._invocation.within(REQUEST_SECONDS))

    def _read(self, message: SmqMessage) -> QueuedMessage:
        body = decoded(message.body)
        return QueuedMessage(
            key=message.message_id,
            body=body,
            message=open_message(body, region=self.scope.region, account_id=self._queue.account_id),
            since=instant(message.enqueued_at_ms or None),
        )


class FileDestination:
    """A file as GUARD_DEAD_LETTER_QUEUE=file:<path> makes it.

    A letter that is removed leaves a blank line of its length: whoever appends meanwhile is not
    disturbed, and nothing is copied that a crash could cut short.
    """

    scope: Scope | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        # Where a line begins, how long it is and what it was: not the line, there may be many.
        self._lines: dict[str, tuple[int, int, bytes]] = {}

    def put(self, letter: DeadLetter) -> None:
        """Add a line, and return only when it is on the disk; raises OSError otherwise."""
        append_line(self._path, letter.body())

    def peek(self) -> Peek:
        """All of them: nothing in a file is hidden."""
        return Peek(tuple(self.read()), is_all=True)

    def read(self) -> Iterator[QueuedMessage]:
        """The letters, oldest first; raises ConfigurationError where the file cannot be read."""
        try:
            with self._path.open("rb") as file:
                # A device, such as /dev/full, would be read without end.
                if self._path.is_char_device():
                    raise OSError(EINVAL, "it is a device")
                at = 0
                for line in file:
                    if line.strip():
                        yield self._read(at, line.rstrip(b"\n"))
                    at += len(line)
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, key: str) -> bool:
        """Whether the line is still as it was read."""
        return self._is_there(key, blank=False)

    def remove(self, key: str) -> bool:
        """Blank the line, and return only when that is on the disk."""
        return self._is_there(key, blank=True)

    def release(self) -> None:
        """Nothing was hidden."""

    def _is_there(self, key: str, *, blank: bool) -> bool:
        at, length, digest = self._lines[key]
        try:
            with self._path.open("r+b", buffering=0) as file:
                file.seek(at)
                found = file.read(length + 1)
                # A last line may have been cut short, and grown since.
                whole = found[length:] in (b"", b"\n")
                ours = whole and sha256(found[:length]).digest() == digest
                if ours and blank:
                    file.seek(at)
                    file.write(b" " * length)
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from error
        return ours

    def _read(self, at: int, line: bytes) -> QueuedMessage:
        key = str(at)
        self._lines[key] = (at, len(line), sha256(line).digest())
        message = open_message(line)
        return QueuedMessage(key=key, body=line, message=message, since=message.summary.at)

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"The dead letters in {self._path} cannot be used ({error.strerror}); check"
            " GUARD_DEAD_LETTER_QUEUE."
        )


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


def open_destination(invocation: Invocation) -> Destination:
    """The destination that GUARD_DEAD_LETTER_QUEUE names; raises ConfigurationError without it."""
    match invocation.settings.dead_letter_queue:
        case QueueArn() as queue:
            return SmqDestination(queue, invocation)
        case Path() as path:
            return FileDestination(path)
        case _:
            raise ConfigurationError(
                "GUARD_DEAD_LETTER_QUEUE is not set; set it to"
                " acs:mns:<region>:<account id>:/queues/<name> or file:<path>."
            )
