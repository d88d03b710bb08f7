"""Letters in an emulated SMQ, from one node or several: received once, held, released, removed."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters.destinations import QueuedMessage, SmqDestination, leased
from encryption_guard.errors import Unavailable
from encryption_guard.http import open_transport
from encryption_guard.invocation import DeadlineTransport, Invocation, TimeBudget
from encryption_guard.settings import QueueArn, Settings
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, REGION
from tests.emulators.emulated_service import utc_now
from tests.emulators.faults import Effect, Fault, Refuse, Reset
from tests.emulators.server import Authority
from tests.emulators.skipping_clock import SkippingClock
from tests.emulators.smq import Smq
from tests.emulators.smq_state import StoredMessage
from tests.unit.fakes import skipping

VISIBILITY_SECONDS = 30


@dataclass
class Desk:
    """A queue, and operators who look into it; time passes where one of them, or a test, sleeps."""

    service: Smq
    transport: DeadlineTransport
    clock: SkippingClock

    def operator(self, key: AccessKey = OWNER) -> SmqDestination:
        """Somebody who knows nothing of what others have received."""
        clock = skipping(self.clock)
        invocation = Invocation(
            transport=self.transport,
            settings=Settings.from_environment({"GUARD_SMQ_ENDPOINT": self.service.url}),
            read_credentials=lambda: Credentials(key.id, key.secret),
            # A command has no end of its own.
            budget=TimeBudget(math.inf, clock),
            clock=clock,
        )
        return SmqDestination(QueueArn(REGION, ACCOUNT, QUEUE), invocation)

    def put(self, number: int) -> list[str]:
        """So many letters; returns the ids of their messages."""
        return [self.service.put(QUEUE, f'{{"number": {index}}}') for index in range(number)]

    def left(self) -> list[str]:
        """The ids of all messages, in order."""
        return [message.id for message in self.service.messages(QUEUE)]

    def hidden(self) -> list[str]:
        """The ids of those that nobody would be given now."""
        now = utc_now() + timedelta(seconds=sum(self.clock.slept))
        return [each.id for each in self.service.messages(QUEUE) if each.visible_at > now]

    def operations(self) -> list[str | None]:
        return [request.operation for request in self.service.requests]


OpenDesk = Callable[..., Desk]


@pytest.fixture
def open_desk(authority: Authority, trusted: Path) -> Iterator[OpenDesk]:  # noqa: ARG001  the client trusts it
    """Makes queues, each with a clock of its own."""
    with ExitStack() as stack:
        transport = stack.enter_context(open_transport())

        def desk(
            *,
            nodes: int = 1,
            visibility_seconds: float = VISIBILITY_SECONDS,
            seconds_an_answer: float = 0,
        ) -> Desk:
            clock = SkippingClock()

            def now() -> datetime:
                passed = sum(clock.slept) + seconds_an_answer * len(service.requests)
                return utc_now() + timedelta(seconds=passed)

            service = Smq(
                OWNER,
                queues=[QUEUE],
                nodes=nodes,
                visibility_seconds=visibility_seconds,
                authority=authority,
                clock=now,
            )
            return Desk(stack.enter_context(service), transport, clock)

        yield desk


@pytest.fixture
def desk(open_desk: OpenDesk) -> Desk:
    return open_desk()


def keys(letters: list[QueuedMessage]) -> list[str]:
    return [letter.key for letter in letters]


def take(letters: Iterator[QueuedMessage], number: int) -> list[QueuedMessage]:
    return [next(letters) for _ in range(number)]


# Looking through a queue.


@pytest.mark.parametrize("nodes", [1, 7])
@pytest.mark.parametrize("number", [0, 16, 17, 100])
def test_every_letter_is_given_once(open_desk: OpenDesk, nodes: int, number: int) -> None:
    """Whatever one node has at a time, all letters of all nodes come, and none of them twice."""
    desk = open_desk(nodes=nodes)
    sent = desk.put(number)

    with leased(desk.operator()) as letters:
        found = list(letters)

    assert sorted(keys(found)) == sorted(sent)
    assert {letter.body for letter in found} == {
        f'{{"number": {index}}}'.encode() for index in range(number)
    }
    assert (desk.left(), desk.hidden()) == (sent, [])


def test_a_letter_is_hidden_while_it_is_looked_at(desk: Desk) -> None:
    """Until it is released nobody else is given it, but everybody once it is."""
    sent = desk.put(3)

    with leased(desk.operator()) as letters:
        found = list(letters)
        meanwhile = list(desk.operator().read())
    afterwards = list(desk.operator().read())

    assert (keys(found), meanwhile, keys(afterwards)) == (sent, [], sent)


def test_a_letter_whose_time_ran_out_is_given_once(desk: Desk) -> None:
    """What comes again during the walk is passed over, and removed by the handle it has now."""
    sent = desk.put(40)
    queue = desk.operator()

    with leased(queue) as letters:
        found = take(letters, 32)
        desk.clock.sleep(VISIBILITY_SECONDS + 1)
        found += letters
        removed = [queue.remove(letter.key) for letter in found]

    assert sorted(keys(found)) == sorted(sent)
    assert all(removed)
    assert desk.left() == []


@pytest.mark.parametrize(
    ("nodes", "number", "visible_after"),
    [
        pytest.param(1, 16, 0, id="one answer, at once"),
        pytest.param(7, 40, 0, id="an answer for each of seven nodes, at once"),
        pytest.param(1, 40, 3, id="three answers, after three"),
    ],
)
def test_letters_that_keep_coming_back_do_not_keep_the_walk(
    open_desk: OpenDesk, nodes: int, number: int, visible_after: int
) -> None:
    """With a time-out too short for the walk, here counted in answers, it ends and has them all.

    Where it cannot be sure of that, it says so.
    """
    desk = open_desk(nodes=nodes, visibility_seconds=visible_after, seconds_an_answer=1)
    sent = desk.put(number)
    found: list[str] = []

    with suppress(Unavailable):
        found += (letter.key for letter in desk.operator().read())

    assert sorted(found) == sorted(sent)


def test_more_letters_than_ever_come_do_not_keep_the_walk(open_desk: OpenDesk) -> None:
    """Where the same letters come first again and again, the walk ends, and says so."""
    desk = open_desk(visibility_seconds=0)
    sent = desk.put(40)
    letters = desk.operator().read()

    found = keys(take(letters, 16))
    with pytest.raises(Unavailable, match=r"too short for 16 messages\. Increase it; "):
        next(letters)

    assert found == sent[:16]


def test_a_letter_that_comes_again_is_held_longer(open_desk: OpenDesk) -> None:
    """So that the walk comes to the others, however short the queue's own time-out is."""
    desk = open_desk(visibility_seconds=3)
    sent = desk.put(40)
    letters = desk.operator().read()

    found = keys(take(letters, 16))
    desk.clock.sleep(4)
    found += keys(take(letters, 16))
    desk.clock.sleep(4)
    found += keys(list(letters))

    assert found == sent


def test_a_peek_hides_nothing(open_desk: OpenDesk) -> None:
    """It shows at most sixteen letters, which everybody can still receive."""
    desk = open_desk(nodes=1)
    sent = desk.put(17)

    shown = list(desk.operator().peek().messages)

    assert keys(shown) == sent[:16]
    assert desk.hidden() == []
    assert [message.dequeue_count for message in desk.service.messages(QUEUE)] == [0] * 17
    assert keys(list(desk.operator().read())) == sent


# What a letter tells.

EVENT = {
    "id": "event-1",
    "source": "acs.oss",
    "data": {"eventName": "CreateTableBucket", "requestParameters": {"name": "orders"}},
}


@pytest.mark.parametrize(
    "look", [lambda queue: queue.peek().messages, SmqDestination.read], ids=["peek", "read"]
)
@pytest.mark.parametrize("put", [str, b64encode], ids=["raw", "base64"])
def test_a_body_may_be_base64_or_not(
    desk: Desk, look: Callable[[SmqDestination], Iterable[QueuedMessage]], put: Callable[[Any], Any]
) -> None:
    """Our own letters are base64, those of the platform may not be: both are opened."""
    text = json.dumps(EVENT)
    desk.service.put(QUEUE, put(text) if put is str else put(text.encode()))

    (letter,) = look(desk.operator())

    assert letter.body == text.encode()
    assert (letter.message.summary.kind, letter.message.summary.event_id) == (
        "cloud_event",
        "event-1",
    )
    assert [delivery.raw for delivery in letter.message.events] == [text.encode()]


def test_the_queue_completes_a_bare_name(desk: Desk) -> None:
    """A bucket without region and account is taken for one of the queue's."""
    desk.service.put(QUEUE, json.dumps(EVENT))

    (letter,) = desk.operator().read()

    assert letter.message.summary.arn == f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders"


def test_a_letter_waits_since_it_was_put_there(desk: Desk) -> None:
    """The time is that of the queue, in whole milliseconds, and stays however often it is seen."""
    desk.put(1)
    (message,) = desk.service.messages(QUEUE)

    (first,) = desk.operator().read()
    desk.clock.sleep(VISIBILITY_SECONDS + 1)
    (second,) = desk.operator().peek().messages

    assert first.since == second.since == in_milliseconds(message)


def in_milliseconds(message: StoredMessage) -> Any:
    at = message.enqueued_at
    return at.replace(microsecond=at.microsecond // 1000 * 1000)


# Releasing.

Letters = Iterator[QueuedMessage]


def look_at_the_first(_queue: SmqDestination, letters: Letters) -> None:
    for _ in letters:
        break


def fail_at_the_first(_queue: SmqDestination, letters: Letters) -> None:
    for _ in letters:
        raise ZeroDivisionError


def fail_after_all(_queue: SmqDestination, letters: Letters) -> None:
    list(letters)
    raise ZeroDivisionError


def remove_all(queue: SmqDestination, letters: Letters) -> None:
    for letter in letters:
        assert queue.remove(letter.key)


def look_in_parts(_queue: SmqDestination, letters: Letters) -> None:
    HELD.append(letters)
    take(letters, 17)


Work = Callable[[SmqDestination, Letters], None]

# Iterators that outlive their command: nothing may depend on when they are collected.
HELD: list[Letters] = []


@pytest.mark.parametrize("nodes", [1, 7])
@pytest.mark.parametrize(
    ("work", "left"),
    [
        (look_at_the_first, 40),
        (fail_at_the_first, 40),
        (fail_after_all, 40),
        (remove_all, 0),
        (look_in_parts, 40),
    ],
    ids=lambda value: getattr(value, "__name__", "").replace("_", " ") or str(value),
)
def test_nothing_stays_hidden(open_desk: OpenDesk, nodes: int, work: Work, left: int) -> None:
    """However a command ends, whoever looks next finds every letter that it did not remove."""
    desk = open_desk(nodes=nodes)
    desk.put(40)
    queue = desk.operator()

    with suppress(ZeroDivisionError), leased(queue) as letters:
        work(queue, letters)

    assert (len(desk.left()), desk.hidden()) == (left, [])
    HELD.clear()


def test_released_letters_are_waited_for(desk: Desk) -> None:
    """A second, the least that SMQ knows, passes once, however many letters were released."""
    desk.put(20)

    with leased(desk.operator()) as letters:
        list(letters)

    assert desk.clock.slept == [1]


def test_nothing_to_release_is_not_waited_for(desk: Desk) -> None:
    """Whoever holds nothing, any more or at all, is done at once."""
    desk.put(3)
    queue = desk.operator()

    with leased(queue) as letters:
        remove_all(queue, letters)
    with leased(desk.operator()) as letters:
        list(letters)

    assert desk.clock.slept == []
    assert "ChangeMessageVisibility" not in desk.operations()


@pytest.mark.parametrize("effect", [Refuse(403), Reset()], ids=["403", "a reset"])
def test_a_release_that_fails_changes_no_result(desk: Desk, effect: Effect) -> None:
    """What could not be released comes into sight by itself; the command has done its work."""
    sent = desk.put(3)
    queue = desk.operator()
    desk.service.faults.add(Fault(effect, "ChangeMessageVisibility"))

    with leased(queue) as letters:
        first, *_ = letters
        removed = queue.remove(first.key)
    hidden = desk.hidden()
    desk.clock.sleep(VISIBILITY_SECONDS)

    assert removed is True
    assert hidden == sent[1:]
    assert keys(list(desk.operator().read())) == sent[1:]


def test_a_queue_that_is_gone_does_not_hold_up_the_end(desk: Desk) -> None:
    """Releasing has its time; what it does not come to is visible again by itself."""
    sent = desk.put(300)
    desk.service.faults.add(Fault(Refuse(503), "ChangeMessageVisibility"))

    with leased(desk.operator()) as letters:
        list(letters)

    tried = desk.operations().count("ChangeMessageVisibility")
    assert 0 < tried < len(sent)


def test_one_letter_that_is_not_released_keeps_no_other(desk: Desk) -> None:
    """What fails for one letter is done for the others."""
    desk.put(20)
    desk.service.faults.add(Fault(Refuse(403), "ChangeMessageVisibility", times=1))

    with leased(desk.operator()) as letters:
        list(letters)

    assert len(desk.hidden()) == 1


@pytest.mark.parametrize("received", [0, 17])
def test_a_queue_that_fails_in_the_middle_gives_back_what_it_gave(
    desk: Desk, received: int
) -> None:
    """The failure is told, and what was received before it is in sight again."""
    sent = desk.put(40)
    found: list[QueuedMessage] = []

    def walk(letters: Letters) -> None:
        found.extend(take(letters, received))
        desk.service.faults.add(Fault(Refuse(503), "BatchReceiveMessage"))
        found.extend(letters)

    with pytest.raises(Unavailable, match="503"), leased(desk.operator()) as letters:
        walk(letters)

    assert keys(found) == sent[: len(found)]
    assert (desk.left(), desk.hidden()) == (sent, [])


# Holding and removing.


def test_a_kept_letter_is_hidden_for_as_long_as_its_event_takes(desk: Desk) -> None:
    """Two minutes count from the keeping, whatever the queue's own time-out is."""
    (sent,) = desk.put(1)
    letters = desk.operator()
    (letter,) = letters.read()
    desk.clock.sleep(VISIBILITY_SECONDS - 1)

    kept = letters.keep(letter.key)
    desk.clock.sleep(119)
    meanwhile = list(desk.operator().read())
    removed = letters.remove(letter.key)

    assert (letter.key, kept, meanwhile, removed) == (sent, True, [], True)
    assert desk.left() == []


def test_a_letter_can_be_kept_again_and_again(desk: Desk) -> None:
    """Each time with the handle of the time before."""
    desk.put(1)
    letters = desk.operator()
    (letter,) = letters.read()

    kept = []
    for _ in range(3):
        kept.append(letters.keep(letter.key))
        desk.clock.sleep(100)

    assert kept == [True, True, True]
    assert letters.remove(letter.key) is True


@pytest.mark.parametrize("somebody_else_came", [True, False], ids=["somebody else's", "nobody's"])
def test_a_letter_whose_time_ran_out_is_no_longer_held(
    desk: Desk, somebody_else_came: bool
) -> None:
    """It is neither kept nor removed, for it may be in other hands, and stays with who has it."""
    sent = desk.put(1)
    late, other = desk.operator(), desk.operator()
    (letter,) = late.read()
    desk.clock.sleep(VISIBILITY_SECONDS + 1)
    if somebody_else_came:
        assert keys(list(other.read())) == sent

    held = late.keep(letter.key), late.remove(letter.key)

    assert held == (False, False)
    assert desk.left() == sent
    if somebody_else_came:
        assert (other.keep(letter.key), other.remove(letter.key)) == (True, True)


def test_releasing_takes_nothing_from_others(desk: Desk) -> None:
    """A letter that somebody else has received meanwhile stays hidden with them."""
    sent = desk.put(3)
    other = desk.operator()

    with leased(desk.operator()) as letters:
        list(letters)
        desk.clock.sleep(VISIBILITY_SECONDS + 1)
        assert keys(list(other.read())) == sent

    assert desk.hidden() == sent
    assert all(other.remove(key) for key in sent)


@pytest.mark.parametrize(
    ("operation", "call"),
    [("ChangeMessageVisibility", SmqDestination.keep), ("DeleteMessage", SmqDestination.remove)],
    ids=["keep", "remove"],
)
def test_a_queue_that_fails_does_not_say_that_a_letter_is_lost(
    desk: Desk, operation: str, call: Callable[[SmqDestination, str], bool]
) -> None:
    """Keeping and removing raise Unavailable, and succeed when the queue is there again."""
    desk.put(1)
    letters = desk.operator()
    (letter,) = letters.read()
    desk.service.faults.add(Fault(Refuse(503), operation, times=4))

    with pytest.raises(Unavailable, match="503"):
        call(letters, letter.key)

    assert call(letters, letter.key) is True


def test_nothing_is_asked_before_a_letter_is_wanted(desk: Desk) -> None:
    """Letters that nobody looks at cost no request."""
    desk.put(3)

    with leased(desk.operator()):
        pass

    assert desk.operations() == []
