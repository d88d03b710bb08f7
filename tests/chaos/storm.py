"""Lets a plan happen to the emulated cloud, and writes down what was seen from outside the guard.

The cloud is the one of `make demo`: services behind TLS that check every signature, and functions
in processes of their own, as template.yaml deploys them.
"""

from __future__ import annotations

import json
import re
import threading
import time
from base64 import b64decode
from binascii import Error as NotBase64
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import Any

from tests.chaos.plan import EXEMPTIONS, Creation, Delivery, Mishap, Plan
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import QUEUE, EmulatedCloud, deployed_role, emulated_cloud
from tests.emulators.emulated_service import RecordedRequest
from tests.emulators.faults import Fault, Faults, Refuse
from tests.emulators.function_compute import Freeze, Interruption, Invocation, Kill

BROKEN_GUARDS = Path(__file__).with_name("broken_guards.py")
FUNCTION_SECONDS = 6.0
SETTINGS = {
    "GUARD_HTTP_TIMEOUT_SECONDS": "0.5",
    "GUARD_EXEMPTIONS": json.dumps(EXEMPTIONS),
}
OUTAGE = "SMQ: down for a while"
ROTATED = "credentials rotated"
EVENT_ID = re.compile(rb"event-([0-9]{6})")
BODY = re.compile(rb"<MessageBody>([^<]*)<")
Step = Callable[[int, int], object]
Encryption = Mapping[str, str | None]


@dataclass(frozen=True)
class Try:
    """One try of one delivery: what it logged, and its result or its error."""

    payload: bytes
    creations: tuple[int, ...]
    logged: tuple[dict[str, Any], ...]
    result: str | None
    condition: str | None
    cold: bool


@dataclass(frozen=True)
class Asked:
    """A request that came in at OSS Tables, and how it was answered, if it was."""

    operation: str | None
    bucket: str | None
    request_id: str
    status: int | None
    undisturbed: bool


@dataclass(frozen=True)
class History:
    """What happened: all that the checker is told.

    `encryption` of each bucket is that at the end of the storm; `afterwards` the one when all that
    was kept had been handed in once more, and a sweep had been made.
    """

    tries: tuple[Try, ...]
    asked: tuple[Asked, ...]
    sends: int
    messages: tuple[str, ...]
    encryption: Encryption
    afterwards: Encryption
    injected: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


class Script(Faults):
    """The mishaps of each creation in turn; a request that is about none of them meets none."""

    def __init__(
        self,
        creations: Iterable[Creation],
        key_of: Callable[[str | None, bytes], str | None],
        name_of: Callable[[Creation], str],
        *,
        reads_bodies: bool = False,
    ) -> None:
        super().__init__()
        self.injected: Counter[str] = Counter()
        self.down_until = 0.0
        self.reads_bodies = reads_bodies
        self._key_of = key_of
        self._guard = threading.Lock()
        self._left: dict[tuple[str | None, str | None], deque[Mishap]] = defaultdict(deque)
        for creation in creations:
            for operation, mishaps in creation.mishaps.items():
                self._left[operation, name_of(creation)].extend(mishaps)

    def met_by(self, operation: str | None, resource: str | None, body: bytes = b"") -> list[Fault]:
        """The next mishap of this creation for this operation, unless the service is down."""
        with self._guard:
            if time.monotonic() < self.down_until:
                self.injected[OUTAGE] += 1
                return [Fault(Refuse(503))]
            left = self._left.get((operation, self._key_of(resource, body)))
            if not left:
                return []
            mishap = left.popleft()
            self.injected[mishap.label] += 1
            return [mishap.fault]


class Keys:
    """The role's keys: after so many invocations comes a new one, and the one before expires."""

    def __init__(self, every: int | None) -> None:
        self._every = every
        self._lock = threading.Lock()
        self._asked = 0
        self._key = self.first = deployed_role("encrypt_on_create")
        self.rotations = 0
        self.cloud: EmulatedCloud | None = None

    def of_invocation(self) -> AccessKey:
        with self._lock:
            self._asked += 1
            if self._every and self.cloud and self._asked % self._every == 0:
                self._rotate(self.cloud)
            return self._key

    def _rotate(self, cloud: EmulatedCloud) -> None:
        self.rotations += 1
        spent = replace(self._key, expires_at=datetime.now(timezone.utc))
        self._key = replace(
            self.first,
            id=f"{self.first.id}-{self.rotations}",
            secret=f"{self.first.secret}-{self.rotations}",
            security_token=f"{self.first.security_token}-{self.rotations}",
        )
        for service in (cloud.tables, cloud.queue):
            service.admit(spent)
            service.admit(self._key)


class Interruptions:
    """What befalls the tries of each delivery, one after the other."""

    def __init__(self, deliveries: Iterable[Delivery]) -> None:
        self.injected: Counter[str] = Counter()
        self._left: dict[bytes, deque[Interruption]] = defaultdict(deque)
        for delivery in deliveries:
            self._left[delivery.payload].extend(delivery.interruptions)

    def next(self, payload: bytes) -> Interruption | None:
        try:
            interruption = self._left[payload].popleft()
        except IndexError:
            return None
        self.injected[LABELS.get(type(interruption), "recycled, cold again")] += 1
        return interruption


LABELS: Mapping[type, str] = {Kill: "killed at any moment", Freeze: "timed out"}


def raise_storm(
    plan: Plan,
    *,
    instances: int = 16,
    broken: str | None = None,
    step: Step = lambda _done, _of: None,
) -> History:
    """Let all of it happen; `step` is told how many deliveries are done, and of how many.

    `broken` is a name of `broken_guards.py`.
    """
    breaking = {"RUNS_FIRST": str(BROKEN_GUARDS), "BROKEN_GUARD": broken} if broken else {}
    keys = Keys(plan.rotate_every)
    interruptions = Interruptions(plan.deliveries)
    with emulated_cloud(
        role=keys.first,
        key_of_invocation=keys.of_invocation,
        chaos=interruptions.next,
        environment=SETTINGS | breaking,
        timeout_seconds=FUNCTION_SECONDS,
        instances=instances,
    ) as cloud:
        keys.cloud = cloud
        _plant(cloud, plan.creations)
        tables, queue = _scripted(cloud, plan)
        started = time.monotonic()
        tries = _deliver(cloud, plan, queue, instances, step)
        seconds = time.monotonic() - started
        injected = tables.injected + queue.injected + interruptions.injected + _repeats(plan)
        injected[ROTATED] += keys.rotations
        history = _history(cloud, tries, +injected, seconds)
        return replace(history, afterwards=_recover(cloud, history.messages, instances))


def _plant(cloud: EmulatedCloud, creations: Iterable[Creation]) -> None:
    # There is one bucket that is managed by OSS, however many events name it.
    there = {each.bucket: each for each in creations if not each.fate.startswith("gone")}
    for name, creation in there.items():
        encryption = {"kms": "KMS", "encrypted before": "AES256"}.get(creation.fate)
        kind = "oss" if creation.fate == "managed" else "customer"
        account_id = creation.account
        cloud.tables.plant(name, account_id=account_id, encryption=encryption, kind=kind)


def _scripted(cloud: EmulatedCloud, plan: Plan) -> tuple[Script, Script]:
    """The services get their scripts, and what strikes there reaches the function's processes."""
    tables = Script(plan.creations, lambda name, _body: name, lambda creation: creation.bucket)
    queue = Script(
        plan.creations, _in_letter, lambda creation: f"{creation.number:06}", reads_bodies=True
    )
    cloud.tables.faults, cloud.queue.faults = tables, queue
    cloud.tables.on_strike = lambda call: _strike(cloud, call.resource)
    cloud.queue.on_strike = lambda call: _strike(cloud, _in_letter(None, call.request.body))
    return tables, queue


def _in_letter(_queue: str | None, body: bytes) -> str | None:
    """Whose letter a message is."""
    match = BODY.search(body)
    try:
        found = EVENT_ID.search(b64decode(match[1])) if match else None
    except NotBase64:
        return None
    return found[1].decode() if found else None


def _strike(cloud: EmulatedCloud, concerned: str | None) -> None:
    if concerned is not None:
        cloud.function.strike(lambda event: concerned.encode() in event)


def _deliver(
    cloud: EmulatedCloud, plan: Plan, queue: Script, instances: int, step: Step
) -> list[Try]:
    outage_at = len(plan.deliveries) // 3
    tries: list[Try] = []

    def one(number: int, delivery: Delivery) -> list[Try]:
        if number == outage_at and plan.outage_seconds:
            queue.down_until = time.monotonic() + plan.outage_seconds
        return [_try(delivery, made) for made in cloud.function.deliver(delivery.payload)]

    with ThreadPoolExecutor(instances) as pool:
        for done, made in enumerate(pool.map(one, count(), plan.deliveries), start=1):
            tries += made
            step(done, len(plan.deliveries))
    return tries


def _recover(cloud: EmulatedCloud, messages: Iterable[str], instances: int) -> Encryption:
    """The storm is over: an operator hands in what was kept, and the timer goes off once."""
    cloud.tables.faults, cloud.queue.faults = Faults(), Faults()
    payloads = [each.encode() if each.startswith("{") else b64decode(each) for each in messages]
    with ThreadPoolExecutor(instances) as pool:
        list(pool.map(cloud.function.deliver, payloads))
    cloud.sweep()
    return _encryption(cloud)


def _try(delivery: Delivery, made: Invocation) -> Try:
    logged = []
    for line in made.logs.splitlines():
        try:
            logged.append(json.loads(line))
        except ValueError:  # whoever is killed may leave half a line
            continue
    return Try(
        delivery.payload,
        delivery.creations,
        tuple(logged),
        made.result,
        made.condition,
        made.cold_start,
    )


def _repeats(plan: Plan) -> Counter[str]:
    """What the plan itself does to the deliveries."""
    seen: set[int] = set()
    newest = -1
    counted: Counter[str] = Counter()
    for delivery in plan.deliveries:
        counted["in arrays"] += len(delivery.creations) > 1
        for number in delivery.creations:
            counted["delivered twice or thrice"] += number in seen
            counted["late, out of order"] += number < newest
            seen.add(number)
            newest = max(newest, number)
    return counted


def _history(
    cloud: EmulatedCloud, tries: list[Try], injected: Counter[str], seconds: float
) -> History:
    encryption = _encryption(cloud)
    return History(
        tries=tuple(tries),
        asked=tuple(_asked(each) for each in cloud.tables.requests),
        sends=len(cloud.queue.requests),
        messages=tuple(cloud.queue.bodies(QUEUE)),
        encryption=encryption,
        afterwards=encryption,
        injected=injected,
        seconds=seconds,
    )


def _encryption(cloud: EmulatedCloud) -> Encryption:
    return {
        bucket.arn.name: bucket.encryption.algorithm if bucket.encryption else None
        for bucket in cloud.tables.buckets()
    }


def _asked(request: RecordedRequest) -> Asked:
    return Asked(
        request.operation,
        request.resource,
        request.request_id,
        request.status,
        undisturbed=not request.faults,
    )
