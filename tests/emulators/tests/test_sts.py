"""The emulated STS: who takes which role, and the keys that it gives."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.ram_policies import Policy
from tests.emulators.sts import ASSUMED_A_SECOND, VERSION, Sts
from tests.emulators.tests.rpc_requests import Time, call, code, official_client
from tests.emulators.trust_policies import Role, TrustPolicy

HUB, MEMBER = "1111111111111111", "2222222222222222"
RIGHT = {
    "Effect": "Allow",
    "Action": "sts:AssumeRole",
    "Resource": "acs:ram::*:role/guard-member",
}
GUARD = AccessKey(
    *("STS.guard", "guard-secret", HUB),
    security_token="guard-token",
    policy=Policy.of([RIGHT]),
    role_name="guard",
)
# RAM grants no right by a name alone: a role of the same name in another account.
STRANGER = replace(GUARD, id="STS.stranger", account_id="3333333333333333")
TRUSTED = TrustPolicy.naming([f"acs:ram::{HUB}:role/guard"], external_id="our-id")
ROLE = Role(MEMBER, "guard-member", TRUSTED, Policy.of([{**RIGHT, "Action": "oss:*"}]))
ASKED = {
    "RoleArn": ROLE.arn,
    "RoleSessionName": "request-1",
    "ExternalId": "our-id",
    "DurationSeconds": "900",
}


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def sts(time: Time) -> Iterator[Sts]:
    with Sts(GUARD, STRANGER, planted=[ROLE], clock=time) as service:
        yield service


def asked(
    sts: Sts, time: Time, key: AccessKey = GUARD, changed: Mapping[str, str | None] | None = None
) -> tuple[int, dict[str, Any]]:
    """What is answered to the usual parameters, changed; those that are None are left out."""
    parameters = {**ASKED, **(changed or {})}
    query = {name: value for name, value in parameters.items() if value is not None}
    return call(sts, "AssumeRole", VERSION, query, now=time.now, key=key)


def caller(sts: Sts, time: Time, key: AccessKey) -> tuple[int, dict[str, Any]]:
    return call(sts, "GetCallerIdentity", VERSION, now=time.now, key=key)


def test_a_trusted_caller_gets_a_key_of_the_role(sts: Sts, time: Time) -> None:
    """Of the role's account, with the role's rights, for as long as was asked for."""
    given: list[AccessKey] = []
    sts.on_issue = given.append

    status, told = asked(sts, time)

    (key,) = given
    assert status == 200
    assert told["Credentials"] == {
        "AccessKeyId": key.id,
        "AccessKeySecret": key.secret,
        "SecurityToken": key.security_token,
        "Expiration": "2026-01-02T03:19:05Z",
    }
    assert told["AssumedRoleUser"]["Arn"] == f"{ROLE.arn}/request-1"
    assert (key.account_id, key.policy) == (MEMBER, ROLE.policy)
    assert key.expires_at == time.now + timedelta(minutes=15)
    assert sts.issued == given


def test_every_key_is_another_one_and_ends(sts: Sts, time: Time) -> None:
    """A session is known to STS itself until its end."""
    asked(sts, time)
    asked(sts, time)
    first, second = sts.issued
    known = caller(sts, time, first)
    time.now += timedelta(minutes=15)
    ended = caller(sts, time, first)

    assert first.id != second.id
    assert known[1]["Arn"] == f"acs:ram::{MEMBER}:assumed-role/guard-member/session"
    assert code(ended) == (400, "InvalidSecurityToken.Expired")


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({"ExternalId": None}, (403, "NoPermission")),
        ({"RoleArn": f"acs:ram::{MEMBER}:role/nobody"}, (404, "EntityNotExist.Role")),
        ({"RoleArn": ROLE.arn + "/x"}, (400, "InvalidParameter.RoleArn")),
        ({"RoleArn": None}, (400, "MissingRoleArn")),
        ({"RoleSessionName": None}, (400, "MissingRoleSessionName")),
        ({"RoleSessionName": "a"}, (400, "InvalidParameter.RoleSessionName")),
        ({"RoleSessionName": "a" * 65}, (400, "InvalidParameter.RoleSessionName")),
        ({"ExternalId": "a"}, (400, "InvalidParameter.ExternalId")),
        ({"DurationSeconds": "899"}, (400, "InvalidParameter.DurationSeconds")),
        ({"DurationSeconds": "3601"}, (400, "InvalidParameter.DurationSeconds")),
    ],
)
def test_what_is_not_as_documented_or_trusted_is_refused(
    sts: Sts, time: Time, changed: dict[str, str | None], expected: tuple[int, str]
) -> None:
    """No key is given."""
    assert code(asked(sts, time, changed=changed)) == expected
    assert sts.issued == []


@pytest.mark.parametrize(
    "key",
    [
        STRANGER,
        replace(GUARD, policy=Policy(())),
        replace(GUARD, security_token=None, user_name="guard"),
        replace(GUARD, security_token=None, policy=None),
    ],
    ids=["another account", "no right", "a user of that name", "the account"],
)
def test_only_the_trusted_role_with_the_right_takes_it(
    sts: Sts, time: Time, key: AccessKey
) -> None:
    """Both sides have to agree, and the account itself can take no role."""
    sts.admit(key)

    assert code(asked(sts, time, key)) == (403, "NoPermission")


def test_an_account_has_so_many_requests_a_second(sts: Sts, time: Time) -> None:
    """The next one is throttled, and a second later it is not; another account has its own."""
    statuses = {asked(sts, time)[0] for _ in range(ASSUMED_A_SECOND)}
    throttled, other = asked(sts, time), asked(sts, time, STRANGER)
    time.now += timedelta(seconds=1)

    assert statuses == {200}
    assert code(throttled) == (400, "Throttling.User")
    assert code(other) == (403, "NoPermission")
    assert asked(sts, time)[0] == 200


# It asks for the time in a way that Python 3.12 warns of.
@pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")
def test_the_official_client_takes_a_role() -> None:
    """Its own request is believed, with every character that an external id may have."""
    external_id = "Aa0_+=,.@:/-"
    trust = TrustPolicy.naming([f"acs:ram::{HUB}:root"], external_id=external_id)
    with Sts(GUARD, planted=[replace(ROLE, trust=trust)]) as sts:
        taken = official_client(
            *(sts, "AssumeRole", VERSION, {**ASKED, "ExternalId": external_id}), key=GUARD
        )
        refused = official_client(sts, "AssumeRole", VERSION, ASKED, key=GUARD)

    assert taken[1]["Credentials"]["AccessKeyId"] == sts.issued[0].id
    assert code(refused) == (403, "NoPermission")
