"""One event, delivered twice, by a platform that retries, to processes that may die at any step.

The guard is the real one. A try of it is fully described by the answers that it has had so far: run
it again with those, and it asks the same next question or comes to the same end (`run`). So the
world is a graph whose nodes are small values, and every path through it can be walked: which of the
two deliveries moves next, what the service or the queue answers, before or after which effect the
process is killed.

What is assumed of the platform: a try that raised or died is made again, `TRIES` in all (four in
reality, two here); then the event goes to the failure destination, which keeps it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal

import httpx

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetter, DeadLetters
from encryption_guard.enforcement import Outcome, process_event
from encryption_guard.errors import Unavailable
from encryption_guard.oss_tables import OssTables
from encryption_guard.payloads import open_payload
from encryption_guard.transport import Clock, Invocation, TimeBudget

Ask = Literal["GET", "PUT", "SEND"]
Process = Callable[..., Outcome]

EVENT = (
    b'{"id": "event-1", "source": "acs.oss", "data": {"eventName": "CreateTableBucket",'
    b' "responseElements": {"arn": "acs:osstables:cn-hangzhou:1234567890123456:bucket/orders"}}}'
)
TRIES = 2
ATTEMPTS = 2
# Two reads; the attempts, three more after a 404, one for the clock, one for new credentials.
MOST_GETS, MOST_PUTS = 2, ATTEMPTS + 3 + 1 + 1


def _says(status: int, body: bytes = b"") -> Callable[[], httpx.Response]:
    return lambda: httpx.Response(status, stream=httpx.ByteStream(body))


def _reset() -> httpx.Response:
    raise httpx.ReadError("reset")


ANSWERS: dict[Ask, dict[str, Callable[[], httpx.Response]]] = {
    "GET": {
        "empty": _says(200, b'{"encryptionConfiguration": {}}'),
        "AES256": _says(200, b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'),
        "503": _says(503),
        "403": _says(403),
    },
    "PUT": {
        "done": _says(200),
        "done, but the answer is lost": _reset,
        "reset": _reset,
        "503": _says(503),
        "409": _says(409),
        "404": _says(404),
        "403": _says(403),
        "307": _says(307),
    },
    "SEND": {
        "kept": _says(201),
        "kept, but the answer is lost": _reset,
        "refused": _reset,
    },
}
CLEAN = frozenset({"empty", "AES256", "done", "kept"})
DONE = frozenset({"done", "done, but the answer is lost", "kept", "kept, but the answer is lost"})


class Asked(BaseException):
    """The guard asks something to which the prescribed answers hold no answer yet."""

    def __init__(self, ask: Ask, letter: DeadLetter | None = None) -> None:
        super().__init__(ask)
        self.ask = ask
        self.letter = letter


@dataclass(frozen=True)
class Ended:
    """A try came to its end: with an outcome, or by raising."""

    outcome: Outcome | None
    logged_letters: int


@dataclass
class Script(httpx.BaseTransport):
    """The world of one try: it has so many answers, and stops the guard when it needs another."""

    answers: tuple[str, ...]
    used: int = 0
    logged_letters: list[Any] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        ask: Ask = "GET" if request.method == "GET" else "PUT"
        return self._answer(ask, None)

    def put(self, letter: bytes) -> None:
        written = DeadLetter.model_validate_json(letter)
        assert written.event.encode() == EVENT
        self._answer("SEND", written)

    def log_error(self, _message: str, **keys: Any) -> None:
        self.logged_letters.append(keys["dead_letter"])

    def _answer(self, ask: Ask, letter: DeadLetter | None) -> httpx.Response:
        if self.used == len(self.answers):
            raise Asked(ask, letter)
        self.used += 1
        return ANSWERS[ask][self.answers[self.used - 1]]()


CLOCK = Clock(
    now=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
    monotonic=lambda: 0.0,
    sleep=lambda _seconds: None,
    chance=lambda: 0.0,
)
SETTINGS = Settings.from_environment(
    {
        "FC_ACCOUNT_ID": "1234567890123456",
        "FC_REGION": "cn-hangzhou",
        "GUARD_MAX_ATTEMPTS": str(ATTEMPTS),
    }
)


def run(answers: tuple[str, ...], process: Process) -> Asked | Ended:
    """The real guard with these answers: what it asks next, or how it ends."""
    script = Script(answers)
    invocation = Invocation(
        transport=script,
        settings=SETTINGS,
        read_credentials=lambda: Credentials("AKID", "AKSECRET"),
        budget=TimeBudget(1e9, CLOCK),
        clock=CLOCK,
    )
    dead_letters = DeadLetters(
        put=script.put,
        log_error=script.log_error,
        function="encrypt-on-create",
        function_request_id="request-1",
        now=CLOCK.now,
    )
    (delivery,) = open_payload(EVENT).deliveries
    try:
        outcome = process(
            delivery,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=dead_letters,
        )
    except Asked as asked:
        return asked
    except Unavailable:
        return Ended(None, len(script.logged_letters))
    return Ended(outcome, len(script.logged_letters))


@dataclass(frozen=True)
class Delivering:
    """One of the two deliveries: which try it is at, and the answers that this try has had."""

    tries: int = 1
    answers: tuple[str, ...] = ()
    over: bool = False

    def again(self) -> Delivering:
        """The try failed: there is another, or none."""
        return Delivering(self.tries + 1) if self.tries < TRIES else replace(self, over=True)


@dataclass(frozen=True)
class World:
    """All that is true at one moment, and how much may still go wrong.

    `letters` are pairs of reason and id; `troubles` are answers that are not clean.
    """

    encrypted: bool = False
    letters: frozenset[tuple[str, str]] = frozenset()
    kept_by_platform: bool = False
    deliveries: tuple[Delivering, ...] = (Delivering(), Delivering())
    crashes: int = 1
    troubles: int = 0

    def ends_well(self) -> bool:
        """Whether the event came to an end that somebody sees."""
        return self.encrypted or bool(self.letters) or self.kept_by_platform


# Of each world the one before it, and the step between them.
CameFrom = dict[World, tuple[World, str] | None]


class Broken(AssertionError):
    """A promise was broken; the message tells each step that led there."""


@dataclass
class Model:
    """Walks through every world that can come of the first one."""

    process: Process = process_event
    worlds: int = 0
    steps: int = 0

    def __post_init__(self) -> None:
        self.next = functools.cache(lambda answers: run(answers, self.process))

    def explore(self, first: World) -> None:
        """Raise Broken for the first promise that is broken anywhere."""
        came_from: CameFrom = {first: None}
        waiting = [first]
        while waiting:
            world = waiting.pop()
            moves = list(self._moves(world))
            self.steps += len(moves)
            for told, following in moves:
                if isinstance(following, str):
                    raise Broken("\n".join([*_story(came_from, world), told, following]))
                if following not in came_from:
                    came_from[following] = (world, told)
                    waiting.append(following)
            if not moves and not world.ends_well():
                raise Broken("\n".join([*_story(came_from, world), "the event is lost"]))
        self.worlds = len(came_from)

    def _moves(self, world: World) -> Iterator[tuple[str, World | str]]:
        for number, delivery in enumerate(world.deliveries):
            if delivery.over:
                continue
            step = self.next(delivery.answers)
            if isinstance(step, Ended):
                yield f"{number}: {step}", _ended(world, number, step)
                continue
            for answer in _answers(step.ask, world):
                told = f"{number}: {step.ask}: {answer}"
                yield told, _answered(world, number, step, answer)
                if world.crashes:
                    yield f"{told}, and is killed", _killed(_effect(world, step, answer), number)
            if world.crashes:
                yield f"{number}: killed before {step.ask}", _killed(world, number)


def _answers(ask: Ask, world: World) -> Iterator[str]:
    """What the world can say: the truth, or trouble as long as some is left."""
    for answer in ANSWERS[ask]:
        if answer in ("empty", "AES256"):
            if (answer == "AES256") is world.encrypted:
                yield answer
        elif answer in CLEAN or world.troubles:
            yield answer


def _effect(world: World, step: Asked, answer: str) -> World:
    """What an answer leaves behind, whether or not anybody hears it."""
    if answer not in DONE:
        return world
    if step.letter is None:
        return replace(world, encrypted=True)
    return replace(world, letters=world.letters | {(step.letter.reason, step.letter.id)})


def _answered(world: World, number: int, step: Asked, answer: str) -> World | str:
    delivery = world.deliveries[number]
    answers = (*delivery.answers, answer)
    # The reads come first and the letter last.
    most = {"GET": MOST_GETS, "PUT": MOST_GETS + MOST_PUTS, "SEND": MOST_GETS + MOST_PUTS + 1}
    if len(answers) > most[step.ask]:
        return f"{len(answers)} requests in one try"
    troubles = world.troubles - (answer not in CLEAN)
    after = replace(_effect(world, step, answer), troubles=troubles)
    return _with(after, number, replace(delivery, answers=answers))


def _killed(world: World, number: int) -> World:
    after = replace(world, crashes=world.crashes - 1)
    return _retried(after, number)


def _retried(world: World, number: int) -> World:
    """What the platform does with a try that did not come to a good end."""
    delivery = world.deliveries[number].again()
    kept = world.kept_by_platform or delivery.over
    return _with(replace(world, kept_by_platform=kept), number, delivery)


def _ended(world: World, number: int, end: Ended) -> World | str:
    """The try is over: what it says has to be so."""
    delivery = world.deliveries[number]
    outcome = end.outcome
    if outcome is None:
        unwritten = delivery.answers[-1] in ("refused", "kept, but the answer is lost")
        if unwritten and not end.logged_letters:
            return "a letter that nobody confirmed is not in the log"
        return _retried(world, number)
    if outcome.outcome in ("encrypted", "already_encrypted") and not world.encrypted:
        return f"{outcome.outcome}, it says, and the bucket is open"
    reasons = {reason for reason, _ in world.letters}
    if outcome.outcome == "dead_lettered" and outcome.reason not in reasons:
        return f"dead_lettered, {outcome.reason}, it says, and there is no such letter"
    if len(reasons) != len(world.letters):
        return f"one reason has two ids: {set(world.letters)}"
    return _with(world, number, replace(delivery, over=True, answers=()))


def _with(world: World, number: int, delivery: Delivering) -> World:
    deliveries = list(world.deliveries)
    deliveries[number] = delivery
    return replace(world, deliveries=tuple(deliveries))


def _story(came_from: CameFrom, world: World) -> list[str]:
    """Every step that led to a world."""
    story: list[str] = []
    while before := came_from[world]:
        world, told = before
        story.append(told)
    return story[::-1]
