"""Skip duplicate dead letters: a sweep meets the same refusal in each run."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

from encryption_guard.invocation import Invocation

if TYPE_CHECKING:
    from encryption_guard.dead_letters.destinations import QueuedMessage
    from encryption_guard.dead_letters.document import DeadLetter
    from encryption_guard.events.envelopes import Event

# A peek shows the messages of one SMQ node, so several peeks are needed.
PEEKS = 3
MAX_PEEKED = 16
A_DAY = timedelta(days=1)

# A dead letter's ARN and reason.
DuplicateKey = tuple[str | None, str]


def skip_duplicates(
    put: Callable[[DeadLetter], object],
    invocation: Invocation,
    *,
    written: dict[DuplicateKey, datetime],
    acts_on: Callable[[Event], bool],
) -> Callable[[DeadLetter], bool]:
    """Return a `put` that skips a dead letter if the queue holds one for its bucket and reason.

    The new `put` returns whether it put the dead letter. Only a message whose redrive would have an
    effect makes another one a duplicate: its event, and not the message, names the bucket, and the
    guard `acts_on` the event. `written` maps
    the dead letters of this process to their times; the new `put` adds to it. If the queue is too
    long for a peek, a dead letter that was written within a day is a duplicate. In a shorter queue,
    a dead letter that no peek shows was removed, and is put again.
    """
    lock = Lock()
    peek_once = functools.cache(functools.partial(_peek, invocation, acts_on))

    def put_once(dead_letter: DeadLetter) -> bool:
        key, now = (dead_letter.arn, dead_letter.reason), invocation.clock.now()
        # The cache alone does not keep several threads from peeking at the same time.
        with lock:
            queued_keys, is_all = peek_once()
        is_recent = key in written and now - written[key] < A_DAY
        if key in queued_keys or (is_recent and not is_all):
            return False
        put(dead_letter)
        written[key] = now
        return True

    return put_once


def _peek(
    invocation: Invocation, acts_on: Callable[[Event], bool]
) -> tuple[frozenset[DuplicateKey], bool]:
    """Return the keys of the visible dead letters, and whether the queue holds no other."""
    # Only a failure needs these imports, which load all of pydantic.
    from encryption_guard.dead_letters.destinations import open_destination
    from encryption_guard.dead_letters.redrivable import OWN_FUNCTIONS, is_redrivable

    own = OWN_FUNCTIONS | {invocation.settings.function_name or ""}
    seen: dict[str, QueuedMessage] = {}
    is_all = False
    try:
        destination = open_destination(invocation)
        for _ in range(PEEKS):
            peek = destination.peek()
            seen |= {queued.key: queued for queued in peek.messages}
            if peek.is_all:
                is_all = True
                break
    # A failed peek must not stop a dead letter.
    except Exception:
        return frozenset(), False
    waiting = (
        queued.message.summary
        for queued in seen.values()
        if is_redrivable(queued.message, destination.scope, own, acts_on)
    )
    keys = frozenset((summary.arn, summary.reason) for summary in waiting)
    return keys, is_all or len(seen) < MAX_PEEKED
