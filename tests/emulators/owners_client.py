"""The vendor's client for OSS Tables, in the hands of an owner of buckets."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import tables as oss_tables

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import OWNER, REGION, EmulatedCloud


@contextmanager
def owners_client(
    cloud: EmulatedCloud, key: AccessKey = OWNER, *, region: str = REGION
) -> Iterator[Any]:
    """With the key of the account's owner, unless another is given."""
    config = oss.config.load_default()
    config.credentials_provider = oss.credentials.StaticCredentialsProvider(key.id, key.secret)
    config.region, config.endpoint = region, cloud.tables.url
    with (
        patch.dict("os.environ", REQUESTS_CA_BUNDLE=str(cloud.certificate)),
        oss.transport.RequestsHttpClient() as http,
    ):
        yield oss_tables.Client(config, http_client=http)
