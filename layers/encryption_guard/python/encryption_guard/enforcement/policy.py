"""What is to be done about an event: decisions as values, no request made for them."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Literal, NamedTuple

from encryption_guard.events import BucketEvent, NamedBucket, find_bucket
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


def decide(
    event: BucketEvent, settings: Settings, *, today: date, kind: str | None = None
) -> Encrypt | Skip | Deny:
    """Judge one event; the order of the rows is part of the contract.

    `kind` is the type of the bucket, where a list has told it.
    Raises InvalidEvent where the event would matter, but does not name one bucket.
    """
    cause = CAUSES.get(event.name)
    if cause is None:
        return Skip("not_relevant")
    # A failed call is recorded like any other, and often names nothing.
    if event.failed:
        return Skip("call_failed")
    bucket = find_bucket(event, region=settings.region, account_id=settings.account_id)
    if _is_foreign_account(bucket.arn.account_id, event, settings):
        return Deny(bucket, "account")
    if settings.region and bucket.arn.region not in {settings.region, *settings.sweep_regions}:
        return Deny(bucket, "region")
    leave = leave_alone(bucket.arn.name, settings, today=today, kind=kind)
    return leave._replace(bucket=bucket) if leave else Encrypt(bucket, cause)


def _is_foreign_account(account_id: str, event: BucketEvent, settings: Settings) -> bool:
    # Who may put events on a bus of ours may not speak for another account.
    if event.forwarded_from and event.forwarded_from != account_id:
        return True
    return account_id not in settings.allowed_accounts | {settings.account_id}


def leave_alone(
    bucket: str, settings: Settings, *, today: date, kind: str | None = None
) -> Skip | None:
    """Why a bucket of this name is none of the guard's business, if it is none.

    Scope the `kind` that the service tells is one of `KINDS`, it says whose bucket it is, else the
    name does.
    """
    if kind == "oss" or (kind not in KINDS and bucket == MANAGED_BY_OSS):
        return Skip("managed_by_oss")
    for exemption in settings.exemptions:
        if exemption.covers(bucket, on=today):
            return Skip(f"exempt: {exemption.reason}", exemption=exemption)
    return None


def expiring(settings: Settings, *, today: date) -> tuple[Exemption, ...]:
    """The exemptions that count today and end within 14 days, the next one to end first."""
    soon = today + EXPIRES_SOON
    dated = ((exemption.expires, exemption) for exemption in settings.exemptions)
    ending = [(day, exemption) for day, exemption in dated if day and today <= day <= soon]
    return tuple(exemption for _, exemption in sorted(ending, key=lambda pair: pair[0]))
