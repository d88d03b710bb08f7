"""The vendor's client for OSS Tables, in the hands of an owner of buckets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

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
    with _trusting(cloud.certificate), oss.transport.RequestsHttpClient() as http:
        yield oss_tables.Client(config, http_client=http)


@contextmanager
def _trusting(certificate: Path) -> Iterator[None]:
    """Let the client trust it; no other variable is touched, because others change them meanwhile.

    A copy of all variables, written back at the end, would bring back those of a test.
    """
    name = "REQUESTS_CA_BUNDLE"
    before = os.environ.get(name)  # noqa: TID251  not a setting of the guard
    os.environ[name] = str(certificate)  # noqa: TID251  as above
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(name, None)  # noqa: TID251  as above
        else:
            os.environ[name] = before  # noqa: TID251  as above
