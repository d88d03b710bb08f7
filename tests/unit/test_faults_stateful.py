"""Several buckets, one step after the other, in whatever order Hypothesis thinks of.

The guard is the real one; the services, the queue and the platform are a few lines each. What
`tests/chaos/` shows with real processes and real connections holds here step by step, and whatever
breaks it is shrunk to the fewest steps.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any, Literal

import httpx
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import Outcome, process_payload
from encryption_guard.errors import Unavailable
from encryption_guard.oss_tables import OssTables
from encryption_guard.transport import Clock, Invocation, TimeBudget

OWN, FOREIGN = "1234567890123456", "9999999999999999"
TRIES = 4
Kind = Literal["plain", "exempt", "foreign", "kms"]
Wrapping = Literal["none", "array", "record"]
Trouble = Literal["none", "503", "403", "404", "409", "307", "reset", "lost"]
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
    """The truth about buckets and queue, and what is wrong with the services just now."""

    encryption: dict[str, str | None] = field(default_factory=dict)
    queue: list[bytes] = field(default_factory=list)
    overwritten: set[str] = field(default_factory=set)
    oss: Trouble = "none"
    queue_refuses: bool = False
    lives: int | None = None

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self._live()
        arn = request.url.path.removeprefix("/buckets/").removesuffix("/encryption")
        if self.oss == "reset":
            raise httpx.ReadError("reset")
        if self.oss.isdigit():
            return _says(int(self.oss))
        body = self._carry_out(request.method, arn)
        if self.oss == "lost":
            raise httpx.ReadError("the answer is lost")
        return _says(200, body)

    def _carry_out(self, method: str, arn: str) -> bytes:
        if method == "GET":
            found = self.encryption[arn]
            told = {"sseAlgorithm": found} if found else {}
            return json.dumps({"encryptionConfiguration": told}).encode()
        if self.encryption[arn] == "KMS" and self.oss == "none":
            self.overwritten.add(arn)
        self.encryption[arn] = "AES256"
        return b""

    def put(self, letter: bytes) -> None:
        self._live()
        if self.queue_refuses:
            raise httpx.ReadError("refused")
        self.queue.append(letter)

    def _live(self) -> None:
        if self.lives is None:
            return
        if self.lives == 0:
            self.lives = None
            raise Killed
        self.lives -= 1


def _says(status: int, body: bytes = b"") -> httpx.Response:
    return httpx.Response(status, stream=httpx.ByteStream(body))


class Storm(RuleBasedStateMachine):
    """Buckets are created and delivered while services, queue and processes fail and recover."""

    @initialize()
    def begin(self) -> None:
        self.cloud = Cloud()
        self.kinds: dict[str, Kind] = {}
        self.events: dict[str, bytes] = {}
        self.delivered: set[str] = set()

    @rule(kind=st.sampled_from(["plain", "plain", "exempt", "foreign", "kms"]))
    def create(self, kind: Kind) -> None:
        account = FOREIGN if kind == "foreign" else OWN
        arn = f"acs:osstables:cn-hangzhou:{account}:bucket/{kind}-{len(self.kinds)}"
        self.kinds[arn] = kind
        self.cloud.encryption[arn] = "KMS" if kind == "kms" else None
        self.events[arn] = _event("CreateTableBucket", arn)

    @rule(data=st.data())
    def take_the_encryption_off(self, data: st.DataObject) -> None:
        if arn := self._one(data):
            self.cloud.encryption[arn] = None
            self.events[arn] = _event("DeleteTableBucketEncryption", arn)

    @rule(data=st.data(), wrapping=st.sampled_from(["none", "array", "record"]))
    def deliver(self, data: st.DataObject, wrapping: Wrapping) -> None:
        if not self.kinds:
            return
        several = st.lists(st.sampled_from(sorted(self.kinds)), min_size=1, max_size=3)
        arns = data.draw(several)[: None if wrapping == "array" else 1]
        self.delivered.update(arns)
        self._deliver(_wrapped([self.events[arn] for arn in arns], wrapping))

    @rule(trouble=st.sampled_from(["none", "503", "403", "404", "409", "307", "reset", "lost"]))
    def trouble_the_service(self, trouble: Trouble) -> None:
        self.cloud.oss = trouble

    @rule(refuses=st.booleans())
    def trouble_the_queue(self, refuses: bool) -> None:
        self.cloud.queue_refuses = refuses

    @rule(requests=st.integers(0, 4))
    def kill_soon(self, requests: int) -> None:
        self.cloud.lives = requests

    @rule()
    def redrive(self) -> None:
        # What is handed in again is removed when it was accepted, and not before.
        for message in list(self.cloud.queue):
            self._deliver(message)
            self.cloud.queue.remove(message)

    def teardown(self) -> None:
        """Nothing was lost on the way, and when all is well again everything ends well."""
        if not hasattr(self, "cloud"):
            return
        kept = b"".join(self.cloud.queue)
        for arn in self.delivered:
            if self.kinds[arn] in ("plain", "kms") and not self._gone(arn):
                assert self.cloud.encryption[arn] or arn.encode() in kept
        self.cloud = replace(self.cloud, oss="none", queue_refuses=False, lives=None)
        self.redrive()
        for arn in self.delivered:
            if self.kinds[arn] in ("plain", "kms") and not self._gone(arn):
                assert self.cloud.encryption[arn]
        for arn, kind in self.kinds.items():
            assert kind not in ("exempt", "foreign") or self.cloud.encryption[arn] is None

    def _gone(self, arn: str) -> bool:
        """Its encryption was taken off after the last delivery, or while it could not be found."""
        return b"DeleteTableBucketEncryption" in self.events[arn]

    def _one(self, data: st.DataObject) -> str | None:
        mine = [arn for arn, kind in self.kinds.items() if kind in ("plain", "kms")]
        return data.draw(st.sampled_from(mine)) if mine else None

    def _deliver(self, payload: bytes) -> None:
        """As the platform does: try, try again, and keep what failed to the end."""
        for _ in range(TRIES):
            try:
                processed = process_payload(payload, **self._world())
                processed.raise_failures()
            except (Unavailable, Killed):
                continue
            return
        text = payload.decode()
        self.cloud.queue.append(json.dumps({"requestPayload": text}).encode())

    def _world(self) -> dict[str, Any]:
        invocation = Invocation(
            transport=self.cloud,
            settings=SETTINGS,
            read_credentials=lambda: Credentials("AKID", "AKSECRET"),
            budget=TimeBudget(1e9, CLOCK),
            clock=CLOCK,
        )
        letters = DeadLetters(self.cloud.put, lambda *_a, **_k: None, "fn", "request", CLOCK.now)
        return {
            "invocation": invocation,
            "tables": OssTables(invocation),
            "dead_letters": letters,
            "report": self._judge,
        }

    def _judge(self, result: Outcome | Exception) -> None:
        """What is told of a bucket is true at the moment at which it is told."""
        if not isinstance(result, Outcome):
            return
        now = self.cloud.encryption.get(result.arn or "")
        claims = {"encrypted": "AES256", "already_encrypted": "AES256", "kept_stronger": "KMS"}
        assert claims.get(result.outcome, now) == now
        assert not self.cloud.overwritten
        if result.outcome == "dead_lettered":
            assert any((result.arn or "").encode() in message for message in self.cloud.queue)


def _event(name: str, arn: str) -> bytes:
    record = {"eventName": name, "responseElements": {"arn": arn}}
    return json.dumps({"id": f"{name} {arn}", "source": "acs.oss", "data": record}).encode()


def _wrapped(events: list[bytes], wrapping: Wrapping) -> bytes:
    if wrapping == "array":
        return b"[" + b",".join(events) + b"]"
    if wrapping == "record":
        return json.dumps({"requestPayload": events[0].decode()}).encode()
    return events[0]


Storm.TestCase.settings = settings(max_examples=300, stateful_step_count=30)
test_nothing_is_lost_in_any_order_of_steps = Storm.TestCase
