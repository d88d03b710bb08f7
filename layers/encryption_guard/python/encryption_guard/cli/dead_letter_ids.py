"""The IDs on a command line: each one names one message of the queue, or the command refuses.

The writer of a message chooses its ID, by choosing its event. So an ID is looked up in the whole
queue before a command acts on any message. Only the message ID, which SMQ assigns, is nobody's
choice.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from encryption_guard.dead_letters.destinations import LEASE_SECONDS, Destination, QueuedMessage
from encryption_guard.dead_letters.messages import MessageSummary, open_message
from encryption_guard.errors import GuardError, Unavailable

# The table of messages shows this many characters.
MIN_ID_PREFIX = 8
# Of the messages that one ID names, a refusal lists this many.
MAX_LISTED = 20


class Match(NamedTuple):
    """A message that an ID names, without its contents."""

    key: str
    summary: MessageSummary
    since: datetime | None


class Matches(NamedTuple):
    """The number of messages that an ID names, and the first MAX_LISTED of them."""

    word: str
    total: int
    listed: Sequence[Match]


class AmbiguousId(GuardError):
    """An ID that names several messages; nothing was done."""

    fault = "operator"

    def __init__(self, ambiguous: Sequence[Matches]) -> None:
        super().__init__(f"{len(ambiguous)} IDs name several messages each.")
        self.ambiguous = ambiguous


class Held(NamedTuple):
    """A message that an ID names, unparsed: several IDs may name messages that need much memory."""

    key: str
    body: bytes
    since: datetime | None

    @classmethod
    def of(cls, queued: QueuedMessage) -> Held:
        """Keep only the body of a message."""
        return cls(queued.key, queued.body, queued.since)


@dataclass(slots=True)
class _Found:
    """What one ID has named so far: by the message ID, and by the two IDs that a writer chooses."""

    exactly: Held | None = None
    only: Held | None = None
    total: int = 0
    listed: list[Match] = field(default_factory=list)

    def add(self, queued: QueuedMessage) -> None:
        self.total += 1
        # Of several messages, none is acted on.
        self.only = Held.of(queued) if self.total == 1 else None
        if self.total <= MAX_LISTED:
            self.listed.append(Match(queued.key, queued.message.summary, queued.since))

    @property
    def held(self) -> Held | None:
        """The one message that the ID names; None if there is none, or if there are several."""
        return self.exactly or self.only


class Lookup:
    """A search for IDs in a queue, which is read to its end; `missing` are those not found.

    An ID is a message ID, the ID of an event, the ID that `list` shows, or at least MIN_ID_PREFIX
    characters of it. With `keep`, the messages found are kept from other readers until they are
    yielded, even if that takes longer than their leases.
    """

    def __init__(
        self,
        words: Iterable[str],
        queue: Destination,
        *,
        keep: bool,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._found = {word: _Found() for word in words}
        self._prefixes = {len(word) for word in self._found if len(word) >= MIN_ID_PREFIX}
        self._queue, self._keep, self._monotonic = queue, keep, monotonic
        self._kept_at = monotonic()
        self.missing: list[str] = []

    def find(
        self, messages: Iterable[QueuedMessage], stopping: Callable[[], bool]
    ) -> Iterator[QueuedMessage]:
        """Yield the messages that the IDs name, after all were read; nothing after a stop.

        Raises AmbiguousId if an ID names several messages.
        """
        for queued in messages:
            self._add(queued)
            self._renew(self._held)
            if stopping():
                return
        self._refuse_ambiguous()
        self.missing = [word for word, found in self._found.items() if not found.held]
        waiting = self._held()
        while waiting:
            self._renew(lambda: waiting)
            key, body, since = waiting.pop(next(iter(waiting)))
            yield QueuedMessage(key, body, open_message(body, self._queue.scope), since)

    def _add(self, queued: QueuedMessage) -> None:
        summary = queued.message.summary
        prefixes = (summary.id[:length] for length in self._prefixes)
        # An empty word names no message, not even one whose event has no ID.
        names = {summary.id, summary.event_id or summary.id, *prefixes} & self._found.keys()
        for name in names:
            self._found[name].add(queued)
        if queued.key in self._found:
            self._found[queued.key].exactly = Held.of(queued)
            names.add(queued.key)
        if self._keep and names:
            self._keep_from_others(queued.key)

    def _renew(self, held: Callable[[], Iterable[str]]) -> None:
        if self._keep and self._monotonic() - self._kept_at > LEASE_SECONDS / 3:
            self._kept_at = self._monotonic()
            for key in held():
                self._keep_from_others(key)

    def _keep_from_others(self, key: str) -> None:
        # If this fails, the action finds that the lease is lost, and leaves the message.
        with suppress(Unavailable):
            self._queue.keep(key)

    def _refuse_ambiguous(self) -> None:
        ambiguous = [
            Matches(word, found.total, found.listed)
            for word, found in self._found.items()
            if found.total > 1 and not found.exactly
        ]
        if ambiguous:
            raise AmbiguousId(ambiguous)

    def _held(self) -> dict[str, Held]:
        held = (found.held for found in self._found.values())
        return {each.key: each for each in held if each}
