"""Who the credentials belong to, over the real protocol."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import Unavailable
from encryption_guard.services.acs3 import ApiRefused
from encryption_guard.services.sts import Caller, read_caller
from encryption_guard.settings import Settings
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT
from tests.emulators.faults import Fault, GarbageBody, Refuse, Reset
from tests.emulators.ram_policies import Policy
from tests.emulators.sts import Sts

OWNER = AccessKey("LTAIowner", "a-secret", ACCOUNT)
OWN = f"acs:ram::{ACCOUNT}"


@pytest.fixture
def sts() -> Iterator[Sts]:
    with Sts(OWNER) as service:
        yield service


def ask(sts: Sts, key: AccessKey = OWNER) -> Caller:
    """Ask as somebody with this key."""
    settings = Settings(sts_endpoint=sts.url, max_attempts=1)
    credentials = Credentials(key.id, key.secret, key.security_token)
    with open_command(settings, seconds=10) as invocation:
        return read_caller(invocation._replace(read_credentials=lambda: credentials))


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (OWNER, Caller(ACCOUNT, f"{OWN}:root", "Account")),
        (replace(OWNER, policy=Policy(())), Caller(ACCOUNT, f"{OWN}:user/ltaiowner", "RAMUser")),
        (
            replace(OWNER, security_token="a-token"),
            Caller(ACCOUNT, f"{OWN}:assumed-role/ltaiowner/session", "AssumedRoleUser"),
        ),
    ],
    ids=["the account", "a user", "a role"],
)
def test_the_caller_is_who_the_key_belongs_to(sts: Sts, key: AccessKey, expected: Caller) -> None:
    """No right is needed for it."""
    sts.admit(key)

    assert ask(sts, key) == expected


@pytest.mark.parametrize("body", [b"{}", b'{"AccountId": "1"}', b'{"Arn": "an ARN"}', b"[]"])
def test_an_answer_without_a_caller_is_none(sts: Sts, body: bytes) -> None:
    """Nobody is made up."""
    sts.faults.add(Fault(GarbageBody(body)))

    with pytest.raises(Unavailable, match="GetCallerIdentity"):
        ask(sts)


def test_a_caller_that_is_refused_or_not_answered_is_not_known(sts: Sts) -> None:
    """The error says which."""
    sts.faults.add(Fault(Refuse(403), times=1))
    with pytest.raises(ApiRefused, match="403 NoPermission"):
        ask(sts)

    sts.faults.add(Fault(Reset()))
    with pytest.raises(Unavailable, match="gave no answer"):
        ask(sts)
