"""What befalls each creation in a storm: made of a seed alone, so that it can be had again.

Nothing of the guard is imported, here and in `checker.py`: who checks must not share its mistakes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from itertools import islice
from random import Random
from typing import Any, Literal

from tests.emulators.action_trail import KINDS, SHAPES, cloud_event
from tests.emulators.cloud import ACCOUNT, REGION
from tests.emulators.faults import (
    Delay,
    Drip,
    Effect,
    Fault,
    Garbage,
    GarbageBody,
    Refuse,
    Reset,
    ResetMidAnswer,
    SkewClock,
    Strike,
    Truncate,
    throttle,
)
from tests.emulators.function_compute import Freeze, Interruption, Kill, Recycle
from tests.emulators.oss_tables import ApiCall

GET = "GetTableBucketEncryption"
PUT = "PutTableBucketEncryption"
SEND = "SendMessage"

Fate = Literal[
    "ordinary", "taken off", "kms", "encrypted before", "gone", "gone, taken off",
    "exempt", "managed", "failed call", "irrelevant", "foreign", "contradictory", "not json",
]  # fmt: skip
# How many in a hundred.
FATES: Mapping[Fate, int] = {
    "ordinary": 76,
    "taken off": 3,
    "kms": 4,
    "encrypted before": 3,
    "gone": 1,
    "gone, taken off": 1,
    "exempt": 3,
    "managed": 1,
    "failed call": 2,
    "irrelevant": 2,
    "foreign": 2,
    "contradictory": 1,
    "not json": 1,
}
OPERATIONS: Mapping[Fate, str] = {
    "taken off": "DeleteTableBucketEncryption",
    "gone, taken off": "DeleteTableBucketEncryption",
    "irrelevant": "GetTableBucket",
}
MANAGED = "oss-managed-table-bucket"
EXEMPTIONS = [{"bucket": "scratch-*", "reason": "public samples", "expires": "2099-12-31"}]
FOREIGN = "9999999999999999"
AT = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)

# How often in a row; what comes twenty times outlasts every try of the guard and of the platform.
FOR_GOOD = 20
IN_A_ROW = {1: 50, 2: 25, 4: 15, FOR_GOOD: 10}
# The longest that is slow; a try has GUARD_HTTP_TIMEOUT_SECONDS of 0.5.
LATE_SECONDS = 0.7
LARGEST_ARRAY = 8


@dataclass(frozen=True)
class Mishap:
    """A fault that one request of one creation meets, and the class that it belongs to."""

    label: str
    fault: Fault


@dataclass(frozen=True)
class Creation:
    """One event, the bucket that it tells of, and the mishaps of its requests by operation."""

    number: int
    fate: Fate
    bucket: str
    account: str
    event: bytes
    mishaps: Mapping[str, tuple[Mishap, ...]]

    @property
    def arn(self) -> str:
        return f"acs:osstables:{REGION}:{self.account}:bucket/{self.bucket}"


@dataclass(frozen=True)
class Delivery:
    """What Function Compute is handed at once; an interruption for each of its first tries."""

    creations: tuple[int, ...]
    payload: bytes
    interruptions: tuple[Interruption, ...] = ()


@dataclass(frozen=True)
class Plan:
    """All of a storm. `rotate_every`: after so many invocations the function gets a new key."""

    creations: tuple[Creation, ...]
    deliveries: tuple[Delivery, ...]
    outage_seconds: float
    rotate_every: int | None

    def only(self, number: int) -> Plan:
        """The same for one creation, and for those that came in an array with it."""
        deliveries = tuple(each for each in self.deliveries if number in each.creations)
        kept = {number for each in deliveries for number in each.creations}
        creations = tuple(each for each in self.creations if each.number in kept)
        return replace(self, creations=creations, deliveries=deliveries)


# By operation, one after the other.
Mishaps = Callable[[Random], Mapping[str, Sequence[Effect | Fault]]]


@dataclass(frozen=True)
class Trouble:
    """A class of faults. `share` of the creations (or deliveries) meet it in a storm of all.

    `refused`: it takes a dead letter to be met at all.
    """

    share: float
    mishaps: Mishaps = lambda _random: {}
    interruption: Callable[[Random], Interruption] | None = None
    refused: bool = False


def _row(random: Random) -> int:
    return random.choices(list(IN_A_ROW), list(IN_A_ROW.values()))[0]


def _oss(*effects: Effect | Fault) -> Mishaps:
    """One of these, some times in a row, for the PUT and perhaps for the GET before it."""

    def mishaps(random: Random) -> Mapping[str, Sequence[Effect | Fault]]:
        effect = random.choice(effects)
        reads = [effect] * 2 if random.random() < 0.3 else []
        return {GET: reads, PUT: [effect] * _row(random)}

    return mishaps


def _smq(*effects: Effect | Fault) -> Mishaps:
    return lambda random: {SEND: [random.choice(effects)] * _row(random)}


def _anywhere(*effects: Fault) -> Mishaps:
    """One of these, once, at one request of the three kinds."""
    return lambda random: {random.choice([GET, PUT, PUT, SEND]): [random.choice(effects)]}


def _after(effect: Effect) -> Fault:
    """It is done, and then the answer is lost."""
    return Fault(effect, after=True)


def _refuse(*statuses: int, **more: Any) -> list[Effect]:
    return [Refuse(status, **more) for status in statuses]


TROUBLES: Mapping[str, Trouble] = {
    "delivered twice or thrice": Trouble(0.2),
    "late, out of order": Trouble(0.3),
    "in arrays": Trouble(0.3),
    "OSS: 5xx": Trouble(0.08, _oss(*_refuse(500, 502, 503, 504), _after(Refuse(500)))),
    "OSS: 429": Trouble(0.04, _oss(throttle(429), throttle(429, retry_after=0))),
    "OSS: 429, Retry-After": Trouble(
        0.03,
        _oss(
            throttle(429, retry_after=0.3),
            throttle(503, retry_after=1),
            throttle(429, retry_after=3600),
        ),
    ),
    "OSS: 404 at first": Trouble(0.04, _oss(Refuse(404))),
    "OSS: 409": Trouble(0.03, _oss(Refuse(409))),
    "OSS: reset mid-request": Trouble(0.04, _oss(Reset(), _after(Reset()))),
    "OSS: reset mid-answer": Trouble(0.03, _oss(ResetMidAnswer())),
    "OSS: garbage": Trouble(0.03, _oss(Garbage(), _after(Garbage()), _after(GarbageBody()))),
    "OSS: wrong length": Trouble(0.03, _oss(Truncate(missing=16))),
    "OSS: slow bytes": Trouble(
        0.02, _oss(Delay(LATE_SECONDS), _after(Delay(LATE_SECONDS)), Drip(0.1), Drip(0.1, "body"))
    ),
    "OSS: clock skewed": Trouble(0.03, _oss(SkewClock(3600), SkewClock(-3600))),
    "OSS: token expired": Trouble(0.03, _oss(*_refuse(403, 401, code="SecurityTokenExpired"))),
    "OSS: refused": Trouble(
        0.05, lambda random: {PUT: [random.choice(_refuse(400, 403, 405, 412))] * FOR_GOOD}
    ),
    "OSS: redirect": Trouble(
        0.02,
        _oss(Refuse(307, headers={"Location": "https://elsewhere.example.com/"}), Refuse(301)),
    ),
    "SMQ: refuses": Trouble(0.3, _smq(*_refuse(403, 429, 500, 503)), refused=True),
    "SMQ: resets, garbage": Trouble(
        0.3, _smq(Reset(), ResetMidAnswer(), Garbage(), _after(Reset()), Truncate()), refused=True
    ),
    "SMQ: slow bytes": Trouble(
        0.1, _smq(Delay(LATE_SECONDS), _after(Delay(LATE_SECONDS)), Drip(0.1)), refused=True
    ),
    "SMQ: down for a while": Trouble(1, refused=True),
    "killed at a request": Trouble(0.02, _anywhere(Fault(Strike()), _after(Strike()))),
    "killed at any moment": Trouble(0.02, interruption=lambda random: Kill(random.randint(0, 60))),
    "timed out": Trouble(0.005, interruption=lambda random: Freeze(random.randint(0, 20))),
    "recycled, cold again": Trouble(0.02, interruption=lambda _random: Recycle()),
    "credentials rotated": Trouble(1),
}


@dataclass(frozen=True)
class _Storm:
    """The classes of faults of a storm; one that is alone meets everybody."""

    troubles: Mapping[str, Trouble]

    def meets(self, random: Random, label: str) -> bool:
        trouble = self.troubles.get(label)
        return trouble is not None and random.random() < (trouble.share if self.mixed else 1)

    @property
    def mixed(self) -> bool:
        return len(self.troubles) > 1


def plan(
    seed: int,
    events: int,
    troubles: Sequence[str] = tuple(TROUBLES),
    *,
    outage_seconds: float = 3,
    rotate_every: int = 20,
) -> Plan:
    """A storm of so many creations in which these classes of faults occur."""
    storm = _Storm({label: TROUBLES[label] for label in troubles})
    creations = tuple(_creation(seed, number, storm) for number in range(events))
    random = Random(f"{seed} deliveries")
    return Plan(
        creations,
        tuple(_delivery(taken, random, storm) for taken in _taken(creations, random, storm)),
        outage_seconds if "SMQ: down for a while" in troubles else 0,
        rotate_every if "credentials rotated" in troubles else None,
    )


def _creation(seed: int, number: int, storm: _Storm) -> Creation:
    # Of its own chance, so that a creation is the same in a storm of any size.
    random = Random(f"{seed} {number}")
    fate = random.choices(list(FATES), list(FATES.values()))[0]
    bucket = {"exempt": f"scratch-{number:06}", "managed": MANAGED}.get(fate, f"storm-{number:06}")
    account = FOREIGN if fate == "foreign" else ACCOUNT
    creation = Creation(number, fate, bucket, account, b"", _mishaps(random, storm))
    return replace(creation, event=_event(creation, random))


def _mishaps(random: Random, storm: _Storm) -> Mapping[str, tuple[Mishap, ...]]:
    met: dict[str, list[Mishap]] = {GET: [], PUT: [], SEND: []}
    for label, trouble in storm.troubles.items():
        if not storm.meets(random, label):
            continue
        if trouble.refused and not storm.mixed:
            met[PUT] += [Mishap("OSS: refused", Fault(Refuse(403)))] * FOR_GOOD
        for operation, effects in trouble.mishaps(random).items():
            faults = [each if isinstance(each, Fault) else Fault(each) for each in effects]
            met[operation] += [Mishap(label, fault) for fault in faults]
    return {operation: tuple(found) for operation, found in met.items()}


def _event(creation: Creation, random: Random) -> bytes:
    """The event as ActionTrail would tell it; its id holds the number, whatever else it names."""
    fate = creation.fate
    call = ApiCall(
        operation=OPERATIONS.get(fate, "CreateTableBucket"),
        region=REGION,
        account_id=creation.account,
        access_key_id="LTAI-somebody",
        bucket=creation.bucket,
        arn=creation.arn,
        request_id=f"{creation.number:024}",
        at=AT,
        host="",
        path="",
        request_body=b"",
        error_code="ForbiddenException" if fate == "failed call" else None,
    )
    event = cloud_event(call, shape=random.choice(SHAPES), kind=random.choice(KINDS))
    event["id"] = event_id(creation.number)
    if fate == "contradictory":
        other = creation.arn.rpartition("/")[0] + "/another"
        event["data"]["responseElements"] = {"arn": creation.arn, "tableBucketARN": other}
    text = json.dumps(event, indent=random.choice([None, None, 1]))
    return (text[:-1] if fate == "not json" else text).encode()


def event_id(number: int) -> str:
    """What an event is called: no other text of a storm looks like this."""
    return f"event-{number:06}"


def _taken(
    creations: Sequence[Creation], random: Random, storm: _Storm
) -> Iterator[tuple[Creation, ...]]:
    """The creations in the order in which they come, together where they come in an array."""
    order: list[tuple[float, Creation]] = []
    for creation in creations:
        again = storm.meets(random, "delivered twice or thrice")
        for _ in range(random.randint(2, 3) if again else 1):
            late = storm.meets(random, "late, out of order")
            at = creation.number + (random.uniform(0, len(creations)) if late else 0)
            order.append((at, creation))
    waiting = iter([creation for _, creation in sorted(order, key=lambda pair: pair[0])])
    while taken := tuple(islice(waiting, _size(random, storm))):
        # Nobody can make an array of what is not JSON.
        together = tuple(each for each in taken if each.fate != "not json")
        yield from ((each,) for each in taken if each not in together)
        if together:
            yield together


def _size(random: Random, storm: _Storm) -> int:
    return random.randint(2, LARGEST_ARRAY) if storm.meets(random, "in arrays") else 1


def _delivery(taken: Sequence[Creation], random: Random, storm: _Storm) -> Delivery:
    events = [creation.event for creation in taken]
    payload = events[0] if len(events) == 1 else b"[" + b",\n".join(events) + b"]"
    interruptions = [
        trouble.interruption(random)
        for trouble in storm.troubles.values()
        if trouble.interruption
        for _ in range(4)
        if random.random() < (trouble.share if storm.mixed else 0.5)
    ]
    return Delivery(tuple(each.number for each in taken), payload, tuple(interruptions))
