"""The ARN of a table bucket: the only thing that may become a host name or a path."""

from __future__ import annotations

import re
from typing import NamedTuple

from encryption_guard.errors import InvalidEvent
from encryption_guard.untrusted import quoted

ACCOUNT_ID = r"[0-9]{5,20}"
BUCKET_NAME = r"[a-z0-9](?:[a-z0-9-]{1,61})[a-z0-9]"
REGION = r"[a-z]{2}(?:-[a-z0-9]+)+"

# Three spellings occur in the vendor's own texts; all mean OSS Tables.
SERVICE = r"(?:osstables|oss-tables|osstable)"

_ARN = re.compile(rf"acs:{SERVICE}:({REGION}):({ACCOUNT_ID}):bucket/({BUCKET_NAME})", re.ASCII)
_CLAIMS_OSS_TABLES = re.compile(rf"\s*acs:{SERVICE}:", re.IGNORECASE)
_NAME = re.compile(BUCKET_NAME, re.ASCII)

# `<region>-internal` has to fit in one label of a host name (63 characters, RFC 1035).
MAX_REGION_LENGTH = 54


class TableBucketArn(NamedTuple):
    """A table bucket, by region, owner and name; each within the alphabet of a host name."""

    region: str
    account_id: str
    name: str

    @classmethod
    def parse(cls, text: str) -> TableBucketArn:
        """Read `acs:osstables:<region>:<account>:bucket/<name>` to its full length.

        Raises InvalidEvent for anything else: this is what stands between an event and a host name.
        """
        match = _ARN.fullmatch(text)
        if not match or len(match[1]) > MAX_REGION_LENGTH:
            raise InvalidEvent(
                f"{quoted(text)} is not the ARN of a table bucket: it has to read"
                " acs:osstables:<region>:<account id>:bucket/<name>."
            )
        return cls(*match.groups())

    def __str__(self) -> str:
        return f"acs:osstables:{self.region}:{self.account_id}:bucket/{self.name}"


class Scope(NamedTuple):
    """An account, None where it is not known, and a region of it."""

    account_id: str | None
    region: str

    @classmethod
    def of(cls, arn: TableBucketArn) -> Scope:
        """Where a bucket is."""
        return cls(arn.account_id, arn.region)


def claims_oss_tables(text: str) -> bool:
    """Whether a value calls itself an OSS Tables ARN; it must then be a valid one."""
    return bool(_CLAIMS_OSS_TABLES.match(text))


def is_bucket_name(text: str) -> bool:
    """Whether a value is within the alphabet and length of a bucket name (3 to 63)."""
    return bool(_NAME.fullmatch(text))


def is_region(text: str) -> bool:
    """Whether a value may be a region's id, such as cn-hangzhou."""
    return bool(re.fullmatch(REGION, text, re.ASCII)) and len(text) <= MAX_REGION_LENGTH
