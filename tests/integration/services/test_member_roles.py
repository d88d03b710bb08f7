"""The role in a member's account over the real protocols: taken, used, renewed, and refused."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from encryption_guard.arn import TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import NotPrepared
from encryption_guard.invocation import Clock, Invocation
from encryption_guard.services.directory import DirectoryRefused, list_accounts
from encryption_guard.services.inventory import bucket_list, read_bucket
from encryption_guard.services.member_keys import MemberKeys
from encryption_guard.services.oss_tables import OssTables as OssTablesClient
from encryption_guard.services.sts import assume_role
from encryption_guard.settings import Settings
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, REGION
from tests.emulators.emulated_service import utc_now
from tests.emulators.oss_tables import OssTables
from tests.emulators.ram_policies import Policy
from tests.emulators.resource_directory import Member, ResourceDirectory
from tests.emulators.sts import Sts
from tests.emulators.trust_policies import Role, TrustPolicy

FIRST, SECOND = "2222222222222222", "3333333333333333"
EXTERNAL_ID = "guard-of:1234567890123456"
NAME = "oss-tables-encryption-guard-member"
GUARD = AccessKey(
    *("STS.guard", "guard-secret", ACCOUNT),
    security_token="guard-token-0123456789",
    policy=Policy.of(
        [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Resource": f"acs:ram::*:role/{NAME}"},
            {"Effect": "Allow", "Action": "oss:*", "Resource": "*"},
            {"Effect": "Allow", "Action": "resourcemanager:ListAccounts", "Resource": "*"},
        ]
    ),
    role_name="guard",
)
TRUST = TrustPolicy.naming([f"acs:ram::{ACCOUNT}:role/guard"], external_id=EXTERNAL_ID)
RIGHTS = Policy.of(
    [
        {
            "Effect": "Allow",
            "Action": ["oss:ListTableBuckets", "oss:GetTableBucketEncryption"],
            "Resource": "*",
        }
    ]
)
ROLES = [Role(each, NAME, TRUST, RIGHTS) for each in (FIRST, SECOND)]


class MovedClock:
    """The real time, and what a test lets pass."""

    passed = timedelta()

    def __call__(self) -> datetime:
        return utc_now() + self.passed


@dataclass(frozen=True)
class Organization:
    """The services, a clock for all of them, and the guard with its keys."""

    sts: Sts
    tables: OssTables
    time: MovedClock
    invocation: Invocation
    keys: MemberKeys

    def client(self, account_id: str) -> OssTablesClient:
        return OssTablesClient(self.keys.enter(account_id, self.invocation))

    def buckets(self, account_id: str) -> list[str]:
        """The ARNs of the buckets that the guard finds in an account."""
        page = bucket_list(REGION).page(self.client(account_id))
        return [entry["arn"] for entry in page.entries]

    def taken(self) -> list[str]:
        """The accounts whose role was taken, in order."""
        return [key.account_id for key in self.sts.issued]


@contextmanager
def opened(**changed: Any) -> Iterator[Organization]:
    """An organization of two members, and a guard with other settings."""
    time = MovedClock()
    with (
        OssTables(GUARD, region=REGION, clock=time) as tables,
        Sts(GUARD, planted=ROLES, clock=time, on_issue=tables.admit) as sts,
    ):
        settings = Settings(
            oss_tables_endpoint=tables.url,
            sts_endpoint=sts.url,
            external_id=EXTERNAL_ID,
            account_id=ACCOUNT,
            max_attempts=2,
        )._replace(**changed)
        with open_command(settings, seconds=60) as command:
            invocation = command._replace(
                clock=Clock(now=time),
                read_credentials=lambda: Credentials(GUARD.id, GUARD.secret, GUARD.security_token),
                request_id="1-66f2c8a1-0b7e",
            )
            keys = MemberKeys({ACCOUNT}, assume=assume_role, now=time)
            yield Organization(sts, tables, time, invocation, keys)


@pytest.fixture
def organization() -> Iterator[Organization]:
    with opened() as found:
        yield found


def test_each_account_shows_its_own_buckets(organization: Organization) -> None:
    """The guard's own by its own key, each member's by that member's role, taken once."""
    planted = {
        each: organization.tables.plant("orders", account_id=each)
        for each in (ACCOUNT, FIRST, SECOND)
    }

    found = {each: organization.buckets(each) for _ in range(2) for each in planted}

    assert found == {each: [arn] for each, arn in planted.items()}
    assert organization.taken() == [FIRST, SECOND]
    asked = organization.sts.requests[0].request.parameters
    assert asked["RoleSessionName"] == "1-66f2c8a1-0b7e"


def test_a_key_of_one_account_opens_no_other(organization: Organization) -> None:
    """The service refuses it: a mistake of the guard could not go unseen."""
    arn = TableBucketArn.parse(organization.tables.plant("orders", account_id=SECOND))

    reading = read_bucket(organization.client(FIRST), arn)

    assert (reading.status, reading.code) == (403, "ForbiddenException")
    assert read_bucket(organization.client(SECOND), arn).status == 200


@pytest.mark.parametrize("passed", [timedelta(minutes=56), timedelta(hours=3)])
def test_an_ended_session_is_renewed_without_an_error(
    organization: Organization, passed: timedelta
) -> None:
    """Before its end, or long after it in an instance that slept."""
    organization.buckets(FIRST)
    organization.time.passed += passed

    assert organization.buckets(FIRST) == []
    assert organization.taken() == [FIRST, FIRST]


def test_a_session_that_ends_early_is_renewed_within_the_request(
    organization: Organization,
) -> None:
    """The service says that the token has expired, whatever the guard believed."""
    client = organization.client(FIRST)
    bucket_list(REGION).page(client)
    (issued,) = organization.sts.issued
    organization.tables.admit(replace(issued, expires_at=organization.time()))

    assert bucket_list(REGION).page(client).entries == ()
    assert organization.taken() == [FIRST, FIRST]
    assert organization.buckets(FIRST) == []
    assert len(organization.taken()) == 2


@pytest.mark.parametrize(
    "settings",
    [
        {"external_id": None},
        {"external_id": "another-id"},
        {"member_role": "nobody"},
    ],
)
def test_an_account_that_does_not_agree_is_not_prepared(settings: dict[str, Any]) -> None:
    """Another external id, or a role that is not there: no request goes to its buckets."""
    with opened(**settings) as organization, pytest.raises(NotPrepared) as caught:
        organization.buckets(FIRST)

    assert caught.value.account_id == FIRST
    assert organization.tables.requests == []


def test_the_directory_tells_whose_accounts_they_are(organization: Organization) -> None:
    """All members, on several pages, but for one that is being deleted; for its manager alone."""
    members = [Member(f"5555555555555{number:03}") for number in range(150)]
    gone = Member("6666666666666666", deletion="Deleting")
    with ResourceDirectory(GUARD, manager=ACCOUNT, members=[*members, gone]) as directory:
        settings = organization.invocation.settings._replace(directory_endpoint=directory.url)
        invocation = organization.invocation._replace(settings=settings)

        found = list_accounts(invocation)
        directory.manager = SECOND
        with pytest.raises(DirectoryRefused, match="EntityNotExists"):
            list_accounts(invocation)

    assert found.account_ids == (ACCOUNT, *(each.account_id for each in members))
    assert found.problems == ()
