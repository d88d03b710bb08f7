"""Makes the golden signature vectors with the vendor's own signer: `make vectors`.

Each vector holds a request as it goes to the signer and what the signer made of it at each of its
three stages. `tests/unit/services/test_signing.py` holds ours against them.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import quote

from alibabacloud_oss_v2.credentials import StaticCredentialsProvider
from alibabacloud_oss_v2.signer.tables_v4 import TablesSignerV4
from alibabacloud_oss_v2.types import HttpRequest, SigningContext

FILE = Path(__file__).with_name("oss4_tables.json")

ARN = "acs:osstables:cn-hangzhou:1234567890123456:bucket/my-table-bucket"
HOST = "https://cn-hangzhou.oss-tables.aliyuncs.com"
VIRTUAL_HOST = "https://my-table-bucket-1234567890123456.cn-hangzhou.oss-tables.aliyuncs.com"
ENCRYPTION = f"buckets/{quote(ARN, safe='')}/encryption"
JSON = {"content-type": "application/json"}
EMPTY = JSON | {"content-md5": "1B2M2Y8AsgTpgAmY7PhCfg=="}
SPACED = JSON | {"content-md5": "8brxxND+ziGAM1VKSOGH2A=="}


@dataclass(frozen=True)
class Case:
    """A request to sign."""

    name: str
    method: str
    url: str
    path: str
    resource: str | None = ARN
    region: str = "cn-hangzhou"
    time: str = "2026-01-02T03:04:05+00:00"
    security_token: str | None = None
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Stages:
    """What the vendor's signer makes of it."""

    canonical_request: str
    string_to_sign: str
    signature: str
    authorization: str


def _case(
    name: str, method: str, path: str, *, host: str = HOST, query: str = "", **rest: Any
) -> Case:
    return Case(name, method, f"{host}/{path}{query}", path, **rest)


CASES = [
    _case("put-encryption", "PUT", ENCRYPTION, headers=SPACED),
    _case("put-encryption-virtual-host", "PUT", ENCRYPTION, host=VIRTUAL_HOST, headers=SPACED),
    _case("put-encryption-sts", "PUT", ENCRYPTION, headers=SPACED, security_token="STSTOKEN"),
    _case("put-encryption-without-md5", "PUT", ENCRYPTION, headers=JSON),
    _case("get-encryption", "GET", ENCRYPTION, headers=EMPTY),
    _case("get-encryption-sts", "GET", ENCRYPTION, headers=EMPTY, security_token="STSTOKEN"),
    _case("delete-encryption", "DELETE", ENCRYPTION, headers=EMPTY),
    _case("create-bucket", "PUT", "buckets", resource=None, headers=SPACED),
    _case("list-buckets", "GET", "buckets", query="?maxBuckets=100", resource=None, headers=EMPTY),
    _case("list-buckets-bare", "GET", "buckets", query="?maxBuckets=100", resource=None),
    _case(
        "query-unsorted-and-empty",
        "GET",
        "buckets",
        query="?prefix=&continuationToken=Cj5%2Bh%3D&maxBuckets=2&flag",
        resource=None,
        headers=EMPTY,
    ),
    _case(
        "another-region-on-new-years-eve",
        "PUT",
        ENCRYPTION.replace("cn-hangzhou", "ap-southeast-1"),
        host="https://ap-southeast-1.oss-tables.aliyuncs.com",
        resource=ARN.replace("cn-hangzhou", "ap-southeast-1"),
        region="ap-southeast-1",
        time="2027-01-01T07:59:59+08:00",
        headers=SPACED,
    ),
    _case(
        "unicode-in-path",
        "GET",
        f"tables/{quote(ARN, safe='')}/{quote('naïve ~*()/表', safe='')}",
        headers=EMPTY,
    ),
    _case(
        "more-oss-headers", "PUT", ENCRYPTION, headers=SPACED | {"x-oss-meta-a": "b", "x-a": "b"}
    ),
]


def sign(case: Case, *, access_key_id: str = "AKID", access_key_secret: str = "AKSECRET") -> Stages:
    """The stages as the vendor's signer goes through them."""
    seen: dict[str, str] = {}

    class Watched(TablesSignerV4):  # type: ignore[misc]  # untyped
        def _calc_canonical_request(self, **context: Any) -> str:
            seen["canonical_request"] = super()._calc_canonical_request(**context)
            return seen["canonical_request"]

    credentials = StaticCredentialsProvider(access_key_id, access_key_secret, case.security_token)
    context = SigningContext(
        product="osstables",
        region=case.region,
        bucket=case.resource,
        key=case.path,
        request=HttpRequest(method=case.method, url=case.url, headers=case.headers),
        credentials=credentials.get_credentials(),
        signing_time=datetime.fromisoformat(case.time).astimezone(timezone.utc),
    )
    Watched().sign(context)
    authorization = context.request.headers["Authorization"]
    return Stages(
        seen["canonical_request"],
        context.string_to_sign,
        authorization.rpartition("Signature=")[2],
        authorization,
    )


def main() -> None:
    """Write the vectors."""
    vectors = [asdict(case) | asdict(sign(case)) for case in CASES]
    made_with = f"alibabacloud-oss-v2 {version('alibabacloud-oss-v2')}"
    document = {"made_with": made_with, "vectors": vectors}
    FILE.write_text(json.dumps(document, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
