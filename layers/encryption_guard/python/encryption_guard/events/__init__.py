"""An event of the audit trail, and the bucket that it names.

No public sample of a CreateTableBucket event exists, and the records of OSS's own PutBucket have
neither requestParameters nor responseElements. The guard therefore reads every place that may name
the bucket (`PLACES`). Each place may be absent, and its keys may be in any casing.
https://www.alibabacloud.com/help/doc-detail/293590.htm
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Final, NamedTuple
from urllib.parse import unquote

from encryption_guard.arn import (
    ACCOUNT_ID,
    BUCKET_NAME,
    REGION,
    TableBucketArn,
    is_bucket_name,
    looks_like_oss_tables_arn,
)
from encryption_guard.errors import InvalidEvent
from encryption_guard.untrusted import (
    as_object,
    as_text,
    as_word,
    lowercase_keys,
    object_or_empty,
    quoted,
    read_time,
    strings,
)

# The region is matched lazily (`?`), so that it does not contain `-internal`.
_HOST = re.compile(
    rf"(?P<label>{BUCKET_NAME})\.(?P<region>{REGION}?)(?:-internal)?"
    r"\.oss-tables\.aliyuncs\.com(?::[0-9]+)?",
    re.ASCII,
)
_SUBJECT = re.compile(rf".*:{ACCOUNT_ID}:([^:]*)", re.ASCII)
_ACCOUNT_IN_SUBJECT = re.compile(rf":({ACCOUNT_ID}):", re.ASCII)
# No server accepts a longer URL.
MAX_URL_LENGTH = 8 * 1024
_PATH_ARN = re.compile(r"/buckets/(acs:[^/]*/[^/]*)", re.IGNORECASE)
# The events that the guard acts on: a creation, and a removal of the encryption (drift).
CREATION: Final = "CreateTableBucket"
REMOVAL: Final = "DeleteTableBucketEncryption"
# The maximum lengths of a caller's type, name, account and address, together below 200.
CALLER_LENGTHS: Final = (22, 96, 22, 47)
# The values of `errorCode` that mean success, in lower case.
NO_ERROR: Final = frozenset(
    {"", "null", "none", "nil", "-", "0", "200", "ok", "success", "successful"}
)


class BucketEvent(NamedTuple):
    """An event of the audit trail; `name` is empty if the event is of another kind."""

    name: str
    time: datetime | None
    failed: bool
    # An ActionTrail management event, with its keys in lower case.
    # https://www.alibabacloud.com/help/doc-detail/28819.html
    record: Mapping[str, object]
    subject: str | None
    # From the record or the envelope, to complete a bare name.
    region: str | None
    account_id: str | None
    # https://www.alibabacloud.com/help/en/eventbridge/user-guide/route-events-to-eventbridge
    forwarded_from: str | None
    # Every account in the event, except those in ARNs.
    accounts: frozenset[str]


class NamedBucket(NamedTuple):
    """A bucket, the first place in an event that names it, and the first that disagrees."""

    arn: TableBucketArn
    named_by: str | None
    disagrees: str | None = None


class _Host(NamedTuple):
    """A bucket's host: its first label is `<name>-<account>` or the name alone."""

    label: str
    region: str


# The value of a place: a bucket, a bare name, or the error about an invalid ARN.
_Named = TableBucketArn | str | InvalidEvent


def read_event(record: object, envelope: Mapping[str, object]) -> BucketEvent:
    """Read an ActionTrail record, as an object or JSON text, and the CloudEvent around it.

    The keys of the envelope are in lower case; the envelope of a bare record is empty. Raises
    InvalidEvent if the record has no eventName, unless the envelope states another kind of event.
    """
    document = as_object(record)
    read = lowercase_keys(document or {})
    name = read.get("eventname")
    if name is None and document is not None and _is_of_another_kind(envelope):
        name = ""
    elif not isinstance(name, str) or not name:
        raise InvalidEvent("The event contains no record with an eventName (a string).")
    subject = as_text(envelope.get("subject"))
    forwarded_from = as_text(envelope.get("aliyunoriginalaccountid"))
    # The owner's account is first, the caller's last: the caller may belong to another account.
    accounts = [
        as_text(read.get("recipientaccountid")),
        forwarded_from,
        as_text(envelope.get("aliyunaccountid")),
        next(strings(read.get("useridentity"), "accountid"), None),
    ]
    named = [*accounts, *_ACCOUNT_IN_SUBJECT.findall(subject or "")]
    return BucketEvent(
        name=name,
        time=read_time(as_text(read.get("eventtime"))),
        failed=_failed(read),
        record=read,
        subject=subject,
        region=as_text(read.get("acsregion")) or as_text(envelope.get("aliyunregionid")),
        account_id=next(filter(None, accounts), None),
        forwarded_from=forwarded_from,
        accounts=frozenset(filter(None, named)),
    )


def _is_of_another_kind(envelope: Mapping[str, object]) -> bool:
    # The audit trail has types such as `<service>:ActionTrail:ApiCall`:
    # https://www.alibabacloud.com/help/en/eventbridge/user-guide/oss-events
    kind = envelope.get("type")
    return isinstance(kind, str) and bool(kind) and ":actiontrail:" not in kind.lower()


def _failed(record: Mapping[str, object]) -> bool:
    """Return whether the call certainly failed.

    If in doubt, it did not: OSS Tables answers 404 for a bucket that does not exist. An
    `errorMessage` alone proves nothing, and neither does an `errorCode` next to the bucket's ARN.
    """
    code = record.get("errorcode")
    if not isinstance(code, str) or code.strip().lower() in NO_ERROR:
        return False
    values = (_read(value, frozenset()) for value in _response_elements(record))
    return not any(isinstance(value, TableBucketArn | str) for value in values)


def caller(event: BucketEvent) -> str | None:
    """Return who made the call: `<type>:<name> of <account> from <address>`, None if nobody knows.

    It is ASCII, and has at most 200 characters as JSON. A missing part is `?`; one with a blank or
    another unusual sign is quoted, so that no name looks like an account or an address.
    https://www.alibabacloud.com/help/doc-detail/28819.html
    """
    identity = lowercase_keys(object_or_empty(event.record.get("useridentity")))
    texts = (
        as_text(identity.get("type")),
        as_text(identity.get("username")) or as_text(identity.get("principalid")),
        as_text(identity.get("accountid")),
        as_text(event.record.get("sourceipaddress")),
    )
    if not any(texts):
        return None
    words = (as_word(text or "?", most) for text, most in zip(texts, CALLER_LENGTHS, strict=True))
    return "{}:{} of {} from {}".format(*words)


def find_bucket(
    event: BucketEvent, *, region: str | None = None, account_id: str | None = None
) -> NamedBucket:
    """Return the one bucket that the event names in any of `PLACES`.

    The service itself writes the ARN in responseElements: it overrules the other places, and
    `disagrees` is the first place that contradicts it. `region` and `account_id` are the function's
    own, and complete a bare name if the event does not. Raises InvalidEvent if no place names a
    bucket, if two places name different buckets, or if a value claims to be an OSS Tables ARN but
    is invalid.

    >>> event = read_event({"eventName": "CreateTableBucket", "resourceName": "logs"}, {})
    >>> str(find_bucket(event, region="cn-hangzhou", account_id="123456789").arn)
    'acs:osstables:cn-hangzhou:123456789:bucket/logs'
    """
    found = list(_candidates(event, account_id))
    if not found:
        raise InvalidEvent(
            f"The event names no table bucket in any of these places: {', '.join(dict(PLACES))}."
        )
    response_values = {value for place, value in found if place == RESPONSE}
    arns = [value for value in response_values if isinstance(value, TableBucketArn)]
    if len(arns) == 1 and not any(isinstance(value, InvalidEvent) for value in response_values):
        others = (place for place, value in found if not _agree(arns[0], value))
        return NamedBucket(arns[0], RESPONSE, disagrees=next(others, None))
    bucket = _agreed(found)
    if isinstance(bucket, str):
        # The host in eventSource also contains a region.
        region = next((host.region for host in _in_event_source(event)), region)
        bucket = _complete(bucket, event, region=region, account_id=account_id)
    return NamedBucket(bucket, named_by=found[0][0])


def _candidates(event: BucketEvent, account_id: str | None) -> Iterator[tuple[str, _Named]]:
    accounts = {*event.accounts, account_id}
    for place, values in PLACES:
        for value in values(event):
            named = _read(value, accounts)
            if isinstance(named, TableBucketArn):
                accounts.add(named.account_id)
            if named is not None:
                yield place, named


def _read(value: str | _Host, accounts: Collection[str | None]) -> _Named | None:
    if isinstance(value, _Host):
        name, _, account_id = value.label.rpartition("-")
        # Digits that are not a known account are the end of the name.
        is_account = account_id in accounts and re.fullmatch(ACCOUNT_ID, account_id)
        if not is_account or not is_bucket_name(name):
            return value.label
        value = f"acs:osstables:{value.region}:{account_id}:bucket/{name}"
    if looks_like_oss_tables_arn(value):
        try:
            return TableBucketArn.parse(value)
        except InvalidEvent as error:
            # A new error has no traceback, which saves memory: a payload may cause many errors.
            return InvalidEvent(str(error))
    return value if is_bucket_name(value) else None


def _agreed(found: Sequence[tuple[str, _Named]]) -> TableBucketArn | str:
    """Return the bucket or the bare name that all places agree on."""
    named: list[tuple[str, TableBucketArn | str]] = []
    for place, value in found:
        if isinstance(value, InvalidEvent):
            raise InvalidEvent(f"In {place}: {value}")
        named.append((place, value))
    # An ARN is more precise than a bare name, so the others are compared with it.
    place, bucket = next((pair for pair in named if isinstance(pair[1], TableBucketArn)), named[0])
    for where, other in named:
        if not _agree(bucket, other):
            raise InvalidEvent(
                f"The event names different buckets: {place} names {quoted(str(bucket))}, {where}"
                f" names {quoted(str(other))}."
            )
    return bucket


def _agree(one: _Named, other: _Named) -> bool:
    if isinstance(one, str) or isinstance(other, str):
        return _name(one) == _name(other)
    return one == other


def _name(named: _Named) -> str:
    return named.name if isinstance(named, TableBucketArn) else str(named)


def _complete(
    name: str, event: BucketEvent, *, region: str | None, account_id: str | None
) -> TableBucketArn:
    region = event.region or region
    account_id = event.account_id or account_id
    if not region or not account_id:
        raise InvalidEvent(
            f"The event names the bucket {quoted(name)}, but neither the event nor the"
            f" function's environment contains its {'account' if region else 'region'}."
        )
    return TableBucketArn.parse(f"acs:osstables:{region}:{account_id}:bucket/{name}")


# The places that may name the bucket.


def _in_response_elements(event: BucketEvent) -> Iterator[str]:
    return _response_elements(event.record)


def _response_elements(record: Mapping[str, object]) -> Iterator[str]:
    return strings(record.get("responseelements"), "arn", "tablebucketarn")


def _in_referenced_resources(event: BucketEvent) -> Iterator[str]:
    groups = []
    for kind, names in object_or_empty(event.record.get("referencedresources")).items():
        listed = names if isinstance(names, list) else [names]
        groups.append((kind, list(filter(None, map(as_text, listed)))))
    return _preferring_buckets(groups)


def _in_resource_name(event: BucketEvent) -> Iterator[str]:
    kinds = (as_text(event.record.get("resourcetype")) or "").split(";")
    names = (as_text(event.record.get("resourcename")) or "").split(";")
    kinds += [""] * (len(names) - len(kinds))
    return _preferring_buckets(
        (kind, [name for name in map(str.strip, joined.split(",")) if name])
        for kind, joined in dict.fromkeys(zip(kinds, names, strict=False))
    )


def _preferring_buckets(groups: Iterable[tuple[str, list[str]]]) -> Iterator[str]:
    # An event may name a log bucket or a role next to the table bucket.
    table_buckets: dict[str, None] = {}
    buckets: dict[str, None] = {}
    others: dict[str, None] = {}
    for kind, names in groups:
        kind = kind.lower()
        found = table_buckets if "tablebucket" in kind else buckets if "bucket" in kind else others
        # Each name only once: an event may contain it ten thousand times.
        usable = (name for name in names if looks_like_oss_tables_arn(name) or is_bucket_name(name))
        found.update(dict.fromkeys(usable))
    return iter(table_buckets or buckets or others)


def _in_request_parameters(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.get("requestparameters"))


def _in_request_parameter_json(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.get("requestparameterjson"))


def _request(parameters: object) -> Iterator[str]:
    yield from strings(parameters, "tablebucketarn", "name", "bucketname")
    for url in strings(parameters, "uri", "url"):
        if len(url) > MAX_URL_LENGTH:
            continue
        match = _PATH_ARN.search(unquote(re.split(r"[?#]", url, maxsplit=1)[0]))
        if match:
            yield match[1]


def _in_event_source(event: BucketEvent) -> Iterator[_Host]:
    match = _HOST.fullmatch(as_text(event.record.get("eventsource")) or "")
    if match:
        yield _Host(match["label"], match["region"])


def _in_subject(event: BucketEvent) -> Iterator[str]:
    subject = event.subject or ""
    match = _SUBJECT.fullmatch(subject)
    # For a table bucket, OSS's own form of a subject is `acs:osstables:<region>:<uid>:<bucket>`: it
    # contains a bare name, and is not an invalid ARN.
    if match and is_bucket_name(match[1]):
        yield match[1]
    elif looks_like_oss_tables_arn(subject):
        yield subject


RESPONSE: Final = "responseElements"
PLACES: Final[tuple[tuple[str, Callable[[BucketEvent], Iterator[str | _Host]]], ...]] = (
    (RESPONSE, _in_response_elements),
    ("referencedResources", _in_referenced_resources),
    ("resourceName", _in_resource_name),
    ("requestParameters", _in_request_parameters),
    ("requestParameterJson", _in_request_parameter_json),
    ("eventSource", _in_event_source),
    ("subject", _in_subject),
)
