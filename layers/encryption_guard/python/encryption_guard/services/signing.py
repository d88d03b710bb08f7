"""OSS4-HMAC-SHA256, the signature of requests to OSS Tables.

Each stage is a public function. If the service refuses a signature, compare each stage with the
value that the service expects. General description:
https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4

OSS Tables has two rules of its own, which are in the vendor's SDK (`signer/tables_v4.py`): the
product is `osstables`, and the canonical URI is the ARN of the resource followed by the path.
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
_SIGNED_HEADERS = ("content-md5", "content-type")


# The guard often signs a GET and then a PUT for the same URI.
@lru_cache(maxsize=1)
def canonical_uri(*, resource: str | None, region: str, path: str) -> str:
    """Return the ARN and the decoded path, percent-encoded except for `/`.

    A request that creates or lists buckets has no resource: its ARN has no account and no name.

    >>> canonical_uri(resource=None, region="cn-hangzhou", path="/buckets")
    '/acs%3Aosstables%3Acn-hangzhou%3A%3Abucket//buckets'
    """
    arn = resource or f"acs:osstables:{region}::bucket/"
    return quote(f"/{arn}/{unquote(path.removeprefix('/'))}", safe="/")


def canonical_query(query: str) -> str:
    """Return the encoded pairs of the URL in sorted order, without the `=` of an empty value."""
    pairs = sorted(pair.partition("=")[::2] for pair in query.split("&")) if query else []
    return "&".join(f"{key}={value}" if value else key for key, value in pairs)


def canonical_request(
    *, method: str, uri: str, query: str, headers: Iterable[tuple[str, str]]
) -> str:
    """Return the canonical request, the text that the signature covers.

        METHOD
        canonical URI
        canonical query
        name:value      one line for each signed header, sorted by name
                        an empty line
                        the additional headers: none
        UNSIGNED-PAYLOAD

    The signed headers are `content-type`, `content-md5` and every `x-oss-*`. The signature covers
    the body only through `content-md5`.
    """
    lowered = ((name.lower(), value) for name, value in headers)
    signed = sorted(
        header
        for header in lowered
        if header[0] in _SIGNED_HEADERS or header[0].startswith("x-oss-")
    )
    lines = "".join(f"{name}:{value}\n" for name, value in signed)
    return f"{method}\n{uri}\n{query}\n{lines}\n\n{UNSIGNED_PAYLOAD}"


def scope(*, timestamp: str, region: str) -> str:
    """Return the scope of the signature: `yyyymmdd/region/osstables/aliyun_v4_request`."""
    return f"{timestamp[:8]}/{region}/{PRODUCT}/aliyun_v4_request"


def string_to_sign(*, timestamp: str, region: str, canonical_request: str) -> str:
    """Return algorithm, time, scope and the hash of the canonical request, one per line."""
    digest = sha256(canonical_request.encode()).hexdigest()
    return f"{ALGORITHM}\n{timestamp}\n{scope(timestamp=timestamp, region=region)}\n{digest}"


def signature(*, access_key_secret: str, timestamp: str, region: str, string_to_sign: str) -> str:
    """Return the HMAC in hex; its key is derived from the secret and each part of the scope."""
    key = b"aliyun_v4" + access_key_secret.encode()
    for part in scope(timestamp=timestamp, region=region).split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, string_to_sign.encode(), "sha256").hex()


class Oss4Auth(httpx.Auth):
    """An httpx authentication that signs requests for one resource.

    Set all other headers of a request before you sign it. `resource` is the ARN of the table
    bucket, which the URL does not always contain. It is None if the request creates or lists
    buckets.
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
        """Sign the request and send it once."""
        yield self.sign(request)

    def sign(self, request: httpx.Request) -> httpx.Request:
        """Add the date, the security token and the signature to the request, and return it."""
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
        text = string_to_sign(
            timestamp=timestamp,
            region=self._region,
            canonical_request=canonical_request(
                method=request.method,
                uri=canonical_uri(resource=self._resource, region=self._region, path=path),
                query=canonical_query(query),
                headers=request.headers.items(),
            ),
        )
        hex_signature = signature(
            access_key_secret=self._access_key_secret,
            timestamp=timestamp,
            region=self._region,
            string_to_sign=text,
        )
        credential = f"{self._access_key_id}/{scope(timestamp=timestamp, region=self._region)}"
        return f"{ALGORITHM} Credential={credential},Signature={hex_signature}"
