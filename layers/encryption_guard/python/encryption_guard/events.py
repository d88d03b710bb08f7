"""An event of the audit trail, and the bucket that it names.

No public sample of a CreateTableBucket event exists, and the record of OSS's own PutBucket carries
neither requestParameters nor responseElements: so every place that may name the bucket is read
(`PLACES`), each may be absent, and keys count in any casing.
https://www.alibabacloud.com/help/doc-detail/293590.htm
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime, timezone
from typing import Final, NamedTuple
from urllib.parse import unquote

from encryption_guard.arn import (
    ACCOUNT_ID,
    BUCKET_NAME,
    REGION,
    TableBucketArn,
    claims_oss_tables,
    is_bucket_name,
)
from encryption_guard.errors import InvalidEvent, quoted
from encryption_guard.foreign_json import folded, mapping, strings, text_of

# The region as short as it can be (`?`): `-internal` is no part of it.
_HOST = re.compile(
    rf"(?P<name>{BUCKET_NAME})-(?P<account_id>{ACCOUNT_ID})\.(?P<region>{REGION}?)(?:-internal)?"
    r"\.oss-tables\.aliyuncs\.com(?::[0-9]+)?",
    re.ASCII,
)
_SUBJECT = re.compile(rf".*:{ACCOUNT_ID}:([^:]*)", re.ASCII)
# More than any server takes.
LONGEST_URL = 8 * 1024
_PATH_ARN = re.compile(r"/buckets/(acs:[^/]*/[^/]*)", re.IGNORECASE)


class BucketEvent(NamedTuple):
    """One event of the audit trail, not yet judged."""

    name: str
    time: datetime | None
    failed: bool
    # An ActionTrail management event, its keys in lower case.
    # https://www.alibabacloud.com/help/doc-detail/28819.html
    record: Mapping[str, object]
    subject: str | None
    # Where the record itself does not tell them.
    region: str | None
    account_id: str | None


class NamedBucket(NamedTuple):
    """A bucket, and the place that named it first."""

    arn: TableBucketArn
    named_by: str


def read_event(
    record: object,
    *,
    subject: str | None,
    region: str | None,
    account_id: str | None,
) -> BucketEvent:
    """Read an ActionTrail record, parsed or its JSON text; the rest is what its envelope tells.

    Raises InvalidEvent unless the record has an eventName.
    """
    read = folded(mapping(record))
    name = read.get("eventname")
    if not isinstance(name, str) or not name:
        raise InvalidEvent("There is no record with an eventName (a text) in the event.")
    own_account = text_of(read.get("recipientaccountid")) or next(
        strings(read.get("useridentity"), "accountid"), None
    )
    return BucketEvent(
        name=name,
        time=read_time(text_of(read.get("eventtime"))),
        failed=bool(read.get("errorcode") or read.get("errormessage")),
        record=read,
        subject=subject,
        region=text_of(read.get("acsregion")) or region,
        account_id=own_account or account_id,
    )


def read_time(value: str | None) -> datetime | None:
    """The instant that an ISO 8601 text means, if it does; in UTC where it tells no zone."""
    try:
        # Python 3.10 does not know the Z.
        at = datetime.fromisoformat((value or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def find_bucket(
    event: BucketEvent, *, region: str | None = None, account_id: str | None = None
) -> NamedBucket:
    """The one bucket that the event names, whichever of `PLACES` does so.

    `region` and `account_id` complete a bare name where the event does not tell them.
    Raises InvalidEvent when nothing names a bucket, when two places name different ones, and when
    what calls itself an OSS Tables ARN is not a valid one.
    """
    found = list(_candidates(event))
    if not found:
        raise InvalidEvent(
            f"Nothing in the event names a table bucket; looked in {', '.join(dict(PLACES))}."
        )
    # An ARN tells more than a bare name: it is what the others are held against.
    place, bucket = next((pair for pair in found if isinstance(pair[1], TableBucketArn)), found[0])
    for where, other in found:
        if not _agree(bucket, other):
            raise InvalidEvent(
                f"The event names different buckets: {place} says {quoted(str(bucket))}, {where}"
                f" says {quoted(str(other))}."
            )
    if isinstance(bucket, str):
        bucket = _complete(bucket, event, region=region, account_id=account_id)
    return NamedBucket(bucket, named_by=found[0][0])


def _candidates(event: BucketEvent) -> Iterator[tuple[str, TableBucketArn | str]]:
    for place, values in PLACES:
        for value in values(event):
            if claims_oss_tables(value):
                try:
                    yield place, TableBucketArn.parse(value)
                except InvalidEvent as error:
                    raise InvalidEvent(f"In {place}: {error}") from None
            elif is_bucket_name(value):
                yield place, value


def _agree(one: TableBucketArn | str, other: TableBucketArn | str) -> bool:
    if isinstance(one, TableBucketArn) and isinstance(other, TableBucketArn):
        return one == other
    names = {named if isinstance(named, str) else named.name for named in (one, other)}
    return len(names) == 1


def _complete(
    name: str, event: BucketEvent, *, region: str | None, account_id: str | None
) -> TableBucketArn:
    region = event.region or region
    account_id = event.account_id or account_id
    if not region or not account_id:
        raise InvalidEvent(
            f"The event names the bucket {quoted(name)}, but neither it nor the function's"
            f" environment tells its {'account' if region else 'region'}."
        )
    return TableBucketArn.parse(f"acs:osstables:{region}:{account_id}:bucket/{name}")


# Where the bucket may stand.


def _in_response_elements(event: BucketEvent) -> Iterator[str]:
    return strings(event.record.get("responseelements"), "arn", "tablebucketarn")


def _in_referenced_resources(event: BucketEvent) -> Iterator[str]:
    groups = []
    for kind, names in mapping(event.record.get("referencedresources")).items():
        listed = names if isinstance(names, list) else [names]
        groups.append((kind, [name for name in listed if isinstance(name, str)]))
    return _preferring_buckets(groups)


def _in_resource_name(event: BucketEvent) -> Iterator[str]:
    kinds = (text_of(event.record.get("resourcetype")) or "").split(";")
    names = (text_of(event.record.get("resourcename")) or "").split(";")
    kinds += [""] * (len(names) - len(kinds))
    return _preferring_buckets(
        (kind, [name for name in map(str.strip, joined.split(",")) if name])
        for kind, joined in dict.fromkeys(zip(kinds, names, strict=False))
    )


def _preferring_buckets(groups: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    buckets: dict[str, None] = {}
    others: dict[str, None] = {}
    for kind, names in groups:
        # Once each: a name may stand there ten thousand times.
        (buckets if "bucket" in kind.lower() else others).update(dict.fromkeys(names))
    return iter(buckets or others)


def _in_request_parameters(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.get("requestparameters"))


def _in_request_parameter_json(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.get("requestparameterjson"))


def _request(parameters: object) -> Iterator[str]:
    yield from strings(parameters, "tablebucketarn", "name", "bucketname")
    for url in strings(parameters, "uri", "url"):
        if len(url) > LONGEST_URL:
            continue
        match = _PATH_ARN.search(unquote(re.split(r"[?#]", url, maxsplit=1)[0]))
        if match:
            yield match[1]


def _in_event_source(event: BucketEvent) -> Iterator[str]:
    match = _HOST.fullmatch(text_of(event.record.get("eventsource")) or "")
    if match:
        yield f"acs:osstables:{match['region']}:{match['account_id']}:bucket/{match['name']}"


def _in_subject(event: BucketEvent) -> Iterator[str]:
    subject = event.subject or ""
    match = _SUBJECT.fullmatch(subject)
    # `acs:osstables:<region>:<uid>:<bucket>` is what OSS's own subjects would be for a table
    # bucket: the second form, and no ARN gone wrong.
    if match and is_bucket_name(match[1]):
        yield match[1]
    elif claims_oss_tables(subject):
        yield subject


PLACES: Final[tuple[tuple[str, Callable[[BucketEvent], Iterator[str]]], ...]] = (
    ("responseElements", _in_response_elements),
    ("referencedResources", _in_referenced_resources),
    ("resourceName", _in_resource_name),
    ("requestParameters", _in_request_parameters),
    ("requestParameterJson", _in_request_parameter_json),
    ("eventSource", _in_event_source),
    ("subject", _in_subject),
)
