"""One event with the vendor's SDK, as a script of few lines would handle it."""

from __future__ import annotations

import functools
import json
import os
from typing import Any

from alibabacloud_oss_v2.tables.models import GetTableBucketEncryptionRequest

from tests.benchmarks.official_sdk import encryption_of, open_client


@functools.cache
def _client() -> Any:
    endpoint = os.environ["GUARD_OSS_TABLES_ENDPOINT"]  # noqa: TID251  no setting of the guard's here
    return open_client(endpoint)


def initialize(_context: object) -> None:
    """Make the client."""
    _client()


def handler(event: bytes, _context: object) -> str:
    """Encrypt the event's bucket."""
    arn = json.loads(event)["data"]["responseElements"]["arn"]
    _client().get_table_bucket_encryption(GetTableBucketEncryptionRequest(table_bucket_arn=arn))
    _client().put_table_bucket_encryption(encryption_of(arn))
    return json.dumps({"outcome": "encrypted", "arn": arn})
