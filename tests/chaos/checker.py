"""Holds what happened against what was promised. It shares no code with the guard.

Every event has to end as an encrypted bucket, as a logged decision that the policy explains, or in
the queue, as a dead letter or as the platform's own record of a failure. Nobody may say "encrypted"
of a bucket that the service did not encrypt. And no event may cost more than a bounded number of
requests.
"""

from __future__ import annotations

import gzip
import json
from base64 import b64decode
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from tests.chaos.plan import GET, PUT, Creation, Fate, Plan, event_id
from tests.chaos.storm import Asked, History

Kind = Literal["lost", "false success", "altered", "untold", "touched", "unbounded"]
Told = dict[str, Any]

# A try of the guard makes at most these requests about a bucket (design 3.3 and 3.4): four tries,
# one for the clock, one for new credentials; of a PUT three more after a 404, a read before each
# repeat, and one after each answer that confirms nothing. A letter is sent at most four times, and
# an event is tried four times by the platform.
WRITES, SENDS, TRIES = 4 + 3 + 1 + 1, 4, 4
READS = 4 + 1 + 1 + (3 + 3) + 4

BY_SERVICE = frozenset({"rejected", "not_found", "conflict", "unexpected_redirect"})
# What may be told of an event: outcomes with their reasons.
EXPLAINED: Mapping[Fate, Mapping[str, frozenset[str]]] = {
    "ordinary": {
        "encrypted": frozenset({"created"}),
        "already_encrypted": frozenset({"AES256"}),
        "dead_lettered": BY_SERVICE,
    },
    "taken off": {
        "encrypted": frozenset({"drift"}),
        "already_encrypted": frozenset({"AES256"}),
        "dead_lettered": BY_SERVICE - {"not_found"},
        "skipped": frozenset({"gone"}),
    },
    "kms": {
        "kept_stronger": frozenset({"KMS"}),
        "encrypted": frozenset({"created"}),
        "already_encrypted": frozenset({"AES256"}),
        "dead_lettered": BY_SERVICE,
    },
    "encrypted before": {
        "already_encrypted": frozenset({"AES256"}),
        "encrypted": frozenset({"created"}),
        "dead_lettered": BY_SERVICE,
    },
    "gone": {"dead_lettered": BY_SERVICE},
    "gone, taken off": {
        "skipped": frozenset({"gone"}),
        "dead_lettered": BY_SERVICE - {"not_found"},
    },
    "exempt": {"skipped": frozenset({"exempt: public samples"})},
    "managed": {"skipped": frozenset({"managed_by_oss"})},
    "failed call": {"skipped": frozenset({"call_failed"})},
    "irrelevant": {"skipped": frozenset({"not_relevant"})},
    "foreign": {"dead_lettered": frozenset({"foreign_account"})},
    "contradictory": {"dead_lettered": frozenset({"invalid_event"})},
    "not json": {"dead_lettered": frozenset({"invalid_event"})},
}
# Of an outcome, logged and returned (design 3).
FIELDS = (
    "outcome",
    "reason",
    "arn",
    "event_id",
    "time_to_encrypt_ms",
    "named_by",
    "found_by",
    "by",
    "disagrees",
    "oss_request_id",
    "status",
    "code",
    "version",
)
WANTED: frozenset[Fate] = frozenset({"ordinary", "taken off"})
UNTOUCHABLE: frozenset[Fate] = frozenset(
    {"exempt", "managed", "failed call", "irrelevant", "foreign", "contradictory", "not json"}
)


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, by the number of the creation (None: by the storm as a whole)."""

    kind: Kind
    number: int | None
    what: str


@dataclass(frozen=True)
class Verdict:
    """How the events ended, and what was wrong."""

    ends: Counter[str]
    violations: tuple[Violation, ...]
    most_requests: int

    def count(self, *kinds: Kind) -> int:
        return sum(violation.kind in kinds for violation in self.violations)


@dataclass(frozen=True)
class Kept:
    """A message of the queue: a letter's document, or None for the platform's record."""

    letter: Told | None
    text: str


@dataclass(frozen=True)
class Evidence:
    """The history, looked up by event and by bucket."""

    plan: Plan
    history: History
    told: Mapping[str, list[Told]] = field(default_factory=lambda: defaultdict(list))
    asked: Mapping[str | None, list[Asked]] = field(default_factory=lambda: defaultdict(list))
    tries: Counter[int] = field(default_factory=Counter)

    @classmethod
    def of(cls, plan: Plan, history: History) -> Evidence:
        found = cls(plan, history)
        for each in history.tries:
            found.tries.update(each.creations)
            for line in each.logged:
                if is_outcome(line):
                    found.told[str(line["event_id"])].append(line)
        for request in history.asked:
            found.asked[request.bucket].append(request)
        return found

    @cached_property
    def letters(self) -> Mapping[str, list[Kept]]:
        """Our letters by the event's id; of those that have none by the event's text."""
        found = defaultdict(list)
        for kept in map(opened, self.history.messages):
            if kept.letter:
                found[kept.letter["event_id"] or kept.text].append(kept)
        return found

    @cached_property
    def failures(self) -> frozenset[str]:
        """The payloads that the platform gave up and kept."""
        return frozenset(k.text for k in map(opened, self.history.messages) if not k.letter)

    @cached_property
    def given_up(self) -> frozenset[int]:
        """The creations in them."""
        return frozenset(
            number
            for delivery in self.plan.deliveries
            if delivery.payload.decode() in self.failures
            for number in delivery.creations
        )

    def letters_of(self, creation: Creation) -> list[Kept]:
        text = creation.event.decode()
        of_it = [*self.letters[event_id(creation.number)], *self.letters[text]]
        return [kept for kept in of_it if kept.text == text]


def is_outcome(line: Told) -> bool:
    """Whether a line is that of an event: a finding of the table audit has a kind too."""
    return "outcome" in line and "kind" not in line


def opened(message: str) -> Kept:
    """A message as an operator would open it by hand."""
    if message.startswith("{"):
        return Kept(None, json.loads(message)["requestPayload"])
    letter = json.loads(b64decode(message, validate=True))
    event = letter["event"]
    if letter["event_encoding"] == "utf-8":
        return Kept(letter, event)
    packed = b64decode(event, validate=True)
    raw = packed if letter["event_encoding"] == "base64" else gzip.decompress(packed)
    return Kept(letter, raw.decode())


def check(plan: Plan, history: History) -> Verdict:
    """Judge a storm."""
    evidence = Evidence.of(plan, history)
    violations = [
        Violation(kind, creation.number, what)
        for creation in plan.creations
        for rule in RULES
        for kind, what in rule(creation, evidence)
    ]
    violations += [Violation(kind, None, what) for kind, what in _as_a_whole(evidence)]
    ends = Counter(_end(creation, evidence) for creation in plan.creations)
    most = max((_requests_of_a_try(each, evidence) for each in plan.creations), default=0)
    return Verdict(ends, tuple(violations), most)


Rule = Callable[[Creation, Evidence], Iterator[tuple[Kind, str]]]


def _end(creation: Creation, evidence: Evidence) -> str:
    """How an event ended: the best that can be said of it."""
    outcomes = {line["outcome"] for line in evidence.told[event_id(creation.number)]}
    for outcome in ("encrypted", "already_encrypted", "kept_stronger", "skipped"):
        if outcome in outcomes:
            return outcome
    if evidence.letters_of(creation):
        return "dead letter"
    return "kept by the platform" if creation.number in evidence.given_up else "lost"


def ends_somewhere(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """Each event has an end, and a bucket that is still open has one that an operator sees."""
    end = _end(creation, evidence)
    if end == "lost":
        yield "lost", f"no outcome, no letter, no record of a failure of a {creation.fate} bucket"
    kept = bool(evidence.letters_of(creation)) or creation.number in evidence.given_up
    # Whoever takes the encryption off, and then the bucket away, wants no letter.
    gone = creation.fate == "taken off" and any(
        line["reason"] == "gone" for line in evidence.told[event_id(creation.number)]
    )
    is_open = evidence.history.encryption.get(creation.bucket) is None
    if creation.fate in WANTED and is_open and not kept and not gone:
        yield "lost", f"the bucket is open, and nothing is kept; its end: {end}"


def is_explained(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """What is told of an event is what the policy allows to be told of it."""
    allowed = EXPLAINED[creation.fate]
    for line in evidence.told[event_id(creation.number)]:
        if line["reason"] not in allowed.get(line["outcome"], ()):
            yield "untold", f"{line['outcome']}: {line['reason']} of a {creation.fate} bucket"


def is_true(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """Whoever says encrypted can name the answer of the service that says so."""
    asked = evidence.asked[creation.bucket]
    answered = {
        (each.operation, each.request_id)
        for each in asked
        if each.status is not None and 200 <= each.status < 300
    }
    # The answer to a PUT may be lost: then a GET says that it was done.
    was_put = any(each.operation == PUT for each in asked)
    by_put = frozenset({PUT, GET}) if was_put else frozenset({PUT})
    operations = {"encrypted": by_put, "already_encrypted": {GET}, "kept_stronger": {GET}}
    for line in evidence.told[event_id(creation.number)]:
        allowed = operations.get(line["outcome"])
        said = {(operation, line["oss_request_id"]) for operation in allowed or ()}
        if allowed and not said & answered:
            yield "false success", f"{line['outcome']}: no such answer {line['oss_request_id']}"
        if allowed and evidence.history.encryption.get(creation.bucket) is None:
            yield "false success", f"{line['outcome']}, but the bucket is open"
        if line["outcome"] == "dead_lettered" and line["reason"] not in {
            kept.letter["reason"] for kept in evidence.letters_of(creation) if kept.letter
        }:
            yield "lost", f"dead_lettered: {line['reason']}, but there is no such letter"


def is_left_alone(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """What is none of the guard's business is not asked about; a stronger choice is kept."""
    asked = evidence.asked[creation.bucket]
    if creation.fate in UNTOUCHABLE and asked:
        yield "touched", f"{len(asked)} requests about a {creation.fate} bucket"
    puts = [each for each in asked if each.operation == PUT]
    reads = [each for each in asked if each.operation == GET]
    if creation.fate == "kms" and puts and all(r.undisturbed and r.status == 200 for r in reads):
        yield "touched", "KMS was overwritten, although every GET was answered"


def is_bounded(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """A try makes a bounded number of requests, and the platform a bounded number of tries."""
    if creation.bucket != f"storm-{creation.number:06}":
        return
    tries = evidence.tries[creation.number]
    by_operation = Counter(each.operation for each in evidence.asked[creation.bucket])
    for operation, most in ((GET, READS), (PUT, WRITES)):
        if by_operation[operation] > most * tries:
            yield "unbounded", f"{by_operation[operation]} {operation} in {tries} tries"
    delivered = sum(each.creations.count(creation.number) for each in evidence.plan.deliveries)
    if tries > TRIES * delivered:
        yield "unbounded", f"{tries} tries of {delivered} deliveries"


def is_well_afterwards(creation: Creation, evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """What was kept, and a sweep, bring every bucket to an end that is not meant to stay open."""
    encryption = evidence.history.afterwards.get(creation.bucket)
    if creation.fate in ("exempt", "managed", "foreign"):
        if encryption is not None:
            yield "touched", f"a {creation.fate} bucket has {encryption}"
    elif encryption is None and not creation.fate.startswith("gone"):
        yield "lost", "the bucket is open after all that was kept was handed in, and a sweep"


RULES: tuple[Rule, ...] = (
    ends_somewhere,
    is_explained,
    is_true,
    is_left_alone,
    is_bounded,
    is_well_afterwards,
)


def _requests_of_a_try(creation: Creation, evidence: Evidence) -> int:
    tries = max(evidence.tries[creation.number], 1)
    return -(-len(evidence.asked[creation.bucket]) // tries)


def _as_a_whole(evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """What concerns no single event: strange messages, results that differ from the log, sends."""
    events = {creation.event.decode() for creation in evidence.plan.creations}
    payloads = {delivery.payload.decode() for delivery in evidence.plan.deliveries}
    ids = defaultdict(set)
    for kept in map(opened, evidence.history.messages):
        if kept.text not in (events if kept.letter else payloads):
            yield "altered", f"a message holds what nobody sent: {kept.text[:80]!r}"
        if kept.letter:
            ids[kept.text, kept.letter["reason"]].add(kept.letter["id"])
    for (text, reason), found in ids.items():
        if len(found) > 1:
            yield "altered", f"one event, one reason ({reason}), {len(found)} ids: {text[:80]!r}"
    events_tried = sum(len(each.creations) for each in evidence.history.tries)
    if evidence.history.sends > SENDS * events_tried:
        yield "unbounded", f"{evidence.history.sends} letters sent for {events_tried} events tried"
    yield from _results(evidence)


def _results(evidence: Evidence) -> Iterator[tuple[Kind, str]]:
    """What a try returned is what it logged, one for each event that it was handed."""
    for each in evidence.history.tries:
        if each.condition is not None:
            continue
        returned = json.loads(each.result or "null")
        outcomes = returned if isinstance(returned, list) else [returned]
        logged = [line for line in each.logged if is_outcome(line)]
        told = [{name: line.get(name) for name in FIELDS} for line in logged]
        if outcomes != told or len(told) != len(each.creations):
            yield "untold", f"returned {each.result!r} of {each.creations}, and logged {logged!r}"
