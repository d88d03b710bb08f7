"""OSS Tables on loopback: table buckets with state, behind the service's own authentication."""

import json
import secrets
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import Call, Clock, EmulatedService, RefusedError, utc_now
from tests.emulators.faults import Faults, Refuse
from tests.emulators.oss_tables_access import TELLING_CODES, authenticate
from tests.emulators.oss_tables_operations import Asked, Operations
from tests.emulators.oss_tables_requests import (
    WRITES,
    BucketArn,
    Route,
    bucket_arn,
    check_content,
    check_host,
    route,
)
from tests.emulators.oss_tables_state import Encryption, Table, TableBucket, TableBuckets
from tests.emulators.server import Authority
from tests.emulators.wire import Answer, Request

DEFAULT_CODES = {
    400: "BadRequestException",
    401: "UnauthorizedException",
    403: "ForbiddenException",
    404: "NotFoundException",
    405: "MethodNotAllowedException",
    408: "RequestTimeoutException",
    409: "ConflictException",
    429: "TooManyRequestsException",
    500: "InternalServerException",
    503: "ServiceUnavailableException",
}


@dataclass(frozen=True)
class ApiCall:
    """A call that changes something, or was meant to: what an audit trail records of it."""

    operation: str
    region: str
    account_id: str
    access_key_id: str
    bucket: str | None
    arn: str | None
    request_id: str
    at: datetime
    host: str
    path: str
    request_body: bytes
    error_code: str | None = None
    error_message: str | None = None
    user_name: str | None = None


class OssTables(EmulatedService):
    """The service.

    `unset`: how it answers for an encryption that was never set. `error_types`: whether the code
    tells a skewed clock and a bad token apart from other 403s, or leaves that to the message.
    `invisible_requests`: how often a bucket that was just created is not found yet. `on_event`
    gets every write call of a known caller, in the request's thread, before it is answered.
    """

    server_name = "AliyunOSS"
    request_id_header = "x-oss-request-id"
    named_in_body = frozenset({("PUT", "/buckets")})

    def __init__(
        self,
        *access_keys: AccessKey,
        region: str = "cn-hangzhou",
        unset: Literal["empty", "not_found"] = "empty",
        error_types: Literal["telling", "generic"] = "telling",
        invisible_requests: int = 0,
        bucket_quota: int | None = 10,
        on_event: Callable[[ApiCall], object] | None = None,
        authority: Authority | None = None,
        host_names: Sequence[str] = (),
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(
            *access_keys, authority=authority, host_names=host_names, faults=faults, clock=clock
        )
        self.region = region
        self.on_event = on_event
        self.error_types = error_types
        self._state = TableBuckets()
        self._operations = Operations(
            self._state, unset, invisible_requests, bucket_quota, self.rights
        )

    def plant(
        self,
        name: str,
        *,
        region: str | None = None,
        account_id: str | None = None,
        encryption: str | None = None,
        kms_key_arn: str = "",
        kind: str | None = "customer",
        invisible_requests: int = 0,
        created_at: datetime | None = None,
    ) -> str:
        """Put a bucket there without an API call, with any encryption, and return its ARN.

        `kind` is what lists call its type; None leaves that out.
        The region is the emulator's and the account that of its first key, unless given.
        """
        account_id = account_id or next(iter(self.keys.values())).account_id
        arn = bucket_arn(str(BucketArn(region or self.region, account_id, name)))
        bucket = TableBucket(
            arn,
            created_at or self._clock(),
            str(uuid.uuid4()),
            None if encryption is None else Encryption(encryption, kms_key_arn),
            kind,
            invisible_requests,
        )
        self._state.put(bucket)
        return str(arn)

    def plant_table(
        self,
        arn: str,
        namespace: str,
        name: str,
        *,
        encryption: str | None = None,
        unencrypted: bool = False,
        created_at: datetime | None = None,
    ) -> str:
        """Put a table into a bucket, whose encryption it takes unless it has its own.

        One that is `unencrypted` was made without, and says so whatever its bucket has.
        """
        bucket = bucket_arn(arn)
        if namespace not in self._state.namespaces(bucket):
            self._state.add_namespace(bucket, namespace)
        own = None if encryption is None else Encryption(encryption)
        return self._state.add_table(
            bucket,
            namespace,
            name,
            created_at=created_at or self._clock(),
            encryption=own,
            unencrypted=unencrypted,
        ).arn

    def remove(self, arn: str) -> None:
        """Take a bucket away with everything in it, without an API call."""
        self._state.remove(bucket_arn(arn), with_contents=True)

    def decrypt(self, arn: str) -> None:
        """Take a bucket's encryption off without an API call: drift of which no event tells."""
        self._state.encrypt(bucket_arn(arn), None)

    def buckets(self) -> list[TableBucket]:
        """All buckets of all accounts and regions, in the order of creation."""
        return self._state.all()

    def tables(self, arn: str) -> list[Table]:
        """The tables of a bucket, each with what encrypts its files."""
        return self._state.tables(bucket_arn(arn))

    def files_of(self, arn: str, namespace: str, name: str) -> str | None:
        """The algorithm that a table's files have, whatever the table shows."""
        encryption = self._state.table(bucket_arn(arn), namespace, name).encryption
        return None if encryption is None else encryption.algorithm

    def encryption(self, arn: str) -> str | None:
        """The algorithm that the bucket's new tables get."""
        encryption = self._state.get(bucket_arn(arn)).encryption
        return None if encryption is None else encryption.algorithm

    def new_request_id(self) -> str:
        return secrets.token_hex(12).upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        found = route(request)
        if found is None:
            return None, None
        return found.operation, _bucket_name(found, request)

    def perform(self, call: Call) -> Answer:
        found = route(call.request)
        if found is None:
            raise RefusedError(
                Refuse(405, message="The specified method is not allowed against this resource.")
            )
        bucket = found.bucket
        key, region = authenticate(
            call.request,
            self.keys,
            bucket=bucket,
            host_region=check_host(call.request, bucket),
            now=call.now,
        )
        asked = Asked(call.request, found, key, region, call.now)
        try:
            check_content(call.request)
            answer = self._operations.carry_out(asked)
        except RefusedError as error:
            self._report(call, asked, error.refusal)
            raise
        self._report(call, asked, None)
        return answer

    def refused(self, refusal: Refuse, _call: Call, /) -> Answer:
        code = refusal.code or DEFAULT_CODES.get(refusal.status, "UnknownException")
        if self.error_types == "generic" and code in TELLING_CODES:
            code = DEFAULT_CODES[403]
        headers = {
            "Content-Type": "application/json",
            "x-oss-error-type": code,
            "x-oss-ec": f"0000-{refusal.status:08}",
        }
        body = json.dumps({"message": refusal.message}).encode()
        return Answer(refusal.status, headers | dict(refusal.headers), body)

    def _report(self, call: Call, asked: Asked, refusal: Refuse | None) -> None:
        if self.on_event is None or asked.route.operation not in WRITES:
            return
        event = ApiCall(
            operation=asked.route.operation,
            region=asked.region,
            account_id=asked.key.account_id,
            access_key_id=asked.key.id,
            bucket=call.resource,
            arn=_arn(asked, call.resource),
            request_id=call.request_id,
            at=call.now,
            host=call.request.headers.get("host", ""),
            path=call.request.path,
            request_body=call.request.body,
            user_name=asked.key.user_name,
        )
        if refusal is not None:
            code = refusal.code or DEFAULT_CODES.get(refusal.status)
            event = replace(event, error_code=code, error_message=refusal.message)
        self.on_event(event)


def _arn(asked: Asked, name: str | None) -> str | None:
    if asked.route.arn is not None:
        return asked.route.arn
    return None if name is None else str(BucketArn(asked.region, asked.key.account_id, name))


def _bucket_name(found: Route, request: Request) -> str | None:
    if found.operation == "CreateTableBucket":
        try:
            name = json.loads(request.body)["name"]
        except (ValueError, KeyError, TypeError):
            return None
        return name if isinstance(name, str) else None
    try:
        return None if found.bucket is None else found.bucket.name
    except RefusedError:
        return None
