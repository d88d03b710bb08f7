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
from encryption_guard.enforcement import Outcome, Skipped
from encryption_guard.errors import Refused, Unavailable
from encryption_guard.services.oss_tables import OssTables, Reading

# How a function is replaced by one that gets the right one.
Break = Callable[[Callable[..., Any]], Callable[..., Any]]


def calls_every_failure_a_skip(process_event: Callable[..., Outcome]) -> Callable[..., Outcome]:
    def broken(*event: Any, **world: Any) -> Outcome:
        try:
            return process_event(*event, **world)
        except Exception:
            return Skipped(reason="not_relevant")

    return broken


def sends_no_letter(_put: Callable[..., None]) -> Callable[..., None]:
    return lambda _invocation, _letter: None


def takes_a_refused_letter_for_written(put: Callable[..., None]) -> Callable[..., None]:
    def broken(*letter: Any) -> None:
        try:
            put(*letter)
        except Unavailable:
            return

    return broken


def takes_every_refusal_for_a_bucket_that_is_gone(
    ensure_encrypted: Callable[..., Outcome],
) -> Callable[..., Outcome]:
    def broken(*bucket: Any, **world: Any) -> Outcome:
        try:
            return ensure_encrypted(*bucket, **world)
        except Refused:
            return Skipped(reason="gone")

    return broken


def says_encrypted_of_what_was_never_confirmed(
    put_encryption: Callable[..., Reading],
) -> Callable[..., Reading]:
    def broken(*bucket: Any) -> Reading:
        try:
            return put_encryption(*bucket)
        except Unavailable:
            return Reading("encrypted", "AES256", known_as="AES256")

    return broken


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
        calls_every_failure_a_skip,
    ),
    "a letter is not sent": (dead_letters, "put_into_queue", sends_no_letter),
    "a letter that the queue refused counts as written": (
        dead_letters,
        "put_into_queue",
        takes_a_refused_letter_for_written,
    ),
    "every refusal counts as a bucket that is gone": (
        enforcement,
        "ensure_encrypted",
        takes_every_refusal_for_a_bucket_that_is_gone,
    ),
    "what was never confirmed counts as a success": (
        OssTables,
        "put_encryption",
        says_encrypted_of_what_was_never_confirmed,
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
