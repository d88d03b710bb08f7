"""The ARN of a table bucket, validated before any part of it enters a host name or a path."""

from __future__ import annotations

import re
from typing import NamedTuple

from encryption_guard.errors import InvalidEvent
from encryption_guard.untrusted import quoted

ACCOUNT_ID = r"[0-9]{5,20}"
BUCKET_NAME = r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]"
REGION = r"[a-z]{2}(?:-[a-z0-9]+)+"

# Alibaba Cloud itself uses three spellings for OSS Tables.
SERVICE = r"(?:osstables|oss-tables|osstable)"

_ARN = re.compile(rf"acs:{SERVICE}:({REGION}):({ACCOUNT_ID}):bucket/({BUCKET_NAME})", re.ASCII)
_CLAIMS_OSS_TABLES = re.compile(rf"\s*acs:{SERVICE}:", re.IGNORECASE)
_NAME = re.compile(BUCKET_NAME, re.ASCII)

# `<region>-internal` has to fit into one label of a host name (63 characters, RFC 1035).
MAX_REGION_LENGTH = 54


class TableBucketArn(NamedTuple):
    """The region, account id and name of a table bucket."""

    region: str
    account_id: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TableBucketArn:
        """Parse `acs:osstables:<region>:<account id>:bucket/<name>`.

        Raises InvalidEvent unless the whole text has this form, so that no event chooses a host.

        >>> TableBucketArn.parse("acs:osstables:cn-hangzhou:1234567890:bucket/analytics").region
        'cn-hangzhou'
        """
        match = _ARN.fullmatch(text)
        if not match or len(match[1]) > MAX_REGION_LENGTH:
            raise InvalidEvent(
                f"{quoted(text)} is not the ARN of a table bucket, which has the form"
                " acs:osstables:<region>:<account id>:bucket/<name>."
            )
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"acs:osstables:{self.region}:{self.account_id}:bucket/{self.name}"


class Scope(NamedTuple):
    """An account (None if it is unknown) and one of its regions."""

    account_id: str | None
    region: str

    @classmethod
    def of(cls, arn: TableBucketArn) -> Scope:
        """Return the scope that contains a bucket."""
        return cls(arn.account_id, arn.region)


def looks_like_oss_tables_arn(text: str) -> bool:
    """Return whether a text starts like an OSS Tables ARN, valid or not."""
    return bool(_CLAIMS_OSS_TABLES.match(text))


def is_bucket_name(text: str) -> bool:
    """Return whether a text is a valid bucket name: 3 to 63 characters of a-z, 0-9 and -."""
    return bool(_NAME.fullmatch(text))


def is_region(text: str) -> bool:
    """Return whether a text has the form of a region id, such as cn-hangzhou."""
    return bool(re.fullmatch(REGION, text, re.ASCII)) and len(text) <= MAX_REGION_LENGTH
