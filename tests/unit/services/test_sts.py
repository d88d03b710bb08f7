"""The member role: what is asked, which answers are credentials, and what a refusal means."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.credentials import Credentials
from encryption_guard.errors import NotPrepared, Unavailable
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.sts import AssumedRole, assume_role, read_clock, session_name
from tests.unit.fakes import Broken, Reply, invocation_of
from tests.unit.services.rpc_service import RpcService, parameters, refusal

MEMBER = "2222222222222222"
ROLE = f"acs:ram::{MEMBER}:role/oss-tables-encryption-guard-member"
FIELDS = {
    "AccessKeyId": "STS.member",
    "AccessKeySecret": "a-secret-of-the-member",
    "SecurityToken": "a-token-of-the-member",
    "Expiration": "2026-01-02T04:04:05Z",
}
SECRETS = (FIELDS["AccessKeySecret"], FIELDS["SecurityToken"])


def answer(*, arn: object = None, **changed: object) -> Reply:
    """An answer of AssumeRole with other fields, or without those that are None."""
    fields = {name: value for name, value in {**FIELDS, **changed}.items() if value is not None}
    user = {"AssumedRoleUser": {"Arn": arn}} if arn else {}
    return Reply(200, json.dumps({"RequestId": "1", "Credentials": fields, **user}).encode())


class Sts(RpcService):
    """Gives the credentials of the member role."""

    def answer(self, request: httpx.Request) -> Reply:
        checked = super().answer(request)
        return answer() if checked.status == 200 else checked


def assumed(
    service: RpcService, *, request_id: str = "", function_name: str | None = None, **rest: Any
) -> AssumedRole:
    invocation = invocation_of(service, **rest)._replace(request_id=request_id)
    settings = invocation.settings._replace(function_name=function_name)
    return assume_role(invocation._replace(settings=settings), MEMBER)


def asked_for(service: RpcService) -> dict[str, str]:
    """The parameters of its only request."""
    (request,) = service.requests
    return parameters(request.url.query.decode())


def test_a_member_role_is_taken_for_an_hour() -> None:
    """The role of the account is asked for, and its credentials and their end are returned."""
    service = Sts()

    role = assumed(service, request_id="1-66f2c8a1-0b7e")

    assert role.credentials == Credentials(
        "STS.member", "a-secret-of-the-member", "a-token-of-the-member"
    )
    assert role.expires_at == datetime(2026, 1, 2, 4, 4, 5, tzinfo=timezone.utc)
    assert asked_for(service) == {
        "RoleArn": ROLE,
        "RoleSessionName": "1-66f2c8a1-0b7e",
        "DurationSeconds": "3600",
    }
    assert service.requests[0].url.host == "sts.aliyuncs.com"
    assert service.requests[0].headers["x-acs-action"] == "AssumeRole"
    assert service.requests[0].headers["x-acs-version"] == "2015-04-01"


def test_role_external_id_and_endpoint_are_settings() -> None:
    """Each character that an external id may have arrives as it is."""
    service = Sts()

    assumed(
        service,
        environment={
            "GUARD_MEMBER_ROLE": "a.guard_role",
            "GUARD_EXTERNAL_ID": "Aa0_+=,.@:/-",
            "GUARD_STS_ENDPOINT": "https://sts-vpc.cn-hangzhou.aliyuncs.com",
        },
    )

    asked = asked_for(service)
    assert asked["RoleArn"] == f"acs:ram::{MEMBER}:role/a.guard_role"
    assert asked["ExternalId"] == "Aa0_+=,.@:/-"
    assert service.requests[0].url.host == "sts-vpc.cn-hangzhou.aliyuncs.com"


@pytest.mark.parametrize(
    ("request_id", "name"),
    [
        ("", "oss-tables-encryption-guard"),
        ("x", "oss-tables-encryption-guard"),
        ("xy", "xy"),
        ("1-66f2/a b\n", "1-66f2-a-b-"),
        ("Aa0.@_-", "Aa0.@_-"),
        ("\u00e9\u516c", "--"),
        ("a" * 65, "a" * 64),
    ],
)
def test_a_session_is_named_by_the_request(request_id: str, name: str) -> None:
    """Other characters become hyphens, and a command has a name of its own."""
    assert session_name(request_id) == name


@given(st.text())
def test_every_session_name_is_valid(request_id: str) -> None:
    """Whatever the platform calls a request, STS takes the name."""
    name = session_name(request_id)

    assert re.fullmatch("[A-Za-z0-9.@_-]{2,64}", name)


@pytest.mark.parametrize(
    "trouble",
    [
        Reply(200, b'{"RequestId": "1"}'),
        Reply(200, b'{"Credentials": "a-secret-of-the-member"}'),
        *(answer(**{name: None}) for name in FIELDS),
        *(answer(**{name: ""}) for name in FIELDS),
        answer(Expiration="soon"),
        answer(SecurityToken="a token\nof-the-member"),
        answer(AccessKeySecret=["a-secret-of-the-member"]),
        answer(arn="acs:ram::3333333333333333:role/guard/session"),
        answer(arn="acs:sts::3333333333333333:assumed-role/guard/session"),
    ],
)
def test_an_answer_without_credentials_of_the_account_is_none(trouble: Reply) -> None:
    """Nothing is made up, no other account's key is taken, and no secret is in the message."""
    with pytest.raises(Unavailable) as caught:
        assumed(Sts(troubles={"POST": [trouble]}))

    assert str(caught.value).startswith("AssumeRole returned ")
    assert not [secret for secret in SECRETS if secret in str(caught.value)]
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("arn", [None, "an ARN", f"acs:ram::{MEMBER}:role/guard/session"])
def test_the_user_of_the_role_may_be_missing(arn: str | None) -> None:
    """Only another account's is refused."""
    service = Sts(troubles={"POST": [answer(arn=arn)]})

    assert assumed(service).credentials.access_key_id == "STS.member"


def test_assumed_credentials_do_not_print_their_secrets() -> None:
    """Neither the value nor the credentials in it show more than the start of the key id."""
    shown = repr(assumed(Sts()))

    assert not [secret for secret in (*SECRETS, "STS.member") if secret in shown]


FOR_A_FUNCTION = (
    "let its trust policy name the roles of the guard's functions and the value of"
    " GUARD_EXTERNAL_ID, if that is set; and allow those roles sts:AssumeRole on it. Or remove"
    f" {MEMBER} from GUARD_ACCOUNTS."
)
FOR_A_COMMAND = (
    "let its trust policy name your user or role and the value of GUARD_EXTERNAL_ID, if that is"
    " set; and allow it sts:AssumeRole on it. If the role has another name, set GUARD_MEMBER_ROLE;"
    f" or leave out account {MEMBER}."
)


@pytest.mark.parametrize(
    ("function_name", "advice"),
    [("oss-tables-encryption-sweep", FOR_A_FUNCTION), (None, FOR_A_COMMAND)],
    ids=["function", "command"],
)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        (404, "EntityNotExist.Role"),
        (403, "NoPermission"),
        (403, "AuthenticationFail.NoPermission"),
        (400, "InvalidParameter.RoleArn"),
        (403, "Forbidden.AccountClosed"),
    ],
)
def test_a_role_that_cannot_be_taken_is_told_with_what_to_do(
    status: int, code: str, function_name: str | None, advice: str
) -> None:
    """It does not exist, trusts nobody, or the account is no longer there: one attempt."""
    service = Sts(troubles={"POST": [refusal(status, code, "no")]})

    with pytest.raises(NotPrepared) as caught:
        assumed(service, function_name=function_name)

    assert (caught.value.account_id, caught.value.status, caught.value.code) == (
        *(MEMBER, status),
        code,
    )
    assert str(caught.value) == (
        f"The role {ROLE} cannot be taken (AssumeRole of sts.aliyuncs.com answered {status} {code}:"
        f' "no" (request REQ-1)). Create the role in account {MEMBER}; {advice}'
    )
    assert len(service.requests) == 1


@pytest.mark.parametrize(
    "refused",
    [
        refusal(404, "InvalidAccessKeyId.NotFound", "no"),
        refusal(400, "SignatureDoesNotMatch", "no"),
        refusal(400, "InvalidParameter.DurationSeconds", "no"),
        refusal(404, "InvalidAction.NotFound", "no"),
        Reply(404, b"<html>not found</html>"),
    ],
)
def test_another_refusal_does_not_blame_the_account(refused: Reply) -> None:
    """The guard's own key, its request or its endpoint is at fault."""
    with pytest.raises(ApiRefused) as caught:
        assumed(Sts(troubles={"POST": [refused]}))

    assert not isinstance(caught.value, NotPrepared)


@pytest.mark.parametrize(
    "trouble",
    [
        refusal(400, "Throttling.User", "slow down", x_acs_retry_after="100"),
        Broken(httpx.ReadTimeout),
    ],
)
def test_trouble_of_the_service_is_outlived_or_unavailable(trouble: Reply | Broken) -> None:
    """A throttled or broken STS says nothing about the account."""
    assert assumed(Sts(troubles={"POST": [trouble]})).credentials.security_token
    with pytest.raises(Unavailable):
        assumed(Sts(troubles={"POST": [trouble] * 9}))


def test_an_expired_key_of_the_guard_does_not_blame_the_account() -> None:
    """With a renewed key a later try may succeed."""
    expired = refusal(400, "InvalidSecurityToken.Expired", "expired")

    with pytest.raises(Unavailable, match=r"InvalidSecurityToken\.Expired"):
        assumed(Sts(troubles={"POST": [expired]}))


class Dated(RpcService):
    """Says what time it is, as every answer does."""

    def __init__(self, date: str) -> None:
        super().__init__()
        self.date = date

    def answer(self, request: httpx.Request) -> Reply:
        return replace(super().answer(request), headers={"date": self.date})


def test_the_clock_of_the_service_is_read_from_its_answer() -> None:
    """Of an action that every key may call."""
    service = Dated("Fri, 02 Jan 2026 03:04:05 GMT")

    at = read_clock(invocation_of(service))

    assert at == datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
    assert service.requests[0].headers["x-acs-action"] == "GetCallerIdentity"


@pytest.mark.parametrize("date", ["", "soon"])
def test_an_answer_without_a_date_is_no_clock(date: str) -> None:
    """It counts as no answer."""
    with pytest.raises(Unavailable, match="without a date"):
        read_clock(invocation_of(Dated(date)))
