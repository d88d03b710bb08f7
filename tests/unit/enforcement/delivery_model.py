"""One event, delivered twice, by a platform that retries, to processes that may die at any step.

The guard is the real one. A try of it is fully described by the answers that it has had so far: run
it again with those, and it asks the same next question or comes to the same end (`run`). So the
world is a graph whose nodes are small values, and every path through it can be walked: which of the
two deliveries moves next, what the service or the queue answers, before or after which effect the
process is killed.

What is assumed of the platform: a try that raised or died is made again, `TRIES` in all (four in
reality, two here); then the event goes to the failure destination, which keeps it. And of a
process: nothing of one try changes the next (`Script` notices if it does), so that two deliveries
know of each other by the world alone.

A broken promise comes with its steps, and `Model.replay` walks them again.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import count
from typing import Any, Literal

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.enforcement import Outcome, process_event
from encryption_guard.errors import Unavailable
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings

Ask = Literal["GET", "PUT", "SEND"]
# What was asked, and what came of it: a key of ANSWERS.
Answer = tuple[Ask, str]
Process = Callable[..., Outcome]

EVENT = (
    b'{"id": "event-1", "source": "acs.oss", "data": {"eventName": "CreateTableBucket",'
    b' "responseElements": {"arn": "acs:osstables:cn-hangzhou:1234567890123456:bucket/orders"}}}'
)
TRIES = 2
ATTEMPTS = 2
# Of one try: the attempts of a PUT, three more after a 404, one for the clock and one for new
# credentials; two reads before all of them and one before each repeat; a letter.
MOST: dict[Ask, int] = {"GET": 2 + ATTEMPTS - 1 + 3, "PUT": ATTEMPTS + 3 + 1 + 1, "SEND": 1}
# And so many PUTs of one try may be answered so: the last of them is the last word.
PATIENCE: tuple[tuple[frozenset[str], int], ...] = (
    (frozenset({"503", "409", "reset", "done, but the answer is lost"}), ATTEMPTS),
    (frozenset({"404"}), 3 + 1),
    (frozenset({"the clock is skewed"}), 1 + 1),
    (frozenset({"the token is expired"}), 1 + 1),
)


def _says(status: int, body: bytes = b"", date: str = "") -> Callable[[], httpx.Response]:
    headers = {"x-oss-request-id": "0123456789ABCDEF01234567"} | ({"date": date} if date else {})
    return lambda: httpx.Response(status, headers=headers, stream=httpx.ByteStream(body))


def _reset() -> httpx.Response:
    raise httpx.ReadError("reset")


ANSWERS: dict[Ask, dict[str, Callable[[], httpx.Response]]] = {
    "GET": {
        "empty": _says(200, b'{"encryptionConfiguration": {}}'),
        "AES256": _says(200, b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}'),
        "503": _says(503),
        "403": _says(403),
        "reset": _reset,
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
        "the clock is skewed": _says(403, b'{"code": "Skewed"}', "Fri, 02 Jan 2026 04:04:05 GMT"),
        "the token is expired": _says(401),
    },
    "SEND": {
        "kept": _says(201, b"<MessageId>1</MessageId>"),
        "kept, but the answer is lost": _reset,
        "refused": _reset,
    },
}
CLEAN = frozenset({"empty", "AES256", "done", "kept"})
DONE = frozenset({"done", "done, but the answer is lost", "kept", "kept, but the answer is lost"})
# These meet one delivery alone: two together would take minutes, and learn nothing of each other.
RARE: frozenset[Answer] = frozenset(
    {("GET", "reset"), ("PUT", "the clock is skewed"), ("PUT", "the token is expired")}
)


class Asked(BaseException):
    """The guard asks something to which the prescribed answers hold no answer yet."""

    def __init__(self, ask: Ask, letter: DeadLetter | None = None) -> None:
        super().__init__(ask)
        self.ask = ask
        self.letter = letter


@dataclass(frozen=True)
class Ended:
    """A try came to its end: with an outcome, or by raising.

    `unlogged` if a letter was not confirmed and is not whole in the log.
    """

    outcome: Outcome | None
    unlogged: bool


@dataclass
class Script(httpx.BaseTransport):
    """The world of one try: it has so many answers, and stops the guard when it needs another."""

    answers: tuple[Answer, ...]
    used: int = 0
    unconfirmed: list[DeadLetter] = field(default_factory=list)
    logged: list[Any] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        ask: Ask = "GET" if request.method == "GET" else "PUT"
        return self._answer(ask, None)

    def put(self, letter: DeadLetter) -> None:
        assert letter.event.encode() == EVENT
        self.unconfirmed.append(letter)
        self._answer("SEND", letter)
        self.unconfirmed.remove(letter)

    def log_error(self, _message: str, **keys: Any) -> None:
        self.logged.append(keys["dead_letter"])

    def end(self, outcome: Outcome | None) -> Ended:
        return Ended(outcome, any(one.model_dump() not in self.logged for one in self.unconfirmed))

    def _answer(self, ask: Ask, letter: DeadLetter | None) -> httpx.Response:
        if self.used == len(self.answers):
            raise Asked(ask, letter)
        asked, answer = self.answers[self.used]
        assert asked == ask, "the same answers led to another question"
        self.used += 1
        return ANSWERS[ask][answer]()


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


def run(answers: tuple[Answer, ...], process: Process) -> Asked | Ended:
    """The real guard with these answers: what it asks next, or how it ends."""
    script = Script(answers)
    (delivery,) = open_payload(EVENT).events
    try:
        return script.end(process(delivery, **_world_of(script)))
    except Asked as asked:
        return asked
    except Unavailable:
        return script.end(None)


def _world_of(script: Script) -> dict[str, Any]:
    # Each reading finds new ones, so that it is the guard that stops, not what it reads.
    keys = map("AK{}".format, count())
    invocation = Invocation(
        transport=DeadlineTransport(script),
        settings=SETTINGS,
        read_credentials=lambda: Credentials(next(keys), "AKSECRET"),
        budget=TimeBudget(1e9, CLOCK),
        clock=CLOCK,
    )
    dead_letters = DeadLetters(
        put=script.put,
        log_error=script.log_error,
        function="encrypt-on-create",
        # Each try has its own, on which a letter's id must not depend.
        function_request_id=f"request {script.answers}",
        now=CLOCK.now,
    )
    tables = OssTables(invocation)
    return {"invocation": invocation, "tables": tables, "dead_letters": dead_letters}


@dataclass(frozen=True)
class Delivering:
    """One of the two deliveries: which try it is at, and the answers that this try has had."""

    tries: int = 1
    answers: tuple[Answer, ...] = ()
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

    def reasons(self) -> frozenset[str]:
        """Why the event was given up, by the letters in the queue."""
        return frozenset(reason for reason, _ in self.letters)

    def ends_well(self) -> bool:
        """Whether the event came to an end that somebody sees."""
        return self.encrypted or bool(self.letters) or self.kept_by_platform


LOST = "the event is lost"

# Of each world the one before it, and the step between them.
CameFrom = dict[World, tuple[World, str] | None]


class Broken(AssertionError):
    """A promise was broken; the message tells each step that led there."""

    def __init__(self, steps: list[str], promise: str) -> None:
        super().__init__("\n".join([*steps, promise]))
        self.steps = steps
        self.promise = promise


@dataclass
class Model:
    """Walks through every world that can come of the first one, in which some answers are never."""

    process: Process = process_event
    never: frozenset[Answer] = RARE
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
                    raise Broken([*_story(came_from, world), told], following)
                if following not in came_from:
                    came_from[following] = (world, told)
                    waiting.append(following)
            if not moves and not world.ends_well():
                raise Broken(_story(came_from, world), LOST)
        self.worlds = len(came_from)

    def replay(self, first: World, steps: Iterable[str]) -> World:
        """Where these steps lead; raises Broken where a promise is broken there."""
        world, walked = first, list[str]()
        for told in steps:
            walked.append(told)
            following = dict(self._moves(world))[told]
            if isinstance(following, str):
                raise Broken(walked, following)
            world = following
        if not list(self._moves(world)) and not world.ends_well():
            raise Broken(walked, LOST)
        return world

    def _moves(self, world: World) -> Iterator[tuple[str, World | str]]:
        for number, delivery in enumerate(world.deliveries):
            if delivery.over:
                continue
            step = self.next(delivery.answers)
            if isinstance(step, Ended):
                yield f"{number}: {step}", _ended(world, number, step)
                continue
            for answer in self._answers(step.ask, world):
                told = f"{number}: {step.ask}: {answer}"
                yield told, _answered(world, number, step, answer)
                if world.crashes:
                    yield f"{told}, and is killed", _killed(_effect(world, step, answer), number)
            if world.crashes:
                yield f"{number}: killed before {step.ask}", _killed(world, number)

    def _answers(self, ask: Ask, world: World) -> Iterator[str]:
        """What the world can say: the truth, or trouble as long as some is left."""
        for answer in ANSWERS[ask]:
            if answer in ("empty", "AES256"):
                if (answer == "AES256") is world.encrypted:
                    yield answer
            elif answer in CLEAN or (world.troubles and (ask, answer) not in self.never):
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
    answers = (*delivery.answers, (step.ask, answer))
    if too_much := _too_much(answers):
        return too_much
    troubles = world.troubles - (answer not in CLEAN)
    after = replace(_effect(world, step, answer), troubles=troubles)
    if len(after.reasons()) != len(after.letters):
        return f"one reason has two ids: {set(after.letters)}"
    return _with(after, number, replace(delivery, answers=answers))


def _too_much(answers: tuple[Answer, ...]) -> str | None:
    """What a try asked more often than it may."""
    for ask, most in MOST.items():
        if sum(asked == ask for asked, _ in answers) > most:
            return f"more than {most} times {ask} in one try"
    for words, most in PATIENCE:
        if sum(ask == "PUT" and word in words for ask, word in answers) > most:
            return f"more than {most} tries of a PUT that is answered by {sorted(words)}"
    return None


def _killed(world: World, number: int) -> World:
    after = replace(world, crashes=world.crashes - 1)
    return _retried(after, number)


def _retried(world: World, number: int) -> World:
    """What the platform does with a try that did not come to a good end."""
    delivery = world.deliveries[number].again()
    kept = world.kept_by_platform or delivery.over
    return _with(replace(world, kept_by_platform=kept), number, delivery)


def _ended(world: World, number: int, end: Ended) -> World | str:
    """The try is over: what it says has to be so, and it has to have been told so itself."""
    delivery = world.deliveries[number]
    outcome = end.outcome
    if end.unlogged:
        return "a letter that nobody confirmed is not whole in the log"
    if outcome is None:
        return _retried(world, number)
    if outcome.outcome == "already_encrypted" and not world.encrypted:
        return "already_encrypted, it says, and the bucket is open"
    shown = ("PUT", "done") in delivery.answers or delivery.answers[-1:] == (("GET", "AES256"),)
    if outcome.outcome == "encrypted" and not shown:
        return "encrypted, it says, and the service did not"
    written = ("SEND", "kept") in delivery.answers and outcome.reason in world.reasons()
    if outcome.outcome == "dead_lettered" and not written:
        return f"dead_lettered, {outcome.reason}, it says, and there is no such letter"
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
