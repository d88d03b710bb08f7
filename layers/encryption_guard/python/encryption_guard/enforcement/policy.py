"""Decide what to do about an event or a bucket, without any request."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Final, Literal, NamedTuple, overload

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import InvalidEvent
from encryption_guard.events import CREATION, REMOVAL, BucketEvent, NamedBucket, find_bucket
from encryption_guard.events.envelopes import Event
from encryption_guard.services.oss_tables import Reading
from encryption_guard.settings import ORGANIZATION, Exemption, QueueArn, Settings

# OSS creates and uses this bucket itself:
# https://www.alibabacloud.com/help/en/ram/developer-reference/aliyunservicerolepolicyforosssystemtables
MANAGED_BY_OSS = "oss-managed-table-bucket"
# The known values of a bucket's `type`: the owner is a customer, or OSS itself.
# https://help.aliyun.com/en/oss/developer-reference/createbucketmetadataconfiguration
KINDS = frozenset({"customer", "oss"})

# How old the list of the organization's accounts may be.
KEEP_LIST: Final = timedelta(minutes=10)

# Enough time to extend an exemption, or to prepare its bucket.
EXPIRES_SOON = timedelta(days=14)

Cause = Literal["created", "drift"]
CAUSES: dict[str, Cause] = {
    CREATION: "created",
    REMOVAL: "drift",
}

# The algorithm that the guard sets, and the stronger ones that it keeps.
WANTED: Final = "AES256"
STRONGER: Final = frozenset({"KMS", "SM4"})

Choice = Literal["wanted", "stronger", "unknown"]


def choice_of(reading: Reading) -> Choice:
    """Classify the encryption of a bucket; the guard keeps it in each of the three cases."""
    if reading.known_as == WANTED:
        return "wanted"
    return "stronger" if reading.known_as in STRONGER else "unknown"


# The way by which the guard found a bucket.
FoundBy = Literal["event", "watch", "sweep", "operator"]


class FoundBucket(NamedTuple):
    """A bucket that a list or an operator named; `kind` is its `type`, if the list has it."""

    arn: TableBucketArn
    cause: Cause
    created_at: datetime | None = None
    kind: str | None = None
    found_by: FoundBy = "operator"


class Encrypt(NamedTuple):
    """The decision to encrypt a bucket."""

    bucket: NamedBucket
    cause: Cause


class Skip(NamedTuple):
    """The decision to do nothing, with the reason."""

    reason: str
    bucket: NamedBucket | None = None
    exemption: Exemption | None = None


class Deny(NamedTuple):
    """The decision to reject a bucket in a foreign account or region."""

    bucket: NamedBucket
    foreign: Literal["account", "region"]


class AskDirectory(NamedTuple):
    """The decision to list the organization, and to decide again with its accounts.

    The account of the bucket needs it: the settings do not name it.
    """

    bucket: NamedBucket


Decision = Encrypt | Skip | Deny

# Whose role acts in an account; `unknown` means that only the resource directory knows.
Access = Literal["own", "member", "unknown", "foreign"]


def access_to(account_id: str, settings: Settings) -> Access:
    """Return by whose role the guard acts in an account.

    >>> access_to("12345", Settings(account_id="67890", accounts=frozenset({"12345"})))
    'member'
    """
    if account_id in own_accounts(settings):
        return "own"
    if settings.accounts == ORGANIZATION:
        return "unknown"
    return "member" if account_id in settings.accounts else "foreign"


def own_accounts(settings: Settings) -> frozenset[str]:
    """Return the accounts in which the guard acts with its own role."""
    own = {settings.account_id} if settings.account_id else set()
    return settings.allowed_accounts | own


def is_swept(region: str, settings: Settings) -> bool:
    """Return whether the sweep function beside this one sweeps a region; a shell has none."""
    swept = settings.sweep_regions or (settings.region,)
    return bool(settings.function_name) and region in swept


@overload
def decide(found: FoundBucket, settings: Settings, *, today: date) -> Decision: ...


@overload
def decide(found: BucketEvent, settings: Settings, *, today: date) -> Decision | AskDirectory: ...


def decide(
    found: BucketEvent | FoundBucket, settings: Settings, *, today: date
) -> Decision | AskDirectory:
    """Decide about one event or one bucket; the order of the checks is part of the contract.

    Raises InvalidEvent if a relevant event does not name exactly one bucket.

    >>> arn = TableBucketArn.parse("acs:osstables:cn-hangzhou:1234567890123456:bucket/orders")
    >>> decide(FoundBucket(arn, "drift"), Settings(), today=date(2026, 1, 2)).cause
    'drift'
    """
    if isinstance(found, FoundBucket):
        bucket = NamedBucket(found.arn, named_by=None)
        # A shell may not know its account, but the buckets that it lists are its own. A member's
        # buckets are found in its own account, which is then the one of the settings.
        own = own_accounts(settings)
        is_foreign = bool(settings.account_id) and found.arn.account_id not in own
        return _in_scope(bucket, found.cause, settings, is_foreign, today, found.kind)
    cause = CAUSES.get(found.name)
    if cause is None:
        return Skip("not_relevant")
    # ActionTrail also records failed calls, and these often name no bucket.
    if found.failed:
        return Skip("call_failed")
    bucket = find_bucket(found, region=settings.region, account_id=settings.account_id)
    # An account that forwards events may name only its own buckets.
    if found.forwarded_from and found.forwarded_from != bucket.arn.account_id:
        return Deny(bucket, "account")
    access = access_to(bucket.arn.account_id, settings)
    if access == "unknown":
        return AskDirectory(bucket)
    return _in_scope(bucket, cause, settings, access == "foreign", today)


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
    # A known type states who owns the bucket. Without one, the name does.
    if kind == "oss" or (kind not in KINDS and bucket.arn.name == MANAGED_BY_OSS):
        return Skip("managed_by_oss", bucket)
    for exemption in settings.exemptions:
        if exemption.matches(bucket.arn, on=today):
            return Skip(f"exempt: {exemption.reason}", bucket, exemption)
    return Encrypt(bucket, cause)


def acts_on(event: Event, settings: Settings, *, today: date) -> bool:
    """Return whether the guard would act on an event, and not skip it or refuse its account.

    Which regions a function accepts is its own setting, so a region is no reason not to. If the own
    account is not known, it is that of the queue; beside a file, every account is.
    """
    if isinstance(event.parsed, InvalidEvent):
        return False
    if not settings.account_id and isinstance(settings.dead_letter_queue, QueueArn):
        settings = settings._replace(account_id=settings.dead_letter_queue.account_id)
    try:
        decision = decide(event.parsed, settings, today=today)
    except InvalidEvent:
        return False
    if isinstance(decision, Deny):
        return decision.foreign == "region" or not settings.account_id
    if isinstance(decision, AskDirectory):
        # Any account may be a member, and what is exempt there is exempt in each of them.
        members = frozenset({decision.bucket.arn.account_id})
        return acts_on(event, settings._replace(accounts=members), today=today)
    return isinstance(decision, Encrypt)


def exemption_warnings(settings: Settings, *, today: date) -> Iterator[str]:
    """Yield a sentence for each exemption that is over, or that leaves nothing to protect."""
    for exemption in settings.exemptions:
        if exemption.is_over(today):
            last = exemption.expires
            yield f"The exemption {exemption.bucket} ended after {last}: it is ignored."
        elif exemption.has_every_name:
            where = exemption.where
            what = "no bucket there" if where else "nothing"
            yield (
                f"The exemption {exemption.bucket} covers every bucket{where}: {what} is encrypted."
            )


def in_force(settings: Settings, *, today: date) -> tuple[Exemption, ...]:
    """Return the exemptions that are not over."""
    return tuple(each for each in settings.exemptions if not each.is_over(today))


def expiring(settings: Settings, *, today: date) -> tuple[Exemption, ...]:
    """Return the active exemptions that end within EXPIRES_SOON, the earliest end first."""
    soon = today + EXPIRES_SOON
    dated = ((exemption.expires, exemption) for exemption in settings.exemptions)
    ending = [(day, exemption) for day, exemption in dated if day and today <= day <= soon]
    return tuple(exemption for _, exemption in sorted(ending, key=lambda pair: pair[0]))
