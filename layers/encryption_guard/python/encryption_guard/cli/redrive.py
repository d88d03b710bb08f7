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
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import partial
from hashlib import sha256
from threading import Lock
from typing import Literal

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.dead_letters.destinations import WORKERS, Destination, QueuedMessage, leased
from encryption_guard.dead_letters.document import encodings
from encryption_guard.dead_letters.messages import MessageSummary
from encryption_guard.dead_letters.redrivable import Obstacle, receiver_of
from encryption_guard.enforcement import DeadLettered, Detected, Outcome
from encryption_guard.errors import GuardError
from encryption_guard.events.envelopes import Event
from encryption_guard.settings import FunctionArn
from encryption_guard.untrusted import loads

State = Literal[
    "planned", "done", "done_not_removed", "failed", "left", "returned", "nothing_to_redrive"
]

# The limit of an asynchronous invocation:
# https://www.alibabacloud.com/help/en/functioncompute/fc/product-overview/limits
MAX_ASYNC_EVENT_BYTES = 128 * 1024
# The CloudEvents extension that counts the redrives of an event.
COUNT = "guardredrives"


@dataclass(frozen=True, slots=True)
class Selection:
    """The conditions that a message must meet; without conditions, it is any message."""

    reason: str | None = None
    bucket: str | None = None

    def matches(self, queued: QueuedMessage) -> bool:
        """Return whether the message meets every condition.

        A message about several buckets meets a condition on the bucket only if each of them does.
        """
        names = [arn.name for arn in queued.message.named.arns] or [""]
        glob = self.bucket
        is_in_buckets = glob is None or all(fnmatchcase(name, glob) for name in names)
        return is_in_buckets and self.reason in (None, queued.message.summary.reason)


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

    @classmethod
    def because(cls, obstacle: Obstacle) -> Skip:
        """Return the decision that follows from an obstacle."""
        return cls(obstacle.reason, "nothing_to_redrive" if obstacle.is_final else "left")


@dataclass(frozen=True, slots=True)
class Result:
    """The planned or final state of one message."""

    summary: MessageSummary
    key: str
    state: State
    detail: str


@dataclass(frozen=True, slots=True)
class Target:
    """The function to send events to: `named` by the operator, else the guard's own.

    `region` and `account_id` are those of the queue, or of the shell if the queue is a file.
    """

    named: FunctionArn | None
    region: str | None
    account_id: str | None

    def of(self, summary: MessageSummary) -> FunctionArn | Obstacle:
        """Return the function for a message, with its region and account."""
        scope = Scope(self.account_id, self.region) if self.region else None
        function = self.named or receiver_of(summary, scope)
        if isinstance(function, Obstacle):
            return function
        region, account_id = function.region or self.region, function.account_id or self.account_id
        if not region or not account_id:
            return Obstacle(f"{function} has no region or account: pass --function as an ARN")
        return function._replace(region=region, account_id=account_id)


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
        if isinstance(function, Obstacle):
            return Skip.because(function)
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

    Raises NotDone if an event was dead-lettered again or only detected, or if the outcomes are not
    about the buckets that the message names; raises Unavailable if `process` does.
    """
    outcomes = [process(event) for event in queued.message.events]
    result = ", ".join(f"{outcome.outcome} ({outcome.reason})" for outcome in outcomes)
    processed, named = {outcome.arn for outcome in outcomes}, queued.message.named.arns
    if processed != set(named):
        raise NotDone(
            f"{result}, but of {_names(processed)}, and the message is about {_names(named)}; the"
            " message stays in the queue"
        )
    if any(isinstance(outcome, (DeadLettered, Detected)) for outcome in outcomes):
        raise NotDone(f"{result}; the message stays in the queue")
    return result


def _names(arns: Iterable[TableBucketArn | None]) -> str:
    return " and ".join(sorted(str(arn or "no bucket") for arn in arns))


def execute(
    queue: Destination,
    select: Callable[[Iterator[QueuedMessage]], Iterable[QueuedMessage]],
    plan: Callable[[QueuedMessage], Action | Skip],
    *,
    apply: bool,
    report: Callable[[Result], None],
    stopping: Callable[[], bool] = lambda: False,
    workers: int = WORKERS,
) -> None:
    """Plan a step for each selected message, and with `apply` execute up to `workers` at a time.

    `select` gets all messages of the queue, and may read them all before it yields one. Each result
    is reported at once. After `stopping` returns True, no further action starts.
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
        for queued in select(messages):
            if stopping():
                break
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
