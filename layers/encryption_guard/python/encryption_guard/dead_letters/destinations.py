"""Destinations of dead letters: an SMQ queue, or a local file with one dead letter per line.

Both implement `Destination`, so callers do not depend on the kind.
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
from encryption_guard.untrusted import parse_time

# The time for one request; a command may run for much longer.
REQUEST_SECONDS = 30.0
# Long enough for all attempts of one event: no other receiver gets the message meanwhile.
LEASE_SECONDS = 120
# The shortest visibility time-out that SMQ accepts.
MIN_HIDE_SECONDS = 1
# Concurrent requests.
WORKERS = 8
# Each SMQ node returns only its own messages, so one empty answer does not prove an empty queue.
EMPTY_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class QueuedMessage:
    """A message in a destination; `keep` and `remove` take its `key`."""

    key: str
    body: bytes
    message: Message
    # When the message entered the queue; None if unknown.
    since: datetime | None


class Peek(NamedTuple):
    """The messages that a peek shows; `is_all` if the destination holds no others."""

    messages: tuple[QueuedMessage, ...]
    is_all: bool


class Destination(Protocol):
    """A store of dead letters; any thread may call `put`, `keep` and `remove`."""

    @property
    def scope(self) -> Scope | None:
        """The account and the region of the dead letters; None if the destination has neither."""

    def put(self, dead_letter: DeadLetter) -> None:
        """Store a dead letter durably; raises Unavailable or OSError if that fails."""

    def peek(self) -> Peek:
        """Return the visible messages, and do not hide them."""

    def read(self) -> Iterator[QueuedMessage]:
        """Yield each message once, and hide it from other receivers until `release`."""

    def keep(self, key: str) -> bool:
        """Renew the lease of a message; return False if the lease is lost."""

    def remove(self, key: str) -> bool:
        """Remove a message for good; return False if the lease is lost."""

    def release(self) -> None:
        """Make each message visible that was read and not removed; wait until it is."""


@contextmanager
def leased(destination: Destination) -> Iterator[Iterator[QueuedMessage]]:
    """Read the messages of a destination; always release those that were not removed."""
    try:
        yield destination.read()
    finally:
        destination.release()


class SmqDestination:
    """An SMQ queue.

    SMQ cannot list its messages: a peek shows at most 16 of one node, and always the same ones. So
    `read` receives messages, which hides them, until no new one comes; `release` shows them again.
    """

    def __init__(self, queue: QueueArn, invocation: Invocation) -> None:
        self._queue = queue
        self._invocation = invocation
        # Receipt handles by message ID. If a lease expires, SMQ delivers the message again with a
        # new handle.
        self._handles: dict[str, str] = {}
        self._removed: set[str] = set()

    @property
    def scope(self) -> Scope:
        """The account and the region of the queue, which are also the guard's."""
        return Scope(self._queue.account_id, self._queue.region)

    def put(self, dead_letter: DeadLetter) -> None:
        """Send a dead letter before the invocation's deadline; raises Unavailable otherwise."""
        SmqQueue(self._queue, self._invocation).send(dead_letter.body())

    def peek(self) -> Peek:
        """Return at most 16 messages of one node of SMQ."""
        return Peek(tuple(map(self._to_queued, self._smq().peek())), is_all=False)

    def read(self) -> Iterator[QueuedMessage]:
        """Receive messages until EMPTY_ANSWERS answers in a row are empty.

        Raises Unavailable if a whole round returns only known messages.
        """
        known = self._handles
        empty = repeated = 0
        while empty < EMPTY_ANSWERS:
            messages = self._smq().receive()
            empty = 0 if messages else empty + 1
            new = [message for message in messages if message.message_id not in known]
            # A caller may stop at the first yield and release: record all handles before it.
            known |= {m.message_id: m.receipt_handle or "" for m in messages}
            for message in messages:
                if message not in new:
                    # SMQ delivered it again because its lease expired.
                    self.keep(message.message_id)
            yield from map(self._to_queued, new)
            repeated = 0 if new else repeated + len(messages)
            if repeated > len(known):
                raise self._lease_too_short()

    def _lease_too_short(self) -> Unavailable:
        return Unavailable(
            f"The queue {self._queue.name} returns the same messages again and again: its"
            f" visibility time-out is too short for {len(self._handles)} messages. Increase it;"
            " the queue may hold more messages."
        )

    def keep(self, key: str) -> bool:
        """Hide a message for LEASE_SECONDS from now."""
        handle = self._smq().hide(self._handles[key], seconds=LEASE_SECONDS)
        if handle:
            self._handles[key] = handle
        return handle is not None

    def remove(self, key: str) -> bool:
        """Delete a message from the queue."""
        removed = self._smq().delete(self._handles[key])
        if removed:
            self._removed.add(key)
        return removed

    def release(self) -> None:
        """Make the messages visible after MIN_HIDE_SECONDS, and wait until they are.

        The next command, probably of the same operator, must not find the queue empty. A message
        that cannot be released is visible again after its visibility time-out.
        """
        # Only a command needs this import.
        from concurrent.futures import ThreadPoolExecutor

        clock = self._invocation.clock
        deadline = clock.monotonic() + REQUEST_SECONDS

        def unhide(key: str) -> None:
            # If the queue is unavailable, a command must not wait for each message in turn.
            if clock.monotonic() < deadline:
                with suppress(Unavailable):
                    self._smq().hide(self._handles[key], seconds=MIN_HIDE_SECONDS)

        held = self._handles.keys() - self._removed
        if held:
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(unhide, held))
            clock.sleep(MIN_HIDE_SECONDS)

    def _smq(self) -> SmqQueue:
        return SmqQueue(self._queue, self._invocation.within(REQUEST_SECONDS))

    def _to_queued(self, message: SmqMessage) -> QueuedMessage:
        body = decoded(message.body)
        return QueuedMessage(
            key=message.message_id,
            body=body,
            message=open_message(body, self.scope),
            since=parse_time(message.enqueued_at_ms or None),
        )


class FileDestination:
    """A local file, as GUARD_DEAD_LETTER_QUEUE=file:<path> names it.

    `remove` overwrites a line with spaces. So another process may append at the same time, and
    there is no copy that a crash could leave incomplete.
    """

    scope: Scope | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        # Offset, length and SHA-256 by key; the lines themselves could take much memory.
        self._lines: dict[str, tuple[int, int, bytes]] = {}

    def put(self, dead_letter: DeadLetter) -> None:
        """Append a line and sync it to the disk; raises OSError if that fails."""
        append_line(self._path, dead_letter.body())

    def peek(self) -> Peek:
        """Return every message: a file hides none."""
        return Peek(tuple(self.read()), is_all=True)

    def read(self) -> Iterator[QueuedMessage]:
        """Yield the messages, oldest first; raises ConfigurationError if the file is unreadable."""
        try:
            with self._path.open("rb") as file:
                # A device, such as /dev/full, has no end.
                if self._path.is_char_device():
                    raise OSError(EINVAL, "it is a device")
                offset = 0
                for line in file:
                    if line.strip():
                        yield self._to_queued(offset, line.rstrip(b"\n"))
                    offset += len(line)
        except OSError as error:
            raise self._unusable(error) from error

    def keep(self, key: str) -> bool:
        """Return whether the line is unchanged since `read`."""
        return self._is_unchanged(key, blank=False)

    def remove(self, key: str) -> bool:
        """Overwrite an unchanged line with spaces, and sync the file to the disk."""
        return self._is_unchanged(key, blank=True)

    def release(self) -> None:
        """Do nothing: a file hides no message."""

    def _is_unchanged(self, key: str, *, blank: bool) -> bool:
        offset, length, digest = self._lines[key]
        try:
            with self._path.open("r+b", buffering=0) as file:
                file.seek(offset)
                found = file.read(length + 1)
                # The last line may have been incomplete when it was read, and longer now.
                is_whole_line = found[length:] in (b"", b"\n")
                unchanged = is_whole_line and sha256(found[:length]).digest() == digest
                if unchanged and blank:
                    file.seek(offset)
                    file.write(b" " * length)
                    os.fsync(file.fileno())
        except OSError as error:
            raise self._unusable(error) from error
        return unchanged

    def _to_queued(self, offset: int, line: bytes) -> QueuedMessage:
        key = str(offset)
        self._lines[key] = (offset, len(line), sha256(line).digest())
        message = open_message(line)
        return QueuedMessage(key=key, body=line, message=message, since=message.summary.at)

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"The dead letters in {self._path} cannot be used ({error.strerror}); check"
            " GUARD_DEAD_LETTER_QUEUE."
        )


def append_line(path: Path, line: bytes) -> None:
    """Append a line to a file and sync it to the disk; raises OSError if that fails."""
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        size = os.fstat(descriptor).st_size
        # If a process crashed within a line, this line must not continue it.
        is_incomplete = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        unwritten = memoryview((b"\n" if is_incomplete else b"") + line + b"\n")
        while unwritten:
            unwritten = unwritten[os.write(descriptor, unwritten) :]
        os.fsync(descriptor)
    except OSError as error:
        raise OSError(
            error.errno, f"{error.strerror}; the file may hold a part of the line", str(path)
        ) from error
    finally:
        os.close(descriptor)


def open_destination(invocation: Invocation) -> Destination:
    """Return the destination in GUARD_DEAD_LETTER_QUEUE; raises ConfigurationError if not set."""
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
