"""Security Token Service: it tells a caller who they are, and gives keys of roles.

https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-getcalleridentity
https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole
https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from datetime import timedelta
from urllib.parse import parse_qs

from alibabacloud_credentials.utils import parameter_helper

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import authenticate, refuse
from tests.emulators.emulated_service import Call, Clock, EmulatedService, utc_now
from tests.emulators.faults import Faults, Refuse
from tests.emulators.server import Authority
from tests.emulators.wire import Answer, Request

VERSION = "2015-04-01"
JSON = {"Content-Type": "application/json;charset=utf-8"}


class Sts(EmulatedService):
    """The service. GetCallerIdentity needs no right.

    `roles` has the key that is given for a role, by its ARN; `oidc_token` is what the provider of
    the cluster wrote.
    """

    server_name = "Tengine"
    request_id_header = "x-acs-request-id"

    def __init__(
        self,
        *access_keys: AccessKey,
        authority: Authority | None = None,
        faults: Faults | None = None,
        clock: Clock = utc_now,
        roles: Mapping[str, AccessKey] | None = None,
        oidc_token: str = "",
    ) -> None:
        super().__init__(authority=authority, faults=faults, clock=clock)
        self._keys = {key.id: key for key in access_keys}
        self.roles = dict(roles or {})
        self.oidc_token = oidc_token

    def admit(self, key: AccessKey) -> None:
        """Let this key call from now on, instead of an earlier one of the same id."""
        self._keys[key.id] = key

    def new_request_id(self) -> str:
        return str(uuid.uuid4()).upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        return request.headers.get("x-acs-action") or _parameters(request).get("Action"), None

    def perform(self, call: Call) -> Answer:
        fields: dict[str, object]
        match call.operation if _version(call.request) == VERSION else None:
            case "GetCallerIdentity":
                fields = {**_identity(authenticate(call.request, self._keys, call.now))}
            case "AssumeRole":
                fields = self._assumed(call, self._signer(call))
            case "AssumeRoleWithOIDC":
                fields = self._assumed(call, None)
            case _:
                raise refuse(404, "InvalidAction.NotFound", "Specified api is not found.")
        document = {"RequestId": call.request_id, **fields}
        return Answer(200, JSON, json.dumps(document).encode())

    def _signer(self, call: Call) -> AccessKey:
        """The key that signed the query, by the older signature."""
        parameters = _parameters(call.request)
        key = self._keys.get(parameters.get("AccessKeyId", ""))
        if key is None:
            raise refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        signature = parameters.pop("Signature", "")
        text = parameter_helper.compose_string_to_sign(call.request.method, parameters)
        if parameter_helper.sign_string(text, f"{key.secret}&") != signature:
            raise refuse(400, "SignatureDoesNotMatch", f"server string to sign is:{text}")
        return key

    def _assumed(self, call: Call, signer: AccessKey | None) -> dict[str, object]:
        parameters = _parameters(call.request)
        if signer is None and parameters.get("OIDCToken") != self.oidc_token:
            raise refuse(400, "AuthenticationFail.OIDCToken.Invalid", "This OIDC token is invalid.")
        key = self.roles.get(parameters["RoleArn"])
        if key is None or not re.fullmatch(r"[\w.@-]{2,64}", parameters["RoleSessionName"]):
            raise refuse(404, "EntityNotExist.Role", "The role not exists.")
        self.admit(key)
        expiration = call.now + timedelta(seconds=int(parameters["DurationSeconds"]))
        credentials = {
            "AccessKeyId": key.id,
            "AccessKeySecret": key.secret,
            "SecurityToken": key.security_token,
            "Expiration": expiration.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return {"Credentials": credentials}

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        code = refusal.code or {403: "NoPermission"}.get(refusal.status, "ServiceUnavailable")
        fields = {"RequestId": call.request_id, "Code": code, "Message": refusal.message}
        return Answer(refusal.status, JSON, json.dumps(fields).encode())


def _parameters(request: Request) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(request.query).items()}


def _version(request: Request) -> str | None:
    return request.headers.get("x-acs-version") or _parameters(request).get("Version")


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
