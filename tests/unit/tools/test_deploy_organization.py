"""What `make deploy` and `make plan` decide for an organization: its accounts and their shares."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from layers.encryption_guard.tools import tasks
from layers.encryption_guard.tools.comparison import Stack
from layers.encryption_guard.tools.member_stacks import read_template
from tests.emulators.cloud import ACCOUNT
from tests.unit.tools.emulated_account import (
    CREATE,
    GROUP,
    INSTANCES,
    KEY,
    RULE,
    SWEEP,
    Deployer,
    Place,
)

HERE = ("--region", "cn-hangzhou")
FIRST, SECOND, THIRD, FOURTH = (str(each) * 16 for each in (2, 3, 4, 5))
ORGANIZATION = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_ACCOUNTS_PER_SHARE": "2",
    "GUARD_EXTERNAL_ID": f"guard-of:{ACCOUNT}",
}


def reserved(deployer: Deployer, function: str = SWEEP) -> int:
    """The instances that are reserved for a function."""
    deployed = deployer.account.place().functions[function]
    number: int = deployed["concurrencyConfig"]["reservedConcurrency"]
    return number


def is_untouched(deployer: Deployer) -> bool:
    """Whether nothing was ever deployed."""
    return all(place == Place() for place in deployer.account.places.values())


def test_the_accounts_are_named_and_each_share_has_an_instance(deployer: Deployer) -> None:
    """A plan names them before, and after one has joined says what that changes and costs."""
    deployer.account.members = [FIRST, SECOND]
    planned = deployer("plan", *HERE, **ORGANIZATION)
    deployed = deployer("deploy", *HERE, **ORGANIZATION)
    deployer.account.members = [FIRST, SECOND, THIRD, FOURTH]
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
    assert deployer.settings().items() >= ORGANIZATION.items()


def test_a_plan_says_that_its_instances_are_more_than_an_account_has(deployer: Deployer) -> None:
    """The quota may have been raised, so nothing stops."""
    deployer.account.members = [FIRST, SECOND]

    planned = deployer("plan", *HERE, **ORGANIZATION, GUARD_SWEEP_CONCURRENCY="91")

    assert planned.exit_code == 0
    assert "101 instances are reserved, 91 for sweeps and 10 for events" in planned.output


# The accounts of folders.

FOLDERS = {**ORGANIZATION, "GUARD_ORGANIZATION_FOLDERS": "fd-one,fd-two"}
WITH_BUS = {**FOLDERS, "GUARD_ORGANIZATION_BUS": "guard"}
HOME = {"GUARD_ORGANIZATION_HOME": "cn-hangzhou"}
STACK = "oss-tables-encryption-guard"
ANYWHERE = "eu-west-1"


@pytest.fixture
def manager(deployer: Deployer) -> Deployer:
    """A deployer whose account manages an organization with another one."""
    deployer.account.members = [FIRST]
    deployer.account.buses = ["guard", "other"]
    return deployer


def resources(deployer: Deployer, region: str = "cn-hangzhou") -> dict[str, Any]:
    """The properties of each resource in the stack of a region, by its type."""
    made = deployer.account.place(region).made.values()
    return {each["Type"]: each["Properties"] for each in made}


def trusted(deployer: Deployer) -> list[str]:
    """The roles that the role in other accounts trusts, without what all names begin with."""
    names = resources(deployer)[GROUP]["Parameters"]["Guards"].split(",")
    return sorted(name.removeprefix(f"acs:ram::{ACCOUNT}:role/{STACK}-") for name in names)


def test_a_rule_that_is_refused_takes_nothing_from_other_accounts(manager: Deployer) -> None:
    """Their role does not depend on it."""
    listed = {"GUARD_ACCOUNTS": FIRST, "GUARD_ORGANIZATION_BUS": "guard"}
    manager.account.refuse = lambda *asked: "Throttling" if has(asked[2], RULE) else None

    result = manager("deploy", *HERE, **listed)

    assert result.exit_code == 1
    assert "Throttling" in result.output
    assert "guarded until" not in result.output


def has(place: Place, kind: str) -> bool:
    """Whether the stack has a resource of this type."""
    return any(each["Type"] == kind for each in place.made.values())


def steps_of(deployer: Deployer) -> list[str]:
    """What became of stacks and functions, since it was asked the last time."""
    steps = [step.partition(": ")[2] for step in deployer.account.steps]
    deployer.account.steps.clear()
    return steps


def test_a_bus_that_changes_is_never_without_a_rule(manager: Deployer) -> None:
    """Other accounts are prepared last. The rule is updated while the group stays, of which nothing
    can be updated; so the group is removed and created at the end, and a plan finds no change."""
    first = manager("deploy", *HERE, **WITH_BUS)
    created = steps_of(manager)
    planned = manager("plan", *HERE, GUARD_ORGANIZATION_BUS="other")
    asked = manager("deploy", *HERE, GUARD_ORGANIZATION_BUS="other")
    done = manager("deploy", *HERE, "--yes", GUARD_ORGANIZATION_BUS="other")
    changed = steps_of(manager)
    again = manager("plan", *HERE)

    codes = [each.exit_code for each in (first, planned, asked, done, again)]
    assert codes == [0, 0, 1, 0, 0], done.output
    functions = (f"function {SWEEP}", f"function {CREATE}")
    assert created == [
        *("stack", *functions),
        *("stack", f"create {INSTANCES}", f"create {GROUP}", f"create {RULE}"),
    ]
    assert "role in the accounts of fd-one,fd-two is removed, and created again" in planned.output
    assert "None of these accounts is guarded for some minutes" in planned.output
    assert changed == [
        *("stack", *functions, "stack"),
        *("stack", f"remove {INSTANCES}", f"remove {GROUP}"),
        *("stack", f"create {INSTANCES}", f"create {GROUP}"),
    ]
    assert "Compared with what is deployed: nothing changes" in again.output, again.output


def test_several_regions_need_a_home(manager: Deployer) -> None:
    """One of them creates the role, after the others, and trusts the roles of all."""
    both = (*HERE, "--region", "cn-shanghai")
    refused = manager("deploy", *both, **FOLDERS)
    unknown = manager("deploy", *HERE, **FOLDERS, GUARD_ORGANIZATION_HOME="cn-beijing")
    untouched = is_untouched(manager)
    done = manager("deploy", *both, **FOLDERS, **HOME)

    assert [each.exit_code for each in (refused, unknown, done)] == [2, 2, 0], done.output
    assert untouched
    named = "GUARD_ORGANIZATION_HOME is not set, but the guard is in cn-hangzhou, cn-shanghai"
    assert named in refused.output
    assert "GUARD_ORGANIZATION_HOME is cn-beijing, but the guard is in cn-hang" in unknown.output
    assert GROUP not in resources(manager, "cn-shanghai")
    assert trusted(manager) == [
        *("cn-hangzhou", "cn-shanghai", "sweep-cn-hangzhou", "sweep-cn-shanghai"),
    ]
    steps = manager.account.steps
    assert steps.index(f"cn-shanghai: function {SWEEP}") < steps.index(
        f"cn-hangzhou: create {GROUP}"
    )


def test_another_region_has_to_be_trusted(manager: Deployer) -> None:
    """Its deployment says that the home has to follow, which then trusts it as well."""
    manager("deploy", *HERE, **FOLDERS, **HOME)
    other = manager("deploy", "--region", "cn-shanghai", **FOLDERS, **HOME)
    before = trusted(manager)
    follows = manager("deploy", *HERE, "--yes")

    assert [each.exit_code for each in (other, follows)] == [0, 0], follows.output
    assert "Other accounts do not trust the roles of cn-shanghai yet" in other.output
    assert "Deploy cn-hangzhou too" in other.output
    assert before == ["cn-hangzhou", "sweep-cn-hangzhou"]
    assert len(trusted(manager)) == 4


def test_a_region_outside_of_the_documentation_stays_trusted(manager: Deployer) -> None:
    """Once it was deployed with --any-region, the deployed group names it."""
    both = (*HERE, "--region", ANYWHERE, "--any-region")
    manager("deploy", *both, **FOLDERS, **HOME)
    changed = manager("deploy", *HERE, "--yes", GUARD_EXTERNAL_ID="another")
    planned = manager("plan", *HERE)

    assert [each.exit_code for each in (changed, planned)] == [0, 0], changed.output
    assert trusted(manager) == [
        *("cn-hangzhou", ANYWHERE, "sweep-cn-hangzhou", f"sweep-{ANYWHERE}"),
    ]
    assert "nothing changes" in planned.output


def test_a_region_that_only_the_file_names_is_trusted(manager: Deployer) -> None:
    """If it has the guard; a table of a region that has none does not create one."""
    Path("guard.toml").write_text(f"[regions.{ANYWHERE}]\n[regions.cn-beijing]\n")
    elsewhere = ("--region", ANYWHERE, "--any-region")
    manager("deploy", *elsewhere, GUARD_ACCOUNTS="organization")

    result = manager("deploy", *HERE, "--any-region", **FOLDERS, **HOME)

    assert result.exit_code == 0, result.output
    assert len(trusted(manager)) == 4
    assert f"sweep-{ANYWHERE}" in trusted(manager)


def test_a_region_that_is_dropped_from_the_trust_has_to_be_wanted(manager: Deployer) -> None:
    """As after its removal."""
    manager("deploy", *HERE, "--region", "cn-shanghai", **FOLDERS, **HOME)
    manager("remove", "--region", "cn-shanghai", "--yes")

    asked = manager("deploy", *HERE)

    assert asked.exit_code == 1, asked.output
    assert "and that no longer trusts the guard in cn-shanghai. None of" in asked.output


def test_a_region_that_fails_is_not_trusted(manager: Deployer) -> None:
    """Its roles may not exist, and a role cannot trust one that does not."""
    manager.account.refuse = lambda region, *_: "Internal" if region == "cn-shanghai" else None

    result = manager("deploy", *HERE, "--region", "cn-shanghai", **FOLDERS, **HOME)

    assert result.exit_code == 1
    assert "Failed in: cn-shanghai" in result.output
    assert trusted(manager) == ["cn-hangzhou", "sweep-cn-hangzhou"], result.output


# What is refused must not cost other accounts their role.

NO_ACCESS = "StackGroup: EnableServiceAccess has to be called first"


def refuse_the_group(_: str, __: str, place: Place) -> str | None:
    """What the service says without trusted access."""
    return NO_ACCESS if has(place, GROUP) else None


def test_a_refusal_of_the_service_is_shown(manager: Deployer) -> None:
    """Such as for want of trusted access: the functions are deployed by then."""
    manager.account.refuse = refuse_the_group

    result = manager("deploy", *HERE, **FOLDERS)

    assert result.exit_code == 1
    assert NO_ACCESS in result.output
    assert "An organization in docs/deploy.md" in result.output
    assert "has not given the role to the accounts of fd-one,fd-two, and none" in result.output
    assert SWEEP in manager.account.place().functions


@pytest.mark.parametrize("command", [("plan",), ("deploy", "--yes")], ids=" ".join)
def test_a_bus_that_does_not_exist_stops_it(manager: Deployer, command: tuple[str, ...]) -> None:
    """In any region, before anything is changed; the role in other accounts stays."""
    manager("deploy", *HERE, **WITH_BUS)
    manager.account.steps.clear()

    result = manager(*command, *HERE, GUARD_ORGANIZATION_BUS="gaurd")

    assert result.exit_code == 2, result.output
    assert "GUARD_ORGANIZATION_BUS is gaurd, and there is no such event bus" in result.output
    assert "aliyun eventbridge CreateEventBus --EventBusName gaurd" in result.output
    assert "Nothing was started" in result.output
    assert (manager.account.steps, GROUP in resources(manager)) == ([], True)


@pytest.mark.parametrize(("changed", "exit_code"), [({}, 0), ({"GUARD_EXTERNAL_ID": "new"}, 2)])
def test_a_bus_that_cannot_be_read_stops_what_would_remove_the_role(
    manager: Deployer, changed: dict[str, str], exit_code: int
) -> None:
    """Otherwise it is said, and the service will refuse a bus that is not there."""
    manager("deploy", *HERE, **WITH_BUS)
    manager.unreadable = ["find_missing_buses"]

    result = manager("deploy", *HERE, "--yes", **changed)

    assert result.exit_code == exit_code, result.output
    assert "Whether there is an event bus guard is not known: 403 AccessDenied" in result.output
    assert "eventbridge:GetEventBus" in result.output
    assert GROUP in resources(manager)


@pytest.mark.parametrize(
    "refuse",
    [
        lambda _, __, place: "NoBus" if bus_of(place) == "other" else None,
        lambda _, command, __: "Internal" if command.startswith("deploy") else None,
    ],
    ids=["the rule", "a function"],
)
def test_what_else_is_refused_leaves_the_role(
    manager: Deployer, refuse: Callable[[str, str, Place], str | None]
) -> None:
    """The group is removed after all that does not depend on it."""
    manager("deploy", *HERE, **WITH_BUS)
    manager.account.refuse = refuse

    result = manager("deploy", *HERE, "--yes", GUARD_ORGANIZATION_BUS="other")

    assert result.exit_code == 1, result.output
    assert resources(manager)[GROUP]["Parameters"]["Bus"] == "guard"
    assert bus_of(manager.account.place()) == "guard"
    assert "The role" not in result.output


def bus_of(place: Place) -> str | None:
    """The event bus of the rule in the stack."""
    rules = [each["Properties"] for each in place.made.values() if each["Type"] == RULE]
    return rules[0]["EventBusName"] if rules else None


def test_accounts_that_lost_the_role_are_named(manager: Deployer) -> None:
    """With what the service said; the next deployment creates it."""
    manager("deploy", *HERE, **FOLDERS)
    change = {"GUARD_EXTERNAL_ID": "another"}
    manager.account.refuse = lambda region, command, place: (
        refuse_the_group(region, command, place) if command.startswith("infra") else None
    )
    refused = manager("deploy", *HERE, "--yes", **change)
    gone = GROUP not in resources(manager)
    manager.account.refuse = lambda *_: None
    again = manager("deploy", *HERE, "--yes", **change)

    assert (refused.exit_code, gone, again.exit_code) == (1, True, 0), again.output
    assert "The role is gone from the accounts of fd-one,fd-two, and none of" in refused.output
    assert "guarded until `make deploy REGION=cn-hangzhou` succeeds" in refused.output
    assert NO_ACCESS in refused.output
    assert GROUP in resources(manager)


def test_a_removal_that_fails_may_have_removed_it(manager: Deployer) -> None:
    """Nobody knows how far the service came."""
    manager("deploy", *HERE, **FOLDERS)
    manager.account.refuse = lambda _, __, place: None if has(place, GROUP) else "Busy"

    result = manager("deploy", *HERE, "--yes", GUARD_EXTERNAL_ID="another")

    assert result.exit_code == 1
    assert "The role may be gone from the accounts of fd-one,fd-two" in result.output


@pytest.mark.parametrize("removes", [True, False])
def test_an_interruption_names_them_too(
    manager: Deployer, monkeypatch: pytest.MonkeyPatch, *, removes: bool
) -> None:
    """As long as the role is not created again."""
    if removes:
        manager("deploy", *HERE, **FOLDERS)
    waits = iter(range(9))

    def stop(_: object) -> None:
        if next(waits) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(tasks, "wait_for_stack", stop)
    result = manager("deploy", *HERE, "--yes", **{**FOLDERS, "GUARD_EXTERNAL_ID": "another"})

    assert result.exit_code == 130, result.output
    assert ("The role may be gone from the accounts of" in result.output) is removes
    assert ("The stack has not given the role to" in result.output) is not removes


@pytest.mark.parametrize("exists", [True, False])
def test_a_group_that_an_update_did_not_create_is_created(
    manager: Deployer, *, exists: bool
) -> None:
    """After an update that failed, the parameters of the stack name what it was to have."""
    manager("deploy", *HERE, **FOLDERS)
    place = manager.account.place()
    assert place.stack
    place.stack = Stack("UPDATE_FAILED", place.stack.template, place.stack.parameters)
    manager.account.groups = exists

    result = manager("deploy", *HERE)

    assert result.exit_code == 0, result.output
    assert ("Deploy the part for other accounts" in result.output) is not exists


def test_a_key_of_serverless_devs_alone_prepares_nobody(manager: Deployer) -> None:
    """Nobody could read which regions there are, whose roles have to be trusted."""
    (manager.home / ".s").mkdir()
    (manager.home / ".s" / "access.yaml").write_text("default:\n  AccountID: x\n")
    stated = {**FOLDERS, "GUARD_ACCOUNTS": FIRST}

    result = manager("deploy", *HERE, **stated, **dict.fromkeys(KEY))

    assert result.exit_code == 2
    assert "Only Serverless Devs has this key" in result.output
    assert is_untouched(manager)


# What a removal leaves.


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ((), "The stack group removes the role oss-tables-encryption-guard-member from fd-one"),
        (("--keep-logs",), "The stacks stay, and the role oss-tables-encryption-guard-member in"),
    ],
)
def test_a_removal_says_what_becomes_of_other_accounts(
    manager: Deployer, options: tuple[str, ...], line: str
) -> None:
    """The stack removes its instances with the group; where it stays, both do."""
    manager("deploy", *HERE, **FOLDERS)

    result = manager("remove", *HERE, "--yes", *options)

    assert result.exit_code == 0, result.output
    assert line in result.output
    assert (manager.account.place().stack is not None) is bool(options)


@pytest.mark.parametrize("unread", ["read_deployed", "read_stack", "find_regions"])
def test_a_removal_that_cannot_look_says_so(manager: Deployer, unread: str) -> None:
    """It is not prevented by that."""
    manager("deploy", *HERE, **FOLDERS)
    manager.unreadable = [unread]

    result = manager("remove", *HERE, "--yes")

    assert result.exit_code == 0, result.output
    assert "! Not readable: 403 AccessDenied" in result.output


# The template for any other way.


def test_the_template_of_another_account_is_printed(deployer: Deployer) -> None:
    """Alone on standard output, with the parameters of this deployment as its defaults."""
    result = deployer("member-template", *HERE, **{**ORGANIZATION, "GUARD_ACCOUNTS": FIRST})

    assert result.exit_code == 0, result.output
    printed = yaml.safe_load(result.stdout)
    defaults = {name: each["Default"] for name, each in printed["Parameters"].items()}
    assert printed["Resources"] == read_template()["Resources"]
    assert defaults["ExternalId"] == ORGANIZATION["GUARD_EXTERNAL_ID"]
    assert defaults["Guards"].split(",") == [
        f"acs:ram::{ACCOUNT}:role/{STACK}-{each}" for each in ("cn-hangzhou", "sweep-cn-hangzhou")
    ]
    assert "Guards 2 accounts" in result.stderr
    assert is_untouched(deployer)
