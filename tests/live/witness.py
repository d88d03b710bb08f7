"""OSS Tables through the vendor's own SDK: a witness that shares nothing with the guard."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import alibabacloud_oss_v2 as oss
from alibabacloud_oss_v2 import tables

from encryption_guard.credentials import Credentials
from tests.live.observations import Encryption, Said


class Witness:
    """What a bucket's owner does and sees; answers are values, refusals too."""

    def __init__(self, credentials: Credentials, *, region: str, endpoint: str | None) -> None:
        self._client = tables.Client(
            oss.config.Config(
                region=region,
                endpoint=endpoint,
                credentials_provider=oss.credentials.StaticCredentialsProvider(
                    credentials.access_key_id,
                    credentials.access_key_secret,
                    credentials.security_token,
                ),
            )
        )

    def create(self, name: str) -> tuple[Said, str | None, str | None]:
        """CreateTableBucket without an encryption: the answer, the ARN and the request's id."""
        request = tables.models.CreateTableBucketRequest(name=name)
        said, result = _asked(self._client.create_table_bucket, request)
        return said, getattr(result, "arn", None), getattr(result, "request_id", None)

    def encryption(self, arn: str) -> Encryption:
        """GetTableBucketEncryption."""
        request = tables.models.GetTableBucketEncryptionRequest(table_bucket_arn=arn)
        said, result = _asked(self._client.get_table_bucket_encryption, request)
        configuration = getattr(result, "encryption_configuration", None)
        return Encryption(said, getattr(configuration, "sse_algorithm", None) or "")

    def decrypt(self, arn: str) -> Said:
        """DeleteTableBucketEncryption."""
        request = tables.models.DeleteTableBucketEncryptionRequest(table_bucket_arn=arn)
        return _asked(self._client.delete_table_bucket_encryption, request)[0]

    def put_kms(self, arn: str) -> Said:
        """PutTableBucketEncryption with KMS, no key named."""
        request = tables.models.PutTableBucketEncryptionRequest(
            table_bucket_arn=arn,
            encryption_configuration=tables.models.EncryptionConfiguration(sse_algorithm="KMS"),
        )
        return _asked(self._client.put_table_bucket_encryption, request)[0]

    def delete(self, arn: str) -> Said:
        """DeleteTableBucket."""
        request = tables.models.DeleteTableBucketRequest(table_bucket_arn=arn)
        return _asked(self._client.delete_table_bucket, request)[0]


def _asked(call: Callable[[Any], Any], request: Any) -> tuple[Said, Any]:
    try:
        result = call(request)
    except oss.exceptions.BaseError as error:
        return _refusal(error), None
    return Said(result.status_code), result


def _refusal(error: Exception) -> Said:
    """Status and code alone: the error's text holds the request."""
    while hasattr(error, "unwrap") and isinstance(inner := error.unwrap(), Exception):
        error = inner
    if isinstance(error, oss.exceptions.ServiceError):
        return Said(error.status_code, error.code or "")
    return Said(None, type(error).__name__)
