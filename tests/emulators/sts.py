"""Security Token Service: it tells a caller who they are, and gives keys of roles.

https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-getcalleridentity
https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole
https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerolewithoidc
"""

from __future__ import annotations

import re
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta

from alibabacloud_credentials.utils import parameter_helper

from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import ALGORITHM, parameters
from tests.emulators.emulated_service import Call, Clock, RefusedError, refuse, utc_now
from tests.emulators.faults import Faults
from tests.emulators.rpc_service import RpcService, answered, no_such_action
from tests.emulators.server import Authority
from tests.emulators.trust_policies import ASSUME_ROLE, Role
from tests.emulators.wire import Answer, Request

VERSION = "2015-04-01"
ROLE_ARN = re.compile(r"acs:ram::(?P<account_id>[0-9]{5,20}):role/[A-Za-z0-9._-]{1,64}", re.ASCII)
SESSION_NAME = re.compile(r"[A-Za-z0-9.@_-]{2,64}", re.ASCII)
EXTERNAL_ID = re.compile(r"[A-Za-z0-9_+=,.@:/-]{2,1224}", re.ASCII)
SHORTEST_SESSION = 900
# Of an account: https://alibabacloud.com/en/notice/upgradenotification_of_request_limit_upgrade_of_sts_assumerole_api_175
ASSUMED_A_SECOND = 100
FORBIDDEN = "You are not authorized to do this action. You should be authorized by RAM."


class Sts(RpcService):
    """The service. GetCallerIdentity needs no right.

    `roles` has the key that is given for a role, by its ARN; `oidc_token` is what the provider of
    the cluster wrote. Those of `planted` are taken by whoever they trust and has the right to it:
    each time with a new key, which `on_issue` gets, and which ends. The account of a role is what a
    fault knows the request by.
    """

    def __init__(
        self,
        *access_keys: AccessKey,
        authority: Authority | None = None,
        faults: Faults | None = None,
        clock: Clock = utc_now,
        roles: Mapping[str, AccessKey] | None = None,
        oidc_token: str = "",
        planted: Iterable[Role] = (),
        on_issue: Callable[[AccessKey], object] = lambda _key: None,
    ) -> None:
        super().__init__(*access_keys, authority=authority, faults=faults, clock=clock)
        self.roles = dict(roles or {})
        self.oidc_token = oidc_token
        self.on_issue = on_issue
        self.issued: list[AccessKey] = []
        self._planted = {role.arn: role for role in planted}
        self._lock = threading.Lock()
        self._assumed_at: dict[str, list[datetime]] = {}

    def plant(self, role: Role) -> None:
        """Let the role be there, instead of an earlier one of its name."""
        self._planted[role.arn] = role

    def has(self, arn: str) -> bool:
        """Whether a role of this ARN is there."""
        return arn in self._planted

    def remove(self, role: Role) -> None:
        """Take the role away; its sessions last until they end."""
        del self._planted[role.arn]

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        given = parameters(request)
        role = ROLE_ARN.fullmatch(given.get("RoleArn", ""))
        action = request.headers.get("x-acs-action") or given.get("Action")
        return action, role["account_id"] if role else None

    def perform(self, call: Call) -> Answer:
        fields: dict[str, object]
        match call.operation if _version(call.request) == VERSION else None:
            case "GetCallerIdentity":
                fields = {**_identity(self.authenticated(call))}
            case "AssumeRole" if ALGORITHM in call.request.headers.get("authorization", ""):
                fields = self._session(call, self.authenticated(call))
            case "AssumeRole":
                fields = self._assumed(call, self._signer(call))
            case "AssumeRoleWithOIDC":
                fields = self._assumed(call, None)
            case _:
                raise no_such_action()
        return answered(call, fields)

    def _session(self, call: Call, caller: AccessKey) -> dict[str, object]:
        asked = parameters(call.request)
        self._check_rate(caller.account_id, call.now)
        arn, seconds = _checked(asked)
        if caller.principal is None:
            raise refuse(403, "NoPermission", "Roles may not be assumed by root accounts.")
        role = self._planted.get(arn)
        if role is None:
            raise refuse(404, "EntityNotExist.Role", f"The role not exists: {arn}.")
        allowed = self.rights.allow(caller, ASSUME_ROLE, arn)
        if not allowed or not role.trust.trusts(caller.principal, asked.get("ExternalId")):
            raise refuse(403, "NoPermission", FORBIDDEN)
        if seconds > role.max_session_seconds:
            raise _invalid("DurationSeconds", f"at most {role.max_session_seconds}")
        key = AccessKey(
            f"STS.{secrets.token_hex(8)}",
            secrets.token_hex(16),
            role.account_id,
            security_token=secrets.token_urlsafe(48),
            expires_at=(call.now + timedelta(seconds=seconds)).replace(microsecond=0),
            policy=role.policy,
            role_name=role.name,
        )
        self._issue(key)
        name = f"{role.name}/{asked['RoleSessionName']}"
        user = {
            "Arn": f"acs:ram::{role.account_id}:role/{name}",
            "AssumedRoleId": f"3{role.account_id}:{asked['RoleSessionName']}",
        }
        return {"AssumedRoleUser": user, **_credentials(key, key.expires_at or call.now)}

    def _issue(self, key: AccessKey) -> None:
        self.admit(key)
        self.on_issue(key)
        with self._lock:
            self.issued.append(key)

    def _check_rate(self, account_id: str, now: datetime) -> None:
        with self._lock:
            earlier = self._assumed_at.get(account_id, [])
            recent = [at for at in earlier if now - at < timedelta(seconds=1)]
            if len(recent) >= ASSUMED_A_SECOND:
                message = "Request was denied due to user flow control."
                raise refuse(400, "Throttling.User", message, {"x-acs-retry-after": "1000"})
            self._assumed_at[account_id] = [*recent, now]

    def _signer(self, call: Call) -> AccessKey:
        """The key that signed the query, by the older signature."""
        given = parameters(call.request)
        key = self.keys.get(given.get("AccessKeyId", ""))
        if key is None:
            raise refuse(404, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
        signature = given.pop("Signature", "")
        text = parameter_helper.compose_string_to_sign(call.request.method, given)
        if parameter_helper.sign_string(text, f"{key.secret}&") != signature:
            raise refuse(400, "SignatureDoesNotMatch", f"server string to sign is:{text}")
        return key

    def _assumed(self, call: Call, signer: AccessKey | None) -> dict[str, object]:
        given = parameters(call.request)
        if signer is None and given.get("OIDCToken") != self.oidc_token:
            raise refuse(400, "AuthenticationFail.OIDCToken.Invalid", "This OIDC token is invalid.")
        key = self.roles.get(given["RoleArn"])
        if key is None or not re.fullmatch(r"[\w.@-]{2,64}", given["RoleSessionName"]):
            raise refuse(404, "EntityNotExist.Role", "The role not exists.")
        self.admit(key)
        expiration = call.now + timedelta(seconds=int(given["DurationSeconds"]))
        return _credentials(key, expiration)


def _credentials(key: AccessKey, ends_at: datetime) -> dict[str, object]:
    credentials = {
        "AccessKeyId": key.id,
        "AccessKeySecret": key.secret,
        "SecurityToken": key.security_token,
        "Expiration": ends_at.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return {"Credentials": credentials}


def _checked(asked: Mapping[str, str]) -> tuple[str, int]:
    """The role's ARN and the seconds of its session, if all parameters are as documented."""
    forms = {"RoleArn": ROLE_ARN, "RoleSessionName": SESSION_NAME}
    forms |= {"ExternalId": EXTERNAL_ID} if "ExternalId" in asked else {}
    for name, form in forms.items():
        if name not in asked:
            raise refuse(400, f"Missing{name}", f"{name} is mandatory for this action.")
        if not form.fullmatch(asked[name]):
            raise _invalid(name, form.pattern)
    seconds = asked.get("DurationSeconds", "3600")
    if not seconds.isdecimal() or int(seconds) < SHORTEST_SESSION:
        raise _invalid("DurationSeconds", f"at least {SHORTEST_SESSION}")
    return asked["RoleArn"], int(seconds)


def _invalid(name: str, allowed: str) -> RefusedError:
    return refuse(400, f"InvalidParameter.{name}", f"The parameter {name} has to be {allowed}.")


def _version(request: Request) -> str | None:
    return request.headers.get("x-acs-version") or parameters(request).get("Version")


def _identity(key: AccessKey) -> dict[str, str]:
    """The account itself, a RAM user with a policy of theirs, or a role with its token."""
    principal = key.principal or f"acs:ram::{key.account_id}:root"
    if key.security_token:
        arn = f"{principal.replace(':role/', ':assumed-role/')}/session"
        kind = "AssumedRoleUser"
    else:
        arn, kind = principal, "RAMUser" if key.principal else "Account"
    return {"AccountId": key.account_id, "Arn": arn, "IdentityType": kind, "PrincipalId": key.id}
