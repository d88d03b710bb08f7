"""OSS4-HMAC-SHA256 for OSS Tables, stage by stage.

The stages are public, so that a refused signature can be compared line by line with what the
service expects. General description:
https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4

What is particular to OSS Tables (read in the vendor's SDK, `signer/tables_v4.py`): the product is
`osstables`, and the canonical URI is the resource's ARN followed by the path, both unquoted first.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator, Iterable
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote, unquote

import httpx

ALGORITHM = "OSS4-HMAC-SHA256"
PRODUCT = "osstables"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
_SIGNED = ("content-md5", "content-type")


@lru_cache(maxsize=1)  # of the same bucket first a GET is signed, and then a PUT
def canonical_uri(*, resource: str | None, region: str, path: str) -> str:
    """The resource's ARN and the decoded path, percent-encoded but for `/`.

    Without a resource (creating and listing buckets) a nameless bucket of the region stands there.
    """
    arn = resource or f"acs:osstables:{region}::bucket/"
    return quote(f"/{arn}/{unquote(path.removeprefix('/'))}", safe="/")


def canonical_query(query: str) -> str:
    """The pairs as they are encoded in the URL, sorted; an empty value stands without its `=`."""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{key}={value}" if value else key for key, value in pairs)


def canonical_request(
    *, method: str, uri: str, query: str, headers: Iterable[tuple[str, str]]
) -> str:
    """The text that stands for the request.

        METHOD
        canonical URI
        canonical query
        name:value      one line for each signed header, sorted by name
                        an empty line
                        the additional headers: none
        UNSIGNED-PAYLOAD

    Signed are `content-type`, `content-md5` and all `x-oss-*`; the body is covered by
    `content-md5` alone.
    """
    lowered = ((name.lower(), value) for name, value in headers)
    signed = sorted(
        header for header in lowered if header[0] in _SIGNED or header[0].startswith("x-oss-")
    )
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return f"{method}\n{uri}\n{query}\n{lines}\n\n{UNSIGNED_PAYLOAD}"


def scope(*, timestamp: str, region: str) -> str:
    """Where and when the signature counts: `yyyymmdd/region/osstables/aliyun_v4_request`."""
    return f"{timestamp[:8]}/{region}/{PRODUCT}/aliyun_v4_request"


def string_to_sign(*, timestamp: str, region: str, canonical_request: str) -> str:
    """Algorithm, time, scope and the hash of the canonical request, a line each."""
    digest = sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope(timestamp=timestamp, region=region)}\n{digest}"


def signature(*, access_key_secret: str, timestamp: str, region: str, string_to_sign: str) -> str:
    """The string to sign under a key derived from the secret and each part of the scope, in hex."""
    key = b"aliyun_v4" + access_key_secret.encode()
    for part in scope(timestamp=timestamp, region=region).split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


class Oss4Auth(httpx.Auth):
    """Signs one request for one resource; set every other header before it.

    `resource` is the table bucket's ARN, which the URL does not always tell, or None for creating
    and listing buckets.
    """

    def __init__(
        self,
        *,
        access_key_id: str,
        access_key_secret: str,
        security_token: str | None,
        region: str,
        resource: str | None,
        now: Callable[[], datetime],
    ) -> None:
        self._access_key_id = access_key_id
        self._access_key_secret = access_key_secret
        self._security_token = security_token
        self._region = region
        self._resource = resource
        self._now = now

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Sign the request, and send it once."""
        yield self.sign(request)

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add the date, the token and the signature to the request, which is returned."""
        now = self._now()
        timestamp = now.strftime("%Y%m%dT%H%M%SZ")
        request.headers["x-oss-date"] = timestamp
        request.headers["date"] = now.strftime("%a, %d %b %Y %H:%M:%S GMT")
        request.headers["x-oss-content-sha256"] = UNSIGNED_PAYLOAD
        if self._security_token:
            request.headers["x-oss-security-token"] = self._security_token
        request.headers["authorization"] = self._authorization(request, timestamp)
        return request

    def _authorization(self, request: httpx.Request, timestamp: str) -> str:
        path, _, query = request.url.raw_path.decode("ascii").partition("?")
        to_sign = string_to_sign(
            timestamp=timestamp,
            region=self._region,
            canonical_request=canonical_request(
                method=request.method,
                uri=canonical_uri(resource=self._resource, region=self._region, path=path),
                query=canonical_query(query),
                headers=request.headers.items(),
            ),
        )
        signed = signature(
            access_key_secret=self._access_key_secret,
            timestamp=timestamp,
            region=self._region,
            string_to_sign=to_sign,
        )
        where = scope(timestamp=timestamp, region=self._region)
        return f"{ALGORITHM} Credential={self._access_key_id}/{where},Signature={signed}"
