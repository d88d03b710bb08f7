"""The emulated stack groups: whom they reach, what they refuse, and what follows an account."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, REGION, ROLE, SWEEP_ROLE, deployment
from tests.emulators.resource_directory import Member, ResourceDirectory
from tests.emulators.stack_groups import StackGroups, StackRefusedError
from tests.emulators.sts import Sts
from tests.emulators.template import infrastructure
from tests.emulators.trust_policies import Role, TrustPolicy

KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
FIRST, SECOND, ELSEWHERE = (str(each) * 16 for each in (2, 3, 4))
SHELL = {"GUARD_ACCOUNTS": "organization", "GUARD_ORGANIZATION_FOLDERS": "fd-emulated"}
FORWARDING = {**SHELL, "GUARD_ORGANIZATION_BUS": "guard"}
GUARDS = frozenset(str(key.principal) for key in (ROLE, SWEEP_ROLE))
Resources = dict[str, Any]


@dataclass
class Organization:
    """The directory of an account, and its stack groups."""

    directory: ResourceDirectory
    sts: Sts
    groups: StackGroups
    rules: list[tuple[str, str, str]]


@pytest.fixture
def organization() -> Iterator[Organization]:
    """Two members in the folder, and one elsewhere."""
    members = [Member(FIRST), Member(SECOND), Member(ELSEWHERE, folder="fd-elsewhere")]
    rules: list[tuple[str, str, str]] = []
    with ResourceDirectory(KEY, manager=ACCOUNT, members=members) as directory, Sts(KEY) as sts:
        groups = StackGroups(
            directory,
            sts,
            account_id=ACCOUNT,
            trustable=GUARDS,
            on_rule=lambda *rule: rules.append((*rule[:2], rule[2]["EventBusName"])),
        )
        yield Organization(directory, sts, groups, rules)


def created(shell: dict[str, str] = SHELL) -> Resources:
    """The stack of template.yaml."""
    return deepcopy(infrastructure(deployment(shell)))


def test_each_account_of_the_folders_gets_the_stack(organization: Organization) -> None:
    """The role is there for those who take it, and the rules are told."""
    organization.groups.update(created(FORWARDING))

    assert sorted(organization.groups.roles) == [FIRST, SECOND]
    assert organization.rules == [(each, REGION, "default") for each in (FIRST, SECOND)]
    role = organization.groups.roles[FIRST]
    assert organization.sts.has(role.arn)
    assert {role.trust.trusts(guard, None) for guard in GUARDS} == {True}
    assert not role.trust.trusts(f"acs:ram::{ACCOUNT}:role/another", None)
    assert not role.trust.trusts(f"acs:ram::{ACCOUNT}:user/another", None)


def test_a_stack_without_the_group_removes_it(organization: Organization) -> None:
    """The instances go first, and with them the roles; the same stack again changes nothing."""
    organization.groups.update(created())
    organization.groups.update(created())
    role = organization.groups.roles[FIRST]

    organization.groups.update(created({}))

    assert (organization.groups.roles, organization.sts.has(role.arn)) == ({}, False)


def test_an_account_that_fails_leaves_the_others(organization: Organization) -> None:
    """Such as one that has a role of that name already."""
    organization.sts.plant(
        Role(FIRST, "oss-tables-encryption-guard-member", TrustPolicy.naming([*GUARDS]))
    )

    organization.groups.update(created())

    assert [*organization.groups.roles] == [SECOND]
    assert [*organization.groups.failed] == [(FIRST, REGION)]
    assert "EntityAlreadyExists.Role" in organization.groups.failed[FIRST, REGION]


def test_a_trust_in_a_role_that_does_not_exist_fails(organization: Organization) -> None:
    """RAM knows the roles that a trust policy names."""
    resources = created()
    resources["MemberStacks"]["Properties"]["Parameters"]["Guards"] += "-gone"

    organization.groups.update(resources)

    assert organization.groups.roles == {}
    assert "EntityNotExist.Role" in organization.groups.failed[FIRST, REGION]


def change(resources: Resources, name: str, **properties: Any) -> Resources:
    """The resources with other properties of one."""
    resources[name]["Properties"].update(properties)
    return resources


def test_a_template_with_a_misspelt_property_is_refused(organization: Organization) -> None:
    """It is one that does not exist."""
    resources = created()
    role = resources["MemberStacks"]["Properties"]["TemplateBody"]["Resources"]["Role"]
    role["Properties"]["RolName"] = role["Properties"].pop("RoleName")

    with pytest.raises(StackRefusedError, match="RolName is unknown"):
        organization.groups.update(resources)


@pytest.mark.parametrize(
    ("name", "properties", "code"),
    [
        ("MemberStacks", {"PermissionModel": "SELF_MANAGED"}, "PermissionModel"),
        (
            "MemberStackInstances",
            {"DeploymentTargets": {"RdFolderIds": [f"fd-{number}" for number in range(21)]}},
            "1 to 20 folders",
        ),
        (
            "MemberStackInstances",
            {"DeploymentTargets": {"RdFolderIds": ["fd-unknown"]}},
            "FolderNotFound: fd-unknown",
        ),
        ("MemberStackInstances", {"RegionIds": [REGION] * 21}, "1 to 20 regions"),
        (
            *("MemberStackInstances", {"OperationPreferences": {"MaxConcurrentCount": 21}}),
            "OperationPreferences",
        ),
        (
            *("MemberStackInstances", {"StackGroupName": "another"}),
            "StackGroupNotFound: another",
        ),
    ],
)
def test_what_the_service_would_refuse_is_refused(
    organization: Organization, name: str, properties: dict[str, Any], code: str
) -> None:
    """With its reason."""
    with pytest.raises(StackRefusedError, match=code):
        organization.groups.update(change(created(), name, **properties))


def test_no_property_can_be_updated(organization: Organization) -> None:
    """Neither of a group nor of its instances."""
    organization.groups.update(created())

    for resources in (
        change(created(), "MemberStacks", Description="another"),
        change(created(), "MemberStackInstances", RegionIds=[REGION, "cn-beijing"]),
    ):
        with pytest.raises(StackRefusedError, match="UpdateNotSupported"):
            organization.groups.update(resources)


def test_only_the_manager_has_such_groups(organization: Organization) -> None:
    """And delegated administrators."""
    organization.directory.manager = FIRST
    with pytest.raises(StackRefusedError, match="NotResourceDirectoryAdmin"):
        organization.groups.update(created())
    organization.directory.delegated = {ACCOUNT}

    organization.groups.update(created())

    assert sorted(organization.groups.roles) == [FIRST, SECOND]


def test_a_group_has_one_operation_at_a_time(organization: Organization) -> None:
    """Another one during the first is refused."""
    groups = StackGroups(
        organization.directory,
        organization.sts,
        account_id=ACCOUNT,
        trustable=GUARDS,
        on_rule=lambda *_: organization.directory.join(Member("5555555555555555")),
    )

    with pytest.raises(StackRefusedError, match="StackGroupOperationInProgress"):
        groups.update(created(FORWARDING))


def test_a_group_that_follows_nobody_stays_as_it_is(organization: Organization) -> None:
    """Without AutoDeployment; one that retains its stacks leaves the role behind."""
    resources = created()
    change(
        resources,
        "MemberStacks",
        AutoDeployment={"Enabled": False, "RetainStacksOnAccountRemoval": False},
    )
    organization.groups.update(resources)
    organization.directory.join(Member(ELSEWHERE))
    assert sorted(organization.groups.roles) == [FIRST, SECOND]
    organization.groups.update(created({}))

    kept = {"Enabled": True, "RetainStacksOnAccountRemoval": True}
    organization.groups.update(change(created(), "MemberStacks", AutoDeployment=kept))
    organization.directory.leave(FIRST)
    assert FIRST in organization.groups.roles
