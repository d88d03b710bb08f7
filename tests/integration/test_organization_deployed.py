"""An organization whose accounts are prepared by the deployment, from the folder to the bucket."""

from __future__ import annotations

import pytest
from alibabacloud_oss_v2.tables import models

from tests.emulators.cloud import ACCOUNT, EmulatedCloud, emulated_cloud, owner_of
from tests.emulators.owners_client import owners_client
from tests.emulators.resource_directory import Member
from tests.integration.conftest import creation_of
from tests.integration.sweep.test_function import sweep

FIRST, SECOND = "2222222222222222", "3333333333333333"
DEPLOYED = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_ORGANIZATION_FOLDERS": "fd-emulated",
    "GUARD_EXTERNAL_ID": f"guard-of:{ACCOUNT}",
    "GUARD_SWEEP_EVERY": "0",
}


def refusals(cloud: EmulatedCloud) -> list[int | None]:
    """The requests to buckets that were refused."""
    return [each.status for each in cloud.tables.requests if (each.status or 500) >= 400]


@pytest.mark.parametrize("role", ["oss-tables-encryption-guard-member", "of-the-guard"])
def test_an_event_and_a_sweep_use_the_role_that_the_stack_group_made(role: str) -> None:
    """It trusts the roles of both functions, with the external id, by whatever name."""
    environment = {**DEPLOYED, "GUARD_MEMBER_ROLE": role}
    with emulated_cloud(environment=environment, members=[Member(FIRST)]) as cloud:
        of_event = cloud.tables.plant("of-event", account_id=FIRST)
        of_sweep = cloud.tables.plant("of-sweep", account_id=FIRST)

        cloud.function.deliver(creation_of(of_event))
        between = [cloud.tables.encryption(arn) for arn in (of_event, of_sweep)]
        result, _ = sweep(cloud)

        assert between == ["AES256", None]
        assert cloud.tables.encryption(of_sweep) == "AES256"
        assert (result["ok"], refusals(cloud)) == (True, [])
        assert {key.role_name for key in cloud.sts.issued} == {role}


def test_a_new_account_is_guarded_without_a_deployment() -> None:
    """It joins the folder, gets the role by itself, and the next sweep encrypts its buckets."""
    with emulated_cloud(environment=DEPLOYED, members=[Member(FIRST)]) as cloud:
        cloud.directory.join(Member(SECOND))
        arn = cloud.tables.plant("orders", account_id=SECOND)

        result, _ = sweep(cloud)

        assert (cloud.tables.encryption(arn), result["ok"]) == ("AES256", True)


def test_an_account_that_left_is_left_alone() -> None:
    """Its role is gone with it; the others are swept as before."""
    with emulated_cloud(environment=DEPLOYED, members=[Member(FIRST), Member(SECOND)]) as cloud:
        cloud.directory.leave(FIRST)
        gone, kept = (cloud.tables.plant("orders", account_id=each) for each in (FIRST, SECOND))

        result, _ = sweep(cloud)

        assert [cloud.tables.encryption(each) for each in (gone, kept)] == [None, "AES256"]
        assert (result["ok"], result["problems"]) == (True, [])
        assert [*cloud.stack_groups.roles] == [SECOND]


def test_an_account_outside_of_the_folders_is_a_finding() -> None:
    """It is of the organization, and nobody has prepared it."""
    members = [Member(FIRST), Member(SECOND, folder="fd-elsewhere")]
    with emulated_cloud(environment=DEPLOYED, members=members) as cloud:
        arns = [cloud.tables.plant("orders", account_id=each) for each in (FIRST, SECOND)]

        result, _ = sweep(cloud)

        assert [cloud.tables.encryption(each) for each in arns] == ["AES256", None]
        (problem,) = result["problems"]
        assert (problem["account"], problem["reason"]) == (SECOND, "not_prepared")


def test_events_of_members_are_forwarded_where_that_is_wanted() -> None:
    """From the bus of each account, by the role of the guard, to the bus of the guard."""
    environment = {
        **DEPLOYED,
        "GUARD_ACCOUNTS": FIRST,
        "GUARD_ORGANIZATION_BUS": "guard",
    }
    members = [Member(FIRST), Member(SECOND)]
    with emulated_cloud(environment=environment, members=members) as cloud:
        with owners_client(cloud, owner_of(FIRST)) as owner:
            owner.create_table_bucket(models.CreateTableBucketRequest(name="orders"))
        cloud.bus.join(timeout=60)

        (outcome,) = cloud.outcomes()
        (bucket,) = cloud.tables.buckets()

    assert bucket.encryption is not None
    assert (outcome["outcome"], outcome["arn"]) == ("encrypted", str(bucket.arn))
    assert bucket.arn.account_id == FIRST
