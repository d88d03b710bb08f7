"""The main flow: every event ends as an outcome that says what became of it, or as a failure."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import repeat
from typing import Any

import httpx
import pytest

from encryption_guard.arn import TableBucketArn
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.enforcement import (
    Encrypted,
    Outcome,
    Processed,
    process_payload,
)
from encryption_guard.errors import DeadLetterNotWritten, Unavailable
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.version import __version__
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    OUTCOME_FIELDS,
    REGION,
    Broken,
    FakeOssTables,
    LetterBox,
    LogLines,
    Reply,
    Troubles,
    creation_of,
    invocation_of,
)

EXEMPTIONS = json.dumps(
    [{"bucket": "scratch-*", "reason": "Nothing lasts there.", "expires": "2026-01-02"}]
)


def arn_of(name: str, *, account_id: str = ACCOUNT, region: str = REGION) -> TableBucketArn:
    return TableBucketArn(region, account_id, name)


@dataclass
class Guard:
    """The guard in front of a service: `process` is one invocation of it."""

    service: FakeOssTables
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 60.0
    box: LetterBox = field(default_factory=LetterBox)
    log: LogLines = field(default_factory=LogLines)
    reported: list[Outcome | Exception] = field(default_factory=list)

    def process(self, payload: object) -> Processed:
        invocation = invocation_of(self.service, environment=self.environment, seconds=self.seconds)
        return process_payload(
            payload,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=self.post(),
            report=self.reported.append,
        )

    def post(self) -> DeadLetters:
        return DeadLetters(
            put=self.box.put,
            log_error=self.log.error,
            function="encrypt-on-create",
            function_request_id="request-1",
            now=self.service.time.now,
        )

    def one(self, event: object) -> dict[str, Any]:
        """The outcome of one event, which is the only thing that comes of it."""
        processed = self.process(json.dumps(event).encode())
        assert processed.failures == ()
        (outcome,) = processed.outcomes
        return outcome.as_dict()


def expected(outcome: str, **rest: object) -> dict[str, object]:
    """The outcome of the event of `creation_of(ARN)`, all fields, except for what `rest` says."""
    known = dict.fromkeys(OUTCOME_FIELDS) | {
        "outcome": outcome,
        "arn": str(ARN),
        "event_id": "event-1",
        "named_by": "responseElements",
        "found_by": "event",
        "version": __version__,
    }
    return known | rest


# Each outcome.


def test_a_new_bucket_is_encrypted() -> None:
    """The service confirmed it; the time since the event is measured to its answer."""
    guard = Guard(FakeOssTables(takes=0.117))

    outcome = guard.one(creation_of(ARN))

    assert outcome == expected(
        "encrypted",
        reason="created",
        time_to_encrypt_ms=1234,
        oss_request_id="OSS-2",
        status=200,
    )
    assert guard.service.methods() == ["GET", "PUT"]
    assert guard.service.buckets[str(ARN)] == "AES256"


@pytest.mark.parametrize(
    ("time", "took"),
    [(None, None), ("soon", None), ("", None), ("2026-01-02T03:05:05Z", 0)],
    ids=["none", "unreadable", "empty", "to come"],
)
def test_an_event_without_a_time_has_no_time_to_encrypt(time: str | None, took: int | None) -> None:
    """Without the time of the event nothing is measured; one of a clock ahead took no time."""
    guard = Guard(FakeOssTables())

    outcome = guard.one(creation_of(ARN, eventTime=time))

    assert (outcome["outcome"], outcome["time_to_encrypt_ms"]) == ("encrypted", took)


@pytest.mark.parametrize("ahead", [timedelta(hours=1), -timedelta(hours=1)], ids=str)
def test_what_is_measured_is_measured_by_the_services_clock(ahead: timedelta) -> None:
    """The event's time is the service's, too; ours may be wrong by an hour."""
    service = FakeOssTables(ahead=ahead)
    at = (service.now() - timedelta(seconds=1)).isoformat()
    guard = Guard(service)

    outcome = guard.one(creation_of(ARN, eventTime=at))

    assert (outcome["outcome"], outcome["time_to_encrypt_ms"]) == ("encrypted", 1000)


def test_drift_is_mended() -> None:
    """When a bucket's encryption was taken off it is put back on, and the reason says so."""
    guard = Guard(FakeOssTables())

    outcome = guard.one(creation_of(ARN, eventName="DeleteTableBucketEncryption"))

    assert (outcome["outcome"], outcome["reason"]) == ("encrypted", "drift")
    assert outcome["time_to_encrypt_ms"] == 1000
    assert guard.service.buckets[str(ARN)] == "AES256"


@pytest.mark.parametrize("algorithm", ["AES256", "aes256"])
def test_an_encrypted_bucket_is_left_as_it_is(algorithm: str) -> None:
    """What is encrypted already is not asked for again."""
    guard = Guard(FakeOssTables({str(ARN): algorithm}))

    outcome = guard.one(creation_of(ARN))

    assert outcome == expected(
        "already_encrypted", reason="AES256", oss_request_id="OSS-1", status=200
    )
    assert guard.service.methods() == ["GET"]


@pytest.mark.parametrize("algorithm", ["KMS", "SM4", "SSE-KMS", "oss:kms", "ROT13"])
def test_a_stronger_choice_is_kept(algorithm: str) -> None:
    """A bucket keeps what its owner chose, also where this guard does not know the word."""
    guard = Guard(FakeOssTables({str(ARN): algorithm}))

    outcome = guard.one(creation_of(ARN))

    assert outcome == expected(
        "kept_stronger", reason=algorithm, oss_request_id="OSS-1", status=200
    )
    assert guard.service.buckets[str(ARN)] == algorithm


@pytest.mark.parametrize(
    "advice",
    [
        Reply(200, b"garbage"),
        Reply(403),
        Reply(500),
        Broken(httpx.ReadError),
        Broken(httpx.ReadTimeout),
    ],
    ids=["garbage", "403", "500", "reset", "time-out"],
)
def test_when_in_doubt_the_bucket_is_encrypted(advice: Reply | Broken) -> None:
    """An answer that is not clear does not keep the guard from its work."""
    guard = Guard(FakeOssTables(troubles={"GET": repeat(advice)}))

    outcome = guard.one(creation_of(ARN))

    assert outcome["outcome"] == "encrypted"


@pytest.mark.parametrize(
    ("algorithm", "kind", "reason"),
    [
        ("AES256", "encrypted", "created"),
        ("KMS", "kept_stronger", "KMS"),
        ("ROT13", "kept_stronger", "ROT13"),
    ],
)
def test_what_shows_after_a_failed_put_is_not_put_again(
    algorithm: str, kind: str, reason: str
) -> None:
    """AES256 is what the lost PUT has done; anything else its owner has chosen since."""
    troubles: Troubles = {"GET": [Reply(200)], "PUT": [Broken(httpx.ReadError)]}
    guard = Guard(FakeOssTables({str(ARN): algorithm}, troubles=troubles))

    outcome = guard.one(creation_of(ARN))

    assert (outcome["outcome"], outcome["reason"]) == (kind, reason)
    assert (outcome["status"], outcome["oss_request_id"]) == (200, "OSS-3")
    assert guard.service.methods() == ["GET", "PUT", "GET"]


def test_detect_changes_nothing() -> None:
    """In mode `detect` the bucket is found and named, and nothing is put."""
    guard = Guard(FakeOssTables(), {"GUARD_MODE": "detect"})

    outcome = guard.one(creation_of(ARN))

    assert outcome == expected("detected", reason="would_encrypt")
    assert guard.service.methods() == ["GET"]


def test_detect_writes_dead_letters() -> None:
    """In mode `detect` an event that names nothing is kept as in `enforce`."""
    guard = Guard(FakeOssTables(), {"GUARD_MODE": "detect"})

    outcome = guard.one(creation_of(ARN, responseElements=None))

    assert outcome["outcome"] == "dead_lettered"
    assert len(guard.box.letters) == 1


MANAGED = arn_of("oss-managed-table-bucket")
SCRATCH = arn_of("scratch-1")
NAMELESS = {"arn": None, "named_by": None}
SKIPPED: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "another call": (
        creation_of(ARN, eventName="DeleteTableBucket"),
        NAMELESS | {"reason": "not_relevant"},
    ),
    "a failed call": (
        creation_of(ARN, errorCode="ForbiddenException", responseElements=None),
        NAMELESS | {"reason": "call_failed"},
    ),
    "a bucket of OSS": (
        creation_of(MANAGED),
        {"reason": "managed_by_oss", "arn": str(MANAGED)},
    ),
    "an exemption": (
        creation_of(SCRATCH),
        {"reason": "exempt: Nothing lasts there.", "arn": str(SCRATCH)},
    ),
}


@pytest.mark.parametrize(("event", "rest"), SKIPPED.values(), ids=SKIPPED)
def test_what_is_no_business_of_the_guard_is_skipped(
    event: dict[str, Any], rest: dict[str, Any]
) -> None:
    """Nothing is asked of the service, and the reason is told."""
    guard = Guard(FakeOssTables(), {"GUARD_EXEMPTIONS": EXEMPTIONS})

    outcome = guard.one(event)

    assert outcome == expected("skipped", **rest)
    assert guard.service.requests == []
    assert guard.box.letters == []


def test_an_exemption_ends_with_its_day() -> None:
    """The day after it expires, by UTC, the bucket is encrypted."""
    service = FakeOssTables({str(SCRATCH): ""})
    service.time.passed = timedelta(hours=21).total_seconds()

    outcome = Guard(service, {"GUARD_EXEMPTIONS": EXEMPTIONS}).one(creation_of(SCRATCH))

    assert outcome["outcome"] == "encrypted"


def test_a_bucket_that_went_after_its_encryption_is_gone() -> None:
    """A drift whose bucket is not found is a tear-down: no pause, no letter, no failure."""
    guard = Guard(FakeOssTables({}))

    outcome = guard.one(creation_of(ARN, eventName="DeleteTableBucketEncryption"))

    assert (guard.box.letters, guard.service.time.slept) == ([], [])
    assert outcome == expected("skipped", reason="gone", status=404, oss_request_id="OSS-2")


FOREIGN = arn_of("bucket", account_id="99999")
ELSEWHERE = arn_of("bucket", region="us-east-1")
DEAD: dict[str, tuple[object, dict[str, Any], dict[str, Any]]] = {
    "no record": ([1], {}, NAMELESS | {"reason": "invalid_event", "event_id": None}),
    "no bucket": (
        creation_of(ARN, responseElements={}),
        {},
        NAMELESS | {"reason": "invalid_event"},
    ),
    "another's bucket": (
        creation_of(FOREIGN),
        {},
        {"reason": "foreign_account", "arn": str(FOREIGN)},
    ),
    "another region's bucket": (
        creation_of(ELSEWHERE),
        {},
        {"reason": "foreign_region", "arn": str(ELSEWHERE)},
    ),
    "a refusal": (
        creation_of(ARN),
        {"keys": []},
        {
            "reason": "rejected",
            "status": 403,
            "code": "InvalidAccessKeyId",
            "oss_request_id": "OSS-2",
        },
    ),
    "no such bucket": (
        creation_of(ARN),
        {"buckets": {}},
        {
            "reason": "not_found",
            "status": 404,
            "code": "NotFoundException",
            "oss_request_id": "OSS-8",
        },
    ),
    "drift that is refused": (
        creation_of(ARN, eventName="DeleteTableBucketEncryption"),
        {"troubles": {"PUT": [Reply(400)]}},
        {"reason": "rejected", "status": 400},
    ),
}


@pytest.mark.parametrize(("event", "service", "rest"), DEAD.values(), ids=DEAD)
def test_what_no_retry_can_help_becomes_a_letter(
    event: object, service: dict[str, Any], rest: dict[str, Any]
) -> None:
    """The outcome tells the letter's reason and what the service said, and nothing is raised."""
    guard = Guard(FakeOssTables(**service))

    outcome = guard.one(event)

    assert outcome == expected("dead_lettered", **rest)
    (letter,) = guard.box.read()
    told = ("reason", "arn", "event_id", "status", "code", "oss_request_id")
    assert {key: letter[key] for key in told} == {key: outcome[key] for key in told}


def test_a_letter_counts_the_requests_of_the_put() -> None:
    """`attempts` is what was tried, and 0 where the service was not asked."""
    asked, not_asked = Guard(FakeOssTables({})), Guard(FakeOssTables())

    asked.one(creation_of(ARN))
    not_asked.one(creation_of(FOREIGN))

    assert [asked.box.read()[0]["attempts"], not_asked.box.read()[0]["attempts"]] == [4, 0]


def test_a_place_that_disagrees_with_the_service_is_told() -> None:
    """What the service answered counts, and the outcome names the place that says otherwise."""
    outcome = Guard(FakeOssTables()).one(creation_of(ARN, resourceName="another-bucket"))

    assert (outcome["outcome"], outcome["arn"]) == ("encrypted", str(ARN))
    assert (outcome["named_by"], outcome["disagrees"]) == ("responseElements", "resourceName")


@pytest.mark.parametrize(
    "event_id",
    ["e" * 10_000, "\u4e2d" * 200, '"' * 150, "\x1b" * 200],
    ids=["long", "Chinese", "quotes", "escapes"],
)
@pytest.mark.parametrize("arn", [ARN, FOREIGN], ids=["encrypted", "dead-lettered"])
def test_a_long_event_id_is_cut(event_id: str, arn: TableBucketArn) -> None:
    """What an event says of itself takes at most 200 characters of a line, escaped."""
    outcome = Guard(FakeOssTables()).one(creation_of(arn, event_id=event_id))

    assert 0 < len(json.dumps(outcome["event_id"])) <= 200


# Arrays, and what goes wrong.


def names(count: int) -> list[TableBucketArn]:
    return [arn_of(f"bucket-{number}") for number in range(1, count + 1)]


def buckets(arns: Iterable[TableBucketArn]) -> dict[str, str]:
    return {str(arn): "" for arn in arns}


def array_of(arns: Iterable[TableBucketArn]) -> bytes:
    events = [creation_of(arn, event_id=f"event-{n}") for n, arn in enumerate(arns, start=1)]
    return json.dumps(events).encode()


def test_each_event_of_an_array_has_its_own_outcome() -> None:
    """Good, foreign and unreadable events stand side by side, in their order."""
    first, second = names(2)
    guard = Guard(FakeOssTables({str(first): "", str(second): "KMS"}))
    payload = [creation_of(first), 5, creation_of(FOREIGN), creation_of(second), {}]

    processed = guard.process(json.dumps(payload).encode())

    assert [outcome.outcome for outcome in processed.outcomes] == [
        "encrypted",
        "dead_lettered",
        "dead_lettered",
        "kept_stronger",
        "dead_lettered",
    ]
    assert processed.is_array
    assert processed.failures == ()
    assert guard.reported == list(processed.outcomes)
    assert [letter["event"] for letter in guard.box.read()] == [
        "5",
        json.dumps(creation_of(FOREIGN)),
        "{}",
    ]
    processed.raise_failures()


def test_one_event_is_no_array() -> None:
    """An event that stands alone is answered alone."""
    processed = Guard(FakeOssTables()).process(creation_of(ARN))

    assert not processed.is_array
    assert len(processed.outcomes) == 1


def test_the_others_are_done_before_one_is_raised() -> None:
    """An unavailable bucket costs the rest of the array nothing, and the invocation fails."""
    arns = names(3)
    guard = Guard(FakeOssTables(buckets(arns), troubles={"PUT bucket-2": repeat(Reply(503))}))

    processed = guard.process(array_of(arns))

    assert list(guard.service.buckets.values()) == ["AES256", "", "AES256"]
    assert [outcome.event_id for outcome in processed.outcomes] == ["event-1", "event-3"]
    assert [type(result) for result in guard.reported] == [Encrypted, Unavailable, Encrypted]
    assert guard.box.letters == []
    with pytest.raises(Unavailable, match="bucket-2"):
        processed.raise_failures()


def test_several_failures_are_raised_as_one() -> None:
    """The exception counts what is unfinished and shows the first."""
    arns = names(3)
    guard = Guard(
        FakeOssTables(
            buckets(arns),
            troubles={"PUT bucket-1": repeat(Reply(503)), "PUT bucket-3": repeat(Reply(500))},
        )
    )

    processed = guard.process(array_of(arns))

    with pytest.raises(Unavailable, match=r"2 of 3 .*bucket-1") as caught:
        processed.raise_failures()
    assert caught.value.__cause__ is processed.failures[0]


def test_events_that_the_time_does_not_reach_are_unavailable() -> None:
    """When the invocation's time is used up the rest is not begun, and comes again."""
    arns = names(4)
    silence = Reply(200, takes=1e6)
    guard = Guard(
        FakeOssTables(
            buckets(arns), troubles={"GET bucket-2": [silence], "PUT bucket-2": repeat(silence)}
        ),
        seconds=2,
    )

    processed = guard.process(array_of(arns))

    assert [outcome.event_id for outcome in processed.outcomes] == ["event-1"]
    assert [type(failure) for failure in processed.failures] == [Unavailable] * 3
    assert {guard.service.resource(request) for request in guard.service.requests} == {
        "bucket-1",
        "bucket-2",
    }
    assert guard.service.time.passed < 2
    # What was not begun is told once.
    assert [type(result) for result in guard.reported] == [Encrypted, Unavailable, Unavailable]


def test_a_bug_in_one_event_does_not_cost_the_others_their_turn() -> None:
    """Even what nobody thought of is raised only when the others are done."""
    arns = names(3)
    guard = Guard(
        FakeOssTables(buckets(arns), troubles={"GET bucket-2": [Broken(ZeroDivisionError)]})
    )

    processed = guard.process(array_of(arns))

    assert [outcome.event_id for outcome in processed.outcomes] == ["event-1", "event-3"]
    assert [type(result) for result in guard.reported] == [
        Encrypted,
        ZeroDivisionError,
        Encrypted,
    ]
    with pytest.raises(ZeroDivisionError):
        processed.raise_failures()


def test_a_letter_that_is_not_written_is_a_failure() -> None:
    """The letter is in the log, the others are done, and the invocation fails."""
    guard = Guard(FakeOssTables(), box=LetterBox(room=0))
    payload = [creation_of(FOREIGN), creation_of(ARN)]

    processed = guard.process(json.dumps(payload).encode())

    assert [outcome.outcome for outcome in processed.outcomes] == ["encrypted"]
    assert guard.log.lines[0]["dead_letter"]["event"] == json.dumps(creation_of(FOREIGN))
    with pytest.raises(DeadLetterNotWritten):
        processed.raise_failures()


def test_a_letter_is_processed_like_its_event() -> None:
    """A dead letter that is sent again ends like the event in it; the next letter counts on."""
    guard = Guard(FakeOssTables())
    guard.one(creation_of(FOREIGN))
    (letter,) = guard.box.read()
    packed = base64.b64encode(letter["event"].encode()).decode()

    outcome = guard.one(letter | {"redrives": 1, "event": packed, "event_encoding": "base64"})

    assert outcome["arn"] == str(FOREIGN)
    first, second = guard.box.read()
    assert second["event"] == first["event"]
    assert (second["id"], second["redrives"]) == (first["id"], 1)
