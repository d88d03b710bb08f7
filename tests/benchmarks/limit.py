"""The request by hand on the standard library: no checks, no repeats, no time budget.

It stands for what signing and sending cost in Python at the least; nobody should run it.
"""

from __future__ import annotations

import hmac
import json
import ssl
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import md5, sha256
from http.client import HTTPConnection, HTTPSConnection
from urllib.parse import quote, urlsplit

from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, ARN, REGION, SECURITY_TOKEN


def open_put(endpoint: str) -> Callable[[], object]:
    """One connection, kept open."""
    connection = _connection(endpoint)

    def put() -> object:
        body = json.dumps({"encryptionConfiguration": {"sseAlgorithm": "AES256"}}).encode()
        path = f"/buckets/{quote(ARN, safe='')}/encryption"
        connection.request("PUT", path, body, _signed_headers(body))
        response = connection.getresponse()
        response.read()
        if response.status != 200:
            raise RuntimeError(f"the request by hand was answered {response.status}")
        return response

    return put


def _connection(endpoint: str) -> HTTPConnection:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=5)
    return HTTPSConnection(host, parts.port, timeout=5, context=ssl.create_default_context())


def _signed_headers(body: bytes) -> dict[str, str]:
    now = time.gmtime()
    timestamp = time.strftime("%Y%m%dT%H%M%SZ", now)
    signed = {
        "content-md5": b64encode(md5(body, usedforsecurity=False).digest()).decode(),
        "content-type": "application/json",
        "x-oss-content-sha256": "UNSIGNED-PAYLOAD",
        "x-oss-date": timestamp,
        "x-oss-security-token": SECURITY_TOKEN,
    }
    return signed | {
        "date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", now),
        "user-agent": "limit",
        "authorization": _authorization(signed, timestamp),
    }


def _authorization(signed: dict[str, str], timestamp: str) -> str:
    uri = quote(f"/{ARN}/buckets/{ARN}/encryption", safe="/")
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = f"PUT\n{uri}\n\n{lines}\n\nUNSIGNED-PAYLOAD"
    scope = f"{timestamp[:8]}/{REGION}/osstables/aliyun_v4_request"
    digest = sha256(canonical.encode()).hexdigest()
    key = f"aliyun_v4{ACCESS_KEY_SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"OSS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"OSS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope},Signature={signature}"
