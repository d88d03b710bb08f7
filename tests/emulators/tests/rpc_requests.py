"""Requests to RPC APIs that the official library signs, altered before or after that."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import datetime, timezone
from hashlib import sha256
from typing import Any

from alibabacloud_tea_openapi.client import Client
from alibabacloud_tea_openapi.exceptions import AlibabaCloudException
from alibabacloud_tea_openapi.utils import Utils
from alibabacloud_tea_openapi.utils_models import Config, OpenApiRequest, Params
from darabonba.request import DaraRequest
from darabonba.runtime import RuntimeOptions

from encryption_guard.services.acs3 import canonical_query
from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import ALGORITHM
from tests.emulators.emulated_service import EmulatedService

Alter = Callable[[dict[str, str]], object]


class Time:
    """The service's clock, which a test moves."""

    now = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)

    def __call__(self) -> datetime:
        return self.now


def headers_of(
    action: str, version: str, key: AccessKey, now: datetime, body: bytes
) -> dict[str, str]:
    """As the vendor's SDK sends them, its `accept` and `user-agent` too."""
    headers = {
        "host": "127.0.0.1",
        "x-acs-version": version,
        "x-acs-action": action,
        "user-agent": "AlibabaCloud",
        "x-acs-date": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "x-acs-signature-nonce": Utils.get_nonce(),
        "accept": "application/json",
        "x-acs-content-sha256": sha256(body).hexdigest(),
    }
    if key.security_token:
        headers |= {"x-acs-accesskey-id": key.id, "x-acs-security-token": key.security_token}
    return headers


def call(
    service: EmulatedService,
    action: str,
    version: str,
    query: dict[str, str] | None = None,
    *,
    now: datetime,
    key: AccessKey,
    body: bytes = b"",
    path: str = "/",
    before: Alter = lambda _headers: None,
    after: Alter = lambda _headers: None,
) -> tuple[int, dict[str, Any]]:
    """Status and body of a request that is altered before or after the official library signs."""
    headers = headers_of(action, version, key, now, body)
    before(headers)
    signed = DaraRequest()
    signed.method, signed.pathname, signed.query = "POST", path, query or {}
    signed.headers = headers
    digest = headers.get("x-acs-content-sha256", "")
    authorization = Utils.get_authorization(signed, ALGORITHM, digest, key.id, key.secret)
    headers = headers | {"authorization": authorization}
    after(headers)
    connection = http.client.HTTPConnection("127.0.0.1", service.port)
    target = f"{path}?{canonical_query(query)}" if query else path
    connection.request("POST", target, body=body, headers=headers)
    answer = connection.getresponse()
    told = json.loads(answer.read() or b"{}")
    connection.close()
    return answer.status, told


def code(answer: tuple[int, dict[str, Any]]) -> tuple[int, str]:
    return answer[0], answer[1].get("Code", "")


def put(**values: str) -> Alter:
    """Set headers, whose names have underscores here."""
    return lambda headers: headers.update(
        {name.replace("_", "-"): value for name, value in values.items()}
    )


def gone(name: str) -> Alter:
    """Leave out a header."""
    return lambda headers: headers.pop(name)


def open_client(service: EmulatedService, key: AccessKey) -> Client:
    """The vendor's client, with its own transport, in front of a service."""
    return Client(
        Config(
            access_key_id=key.id,
            access_key_secret=key.secret,
            security_token=key.security_token,
            endpoint=f"127.0.0.1:{service.port}",
            protocol="http",
        )
    )


def vendor_call(
    service: EmulatedService, key: AccessKey, request: OpenApiRequest, **params: str
) -> tuple[int, dict[str, Any]]:
    """Status and what came, as the vendor's client reads it, its transport included."""
    asked = Params(protocol="HTTP", method="POST", auth_type="AK", **params)
    try:
        answered = open_client(service, key).call_api(asked, request, RuntimeOptions())
    except AlibabaCloudException as error:
        return error.status_code, {"Code": error.code}
    return answered["statusCode"], answered.get("body") or answered["headers"]


def official_client(
    service: EmulatedService,
    action: str,
    version: str,
    query: dict[str, str],
    *,
    key: AccessKey,
) -> tuple[int, dict[str, Any]]:
    """Status and body of an action of an RPC API."""
    return vendor_call(
        *(service, key, OpenApiRequest(query=query)),
        action=action,
        version=version,
        pathname="/",
        style="RPC",
        req_body_type="formData",
        body_type="json",
    )
