"""What the emulated RPC APIs have in common: who calls which action, and the form of an answer."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import Nonces, authenticate
from tests.emulators.emulated_service import Call, EmulatedService, RefusedError, refuse
from tests.emulators.faults import Refuse
from tests.emulators.wire import Answer, Request

JSON = {"Content-Type": "application/json;charset=utf-8"}


class RpcService(EmulatedService):
    """A service with such an API: a header names the action, another one its version."""

    server_name = "Tengine"
    request_id_header = "x-acs-request-id"
    default_codes: ClassVar[Mapping[int, str]] = {403: "NoPermission", 429: "Throttling.User"}

    def __init__(self, *access_keys: AccessKey, **settings: Any) -> None:
        super().__init__(*access_keys, **settings)
        self._nonces = Nonces()

    def new_request_id(self) -> str:
        return str(uuid.uuid4()).upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        return request.headers.get("x-acs-action"), None

    def authenticated(self, call: Call) -> AccessKey:
        """The key that signed the request, which is taken only once."""
        key = authenticate(call.request, self.keys, call.now)
        self._nonces.check(call.request)
        return key

    def require_right(self, key: AccessKey, action: str, resource: str) -> None:
        """Refuse a caller without this right on the resource of this ARN."""
        if not self.rights.allow(key, action, resource):
            raise refuse(403, "NoPermission", "You are not authorized to do this action.")

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        code = refusal.code or self.default_codes.get(refusal.status, "ServiceUnavailable")
        fields = {"RequestId": call.request_id, "Code": code, "Message": refusal.message}
        return Answer(refusal.status, JSON | dict(refusal.headers), json.dumps(fields).encode())


def answered(call: Call, fields: Mapping[str, Any]) -> Answer:
    """The answer to a call that was carried out."""
    return Answer(200, JSON, json.dumps({"RequestId": call.request_id, **fields}).encode())


def no_such_action() -> RefusedError:
    return refuse(404, "InvalidAction.NotFound", "Specified api is not found.")
