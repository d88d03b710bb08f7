"""Guards that are broken on purpose, each in one function of the package.

An emulated function runs this file before it imports its handler, if the variable RUNS_FIRST of its
environment names it; BROKEN_GUARD names what is broken there.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import encryption_guard.dead_letters.document
from encryption_guard import dead_letters, enforcement
from encryption_guard.enforcement import Skipped
from encryption_guard.errors import Refused, Unavailable
from encryption_guard.services.oss_tables import OssTables, Reading

# How a function is replaced by one that gets the right one.
Break = Callable[[Callable[..., Any]], Callable[..., Any]]


def returning(instead: object, *errors: type[Exception]) -> Break:
    """A function that returns this where the right one raises one of these errors."""

    def take(right: Callable[..., Any]) -> Callable[..., Any]:
        def broken(*arguments: Any, **named: Any) -> Any:
            try:
                return right(*arguments, **named)
            except errors:
                return instead

        return broken

    return take


def sends_no_letter(_put: Callable[..., None]) -> Callable[..., None]:
    return lambda _invocation, _letter: None


def sees_no_stronger_choice(
    current_encryption: Callable[..., Reading | None],
) -> Callable[..., Reading | None]:
    def broken(*bucket: Any) -> Reading | None:
        current = current_encryption(*bucket)
        return current if current and current.algorithm == "AES256" else None

    return broken


def writes_something_else(fit: Callable[..., Any]) -> Callable[..., Any]:
    return lambda letter, event: fit(letter, event + b" ")


def opens_the_first_event_alone(open_payload: Callable[..., Any]) -> Callable[..., Any]:
    def broken(payload: object) -> Any:
        opened = open_payload(payload)
        return opened._replace(events=opened.events[:1])

    return broken


BROKEN: dict[str, tuple[object, str, Break]] = {
    "an event that failed counts as skipped": (
        enforcement,
        "process_event",
        returning(Skipped(reason="not_relevant"), Exception),
    ),
    "a letter is not sent": (dead_letters, "put_into_queue", sends_no_letter),
    "a letter that the queue refused counts as written": (
        dead_letters,
        "put_into_queue",
        returning(None, Unavailable),
    ),
    "every refusal counts as a bucket that is gone": (
        enforcement,
        "ensure_encrypted",
        returning(Skipped(reason="gone"), Refused),
    ),
    "what was never confirmed counts as a success": (
        OssTables,
        "put_encryption",
        returning(Reading("encrypted", "AES256", known_as="AES256"), Unavailable),
    ),
    "a stronger choice is overwritten": (OssTables, "current_encryption", sees_no_stronger_choice),
    "a letter holds something else": (
        encryption_guard.dead_letters.document,
        "fit",
        writes_something_else,
    ),
    "the first event of an array stands for all": (
        enforcement,
        "open_payload",
        opens_the_first_event_alone,
    ),
}

if name := os.environ.get("BROKEN_GUARD"):  # noqa: TID251  no setting of the guard's
    owner, function, broken = BROKEN[name]
    setattr(owner, function, broken(getattr(owner, function)))
