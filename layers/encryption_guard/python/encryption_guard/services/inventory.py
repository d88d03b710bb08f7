"""The lists of buckets, namespaces and tables in OSS Tables, and the encryption of each entry.

An encryption has three states, not two: if the service does not clearly state it, it is unknown,
with a reason. The service returns lists page by page:
https://help.aliyun.com/en/oss/developer-reference/listtablebuckets
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

# The regions that offer OSS Tables: https://www.alibabacloud.com/help/en/oss/user-guide/quick-start
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

GONE = "OSS Tables does not find it: it was deleted after it was listed, or is not visible yet."

# In characters; a page of such names is far smaller than MAX_PAGE_BYTES.
MAX_NAME_LENGTH = 255
PAGE_SIZE = 100
MAX_PAGE_BYTES = 1024 * 1024


# The service's ID, else the time of creation: a new bucket may have the name of a deleted one.
BucketIdentity = tuple[TableBucketArn, str | datetime | None]


@dataclass(frozen=True, slots=True)
class ListedBucket:
    """A table bucket, as an entry of a list."""

    arn: TableBucketArn
    created_at: datetime | None
    # The unchanged `type` of the entry.
    kind: str | None = None
    id: str | None = None

    @classmethod
    def read(cls, entry: object, *, region: str) -> ListedBucket:
        """Read the entry of a list; raises InvalidEvent unless it is a bucket in this region."""
        arn = TableBucketArn.parse(_text(entry, "arn"))
        if arn.region != region:
            raise InvalidEvent(f"The list of {region} contains {arn}, which names another region.")
        return cls(
            arn,
            read_time(_text(entry, "createdAt")),
            kind=_text(entry, "type") or None,
            id=_text(entry, "tableBucketId") or None,
        )

    @property
    def identity(self) -> BucketIdentity:
        """The key that distinguishes this bucket from every other one."""
        return self.arn, self.id or self.created_at


@dataclass(frozen=True, slots=True)
class ListedTable:
    """A table, as an entry of a list."""

    bucket: TableBucketArn
    namespace: str
    name: str
    created_at: datetime | None

    @classmethod
    def read(cls, entry: object, *, bucket: TableBucketArn, namespace: str) -> ListedTable:
        """Read the entry of a list; raises InvalidEvent unless it is a table."""
        return cls(
            bucket, namespace, _name(_text(entry, "name")), read_time(_text(entry, "createdAt"))
        )


def read_namespace(entry: object) -> str:
    """Return the name of a namespace; raises InvalidEvent unless the entry has exactly one."""
    names = entry.get("namespace") if isinstance(entry, dict) else None
    if not isinstance(names, list) or len(names) != 1:
        raise InvalidEvent(f"{quoted(str(entry))} is not the entry of a namespace.")
    return _name(names[0])


def _text(entry: object, key: str) -> str:
    value = entry.get(key) if isinstance(entry, dict) else None
    return value if isinstance(value, str) else ""


def _name(text: object) -> str:
    # In a path, a name such as `..` would lead to another resource.
    if not isinstance(text, str) or not text.strip(".") or len(text) > MAX_NAME_LENGTH:
        raise InvalidEvent(f"{quoted(str(text))} is not the name of a namespace or table.")
    return text


# Encryption.


def read_bucket(tables: OssTables, arn: TableBucketArn) -> Reading:
    """Read the default encryption of a bucket."""
    get_bucket = bucket_operation("GetTableBucket", "GET", arn)
    return _read(tables, get_encryption(arn), get_bucket)


def read_table(tables: OssTables, table: ListedTable) -> Reading:
    """Read the encryption that a table received at its creation."""
    path = (
        f"{_bucket_path('tables', table.bucket)}/{_escaped(table.namespace)}/{_escaped(table.name)}"
    )
    encryption = _get("GetTableEncryption", f"{path}/encryption", table.bucket)
    parameters = {
        "tableBucketARN": str(table.bucket),
        "namespace": table.namespace,
        "name": table.name,
    }
    get_table = _get("GetTable", "get-table", table.bucket, _query(parameters))
    return _read(tables, encryption, get_table)


def _read(tables: OssTables, encryption: Operation, existence: Operation) -> Reading:
    reading = _ask(tables, encryption, read_encryption)
    # The documentation does not state whether a missing encryption is an empty 200 or a 404.
    return _ask(tables, existence, _read_existence) if reading.gone else reading


def _ask(tables: OssTables, operation: Operation, parse: Callable[[Answer], Reading]) -> Reading:
    try:
        return tables.call(operation, parse)
    except Unavailable as error:
        return Reading("unknown", why=str(error))
    except Refused as refused:
        is_gone = refused.reason == "not_found"
        return Reading(
            "unknown",
            why=GONE if is_gone else explain(refused, operation.name),
            gone=is_gone,
            status=refused.status,
            code=refused.code,
            oss_request_id=refused.oss_request_id,
        )


def explain(error: Refused | Unavailable, operation: str) -> str:
    """Return the error's message and, after a 403, the permission that may be missing."""
    if isinstance(error, Refused) and error.status == 403:
        return f"{error} If that is a missing right, grant oss:{operation}."
    return str(error)


def _read_existence(answer: Answer) -> Reading:
    """Return not_encrypted if the bucket or the table exists: its encryption was not found."""
    if not isinstance(read_object(answer).get("name"), str):
        raise UnreadableAnswer("an object without a name")
    return _not_encrypted(answer)


def _not_encrypted(answer: Answer) -> Reading:
    return Reading("not_encrypted", status=answer.status, oss_request_id=oss_request_id(answer))


# Lists.


@dataclass(frozen=True, slots=True)
class Listing:
    """A list, from one of its pages on.

    `items` is the key of the entries in an answer; `seen` holds the tokens of earlier pages.
    """

    operation: Operation
    items: str
    parameters: dict[str, str]
    seen: frozenset[str] = frozenset()

    def page(self, tables: OssTables) -> Page:
        """Read one page; raises the errors of OssTables.call."""
        operation = self.operation._replace(query=_query(self.parameters), max_bytes=MAX_PAGE_BYTES)
        entries, token = tables.call(operation, partial(_page, items=self.items))
        if not token:
            return Page(entries, None)
        if token in self.seen:
            return Page(entries, None, is_circular=True)
        parameters = self.parameters | {"continuationToken": token}
        return Page(entries, replace(self, parameters=parameters, seen=self.seen | {token}))


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a list: its unchanged entries, and the rest of the list.

    It is circular if its token leads back to an earlier page: the list may then have more entries
    than the guard can read.
    """

    entries: tuple[Any, ...]
    rest: Listing | None
    is_circular: bool = False


def bucket_list(region: str) -> Listing:
    """Return the list of the caller's own table buckets in a region."""
    operation = Operation(name="ListTableBuckets", method="GET", path="buckets", region=region)
    return Listing(operation, "tableBuckets", {"maxBuckets": str(PAGE_SIZE)})


def namespace_list(arn: TableBucketArn) -> Listing:
    """Return the list of the namespaces in a bucket."""
    operation = _get("ListNamespaces", _bucket_path("namespaces", arn), arn)
    return Listing(operation, "namespaces", {"maxNamespaces": str(PAGE_SIZE)})


def table_list(arn: TableBucketArn, namespace: str) -> Listing:
    """Return the list of the tables in a namespace."""
    operation = _get("ListTables", _bucket_path("tables", arn), arn)
    return Listing(operation, "tables", {"namespace": namespace, "maxTables": str(PAGE_SIZE)})


def _page(answer: Answer, *, items: str) -> tuple[tuple[Any, ...], str | None]:
    parsed = read_object(answer)
    # An empty object, or one with only a token, is an empty list.
    if items not in parsed and parsed.keys() - {"continuationToken"}:
        raise UnreadableAnswer("not a list")
    entries, token = parsed.get(items), parsed.get("continuationToken")
    if not isinstance(entries, list | None) or not isinstance(token, str | None):
        raise UnreadableAnswer("not a list")
    return tuple(entries or ()), token or None


def _bucket_path(kind: str, arn: TableBucketArn) -> str:
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
