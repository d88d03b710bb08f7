"""Every path of one event through two deliveries, a crash and a queue that may fail."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import (
    AlreadyEncrypted,
    DeadLettered,
    Encrypted,
    Outcome,
    Skipped,
    process_event,
)
from encryption_guard.errors import DeadLetterNotWritten, Unavailable
from encryption_guard.events.envelopes import Event
from tests.unit.enforcement.delivery_model import (
    LOST,
    RARE,
    Answer,
    Broken,
    Delivering,
    Model,
    Process,
    World,
)

ALONE = World(deliveries=(Delivering(),), troubles=5)


@pytest.mark.parametrize(
    ("never", "troubles", "worlds"),
    [(RARE, 5, 25_000), (frozenset[Answer](), 3, 4_000)],
    ids=["any trouble", "a skewed clock and an old token too"],
)
def test_every_answer_to_one_delivery_ends_well(
    never: frozenset[Answer], troubles: int, worlds: int
) -> None:
    """Alone, the event is kept however long the trouble lasts and whatever it is."""
    model = Model(never=never)

    model.explore(World(deliveries=(Delivering(),), troubles=troubles))

    assert model.worlds > worlds


@pytest.mark.parametrize(
    ("troubles", "worlds", "steps"),
    [(3, 60_000, 180_000), pytest.param(4, 200_000, 600_000, marks=pytest.mark.slow)],
)
def test_every_interleaving_of_two_deliveries_ends_well(
    troubles: int, worlds: int, steps: int
) -> None:
    """Whoever moves first, whatever is answered, wherever a process dies: the event is kept."""
    model = Model()

    model.explore(World(troubles=troubles))

    # A model that has become empty would be content with anything.
    assert model.worlds > worlds
    assert model.steps > steps


def says_encrypted_of_what_is_unavailable(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except Unavailable:
        return Encrypted(reason="created")


def takes_a_conflict_for_done(*event: Any, **world: Any) -> Outcome:
    outcome = process_event(*event, **world)
    return Encrypted(reason="created") if outcome.reason == "conflict" else outcome


def takes_every_bucket_for_encrypted(*_event: Any, **_world: Any) -> Outcome:
    return AlreadyEncrypted(reason="AES256")


def says_dead_lettered_of_a_letter_that_was_refused(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except DeadLetterNotWritten:
        return DeadLettered(reason="rejected")


def writes_no_letter(*event: Any, dead_letters: DeadLetters, **world: Any) -> Outcome:
    forgetful = dead_letters._replace(put=lambda _letter: None)
    return process_event(*event, dead_letters=forgetful, **world)


def logs_only_the_id_of_a_letter(*event: Any, dead_letters: DeadLetters, **world: Any) -> Outcome:
    def log_error(message: str, *, dead_letter: dict[str, Any]) -> None:
        dead_letters.log_error(message, dead_letter=dead_letter["id"])

    terse = dead_letters._replace(log_error=log_error)
    return process_event(*event, dead_letters=terse, **world)


def names_a_letter_after_its_try(
    delivery: Event, *, dead_letters: DeadLetters, **world: Any
) -> Outcome:
    renamed = delivery._replace(event_id=dead_letters.function_request_id)
    return process_event(renamed, dead_letters=dead_letters, **world)


def calls_every_failure_a_skip(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except Unavailable:
        return Skipped(reason="not_relevant")


def never_gives_up(*event: Any, **world: Any) -> Outcome:
    while True:
        try:
            return process_event(*event, **world)
        except Unavailable:
            continue


BROKEN: dict[str, tuple[Process, str]] = {
    "unavailable": (says_encrypted_of_what_is_unavailable, "encrypted, it says, and the service"),
    "conflict": (takes_a_conflict_for_done, "encrypted, it says, and the service did not"),
    "blind": (takes_every_bucket_for_encrypted, "already_encrypted, it says, and the bucket is"),
    "refused": (says_dead_lettered_of_a_letter_that_was_refused, "there is no such letter"),
    "forgetful": (writes_no_letter, "there is no such letter"),
    "terse": (logs_only_the_id_of_a_letter, "is not whole in the log"),
    "ids": (names_a_letter_after_its_try, "one reason has two ids"),
    "skips": (calls_every_failure_a_skip, LOST),
    "stubborn": (never_gives_up, "times SEND in one try"),
}


@pytest.mark.parametrize(("process", "found"), BROKEN.values(), ids=BROKEN)
def test_a_broken_guard_is_found_out(process: Process, found: str) -> None:
    """The model is one that can be failed, and it tells each step that leads there."""
    with pytest.raises(Broken) as violation:
        Model(process).explore(ALONE)

    assert found in violation.value.promise
    assert str(violation.value).splitlines() == [*violation.value.steps, violation.value.promise]


def told_of(process: Process, walk: Callable[[Model], object]) -> tuple[list[str], str]:
    with pytest.raises(Broken) as violation:
        walk(Model(process))
    return violation.value.steps, violation.value.promise


def test_a_violation_can_be_replayed() -> None:
    """The steps of a violation lead there again, and to nothing bad with the real guard."""
    guard = says_dead_lettered_of_a_letter_that_was_refused
    steps, promise = told_of(guard, lambda model: model.explore(ALONE))

    assert told_of(guard, lambda model: model.replay(ALONE, steps)) == (steps, promise)
    Model().replay(ALONE, steps[:-1])
