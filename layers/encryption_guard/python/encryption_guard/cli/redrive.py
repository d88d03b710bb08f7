"""Redrive or discard messages: first plan a step for each message, then execute it.

leased message ─▶ not selected │ Skip, with the reason │ Action: send, process locally or discard
                       ▼       │         ▼             │    │
                   released    │     released          │    ├─▶ failed ─▶ released
                                                       │    └─▶ done ───▶ removed

Several actions run at a time. A message is removed only after its action has succeeded. If the
process is killed in between, the message stays in the queue and the next redrive repeats the
action, which is safe.
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

# The limit of an asynchronous invocation:
# https://www.alibabacloud.com/help/en/functioncompute/fc/product-overview/limits
MAX_ASYNC_EVENT_BYTES = 128 * 1024
# The CloudEvents extension that counts the redrives of an event.
COUNT = "guardredrives"
# The table of messages shows this many characters.
MIN_ID_PREFIX = 8


@dataclass(frozen=True, slots=True)
class Selection:
    """The messages that meet every given condition; without conditions, all messages."""

    ids: tuple[str, ...] = ()
    reason: str | None = None
    bucket: str | None = None

    def matches(self, queued: QueuedMessage) -> bool:
        """Return whether the message meets every condition."""
        summary = queued.message.summary
        is_named = not self.ids or any(is_named_by(queued, word) for word in self.ids)
        is_in_bucket = self.bucket is None or fnmatchcase(summary.bucket or "", self.bucket)
        return is_named and is_in_bucket and self.reason in (None, summary.reason)


def is_named_by(queued: QueuedMessage, word: str) -> bool:
    """Return whether the word is an ID of the message or the ID of its event.

    The ID that `list` shows may be shortened to 8 characters or more; the event ID and the ID in
    the queue must be complete.
    """
    summary = queued.message.summary
    is_prefix = len(word) >= MIN_ID_PREFIX and summary.id.startswith(word)
    return is_prefix or word in (summary.id, summary.event_id, queued.key)


@dataclass(frozen=True, slots=True)
class Action:
    """A step to execute for one message, and its description in a plan.

    `run` returns a sentence about the result, and raises GuardError if the step fails.
    """

    description: str
    run: Callable[[], str]


@dataclass(frozen=True, slots=True)
class Skip:
    """A decision to leave a message in the queue, with the reason."""

    reason: str
    state: State = "left"


@dataclass(frozen=True, slots=True)
class Result:
    """The planned or final state of one message."""

    summary: MessageSummary
    key: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Target:
    """The function to send events to: `named` by the operator, else named by the message.

    Anyone who can write to the queue could name a function of another account. A function that the
    message names must therefore be in `region` and `account_id`, which are the queue's.
    """

    named: FunctionArn | None
    region: str | None
    account_id: str | None

    def of(self, summary: MessageSummary) -> FunctionArn | Skip:
        """Return the function for a message, with its region and account."""
        function = self.named
        if not function:
            try:
                function = FunctionArn.parse(summary.function or "")
            except ValueError:
                return Skip("the message names no valid function: pass --function")
            place = (function.region or self.region, function.account_id or self.account_id)
            if place != (self.region, self.account_id):
                return Skip(
                    f"the message names {quoted(str(function))}, which is not in region"
                    f" {self.region or 'unknown'} of account {self.account_id or 'unknown'}: if it"
                    " is correct, pass it with --function"
                )
        region, account_id = function.region or self.region, function.account_id or self.account_id
        if not region or not account_id:
            return Skip(f"{function} has no region or account: pass --function as an ARN")
        return function._replace(region=region, account_id=account_id)


def reason_to_skip(queued: QueuedMessage, *, max_redrives: int) -> Skip | None:
    """Return a Skip if the events of a message must not be processed again, otherwise None."""
    summary = queued.message.summary
    if summary.is_sweep:
        return Skip("a sweep failed, and the next sweep repeats its work: discard the message")
    if not queued.message.events:
        return Skip(f"the message contains no event: {summary.detail}")
    if summary.redrives >= max_redrives:
        return Skip(
            f"the redrive count ({summary.redrives}) has reached the limit ({max_redrives}): fix"
            " the cause, then raise --max-redrives"
        )
    return None


@dataclass(frozen=True, slots=True)
class Sender:
    """A planner of actions that send the events of messages to a function with `invoke`."""

    target: Target
    invoke: Callable[[FunctionArn, bytes], str]
    # The redrive count of each event, by fingerprint, after this command has sent it.
    sent: dict[str, int] = field(default_factory=dict)

    def plan(self, queued: QueuedMessage) -> Action | Skip:
        """Plan which function receives the events of a message."""
        summary = queued.message.summary
        function = self.target.of(summary)
        if isinstance(function, Skip):
            return function
        payload = redriven(queued.message.events, summary.redrives + 1)
        if payload is None:
            return Skip(
                f"the event is larger than {MAX_ASYNC_EVENT_BYTES // 1024} KiB, the limit of an"
                " asynchronous invocation: use --local"
            )
        # An event that fails at once is back in the queue while this command still reads it.
        events = [fingerprint(event) for event in queued.message.events]
        if any(summary.redrives >= self.sent.get(event, summary.redrives + 1) for event in events):
            return Skip(f"the event failed again: {summary.detail}", state="returned")
        self.sent.update(dict.fromkeys(events, summary.redrives + 1))
        return Action(f"would be sent to {function}", partial(self._send, function, payload))

    def _send(self, function: FunctionArn, payload: bytes) -> str:
        request_id = self.invoke(function, payload)
        return f"accepted by {function.name}, request {request_id}"


class NotDone(GuardError):
    """An event was processed, but its bucket is still not encrypted."""

    fault = "service"


def process_locally(queued: QueuedMessage, *, process: Callable[[Event], Outcome]) -> str:
    """Process the events of a message in this process and return their outcomes.

    Raises NotDone if an event was dead-lettered again or only detected, and Unavailable if
    `process` does.
    """
    outcomes = [process(event) for event in queued.message.events]
    result = ", ".join(f"{outcome.outcome} ({outcome.reason})" for outcome in outcomes)
    if any(isinstance(outcome, (DeadLettered, Detected)) for outcome in outcomes):
        raise NotDone(f"{result}; the message stays in the queue")
    return result


def execute(
    queue: Destination,
    is_selected: Callable[[QueuedMessage], bool],
    plan: Callable[[QueuedMessage], Action | Skip],
    *,
    apply: bool,
    report: Callable[[Result], None],
    stopping: Callable[[], bool] = lambda: False,
    workers: int = WORKERS,
) -> None:
    """Plan a step for each selected message, and with `apply` execute up to `workers` at a time.

    Each result is reported at once. After `stopping` returns True, no further action starts.
    """
    running: set[Future[None]] = set()
    reporting = Lock()

    def report_result(queued: QueuedMessage, state: State, detail: str) -> None:
        with reporting:
            report(Result(queued.message.summary, queued.key, state, detail))

    def run(queued: QueuedMessage, action: Action) -> None:
        # A stop may be requested while the action waits for a free thread.
        if not stopping():
            report_result(queued, *_run_and_remove(queue, queued.key, action))

    with leased(queue) as messages, _pool(workers) as pool:
        for queued in messages:
            if stopping():
                break
            if not is_selected(queued):
                continue
            step = plan(queued)
            if not apply or isinstance(step, Skip):
                report_result(queued, *_planned(step))
                continue
            running.add(pool.submit(run, queued, step))
            if len(running) >= 2 * workers:
                running = _wait(running, until=FIRST_COMPLETED)
        _wait(running, until=FIRST_EXCEPTION)


def _planned(step: Action | Skip) -> tuple[State, str]:
    if isinstance(step, Skip):
        return step.state, step.reason
    return "planned", step.description


@contextmanager
def _pool(workers: int) -> Iterator[ThreadPoolExecutor]:
    """Open a thread pool that cancels the tasks still waiting at the end of the block."""
    with ThreadPoolExecutor(workers) as pool:
        try:
            yield pool
        finally:
            pool.shutdown(cancel_futures=True)


def _run_and_remove(queue: Destination, key: str, action: Action) -> tuple[State, str]:
    try:
        if not queue.keep(key):
            return "left", "the lease could not be renewed: another command may hold the message"
        done = action.run()
    except GuardError as error:
        return "failed", str(error)
    try:
        if queue.remove(key):
            return "done", done
        cause = "the lease was lost"
    except GuardError as error:
        cause = str(error)
    return "done_not_removed", f"{done}, but the message may still be in the queue: {cause}"


def _wait(futures: set[Future[None]], *, until: str) -> set[Future[None]]:
    """Wait, raise the exception of a finished task, and return the unfinished tasks."""
    done, unfinished = wait(futures, return_when=until)
    for future in done:
        future.result()
    return unfinished


# The payload of a redrive.


def counted(event: bytes, redrives: int) -> bytes | None:
    """Return the event with the CloudEvents extension `guardredrives`, otherwise unchanged.

    Returns None if the event is not a JSON object, or has that key in another casing.

    >>> counted(b'{"id": "7"}', 2)
    b'{"id": "7","guardredrives":2}'
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
    """Remove the count that an earlier redrive appended to the members of an object."""
    before, name, value = members.rpartition(f'"{COUNT}"'.encode())
    try:
        # The text parses only if the count is the last member of the outermost object: inside a
        # nested object, a closing brace would be left over.
        last = json.loads(b"{" + name + value + b"}")
    except ValueError:
        return members
    before = before.rstrip()
    # After any other character, the quotation mark belongs to a string value.
    is_member = before.endswith((b"{", b",")) and last.keys() == {COUNT}
    if is_member and type(last[COUNT]) is int:
        return before.removesuffix(b",")
    return members


def fingerprint(event: Event) -> str:
    """Return a hash of the event that does not depend on its redrive count."""
    return sha256(counted(event.raw, 0) or event.raw).hexdigest()


def redriven(events: Sequence[Event], redrives: int) -> bytes | None:
    """Return the payload for the function: the events with their redrive count.

    An event that cannot carry the count, or that is too large, is wrapped in a dead letter, which
    the function opens. Returns None if the payload exceeds 128 KiB in every encoding.
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
    # Text that is not a JSON object could break the array, so wrap it.
    return counted(event, redrives) or next(_wrapped(event, redrives))


def _wrapped(event: bytes, redrives: int) -> Iterator[bytes]:
    """Yield the event in a minimal dead letter, once for each encoding."""
    for encoding, text in encodings(event):
        wrapper = {"version": 1, "event": text, "event_encoding": encoding, "redrives": redrives}
        yield json.dumps(wrapper).encode()
