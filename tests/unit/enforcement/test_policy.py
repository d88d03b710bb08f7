"""Which events act, in the order of the contract."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.arn import TableBucketArn
from encryption_guard.enforcement.policy import (
    Access,
    AskDirectory,
    Cause,
    Choice,
    Deny,
    Encrypt,
    FoundBucket,
    Skip,
    access_to,
    acts_on,
    choice_of,
    decide,
    expiring,
    is_swept,
)
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import NamedBucket
from encryption_guard.events.envelopes import Event, open_payload
from encryption_guard.services.oss_tables import Reading
from encryption_guard.settings import Exemption, Settings
from tests.unit.fakes import creation_of

OWN = "1234567890123456"
OTHER = "9876543210987654"
TODAY = date(2026, 11, 22)


def arn_of(name: str, account_id: str = OWN) -> str:
    return f"acs:osstables:cn-hangzhou:{account_id}:bucket/{name}"


def bucket_of(name: str, account_id: str = OWN) -> NamedBucket:
    return NamedBucket(TableBucketArn("cn-hangzhou", account_id, name), "responseElements")


def settings_with(**variables: str) -> Settings:
    """The settings of a function in the account OWN, but for what is given."""
    return Settings.from_environment({"FC_ACCOUNT_ID": OWN, "FC_REGION": "cn-hangzhou"} | variables)


def exempting(*entries: dict[str, str]) -> Settings:
    return settings_with(GUARD_EXEMPTIONS=json.dumps(entries))


def exemption(bucket: str, reason: str, expires: str | None = None) -> Exemption:
    return Exemption.read({"bucket": bucket, "reason": reason, "expires": expires})


def exempt(name: str, by: Exemption) -> Skip:
    """What is decided about a bucket that an exemption covers."""
    return Skip(f"exempt: {by.reason}", bucket_of(name), by)


def record(name: str = "analytics", account_id: str = OWN, **fields: Any) -> dict[str, Any]:
    """A record of a bucket's creation, but for what is given; None takes a field out."""
    fields = {
        "eventName": "CreateTableBucket",
        "responseElements": {"arn": arn_of(name, account_id)},
    } | fields
    return {key: value for key, value in fields.items() if value is not None}


def decided(
    data: object, settings: Settings, *, today: date = TODAY
) -> Encrypt | Skip | Deny | AskDirectory:
    """What is decided about the CloudEvent of a record; raises what makes it invalid."""
    (delivery,) = open_payload(json.dumps({"id": "1", "data": data}).encode()).events
    if isinstance(delivery.parsed, InvalidEvent):
        raise delivery.parsed
    return decide(delivery.parsed, settings, today=today)


@pytest.mark.parametrize(
    ("event_name", "cause"),
    [("CreateTableBucket", "created"), ("DeleteTableBucketEncryption", "drift")],
)
def test_a_creation_and_a_drift_are_encrypted(event_name: str, cause: Any) -> None:
    """A created bucket, and one whose encryption was taken off, has to be encrypted."""
    decision = decided(record(eventName=event_name), settings_with())

    assert decision == Encrypt(bucket_of("analytics"), cause)


@pytest.mark.parametrize(
    "event_name",
    [
        "PutTableBucketEncryption",
        "DeleteTableBucket",
        "PutBucket",
        "createtablebucket",
        "CreateTableBucket ",
        "CreateTableBuckets",
    ],
)
def test_any_other_event_is_not_relevant(event_name: str) -> None:
    """Only the two names act, spelled exactly as the service spells them."""
    decision = decided(record(eventName=event_name), settings_with())

    assert decision == Skip("not_relevant")


@pytest.mark.parametrize("event_name", ["CreateTableBucket", "DeleteTableBucketEncryption"])
def test_a_failed_call_is_skipped(event_name: str) -> None:
    """Nothing was created where the service answered with an error."""
    failed = record(eventName=event_name, errorCode="ForbiddenException", responseElements=None)

    assert decided(failed, settings_with()) == Skip("call_failed")


def test_an_event_of_another_kind_is_not_relevant() -> None:
    """It needs no eventName where its type says that it is not the audit trail's."""
    event = {"id": "1", "type": "cms:Alert:Fired", "data": {"alertName": "cpu"}}
    (delivery,) = open_payload(json.dumps(event).encode()).events
    assert not isinstance(delivery.parsed, InvalidEvent)

    assert decide(delivery.parsed, settings_with(), today=TODAY) == Skip("not_relevant")


def test_relevance_comes_before_failure() -> None:
    """A failed call of another kind is not relevant."""
    decision = decided(record(eventName="DeleteTable", errorCode="E"), settings_with())

    assert decision == Skip("not_relevant")


@pytest.mark.parametrize(
    "response",
    [
        pytest.param(None, id="names nothing"),
        pytest.param({"arn": arn_of("evil.com#")}, id="names no valid ARN"),
    ],
)
@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"eventName": "DeleteTable"}, "not_relevant", id="not relevant"),
        pytest.param({"errorCode": "E"}, "call_failed", id="failed"),
    ],
)
def test_what_does_not_matter_need_not_name_a_bucket(
    fields: dict[str, str], reason: str, response: object
) -> None:
    """Relevance and failure are judged before anybody looks for a bucket."""
    decision = decided(record(responseElements=response, **fields), settings_with())

    assert decision == Skip(reason)


@pytest.mark.parametrize("event_name", ["CreateTableBucket", "DeleteTableBucketEncryption"])
def test_what_matters_has_to_name_a_bucket(event_name: str) -> None:
    """An event that would act, but names nothing, is invalid."""
    with pytest.raises(InvalidEvent):
        decided(record(eventName=event_name, responseElements=None), settings_with())


def test_a_foreign_account_is_denied() -> None:
    """A bucket of an account that is neither the function's own nor allowed is not touched."""
    decision = decided(record(account_id=OTHER), settings_with())

    assert decision == Deny(bucket_of("analytics", OTHER), "account")


@pytest.mark.parametrize("account_id", [OWN, OTHER, "55555"])
def test_an_allowed_account_counts_like_the_own(account_id: str) -> None:
    """GUARD_ALLOWED_ACCOUNTS stand beside the function's own account."""
    settings = settings_with(GUARD_ALLOWED_ACCOUNTS=f"{OTHER},55555")

    decision = decided(record(account_id=account_id), settings)

    assert decision == Encrypt(bucket_of("analytics", account_id), "created")


@pytest.mark.parametrize(
    ("sender", "owner", "is_denied"),
    [(OTHER, OTHER, False), (OTHER, OWN, True), (OWN, OTHER, True), (OWN, OWN, False)],
)
def test_an_account_forwards_events_of_its_own_buckets_only(
    sender: str, owner: str, is_denied: bool
) -> None:
    """Who may put events on a bus of ours may not speak for another account."""
    event = {"id": "1", "aliyunoriginalaccountid": sender, "data": record(account_id=owner)}
    (delivery,) = open_payload(json.dumps(event).encode()).events
    assert not isinstance(delivery.parsed, InvalidEvent)

    decision = decide(delivery.parsed, settings_with(GUARD_ALLOWED_ACCOUNTS=OTHER), today=TODAY)

    bucket = bucket_of("analytics", owner)
    assert decision == (Deny(bucket, "account") if is_denied else Encrypt(bucket, "created"))


@pytest.mark.parametrize(
    ("allowed", "accounts", "account_id", "access"),
    [
        ("", "", OWN, "own"),
        ("", "", OTHER, "foreign"),
        (OTHER, "", OTHER, "own"),
        ("", OTHER, OTHER, "member"),
        ("", OTHER, OWN, "own"),
        ("", OTHER, OTHER + "0", "foreign"),
        (OTHER, OTHER, OTHER, "own"),
        ("", "organization", OTHER, "unknown"),
        ("", "organization", OWN, "own"),
        (OTHER, "organization", OTHER, "own"),
    ],
)
def test_the_settings_tell_by_whose_role_an_account_is_entered(
    allowed: str, accounts: str, account_id: str, access: Access
) -> None:
    """The own role comes first, and only the directory knows the rest of an organization."""
    settings = settings_with(GUARD_ALLOWED_ACCOUNTS=allowed, GUARD_ACCOUNTS=accounts)

    assert access_to(account_id, settings) == access


@pytest.mark.parametrize(
    ("accounts", "sender", "expected"),
    [
        (OTHER, None, Encrypt(bucket_of("analytics", OTHER), "created")),
        (OTHER, OTHER, Encrypt(bucket_of("analytics", OTHER), "created")),
        (OTHER, OWN, Deny(bucket_of("analytics", OTHER), "account")),
        ("organization", OTHER, AskDirectory(bucket_of("analytics", OTHER))),
        ("organization", OWN, Deny(bucket_of("analytics", OTHER), "account")),
    ],
)
def test_a_members_event_is_one_of_its_own_buckets(
    accounts: str, sender: str | None, expected: object
) -> None:
    """An event that another account forwarded is refused before the directory is asked."""
    envelope = {"aliyunoriginalaccountid": sender} if sender else {}
    event = {"id": "1", **envelope, "data": record(account_id=OTHER)}
    (delivery,) = open_payload(json.dumps(event).encode()).events
    assert not isinstance(delivery.parsed, InvalidEvent)

    decision = decide(delivery.parsed, settings_with(GUARD_ACCOUNTS=accounts), today=TODAY)

    assert decision == expected


def test_a_member_gives_no_right_to_its_buckets_in_another_list() -> None:
    """A bucket that no event named is found in its own account, which is then the own one."""
    bucket = FoundBucket(TableBucketArn.parse(arn_of("analytics", OTHER)), "created")

    decisions = [
        decide(bucket, settings_with(GUARD_ACCOUNTS=accounts), today=TODAY)
        for accounts in (OTHER, "organization")
    ]

    assert decisions == [Deny(NamedBucket(bucket.arn, None), "account")] * 2


@pytest.mark.parametrize(
    ("swept", "function", "expected"),
    [
        ("", "encrypt-on-create", True),
        ("cn-hangzhou,us-east-1", "encrypt-on-create", True),
        ("us-east-1", "encrypt-on-create", False),
        ("", None, False),
    ],
)
def test_only_a_function_has_a_sweep_beside_it(
    swept: str, function: str | None, expected: object
) -> None:
    """It sweeps the regions of the settings, else the own one."""
    settings = settings_with(GUARD_SWEEP_REGIONS=swept)._replace(function_name=function)

    assert is_swept("cn-hangzhou", settings) is expected


@pytest.mark.parametrize(
    ("environment", "is_denied"),
    [
        ({"FC_REGION": "cn-hangzhou"}, False),
        ({"FC_REGION": "cn-shanghai"}, True),
        ({"FC_REGION": "cn-hangzhou-1"}, True),
        ({"FC_REGION": "cn-shanghai", "GUARD_SWEEP_REGIONS": "us-east-1,cn-hangzhou"}, False),
        ({"FC_REGION": "cn-shanghai", "GUARD_SWEEP_REGIONS": "us-east-1"}, True),
        ({}, False),
    ],
    ids=["own", "another", "a longer name", "swept", "not swept", "unknown"],
)
def test_a_foreign_region_is_denied(environment: dict[str, str], is_denied: bool) -> None:
    """A bucket of a region that is neither the function's own nor swept by it is not touched."""
    settings = Settings.from_environment({"FC_ACCOUNT_ID": OWN} | environment)

    decision = decided(record(), settings)

    bucket = bucket_of("analytics")
    assert decision == (Deny(bucket, "region") if is_denied else Encrypt(bucket, "created"))


def test_the_account_comes_before_the_region() -> None:
    """A bucket that is foreign in both ways is another account's."""
    decision = decided(record(account_id=OTHER), settings_with(FC_REGION="us-east-1"))

    assert decision == Deny(bucket_of("analytics", OTHER), "account")


def test_nobody_is_trusted_where_the_own_account_is_unknown() -> None:
    """Without an own account every bucket is a foreign one."""
    decision = decided(record(), Settings.from_environment({}))

    assert decision == Deny(bucket_of("analytics"), "account")


def test_the_function_completes_a_bare_name() -> None:
    """FC_REGION and FC_ACCOUNT_ID stand in where the event tells neither region nor account."""
    data = {"eventName": "CreateTableBucket", "requestParameters": {"name": "analytics"}}

    decision = decided(data, settings_with(FC_REGION="us-east-1"))

    arn = TableBucketArn("us-east-1", OWN, "analytics")
    assert decision == Encrypt(NamedBucket(arn, "requestParameters"), "created")


@pytest.mark.parametrize("event_name", ["CreateTableBucket", "DeleteTableBucketEncryption"])
def test_the_bucket_that_oss_manages_is_left_alone(event_name: str) -> None:
    """OSS creates oss-managed-table-bucket and keeps it for itself."""
    data = record("oss-managed-table-bucket", eventName=event_name)

    decision = decided(data, settings_with())

    assert decision == Skip("managed_by_oss", bucket_of("oss-managed-table-bucket"))


def test_an_exempted_name_is_left_alone() -> None:
    """The exemption's reason is the reason, and the exemption goes with it."""
    settings = exempting({"bucket": "scratch-*", "reason": "scratch data"})

    decision = decided(record("scratch-1"), settings)

    assert decision == Skip(
        "exempt: scratch data",
        bucket_of("scratch-1"),
        Exemption(bucket="scratch-*", reason="scratch data"),
    )


def test_an_expired_exemption_does_not_hide_another() -> None:
    """Of several exemptions of one bucket, the first that still counts gives the reason."""
    settings = exempting(
        {"bucket": "legacy", "reason": "over", "expires": "2020-01-01"},
        {"bucket": "leg*", "reason": "still on"},
        {"bucket": "*", "reason": "everything"},
    )

    decision = decided(record("legacy"), settings)

    assert decision == exempt("legacy", exemption("leg*", "still on"))


@pytest.mark.parametrize("name", ["oss-managed-table-bucket", "analytics"])
def test_account_and_region_come_before_the_managed_bucket_and_exemptions(name: str) -> None:
    """What is foreign is denied, whatever its name."""
    settings = exempting({"bucket": "*", "reason": "everything"})

    decisions = [
        decided(record(name, OTHER), settings),
        decided(record(name), settings._replace(region="us-east-1")),
    ]

    assert decisions == [
        Deny(bucket_of(name, OTHER), "account"),
        Deny(bucket_of(name), "region"),
    ]


def test_the_managed_bucket_comes_before_exemptions() -> None:
    """The managed bucket keeps its own reason, also where an exemption would cover it."""
    settings = exempting({"bucket": "*", "reason": "everything"})

    decision = decided(record("oss-managed-table-bucket"), settings)

    assert decision == Skip("managed_by_oss", bucket_of("oss-managed-table-bucket"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("oss-managed-table-bucket", "managed_by_oss"),
        ("scratch-1", "exempt: scratch data"),
    ],
)
def test_a_bucket_that_no_event_named_may_be_exempt(name: str, reason: str) -> None:
    """The same rule serves who has a bucket and no event."""
    settings = exempting(
        {"bucket": "scratch-*", "reason": "scratch data", "expires": "2026-11-22"},
    )
    arn = TableBucketArn.parse(arn_of(name))

    decision = decide(FoundBucket(arn, "drift"), settings, today=TODAY)

    assert isinstance(decision, Skip)
    assert (decision.reason, decision.bucket) == (reason, NamedBucket(arn, None))


@pytest.mark.parametrize("cause", ["created", "drift"])
@pytest.mark.parametrize(("swept", "is_denied"), [("us-east-1", False), ("", True)])
def test_a_bucket_that_no_event_named_is_in_a_region_of_the_guards(
    cause: Cause, swept: str, is_denied: bool
) -> None:
    """As that of an event has to be; an exemption may have ended."""
    settings = exempting({"bucket": "analytics", "reason": "over", "expires": "2026-11-21"})
    settings = settings._replace(sweep_regions=tuple(filter(None, [swept])))
    arn = TableBucketArn.parse(arn_of("analytics"))._replace(region="us-east-1")

    decision = decide(FoundBucket(arn, cause), settings, today=TODAY)

    bucket = NamedBucket(arn, None)
    assert decision == (Deny(bucket, "region") if is_denied else Encrypt(bucket, cause))


@pytest.mark.parametrize(
    ("own", "allowed", "is_denied"),
    [(OWN, "", True), (OWN, OTHER, False), (OTHER, "", False), (None, "", False)],
    ids=["another's", "an allowed one's", "the own one", "of a shell that does not know its own"],
)
def test_a_bucket_that_no_event_named_may_be_another_accounts(
    own: str | None, allowed: str, is_denied: bool
) -> None:
    """A list should not name one, but what it names is held to the same accounts as an event."""
    settings = settings_with(GUARD_ALLOWED_ACCOUNTS=allowed)._replace(account_id=own)
    arn = TableBucketArn.parse(arn_of("analytics", OTHER))

    decision = decide(FoundBucket(arn, "created"), settings, today=TODAY)

    bucket = NamedBucket(arn, None)
    assert decision == (Deny(bucket, "account") if is_denied else Encrypt(bucket, "created"))


@pytest.mark.parametrize(
    ("reading", "choice"),
    [
        (Reading("encrypted", "AES256", "AES256"), "wanted"),
        (Reading("encrypted", "oss:kms", "KMS"), "stronger"),
        (Reading("encrypted", "SM4", "SM4"), "stronger"),
        (Reading("unknown", "ROT13", None), "unknown"),
    ],
)
def test_an_encryption_is_wanted_stronger_or_unknown(reading: Reading, choice: Choice) -> None:
    """By what its word means, not by how it is spelled."""
    assert choice_of(reading) == choice


# What ends soon.


def ending_in(days: int, *, bucket: str = "legacy") -> dict[str, str]:
    """An exemption whose last day is so many days after today."""
    expires = TODAY + timedelta(days=days)
    return {"bucket": bucket, "reason": "migration", "expires": expires.isoformat()}


@pytest.mark.parametrize(
    ("days", "is_told"),
    [(-1, False), (0, True), (1, True), (13, True), (14, True), (15, False), (365, False)],
)
def test_an_exemption_that_ends_within_two_weeks_is_told(days: int, is_told: bool) -> None:
    """Today and the fourteenth day from today belong to them; what is over is not told again."""
    settings = exempting(ending_in(days))

    told = expiring(settings, today=TODAY)

    assert told == (settings.exemptions if is_told else ())


def test_the_next_to_end_is_told_first() -> None:
    """They come by their last day, and where that is the same, as they were given."""
    settings = exempting(
        ending_in(9, bucket="legacy-c"),
        ending_in(0, bucket="legacy-a"),
        ending_in(30, bucket="legacy-x"),
        ending_in(9, bucket="legacy-b"),
        ending_in(3, bucket="legacy-d"),
    )

    told = expiring(settings, today=TODAY)

    assert [exemption.bucket[-1] for exemption in told] == ["a", "d", "c", "b"]


@given(st.lists(st.none() | st.integers(-40, 40), max_size=8))
def test_what_ends_soon_is_in_order_and_counts_today(ends: list[int | None]) -> None:
    """None is told twice, left out, or told without covering its bucket today."""
    entries = [
        {"bucket": "legacy", "reason": "for good"} if days is None else ending_in(days)
        for days in ends
    ]
    settings = exempting(*entries)

    told = expiring(settings, today=TODAY)

    assert [exemption.expires for exemption in told] == sorted(
        TODAY + timedelta(days=days) for days in ends if days is not None and 0 <= days <= 14
    )
    assert all(exemption.matches(bucket_of("legacy").arn, on=TODAY) for exemption in told)


# Whether a dead letter waits for good reason.


def opened(event: object) -> Event:
    (only,) = open_payload(json.dumps(event).encode()).events
    return only


OURS = f"acs:mns:cn-hangzhou:{OWN}:/queues/dead-letters"
ORDERS = arn_of("orders")


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (creation_of(ORDERS), True),
        (creation_of(ORDERS) | {"aliyunoriginalaccountid": OTHER}, False),
        (creation_of(arn_of("orders", OTHER)), False),
        (creation_of(ORDERS.replace("cn-hangzhou", "us-east-1")), True),
        (creation_of(ORDERS, eventName="DeleteTableBucket"), False),
        (creation_of(ORDERS, responseElements={"arn": "acs:osstables:x"}), False),
        (7, False),
    ],
    ids=[
        "a creation",
        "forwarded",
        "a foreign account",
        "another region",
        "another call",
        "no bucket",
        "no event",
    ],
)
@pytest.mark.parametrize("account", [{"FC_ACCOUNT_ID": OWN}, {}], ids=["known", "of the queue"])
def test_the_guard_acts_on_what_a_redrive_would_encrypt(
    event: object, expected: bool, account: dict[str, str]
) -> None:
    """The functions decide about the region themselves."""
    shell = {"FC_REGION": "cn-hangzhou", "GUARD_DEAD_LETTER_QUEUE": OURS}

    settings = Settings.from_environment(shell | account)

    assert acts_on(opened(event), settings, today=TODAY) is expected


def test_beside_a_file_every_account_may_be_the_own_one() -> None:
    """Nobody else writes to it."""
    settings = Settings(region="cn-hangzhou")

    assert acts_on(opened(creation_of(ORDERS)), settings, today=TODAY)


@pytest.mark.parametrize(("name", "expected"), [("orders", True), ("scratch", False)])
def test_any_account_may_be_of_the_organization(name: str, expected: bool) -> None:
    """A shell does not ask the directory; what is exempt in each account is exempt there too."""
    settings = Settings(
        account_id=OWN,
        accounts="organization",
        exemptions=(Exemption("scratch", "samples"),),
    )
    arn = f"acs:osstables:cn-hangzhou:{OTHER}:bucket/{name}"

    assert acts_on(opened(creation_of(arn)), settings, today=TODAY) is expected
