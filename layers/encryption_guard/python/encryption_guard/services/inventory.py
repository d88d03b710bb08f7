"""What there is in OSS Tables, and what the service clearly says of each encryption.

Three states, never two: what was not clearly said is unknown, with the reason. Lists come page by
page: https://help.aliyun.com/en/oss/developer-reference/listtablebuckets
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, Final
from urllib.parse import quote

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import InvalidEvent, Refused, Unavailable
from encryption_guard.http import Answer
from encryption_guard.http.retries import UnreadableAnswer
from encryption_guard.services.oss_tables import (
    Operation,
    OssTables,
    Reading,
    bucket_operation,
    get_encryption,
    oss_request_id,
    read_encryption,
    read_object,
)
from encryption_guard.untrusted import quoted, read_time

# Where OSS Tables is offered: https://www.alibabacloud.com/help/en/oss/user-guide/quick-start
REGIONS: Final = (
    "cn-hangzhou",
    "cn-shanghai",
    "cn-beijing",
    "cn-shenzhen",
    "cn-wulanchabu",
    "ap-southeast-1",
    "eu-central-1",
    "us-east-1",
)

GONE = "OSS Tables says that it is not there: deleted since it was listed, or not yet visible."

# What a name may have; a page of such names is far below the longest that is read.
MAX_NAME_LENGTH = 255
PAGE_SIZE = 100
MAX_PAGE_BYTES = 1024 * 1024


# Another bucket may get the name of one that was deleted: it is known with its creation.
BucketIdentity = tuple[TableBucketArn, datetime | None]


@dataclass(frozen=True, slots=True)
class ListedBucket:
    """A table bucket, as a list tells of it."""

    arn: TableBucketArn
    created_at: datetime | None
    # Its `type`, as it came.
    kind: str | None = None

    @classmethod
    def read(cls, entry: object, *, region: str) -> ListedBucket:
        """Raises InvalidEvent for what is not the entry of a bucket in this region."""
        arn = TableBucketArn.parse(_text(entry, "arn"))
        if arn.region != region:
            raise InvalidEvent(f"It is listed in {region}, but its ARN is {arn}.")
        return cls(arn, read_time(_text(entry, "createdAt")), _text(entry, "type") or None)

    @property
    def identity(self) -> BucketIdentity:
        """What tells it from another one."""
        return self.arn, self.created_at


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table, as a list tells of it."""

    bucket: TableBucketArn
    namespace: str
    name: str
    created_at: datetime | None

    @classmethod
    def read(cls, entry: object, *, bucket: TableBucketArn, namespace: str) -> ListedTable:
        """Raises InvalidEvent for what is not the entry of a table."""
        return cls(
            bucket, namespace, _name(_text(entry, "name")), read_time(_text(entry, "createdAt"))
        )


def read_namespace(entry: object) -> str:
    """The one name of a namespace; raises InvalidEvent for what has none, or several."""
    names = entry.get("namespace") if isinstance(entry, dict) else None
    if not isinstance(names, list) or len(names) != 1:
        raise InvalidEvent(f"{quoted(str(entry))} is not the entry of a namespace.")
    return _name(names[0])


def _text(entry: object, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _name(text: object) -> str:
    # Dots alone would lead elsewhere in a path.
    if not isinstance(text, str) or not text.strip(".") or len(text) > MAX_NAME_LENGTH:
        raise InvalidEvent(f"{quoted(str(text))} is not the name of a namespace or table.")
    return text


# How an encryption is read.


def read_bucket(tables: OssTables, arn: TableBucketArn) -> Reading:
    """Read a bucket's default encryption."""
    exists = bucket_operation("GetTableBucket", "GET", arn)
    return _read(tables, get_encryption(arn), exists)


def read_table(tables: OssTables, table: ListedTable) -> Reading:
    """Read the encryption that a table got when it was created."""
    path = f"{_below('tables', table.bucket)}/{_escaped(table.namespace)}/{_escaped(table.name)}"
    encryption = _get("GetTableEncryption", f"{path}/encryption", table.bucket)
    named = {"tableBucketARN": str(table.bucket), "namespace": table.namespace, "name": table.name}
    exists = _get("GetTable", "get-table", table.bucket, _query(named))
    return _read(tables, encryption, exists)


def _read(tables: OssTables, encryption: Operation, exists: Operation) -> Reading:
    reading = _ask(tables, encryption, read_encryption)
    # No page tells whether an encryption that was never set is a 200 without one or a 404.
    return _ask(tables, exists, _exists) if reading.gone else reading


def _ask(tables: OssTables, operation: Operation, parse: Callable[[Answer], Reading]) -> Reading:
    try:
        return tables.call(operation, parse)
    except Unavailable as error:
        return Reading("unknown", why=str(error))
    except Refused as refused:
        is_gone = refused.reason == "not_found"
        return Reading(
            "unknown",
            why=GONE if is_gone else sentence(refused, operation.name),
            gone=is_gone,
            status=refused.status,
            code=refused.code,
            oss_request_id=refused.oss_request_id,
        )


def sentence(error: Refused | Unavailable, operation: str) -> str:
    """What happened, and where it may be a missing right, which."""
    if isinstance(error, Refused) and error.status == 403:
        return f"{error} If that is a missing right, grant oss:{operation}."
    return str(error)


def _exists(answer: Answer) -> Reading:
    """What a bucket or a table tells of itself; it had no encryption to tell of before."""
    if not isinstance(read_object(answer).get("name"), str):
        raise UnreadableAnswer("nothing with a name")
    return _not_encrypted(answer)


def _not_encrypted(answer: Answer) -> Reading:
    return Reading("not_encrypted", status=answer.status, oss_request_id=oss_request_id(answer))


# How lists are read.


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, from one of its pages on; `items` is what the API calls its entries."""

    operation: Operation
    items: str
    parameters: dict[str, str]
    seen: frozenset[str] = frozenset()

    def page(self, tables: OssTables) -> Page:
        """Read one page; raises as OssTables.call does."""
        asked = self.operation._replace(query=_query(self.parameters), longest=MAX_PAGE_BYTES)
        entries, token = tables.call(asked, partial(_page, items=self.items))
        if not token:
            return Page(entries, None)
        if token in self.seen:
            return Page(entries, None, is_circular=True)
        parameters = self.parameters | {"continuationToken": token}
        return Page(entries, replace(self, parameters=parameters, seen=self.seen | {token}))


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a list: its entries as they came, and the rest of it.

    It is circular where its token leads back: there may be more than can be listed.
    """

    entries: tuple[Any, ...]
    rest: Listing | None
    is_circular: bool = False


def bucket_list(region: str) -> Listing:
    """The table buckets of a region that are the caller's own."""
    operation = Operation(name="ListTableBuckets", method="GET", path="buckets", region=region)
    return Listing(operation, "tableBuckets", {"maxBuckets": str(PAGE_SIZE)})


def namespace_list(arn: TableBucketArn) -> Listing:
    """The namespaces of a bucket."""
    operation = _get("ListNamespaces", _below("namespaces", arn), arn)
    return Listing(operation, "namespaces", {"maxNamespaces": str(PAGE_SIZE)})


def table_list(arn: TableBucketArn, namespace: str) -> Listing:
    """The tables of one namespace."""
    operation = _get("ListTables", _below("tables", arn), arn)
    return Listing(operation, "tables", {"namespace": namespace, "maxTables": str(PAGE_SIZE)})


def _page(answer: Answer, *, items: str) -> tuple[tuple[Any, ...], str | None]:
    parsed = read_object(answer)
    # Nothing at all is an empty list; something else is no list.
    if items not in parsed and parsed.keys() - {"continuationToken"}:
        raise UnreadableAnswer("not a list")
    entries, token = parsed.get(items), parsed.get("continuationToken")
    if not isinstance(entries, list | None) or not isinstance(token, str | None):
        raise UnreadableAnswer("not a list")
    return tuple(entries or ()), token or None


def _below(kind: str, arn: TableBucketArn) -> str:
    return f"{kind}/{_escaped(str(arn))}"


def _get(name: str, path: str, bucket: TableBucketArn, query: str = "") -> Operation:
    return Operation(
        name=name,
        method="GET",
        path=path,
        region=bucket.region,
        bucket=bucket,
        query=query,
    )


def _query(parameters: dict[str, str]) -> str:
    return "&".join(f"{name}={_escaped(value)}" for name, value in parameters.items())


def _escaped(text: str) -> str:
    return quote(text, safe="")
