"""A sweep as a script of few lines makes it with the vendor's SDK: list, then read in threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from alibabacloud_oss_v2.tables import models


def count_encrypted(client: Any, pool: ThreadPoolExecutor) -> int:
    """How many table buckets of the client's region are encrypted."""

    def read(arn: str) -> bool:
        asked = models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
        found = client.get_table_bucket_encryption(asked).encryption_configuration
        return bool(found.sse_algorithm == "AES256")

    pages = client.list_table_buckets_paginator(limit=100)
    return sum(
        sum(pool.map(read, [bucket.arn for bucket in page.table_buckets]))
        for page in pages.iter_page(models.ListTableBucketsRequest())
    )
