"""Several buckets, one step after the other, in whatever order Hypothesis thinks of.

The guard is the real one; the services, the queue and the platform are a few lines each. What
`tests/chaos/` shows with real processes and real connections holds here step by step, and whatever
breaks it is shrunk to the fewest steps.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, ClassVar, Literal, get_args

import httpx
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from encryption_guard.arn import TableBucketArn
from encryption_guard.cli.redrive import fingerprint, redriven
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.dead_letters.document import DeadLetter
from encryption_guard.dead_letters.messages import open_message
from encryption_guard.enforcement import Outcome, Processed, process_payload
from encryption_guard.errors import Unavailable
from encryption_guard.events.envelopes import open_payload
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from tests.unit.fakes import dead_letter_of

OWN, FOREIGN = "1234567890123456", "9999999999999999"
TRIES = 4
LONGEST_ARRAY = 3
# Of each event: two reads; four attempts, three more after a 404, one for the clock and one for new
# credentials.
MOST_REQUESTS = LONGEST_ARRAY * (2 + 4 + 3 + 1 + 1)
DRIFT = "DeleteTableBucketEncryption"
Kind = Literal["plain", "exempt", "foreign", "kms"]
Wrapping = Literal["none", "array", "record", "letter"]
Trouble = Literal["none", "503", "403", "404", "409", "307", "reset", "lost"]
KINDS: st.SearchStrategy[Kind] = st.sampled_from(("plain", "plain", "kms", "exempt", "foreign"))
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
Process = Callable[..., Processed]
QueueTrouble = Literal["none", "refuses", "lost"]
SETTINGS = Settings.from_environment(
    {
        "FC_ACCOUNT_ID": OWN,
        "FC_REGION": "cn-hangzhou",
        "GUARD_EXEMPTIONS": '[{"bucket": "exempt-*", "reason": "samples"}]',
    }
)
CLOCK = Clock(
    now=lambda: datetime(2026, 1, 2, tzinfo=timezone.utc),
    monotonic=lambda: 0.0,
    sleep=lambda _seconds: None,
    chance=lambda: 0.0,
)


class Killed(BaseException):
    """The process is gone; nothing of it runs any more."""


@dataclass
class Cloud(httpx.BaseTransport):
    """The truth about buckets and queue, and what is wrong with the services just now.

    `put` are the buckets that the guard encrypted, `overwritten` those whose KMS it had seen;
    `lives` is how many steps the process has left, where it is to be killed, `requests` how many it
    made.
    """

    encryption: dict[str, str | None] = field(default_factory=dict)
    queue: list[bytes] = field(default_factory=list)
    put: set[str] = field(default_factory=set)
    overwritten: set[str] = field(default_factory=set)
    oss: Trouble = "none"
    queue_trouble: QueueTrouble = "none"
    lives: int | None = None
    requests: int = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        assert self.requests <= MOST_REQUESTS
        arn = request.url.path.removeprefix("/buckets/").removesuffix("/encryption")
        self._live()
        body = self._carry_out(request.method, arn) if self.oss in ("none", "lost") else b""
        self._live()
        if self.oss in ("reset", "lost"):
            raise httpx.ReadError("reset")
        status = 200 if self.oss == "none" else int(self.oss)
        return httpx.Response(status, stream=httpx.ByteStream(body))

    def _carry_out(self, method: str, arn: str) -> bytes:
        if method == "GET":
            found = self.encryption[arn]
            told = {"sseAlgorithm": found} if found else {}
            return json.dumps({"encryptionConfiguration": told}).encode()
        # No trouble changes during a try: the GET before this was answered as clearly.
        if self.encryption[arn] == "KMS" and self.oss == "none":
            self.overwritten.add(arn)
        self.put.add(arn)
        self.encryption[arn] = "AES256"
        return b""

    def send(self, letter: DeadLetter) -> None:
        self._live()
        if self.queue_trouble != "refuses":
            self.keep(letter.body())
        self._live()
        if self.queue_trouble != "none":
            raise httpx.ReadError("reset")

    def _live(self) -> None:
        """A step before and a step after each effect; the last one is the process's end."""
        if self.lives is None:
            return
        self.lives -= 1
        if self.lives < 0:
            self.lives = None
            raise Killed

    def keep(self, message: bytes) -> None:
        # Copies are left out: each redrive would multiply them.
        if message not in self.queue:
            self.queue.append(message)

    def keeps_one_of(self, events: list[bytes]) -> bool:
        """Whether one of these waits in the queue, whole, in whatever wrapping."""
        kept = frozenset[str]().union(*map(_events_in, self.queue))
        return any(kept & _events_in(event) for event in events)


class Storm(RuleBasedStateMachine):
    """Buckets are created and delivered while services, queue and processes fail and recover.

    `due` are the buckets that were delivered since they were last open: the guard answers for them.
    """

    process: ClassVar[Process] = staticmethod(process_payload)
    buckets = Bundle[str]("buckets")

    def __init__(self) -> None:
        super().__init__()
        self.cloud = Cloud()
        self.events: dict[str, list[bytes]] = {}
        self.due: set[str] = set()
        self.told: dict[str, set[str]] = {}

    # Some to begin with: without one there is nothing to do.
    @initialize(target=buckets, kinds=st.lists(KINDS, min_size=3, max_size=5))
    def begin(self, kinds: list[Kind]) -> MultipleResults[str]:
        return multiple(*map(self._create, kinds))

    @rule(target=buckets, kind=KINDS)
    def create(self, kind: Kind) -> str:
        return self._create(kind)

    @rule(arn=buckets)
    def take_the_encryption_off(self, arn: str) -> None:
        if self.cloud.encryption[arn]:
            self.cloud.encryption[arn] = None
            self.due.discard(arn)
        self.events[arn].append(_event(DRIFT, arn))

    @rule(arn=buckets)
    def choose_kms(self, arn: str) -> None:
        self.cloud.encryption[arn] = "KMS"

    @rule(
        data=st.data(),
        arns=st.lists(buckets, min_size=1, max_size=LONGEST_ARRAY),
        wrapping=st.sampled_from(["none", "array", "record", "letter"]),
    )
    def deliver(self, data: st.DataObject, arns: list[str], wrapping: Wrapping) -> None:
        arns = arns if wrapping == "array" else arns[:1]
        events = [data.draw(st.sampled_from(self.events[arn])) for arn in arns]
        self.due.update(arns)
        self._invoke(_wrapped(events, wrapping))

    @rule(trouble=st.sampled_from(("none", "none", *TROUBLES)))
    def trouble_the_service(self, trouble: Trouble) -> None:
        self.cloud.oss = trouble

    @rule(trouble=st.sampled_from(["none", "none", "refuses", "lost"]))
    def trouble_the_queue(self, trouble: QueueTrouble) -> None:
        self.cloud.queue_trouble = trouble

    @rule(steps=st.integers(0, 12))
    def kill_soon(self, steps: int) -> None:
        self.cloud.lives = steps

    @rule()
    def redrive(self) -> None:
        for message in list(self.cloud.queue):
            opened = open_message(message)
            payload = redriven(opened.events, opened.summary.redrives + 1)
            assert payload
            # Once the platform has accepted the event, it is the platform's to keep.
            self.cloud.queue.remove(message)
            self._invoke(payload)

    @invariant()
    def nothing_is_touched_that_is_not_to_be(self) -> None:
        assert not self.cloud.overwritten
        assert all(_kind(arn) in ("plain", "kms") for arn in self.cloud.put)

    @invariant()
    def nothing_is_lost(self) -> None:
        for arn in self.due:
            skipped = _kind(arn) == "exempt" and "skipped" in self.told.get(arn, set())
            assert self.cloud.encryption[arn] or self._is_kept(arn) or skipped

    def teardown(self) -> None:
        """When all is well again, what was kept ends as the policy wishes."""
        self.cloud = replace(self.cloud, oss="none", queue_trouble="none", lives=None)
        self.redrive()
        self.nothing_is_touched_that_is_not_to_be()
        self.nothing_is_lost()
        assert all(self.cloud.encryption[arn] for arn in self.due if _kind(arn) in ("plain", "kms"))

    def _create(self, kind: Kind) -> str:
        account = FOREIGN if kind == "foreign" else OWN
        # Of one length: no name is a part of another.
        arn = f"acs:osstables:cn-hangzhou:{account}:bucket/{kind}-{len(self.events):03}"
        self.cloud.encryption[arn] = "KMS" if kind == "kms" else None
        self.events[arn] = [_event("CreateTableBucket", arn)]
        return arn

    def _invoke(self, payload: bytes) -> None:
        """As the platform does: try, try again, and keep what failed to the end."""
        for _ in range(TRIES):
            try:
                self.process(payload, **self._world()).raise_failures()
            except (Unavailable, Killed):
                continue
            return
        self.cloud.keep(_wrapped([payload], "record"))

    def _is_kept(self, arn: str) -> bool:
        return self.cloud.keeps_one_of(self.events[arn])

    def _world(self) -> dict[str, Any]:
        self.cloud.requests = 0
        invocation = Invocation(
            transport=DeadlineTransport(self.cloud),
            settings=SETTINGS,
            read_credentials=lambda: Credentials("AKID", "AKSECRET"),
            budget=TimeBudget(1e9, CLOCK),
            clock=CLOCK,
        )
        letters = DeadLetters(self.cloud.send, lambda *_a, **_k: None, "fn", "request", CLOCK.now)
        return {
            "invocation": invocation,
            "tables": OssTables(invocation),
            "dead_letters": letters,
            "report": self._judge,
        }

    def _judge(self, result: Outcome | Exception) -> None:
        """What is told of a bucket is true at the moment at which it is told."""
        if isinstance(result, Exception):
            # A bug would be hidden among several failures.
            assert isinstance(result, Unavailable)
            return
        arn = str(result.arn or "")
        self.told.setdefault(arn, set()).add(result.outcome)
        match result.outcome:
            case "encrypted":
                assert (self.cloud.encryption[arn], arn in self.cloud.put) == ("AES256", True)
            case "already_encrypted" | "kept_stronger":
                assert self.cloud.encryption[arn] == result.reason
            case "dead_lettered":
                assert self._is_kept(arn)
                assert (result.reason == "foreign_account") is (_kind(arn) == "foreign")
            case _:
                self._judge_skip(result, arn)

    def _judge_skip(self, result: Outcome, arn: str) -> None:
        assert result.outcome == "skipped"
        if _kind(arn) == "exempt":
            assert result.reason == "exempt: samples"
            return
        # For all that the service says, the bucket went after its encryption.
        assert (result.reason, self.cloud.oss) == ("gone", "404")
        assert (result.event_id or "").startswith(DRIFT)
        self.due.discard(arn)


@functools.cache
def _events_in(message: bytes) -> frozenset[str]:
    return frozenset(map(fingerprint, open_payload(message).events))


def _kind(arn: str) -> str:
    return arn.rpartition("/")[2].partition("-")[0]


def _event(name: str, arn: str) -> bytes:
    record = {"eventName": name, "responseElements": {"arn": arn}}
    return json.dumps({"id": f"{name} {arn}", "source": "acs.oss", "data": record}).encode()


def _wrapped(events: list[bytes], wrapping: Wrapping) -> bytes:
    if wrapping == "array":
        return b"[" + b",".join(events) + b"]"
    if wrapping == "letter":
        return dead_letter_of(json.loads(events[0]))
    if wrapping == "record":
        context = {"condition": "UnhandledInvocationError"}
        record = {"requestContext": context, "requestPayload": events[0].decode()}
        return json.dumps(record).encode()
    return events[0]


# A profile that searches looks at more.
Storm.TestCase.settings = settings(
    max_examples=max(500, settings().max_examples), stateful_step_count=30
)
test_nothing_is_lost_in_any_order_of_steps = Storm.TestCase


def writes_no_letters(payload: bytes, *, dead_letters: DeadLetters, **world: Any) -> Processed:
    forgetful = dead_letters._replace(put=lambda _letter: None)
    return process_payload(payload, dead_letters=forgetful, **world)


def raises_nothing(payload: bytes, **world: Any) -> Processed:
    return process_payload(payload, **world)._replace(failures=())


def forgets_the_rest_of_an_array(payload: bytes, **world: Any) -> Processed:
    first = open_payload(payload).events[0]
    return process_payload(first.raw, **world)


def asks_nothing_before_it_encrypts(payload: bytes, **world: Any) -> Processed:
    class Hasty(OssTables):
        def current_encryption(self, _arn: TableBucketArn) -> None:
            return None

    return process_payload(payload, **world | {"tables": Hasty(world["invocation"])})


def knows_no_exemption(payload: bytes, *, invocation: Invocation, **world: Any) -> Processed:
    without = invocation.settings._replace(exemptions=())
    strict = invocation._replace(settings=without)
    return process_payload(payload, invocation=strict, **world)


def leaves_drift_alone(payload: bytes, **world: Any) -> Processed:
    return process_payload(payload.replace(DRIFT.encode(), b"Another"), **world)


BROKEN = (
    writes_no_letters,
    raises_nothing,
    forgets_the_rest_of_an_array,
    asks_nothing_before_it_encrypts,
    knows_no_exemption,
    leaves_drift_alone,
)


@pytest.mark.parametrize("broken", BROKEN)
def test_a_broken_guard_is_found_out(broken: Process) -> None:
    """The same steps tell a guard that breaks one promise from the one that keeps them all."""

    class BrokenStorm(Storm):
        process = staticmethod(broken)

    found = settings(Storm.TestCase.settings, phases=[Phase.generate], database=None)
    with pytest.raises(AssertionError):
        run_state_machine_as_test(BrokenStorm, settings=found)
