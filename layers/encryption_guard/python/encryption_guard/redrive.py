"""Dead letters on their way again, or out: each is decided about first, then acted on.

leased letter ─▶ not selected │ left, with the reason │ an act: sent, processed here, discarded
                      ▼                    ▼              │              │
                   released ◀── released ◀─┴── not done ◀─┤   several    │
                                     removed ◀── done ◀───┴── at a time ─┘

A letter is removed only after its act has succeeded. Whoever is killed in between leaves it in the
queue, to be acted on again: every act here may be repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ALL_COMPLETED, FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from fnmatch import fnmatchcase
from threading import Lock
from typing import ClassVar, Literal, TypeVar

from encryption_guard.config import Function
from encryption_guard.enforcement import DeadLettered, Detected, Outcome
from encryption_guard.errors import GuardError, quoted
from encryption_guard.letter_queues import WORKERS, LetterQueue, Waiting, leased
from encryption_guard.letters import Letter, fingerprint, redriven
from encryption_guard.payloads import Delivery

State = Literal["planned", "done", "done_not_removed", "failed", "left", "returned"]

# As many as the table of letters shows.
SHORTEST_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters a command is about: all, or those that meet every condition given."""

    ids: tuple[str, ...] = ()
    reason: str | None = None
    bucket: str | None = None

    def covers(self, waiting: Waiting) -> bool:
        """Whether the letter is one of them."""
        named = not self.ids or any(names(word, waiting) for word in self.ids)
        return named and self.admits(waiting.opened.letter)

    def admits(self, letter: Letter) -> bool:
        """Whether a letter meets the conditions, whatever its ID."""
        in_bucket = self.bucket is None or fnmatchcase(letter.bucket or "", self.bucket)
        return in_bucket and self.reason in (None, letter.reason)


def names(word: str, waiting: Waiting) -> bool:
    """Whether an operator means this letter: by its ID or the start of it, its event or message."""
    letter = waiting.opened.letter
    started = len(word) >= SHORTEST_PREFIX and letter.id.startswith(word)
    return started or word in (letter.id, letter.event_id, waiting.key)


@dataclass(frozen=True, slots=True)
class Send:
    """Hand the events to the function: `payload` is what it gets."""

    function: Function
    payload: bytes

    @property
    def told(self) -> str:
        """What would be done, in words."""
        return f"would be sent to {self.function}"


@dataclass(frozen=True, slots=True)
class Process:
    """Process the events on the spot."""

    told: ClassVar[str] = "would be processed here"


@dataclass(frozen=True, slots=True)
class Discard:
    """Give the events up."""

    told: ClassVar[str] = "would be discarded"


@dataclass(frozen=True, slots=True)
class Leave:
    """Do nothing; `told` says why."""

    told: str


Act = TypeVar("Act", Send, Process, Discard)


@dataclass(frozen=True, slots=True)
class Result:
    """What became, or would become, of one letter."""

    letter: Letter
    key: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Target:
    """Where events go: `named` by the operator, else the function that the letter names.

    Whoever may write to the queue could name any function there: the operator's rights are lent to
    none outside `region` and `account_id`, the queue's own.
    """

    named: Function | None
    region: str | None
    account_id: str | None

    def of(self, letter: Letter) -> Function | Leave:
        """The function for this letter, completed by region and account."""
        function = self.named
        if not function:
            try:
                function = Function.parse(letter.function or "")
            except ValueError:
                return Leave("it does not tell its function: name it with --function")
            place = (function.region or self.region, function.account_id or self.account_id)
            if place != (self.region, self.account_id):
                home = f"{self.region or 'an unknown region'} of {self.account_id or 'nobody'}"
                return Leave(
                    f"it names {quoted(str(function))}, which is not in {home}: if it is right,"
                    " name it with --function"
                )
        region, account_id = function.region or self.region, function.account_id or self.account_id
        if not region or not account_id:
            return Leave(f"{function} has no region or account: give --function as an ARN")
        return function._replace(region=region, account_id=account_id)


def why_not(waiting: Waiting, *, max_redrives: int) -> Leave | None:
    """What speaks against processing this letter's events again, if anything does."""
    letter = waiting.opened.letter
    if letter.is_sweep:
        return Leave("it is a sweep's, and the next sweep does its work again: discard it")
    if not waiting.opened.deliveries:
        return Leave(f"there is no event in it: {letter.detail}")
    if letter.redrives >= max_redrives:
        return Leave(
            f"it was redriven {letter.redrives} times already: mend the cause, then raise"
            " --max-redrives"
        )
    return None


def plan_sending(waiting: Waiting, *, target: Target) -> Send | Leave:
    """Which function gets what."""
    letter = waiting.opened.letter
    function = target.of(letter)
    if isinstance(function, Leave):
        return function
    payload = redriven(waiting.opened.deliveries, letter.redrives + 1)
    if payload is None:
        return Leave("its event is larger than an asynchronous invocation may be: use --local")
    return Send(function, payload)


class NotDone(GuardError):
    """The event was processed, and its bucket is not encrypted."""

    fault = "service"


def process_here(waiting: Waiting, *, process: Callable[[Delivery], Outcome]) -> str:
    """Process the letter's events on the spot; returns what became of them.

    Raises NotDone where an event would be a dead letter again, or was only looked at, and
    Unavailable as `process` does.
    """
    outcomes = [process(delivery) for delivery in waiting.opened.deliveries]
    told = ", ".join(f"{outcome.outcome} ({outcome.reason})" for outcome in outcomes)
    if any(isinstance(outcome, (DeadLettered, Detected)) for outcome in outcomes):
        raise NotDone(f"{told}; the letter stays")
    return told


def preview(
    queue: LetterQueue,
    covers: Callable[[Waiting], bool],
    plan: Callable[[Waiting], Act | Leave],
    *,
    report: Callable[[Result], None],
    stopping: Callable[[], bool] = lambda: False,
) -> None:
    """Report what would be done with each letter that the command `covers`, and do nothing."""
    with leased(queue) as letters:
        for waiting in letters:
            if stopping():
                return
            if covers(waiting):
                step = plan(waiting)
                state: State = "left" if isinstance(step, Leave) else "planned"
                report(Result(waiting.opened.letter, waiting.key, state, step.told))


def go(
    queue: LetterQueue,
    covers: Callable[[Waiting], bool],
    plan: Callable[[Waiting], Act | Leave],
    act: Callable[[Waiting, Act], str],
    *,
    report: Callable[[Result], None],
    stopping: Callable[[], bool] = lambda: False,
    workers: int = WORKERS,
) -> None:
    """Act on every letter that the command `covers`, on several at a time; report each at once.

    `act` returns a sentence when it is done, and raises a GuardError when it is not. `stopping` is
    asked before each letter: what is under way then comes to its end, and nothing else is begun.
    """
    sent: dict[str, int] = {}
    under_way: set[Future[None]] = set()
    reporting = Lock()

    def carry_out(waiting: Waiting, step: Act) -> None:
        # It may have waited for its turn.
        if not stopping():
            result = _acted(queue, waiting, step, act)
            with reporting:
                report(result)

    with leased(queue) as letters, ThreadPoolExecutor(workers) as pool:
        try:
            for waiting in letters:
                if stopping():
                    break
                if covers(waiting):
                    step = _left_or_returned(waiting, plan(waiting), sent)
                    if isinstance(step, Result):
                        with reporting:
                            report(step)
                    else:
                        under_way.add(pool.submit(carry_out, waiting, step))
                if len(under_way) >= 2 * workers:
                    under_way = _unfinished(under_way, until=FIRST_COMPLETED)
            if not stopping():
                under_way = _unfinished(under_way, until=ALL_COMPLETED)
        finally:
            begun = {future for future in under_way if not future.cancel()}
            _unfinished(begun, until=ALL_COMPLETED)


def _left_or_returned(waiting: Waiting, step: Act | Leave, sent: dict[str, int]) -> Act | Result:
    """The result of a letter that is not to be acted on, else the act, which `sent` then knows."""
    letter, key = waiting.opened.letter, waiting.key
    if isinstance(step, Leave):
        return Result(letter, key, "left", step.told)
    if isinstance(step, Send):
        # What fails at once is back in the queue before the last letter is sent.
        events = [fingerprint(delivery) for delivery in waiting.opened.deliveries]
        if any(letter.redrives >= sent.get(event, letter.redrives + 1) for event in events):
            return Result(letter, key, "returned", f"it failed again: {letter.detail}")
        sent.update(dict.fromkeys(events, letter.redrives + 1))
    return step


def _acted(
    queue: LetterQueue, waiting: Waiting, step: Act, act: Callable[[Waiting, Act], str]
) -> Result:
    letter, key = waiting.opened.letter, waiting.key
    try:
        if not queue.keep(key):
            return Result(letter, key, "left", "it cannot be held: another command may have it")
        done = act(waiting, step)
    except GuardError as error:
        return Result(letter, key, "failed", str(error))
    try:
        if queue.remove(key):
            return Result(letter, key, "done", done)
        why = "it was no longer held"
    except GuardError as error:
        why = str(error)
    return Result(
        letter, key, "done_not_removed", f"{done}, but it may still be in the queue: {why}"
    )


def _unfinished(futures: set[Future[None]], *, until: str) -> set[Future[None]]:
    """Wait, and raise what one of them ran into; returns those that are not done."""
    done, under_way = wait(futures, return_when=until)
    for future in done:
        future.result()
    return under_way
