"""From the bytes Function Compute hands over to the event in them, and to the bucket it names.

No public sample of a CreateTableBucket event exists, and the record of OSS's own PutBucket carries
neither requestParameters nor responseElements: so every place that may name the bucket is read
(`PLACES`), each may be absent, and keys count in any casing.
https://www.alibabacloud.com/help/doc-detail/293590.htm
"""

from __future__ import annotations

import json
import re
import zlib
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Annotated, Any, Final
from urllib.parse import unquote

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    StringConstraints,
    ValidationError,
    model_validator,
)
from pydantic_core import from_json

from encryption_guard.arn import (
    ACCOUNT_ID,
    BUCKET_NAME,
    REGION,
    TableBucketArn,
    claims_oss_tables,
    is_bucket_name,
)
from encryption_guard.errors import InvalidEvent, quoted

# An array of FC records of dead letters of arrays is far more than anything that occurs.
DEEPEST_WRAPPING = 8
# Against a dead letter that was made to unpack without end.
LARGEST_EVENT = 4 * 1024 * 1024

_HOST = re.compile(
    rf"(?P<name>{BUCKET_NAME})-(?P<account_id>{ACCOUNT_ID})\.(?P<region>{REGION}?)(?:-internal)?"
    r"\.oss-tables\.aliyuncs\.com(?::[0-9]+)?",
    re.ASCII,
)
_SUBJECT = re.compile(rf".*:{ACCOUNT_ID}:([^:]*)", re.ASCII)
_PATH_ARN = re.compile(r"/buckets/(acs:[^/]*/[^/]*)")


def _text(value: object) -> str | None:
    """A string, or a number where a lenient writer left out the quotes; anything else is absent."""
    if isinstance(value, str):
        return value or None
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


Text = Annotated[str | None, BeforeValidator(_text)]


class _Foreign(BaseModel):
    """What others write: unknown keys are passed over, known ones count in any casing."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _fold_keys(cls, value: object) -> object:
        if not isinstance(value, dict):
            return value
        # Should a key stand there in two casings, the first one counts.
        return {key.lower(): item for key, item in reversed(value.items())}


class _Record(_Foreign):
    """An ActionTrail management event: https://www.alibabacloud.com/help/doc-detail/28819.html ."""

    eventname: Annotated[str, StringConstraints(min_length=1)]
    eventtime: Text = None
    errorcode: Any = None
    errormessage: Any = None
    eventsource: Text = None
    acsregion: Text = None
    recipientaccountid: Text = None
    useridentity: Any = None
    responseelements: Any = None
    referencedresources: Any = None
    resourcename: Text = None
    resourcetype: Text = None
    requestparameters: Any = None
    requestparameterjson: Any = None


class _Envelope(_Foreign):
    """Whatever may be handed in, told apart by which keys are there."""

    # A CloudEvent: https://alibabacloud.com/help/en/doc-detail/181428.html
    id: Text = None
    source: Text = None
    subject: Text = None
    aliyunregionid: Text = None
    aliyunaccountid: Text = None
    data: Any = None
    # A bare ActionTrail record.
    eventid: Text = None
    # What FC sends to a destination: https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
    requestpayload: Any = None
    # A dead letter of ours.
    version: Any = None
    event: Any = None
    event_encoding: Any = None
    redrives: Any = None


@dataclass(frozen=True, slots=True)
class BucketEvent:
    """One event of the audit trail, not yet judged."""

    name: str
    time: datetime | None
    failed: bool
    record: _Record
    subject: str | None
    # Where the record itself does not tell them.
    region: str | None
    account_id: str | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """The innermost event that was handed in: its bytes, and what could be read of them.

    `source` and `event_id` identify it, so that a repeat is known as one.
    """

    raw: bytes
    redrives: int
    source: str | None
    event_id: str | None
    event: BucketEvent | InvalidEvent


@dataclass(frozen=True, slots=True)
class NamedBucket:
    """A bucket, and the place that named it first."""

    arn: TableBucketArn
    named_by: str | None


@dataclass(frozen=True, slots=True)
class Payload:
    """What one invocation was handed: `is_array` if it was, at its innermost, a list of events."""

    deliveries: tuple[Delivery, ...]
    is_array: bool


def open_payload(event: object) -> Payload:
    """Read what a handler may be given: bytes, or the same as text or as parsed JSON.

    Wrappings (arrays, FC's destination records, our own dead letters) are taken off; what cannot be
    read becomes a delivery whose event is the InvalidEvent that says why.
    """
    return _open(_as_bytes(event), redrives=0, depth=0)


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
    return _strings(event.record.responseelements, "arn", "tablebucketarn")


def _in_referenced_resources(event: BucketEvent) -> Iterator[str]:
    groups = []
    for kind, names in _mapping(event.record.referencedresources).items():
        listed = names if isinstance(names, list) else [names]
        groups.append((kind, [name for name in listed if isinstance(name, str)]))
    return _preferring_buckets(groups)


def _in_resource_name(event: BucketEvent) -> Iterator[str]:
    kinds = (event.record.resourcetype or "").split(";")
    names = (event.record.resourcename or "").split(";")
    kinds += [""] * (len(names) - len(kinds))
    return _preferring_buckets(
        [
            (kind, [name.strip() for name in joined.split(",") if name.strip()])
            for kind, joined in zip(kinds, names, strict=False)
        ]
    )


def _preferring_buckets(groups: list[tuple[str, list[str]]]) -> Iterator[str]:
    filled = [group for group in groups if group[1]]
    buckets = [group for group in filled if "bucket" in group[0].lower()]
    for _, names in buckets or filled:
        yield from names


def _in_request_parameters(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.requestparameters)


def _in_request_parameter_json(event: BucketEvent) -> Iterator[str]:
    return _request(event.record.requestparameterjson)


def _request(parameters: object) -> Iterator[str]:
    yield from _strings(parameters, "tablebucketarn", "name", "bucketname")
    for url in _strings(parameters, "uri", "url"):
        match = _PATH_ARN.search(unquote(url.partition("?")[0]))
        if match:
            yield match[1]


def _in_event_source(event: BucketEvent) -> Iterator[str]:
    match = _HOST.fullmatch(event.record.eventsource or "")
    if match:
        yield f"acs:osstables:{match['region']}:{match['account_id']}:bucket/{match['name']}"


def _in_subject(event: BucketEvent) -> Iterator[str]:
    subject = event.subject or ""
    match = _SUBJECT.fullmatch(subject)
    if claims_oss_tables(subject):
        yield subject
    elif match:
        yield match[1]


PLACES: Final[tuple[tuple[str, Callable[[BucketEvent], Iterator[str]]], ...]] = (
    ("responseElements", _in_response_elements),
    ("referencedResources", _in_referenced_resources),
    ("resourceName", _in_resource_name),
    ("requestParameters", _in_request_parameters),
    ("requestParameterJson", _in_request_parameter_json),
    ("eventSource", _in_event_source),
    ("subject", _in_subject),
)


def _mapping(value: object) -> dict[str, object]:
    """An object, or the JSON text of one; anything else is as good as absent."""
    if isinstance(value, str):
        try:
            value = from_json(value)
        except ValueError:
            return {}
    return value if isinstance(value, dict) else {}


def _strings(place: object, *keys: str) -> Iterator[str]:
    """The strings under these keys (given in lower case), in whatever casing they stand."""
    for key, value in _mapping(place).items():
        if key.lower() in keys and isinstance(value, str):
            yield value


# Taking off the wrappings.


def _as_bytes(event: object) -> bytes:
    if isinstance(event, (bytes, bytearray, memoryview)):
        return bytes(event)
    if isinstance(event, str):
        return event.encode("utf-8", "surrogatepass")
    return json.dumps(event, default=str).encode()


def _open(raw: bytes, *, redrives: int, depth: int) -> Payload:
    envelope = None
    try:
        if depth > DEEPEST_WRAPPING:
            raise InvalidEvent(f"The event is wrapped more than {DEEPEST_WRAPPING} times.")
        if raw.lstrip(b" \t\r\n")[:1] == b"[":
            return _open_array(raw, redrives=redrives, depth=depth)
        envelope = _Envelope.model_validate_json(raw)
        if envelope.requestpayload is not None:
            inner = _requested(envelope.requestpayload)
            return _open(inner, redrives=redrives, depth=depth + 1)
        if envelope.event is not None and envelope.event_encoding is not None:
            inner, counted = _lettered(envelope)
            return _open(inner, redrives=max(redrives, counted), depth=depth + 1)
        event: BucketEvent | InvalidEvent = _read(envelope, raw)
    except InvalidEvent as error:
        event = error
    except ValidationError as error:
        why = error.errors(include_url=False, include_input=False)[0]["msg"]
        event = InvalidEvent(f"The event is not a JSON object: {why}.")
    return Payload((_deliver(raw, redrives, envelope, event),), is_array=False)


def _open_array(raw: bytes, *, redrives: int, depth: int) -> Payload:
    try:
        items = _slices(raw.decode())
    except (ValueError, RecursionError) as error:
        raise InvalidEvent(f"The event is not a JSON array: {error}.") from None
    if not items:
        event = InvalidEvent("The event is an empty array.")
        return Payload((_deliver(raw, redrives, None, event),), is_array=True)
    opened = (_open(item.encode(), redrives=redrives, depth=depth + 1) for item in items)
    return Payload(tuple(d for payload in opened for d in payload.deliveries), is_array=True)


def _slices(text: str) -> list[str]:
    """The items of a JSON array, each as the exact piece of text that it is."""
    decoder = json.JSONDecoder()
    at = _skip_space(text, text.index("[") + 1)
    items: list[str] = []
    if text[at : at + 1] == "]":
        end = at
    else:
        while True:
            _, end = decoder.raw_decode(text, at)
            items.append(text[at:end])
            end = _skip_space(text, end)
            if text[end : end + 1] != ",":
                break
            at = _skip_space(text, end + 1)
    if text[end : end + 1] != "]" or text[end + 1 :].strip(" \t\r\n"):
        raise ValueError(f"expected ',' or ']' at character {end}")
    return items


_SPACE = re.compile(r"[ \t\r\n]*")


def _skip_space(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at


def _requested(payload: object) -> bytes:
    if not isinstance(payload, str) or not payload:
        raise InvalidEvent("The destination record's requestPayload is not a text with an event.")
    return payload.encode("utf-8", "surrogatepass")


def _lettered(letter: _Envelope) -> tuple[bytes, int]:
    """The event in a dead letter of ours, and how often it was sent again."""
    if letter.version != 1:
        raise InvalidEvent(
            f"It looks like a dead letter of version {quoted(str(letter.version)[:9])}; this guard"
            " reads version 1."
        )
    redrives = max(letter.redrives, 0) if isinstance(letter.redrives, int) else 0
    if not isinstance(letter.event, str) or not letter.event:
        raise InvalidEvent("The dead letter holds no event: it was too large, see the log.")
    if letter.event_encoding == "utf-8":
        return letter.event.encode(), redrives
    try:
        packed = b64decode(letter.event, validate=True)
        if letter.event_encoding == "base64":
            return packed, redrives
        if letter.event_encoding == "gzip+base64":
            return _unpack(packed), redrives
    except (ValueError, zlib.error) as error:
        raise InvalidEvent(f"The dead letter's event cannot be decoded: {error}.") from None
    raise InvalidEvent(
        f"The dead letter's encoding {quoted(str(letter.event_encoding))} is not known."
    )


def _unpack(packed: bytes) -> bytes:
    unpacker = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)  # 16: with a gzip header
    event = unpacker.decompress(packed, LARGEST_EVENT)
    if not unpacker.eof:
        raise ValueError(f"cut short, or more than {LARGEST_EVENT} bytes")
    return event


def _read(envelope: _Envelope, raw: bytes) -> BucketEvent:
    try:
        if envelope.data is not None:
            record = _Record.model_validate(_mapping(envelope.data))
        else:
            record = _Record.model_validate_json(raw)
    except ValidationError:
        where = "data" if envelope.data is not None else "the event"
        raise InvalidEvent(f"There is no record with an eventName (a text) in {where}.") from None
    account_ids = _strings(record.useridentity, "accountid")
    return BucketEvent(
        name=record.eventname,
        time=_time(record.eventtime),
        failed=bool(record.errorcode or record.errormessage),
        record=record,
        subject=envelope.subject,
        region=record.acsregion or envelope.aliyunregionid,
        account_id=record.recipientaccountid or next(account_ids, None) or envelope.aliyunaccountid,
    )


def _time(text: str | None) -> datetime | None:
    try:
        # Python 3.10 does not know the Z.
        at = datetime.fromisoformat((text or "").replace("Z", "+00:00"))
    except ValueError:
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


def _deliver(
    raw: bytes,
    redrives: int,
    envelope: _Envelope | None,
    event: BucketEvent | InvalidEvent,
) -> Delivery:
    if envelope is None:
        return Delivery(raw, redrives, source=None, event_id=None, event=event)
    record_id = next(_strings(envelope.data, "eventid"), envelope.eventid)
    return Delivery(raw, redrives, envelope.source, envelope.id or record_id, event)
