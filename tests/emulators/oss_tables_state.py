"""The table buckets that exist, their encryption, and the tables in them."""

import threading
import uuid
from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter

from tests.emulators.emulated_service import RefusedError
from tests.emulators.faults import Refuse
from tests.emulators.oss_tables_requests import BucketArn


@dataclass(frozen=True)
class Encryption:
    """A default encryption: of a bucket, or of a table since it was created."""

    algorithm: str
    kms_key_arn: str = ""


@dataclass(frozen=True)
class TableBucket:
    """A table bucket. It answers 404 to the next `invisible_requests` requests about it."""

    arn: BucketArn
    created_at: datetime
    table_bucket_id: str
    encryption: Encryption | None = None
    kind: str | None = "customer"
    invisible_requests: int = 0


@dataclass(frozen=True)
class Table:
    """A table; what encrypts its files was settled when it was created.

    One that `inherits` shows the encryption that its bucket has now, whatever its files have.
    """

    arn: str
    namespace: str
    name: str
    created_at: datetime
    encryption: Encryption | None
    inherits: bool


BY_NAME = attrgetter("name")


def not_found(message: str) -> RefusedError:
    return RefusedError(Refuse(404, "NotFoundException", message))


def conflict(message: str) -> RefusedError:
    return RefusedError(Refuse(409, "ConflictException", message))


class TableBuckets:
    """All buckets of all accounts and regions, behind one lock."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._buckets: dict[BucketArn, TableBucket] = {}
        # By account and region, sorted by name: a list of 10,000 is asked for page after page.
        self._owned: defaultdict[tuple[str, str], list[BucketArn]] = defaultdict(list)
        self._namespaces: dict[BucketArn, set[str]] = {}
        self._tables: dict[BucketArn, dict[tuple[str, str], Table]] = {}

    def put(self, bucket: TableBucket, *, quota: int | None = None) -> None:
        """Add a bucket; a name is taken once per account and region."""
        with self._lock:
            if bucket.arn in self._buckets:
                raise conflict("The requested bucket name already exists.")
            owned = self._owned[bucket.arn.account_id, bucket.arn.region]
            if quota is not None and len(owned) >= quota:
                raise RefusedError(
                    Refuse(400, "BadRequestException", "You have too many table buckets.")
                )
            self._buckets[bucket.arn] = bucket
            insort(owned, bucket.arn, key=BY_NAME)
            self._namespaces[bucket.arn] = set()
            self._tables[bucket.arn] = {}

    def all(self) -> list[TableBucket]:
        with self._lock:
            return list(self._buckets.values())

    def owned_by(self, account_id: str, region: str, *, after: str = "") -> Iterator[TableBucket]:
        """Those of one account in one region, by name, from after a name on."""
        with self._lock:
            owned = self._owned[account_id, region]
            arns = owned[bisect_right(owned, after, key=BY_NAME) :]
        found = (self._buckets.get(arn) for arn in arns)
        yield from (bucket for bucket in found if bucket is not None)

    def get(self, arn: BucketArn) -> TableBucket:
        """The bucket, visible or not."""
        with self._lock:
            try:
                return self._buckets[arn]
            except KeyError:
                raise not_found("The specified table bucket does not exist.") from None

    def require_visible(self, arn: BucketArn) -> TableBucket:
        """The bucket as a request finds it; an invisible one comes nearer to the light."""
        with self._lock:
            bucket = self.get(arn)
            if bucket.invisible_requests == 0:
                return bucket
            left = bucket.invisible_requests - 1
            self._buckets[arn] = replace(bucket, invisible_requests=left)
            raise not_found("The specified table bucket does not exist.")

    def encrypt(self, arn: BucketArn, encryption: Encryption | None) -> None:
        with self._lock:
            self._buckets[arn] = replace(self.get(arn), encryption=encryption)

    def remove(self, arn: BucketArn, *, with_contents: bool = False) -> None:
        with self._lock:
            self.get(arn)
            if self._namespaces[arn] and not with_contents:
                raise conflict("The bucket has objects. Please delete them first.")
            owned = self._owned[arn.account_id, arn.region]
            del owned[bisect_left(owned, arn.name, key=BY_NAME)]
            del self._buckets[arn], self._namespaces[arn], self._tables[arn]

    def add_namespace(self, arn: BucketArn, namespace: str) -> None:
        with self._lock:
            self.get(arn)
            if namespace in self._namespaces[arn]:
                raise conflict("The namespace already exists.")
            self._namespaces[arn].add(namespace)

    def namespaces(self, arn: BucketArn) -> list[str]:
        with self._lock:
            self.get(arn)
            return sorted(self._namespaces[arn])

    def add_table(
        self,
        arn: BucketArn,
        namespace: str,
        name: str,
        *,
        created_at: datetime,
        encryption: Encryption | None = None,
        unencrypted: bool = False,
    ) -> Table:
        """Add a table with its own encryption, with one that is off, or with the bucket's."""
        with self._lock:
            bucket = self.get(arn)
            if namespace not in self._namespaces[arn]:
                raise not_found("The specified namespace does not exist.")
            if (namespace, name) in self._tables[arn]:
                raise conflict("The table already exists.")
            table = Table(
                f"{arn}/table/{uuid.uuid4()}",
                namespace,
                name,
                created_at,
                None if unencrypted else encryption or bucket.encryption,
                inherits=not (unencrypted or encryption),
            )
            self._tables[arn][namespace, name] = table
            return table

    def tables(self, arn: BucketArn, namespace: str | None = None) -> list[Table]:
        with self._lock:
            self.get(arn)
            found: Iterable[tuple[tuple[str, str], Table]] = sorted(self._tables[arn].items())
        return [table for _, table in found if namespace in (None, table.namespace)]

    def table(self, arn: BucketArn, namespace: str, name: str) -> Table:
        with self._lock:
            self.get(arn)
            try:
                return self._tables[arn][namespace, name]
            except KeyError:
                raise not_found("The specified table does not exist.") from None
