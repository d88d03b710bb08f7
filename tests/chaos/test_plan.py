"""The plan of a storm: made of its seed alone, and holding everything that it promises."""

from __future__ import annotations

import json
from collections import Counter

import pytest

from tests.chaos.plan import FATES, TROUBLES, event_id, plan


def test_a_seed_makes_the_same_plan_again() -> None:
    """What is printed with a failure is enough to have it again."""
    assert plan(7, 200) == plan(7, 200)
    assert plan(7, 200) != plan(8, 200)


def test_a_creation_is_the_same_in_a_storm_of_any_size() -> None:
    """A failure of a storm of thousands can be had again in one of a few."""
    assert plan(7, 300).creations[:50] == plan(7, 50).creations


def test_every_creation_is_delivered() -> None:
    """At least once each; some twice, some in arrays, some later than those after them."""
    storm = plan(7, 500)

    delivered = Counter(number for each in storm.deliveries for number in each.creations)

    assert set(delivered) == set(range(500))
    assert set(delivered.values()) == {1, 2, 3}
    assert list(delivered) != sorted(delivered)
    assert any(len(each.creations) > 1 for each in storm.deliveries)


def test_an_array_holds_its_events_byte_for_byte() -> None:
    """What the function is handed is what the checker looks for."""
    storm = plan(7, 200, ["in arrays"])
    events = {creation.number: creation.event for creation in storm.creations}

    for each in storm.deliveries:
        if len(each.creations) > 1:
            assert len(json.loads(each.payload)) == len(each.creations)
        assert all(events[number] in each.payload for number in each.creations)


def test_every_fate_and_every_class_of_faults_occurs() -> None:
    """A storm of a thousand leaves none out."""
    storm = plan(7, 1000)
    labels = {
        mishap.label
        for creation in storm.creations
        for mishaps in creation.mishaps.values()
        for mishap in mishaps
    }

    assert {creation.fate for creation in storm.creations} == set(FATES)
    assert labels == {label for label in TROUBLES if ":" in label or label.endswith("request")} - {
        "SMQ: down for a while"
    }
    assert {type(each).__name__ for one in storm.deliveries for each in one.interruptions} == {
        "Kill",
        "Freeze",
        "Recycle",
    }


@pytest.mark.parametrize("label", TROUBLES)
def test_a_class_that_is_alone_meets_everybody_and_no_other_does(label: str) -> None:
    """Each class on its own is a storm without the others."""
    storm = plan(7, 40, [label])

    met = {
        mishap.label
        for creation in storm.creations
        for mishaps in creation.mishaps.values()
        for mishap in mishaps
    }

    # Without a refusal there would be no letter, and nothing to meet at the queue.
    assert met <= {label} | ({"OSS: refused"} if TROUBLES[label].refused else set())
    assert (storm.outage_seconds > 0) is (label == "SMQ: down for a while")
    assert (storm.rotate_every is not None) is (label == "credentials rotated")


def test_one_creation_can_be_had_alone() -> None:
    """With all its deliveries, and with those that came in an array with it."""
    storm = plan(7, 300)
    number = next(one.creations[0] for one in storm.deliveries if len(one.creations) > 1)

    alone = storm.only(number)

    assert alone.deliveries == tuple(o for o in storm.deliveries if number in o.creations)
    assert storm.creations[number] in alone.creations
    assert len(alone.creations) < 40


def test_an_event_tells_its_number_whatever_it_names() -> None:
    """So that its letter is known as its own."""
    for creation in plan(7, 300).creations:
        assert event_id(creation.number).encode() in creation.event
