"""What the operations of OSS Tables do, once the caller is known."""

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from tests.emulators.access_keys import AccessKey, Rights
from tests.emulators.oss_tables_access import forbidden
from tests.emulators.oss_tables_documents import (
    bucket_document,
    document,
    encryption_document,
    full_table_document,
    last_key,
    ok,
    page,
    requested_encryption,
    table_document,
    text,
)
from tests.emulators.oss_tables_requests import BucketArn, Route, bad_request, new_bucket_arn
from tests.emulators.oss_tables_state import Encryption, TableBucket, TableBuckets, not_found
from tests.emulators.wire import Answer, Request


@dataclass(frozen=True)
class Asked:
    """An authenticated request: what is asked, by whom, and where."""

    request: Request
    route: Route
    key: AccessKey
    region: str
    now: datetime

    @property
    def arn(self) -> BucketArn:
        """Only for operations on a particular bucket."""
        bucket = self.route.bucket
        assert bucket is not None
        return bucket

    @property
    def resource(self) -> str:
        """What the caller needs the right on."""
        if self.route.arn is None:
            # Which resource listing is checked against is not documented.
            return str(BucketArn(self.region, self.key.account_id, "*"))
        about = f"/table/{self.table}" if self.table else ""
        return f"{self.arn}{about}"

    @property
    def namespace(self) -> str:
        return self.route.namespace or ""

    @property
    def table(self) -> str:
        return self.route.table or ""


@dataclass(frozen=True)
class Operations:
    """The operations, on the state that they change. The fields are those of `OssTables`."""

    state: TableBuckets
    unset: Literal["empty", "not_found"]
    invisible_requests: int
    bucket_quota: int | None
    rights: Rights

    def carry_out(self, asked: Asked) -> Answer:
        self._check_right(asked, asked.route.operation, asked.resource)
        if asked.route.arn is not None:
            self.state.require_visible(asked.arn)
        return OPERATIONS[asked.route.operation](self, asked)

    def create_table_bucket(self, asked: Asked) -> Answer:
        fields = document(asked.request.body)
        arn = new_bucket_arn(asked.region, asked.key.account_id, text(fields, "name"))
        encryption = None
        if fields.get("encryptionConfiguration") is not None:
            self._check_right(asked, "PutTableBucketEncryption", str(arn))
            encryption = requested_encryption(fields)
        bucket = TableBucket(
            arn,
            asked.now,
            str(uuid.uuid4()),
            encryption,
            invisible_requests=self.invisible_requests,
        )
        self.state.put(bucket, quota=self.bucket_quota)
        return ok({"arn": str(arn)})

    def list_table_buckets(self, asked: Asked) -> Answer:
        parameters = asked.request.parameters
        owned = self.state.owned_by(asked.key.account_id, asked.region, after=last_key(parameters))
        visible = ((each.arn.name, each) for each in owned if each.invisible_requests == 0)
        shown, token = page(visible, parameters, limit_name="maxBuckets")
        return ok({"tableBuckets": [bucket_document(bucket) for bucket in shown], **token})

    def get_table_bucket(self, asked: Asked) -> Answer:
        return ok(bucket_document(self.state.get(asked.arn)))

    def delete_table_bucket(self, asked: Asked) -> Answer:
        self.state.remove(asked.arn)
        return Answer(204)

    def put_table_bucket_encryption(self, asked: Asked) -> Answer:
        self.state.encrypt(asked.arn, requested_encryption(document(asked.request.body)))
        return Answer(200)

    def get_table_bucket_encryption(self, asked: Asked) -> Answer:
        return self._encryption(self.state.get(asked.arn).encryption)

    def delete_table_bucket_encryption(self, asked: Asked) -> Answer:
        self.state.encrypt(asked.arn, None)
        return Answer(204)

    def create_namespace(self, asked: Asked) -> Answer:
        named = document(asked.request.body).get("namespace")
        if not isinstance(named, list) or len(named) != 1 or not isinstance(named[0], str):
            raise bad_request("The field namespace must be a list of one name.")
        self.state.add_namespace(asked.arn, named[0])
        return ok({"namespace": named, "tableBucketARN": str(asked.arn)})

    def list_namespaces(self, asked: Asked) -> Answer:
        namespaces = [(name, name) for name in self.state.namespaces(asked.arn)]
        shown, token = page(namespaces, asked.request.parameters, limit_name="maxNamespaces")
        return ok({"namespaces": [{"namespace": [name]} for name in shown], **token})

    def create_table(self, asked: Asked) -> Answer:
        fields = document(asked.request.body)
        own: Encryption | None = None
        if fields.get("encryptionConfiguration") is not None:
            own = requested_encryption(fields)
        table = self.state.add_table(
            asked.arn,
            asked.namespace,
            text(fields, "name"),
            created_at=asked.now,
            encryption=own,
        )
        return ok({"tableARN": table.arn, "versionToken": uuid.uuid4().hex})

    def list_tables(self, asked: Asked) -> Answer:
        parameters = asked.request.parameters
        found = self.state.tables(asked.arn, parameters.get("namespace"))
        tables = sorted(
            ((f"{table.name}\0{table.namespace}", table) for table in found),
            key=lambda pair: pair[0],
        )
        shown, token = page(tables, parameters, limit_name="maxTables")
        return ok({"tables": [table_document(table) for table in shown], **token})

    def get_table(self, asked: Asked) -> Answer:
        table = self.state.table(asked.arn, asked.namespace, asked.table)
        return ok(full_table_document(table, self.state.get(asked.arn)))

    def get_table_encryption(self, asked: Asked) -> Answer:
        table = self.state.table(asked.arn, asked.namespace, asked.table)
        bucket = self.state.get(asked.arn)
        return self._encryption(bucket.encryption if table.inherits else table.encryption)

    def _check_right(self, asked: Asked, operation: str, resource: str) -> None:
        if not self.rights.allow(asked.key, f"oss:{operation}", resource):
            raise _not_allowed(operation)

    def _encryption(self, encryption: Encryption | None) -> Answer:
        if encryption is None and self.unset == "not_found":
            raise not_found("The specified encryption configuration does not exist.")
        return ok(encryption_document(encryption))


OPERATIONS: Mapping[str, Callable[[Operations, Asked], Answer]] = {
    "CreateTableBucket": Operations.create_table_bucket,
    "ListTableBuckets": Operations.list_table_buckets,
    "GetTableBucket": Operations.get_table_bucket,
    "DeleteTableBucket": Operations.delete_table_bucket,
    "PutTableBucketEncryption": Operations.put_table_bucket_encryption,
    "GetTableBucketEncryption": Operations.get_table_bucket_encryption,
    "DeleteTableBucketEncryption": Operations.delete_table_bucket_encryption,
    "CreateNamespace": Operations.create_namespace,
    "ListNamespaces": Operations.list_namespaces,
    "CreateTable": Operations.create_table,
    "ListTables": Operations.list_tables,
    "GetTable": Operations.get_table,
    "GetTableEncryption": Operations.get_table_encryption,
}


def _not_allowed(operation: str) -> Exception:
    return forbidden(
        "ForbiddenException", f"You have no right to perform oss:{operation}.", "0003-00000001"
    )
