"""The request as the vendor's SDK sends it."""

from __future__ import annotations

from collections.abc import Callable

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import tables

from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, ARN, REGION, SECURITY_TOKEN


def open_put(endpoint: str) -> Callable[[], object]:
    """The vendor's client with its own defaults, but for the address."""
    credentials = oss.credentials.StaticCredentialsProvider(
        ACCESS_KEY_ID, ACCESS_KEY_SECRET, SECURITY_TOKEN
    )
    client = tables.Client(
        oss.config.Config(
            region=REGION,
            endpoint=endpoint,
            use_path_style=True,
            credentials_provider=credentials,
        )
    )

    def put() -> object:
        request = tables.models.PutTableBucketEncryptionRequest(
            table_bucket_arn=ARN,
            encryption_configuration=tables.models.EncryptionConfiguration(sse_algorithm="AES256"),
        )
        return client.put_table_bucket_encryption(request)

    return put
