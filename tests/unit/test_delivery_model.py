"""Every path of one event through two deliveries, a crash and a queue that may fail."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import DeadLettered, Encrypted, Outcome, Skipped, process_event
from encryption_guard.errors import LetterNotWritten, Unavailable
from tests.unit.delivery_model import Broken, Delivering, Model, World


def test_every_interleaving_of_two_deliveries_ends_well() -> None:
    """Whoever moves first, whatever is answered, wherever a process dies: the event is kept."""
    model = Model()

    model.explore(World(troubles=4))

    # A model that has become empty would be content with anything.
    assert model.worlds > 200_000
    assert model.steps > 600_000


def test_every_answer_to_one_delivery_ends_well() -> None:
    """Alone, and with as much trouble as two tries can have."""
    model = Model()

    model.explore(World(deliveries=(Delivering(),), troubles=8))

    assert model.worlds > 100_000


def says_encrypted_of_what_is_unavailable(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except Unavailable:
        return Encrypted(reason="created")


def says_dead_lettered_of_a_letter_that_was_refused(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except LetterNotWritten:
        return DeadLettered(reason="rejected")


def writes_no_letter(*event: Any, dead_letters: DeadLetters, **world: Any) -> Outcome:
    forgetful = replace(dead_letters, put=lambda _letter: None)
    return process_event(*event, dead_letters=forgetful, **world)


def calls_every_failure_a_skip(*event: Any, **world: Any) -> Outcome:
    try:
        return process_event(*event, **world)
    except Unavailable:
        return Skipped(reason="not_relevant")


@pytest.mark.parametrize(
    ("broken", "found"),
    [
        (says_encrypted_of_what_is_unavailable, "encrypted, it says, and the bucket is open"),
        (says_dead_lettered_of_a_letter_that_was_refused, "there is no such letter"),
        (writes_no_letter, "there is no such letter"),
        (calls_every_failure_a_skip, "the event is lost"),
    ],
)
def test_a_broken_guard_is_found_out(broken: Any, found: str) -> None:
    """The model is one that can be failed, and it tells each step that leads there."""
    with pytest.raises(Broken) as violation:
        Model(broken).explore(World(troubles=4))

    *steps, last = str(violation.value).splitlines()
    assert found in last
    assert steps
