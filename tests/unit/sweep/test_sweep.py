"""A sweep: every bucket is a finding, and what is clearly not encrypted is encrypted."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta, timezone
from itertools import repeat
from random import Random
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.dead_letters.document import dead_letter_id
from encryption_guard.enforcement.policy import CAUSES, Cause, Encrypt, decide
from encryption_guard.errors import ConfigurationError
from encryption_guard.events import BucketEvent, find_bucket
from encryption_guard.events.envelopes import Event, missed_event, open_payload
from encryption_guard.invocation import Clock
from encryption_guard.services.inventory import ListedBucket
from encryption_guard.settings import TableAudit
from encryption_guard.sweep import STEP_SECONDS, Sweep
from encryption_guard.sweep.checks import cause_of
from encryption_guard.sweep.findings import (
    ENCRYPTED_SINCE_UNKNOWN,
    Finding,
    Memory,
    Totals,
    UnencryptedPeriod,
)
from encryption_guard.sweep.table_audit import AuditedBucket
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    KEY,
    REGION,
    START,
    Broken,
    FakeOssTables,
    FakeTime,
    KeyRing,
    LetterBox,
    LogLines,
    Reply,
    Troubles,
    invocation_of,
)
from tests.unit.sweep.watching import GET, HERE, PUT, dead_letters_of, finding

HOUR = timedelta(hours=1)
NONE = Reply(200, b"{}")
AES256 = Reply(200, b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}}')
EXEMPTIONS = json.dumps(
    [
        {"bucket": "scratch-*", "reason": "Nothing lasts there.", "expires": "2026-01-02"},
        {"bucket": "old", "reason": "over", "expires": "2026-01-01"},
    ]
)


def arn_of(name: str, *, region: str = REGION, account_id: str = ACCOUNT) -> TableBucketArn:
    return TableBucketArn(region, account_id, name)


def arns(*names: str, region: str = REGION, algorithm: str = "") -> dict[str, str]:
    """Buckets of these names, all encrypted like this."""
    return {str(arn_of(name, region=region)): algorithm for name in names}


def refusal(status: int, code: str = "SomeException", **headers: str) -> Reply:
    known = {"x-oss-error-type": code, "x-oss-request-id": "OSS-9"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, b'{"message": "No."}', known | named)


def listing(*names: str, token: str | None = None, region: str = REGION) -> Reply:
    """A page that lists these buckets."""
    entries = [
        {"arn": str(arn_of(name, region=region)), "createdAt": "2026-01-02T03:04:04Z"}
        for name in names
    ]
    return Reply(200, json.dumps({"tableBuckets": entries, "continuationToken": token}).encode())


@dataclass
class Guard:
    """The guard in front of a service: `sweep` is one sweep of it, of so many seconds."""

    service: FakeOssTables
    environment: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 600.0
    apply: bool = True
    audit: TableAudit = "false"
    workers: int = 1
    box: LetterBox = field(default_factory=LetterBox)
    log: LogLines = field(default_factory=LogLines)
    memory: Memory = field(default_factory=Memory)
    expected: list[int] = field(default_factory=list)
    warned: list[str] = field(default_factory=list)
    waits_already: bool = False

    def sweep(
        self,
        *regions: str,
        seconds: float | None = None,
        stopping: Callable[[list[Finding]], bool] = lambda _: False,
        **rest: Any,
    ) -> list[Finding]:
        """The findings, in the order in which they came."""
        found: list[Finding] = []
        self._sweep(found, stopping, seconds, **rest).check_buckets(
            Scope(ACCOUNT, region) for region in regions or (REGION,)
        )
        return found

    def look_into(self, *buckets: TableBucketArn) -> list[Finding]:
        """The findings about the tables of these buckets."""
        found: list[Finding] = []
        self._sweep(found, lambda _: False, None).audit_tables(map(AuditedBucket, buckets))
        return found

    def _sweep(
        self,
        found: list[Finding],
        stopping: Callable[[list[Finding]], bool],
        seconds: float | None,
        **rest: Any,
    ) -> Sweep:
        return Sweep(
            invocation=invocation_of(
                self.service,
                environment=self.environment,
                seconds=self.seconds if seconds is None else seconds,
                **rest,
            ),
            dead_letters=self.post(),
            apply=self.apply,
            audit=self.audit,
            report=found.append,
            memory=self.memory,
            warn=self.warned.append,
            expect_more=self.expected.append,
            should_stop=lambda: stopping(found),
            workers=self.workers,
        )

    def post(self) -> DeadLetters:
        letters = dead_letters_of(self.service, self.box, self.log)
        return letters._replace(put=lambda _: False) if self.waits_already else letters

    def one(self, **rest: Any) -> Finding:
        """The one finding of a sweep."""
        (found,) = self.sweep(**rest)
        return found

    def puts(self) -> int:
        return self.service.methods().count("PUT")


def told(finding: Finding) -> tuple[str, str, str]:
    return finding.state, finding.outcome, finding.reason


def by_name(found: Iterable[Finding]) -> dict[str | None, tuple[str, str, str]]:
    return {finding.bucket: told(finding) for finding in found}


def tally(found: Iterable[Finding]) -> dict[str, int]:
    """The totals that are not zero."""
    totals = Totals.empty([HERE])
    for each in found:
        totals.count(each)
    return {name: number for name, number in totals.all.as_dict().items() if number}


DETECT = {"GUARD_MODE": "detect"}


# New, or drifted.


@pytest.mark.parametrize(
    ("age", "cause"),
    [
        (timedelta(), "created"),
        (HOUR, "created"),
        (timedelta(days=1), "created"),
        (timedelta(days=1, microseconds=1), "drift"),
        (timedelta(days=400), "drift"),
        (-HOUR, "created"),
        (None, "drift"),
    ],
    ids=["now", "an hour", "a day", "more than a day", "old", "not yet", "nobody knows"],
)
def test_a_bucket_without_encryption_is_new_or_has_drifted(
    age: timedelta | None, cause: str
) -> None:
    """As long as its event may still be on its way it is new, unless it was seen encrypted."""
    bucket = ListedBucket(ARN, None if age is None else START - age)

    assert cause_of(bucket, now=START, seen_encrypted=False) == cause
    assert cause_of(bucket, now=START, seen_encrypted=True) == "drift"


buckets = st.builds(
    ListedBucket,
    st.builds(
        TableBucketArn,
        st.from_regex(r"[a-z]{2}-[a-z0-9]{1,12}(?:-[0-9])?", fullmatch=True),
        st.from_regex(r"[0-9]{5,20}", fullmatch=True),
        st.from_regex(r"[a-z0-9][a-z0-9-]{1,61}[a-z0-9]", fullmatch=True),
    ),
    st.none()
    | st.datetimes(
        timezones=st.sampled_from(
            [timezone.utc, timezone(timedelta(hours=8)), timezone(-timedelta(hours=23, minutes=59))]
        )
    ),
)


def missed(bucket: ListedBucket, cause: Cause) -> Event:
    name = next(name for name, meant in CAUSES.items() if meant == cause)
    return missed_event(bucket.arn, name=name, time=bucket.created_at)


@given(bucket=buckets, cause=st.sampled_from(["created", "drift"]))
def test_the_missed_event_names_the_bucket(bucket: ListedBucket, cause: Any) -> None:
    """It is what the audit trail would have told: the bucket, its time and what happened."""
    delivery = missed(bucket, cause)

    event = delivery.parsed
    assert isinstance(event, BucketEvent)
    assert find_bucket(event).arn == bucket.arn
    assert event.time == bucket.created_at
    assert (delivery.redrives, event.failed) == (0, False)
    settings = invocation_of(
        FakeOssTables(), environment={"FC_ACCOUNT_ID": bucket.arn.account_id, "FC_REGION": ""}
    ).settings
    assert decide(event, settings, today=START.date()) == Encrypt(find_bucket(event), cause)


@given(bucket=buckets, cause=st.sampled_from(["created", "drift"]))
def test_the_missed_event_is_the_same_in_every_sweep(bucket: ListedBucket, cause: Any) -> None:
    """Byte by byte, so that its dead letter has the same id each time."""
    first, second = missed(bucket, cause), missed(replace(bucket), cause)

    assert first.raw == second.raw
    assert dead_letter_id(first, "rejected") == dead_letter_id(second, "rejected")
    assert open_payload(first.raw).events == (first,)


def test_each_buckets_missed_event_is_its_own() -> None:
    """Another bucket, one of the same name that was created again, and drift are other events."""
    events = [
        missed(ListedBucket(ARN, START), "created"),
        missed(ListedBucket(ARN, START), "drift"),
        missed(ListedBucket(ARN, START - HOUR), "created"),
        missed(ListedBucket(ARN, None), "created"),
        missed(ListedBucket(arn_of("other"), START), "created"),
        missed(ListedBucket(arn_of(ARN.name, region="us-east-1"), START), "created"),
    ]

    assert len({dead_letter_id(event, "rejected") for event in events}) == len(events)


# What is remembered.

IDENTITY = (ARN, "340c6672-0a1f-4426-aff9-1a8e2ac7b0f5")


@pytest.mark.parametrize(
    ("found", "is_checked"),
    [
        (finding(state="encrypted", outcome="encrypted"), True),
        (finding(state="encrypted", outcome="skipped"), True),
        (finding(state="not_encrypted", outcome="detected"), True),
        (finding(state="not_encrypted", outcome="dead_lettered"), True),
        (finding(), False),
        (finding(outcome="not_reached"), False),
    ],
)
def test_a_bucket_is_checked_when_its_check_has_ended(found: Finding, is_checked: bool) -> None:
    """A watch does not read it again; what failed it reads again at once."""
    memory = Memory()

    memory.record_checked(IDENTITY, found, at=7.0)

    assert memory.checked == ({IDENTITY} if is_checked else set())
    assert memory.is_due(IDENTITY, at=7.0)


def test_a_full_sweep_forgets_the_checks_of_what_it_reads() -> None:
    """And not those of other accounts and regions, which another call reads."""
    other = ARN._replace(account_id="2222222222222222")
    there = ARN._replace(region="cn-shanghai")
    memory = Memory(checked={(ARN, "1"), (other, "2"), (there, "3")})

    memory.forget_checks([Scope.of(ARN)])
    assert memory.checked == {(other, "2"), (there, "3")}
    memory.forget_checks([Scope(None, ARN.region)])
    assert memory.checked == {(there, "3")}


def test_a_full_sweep_is_due_when_it_is_for_one_of_the_accounts() -> None:
    """Then it counts for all of them."""
    memory = Memory()

    def is_full(*account_ids: str | None, at: float) -> bool:
        return memory.start_full_sweep(account_ids, now=at, every=300.0)

    assert is_full("1", None, at=0.0)
    assert not is_full("1", at=299.0)
    assert is_full("1", "2", at=299.0)
    assert not is_full("1", at=300.0)
    assert is_full(None, at=300.0)
    assert is_full("2", at=599.0)


def test_a_bucket_that_keeps_failing_is_checked_less_often() -> None:
    """At least once a minute, as its timer; a success ends that."""
    memory, at = Memory(), 0.0
    pauses = []
    for _ in range(7):
        memory.record_checked(IDENTITY, finding(), at=at)
        pauses.append(memory.failed[IDENTITY].at - at)
        assert not pauses[-1] or not memory.is_due(IDENTITY, at=at)
        at = memory.failed[IDENTITY].at
        assert memory.is_due(IDENTITY, at=at)

    memory.record_checked(IDENTITY, finding(outcome="encrypted"), at=at)

    assert pauses == [0, 5, 10, 20, 40, 45, 45]
    assert (memory.failed, memory.checked) == ({}, {IDENTITY})


def test_the_time_in_which_a_bucket_was_open_never_gets_shorter() -> None:
    """A clock that is corrected between two looks may say that the second one was the earlier."""
    memory, seen = Memory(), (ARN, START)

    memory.record_unencrypted(seen, START + HOUR, cause="created")
    memory.record_unencrypted(seen, START - HOUR, cause="created")

    assert memory.unencrypted_periods == {seen: (UnencryptedPeriod(None, START + HOUR),)}


# One bucket.


def test_a_new_bucket_is_encrypted_and_read_back() -> None:
    """The event that nobody told goes its way; what is believed is what is read afterwards."""
    guard = Guard(FakeOssTables())

    found = guard.one()

    assert found == Finding(
        kind="bucket",
        scope=HERE,
        state="encrypted",
        outcome="encrypted",
        reason="created",
        arn=ARN,
        created_at=START - timedelta(seconds=1),
        encryption="AES256",
        time_to_encrypt_ms=1000,
        found_by="operator",
        status=200,
        oss_request_id="OSS-4",
    )
    assert guard.service.operations() == [
        "ListTableBuckets",
        "GetTableBucketEncryption",
        "GetTableBucketEncryption",
        "PutTableBucketEncryption",
        "GetTableBucketEncryption",
    ]
    assert guard.service.buckets[str(ARN)] == "AES256"
    assert guard.box.letters == []
    assert tally([found]) == {"buckets": 1, "encrypted": 1, "newly_encrypted": 1}


@pytest.mark.parametrize(
    ("created", "reason", "milliseconds"),
    [
        ("2025-12-31T03:04:05Z", "drift", 2 * 24 * 3600 * 1000),
        (None, "drift", None),
        ("0001-01-01T00:00:00+14:00", "drift", 63_902_970_245_000),
        ("9999-12-31T23:59:59-14:00", "created", 0),
    ],
    ids=["old", "nobody knows", "the first instant", "the last instant"],
)
def test_a_bucket_is_encrypted_whenever_it_was_created(
    created: str | None, reason: str, milliseconds: int | None
) -> None:
    """One whose event must have come long ago has drifted; without a time nothing is measured."""
    found = Guard(FakeOssTables(created={str(ARN): created})).one()

    assert told(found) == ("encrypted", "encrypted", reason)
    assert found.time_to_encrypt_ms == milliseconds


def test_an_exemption_that_is_over_does_not_count() -> None:
    """The bucket is encrypted as any other."""
    guard = Guard(FakeOssTables(arns("old")), {"GUARD_EXEMPTIONS": EXEMPTIONS})

    assert told(guard.one()) == ("encrypted", "encrypted", "created")


def test_a_second_sweep_has_nothing_to_do() -> None:
    """What is encrypted is read, and that is all."""
    guard = Guard(FakeOssTables())
    guard.sweep()
    before = len(guard.service.requests)

    found = guard.one()

    assert told(found) == ("encrypted", "already_encrypted", "AES256")
    assert guard.service.operations()[before:] == ["ListTableBuckets", "GetTableBucketEncryption"]


@pytest.mark.parametrize("algorithm", ["KMS", "SM4"])
def test_a_stronger_choice_is_kept(algorithm: str) -> None:
    """Its owner's key stays."""
    guard = Guard(FakeOssTables({str(ARN): algorithm}))

    found = guard.one()

    assert told(found) == ("encrypted", "kept_stronger", algorithm)
    assert (guard.puts(), found.encryption) == (0, algorithm)


@pytest.mark.parametrize(
    ("name", "kind", "reason"),
    [
        ("scratch-1", "customer", "exempt: Nothing lasts there."),
        ("scratch-1", "oss", "managed_by_oss"),
        ("system", "oss", "managed_by_oss"),
        ("oss-managed-table-bucket", None, "managed_by_oss"),
        ("oss-managed-table-bucket", "new", "managed_by_oss"),
    ],
)
@pytest.mark.parametrize(
    ("read", "state"),
    [(NONE, "not_encrypted"), (AES256, "encrypted"), (Reply(403), "unknown")],
    ids=["none", "AES256", "unread"],
)
def test_what_is_left_alone_is_read_and_not_touched(
    read: Reply, state: str, name: str, kind: str | None, reason: str
) -> None:
    """Exempt, of type oss, or named as OSS's own where the type tells nothing: no PUT, no audit."""
    arn = str(arn_of(name))
    guard = Guard(
        FakeOssTables(
            {arn: ""},
            kinds={arn: kind},
            tables={(arn, "sales", "orders"): ""},
            troubles={"GetTableBucketEncryption": [read]},
        ),
        {"GUARD_EXEMPTIONS": EXEMPTIONS},
        audit="true",
    )

    found = guard.one()

    assert told(found) == (state, "skipped", reason)
    assert (found.exemption is not None) == reason.startswith("exempt")
    assert guard.service.operations() == ["ListTableBuckets", "GetTableBucketEncryption"]
    assert tally([found]) == {"buckets": 1, "exempt": 1}


def test_a_customers_bucket_is_encrypted_whatever_its_name() -> None:
    """What the service calls a customer's own is not OSS's, even under the name of OSS's own."""
    guard = Guard(FakeOssTables(arns("oss-managed-table-bucket")))

    found = guard.one()

    assert told(found) == ("encrypted", "encrypted", "created")
    assert guard.warned == []


@pytest.mark.parametrize(
    ("kind", "said"),
    [("new", 'with the unknown type "new"'), (None, "with no type"), (7, "with no type")],
)
def test_an_unknown_type_is_warned_of_once(kind: Any, said: str) -> None:
    """However many buckets and sweeps it concerns; each bucket is treated as its name says."""
    names = arns("aaa", "bbb", "ccc")
    guard = Guard(FakeOssTables(names, kinds=dict.fromkeys(names, kind)))

    found = [*guard.sweep(), *guard.sweep()]

    (sentence,) = guard.warned
    assert said in sentence
    assert "decides by the bucket's name" in sentence
    assert tally(found)["encrypted"] == 6


@pytest.mark.parametrize(
    ("apply", "environment"), [(False, {}), (True, DETECT)], ids=["not applying", "detect"]
)
def test_without_being_told_to_nothing_is_changed(apply: bool, environment: dict[str, str]) -> None:
    """The bucket is found, and there is no PUT."""
    guard = Guard(FakeOssTables(), environment, apply=apply)

    found = guard.one()

    assert told(found) == ("not_encrypted", "detected", "would_encrypt")
    assert set(guard.service.methods()) == {"GET"}
    assert guard.service.buckets[str(ARN)] == ""


@pytest.mark.parametrize("reads", [1, 3])
def test_what_was_encrypted_may_show_it_later(reads: int) -> None:
    """A GET may not show at once what a PUT has done."""
    service = FakeOssTables(troubles={"GetTableBucketEncryption": [NONE] * (2 + reads)})

    found = Guard(service).one()

    assert told(found) == ("encrypted", "encrypted", "created")
    assert service.time.slept == [0.5, 1.0, 2.0][:reads]


def test_what_never_shows_it_is_not_encrypted() -> None:
    """The service confirmed it, and says otherwise: somebody has to look."""
    guard = Guard(FakeOssTables(troubles={"GetTableBucketEncryption": repeat(NONE)}))

    found = guard.one()

    assert told(found) == ("not_encrypted", "failed", "not_confirmed")
    assert "confirmed the encryption" in (found.detail or "")
    assert guard.service.time.slept == [0.5, 1.0, 2.0]
    assert (guard.puts(), guard.box.letters) == (1, [])
    assert tally([found]) == {"buckets": 1, "not_encrypted": 1}
    assert not found.ok


def test_a_read_back_does_not_wait_beyond_the_end_of_the_sweep() -> None:
    """What is known by then is the finding; the next sweep reads again."""
    guard = Guard(FakeOssTables(troubles={"GetTableBucketEncryption": repeat(NONE)}))

    (found,) = guard.sweep(seconds=1.2)

    assert told(found) == ("not_encrypted", "failed", "not_confirmed")
    assert guard.service.time.slept == [0.5]


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(503),
        refusal(503, retry_after="45"),
        refusal(404),
        Reply(200, b'{"encryptionConfiguration": {"sseAlgorithm": "ROT13"}}'),
    ],
    ids=["503", "503, not before the end of its time", "gone", "unknown word"],
)
def test_what_cannot_be_read_back_is_unknown(trouble: Reply | Broken) -> None:
    """Never encrypted on the word of the PUT alone."""
    service = FakeOssTables(
        troubles={
            "GetTableBucketEncryption": iter([NONE, NONE, *[trouble] * 50]),
            "GetTableBucket": repeat(refusal(404)),
        }
    )
    guard = Guard(service)

    found = guard.one()

    assert told(found) == ("unknown", "failed", "not_confirmed")
    assert found.encryption is None
    assert "could not read it back" in (found.detail or "")
    assert (guard.puts(), guard.memory.seen_encrypted_at) == (1, {})


def test_what_is_read_back_stronger_is_told_as_that() -> None:
    """Whatever it is in the end is what counts."""
    kms = Reply(200, b'{"encryptionConfiguration": {"sseAlgorithm": "KMS"}}')
    service = FakeOssTables(troubles={"GetTableBucketEncryption": [NONE, NONE, kms]})

    found = Guard(service).one()

    assert (found.state, found.encryption) == ("encrypted", "KMS")


def test_a_refusal_is_one_dead_letter() -> None:
    """It tells the operator what to do, and the finding says that it is there."""
    guard = Guard(FakeOssTables(troubles={"PUT": repeat(refusal(403, "ForbiddenException"))}))

    found = guard.one()

    (letter,) = guard.box.read()
    assert told(found) == ("not_encrypted", "dead_lettered", "rejected")
    assert (found.status, found.code, found.oss_request_id) == (403, "ForbiddenException", "OSS-9")
    assert "403 ForbiddenException" in (found.detail or "")
    assert (letter["reason"], letter["arn"], letter["status"]) == ("rejected", str(ARN), 403)
    assert tally([found]) == {"buckets": 1, "not_encrypted": 1, "dead_lettered": 1}
    assert (found.dead_letter, "waits" in (found.detail or "")) == ("written", False)


def test_a_refusal_whose_letter_waits_already_says_so() -> None:
    """Nobody looks for a letter that this sweep did not write."""
    service = FakeOssTables(troubles={"PUT": repeat(refusal(403, "ForbiddenException"))})

    found = Guard(service, waits_already=True).one()

    assert told(found) == ("not_encrypted", "dead_lettered", "rejected")
    assert found.dead_letter == "waiting"
    assert "403 ForbiddenException" in (found.detail or "")
    assert "A dead letter about this waits in the queue already" in (found.detail or "")


@pytest.mark.parametrize(
    "trouble",
    [refusal(503), refusal(401), Broken(httpx.ReadError)],
    ids=["503", "401", "reset"],
)
def test_without_an_answer_there_is_no_letter(trouble: Reply | Broken) -> None:
    """The next sweep comes again by itself; that of the GET before is no status of the PUT."""
    guard = Guard(FakeOssTables(troubles={"PUT": repeat(trouble)}))

    found = guard.one()

    assert told(found) == ("not_encrypted", "failed", "unavailable")
    assert "PutTableBucketEncryption" in (found.detail or "")
    assert (found.status, found.code, found.oss_request_id) == (None, None, None)
    assert guard.box.letters == []


@pytest.mark.parametrize(
    ("algorithm", "puts", "outcome", "reason"),
    [
        ("AES256", 1, "encrypted", "created"),
        ("KMS", 1, "kept_stronger", "KMS"),
        ("AES256", 4, "already_encrypted", "AES256"),
        ("KMS", 4, "kept_stronger", "KMS"),
    ],
)
def test_what_is_encrypted_after_a_put_without_an_answer_is_well(
    algorithm: str, puts: int, outcome: str, reason: str
) -> None:
    """The PUT, or somebody else, did it: it is found before the repeat, or after the last try."""
    hidden = [NONE] * (1 + puts)
    service = FakeOssTables(
        {str(ARN): algorithm},
        troubles={"GetTableBucketEncryption": hidden, "PUT": repeat(Broken(httpx.ReadError))},
    )
    guard = Guard(service)

    found = guard.one()

    assert told(found) == ("encrypted", outcome, reason)
    assert (guard.puts(), found.encryption) == (puts, algorithm)


def test_a_letter_that_finds_no_room_is_in_the_log() -> None:
    """The bucket is a failed finding, and the letter is not lost."""
    guard = Guard(FakeOssTables(troubles={"PUT": [refusal(403)]}), box=LetterBox(room=0))

    found = guard.one()

    assert told(found) == ("not_encrypted", "failed", "unavailable")
    assert "letter box is full" in (found.detail or "")
    (line,) = guard.log.lines
    assert line["dead_letter"]["arn"] == str(ARN)


def test_a_bucket_that_is_gone_is_unknown() -> None:
    """Deleted between the list and the look at it: nothing is done, and nothing is written."""
    guard = Guard(FakeOssTables({}, troubles={"ListTableBuckets": [listing("aaa")]}), audit="true")

    found = guard.one()

    assert told(found) == ("unknown", "failed", "gone")
    assert (found.status, guard.puts(), guard.box.letters) == (404, 0, [])
    assert guard.service.asked_about("ListNamespaces") == []


def test_an_old_bucket_that_goes_before_the_put_is_unknown() -> None:
    """Whoever takes a bucket down may take its encryption off first."""
    service = FakeOssTables(
        created={str(ARN): "2025-01-01T00:00:00Z"}, troubles={"PUT": repeat(refusal(404))}
    )
    guard = Guard(service, audit="true")

    found = guard.one()

    assert told(found) == ("unknown", "failed", "gone")
    assert (guard.puts(), service.time.slept, guard.box.letters) == (1, [], [])
    assert guard.service.asked_about("ListNamespaces") == []


def test_a_new_bucket_that_goes_before_the_put_is_a_letter() -> None:
    """As it is for its event: it may be that it only could not be seen yet."""
    guard = Guard(FakeOssTables(troubles={"PUT": repeat(refusal(404))}))

    found = guard.one()

    assert (found.outcome, found.reason, found.status) == ("dead_lettered", "not_found", 404)
    assert [letter["reason"] for letter in guard.box.read()] == ["not_found"]


@pytest.mark.parametrize(
    ("algorithm", "outcome"), [("AES256", "already_encrypted"), ("KMS", "kept_stronger")]
)
@pytest.mark.parametrize("first", [NONE, Reply(404)], ids=["none", "404"])
def test_somebody_may_be_faster(first: Reply, algorithm: str, outcome: str) -> None:
    """What was encrypted in the meantime, or could not be seen at first, is left as it is."""
    guard = Guard(
        FakeOssTables({str(ARN): algorithm}, troubles={"GetTableBucketEncryption": [first]})
    )

    found = guard.one()

    assert told(found) == ("encrypted", outcome, algorithm)
    assert (guard.puts(), found.encryption) == (0, algorithm)
    assert ARN in {arn for arn, _ in guard.memory.seen_encrypted_at}


@pytest.mark.parametrize("trouble", [refusal(503), refusal(403), Broken(httpx.ReadError)])
def test_what_cannot_be_read_is_not_touched(trouble: Reply | Broken) -> None:
    """Unlike an event, a sweep comes again soon, and the bucket may have a stronger encryption."""
    guard = Guard(FakeOssTables(troubles={"GetTableBucketEncryption": repeat(trouble)}))

    found = guard.one()

    assert told(found) == ("unknown", "failed", "unread")
    assert "GetTableBucketEncryption" in (found.detail or "")
    assert guard.puts() == 0


def test_where_the_account_is_unknown_it_is_the_listed_buckets() -> None:
    """Whoever lists a bucket owns it: by hand nobody has to say whose it is."""
    guard = Guard(FakeOssTables(), {"FC_ACCOUNT_ID": "", "FC_REGION": ""})

    found = guard.one()

    assert told(found) == ("encrypted", "encrypted", "created")


def test_a_bucket_of_another_account_is_not_encrypted() -> None:
    """It is told as what it is: the service has refused nothing."""
    foreign = arn_of("foreign", account_id="9876543210987654")
    guard = Guard(FakeOssTables({str(foreign): ""}))

    found = guard.one()

    assert told(found) == ("not_encrypted", "dead_lettered", "foreign_account")
    assert guard.puts() == 0
    assert "None" not in (found.detail or "")
    assert "OSS Tables refused" not in (found.detail or "")


def test_one_buckets_trouble_is_its_own() -> None:
    """The others are encrypted all the same."""
    guard = Guard(
        FakeOssTables(
            arns("aaa", "bbb", "ccc", "ddd", "eee"),
            troubles={
                "PutTableBucketEncryption bbb": repeat(refusal(403)),
                "GetTableBucketEncryption ccc": repeat(refusal(403)),
                "PutTableBucketEncryption ddd": repeat(refusal(500)),
            },
        )
    )

    found = guard.sweep()

    assert by_name(found) == {
        "aaa": ("encrypted", "encrypted", "created"),
        "bbb": ("not_encrypted", "dead_lettered", "rejected"),
        "ccc": ("unknown", "failed", "unread"),
        "ddd": ("not_encrypted", "failed", "unavailable"),
        "eee": ("encrypted", "encrypted", "created"),
    }


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("page_size", [1, 3, 100])
def test_every_bucket_is_found_once(page_size: int, workers: int) -> None:
    """However many pages, regions and threads there are."""
    names = [f"bucket-{number}" for number in range(10)]
    regions = (REGION, "us-east-1", "eu-central-1")
    all_of_them = {k: v for region in regions[:2] for k, v in arns(*names, region=region).items()}
    guard = Guard(FakeOssTables(all_of_them, page_size=page_size), workers=workers)

    found = guard.sweep(*regions)

    assert sorted(str(finding.arn) for finding in found) == sorted(all_of_them)
    assert set(guard.service.buckets.values()) == {"AES256"}
    assert tally(found) == {"buckets": 20, "encrypted": 20, "newly_encrypted": 20}
    assert sum(guard.expected) == 20


def test_a_bucket_that_is_listed_twice_is_swept_once() -> None:
    """A list may change between its pages, but what is found is one finding for each bucket."""
    pages = [listing("aaa", "bbb", token="t"), listing("bbb", "ccc")]
    guard = Guard(FakeOssTables(arns("aaa", "bbb", "ccc"), troubles={"ListTableBuckets": pages}))

    found = guard.sweep()

    assert [finding.bucket for finding in found] == ["aaa", "bbb", "ccc"]


# The lists.

FAILED_LISTS = {
    "refused": repeat(refusal(403, "AccessDenied")),
    "unreachable": repeat(Broken(httpx.ConnectError)),
}


@pytest.mark.parametrize("answers", FAILED_LISTS.values(), ids=FAILED_LISTS)
def test_one_regions_trouble_is_its_own(answers: Iterable[Reply | Broken]) -> None:
    """It is a finding about the region, and the other regions are swept."""
    guard = Guard(
        FakeOssTables(
            arns("aaa") | arns("bbb", region="us-east-1"),
            troubles={"ListTableBuckets us-east-1": iter(answers)},
        )
    )

    found = guard.sweep("us-east-1", REGION)

    (failed,) = [finding for finding in found if finding.kind == "region"]
    assert (failed.region, *told(failed)) == ("us-east-1", "unknown", "failed", "not_listed")
    assert "ListTableBuckets of us-east-1" in (failed.detail or "")
    assert (failed.arn, failed.bucket) == (None, None)
    assert [finding.bucket for finding in found if finding.kind == "bucket"] == ["aaa"]
    assert tally(found) == {"buckets": 1, "encrypted": 1, "newly_encrypted": 1, "not_listed": 1}


def test_a_missing_right_to_list_is_named() -> None:
    """With what the service said."""
    troubles = {"ListTableBuckets": [refusal(403, "AccessDenied")]}

    found = Guard(FakeOssTables(troubles=troubles)).one()

    assert (found.detail or "").endswith("grant oss:ListTableBuckets.")
    assert (found.status, found.code, found.oss_request_id) == (403, "AccessDenied", "OSS-9")


@pytest.mark.parametrize(("region", "is_asked"), [("cn-hangzou", True), (REGION, False)])
def test_a_region_that_nobody_documents_is_doubted(region: str, is_asked: bool) -> None:
    """A typing error is a region that does not answer."""
    troubles = {"ListTableBuckets": repeat(Broken(httpx.ConnectError))}

    (found,) = Guard(FakeOssTables(troubles=troubles)).sweep(region)

    assert ("Check the region:" in (found.detail or "")) == is_asked


@pytest.mark.parametrize(
    ("answers", "why"),
    [
        (FAILED_LISTS["refused"], "403 AccessDenied"),
        (FAILED_LISTS["unreachable"], "no answer"),
        ([listing(token="t")], "there may be more"),
    ],
    ids=["refused", "unreachable", "leading back to itself"],
)
def test_what_was_listed_before_the_list_failed_is_swept(
    answers: Iterable[Reply | Broken], why: str
) -> None:
    """The second page's failure takes nothing from the first."""
    pages = [listing("aaa", "bbb", token="t")]
    troubles = {"ListTableBuckets": (reply for part in (pages, answers) for reply in part)}
    guard = Guard(FakeOssTables(arns("aaa", "bbb", "ccc"), troubles=troubles))

    found = guard.sweep()

    assert tally(found) == {"buckets": 2, "encrypted": 2, "newly_encrypted": 2, "not_listed": 1}
    assert why in next(each.detail or "" for each in found if each.kind == "region")
    assert guard.service.buckets[str(arn_of("ccc"))] == ""


def test_an_entry_that_is_none_is_told_and_passed_over() -> None:
    """The other entries of the page are swept."""
    page = json.loads(listing("aaa", "bbb").body)
    page["tableBuckets"][1:1] = [{"arn": "acs:oss:evil"}, None]
    reply = Reply(200, json.dumps(page).encode())
    guard = Guard(FakeOssTables(arns("aaa", "bbb"), troubles={"ListTableBuckets": [reply]}))

    found = guard.sweep()

    unreadable = [finding for finding in found if finding.kind == "region"]
    assert [told(finding) for finding in unreadable] == [("unknown", "failed", "unreadable")] * 2
    assert '"acs:oss:evil"' in (unreadable[0].detail or "")
    assert [finding.bucket for finding in found if finding.kind == "bucket"] == ["aaa", "bbb"]
    assert guard.expected == [4]


def test_a_bucket_of_another_region_is_not_touched() -> None:
    """A list tells of its own region; what else is in it is not believed."""
    reply = listing("elsewhere", region="us-east-1")
    guard = Guard(
        FakeOssTables(arns("elsewhere", region="us-east-1"), troubles={"ListTableBuckets": [reply]})
    )

    found = guard.one()

    assert (found.kind, *told(found)) == ("region", "unknown", "failed", "unreadable")
    assert guard.service.operations() == ["ListTableBuckets"]


def test_a_region_that_is_named_twice_is_listed_once() -> None:
    """What was asked for is what is swept."""
    guard = Guard(FakeOssTables())

    found = guard.sweep(REGION, REGION)

    assert [finding.bucket for finding in found] == [ARN.name]
    assert guard.service.asked_about("ListTableBuckets") == [REGION]


# The time there is.

NAMES = [f"bucket-{number}" for number in range(6)]


TAKES = 0.25


def time_for(requests: int) -> float:
    """Seconds that are over after so many answers of a slow service."""
    return requests * TAKES + 0.4


def slow(**rest: Any) -> FakeOssTables:
    """Six buckets in a region that takes its time to answer."""
    return FakeOssTables(arns(*NAMES, algorithm="AES256"), takes=TAKES, time=FakeTime(), **rest)


def test_when_the_time_is_over_the_rest_is_not_reached() -> None:
    """Each bucket that waits is a finding of which nothing is known."""
    guard = Guard(slow())

    found = guard.sweep(seconds=time_for(4))

    late = [finding for finding in found if finding.outcome == "not_reached"]
    assert [finding.bucket for finding in found] == NAMES
    assert [finding.bucket for finding in late] == NAMES[3:]
    assert {told(finding) for finding in late} == {("unknown", "not_reached", "time_over")}
    assert tally(found) == {"buckets": 6, "encrypted": 3, "unknown": 3, "not_reached": 3}


def test_the_rest_of_a_list_that_was_not_reached_is_told() -> None:
    """It is a finding about the region: there may be more than was counted."""
    guard = Guard(slow(page_size=2))

    found = guard.sweep(seconds=time_for(1))

    assert by_name(found) == {
        None: ("unknown", "not_reached", "time_over"),
        "bucket-0": ("unknown", "not_reached", "time_over"),
        "bucket-1": ("unknown", "not_reached", "time_over"),
    }
    assert tally(found) == {"buckets": 2, "unknown": 2, "not_reached": 3, "not_listed": 1}


@dataclass
class Dice(FakeTime):
    """Time whose chance is drawn, from a seed."""

    random: Random = field(default_factory=lambda: Random(1))

    def as_clock(self) -> Clock:
        return super().as_clock()._replace(chance=self.random.random)


def test_each_sweep_takes_another_order() -> None:
    """Of the buckets on a page: what one does not reach, the next one may."""
    names = [f"bucket-{number}" for number in range(10)]
    guard = Guard(FakeOssTables(arns(*names, algorithm="AES256"), time=Dice()))

    orders = [[finding.bucket for finding in guard.sweep()] for _ in range(3)]

    assert all(sorted(map(str, order)) == names for order in orders)
    assert len({tuple(order) for order in orders}) == 3


def test_each_sweep_begins_with_other_regions() -> None:
    """Of more regions than are swept at a time, none is always the last."""
    names = [f"cn-region{number:03}" for number in range(200)]
    guard = Guard(FakeOssTables({}, time=Dice()))

    for _ in range(2):
        guard.sweep(*names)

    listed = guard.service.asked_about("ListTableBuckets")
    assert sorted(listed[:200]) == sorted(listed[200:]) == names
    # Without chance these would be the first hundred names in both.
    assert len(set(listed[:100]) & set(listed[200:300])) < 80


@pytest.mark.parametrize(
    ("scopes", "threads"),
    [
        ([Scope("11111", REGION), Scope("22222", REGION)], 1),
        ([Scope("11111", REGION), Scope("11111", "us-east-1")], 2),
    ],
    ids=["one region", "two regions"],
)
def test_the_accounts_of_a_region_share_its_threads(scopes: list[Scope], threads: int) -> None:
    """The limit is the region's, so that many accounts do not make it throttle."""
    guard = Guard(FakeOssTables(arns("aaa", "bbb")))
    at_work: set[int] = set()

    def stopping(_: list[Finding]) -> bool:
        at_work.add(threading.get_ident())
        return False

    guard._sweep([], stopping, None).check_buckets(scopes)

    regions = sorted(guard.service.asked_about("ListTableBuckets"))
    assert regions == sorted(place.region for place in scopes)
    assert len(at_work) == threads


def test_a_sweep_that_is_stopping_begins_nothing_more() -> None:
    """What is under way comes to its end, and the rest is told as not reached."""
    guard = Guard(FakeOssTables(arns(*NAMES)))

    found = guard.sweep(stopping=lambda _: guard.puts() >= 2)

    assert [finding.outcome for finding in found] == ["encrypted"] * 2 + ["not_reached"] * 4


def test_one_bucket_cannot_use_up_the_time_of_a_sweep() -> None:
    """A service that is silent about one leaves time for the others."""
    guard = Guard(
        FakeOssTables(
            arns("aaa", "bbb", algorithm="AES256"),
            troubles={"GetTableBucketEncryption aaa": repeat(Reply(200, takes=1e6))},
        ),
        {"GUARD_HTTP_TIMEOUT_SECONDS": "60", "GUARD_MAX_ATTEMPTS": "20"},
    )

    found = guard.sweep(seconds=100)

    assert by_name(found)["bbb"] == ("encrypted", "already_encrypted", "AES256")
    assert guard.service.time.passed <= STEP_SECONDS


# What goes wrong in the guard itself.


def test_credentials_that_go_missing_are_raised_at_the_end() -> None:
    """Each bucket is a failed finding, and whoever called hears why."""
    ring = KeyRing()

    def read() -> Any:
        if ring.readings:
            raise ConfigurationError("The credentials are not set.")
        return ring.read()

    guard = Guard(FakeOssTables(arns("aaa", "bbb")))
    found: list[Finding] = []

    with pytest.raises(ConfigurationError, match="not set"):
        guard._sweep(found, lambda _: False, None, read_credentials=read).check_buckets(
            [Scope(ACCOUNT, REGION)]
        )

    assert by_name(found) == {
        "aaa": ("unknown", "failed", "error"),
        "bbb": ("unknown", "failed", "error"),
    }
    assert KEY.access_key_secret not in str(found)


# Tables.

ORDERS = (str(ARN), "sales", "orders")
WHOLE = {
    ORDERS: "AES256",
    (str(ARN), "sales", "refunds"): "",
    (str(ARN), "stock", "items"): "KMS",
}
# Encrypted before the sweep: then a table is what it shows.
CLOSED = {str(ARN): "AES256"}


def tables_of(found: Iterable[Finding]) -> dict[tuple[str | None, str | None], tuple[str, ...]]:
    return {(f.namespace, f.table): told(f) for f in found if f.kind == "table"}


@pytest.mark.parametrize("page_size", [1, 100])
def test_an_audit_looks_at_every_table(page_size: int) -> None:
    """Its encryption can only be told, never changed."""
    guard = Guard(FakeOssTables(CLOSED, tables=WHOLE, page_size=page_size), audit="true")

    found = guard.sweep()

    assert found[0].kind == "bucket"
    assert tables_of(found) == {
        ("sales", "orders"): ("encrypted", "already_encrypted", "AES256"),
        ("sales", "refunds"): ("not_encrypted", "unprotected", "created_unencrypted"),
        ("stock", "items"): ("encrypted", "kept_stronger", "KMS"),
    }
    assert tally(found) == {"buckets": 1, "encrypted": 1, "tables": 3, "unprotected_tables": 1}
    assert sum(guard.expected) == 1 + 3
    assert guard.puts() == 0


@pytest.mark.parametrize(
    ("service", "apply"),
    [
        ({}, True),
        ({}, False),
        ({"troubles": {"PUT": repeat(refusal(403))}}, True),
        ({"buckets": CLOSED, "troubles": {"GetTableBucketEncryption": [NONE]}}, True),
        (
            {
                "buckets": CLOSED,
                "troubles": {
                    "GetTableBucketEncryption": [NONE] * 5,
                    "PUT": repeat(Broken(httpx.ReadError)),
                },
            },
            True,
        ),
    ],
    ids=["encrypted now", "plan", "refused", "somebody was faster", "answer lost"],
)
def test_tables_from_before_the_encryption_are_unprotected(
    service: dict[str, Any], apply: bool
) -> None:
    """Whatever a table shows that was made while its bucket was open, its files may be plain."""
    later = (str(ARN), "sales", "later")
    guard = Guard(
        FakeOssTables(
            tables=WHOLE | {later: "AES256"}, created={later: "2026-01-02T04:00:00Z"}, **service
        ),
        apply=apply,
        audit="true",
    )

    found = guard.sweep()

    made_before = ("unprotected", "made_before")
    assert tables_of(found) == {
        ("sales", "orders"): ("unknown", *made_before),
        ("sales", "refunds"): ("not_encrypted", *made_before),
        ("stock", "items"): ("unknown", *made_before),
        ("sales", "later"): ("encrypted", "already_encrypted", "AES256"),
    }
    assert tally(found)["unprotected_tables"] == 3
    assert "unknown_tables" not in tally(found)


def test_a_table_that_is_made_while_a_put_waits_is_from_before() -> None:
    """Until the answer to the PUT was lost the bucket may have been open."""
    troubles: Troubles = {
        "GetTableBucketEncryption": [NONE] * 5,
        "PUT": [refusal(503, retry_after="20"), *[Broken(httpx.ReadError)] * 9],
    }
    service = FakeOssTables(
        CLOSED,
        tables={ORDERS: "AES256"},
        created={ORDERS: "2026-01-02T03:04:15Z"},
        troubles=troubles,
    )

    bucket, table = Guard(service, audit="true").sweep()

    assert (bucket.outcome, table.reason) == ("already_encrypted", "made_before")


def test_a_table_from_before_stays_one_in_the_next_sweep() -> None:
    """What was open in one sweep is not forgotten by the instance."""
    guard = Guard(FakeOssTables(tables={ORDERS: "AES256"}), audit="true")
    guard.sweep()

    bucket, table = guard.sweep()

    assert (bucket.outcome, bucket.detail) == ("already_encrypted", None)
    assert (table.outcome, table.reason) == ("unprotected", "made_before")


@pytest.mark.parametrize("ahead", [-timedelta(hours=1), timedelta(0), timedelta(hours=1)], ids=str)
def test_a_bucket_that_was_open_twice_tells_which_tables_are_from_then(ahead: timedelta) -> None:
    """By the service's clock, whose own times those of the tables are, whatever ours says."""
    service = FakeOssTables(ahead=ahead)
    guard = Guard(service, audit="true")
    made = {}

    def make(name: str) -> None:
        key = (str(ARN), "sales", name)
        service.tables[key] = "AES256"
        service.created[key] = made[name] = service.now().isoformat(timespec="seconds")
        service.time.sleep(60)

    for name, encryption in (("first", ""), ("good", "AES256"), ("again", "")):
        if encryption:
            make(name)
            guard.sweep()
        else:
            service.buckets[str(ARN)] = ""
            make(name)
            guard.sweep()
            service.time.sleep(60)
    make("last")

    found = {each.table: each.reason for each in guard.sweep() if each.table}

    assert found == {
        **dict.fromkeys(("first", "again"), "made_before"),
        **dict.fromkeys(("good", "last"), "AES256"),
    }


@pytest.mark.parametrize("algorithm", ["AES256", "KMS"])
def test_a_bucket_that_was_encrypted_before_has_a_note(algorithm: str) -> None:
    """Nobody knows since when, and so what its older tables are; the sweep is well all the same."""
    guard = Guard(
        FakeOssTables({str(ARN): algorithm}, tables={ORDERS: algorithm}),
        audit="true",
    )

    bucket, table = guard.sweep()

    assert (bucket.detail, table.detail) == (ENCRYPTED_SINCE_UNKNOWN, None)
    assert (bucket.ok, table.ok) == (True, True)
    assert tally([bucket, table]) == {"buckets": 1, "encrypted": 1, "tables": 1}


def test_only_an_audit_of_what_was_encrypted_before_has_the_note() -> None:
    """Without an audit nobody asks, and of what was open until now it is known."""
    found = [Guard(FakeOssTables(CLOSED)).one(), Guard(FakeOssTables(), audit="true").one()]

    assert [finding.detail for finding in found] == [None, None]


def test_buckets_come_before_tables() -> None:
    """What can be changed is not held up by what can only be told."""
    tables = {(arn, "sales", "orders"): "" for arn in arns("aaa", "bbb", "ccc")}
    guard = Guard(FakeOssTables(arns("aaa", "bbb", "ccc"), tables=tables), audit="true")

    found = guard.sweep()

    assert [finding.kind for finding in found] == ["bucket"] * 3 + ["table"] * 3


def test_a_table_that_cannot_be_read_is_unknown() -> None:
    """With the missing right; the other tables are read."""
    troubles = {"GetTableEncryption": [refusal(403)]}
    guard = Guard(FakeOssTables(CLOSED, tables=WHOLE, troubles=troubles), audit="true")

    found = guard.sweep()

    assert tables_of(found)["sales", "orders"] == ("unknown", "failed", "unread")
    (unread,) = [finding for finding in found if finding.state == "unknown"]
    assert "grant oss:GetTableEncryption." in (unread.detail or "")
    assert len(tables_of(found)) == 3


@pytest.mark.parametrize(
    ("status", "operation", "namespace"),
    [(403, "ListNamespaces", None), (503, "ListTables", "sales")],
)
def test_tables_that_cannot_be_listed_are_told(
    status: int, operation: str, namespace: str | None
) -> None:
    """As a finding about the bucket or the namespace, and there may be more than was counted."""
    guard = Guard(
        FakeOssTables(tables={ORDERS: ""}, troubles={operation: repeat(refusal(status))}),
        audit="true",
    )

    _, failed = guard.sweep()

    assert (failed.kind, failed.namespace, failed.table) == ("table", namespace, None)
    assert (failed.arn, *told(failed)) == (ARN, "unknown", "failed", "not_listed")
    assert operation in (failed.detail or "")
    assert (f"grant oss:{operation}." in (failed.detail or "")) == (status == 403)
    assert tally([failed]) == {"not_listed": 1}


def test_a_namespace_that_is_none_is_told() -> None:
    """The others are looked into."""
    page = {"namespaces": [{"namespace": [".."]}, {"namespace": ["sales"]}]}
    reply = Reply(200, json.dumps(page).encode())
    guard = Guard(
        FakeOssTables(CLOSED, tables={ORDERS: "AES256"}, troubles={"ListNamespaces": [reply]}),
        audit="true",
    )

    found = guard.sweep()

    assert tables_of(found) == {
        (None, None): ("unknown", "failed", "unreadable"),
        ("sales", "orders"): ("encrypted", "already_encrypted", "AES256"),
    }


def test_a_bucket_that_cannot_be_read_is_looked_into_all_the_same() -> None:
    """What is in it may be readable."""
    troubles = {"GetTableBucketEncryption": repeat(refusal(403))}
    guard = Guard(FakeOssTables(tables={ORDERS: "AES256"}, troubles=troubles), audit="true")

    found = guard.sweep()

    assert tables_of(found) == {("sales", "orders"): ("encrypted", "already_encrypted", "AES256")}


def test_the_tables_of_one_bucket_can_be_looked_at_alone() -> None:
    """Without listing the region or touching the bucket."""
    guard = Guard(FakeOssTables(tables=WHOLE), apply=False, audit="true")

    found = guard.look_into(ARN)

    assert len(tables_of(found)) == 3
    assert set(guard.service.operations()) == {
        "ListNamespaces",
        "ListTables",
        "GetTableEncryption",
    }


# Being asked to wait.

WAIT = refusal(429, retry_after="25")


@pytest.mark.parametrize("operation", ["ListTableBuckets", "GetTableBucketEncryption", "PUT"])
def test_what_has_to_wait_waits_once(operation: str) -> None:
    """It asks again when the service said, not before, and the bucket is encrypted."""
    guard = Guard(FakeOssTables(troubles={operation: [WAIT]}))

    found = guard.one()

    assert (found.state, found.outcome) == ("encrypted", "encrypted")
    assert sum(guard.service.time.slept) == pytest.approx(25, abs=1)
    # Before a PUT is repeated the encryption is read.
    assert len(guard.service.requests) == 5 + 1 + (operation == "PUT")


def test_buckets_wait_for_their_region() -> None:
    """One bucket is asked to wait for longer than its own time: it is unknown, the others wait.

    Those of another region do not.
    """
    service = FakeOssTables(
        arns("aaa", "bbb", "ccc", algorithm="AES256")
        | arns("ddd", region="us-east-1", algorithm="AES256"),
        troubles={"GetTableBucketEncryption aaa": [refusal(503, retry_after="80")]},
    )

    found = Guard(service).sweep(REGION, "us-east-1")

    assert by_name(found) == {
        "aaa": ("unknown", "failed", "unread"),
        "bbb": ("encrypted", "already_encrypted", "AES256"),
        "ccc": ("encrypted", "already_encrypted", "AES256"),
        "ddd": ("encrypted", "already_encrypted", "AES256"),
    }
    assert sum(service.time.slept) == pytest.approx(80, abs=0.1)
    assert len(service.requests) == 6


def test_a_region_that_waits_stops_when_it_is_asked_to() -> None:
    """Whoever presses Ctrl-C does not wait for what the region waits for."""
    service = FakeOssTables(
        arns("aaa", "bbb", algorithm="AES256"),
        troubles={"GetTableBucketEncryption aaa": [refusal(503, retry_after="80")]},
    )

    found = Guard(service).sweep(stopping=lambda _: service.time.passed > 10)

    assert by_name(found)["bbb"] == ("unknown", "not_reached", "time_over")
    assert service.time.passed < 11


@pytest.mark.parametrize(
    ("operation", "state", "reason"),
    [
        ("ListTableBuckets", "unknown", "not_listed"),
        ("GetTableBucket", "unknown", "unread"),
        ("PUT", "unknown", "unavailable"),
    ],
)
def test_what_always_has_to_wait_is_unknown(operation: str, state: str, reason: str) -> None:
    """When its time is over it is a finding, of which no more is said than is known."""
    first = {"GetTableBucketEncryption": [Reply(404)]} if operation == "GetTableBucket" else {}
    service = FakeOssTables(troubles=first | {operation: repeat(WAIT)})

    found = Guard(service).one()

    assert told(found) == (state, "failed", reason)
    assert "429" in (found.detail or "") or "asks to wait" in (found.detail or "")
    assert service.operations().count("PutTableBucketEncryption") == 2 * (operation == "PUT")


def test_a_stronger_choice_made_during_a_pause_is_kept() -> None:
    """What was read before a long pause counts no more after it."""
    service = FakeOssTables(
        troubles={"GetTableBucketEncryption": [NONE, refusal(503, retry_after="5")]}
    )
    guard = Guard(service)
    service.buckets[str(ARN)] = "KMS"

    found = guard.one()

    assert told(found) == ("encrypted", "kept_stronger", "KMS")
    assert guard.puts() == 0


def test_a_read_that_would_have_to_wait_does_not_stop_the_repeat_of_a_put() -> None:
    """It has two seconds; the PUT waits for as long as the service asks, and is repeated."""
    service = FakeOssTables(
        troubles={
            "GetTableBucketEncryption": [NONE, NONE, refusal(503, retry_after="5")],
            "PUT": [refusal(500)],
        }
    )
    found = Guard(service).one()

    assert told(found) == ("encrypted", "encrypted", "created")
    # Before its PUT, its repeat, and after it.
    assert service.operations()[2:] == [*[GET, PUT] * 2, GET]
    assert sum(service.time.slept) == pytest.approx(5, abs=1)


def test_a_list_does_not_wait_for_a_day() -> None:
    """The region is told as not listed, however much time there is."""
    service = FakeOssTables(troubles={"ListTableBuckets": [refusal(429, retry_after="86400")]})

    found = Guard(service, seconds=math.inf).one()

    assert told(found) == ("unknown", "failed", "not_listed")
    assert "429" in (found.detail or "")
    assert sum(service.time.slept) == 0


@pytest.mark.parametrize(
    ("seconds", "asked"), [(math.inf, 86400), (math.inf, 301), (120, 121)], ids=str
)
def test_a_region_that_asks_to_wait_too_long_is_not_reached(seconds: float, asked: int) -> None:
    """Longer than five minutes, or than there is time: the rest of it is counted, with the reason.

    Other regions are swept.
    """
    service = FakeOssTables(
        arns("aaa", "bbb", "ccc", algorithm="AES256")
        | arns("ddd", region="us-east-1", algorithm="AES256"),
        troubles={"GetTableBucketEncryption aaa": [refusal(503, retry_after=str(asked))]},
    )

    found = Guard(service, seconds=seconds).sweep(REGION, "us-east-1")

    assert by_name(found) == {
        "aaa": ("unknown", "failed", "unread"),
        "bbb": ("unknown", "not_reached", "throttled"),
        "ccc": ("unknown", "not_reached", "throttled"),
        "ddd": ("encrypted", "already_encrypted", "AES256"),
    }
    assert f"asks to wait {asked} s" in next(f.detail or "" for f in found if f.bucket == "bbb")
    assert tally(found)["not_reached"] == 2
    assert sum(service.time.slept) == 0
