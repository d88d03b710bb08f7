"""`make deploy` and `make plan` for an organization: its accounts and their shares."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
import yaml

from encryption_guard.errors import ConfigurationError
from layers.encryption_guard.tools import comparison, deploy, deployed, tasks
from layers.encryption_guard.tools.member_stacks import read_template
from tests.emulators.cloud import ACCOUNT
from tests.emulators.resource_directory import Member
from tests.emulators.serverless_devs import CREDENTIALS, MISSING
from tests.integration.tools.test_deploy import (
    CREATE,
    DEPLOYED,
    HERE,
    KEY,
    SWEEP,
    Deployer,
    checkout,
    deployer,
    nobodys_shell,
)

__all__ = ["checkout", "deployer", "nobodys_shell"]
pytestmark = [
    pytest.mark.skipif(MISSING is not None, reason=str(MISSING)),
    pytest.mark.usefixtures("checkout"),
]
FIRST, SECOND, THIRD = (str(each) * 16 for each in (2, 3, 4))
ORGANIZATION = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_ACCOUNTS_PER_SHARE": "2",
    "GUARD_EXTERNAL_ID": f"guard-of:{ACCOUNT}",
}


def reserved(deployer: Deployer, function: str = SWEEP) -> int:
    """The instances that are reserved for a function."""
    deployed = deployer.place("cn-hangzhou")["functions"][function]
    number: int = deployed["concurrencyConfig"]["reservedConcurrency"]
    return number


def test_the_accounts_are_named_and_each_share_has_an_instance(deployer: Deployer) -> None:
    """A plan names them before, and after one has joined says what that changes and costs."""
    deployer.members = [Member(FIRST), Member(SECOND), Member(THIRD, deletion="Deleting")]
    planned = deployer("plan", *HERE, **ORGANIZATION)
    deployed = deployer("deploy", *HERE, **ORGANIZATION)
    deployer.members = [Member(FIRST), Member(SECOND), Member(THIRD), Member("55555555")]
    again = deployer("plan", *HERE)
    asked = deployer("deploy", *HERE)

    assert [each.exit_code for each in (planned, deployed, again, asked)] == [0, 0, 0, 1]
    for each in (planned, deployed):
        named = f"Guards 3 accounts, in 2 shares of at most 2: {ACCOUNT}, {FIRST}, {SECOND}\n"
        assert named in each.output, each.output
    assert (reserved(deployer), reserved(deployer, CREATE)) == (4, 10)
    assert deployer.sweep_size() == (0.1, 128)
    assert "Guards 5 accounts, in 3 shares of at most 2" in again.output
    assert re.search(r"ENCRYPTION_GUARD_SHARES +2 -> 3", again.output)
    assert re.search(r"reservedConcurrency +4 -> 5", again.output)
    assert re.search(r"about \d+\.\d\d USD a month instead of \d+\.\d\d", asked.output)
    variables = deployer.settings("cn-hangzhou")
    assert variables.items() >= ORGANIZATION.items()


def test_fewer_instances_than_shares_stop_it(deployer: Deployer) -> None:
    """Before anything is started, with both numbers; enough of them are reserved as stated."""
    deployer.members = [Member(FIRST), Member(SECOND)]

    refused = deployer("deploy", *HERE, **ORGANIZATION, GUARD_SWEEP_CONCURRENCY="1")
    before = deployer.s.account()["regions"]
    done = deployer("deploy", *HERE, **ORGANIZATION, GUARD_SWEEP_CONCURRENCY="3")

    assert (refused.exit_code, before) == (2, {})
    assert "GUARD_SWEEP_CONCURRENCY is 1, but 3 accounts are 2 shares" in refused.output
    assert "Nothing was started" in refused.output
    assert (done.exit_code, reserved(deployer)) == (0, 3), done.output


def test_a_list_that_is_too_long_stops_it(deployer: Deployer) -> None:
    """A function's variables have no room for it; all of the organization have a short name."""
    listed = ",".join(f"{10**15 + each}" for each in range(240))

    result = deployer("deploy", *HERE, GUARD_ACCOUNTS=listed)

    assert result.exit_code == 2, result.output
    assert re.search(f"The variables of {SWEEP} have [0-9,]+ bytes, 4,096 are", result.output)
    assert "set it to `organization`" in result.output
    assert deployer.s.account()["regions"] == {}


def test_fewer_accounts_have_to_be_wanted(deployer: Deployer) -> None:
    """Their buckets would stay open, so it asks; a file states the accounts too."""
    deployer.members = [Member(FIRST), Member(SECOND)]
    Path("guard.toml").write_text('accounts = "organization"\naccounts_per_share = 20\n')
    first = deployer("deploy", *HERE)
    Path("guard.toml").write_text(f'accounts = ["{FIRST}"]\n')
    asked = deployer("deploy", *HERE)
    done = deployer("deploy", *HERE, "--yes")

    assert [each.exit_code for each in (first, asked, done)] == [0, 1, 0], done.output
    assert f"buckets of accounts of the organization other than {FIRST}" in asked.output
    assert f"Guards 2 accounts, in 1 share of at most 20: {ACCOUNT}, {FIRST}" in done.output
    assert (deployer.settings("cn-hangzhou")["GUARD_ACCOUNTS"], reserved(deployer)) == (FIRST, 2)


# The accounts of folders.

FOLDERS = {**ORGANIZATION, "GUARD_ORGANIZATION_FOLDERS": "fd-one,fd-two"}
STACK = "oss-tables-encryption-guard"
GROUP, INSTANCES, RULE = (
    f"ALIYUN::{each}" for each in ("ROS::StackGroup", "ROS::StackInstances", "EventBridge::Rule")
)


def resources(deployer: Deployer, region: str = "cn-hangzhou") -> dict[str, Any]:
    """The properties of each resource in the stack of a region, by its type."""
    created = deployer.place(region)["stacks"][STACK]["resources"].values()
    return {each["type"]: each["properties"] for each in created}


def trusted(deployer: Deployer, region: str = "cn-hangzhou") -> list[str]:
    """The roles that the role in other accounts trusts, without what all names begin with."""
    names = resources(deployer, region)[GROUP]["Parameters"]["Guards"].split(",")
    return [name.removeprefix(f"acs:ram::{ACCOUNT}:role/{STACK}-") for name in names]


def stack_steps(deployer: Deployer) -> list[str]:
    """What became of the stacks and of what they have for other accounts."""
    words = ("stack", "create", "remove ALIYUN", "function")
    steps = [step.partition(": ") for step in deployer.s.account()["steps"]]
    return [step for _, _, step in steps if step.startswith(words)]


def test_the_accounts_of_folders_are_prepared_last(deployer: Deployer) -> None:
    """Their role trusts roles that exist by then, and a plan finds nothing to change."""
    deployer.members = [Member(FIRST), Member(SECOND)]
    result = deployer("deploy", *HERE, **FOLDERS)
    planned = deployer("plan", *HERE)

    assert result.exit_code == 0, result.output
    assert stack_steps(deployer) == [
        *(f"stack {STACK}", f"function {SWEEP}", "function oss-tables-encrypt-on-create"),
        *(f"stack {STACK}", f"create {INSTANCES}", f"create {GROUP}"),
    ]
    created = resources(deployer)
    assert created[GROUP]["TemplateBody"] == read_template()
    assert created[GROUP]["AutoDeployment"] == {
        "Enabled": True,
        "RetainStacksOnAccountRemoval": False,
    }
    assert created[INSTANCES]["DeploymentTargets"] == {"RdFolderIds": ["fd-one", "fd-two"]}
    assert created[INSTANCES]["RegionIds"] == ["cn-hangzhou"]
    assert trusted(deployer) == ["cn-hangzhou", "sweep-cn-hangzhou"]
    assert "Compared with what is deployed: nothing changes" in planned.output, planned.output


def test_a_rule_that_is_refused_takes_nothing_from_other_accounts(deployer: Deployer) -> None:
    """Their role does not depend on it."""
    deployer.members = [Member(FIRST)]
    listed = {"GUARD_ACCOUNTS": FIRST, "GUARD_ORGANIZATION_BUS": "guard"}
    old = "const { template, parameters } = props;"
    refuse = "if (ofType(resources, RULE).length) refuse('Throttling');"
    deployer.rewrite("ros/component.js", old, refuse + old)

    result = deployer("deploy", *HERE, **listed, EMULATED_BUSES="guard")

    assert result.exit_code == 1
    assert "Throttling" in result.output
    assert "guarded until" not in result.output


def test_what_changes_in_other_accounts_is_created_anew(deployer: Deployer) -> None:
    """Nothing of a stack group can be updated, so it asks, removes it, and creates it again."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **FOLDERS)
    before = len(stack_steps(deployer))
    planned = deployer("plan", *HERE, GUARD_AUDIT_TABLES="false")
    asked = deployer("deploy", *HERE, GUARD_AUDIT_TABLES="false")
    done = deployer("deploy", *HERE, "--yes", GUARD_AUDIT_TABLES="false")
    steps = stack_steps(deployer)[before:]
    again = deployer("deploy", *HERE)
    Path("guard.toml").write_text("organization_folders = []\n")
    gone = deployer("deploy", *HERE, "--yes")

    assert [each.exit_code for each in (asked, done, again, gone)] == [1, 0, 0, 0], gone.output
    for each in (planned, asked):
        assert "role in the accounts of fd-one,fd-two is removed, and created again" in each.output
        assert "None of these accounts is guarded for some minutes" in each.output
    assert [step for step in steps if "ROS" in step] == [
        *(f"remove {INSTANCES}", f"remove {GROUP}", f"create {INSTANCES}", f"create {GROUP}"),
    ]
    after = [step for step in stack_steps(deployer)[before + len(steps) :] if "ROS" in step]
    assert after == [f"remove {INSTANCES}", f"remove {GROUP}"]


def test_several_regions_need_a_home(deployer: Deployer) -> None:
    """One of them creates the role, after the others, and trusts the roles of all."""
    deployer.members = [Member(FIRST)]
    both = (*HERE, "--region", "cn-shanghai")
    refused = deployer("deploy", *both, **FOLDERS)
    unknown = deployer("deploy", *HERE, **FOLDERS, GUARD_ORGANIZATION_HOME="cn-beijing")
    before = deployer.s.account()["regions"]
    done = deployer("deploy", *both, **FOLDERS, GUARD_ORGANIZATION_HOME="cn-hangzhou")

    assert [each.exit_code for each in (refused, unknown, done)] == [2, 2, 0], done.output
    assert before == {}
    named = "GUARD_ORGANIZATION_HOME is not set, but the guard is in cn-hangzhou, cn-shanghai"
    assert named in refused.output
    assert "GUARD_ORGANIZATION_HOME is cn-beijing, but the guard is in cn-hang" in unknown.output
    assert GROUP not in resources(deployer, "cn-shanghai")
    assert sorted(trusted(deployer)) == [
        *("cn-hangzhou", "cn-shanghai", "sweep-cn-hangzhou", "sweep-cn-shanghai"),
    ]
    steps = deployer.s.account()["steps"]
    assert steps.index(f"cn-shanghai: function {SWEEP}") < steps.index(f"cn-hangzhou: {STEP}")


STEP = f"create {GROUP}"


def test_another_region_has_to_be_trusted(deployer: Deployer) -> None:
    """Its deployment says that the home has to follow, which then trusts it as well."""
    deployer.members = [Member(FIRST)]
    home = {"GUARD_ORGANIZATION_HOME": "cn-hangzhou"}
    deployer("deploy", *HERE, **FOLDERS, **home)
    other = deployer("deploy", "--region", "cn-shanghai", **FOLDERS, **home)
    before = trusted(deployer)
    follows = deployer("deploy", *HERE, "--yes")

    assert [each.exit_code for each in (other, follows)] == [0, 0], follows.output
    assert "Other accounts do not trust the roles of cn-shanghai yet" in other.output
    assert "Deploy cn-hangzhou too" in other.output
    assert before == ["cn-hangzhou", "sweep-cn-hangzhou"]
    assert len(trusted(deployer)) == 4


ANYWHERE = "eu-west-1"
BOTH = {"GUARD_ORGANIZATION_HOME": "cn-hangzhou"}


def test_a_region_outside_of_the_documentation_stays_trusted(deployer: Deployer) -> None:
    """Once it was deployed with --any-region: the deployed group names it, or the file."""
    deployer.members = [Member(FIRST)]
    both = (*HERE, "--region", ANYWHERE, "--any-region")
    deployer("deploy", *both, **FOLDERS, **BOTH)
    by_group = deployer("deploy", *HERE, "--yes", GUARD_EXTERNAL_ID="another")
    trusted_by_group = trusted(deployer)
    planned = deployer("plan", *HERE)

    assert [each.exit_code for each in (by_group, planned)] == [0, 0], by_group.output
    assert sorted(trusted_by_group) == [
        *("cn-hangzhou", ANYWHERE, "sweep-cn-hangzhou", f"sweep-{ANYWHERE}"),
    ]
    assert "nothing changes" in planned.output


def test_a_region_that_only_the_file_names_is_trusted(deployer: Deployer) -> None:
    """If it has the guard; a table of a region that has none does not create one."""
    deployer.members = [Member(FIRST)]
    Path("guard.toml").write_text(f"[regions.{ANYWHERE}]\n[regions.cn-beijing]\n")
    elsewhere = ("--region", ANYWHERE, "--any-region")
    deployer("deploy", *elsewhere, GUARD_ACCOUNTS="organization")

    result = deployer("deploy", *HERE, "--any-region", **FOLDERS, **BOTH)

    assert result.exit_code == 0, result.output
    assert len(trusted(deployer)) == 4
    assert f"sweep-{ANYWHERE}" in trusted(deployer)


def test_a_region_that_is_dropped_from_the_trust_has_to_be_wanted(deployer: Deployer) -> None:
    """As after its removal."""
    deployer.members = [Member(FIRST)]
    both = (*HERE, "--region", "cn-shanghai")
    deployer("deploy", *both, **FOLDERS, **BOTH)
    deployer("remove", "--region", "cn-shanghai", "--yes")

    asked = deployer("deploy", *HERE)

    assert asked.exit_code == 1, asked.output
    assert "and that no longer trusts the guard in cn-shanghai. None of" in asked.output


def test_a_region_that_fails_is_not_trusted(deployer: Deployer) -> None:
    """Its roles may not exist, and a role cannot trust one that does not."""
    deployer.members = [Member(FIRST)]
    home = {"GUARD_ORGANIZATION_HOME": "cn-hangzhou"}
    deployer.rewrite(
        "fc3/component.js",
        "const { functionName: name, runtime, role } = props;",
        "const { functionName: name, runtime, role } = props;"
        " if (place.name === 'cn-shanghai') refuse('InternalError');",
    )
    result = deployer("deploy", *HERE, "--region", "cn-shanghai", **FOLDERS, **home)

    assert result.exit_code == 1
    assert "Failed in: cn-shanghai" in result.output
    assert trusted(deployer) == ["cn-hangzhou", "sweep-cn-hangzhou"], result.output


def test_events_are_forwarded_to_a_bus(deployer: Deployer) -> None:
    """The rule on the bus calls a function that exists; the role names who may send."""
    deployer.members = [Member(FIRST), Member(SECOND)]
    bus = {**FOLDERS, "GUARD_ORGANIZATION_BUS": "guard"}
    result = deployer("deploy", *HERE, **bus, EMULATED_BUSES="guard")

    assert result.exit_code == 0, result.output
    stack = deployer.place("cn-hangzhou")["stacks"][STACK]["resources"]
    (trust,) = stack["ForwardRole"]["properties"]["AssumeRolePolicyDocument"]["Statement"]
    senders = [f"{each}@eventbridge.aliyuncs.com" for each in (FIRST, SECOND)]
    assert trust["Principal"] == {"Service": senders}
    assert stack["MemberEvents"]["properties"]["EventBusName"] == "guard"
    parameters = resources(deployer)[GROUP]["Parameters"]
    forward_role = stack["ForwardRole"]["properties"]["RoleName"]
    assert (parameters["Bus"], parameters["GuardAccount"]) == ("guard", ACCOUNT)
    assert parameters["ForwardRole"] == forward_role


def test_a_refusal_of_the_service_is_shown(deployer: Deployer) -> None:
    """Such as for want of trusted access: the functions are deployed by then."""
    deployer.members = [Member(FIRST)]
    result = deployer("deploy", *HERE, **FOLDERS, EMULATED_REFUSALS="CreateStackGroup")

    assert result.exit_code == 1
    assert "EnableServiceAccess has to be called first" in result.output
    assert "An organization in docs/deploy.md" in result.output
    assert "has not given the role to the accounts of fd-one,fd-two, and none" in result.output
    assert SWEEP in deployer.place("cn-hangzhou")["functions"]


# What is refused must not cost other accounts their role.

WITH_BUS = {**FOLDERS, "GUARD_ORGANIZATION_BUS": "guard"}


@pytest.mark.parametrize("command", ["plan", "deploy"])
def test_a_bus_that_does_not_exist_stops_it(deployer: Deployer, command: str) -> None:
    """In any region, before anything is changed; the role in other accounts stays."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **WITH_BUS, EMULATED_BUSES="guard")
    before = stack_steps(deployer)
    mistyped = {"GUARD_ORGANIZATION_BUS": "gaurd", "EMULATED_BUSES": "guard"}
    yes = ("--yes",) if command == "deploy" else ()

    result = deployer(command, *HERE, *yes, **mistyped)

    assert result.exit_code == 2, result.output
    assert "GUARD_ORGANIZATION_BUS is gaurd, and there is no such event bus" in result.output
    assert "aliyun eventbridge CreateEventBus --EventBusName gaurd" in result.output
    assert "Nothing was started" in result.output
    assert (stack_steps(deployer), GROUP in resources(deployer)) == (before, True)


@pytest.mark.parametrize(("changed", "exit_code"), [({}, 0), ({"GUARD_EXTERNAL_ID": "new"}, 2)])
def test_a_bus_that_cannot_be_read_stops_what_would_remove_the_role(
    deployer: Deployer, changed: dict[str, str], exit_code: int
) -> None:
    """Otherwise it is said, and the service will refuse a bus that is not there."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **WITH_BUS, EMULATED_BUSES="guard")
    unreadable = Mock(side_effect=ConfigurationError("403 NoPermission"))
    with patch.object(Deployer, "find_missing_buses", unreadable):
        result = deployer("deploy", *HERE, "--yes", **changed, EMULATED_BUSES="guard")

    assert result.exit_code == exit_code, result.output
    assert "Whether there is an event bus guard is not known: 403 NoPermission" in result.output
    assert "eventbridge:GetEventBus" in result.output
    assert GROUP in resources(deployer)


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("ros", "const { template, parameters } = props;", "if (BUS) refuse('NoBus');"),
        ("fc3", "const { functionName: name, runtime, role } = props;", "refuse('Internal');"),
    ],
    ids=["the rule", "a function"],
)
def test_what_else_is_refused_leaves_the_role(
    deployer: Deployer, file: str, old: str, new: str
) -> None:
    """The group is removed after all that does not depend on it."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **WITH_BUS, EMULATED_BUSES="guard")
    is_other = "ofType(resources, RULE).some((one) => one.EventBusName === 'other')"
    deployer.rewrite(f"{file}/component.js", old, old + new.replace("BUS", is_other))
    changed = {"GUARD_ORGANIZATION_BUS": "other", "EMULATED_BUSES": "guard,other"}

    result = deployer("deploy", *HERE, "--yes", **changed)

    assert result.exit_code == 1, result.output
    assert resources(deployer)[GROUP]["Parameters"]["Bus"] == "guard"
    assert resources(deployer)[RULE]["EventBusName"] == "guard"
    assert "The role" not in result.output


def test_a_bus_that_changes_is_never_without_a_rule(deployer: Deployer) -> None:
    """The rule is updated while the group stays; the group is removed and created at the end."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **WITH_BUS, EMULATED_BUSES="guard")
    before = len(stack_steps(deployer))

    result = deployer(
        "deploy", *HERE, "--yes", GUARD_ORGANIZATION_BUS="other", EMULATED_BUSES="other"
    )

    assert result.exit_code == 0, result.output
    stack = f"stack {STACK}"
    assert stack_steps(deployer)[before:] == [
        *(stack, f"function {SWEEP}", "function oss-tables-encrypt-on-create", stack),
        *(stack, f"remove {INSTANCES}", f"remove {GROUP}"),
        *(stack, f"create {INSTANCES}", f"create {GROUP}"),
    ]
    assert resources(deployer)[RULE]["EventBusName"] == "other"


def test_accounts_that_lost_the_role_are_named(deployer: Deployer) -> None:
    """With what the service said; the next deployment creates it."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **FOLDERS)
    change = {"GUARD_EXTERNAL_ID": "another"}
    refused = deployer("deploy", *HERE, "--yes", **change, EMULATED_REFUSALS="CreateStackGroup")
    gone = GROUP not in resources(deployer)
    again = deployer("deploy", *HERE, "--yes", **change)

    assert (refused.exit_code, gone, again.exit_code) == (1, True, 0), again.output
    assert "The role is gone from the accounts of fd-one,fd-two, and none of" in refused.output
    assert "guarded until `make deploy REGION=cn-hangzhou` succeeds" in refused.output
    assert "EnableServiceAccess has to be called first" in refused.output
    assert GROUP in resources(deployer)


def test_a_removal_that_fails_may_have_removed_it(deployer: Deployer) -> None:
    """Nobody knows how far the service came."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **FOLDERS)
    old = "const { template, parameters } = props;"
    deployer.rewrite(
        "ros/component.js", old, f"if (!ofType(resources, GROUP).length) refuse('Busy');{old}"
    )
    result = deployer("deploy", *HERE, "--yes", GUARD_EXTERNAL_ID="another")

    assert result.exit_code == 1
    assert "The role may be gone from the accounts of fd-one,fd-two" in result.output


@pytest.mark.parametrize("removes", [True, False])
def test_an_interruption_names_them_too(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch, *, removes: bool
) -> None:
    """As long as the role is not created again."""
    deployer.members = [Member(FIRST)]
    if removes:
        deployer("deploy", *HERE, **FOLDERS)
    waits = iter(range(9))

    def stop(_: object) -> None:
        if next(waits) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "wait_for_stack", stop)
    result = deployer("deploy", *HERE, "--yes", **{**FOLDERS, "GUARD_EXTERNAL_ID": "another"})

    assert result.exit_code == 130, result.output
    assert ("The role may be gone from the accounts of" in result.output) is removes
    assert ("The stack has not given the role to" in result.output) is not removes


@pytest.mark.parametrize("exists", [True, False])
def test_a_group_that_an_update_did_not_create_is_created(
    deployer: Deployer, *, exists: bool
) -> None:
    """After an update that failed, the parameters of the stack name what it was to have."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **FOLDERS)
    read, states = deployed.read_stack, iter(["UPDATE_FAILED"])

    def first_after_a_failure(*where: Any, **rest: Any) -> comparison.Stack | None:
        stack = read(*where, **rest)
        assert stack
        return replace(stack, state=next(states, stack.state))

    with (
        patch.object(deployed, "read_stack", first_after_a_failure),
        patch.object(deploy, "has_stack_group", lambda *_: exists),
    ):
        result = deployer("deploy", *HERE)

    assert result.exit_code == 0, result.output
    assert ("Deploy the part for other accounts" in result.output) is not exists


def test_a_key_of_serverless_devs_alone_prepares_nobody(deployer: Deployer) -> None:
    """Nobody could read which regions there are, whose roles have to be trusted."""
    key = [word for name, value in CREDENTIALS.items() for word in (f"--{name}", value)]
    assert deployer.s.run("config", "add", "--access", "default", *key).returncode == 0
    stated = {**FOLDERS, "GUARD_ACCOUNTS": FIRST}

    result = deployer("deploy", *HERE, **stated, **dict.fromkeys(KEY))

    assert result.exit_code == 2
    assert "Only Serverless Devs has this key" in result.output
    assert deployer.s.account()["regions"] == {}


# What a removal leaves.


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "The stack group removes the role oss-tables-encryption-guard-member from fd-one"),
        (("--keep-logs",), "The stacks stay, and the role oss-tables-encryption-guard-member in"),
    ],
)
def test_a_removal_says_what_becomes_of_other_accounts(
    deployer: Deployer, options: tuple[str, ...], line: str
) -> None:
    """The stack removes its instances with the group; where it stays, both do."""
    deployer.members = [Member(FIRST)]
    deployer("deploy", *HERE, **FOLDERS)

    result = deployer("remove", *HERE, "--yes", *options)

    assert result.exit_code == 0, result.output
    assert line in result.output
    assert (STACK in deployer.place("cn-hangzhou")["stacks"]) is bool(options)


@pytest.mark.parametrize("unread", ["read_deployed", "read_stack", "find_regions"])
def test_a_removal_that_cannot_look_says_so(deployer: Deployer, unread: str) -> None:
    """It is not prevented by that."""
    settings = {"GUARD_ACCOUNTS": FIRST, "GUARD_ORGANIZATION_FOLDERS": "fd-one"}
    functions = {name: {"environmentVariables": settings} for name in (CREATE, SWEEP)}
    deployer.holds("cn-hangzhou", **{**DEPLOYED, "functions": functions})
    unreadable = Mock(side_effect=ConfigurationError("403 AccessDenied; check fc:GetFunction."))
    with patch.object(Deployer, unread, unreadable):
        result = deployer("remove", *HERE, "--yes")

    assert result.exit_code == 0, result.output
    assert "! Not readable: 403 AccessDenied" in result.output


# The template for any other way.


def test_the_template_of_another_account_is_printed(deployer: Deployer) -> None:
    """Alone on standard output, with the parameters of this deployment as its defaults."""
    stated = {**ORGANIZATION, "GUARD_ACCOUNTS": FIRST}

    result = deployer("member-template", *HERE, **stated)

    assert result.exit_code == 0, result.output
    printed = yaml.safe_load(result.stdout)
    defaults = {name: each["Default"] for name, each in printed["Parameters"].items()}
    assert printed["Resources"] == read_template()["Resources"]
    assert defaults["ExternalId"] == ORGANIZATION["GUARD_EXTERNAL_ID"]
    assert defaults["Guards"].split(",") == [
        f"acs:ram::{ACCOUNT}:role/{STACK}-{each}" for each in ("cn-hangzhou", "sweep-cn-hangzhou")
    ]
    assert defaults["Home"] == "cn-hangzhou"
    assert "Guards 2 accounts" in result.stderr
    assert "The stack in cn-hangzhou creates the role" in result.stderr
    assert deployer.s.account()["regions"] == {}


def test_the_home_creates_the_role_whichever_region_prints_the_template(
    deployer: Deployer,
) -> None:
    """A role exists once in an account; the settings are those of the named region."""
    deployer.members = [Member(FIRST)]
    stated = {**ORGANIZATION, "GUARD_ORGANIZATION_HOME": "cn-hangzhou"}
    deployer("deploy", *HERE, **stated)

    result = deployer("member-template", "--region", "cn-shanghai", **stated)

    assert result.exit_code == 0, result.output
    assert yaml.safe_load(result.stdout)["Parameters"]["Home"]["Default"] == "cn-hangzhou"
    assert "The stack in cn-hangzhou creates the role" in result.stderr
