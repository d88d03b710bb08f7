"""Security Token Service: it tells a caller who they are.

https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-getcalleridentity
"""

from __future__ import annotations

import json
import uuid

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import authenticate, refuse
from tests.emulators.emulated_service import Call, Clock, EmulatedService, utc_now
from tests.emulators.faults import Faults, Refuse
from tests.emulators.server import Authority
from tests.emulators.wire import Answer, Request

VERSION = "2015-04-01"
JSON = {"Content-Type": "application/json;charset=utf-8"}


class Sts(EmulatedService):
    """The service. GetCallerIdentity needs no right."""

    server_name = "Tengine"
    request_id_header = "x-acs-request-id"

    def __init__(
        self,
        *access_keys: AccessKey,
        authority: Authority | None = None,
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(authority=authority, faults=faults, clock=clock)
        self._keys = {key.id: key for key in access_keys}

    def admit(self, key: AccessKey) -> None:
        """Let this key call from now on, instead of an earlier one of the same id."""
        self._keys[key.id] = key

    def new_request_id(self) -> str:
        return str(uuid.uuid4()).upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        return request.headers.get("x-acs-action"), None

    def perform(self, call: Call) -> Answer:
        headers = call.request.headers
        if (call.operation, headers.get("x-acs-version")) != ("GetCallerIdentity", VERSION):
            raise refuse(404, "InvalidAction.NotFound", "Specified api is not found.")
        key = authenticate(call.request, self._keys, call.now)
        fields = {"RequestId": call.request_id, **_identity(key)}
        return Answer(200, JSON, json.dumps(fields).encode())

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        code = refusal.code or {403: "NoPermission"}.get(refusal.status, "ServiceUnavailable")
        fields = {"RequestId": call.request_id, "Code": code, "Message": refusal.message}
        return Answer(refusal.status, JSON, json.dumps(fields).encode())


def _identity(key: AccessKey) -> dict[str, str]:
    """The account itself, a RAM user with a policy of theirs, or a role with its token."""
    own = f"acs:ram::{key.account_id}"
    if key.security_token:
        arn, kind = f"{own}:assumed-role/{key.id.lower()}/session", "AssumedRoleUser"
    elif key.policy:
        arn, kind = f"{own}:user/{key.id.lower()}", "RAMUser"
    else:
        arn, kind = f"{own}:root", "Account"
    return {"AccountId": key.account_id, "Arn": arn, "IdentityType": kind, "PrincipalId": key.id}
