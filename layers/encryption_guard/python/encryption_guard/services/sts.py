"""Security Token Service: who the credentials belong to, and the credentials of a member role."""

from __future__ import annotations

import re
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from encryption_guard.arn import ACCOUNT_ID
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError, NotPrepared, Unavailable
from encryption_guard.http import Answer
from encryption_guard.http.retries import UnreadableAnswer, http_date
from encryption_guard.invocation import Invocation
from encryption_guard.services.acs3 import Api, ApiAnswer, ApiRefused, call, rpc_request, send
from encryption_guard.untrusted import as_text, object_or_empty, read_time, shortened

ENDPOINT: Final = "https://sts.aliyuncs.com"
VERSION: Final = "2015-04-01"
# Every role allows sessions of one hour; a longer one has to be allowed for each role.
DURATION_SECONDS: Final = 3600
DEFAULT_SESSION_NAME: Final = "oss-tables-encryption-guard"
MIN_SESSION_NAME_LENGTH, MAX_SESSION_NAME_LENGTH = 2, 64
_ACCOUNT_OF_ARN: Final = rf"acs:\w+::({ACCOUNT_ID}):"


class Caller(NamedTuple):
    """An identity: its account, its ARN, and its type, such as `RAMUser` or `AssumedRoleUser`."""

    account_id: str
    arn: str
    type: str


class AssumedRole(NamedTuple):
    """The temporary credentials of a role, and when they end by the clock of the service."""

    credentials: Credentials
    expires_at: datetime


def read_caller(invocation: Invocation) -> Caller:
    """Return the identity of the invocation's credentials.

    Raises ApiRefused or Unavailable if the service does not return it.
    https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-getcalleridentity
    """
    answer = call(_api(invocation), "GetCallerIdentity", invocation)
    fields = (as_text(answer.get(name)) for name in ("AccountId", "Arn", "IdentityType"))
    account_id, arn, kind = (shortened(text) if text else "" for text in fields)
    if not account_id or not arn:
        raise Unavailable("GetCallerIdentity returned no account or no ARN.")
    return Caller(account_id, arn, kind)


def assume_role(invocation: Invocation, account_id: str) -> AssumedRole:
    """Take GUARD_MEMBER_ROLE in an account, with the invocation's credentials, for one hour.

    The session has the invocation's request ID as its name, so that the account's audit trail leads
    to the log of the function. Raises NotPrepared if the account does not allow it, Unavailable if
    the service gives no credentials in time, and ApiRefused for any other refusal.
    https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole
    """
    role = f"acs:ram::{account_id}:role/{invocation.settings.member_role}"
    query = {
        "RoleArn": role,
        "RoleSessionName": session_name(invocation.request_id),
        "DurationSeconds": str(DURATION_SECONDS),
    }
    if invocation.settings.external_id:
        query["ExternalId"] = invocation.settings.external_id
    try:
        answer = call(_api(invocation), "AssumeRole", invocation, query=query)
    except ApiRefused as refused:
        is_command = not invocation.settings.function_name
        raise _meaning(refused, account_id, role, is_command=is_command) from refused
    return _read_role(answer, account_id, role)


def read_clock(invocation: Invocation) -> datetime:
    """Return the time by the clock of STS, which needs no right to say it.

    Raises ApiRefused or Unavailable if the service does not state it.
    """
    return send(
        _api(invocation),
        "GetCallerIdentity",
        invocation,
        new_request=partial(rpc_request, _api(invocation), "GetCallerIdentity"),
        read=_read_date,
    )


def _read_date(answer: Answer, _: ApiAnswer) -> datetime:
    date = http_date(answer.headers.get("date", ""))
    if date is None:
        raise UnreadableAnswer("without a date")
    return date


def session_name(request_id: str) -> str:
    """Return a request ID as the name of a session: 2 to 64 characters of `A-Za-z0-9.@_-`.

    >>> session_name("1-66f2/a b"), session_name("")
    ('1-66f2-a-b', 'oss-tables-encryption-guard')
    """
    name = re.sub("[^A-Za-z0-9.@_-]", "-", request_id)[:MAX_SESSION_NAME_LENGTH]
    return name if len(name) >= MIN_SESSION_NAME_LENGTH else DEFAULT_SESSION_NAME


def _api(invocation: Invocation) -> Api:
    return Api(invocation.settings.sts_endpoint or ENDPOINT, VERSION)


def _meaning(
    refused: ApiRefused, account_id: str, role: str, *, is_command: bool
) -> NotPrepared | ApiRefused | Unavailable:
    code = refused.code.lower()
    # One code, NoPermission, means that the role does not trust the caller, and also that the
    # caller has no right to sts:AssumeRole.
    if refused.denies or "rolearn" in code:
        return _not_prepared(account_id, role, refused, is_command=is_command)
    if "token" in code and "expired" in code:
        # The caller's own token, of which there was no newer one: later there is one.
        return Unavailable(str(refused))
    return refused


def _not_prepared(
    account_id: str, role: str, refused: ApiRefused, *, is_command: bool
) -> NotPrepared:
    if is_command:
        caller, callers = "your user or role", "it"
        rest = (
            f"If the role has another name, set GUARD_MEMBER_ROLE; or leave out account"
            f" {account_id}."
        )
    else:
        caller, callers = "the roles of the guard's functions", "those roles"
        rest = f"Or remove {account_id} from GUARD_ACCOUNTS."
    sentence = (
        f"The role {role} cannot be taken ({str(refused).rstrip('.')}). Create the role in"
        f" account {account_id}; let its trust policy name {caller} and the value of"
        f" GUARD_EXTERNAL_ID, if that is set; and allow {callers} sts:AssumeRole on it. {rest}"
    )
    return NotPrepared(sentence, account_id=account_id, status=refused.status, code=refused.code)


def _read_role(answer: dict[str, object], account_id: str, role: str) -> AssumedRole:
    """Return the credentials in an answer; no message contains a part of them."""
    fields = object_or_empty(answer.get("Credentials"))
    names = ("AccessKeyId", "AccessKeySecret", "SecurityToken")
    key_id, secret, token = (as_text(fields.get(name)) for name in names)
    expires_at = read_time(as_text(fields.get("Expiration")))
    if not key_id or not secret or not token or not expires_at:
        raise Unavailable(f"AssumeRole returned no credentials with an expiration for {role}.")
    arn = as_text(object_or_empty(answer.get("AssumedRoleUser")).get("Arn")) or ""
    owner = re.match(_ACCOUNT_OF_ARN, arn, re.ASCII)
    if owner and owner[1] != account_id:
        raise Unavailable(f"AssumeRole returned credentials of account {owner[1]} for {role}.")
    try:
        return AssumedRole(Credentials(key_id, secret, token), expires_at)
    except ConfigurationError:
        # Its message is about the variables of a shell.
        raise Unavailable(
            f"AssumeRole returned credentials with an invalid character for {role}."
        ) from None
