"""A sweep meets the same refusal each time it comes, and an operator needs to read of it once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import datetime, timedelta
from threading import Lock
from typing import TYPE_CHECKING

from encryption_guard.invocation import Invocation

if TYPE_CHECKING:
    from encryption_guard.dead_letters.document import DeadLetter
    from encryption_guard.dead_letters.messages import MessageSummary

# One node of SMQ answers for itself, and the next for itself.
PEEKS = 3
MAX_PEEKED = 16
A_DAY = timedelta(days=1)

# The bucket's ARN and the reason of a letter.
About = tuple[str | None, str]


def skip_duplicates(
    put: Callable[[DeadLetter], None],
    invocation: Invocation,
    *,
    written: dict[About, datetime],
) -> Callable[[DeadLetter], None]:
    """`put`, but not for a letter about a bucket of which one with the same reason waits already.

    `written` is what this process has put and when: it counts for a day where the queue is too long
    to be seen as a whole. Otherwise what is not in sight was removed, and is put again.
    """
    looking = Lock()
    look_once = functools.cache(functools.partial(_look, invocation))

    def put_once(letter: DeadLetter) -> None:
        about, now = (letter.arn, letter.reason), invocation.clock.now()
        # The cache alone lets each thread that comes meanwhile look for itself.
        with looking:
            in_sight, is_all = look_once()
        lately = about in written and now - written[about] < A_DAY
        if about in in_sight or (lately and not is_all):
            return
        put(letter)
        written[about] = now

    return put_once


def _look(invocation: Invocation) -> tuple[frozenset[About], bool]:
    """What the letters in sight are about, and whether they are all; it hides none from anybody."""
    # With all that reads letters, which only a failure needs.
    from encryption_guard.dead_letters.destinations import open_destination

    letters: dict[str, MessageSummary] = {}
    is_all = False
    try:
        destination = open_destination(invocation)
        for _ in range(PEEKS):
            peek = destination.peek()
            letters |= {waiting.key: waiting.message.summary for waiting in peek.letters}
            if peek.is_all:
                is_all = True
                break
    # Whatever keeps it from looking must not keep a letter back.
    except Exception:
        return frozenset(), False
    about = frozenset((letter.arn, letter.reason) for letter in letters.values())
    return about, is_all or len(letters) < MAX_PEEKED
