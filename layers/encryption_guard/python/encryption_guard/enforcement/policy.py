"""What is to be done about an event: decisions as values, no request made for them."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from typing import Final, Literal, NamedTuple

from encryption_guard.arn import TableBucketArn
from encryption_guard.events import BucketEvent, NamedBucket, find_bucket
from encryption_guard.services.oss_tables import Reading
from encryption_guard.settings import Exemption, Settings

# OSS creates and keeps this one for itself:
# https://www.alibabacloud.com/help/en/ram/developer-reference/aliyunservicerolepolicyforosssystemtables
MANAGED_BY_OSS = "oss-managed-table-bucket"
# What the service calls a bucket's `type`: its customer's, or its own.
# https://help.aliyun.com/en/oss/developer-reference/createbucketmetadataconfiguration
KINDS = frozenset({"customer", "oss"})

# Long enough to ask for more time, or to get the bucket ready.
EXPIRES_SOON = timedelta(days=14)

Cause = Literal["created", "drift"]
CAUSES: dict[str, Cause] = {
    "CreateTableBucket": "created",
    "DeleteTableBucketEncryption": "drift",
}

# Which algorithm a bucket gets, and which ones are stronger.
WANTED: Final = "AES256"
STRONGER: Final = frozenset({"KMS", "SM4"})

Choice = Literal["wanted", "stronger", "unknown"]


def choice_of(reading: Reading) -> Choice:
    """How good an encryption is that was found; each of the three is kept as it is."""
    if reading.known_as == WANTED:
        return "wanted"
    return "stronger" if reading.known_as in STRONGER else "unknown"


class FoundBucket(NamedTuple):
    """A bucket that no event named, but a list or an operator.

    `kind` is its type, where a list has told it.
    """

    arn: TableBucketArn
    cause: Cause
    created_at: datetime | None = None
    kind: str | None = None


class Encrypt(NamedTuple):
    """This bucket has to be encrypted."""

    bucket: NamedBucket
    cause: Cause


class Skip(NamedTuple):
    """Nothing is to be done, and why."""

    reason: str
    bucket: NamedBucket | None = None
    exemption: Exemption | None = None


class Deny(NamedTuple):
    """The bucket is of an account or region that the guard is not responsible for."""

    bucket: NamedBucket
    foreign: Literal["account", "region"]


Decision = Encrypt | Skip | Deny


def decide(found: BucketEvent | FoundBucket, settings: Settings, *, today: date) -> Decision:
    """Judge one event, or one bucket; the order of the rows is part of the contract.

    Raises InvalidEvent where the event would matter, but does not name one bucket.
    """
    if isinstance(found, FoundBucket):
        bucket = NamedBucket(found.arn, named_by=None)
        # A shell may not know its account; a bucket that it lists is its own.
        is_foreign = bool(settings.account_id) and not _is_allowed(found.arn.account_id, settings)
        return _in_scope(bucket, found.cause, settings, is_foreign, today, found.kind)
    cause = CAUSES.get(found.name)
    if cause is None:
        return Skip("not_relevant")
    # A failed call is recorded like any other, and often names nothing.
    if found.failed:
        return Skip("call_failed")
    bucket = find_bucket(found, region=settings.region, account_id=settings.account_id)
    is_foreign = _is_foreign_account(bucket.arn.account_id, found, settings)
    return _in_scope(bucket, cause, settings, is_foreign, today)


def _is_foreign_account(account_id: str, event: BucketEvent, settings: Settings) -> bool:
    # Who may put events on a bus of ours may not speak for another account.
    if event.forwarded_from and event.forwarded_from != account_id:
        return True
    return not _is_allowed(account_id, settings)


def _is_allowed(account_id: str, settings: Settings) -> bool:
    return account_id in settings.allowed_accounts | {settings.account_id}


def _in_scope(
    bucket: NamedBucket,
    cause: Cause,
    settings: Settings,
    is_foreign: bool,
    today: date,
    kind: str | None = None,
) -> Decision:
    if is_foreign:
        return Deny(bucket, "account")
    if settings.region and bucket.arn.region not in {settings.region, *settings.sweep_regions}:
        return Deny(bucket, "region")
    # Where the service tells a type that is known, it says whose bucket it is, else the name does.
    name = bucket.arn.name
    if kind == "oss" or (kind not in KINDS and name == MANAGED_BY_OSS):
        return Skip("managed_by_oss", bucket)
    for exemption in settings.exemptions:
        if exemption.matches(name, on=today):
            return Skip(f"exempt: {exemption.reason}", bucket, exemption)
    return Encrypt(bucket, cause)


def expiring(settings: Settings, *, today: date) -> tuple[Exemption, ...]:
    """The exemptions that count today and end within 14 days, the next one to end first."""
    soon = today + EXPIRES_SOON
    dated = ((exemption.expires, exemption) for exemption in settings.exemptions)
    ending = [(day, exemption) for day, exemption in dated if day and today <= day <= soon]
    return tuple(exemption for _, exemption in sorted(ending, key=lambda pair: pair[0]))
