"""Where dead letters wait: an SMQ queue, or a local file with a letter on each line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from errno import EINVAL
from hashlib import sha256
from pathlib import Path
from typing import Protocol

from encryption_guard.config import Queue
from encryption_guard.errors import ConfigurationError, Unavailable
from encryption_guard.invocation import Invocation, TimeBudget
from encryption_guard.letters import Opened, decoded, instant, open_letter
from encryption_guard.smq import Message, SmqQueue

# Every request of a long run has its own time.
REQUEST_SECONDS = 30.0
# Enough for all tries of one event, so that nobody else is handed the letter meanwhile.
LEASE_SECONDS = 120
SHORTEST_HIDING_SECONDS = 1
# Requests under way at a time.
WORKERS = 8
# One node answers for itself, and the next for itself: one "empty" is not everybody's word.
EMPTY_ANSWERS = 3


@dataclass(frozen=True, slots=True)
class Waiting:
    """A letter in its queue: `key` is what keeps, removes or releases it there."""

    key: str
    body: bytes
    opened: Opened
    # When it was put there; None where nobody wrote it down.
    since: datetime | None


class LetterQueue(Protocol):
    """What can be done with letters that wait; `keep` and `remove` from any thread."""

    def waiting(self) -> Iterator[Waiting]:
        """Every letter once, hidden from others until it is released."""

    def keep(self, key: str) -> bool:
        """Make sure of a letter for as long as one event takes; False if somebody else has it."""

    def remove(self, key: str) -> bool:
        """Remove a letter for good; False if it is no longer ours to remove."""

    def release(self) -> None:
        """Let others see again what was not removed; returns when they do."""


@contextmanager
def leased(queue: LetterQueue) -> Iterator[Iterator[Waiting]]:
    """Every letter of a queue; whatever happens, what was not removed is released at the end."""
    try:
        yield queue.waiting()
    finally:
        queue.release()


class SmqLetters:
    """An SMQ queue.

    There is no listing in SMQ: a peek shows at most 16 messages of one node, and always the same
    ones. So letters are received, which hides them, until no new one comes, and released after.
    """

    def __init__(self, queue: Queue, invocation: Invocation) -> None:
        self._queue = queue
        self._invocation = invocation
        # A letter whose time has run out is handed out again, with a new handle.
        self._handles: dict[str, str] = {}
        self._removed: set[str] = set()

    def waiting(self) -> Iterator[Waiting]:
        """Every letter once; one that comes again, because its time ran out, is passed over."""
        empty = repeats = 0
        # More repeats in a row than letters known: every one of them has come round again.
        while empty < EMPTY_ANSWERS and repeats <= len(self._handles):
            messages = self._smq().receive()
            empty = 0 if messages else empty + 1
            new = [message for message in messages if message.message_id not in self._handles]
            repeats = 0 if new else repeats + len(messages)
            # All of them before the first is given away: whoever stops there has to release these.
            self._handles |= {m.message_id: m.receipt_handle or "" for m in messages}
            for message in messages:
                if message not in new:
                    self.keep(message.message_id)
            yield from map(self._read, new)
        if empty < EMPTY_ANSWERS:
            raise Unavailable(
                f"The queue {self._queue.name} gives the same letters again and again: its"
                f" visibility time-out is too short for {len(self._handles)} letters. There may be"
                " more."
            )

    def peek(self) -> Iterator[Waiting]:
        """At most 16 letters, of one node of the service."""
        return map(self._read, self._smq().peek())

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
        clock = self._invocation.clock
        until = clock.monotonic() + REQUEST_SECONDS

        def soon(key: str) -> None:
            # A queue that is gone should not hold up the end of a command for each of its letters.
            if clock.monotonic() < until:
                with suppress(Unavailable):
                    self._smq().hide(self._handles[key], seconds=SHORTEST_HIDING_SECONDS)

        held = self._handles.keys() - self._removed
        if held:
            with ThreadPoolExecutor(WORKERS) as pool:
                list(pool.map(soon, held))
            clock.sleep(SHORTEST_HIDING_SECONDS)

    def _smq(self) -> SmqQueue:
        return SmqQueue(self._queue, briefly(self._invocation))

    def _read(self, message: Message) -> Waiting:
        body = decoded(message.body)
        home = self._queue
        return Waiting(
            key=message.message_id,
            body=body,
            opened=open_letter(body, region=home.region, account_id=home.account_id),
            since=instant(message.enqueued_at_ms or None),
        )


class FileLetters:
    """A file as GUARD_DEAD_LETTER_QUEUE=file:<path> makes it.

    A letter that is removed leaves a blank line of its length: whoever appends meanwhile is not
    disturbed, and nothing is copied that a crash could cut short.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        # Where a line begins, how long it is and what it was: not the line, there may be many.
        self._lines: dict[str, tuple[int, int, bytes]] = {}

    def waiting(self) -> Iterator[Waiting]:
        """The letters, oldest first."""
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

    def peek(self) -> Iterator[Waiting]:
        """The same: nothing in a file is hidden."""
        return self.waiting()

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

    def _read(self, at: int, line: bytes) -> Waiting:
        key = str(at)
        self._lines[key] = (at, len(line), sha256(line).digest())
        opened = open_letter(line)
        return Waiting(key=key, body=line, opened=opened, since=opened.letter.at)

    def _unusable(self, error: OSError) -> ConfigurationError:
        return ConfigurationError(
            f"The dead letters in {self._path} cannot be used ({error.strerror}); check"
            " GUARD_DEAD_LETTER_QUEUE."
        )


def open_queue(invocation: Invocation) -> SmqLetters | FileLetters:
    """The queue that GUARD_DEAD_LETTER_QUEUE names."""
    match invocation.settings.dead_letter_queue:
        case Queue() as queue:
            return SmqLetters(queue, invocation)
        case Path() as path:
            return FileLetters(path)
        case _:
            raise ConfigurationError(
                "Which queue? Give it with --queue, or set GUARD_DEAD_LETTER_QUEUE."
            )


def briefly(invocation: Invocation) -> Invocation:
    """The same, with the time of one request."""
    clock = invocation.clock
    end = min(invocation.budget.ends_at, clock.monotonic() + REQUEST_SECONDS)
    return invocation._replace(budget=TimeBudget(end, clock))
