"""Dead letters on their way again, or out: each is decided about first, then acted on.

leased letter ─▶ not selected │ left, with the reason │ an act: sent, processed here, discarded
                      ▼                    ▼              │              │
                   released ◀── released ◀─┴── not done ◀─┤   several    │
                                     removed ◀── done ◀───┴── at a time ─┘

A letter is removed only after its act has succeeded. Whoever is killed in between leaves it in the
queue, to be acted on again: every act here may be repeated.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Literal

from encryption_guard.dead_letters.destinations import WORKERS, Destination, QueuedMessage, leased
from encryption_guard.dead_letters.document import encodings
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.enforcement import DeadLettered, Detected, Outcome
from encryption_guard.errors import GuardError
from encryption_guard.events.envelopes import Event
from encryption_guard.settings import FunctionArn
from encryption_guard.untrusted import loads, quoted

State = Literal["planned", "done", "done_not_removed", "failed", "left", "returned"]

# What an asynchronous invocation takes:
# https://www.alibabacloud.com/help/en/functioncompute/fc/product-overview/limits
MAX_ASYNC_EVENT_BYTES = 128 * 1024
# The CloudEvents extension in which a redrive counts itself.
COUNT = "guardredrives"
# As many as the table of letters shows.
MIN_ID_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters a command is about: all, or those that meet every condition given."""

    ids: tuple[str, ...] = ()
    reason: str | None = None
    bucket: str | None = None

    def matches(self, waiting: QueuedMessage) -> bool:
        """Whether the letter is one of them."""
        letter = waiting.message.summary
        named = not self.ids or any(names(word, waiting) for word in self.ids)
        in_bucket = self.bucket is None or fnmatchcase(letter.bucket or "", self.bucket)
        return named and in_bucket and self.reason in (None, letter.reason)


def names(word: str, waiting: QueuedMessage) -> bool:
    """Whether an operator means this letter: by its ID or the start of it, its event or message."""
    letter = waiting.message.summary
    started = len(word) >= MIN_ID_PREFIX and letter.id.startswith(word)
    return started or word in (letter.id, letter.event_id, waiting.key)


@dataclass(frozen=True, slots=True)
class Action:
    """What would be done with a letter, in words, and what does it.

    `run` returns a sentence when it is done, and raises a GuardError when it is not.
    """

    told: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Skip:
    """Do nothing; `told` says why."""

    told: str
    state: State = "left"


@dataclass(frozen=True, slots=True)
class Result:
    """What became, or would become, of one letter."""

    letter: MessageSummary
    key: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where events go: `named` by the operator, else the function that the letter names.

    Whoever may write to the queue could name any function there: the operator's rights are lent to
    none outside `region` and `account_id`, the queue's own.
    """

    named: FunctionArn | None
    region: str | None
    account_id: str | None

    def of(self, letter: MessageSummary) -> FunctionArn | Skip:
        """The function for this letter, completed by region and account."""
        function = self.named
        if not function:
            try:
                function = FunctionArn.parse(letter.function or "")
            except ValueError:
                return Skip("it does not tell its function: name it with --function")
            place = (function.region or self.region, function.account_id or self.account_id)
            if place != (self.region, self.account_id):
                home = f"{self.region or 'an unknown region'} of {self.account_id or 'nobody'}"
                return Skip(
                    f"it names {quoted(str(function))}, which is not in {home}: if it is right,"
                    " name it with --function"
                )
        region, account_id = function.region or self.region, function.account_id or self.account_id
        if not region or not account_id:
            return Skip(f"{function} has no region or account: give --function as an ARN")
        return function._replace(region=region, account_id=account_id)


def why_not(waiting: QueuedMessage, *, max_redrives: int) -> Skip | None:
    """What speaks against processing this letter's events again, if anything does."""
    letter = waiting.message.summary
    if letter.is_sweep:
        return Skip("it is a sweep's, and the next sweep does its work again: discard it")
    if not waiting.message.events:
        return Skip(f"there is no event in it: {letter.detail}")
    if letter.redrives >= max_redrives:
        return Skip(
            f"it was redriven {letter.redrives} times already: mend the cause, then raise"
            " --max-redrives"
        )
    return None


@dataclass(frozen=True, slots=True)
class Sender:
    """Plans to hand the events of letters to a function, which `invoke` does."""

    target: Target
    invoke: Callable[[FunctionArn, bytes], str]
    # How often each event will have been redriven when this command has sent it.
    sent: dict[str, int] = field(default_factory=dict)

    def plan(self, waiting: QueuedMessage) -> Action | Skip:
        """Which function gets what."""
        letter = waiting.message.summary
        function = self.target.of(letter)
        if isinstance(function, Skip):
            return function
        payload = redriven(waiting.message.events, letter.redrives + 1)
        if payload is None:
            return Skip("its event is larger than an asynchronous invocation may be: use --local")
        # What fails at once is back in the queue before the last letter is sent.
        events = [fingerprint(event) for event in waiting.message.events]
        if any(letter.redrives >= self.sent.get(event, letter.redrives + 1) for event in events):
            return Skip(f"it failed again: {letter.detail}", state="returned")
        self.sent.update(dict.fromkeys(events, letter.redrives + 1))
        return Action(f"would be sent to {function}", partial(self._send, function, payload))

    def _send(self, function: FunctionArn, payload: bytes) -> str:
        request_id = self.invoke(function, payload)
        return f"accepted by {function.name}, request {request_id}"


class NotDone(GuardError):
    """The event was processed, and its bucket is not encrypted."""

    fault = "service"


def process_here(waiting: QueuedMessage, *, process: Callable[[Event], Outcome]) -> str:
    """Process the letter's events on the spot; returns what became of them.

    Raises NotDone where an event would be a dead letter again, or was only looked at, and
    Unavailable as `process` does.
    """
    outcomes = [process(event) for event in waiting.message.events]
    told = ", ".join(f"{outcome.outcome} ({outcome.reason})" for outcome in outcomes)
    if any(isinstance(outcome, (DeadLettered, Detected)) for outcome in outcomes):
        raise NotDone(f"{told}; the letter stays")
    return told


def execute(
    queue: Destination,
    covers: Callable[[QueuedMessage], bool],
    plan: Callable[[QueuedMessage], Action | Skip],
    *,
    apply: bool,
    report: Callable[[Result], None],
    stopping: Callable[[], bool] = lambda: False,
    workers: int = WORKERS,
) -> None:
    """Act on every letter that the command `covers`, several at a time; report each at once.

    Without `apply` the plan alone is reported. Once it is `stopping`, nothing else is begun.
    """
    under_way: set[Future[None]] = set()
    reporting = Lock()

    def tell(waiting: QueuedMessage, state: State, detail: str) -> None:
        with reporting:
            report(Result(waiting.message.summary, waiting.key, state, detail))

    def run(waiting: QueuedMessage, act: Action) -> None:
        # It may have waited for its turn.
        if not stopping():
            tell(waiting, *_acted(queue, waiting.key, act))

    with leased(queue) as letters, _pool(workers) as pool:
        for waiting in letters:
            if stopping():
                break
            if not covers(waiting):
                continue
            step = plan(waiting)
            if not apply or isinstance(step, Skip):
                tell(waiting, *_planned(step))
                continue
            under_way.add(pool.submit(run, waiting, step))
            if len(under_way) >= 2 * workers:
                under_way = _unfinished(under_way, until=FIRST_COMPLETED)
        _unfinished(under_way, until=FIRST_EXCEPTION)


def _planned(step: Action | Skip) -> tuple[State, str]:
    return (step.state if isinstance(step, Skip) else "planned"), step.told


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Threads; what they have not begun when something is raised, they do not begin."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _acted(queue: Destination, key: str, act: Action) -> tuple[State, str]:
    try:
        if not queue.keep(key):
            return "left", "it cannot be held: another command may have it"
        done = act.run()
    except GuardError as error:
        return "failed", str(error)
    try:
        if queue.remove(key):
            return "done", done
        why = "it was no longer held"
    except GuardError as error:
        why = str(error)
    return "done_not_removed", f"{done}, but it may still be in the queue: {why}"


def _unfinished(futures: set[Future[None]], *, until: str) -> set[Future[None]]:
    """Wait, and raise what one of them ran into; returns those that are not done."""
    done, under_way = wait(futures, return_when=until)
    for future in done:
        future.result()
    return under_way


# What is sent when an event goes its way again.


def counted(event: bytes, redrives: int) -> bytes | None:
    """The event with the CloudEvents extension `guardredrives`, otherwise byte for byte.

    None if it cannot have one: it is no JSON object, or spells that name in a casing of its own.
    """
    try:
        parsed = loads(event)
    except ValueError:
        return None
    if not isinstance(parsed, dict) or any(key.lower() == COUNT != key for key in parsed):
        return None
    members = _without_count(event.strip()[:-1]).rstrip()
    comma = b"" if members == b"{" else b","
    return members + comma + b'"guardredrives":%d}' % redrives


def _without_count(members: bytes) -> bytes:
    """An object up to its closing brace, without the count that an earlier redrive put last."""
    before, name, value = members.rpartition(f'"{COUNT}"'.encode())
    try:
        # Alone it is an object only if it is the last member: within another one braces are left.
        last = json.loads(b"{" + name + value + b"}")
    except ValueError:
        return members
    before = before.rstrip()
    # Behind anything else the quote ends a text, or stands in one.
    is_alone = before.endswith((b"{", b",")) and last.keys() == {COUNT}
    if is_alone and type(last[COUNT]) is int:
        return before.removesuffix(b",")
    return members


def fingerprint(event: Event) -> str:
    """The same for an event however often it was sent again."""
    return sha256(counted(event.raw, 0) or event.raw).hexdigest()


def redriven(events: Sequence[Event], redrives: int) -> bytes | None:
    """What is sent to the function: the events, counted; None if it is too large in any form.

    An event that cannot be counted, or that is too large as it stands, goes as a dead letter, which
    the function opens.
    """
    if len(events) == 1:
        event = events[0].raw
        plain = counted(event, redrives)
    else:
        event = b"[" + b",".join(_item(event.raw, redrives) for event in events) + b"]"
        plain = event
    if plain and len(plain) <= MAX_ASYNC_EVENT_BYTES:
        return plain
    forms = _wrapped(event, redrives)
    return next((form for form in forms if len(form) <= MAX_ASYNC_EVENT_BYTES), None)


def _item(event: bytes, redrives: int) -> bytes:
    # What is no object might end the array, or make it none.
    return counted(event, redrives) or next(_wrapped(event, redrives))


def _wrapped(event: bytes, redrives: int) -> Iterator[bytes]:
    """The event as a dead letter that holds no more than the function needs."""
    for encoding, text in encodings(event):
        letter = {"version": 1, "event": text, "event_encoding": encoding, "redrives": redrives}
        yield json.dumps(letter).encode()
