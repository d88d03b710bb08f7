"""An RPC API that believes only what the vendor's library would sign."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any
from urllib.parse import unquote

import httpx
from alibabacloud_tea_openapi.utils import Utils
from darabonba.request import DaraRequest

from encryption_guard.credentials import Credentials
from encryption_guard.services.acs3 import ALGORITHM
from tests.unit.fakes import KEY, FakeService, Reply


def vendors_authorization(request: httpx.Request, key: Credentials) -> str:
    """What the vendor's library makes of a request and the headers that it says are signed."""
    names = request.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0]
    theirs = DaraRequest()
    theirs.method, theirs.pathname = request.method, request.url.path
    theirs.query = parameters(request.url.query.decode())
    theirs.headers = {name: request.headers[name] for name in names.split(";")}
    digest = sha256(request.content).hexdigest()
    made: str = Utils.get_authorization(
        theirs, ALGORITHM, digest, key.access_key_id, key.access_key_secret
    )
    return made


def parameters(query: str) -> dict[str, str]:
    pairs = (pair.partition("=") for pair in query.split("&") if pair)
    return {unquote(name): unquote(value) for name, _, value in pairs}


class RpcService(FakeService):
    """Believes only what the vendor's library would sign, and echoes the parameters."""

    def __init__(self, *keys: Credentials, **rest: Any) -> None:
        super().__init__(**rest)
        self._keys = {key.access_key_id: key for key in keys or (KEY,)}

    def resource(self, _request: httpx.Request) -> str:
        return ""

    def answer(self, request: httpx.Request) -> Reply:
        authorization = request.headers["authorization"]
        key = self._keys[authorization.partition("Credential=")[2].partition(",")[0]]
        if authorization != vendors_authorization(request, key):
            return refusal(400, "SignatureDoesNotMatch", "no")
        echo = parameters(request.url.query.decode()) | parameters(request.content.decode())
        return Reply(200, json.dumps({"RequestId": "1", "Echo": echo}).encode())


def refusal(status: int, code: str, message: str, **headers: str) -> Reply:
    body = {"Code": code, "Message": message, "RequestId": "REQ-1"}
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, json.dumps(body).encode(), named)
