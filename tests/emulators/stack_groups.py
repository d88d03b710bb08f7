"""Stack groups with service-managed permissions: a stack in each account of some folders.

https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-ros-stackgroup
https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-ros-stackinstances
https://www.alibabacloud.com/help/en/doc-detail/151333.htm (CreateStackGroup)
Of what a stack creates in an account, roles go to the emulated STS, and rules to `on_rule`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from layers.encryption_guard.tools.template_keys import find_unknown_keys
from tests.emulators.resource_directory import ResourceDirectory
from tests.emulators.sts import Sts
from tests.emulators.template import ros_decided
from tests.emulators.trust_policies import Role

GROUP, INSTANCES = "ALIYUN::ROS::StackGroup", "ALIYUN::ROS::StackInstances"
ROLE, RULE = "ALIYUN::RAM::Role", "ALIYUN::EventBridge::Rule"
MOST_FOLDERS, MOST_REGIONS, MOST_ACCOUNTS_AT_ONCE = 20, 20, 20
Properties = Mapping[str, Any]
# A rule of another account: the account, the region, and its properties.
OnRule = Callable[[str, str, Properties], object]


class StackRefusedError(Exception):
    """What the service refuses, with its code."""


@dataclass
class Instances:
    """The stacks of a group, by account and region: the roles that each has created."""

    group: Properties
    properties: Properties
    roles: dict[tuple[str, str], list[Role]] = field(default_factory=dict)
    # The stacks that failed, and why. The operation goes on, as far as its preferences say.
    failed: dict[tuple[str, str], str] = field(default_factory=dict)


class StackGroups:
    """The stack groups of the directory's manager, whose own stack is `account_id`'s.

    `trustable` are the ARNs of the roles that exist there: a trust policy can name no other.
    """

    def __init__(
        self,
        directory: ResourceDirectory,
        sts: Sts,
        *,
        account_id: str,
        trustable: frozenset[str],
        on_rule: OnRule = lambda _account_id, _region, _rule: None,
    ) -> None:
        self._directory = directory
        self._sts = sts
        self._account_id = account_id
        self._trustable = trustable
        self._on_rule = on_rule
        self._groups: dict[str, Instances] = {}
        self._is_busy = False
        directory.listeners.append(self._follow)

    def update(self, resources: Mapping[str, Any]) -> None:
        """Bring the groups to what a stack with these resources has.

        Raises StackRefusedError; what was done before that stays done.
        """
        groups = _of_type(resources, GROUP)
        instances = _of_type(resources, INSTANCES)
        for name in self._groups.keys() - groups.keys():
            self._delete(name)
        for name, group in groups.items():
            wanted = instances.get(name)
            deployed = self._groups.get(name)
            if deployed and (deployed.group, deployed.properties) != (group, wanted):
                raise StackRefusedError(f"UpdateNotSupported: {name}")
            if deployed is None:
                self._create(name, group, wanted)
        if stray := instances.keys() - groups.keys():
            raise StackRefusedError(f"StackGroupNotFound: {', '.join(stray)}")

    @property
    def roles(self) -> dict[str, Role]:
        """The roles that the groups have created, by account."""
        return {
            role.account_id: role
            for one in self._groups.values()
            for roles in one.roles.values()
            for role in roles
        }

    @property
    def failed(self) -> dict[tuple[str, str], str]:
        """The stacks that failed, by account and region, and why."""
        return {place: why for one in self._groups.values() for place, why in one.failed.items()}

    def _create(self, name: str, group: Properties, wanted: Properties | None) -> None:
        self._check(group, wanted)
        self._groups[name] = Instances(group, wanted or {})
        self._deploy(self._groups[name])

    def _delete(self, name: str) -> None:
        """The instances first: a group that has some cannot be deleted."""
        instances = self._groups[name]
        with self._operation():
            for place in [*instances.roles]:
                self._take_away(instances, place)
        del self._groups[name]

    def _check(self, group: Properties, wanted: Properties | None) -> None:
        if self._account_id not in {self._directory.manager, *self._directory.delegated}:
            raise StackRefusedError("NotResourceDirectoryAdmin")
        if group.get("PermissionModel") != "SERVICE_MANAGED" or "AutoDeployment" not in group:
            raise StackRefusedError(
                "InvalidParameter.PermissionModel: folders need SERVICE_MANAGED"
            )
        template = group["TemplateBody"]
        if unknown := find_unknown_keys("ros", {"template": template}):
            raise StackRefusedError(f"StackValidationFailed: {unknown[0]}")
        if wanted is None:
            return
        folders, regions = wanted["DeploymentTargets"]["RdFolderIds"], wanted["RegionIds"]
        if not 1 <= len(folders) <= MOST_FOLDERS or not 1 <= len(regions) <= MOST_REGIONS:
            raise StackRefusedError("InvalidParameter: 1 to 20 folders, and 1 to 20 regions")
        if wanted["OperationPreferences"].get("MaxConcurrentCount", 1) > MOST_ACCOUNTS_AT_ONCE:
            raise StackRefusedError("InvalidParameter.OperationPreferences")
        if stray := {*folders} - self._directory.folders:
            raise StackRefusedError(f"FolderNotFound: {', '.join(stray)}")

    @contextmanager
    def _operation(self) -> Iterator[None]:
        """A group has one operation at a time."""
        if self._is_busy:
            raise StackRefusedError("StackGroupOperationInProgress")
        self._is_busy = True
        try:
            yield
        finally:
            self._is_busy = False

    def _follow(self) -> None:
        """An account has joined, moved or left: AutoDeployment."""
        for instances in self._groups.values():
            if instances.group["AutoDeployment"]["Enabled"]:
                self._deploy(instances)

    def _deploy(self, instances: Instances) -> None:
        targets = instances.properties.get("DeploymentTargets", {})
        accounts = self._directory.accounts_in(targets.get("RdFolderIds", ()))
        places = [(each, to) for each in accounts for to in instances.properties["RegionIds"]]
        with self._operation():
            if not instances.group["AutoDeployment"]["RetainStacksOnAccountRemoval"]:
                for place in instances.roles.keys() - {*places}:
                    self._take_away(instances, place)
            for place in places:
                if place not in instances.roles:
                    self._put(instances, place)

    def _put(self, instances: Instances, place: tuple[str, str]) -> None:
        """Create the stack of an account in a region, or note why it fails."""
        account_id, region = place
        group = instances.group
        try:
            decided = ros_decided(group["TemplateBody"], group["Parameters"], region=region)
            created = decided["Resources"].values()
            roles = [
                self._role(account_id, each["Properties"])
                for each in created
                if each["Type"] == ROLE
            ]
        except (ValueError, StackRefusedError) as error:
            instances.failed[place] = str(error)
            return
        for role in roles:
            self._sts.plant(role)
        for each in created:
            if each["Type"] == RULE:
                self._on_rule(account_id, region, each["Properties"])
        instances.roles[place] = roles
        instances.failed.pop(place, None)

    def _role(self, account_id: str, properties: Properties) -> Role:
        role = Role.created(account_id, properties)
        if self._sts.has(role.arn):
            raise StackRefusedError(f"EntityAlreadyExists.Role: {role.name}")
        named = {each for one in role.trust.statements for each in one.principals}
        if missing := named - self._trustable:
            raise StackRefusedError(f"EntityNotExist.Role: {', '.join(sorted(missing))}")
        return role

    def _take_away(self, instances: Instances, place: tuple[str, str]) -> None:
        for role in instances.roles.pop(place):
            self._sts.remove(role)


def _of_type(resources: Mapping[str, Any], kind: str) -> dict[str, Properties]:
    """The properties by the name of the stack group."""
    found = (each["Properties"] for each in resources.values() if each["Type"] == kind)
    return {each["StackGroupName"]: each for each in found}
