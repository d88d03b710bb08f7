"""The JSON that OSS Tables takes and gives."""

import base64
import binascii
import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, TypeVar

from tests.emulators.oss_tables_requests import bad_request
from tests.emulators.oss_tables_state import Encryption, Table, TableBucket
from tests.emulators.wire import Answer

Item = TypeVar("Item")


def document(body: bytes) -> dict[str, Any]:
    """The JSON object in a request's body."""
    try:
        parsed = json.loads(body)
    except ValueError as error:
        raise bad_request("The request body is not valid JSON.") from error
    if not isinstance(parsed, dict):
        raise bad_request("The request body is not a JSON object.")
    return parsed


def text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise bad_request(f"The field {name} is required and must be a string.")
    return value


def requested_encryption(fields: Mapping[str, Any]) -> Encryption:
    """The encryption that a request asks for: AES256, and no key with it."""
    configuration = fields.get("encryptionConfiguration")
    if not isinstance(configuration, dict):
        raise bad_request("The field encryptionConfiguration is required.")
    if configuration.get("sseAlgorithm") != "AES256":
        raise bad_request("The sseAlgorithm must be AES256.")
    if configuration.get("kmsKeyArn") not in (None, ""):
        raise bad_request("The kmsKeyArn must be empty.")
    if set(configuration) - {"sseAlgorithm", "kmsKeyArn"}:
        raise bad_request("The encryptionConfiguration has an unknown field.")
    return Encryption("AES256")


def ok(fields: Mapping[str, Any]) -> Answer:
    return Answer(
        200,
        {"Content-Type": "application/json;charset=utf-8"},
        json.dumps(fields, separators=(",", ":")).encode(),
    )


def encryption_document(encryption: Encryption | None) -> dict[str, Any]:
    configuration = (
        {}
        if encryption is None
        else {"kmsKeyArn": encryption.kms_key_arn, "sseAlgorithm": encryption.algorithm}
    )
    return {"encryptionConfiguration": configuration}


def bucket_document(bucket: TableBucket) -> dict[str, Any]:
    kind = {} if bucket.kind is None else {"type": bucket.kind}
    return {
        "arn": str(bucket.arn),
        "createdAt": moment(bucket.created_at),
        "name": bucket.arn.name,
        "ownerAccountId": bucket.arn.account_id,
        "tableBucketId": bucket.table_bucket_id,
        **kind,
    }


def table_document(table: Table) -> dict[str, Any]:
    return {
        "createdAt": moment(table.created_at),
        "modifiedAt": moment(table.created_at),
        "name": table.name,
        "namespace": [table.namespace],
        "tableARN": table.arn,
        "type": "customer",
    }


def full_table_document(table: Table, bucket: TableBucket) -> dict[str, Any]:
    """What a table tells of itself when it is asked for alone."""
    return {
        **table_document(table),
        "createdBy": bucket.arn.account_id,
        "format": "ICEBERG",
        "modifiedBy": bucket.arn.account_id,
        "ownerAccountId": bucket.arn.account_id,
        "tableBucketId": bucket.table_bucket_id,
    }


def moment(at: datetime) -> str:
    return at.isoformat(timespec="microseconds")


def page(
    items: Iterable[tuple[str, Item]], parameters: Mapping[str, str], *, limit_name: str
) -> tuple[list[Item], dict[str, str]]:
    """One page of (key, item) pairs sorted by key, and the token of the next one, if there is."""
    limit = parameters.get(limit_name, "1000")
    if not limit.isdecimal() or not 1 <= int(limit) <= 1000:
        raise bad_request(f"The {limit_name} must be between 1 and 1000.")
    start = last_key(parameters)
    prefix = parameters.get("prefix", "")
    rest = ((key, item) for key, item in items if key > start and key.startswith(prefix))
    shown = list(islice(rest, int(limit)))
    more = next(rest, None) is not None
    token = {"continuationToken": _token(shown[-1][0])} if more else {}
    return [item for _, item in shown], token


def last_key(parameters: Mapping[str, str]) -> str:
    """The key that the page before ended with; empty for the first page."""
    token = parameters.get("continuationToken", "")
    try:
        return base64.b64decode(token, validate=True).removeprefix(b"\xfb\xff").decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise bad_request("The continuationToken is not valid.") from error


def _token(last_key: str) -> str:
    # Standard base64, so that the client has to escape what a query needs escaped.
    return base64.b64encode(b"\xfb\xff" + last_key.encode()).decode("ascii")
