"""The requests by hand on the standard library: no checks, no repeats, no time budget.

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

ENCRYPTION = {"encryptionConfiguration": {"sseAlgorithm": "AES256"}}

# Sends a method about a bucket's encryption with a body, and returns the answer's.
Send = Callable[[str, str, bytes], bytes]


def open_put(endpoint: str) -> Callable[[], object]:
    """One connection, kept open."""
    send = open_requests(endpoint, None)
    return lambda: send("PUT", ARN, json.dumps(ENCRYPTION).encode())


def open_requests(endpoint: str, context: ssl.SSLContext | None) -> Send:
    """One connection, kept open; without a context it trusts whom Python trusts."""
    connection = _connection(endpoint, context)

    def send(method: str, arn: str, body: bytes) -> bytes:
        path = f"/buckets/{quote(arn, safe='')}/encryption"
        connection.request(method, path, body or None, _signed_headers(method, arn, body))
        response = connection.getresponse()
        answered = response.read()
        if response.status != 200:
            raise RuntimeError(f"the request by hand was answered {response.status}")
        return answered

    return send


def _connection(endpoint: str, context: ssl.SSLContext | None) -> HTTPConnection:
    parts = urlsplit(endpoint)
    host = parts.hostname or ""
    if parts.scheme == "http":
        return HTTPConnection(host, parts.port, timeout=5)
    context = context or ssl.create_default_context()
    return HTTPSConnection(host, parts.port, timeout=5, context=context)


def _signed_headers(method: str, arn: str, body: bytes) -> dict[str, str]:
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
        "authorization": _authorization(method, arn, signed, timestamp),
    }


def _authorization(method: str, arn: str, signed: dict[str, str], timestamp: str) -> str:
    uri = quote(f"/{arn}/buckets/{arn}/encryption", safe="/")
    lines = "".join(f"{name}:{value}\n" for name, value in signed.items())
    canonical = f"{method}\n{uri}\n\n{lines}\n\nUNSIGNED-PAYLOAD"
    scope = f"{timestamp[:8]}/{REGION}/osstables/aliyun_v4_request"
    digest = sha256(canonical.encode()).hexdigest()
    key = f"aliyun_v4{ACCESS_KEY_SECRET}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    to_sign = f"OSS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return f"OSS4-HMAC-SHA256 Credential={ACCESS_KEY_ID}/{scope},Signature={signature}"
