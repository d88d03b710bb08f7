"""What the stacks do for other accounts: where, with whose trust, and after which change."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from encryption_guard.errors import ConfigurationError
from layers.encryption_guard.tools.comparison import Stack
from layers.encryption_guard.tools.member_stacks import (
    MAX_TRUST,
    NO_MEMBERS,
    RECEIVING_BUS,
    STACK_GROUP,
    Home,
    Members,
    Step,
    choose_steps,
    describe_removal,
    find_home,
    is_replaced,
    list_guards,
    list_trusted,
    read_template,
    serves_members,
)
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import Finding, Level

OWN, OTHER = "1234567890123456", "2222222222222222"
SETTINGS = {
    "GUARD_ACCOUNTS": "organization",
    "GUARD_MEMBER_ROLE": "guarded",
    "GUARD_AUDIT_TABLES": "late",
    "GUARD_ORGANIZATION_FOLDERS": "fd-a,fd-b",
}
BUS = {**SETTINGS, "GUARD_ORGANIZATION_BUS": "guard"}
EVERY_REGION = (
    *("cn-hangzhou", "cn-shanghai", "cn-beijing", "cn-shenzhen", "cn-wulanchabu"),
    *("ap-southeast-1", "eu-central-1", "us-east-1"),
)


def members(
    settings: Mapping[str, str] = SETTINGS,
    *,
    regions: tuple[str, ...] = ("cn-hangzhou",),
    others: tuple[str, ...] = (OTHER,),
    problem: str = "",
) -> Members:
    """Other accounts of a guard in these regions, of which the first is the home."""
    home = Home(regions[0], regions)
    return Members(settings, OWN, home, Guarded((OWN, *others), problem))


# The home.


def test_the_only_region_is_the_home() -> None:
    """However often it is named; of several the stated one, which comes first."""
    assert find_home({}, ["cn-a", "cn-a"]) == Home("cn-a", ("cn-a",))
    stated = {"GUARD_ORGANIZATION_HOME": "cn-b"}
    assert find_home(stated, ["cn-a", "cn-b", "cn-c"]) == Home("cn-b", ("cn-b", "cn-a", "cn-c"))


def test_folders_or_a_bus_are_served() -> None:
    """Listed accounts alone are not: nobody deploys into them."""
    assert [serves_members(each) for each in (SETTINGS, {"GUARD_ORGANIZATION_BUS": "guard"})] == [
        *(True, True),
    ]
    assert not serves_members({"GUARD_ACCOUNTS": OTHER, "GUARD_ORGANIZATION_FOLDERS": ""})


# The variables of the template.


def group(variables: Mapping[str, str]) -> dict[str, Any]:
    """What the stack group consists of."""
    prefix = "ENCRYPTION_GUARD_MEMBER_"
    return {
        name.removeprefix(prefix): json.loads(text)
        for name, text in variables.items()
        if name.startswith(prefix) and text
    }


def test_the_home_has_the_stack_group_and_the_others_have_none() -> None:
    """Each region with a bus gets its events; only the home has the role to send them."""
    both = members(BUS, regions=("cn-hangzhou", "cn-shanghai"))
    home, other = both.variables("cn-hangzhou"), both.variables("cn-shanghai")

    assert other == {**NO_MEMBERS, RECEIVING_BUS: "guard"}
    assert home.keys() == NO_MEMBERS.keys()
    assert group(home)["FOLDERS"] == ["fd-a", "fd-b"]
    assert group(home)["REGIONS"] == ["cn-hangzhou", "cn-shanghai"]
    assert group(home)["TEMPLATE"] == read_template()
    assert json.loads(home["ENCRYPTION_GUARD_SENDERS"]) == [f"{OTHER}@eventbridge.aliyuncs.com"]
    assert home["ENCRYPTION_GUARD_FORWARD_ROLE"] == "oss-tables-encryption-guard-forward"


def test_without_a_bus_only_the_home_needs_a_stack() -> None:
    """A role exists in every region."""
    both = members(regions=("cn-hangzhou", "cn-shanghai"))

    variables = both.variables("cn-hangzhou")

    assert group(variables)["REGIONS"] == ["cn-hangzhou"]
    assert group(variables)["PARAMETERS"] == {
        "Guards": ",".join(list_guards(OWN, ["cn-hangzhou", "cn-shanghai"])),
        "ExternalId": "",
        "RoleName": "guarded",
        "AuditTables": "late",
        "Home": "cn-hangzhou",
        "GuardAccount": OWN,
        "Bus": "",
        "ForwardRole": "",
    }


def test_the_digest_is_that_of_all_that_the_group_has() -> None:
    """The same twice, and another one for each change in other accounts."""
    digests = [
        members({**SETTINGS, **change}).variables("cn-hangzhou")[STACK_GROUP]
        for change in (
            {},
            {"GUARD_MODE": "detect"},
            {"GUARD_AUDIT_TABLES": "false"},
            {"GUARD_EXTERNAL_ID": "guard-of"},
            {"GUARD_ORGANIZATION_FOLDERS": "fd-a"},
            {"GUARD_ORGANIZATION_BUS": "guard"},
        )
    ]

    assert digests[0] == digests[1]
    assert len(set(digests)) == 5


def test_nobody_sends_where_nobody_is_known() -> None:
    """A role that trusts nobody is none."""
    variables = members(BUS, others=()).variables("cn-hangzhou")

    assert variables["ENCRYPTION_GUARD_FORWARD_ROLE"] == ""


# The limits of trust policies.


def levels(found: list[Finding]) -> list[Level]:
    return [each.level for each in found]


def test_the_roles_of_every_region_fit_into_a_trust_policy() -> None:
    """With an external id of usual length; a longer one is refused."""
    usual = {**SETTINGS, "GUARD_EXTERNAL_ID": f"guard-of:{OWN}"}
    assert members(usual, regions=EVERY_REGION).check() == []

    (finding,) = members(
        {**SETTINGS, "GUARD_EXTERNAL_ID": "x" * 1224}, regions=EVERY_REGION
    ).check()

    assert (finding.level, f"{MAX_TRUST:,} characters" in finding.message) == ("error", True)


def test_as_many_accounts_send_as_a_trust_policy_names() -> None:
    """Those that do not fit are counted: the watch finds their buckets."""
    others = tuple(f"{10**15 + number}" for number in range(60))
    few, many = members(BUS, others=others[:20]), members(BUS, others=others)

    assert (len(few.senders), few.check()) == (20, [])
    (finding,) = many.check()
    sent = len(many.senders)
    assert 40 <= sent < 60
    message = f"Events of {sent} accounts are forwarded, and not those of {60 - sent} more"
    assert (finding.level, finding.message) == ("warning", message)
    assert members(SETTINGS, others=others).check() == []


def test_unknown_accounts_cannot_send() -> None:
    """Nobody could name them."""
    (finding,) = members(BUS, others=(), problem="403").check()

    assert (
        finding.message == "Events of 0 accounts are forwarded, and not those of the other accounts"
    )


# A change.


LAST = Step("Deploy the part for other accounts")
REMOVAL = Step("Remove the role from other accounts", {STACK_GROUP: ""}, removes=True)
GROUP = {
    "MemberStacks": {"Properties": {"TemplateBody": {"a": 1}, "Parameters": {"Guards": "b"}}},
    "MemberStackInstances": {
        "Properties": {"DeploymentTargets": {"RdFolderIds": ["fd-a"]}, "RegionIds": ["cn-a"]}
    },
}
# The variables with which it stays as it is.
KEPT = {
    "ENCRYPTION_GUARD_MEMBER_TEMPLATE": '{"a": 1}',
    "ENCRYPTION_GUARD_MEMBER_PARAMETERS": '{"Guards": "b"}',
    "ENCRYPTION_GUARD_MEMBER_FOLDERS": '["fd-a"]',
    "ENCRYPTION_GUARD_MEMBER_REGIONS": '["cn-a"]',
    STACK_GROUP: "1",
}
RULE = Step("Deploy the rule for events of other accounts", KEPT)


def stack(**parameters: str) -> Stack:
    """A stack with these parameters, and perhaps with a stack group."""
    resources = dict(GROUP) if parameters.get("StackGroup") else {}
    return Stack("UPDATE_COMPLETE", {"Resources": resources}, parameters)


@pytest.mark.parametrize(
    ("deployed", "wanted", "first", "steps"),
    [
        (None, NO_MEMBERS, {}, []),
        (None, {STACK_GROUP: "1", RECEIVING_BUS: ""}, {STACK_GROUP: ""}, [LAST]),
        (stack(StackGroup="1", Bus=""), {STACK_GROUP: "1", RECEIVING_BUS: ""}, {}, []),
        (stack(StackGroup="1"), {STACK_GROUP: "2"}, KEPT, [REMOVAL, LAST]),
        (stack(StackGroup="1"), {STACK_GROUP: ""}, {}, []),
        (stack(Bus=""), {RECEIVING_BUS: "guard"}, {RECEIVING_BUS: ""}, [LAST]),
        (stack(Bus="guard"), {RECEIVING_BUS: "guard"}, {}, []),
        (stack(Bus="guard"), {RECEIVING_BUS: "other"}, {RECEIVING_BUS: "guard"}, [LAST]),
        (
            *(None, {STACK_GROUP: "1", RECEIVING_BUS: "b"}),
            *({STACK_GROUP: "", RECEIVING_BUS: ""}, [LAST]),
        ),
        (
            *(stack(StackGroup="1", Bus="a"), {STACK_GROUP: "2", RECEIVING_BUS: "b"}),
            *({**KEPT, RECEIVING_BUS: "a"}, [RULE, REMOVAL, LAST]),
        ),
    ],
    ids=[
        *("nothing", "new", "same", "another", "gone", "a bus", "the same bus", "another bus"),
        *("both", "both differ"),
    ],
)
def test_what_is_new_or_another_follows_the_functions(
    deployed: Stack | None, wanted: dict[str, str], first: dict[str, str], steps: list[Step]
) -> None:
    """A group that is another one stays as it is until all else is deployed."""
    parameters = deployed.parameters if deployed else {}

    assert choose_steps(wanted, deployed) == (first, steps)
    assert is_replaced(wanted, parameters) is (REMOVAL in steps)


def test_the_regions_that_the_group_trusts_are_read() -> None:
    """From the ARNs of both roles in each; without a group nobody is trusted."""
    both = members(regions=("cn-hangzhou", "eu-west-1"))
    deployed = stack(StackGroup="1")
    deployed.template["Resources"]["MemberStacks"] = {
        "Properties": {"TemplateBody": {}, "Parameters": both.parameters}
    }

    assert list_trusted(deployed) == ["cn-hangzhou", "eu-west-1"]
    assert (list_trusted(stack()), list_trusted(None)) == ([], [])


def test_a_group_of_another_form_is_not_guessed() -> None:
    """It could not be kept as it is."""
    strange = Stack("UPDATE_COMPLETE", {"Resources": {}}, {"StackGroup": "1"})

    with pytest.raises(ConfigurationError, match="a stack group without 'MemberStacks'"):
        choose_steps({STACK_GROUP: "2"}, strange)


def test_the_bus_is_needed_where_events_are_sent() -> None:
    """The home's stack group sends them in each region; the own default bus always exists."""
    both = members(BUS, regions=("cn-hangzhou", "cn-shanghai"))

    assert (both.custom_bus, both.bus_regions("cn-shanghai")) == ("guard", ("cn-shanghai",))
    assert both.bus_regions("cn-hangzhou") == ("cn-hangzhou", "cn-shanghai")
    assert members({**BUS, "GUARD_ORGANIZATION_BUS": "default"}).custom_bus == ""
    assert members().custom_bus == ""


# A removal.


def removal(
    region: str, settings: Mapping[str, str], *others: str, keeps_stack: bool = False
) -> list[tuple[str, str, str]]:
    found = describe_removal(region, settings, others, keeps_stack=keeps_stack)
    return [(each.level, each.message, each.remedy) for each in found]


def test_a_removal_says_what_becomes_of_the_role_in_other_accounts() -> None:
    """It never trusts a role that is gone without a word."""
    assert removal("cn-a", {"GUARD_ACCOUNTS": ""}) == []
    assert removal("cn-a", SETTINGS) == [
        ("ok", "The stack group removes the role guarded from fd-a,fd-b", "")
    ]
    ((level, message, remedy),) = removal(
        "cn-b", {**SETTINGS, "GUARD_ORGANIZATION_HOME": "cn-a"}, "cn-a"
    )
    assert (level, remedy) == ("warning", "Then run `make deploy REGION=cn-a`: it ends that.")
    assert message == (
        "In other accounts the role guarded still trusts the roles of cn-b, which are removed"
    )
    ((level, message, _),) = removal("cn-a", SETTINGS, keeps_stack=True)
    assert (level, message) == (
        "warning",
        "The stacks stay, and the role guarded in the accounts of fd-a,fd-b too",
    )
    listed = {**SETTINGS, "GUARD_ORGANIZATION_FOLDERS": ""}
    ((level, message, _),) = removal("cn-a", listed)
    assert (level, message) == (
        "warning",
        "In other accounts the role guarded stays, and trusts the roles of cn-a",
    )


def test_without_its_home_no_region_enters_other_accounts() -> None:
    """The others are named."""
    home = {**SETTINGS, "GUARD_ORGANIZATION_HOME": "cn-a"}

    _, (level, message, _) = removal("cn-a", home, "cn-b", "cn-c")

    assert (level, message) == ("warning", "cn-b, cn-c can then enter no other account")
