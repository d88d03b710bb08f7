"""The request as the vendor's SDK sends it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import tables

from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, ARN, REGION, SECURITY_TOKEN


def open_put(endpoint: str) -> Callable[[], object]:
    """A client that is kept; the request is made anew."""
    client = open_client(endpoint)
    return lambda: client.put_table_bucket_encryption(encryption_of(ARN))


def open_client(
    endpoint: str, region: str = REGION, key_id: str = ACCESS_KEY_ID, **changed: Any
) -> Any:
    """The vendor's client with its own defaults, but for the address and what is changed."""
    credentials = oss.credentials.StaticCredentialsProvider(
        key_id, ACCESS_KEY_SECRET, SECURITY_TOKEN
    )
    return tables.Client(
        oss.config.Config(
            region=region,
            endpoint=endpoint,
            use_path_style=True,
            credentials_provider=credentials,
            **changed,
        )
    )


def encryption_of(arn: str) -> Any:
    """The request to encrypt a bucket."""
    return tables.models.PutTableBucketEncryptionRequest(
        table_bucket_arn=arn,
        encryption_configuration=tables.models.EncryptionConfiguration(sse_algorithm="AES256"),
    )
