"""The RAM policies of docs/policies: what they allow, what the docs say of it, and who needs it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from encryption_guard.settings import Settings
from tests.documents import REPOSITORY
from tests.emulators.cloud import (
    ACCOUNT,
    AUDITING,
    MEMBER_ROLE,
    REGION,
    deployed_role,
    deployment,
)
from tests.emulators.ram_policies import Policy
from tests.emulators.template import function_props, properties

FOLDER = REPOSITORY / "docs" / "policies"
NAMES = ("deployer", "operator", "auditor")
# https://www.alibabacloud.com/help/en/ram/developer-reference/api-ram-2015-05-01-createpolicy
MAX_CHARACTERS = 6144
READING = ("Get", "List", "Describe", "Peek", "BatchPeek")
# Where the docs name the actions of a policy: the file, and the heading of the part.
PARTS = {
    "deployer": ("deploy.md", "### Of the deployer"),
    "operator": ("operate.md", "## Rights of an operator"),
    "auditor": ("operate.md", "## Rights of an auditor"),
}

FUNCTION = "functions/oss-tables-encrypt-on-create"
TRIGGER = f"{FUNCTION}/triggers/table-bucket-events"
LAYER = "layers/encryption-guard/versions"
STACK = "stack/0a1b2c3d-0000-4000-8000-000000000000"
# The calls that the components fc3 0.1.22 and ros made to an emulated account in `make deploy` and
# `make remove`, and those of `make plan`, with the action and the resource that they are checked
# against.
# https://www.alibabacloud.com/help/en/functioncompute/fc-3-0/policies-and-sample-policies
# https://www.alibabacloud.com/help/en/ros/developer-reference/api-ros-2019-09-10-ram
SENT: Mapping[str, tuple[str, str]] = {
    "ListStacks": ("ros:ListStacks", "stack/*"),
    "CreateStack": ("ros:CreateStack", "stack/*"),
    "UpdateStack": ("ros:UpdateStack", STACK),
    "DeleteStack": ("ros:DeleteStack", STACK),
    "GetStack": ("ros:GetStack", STACK),
    "GetTemplate": ("ros:GetTemplate", STACK),
    "ListStackEvents": ("ros:ListStackEvents", STACK),
    "ListLayerVersions": ("fc:ListLayerVersions", f"{LAYER}/*"),
    "CreateLayerVersion": ("fc:CreateLayerVersion", f"{LAYER}/*"),
    "DeleteLayerVersion": ("fc:DeleteLayerVersion", f"{LAYER}/1"),
    "tempBucketToken": ("fc:GetTempBucketToken", "*"),
    "GetFunction": ("fc:GetFunction", FUNCTION),
    "CreateFunction": ("fc:CreateFunction", FUNCTION),
    "UpdateFunction": ("fc:UpdateFunction", FUNCTION),
    "DeleteFunction": ("fc:DeleteFunction", FUNCTION),
    "InvokeFunction": ("fc:InvokeFunction", f"{FUNCTION}/LATEST"),
    "ListTriggers": ("fc:ListTriggers", f"{FUNCTION}/triggers/*"),
    "GetTrigger": ("fc:GetTrigger", TRIGGER),
    "CreateTrigger": ("fc:CreateTrigger", TRIGGER),
    "UpdateTrigger": ("fc:UpdateTrigger", TRIGGER),
    "DeleteTrigger": ("fc:DeleteTrigger", TRIGGER),
    "GetAsyncInvokeConfig": ("fc:GetFunctionAsyncInvokeConfig", FUNCTION),
    "PutAsyncInvokeConfig": ("fc:PutFunctionAsyncInvokeConfig", FUNCTION),
    "DeleteAsyncInvokeConfig": ("fc:DeleteFunctionAsyncInvokeConfig", f"{FUNCTION}/LATEST"),
    "ListAsyncInvokeConfigs": ("fc:ListFunctionAsyncInvokeConfigs", FUNCTION),
    "GetConcurrencyConfig": ("fc:GetConcurrencyConfig", FUNCTION),
    "PutConcurrencyConfig": ("fc:PutConcurrencyConfig", FUNCTION),
    "DeleteConcurrencyConfig": ("fc:DeleteConcurrencyConfig", FUNCTION),
    "GetProvisionConfig": ("fc:GetProvisionConfig", FUNCTION),
    "ListAliases": ("fc:ListAliases", f"{FUNCTION}/aliases/*"),
    "ListFunctionVersions": ("fc:ListFunctionVersions", f"{FUNCTION}/versions/*"),
    "ListVpcBindings": ("fc:ListVpcBindings", f"{FUNCTION}/vpc-bindings/*"),
    "CreateServiceLinkedRole": ("ram:CreateServiceLinkedRole", "*"),
    "ListAccounts": ("resourcemanager:ListAccounts", "*"),
    "GetEventBus": ("eventbridge:GetEventBus", "eventbus/guard"),
    "GetStackGroup": ("ros:GetStackGroup", "stackgroup/oss-tables-encryption-guard"),
}
# Calls that no page names an action for, so the policy has none. The docs have to say so.
SENT_WITHOUT_A_NAME = {"CheckServiceLinkedRoleExistence", "GetScalingConfig", "ListScalingConfigs"}
# Services that no component calls with the deployer's rights, but Resource Orchestration Service or
# Function Compute. For each, why they would.
NEEDED_BY: Mapping[str, str] = {
    "ram": "ALIYUN::RAM::Role, which changes with GUARD_AUDIT_TABLES; a function is given its role",
    "mns": "ALIYUN::MNS::Queue",
    "log": "ALIYUN::SLS::Project, Logstore, Index, Alert and Dashboard",
    "cms": "ALIYUN::CMS::ResourceMetricRule",
    "eventbridge": "the rule behind the trigger of the type eventbridge, ALIYUN::EventBridge::Rule",
    "ros": "ALIYUN::ROS::StackGroup and StackInstances",
}
# An operator reads the function's log in the console; no command does.
NO_COMMAND_NEEDS = {"log:GetLogStoreLogs"}
# In other accounts.
TAKES_A_ROLE = {"sts:AssumeRole"}
# The platform writes the log with the function's role.
ONLY_THE_PLATFORM_NEEDS = {"log:PostLogStoreLogs"}


def text_of(name: str) -> str:
    return (FOLDER / f"{name}.json").read_text("utf-8")


def statements_of(name: str) -> list[dict[str, Any]]:
    statements: list[dict[str, Any]] = json.loads(text_of(name))["Statement"]
    return statements


def policy_of(name: str) -> Policy:
    """The policy, for a caller who meets its conditions."""
    return Policy.of(
        {key: value for key, value in statement.items() if key != "Condition"}
        for statement in statements_of(name)
    )


def granted(name: str) -> frozenset[str]:
    return policy_of(name).granted


def reading(actions: Iterable[str]) -> set[str]:
    return {action for action in actions if action.partition(":")[2].startswith(READING)}


def part_of_the_docs(name: str) -> str:
    """The part of the docs about a policy, up to the next heading."""
    file, heading = PARTS[name]
    after = (REPOSITORY / "docs" / file).read_text("utf-8").partition(f"\n{heading}\n")[2]
    return re.split(r"^#", after, maxsplit=1, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [line.strip("| ").split(" | ") for line in lines]


each_policy = pytest.mark.parametrize("name", NAMES)


def test_every_policy_is_checked() -> None:
    """The folder has these policies and no other file."""
    assert {path.name for path in FOLDER.iterdir()} == {f"{name}.json" for name in NAMES}


@each_policy
def test_a_policy_can_be_pasted(name: str) -> None:
    """RAM takes it: version 1, statements that allow, within the length of a custom policy."""
    document = json.loads(text_of(name))

    assert set(document) == {"Version", "Statement"}
    assert document["Version"] == "1"
    assert {statement["Effect"] for statement in document["Statement"]} == {"Allow"}
    assert len(text_of(name)) <= MAX_CHARACTERS


@each_policy
def test_an_action_is_written_out(name: str) -> None:
    """Each action is a service and a name, without a wildcard, and is granted once."""
    actions = [action for statement in statements_of(name) for action in statement["Action"]]

    assert [each for each in actions if not re.fullmatch(r"[a-z]+:[A-Z][A-Za-z]+", each)] == []
    assert len(actions) == len(set(actions))


@each_policy
def test_a_policy_holds_in_every_account(name: str) -> None:
    """A resource is `*`, or names a service of its actions, and no account or region."""
    for statement in statements_of(name):
        services = {action.partition(":")[0] for action in statement["Action"]}
        # A role that STS gives is one of RAM.
        of = {{"oss": "osstables", "sts": "ram"}.get(service, service) for service in services}
        for resource in statement["Resource"]:
            match = re.fullmatch(r"acs:([a-z]+):\*:\*:[^:]+", resource)
            assert resource == "*" or (match and {match[1]} == of), resource


def test_a_role_is_passed_to_function_compute_alone() -> None:
    """The deployer may hand the functions' roles to no other service."""
    (conditions,) = (
        (statement["Action"], statement["Condition"])
        for statement in statements_of("deployer")
        if "Condition" in statement
    )

    assert conditions == (["ram:PassRole"], {"StringEquals": {"acs:Service": "fc.aliyuncs.com"}})


# The docs.


def test_the_table_of_the_deployer_is_the_policy() -> None:
    """The table has each action of the file under its service, and no other."""
    listed = [
        f"{service.strip('`')}:{action}"
        for service, actions, *_ in rows(part_of_the_docs("deployer"))
        for action in re.findall("`([^`]+)`", actions)
    ]

    assert sorted(listed) == sorted(granted("deployer"))


@pytest.mark.parametrize("name", ["operator", "auditor"])
def test_the_table_of_a_person_is_the_policy(name: str) -> None:
    """The first column has each action of the file, and no other."""
    listed = [
        action
        for actions, *_ in rows(part_of_the_docs(name))
        for action in re.findall("`([^`]+)`", actions)
    ]

    assert sorted(listed) == sorted(granted(name))


@pytest.mark.parametrize("call", sorted(SENT_WITHOUT_A_NAME | {"tempBucketToken"}))
def test_an_uncertain_name_is_stated(call: str) -> None:
    """The docs name each call whose action the documentation of the service does not name."""
    assert f"`{call}`" in part_of_the_docs("deployer")


# Who needs what.


@pytest.mark.parametrize("call", SENT)
def test_the_deployer_may_make_each_call(call: str) -> None:
    """What the real components sent is allowed, on the resource of this template."""
    action, place = SENT[call]
    service = action.partition(":")[0]

    resource = place if place == "*" else f"acs:{service}:{REGION}:{ACCOUNT}:{place}"
    assert policy_of("deployer").allows(action, resource)


def test_the_deployer_has_no_right_without_a_reason() -> None:
    """Each action is one of a call that was sent, or a resource of the template needs it."""
    unsent = granted("deployer") - {action for action, _ in SENT.values()}

    assert {action.partition(":")[0] for action in unsent} == set(NEEDED_BY)


def test_the_resources_are_those_of_the_template() -> None:
    """A renamed function, queue, role, log project or trigger is not forgotten in the policy."""
    template, policy = deployment(), policy_of("deployer")
    creation, sweep = (
        function_props(template, function) for function in ("encrypt_on_create", "sweep")
    )
    layer = creation["layers"][0].partition(":layers/")[2]
    forwarding = {
        "GUARD_ACCOUNTS": "2222222222222222",
        "GUARD_ORGANIZATION_FOLDERS": "fd-one",
        "GUARD_ORGANIZATION_BUS": "guard",
    }
    organization = deployment(forwarding)
    group = properties(organization, "MemberStacks")["StackGroupName"]
    (attached,) = properties(organization, "ForwardRole")["PolicyAttachments"]["System"]
    roles = [
        properties(organization, role)["RoleName"] for role in ("Role", "SweepRole", "ForwardRole")
    ]
    queue = properties(template, "DeadLetterQueue")["QueueName"]
    project = properties(template, "LogProject")["Name"]
    owner = f"{REGION}:{ACCOUNT}"

    for function in (creation, sweep):
        place = f"acs:fc:{owner}:functions/{function['functionName']}"
        assert policy.allows("fc:CreateFunction", place)
        assert policy.allows("fc:CreateTrigger", f"{place}/triggers/one")
    assert policy.allows("fc:DeleteLayerVersion", f"acs:fc:{owner}:layers/{layer}")
    for role in roles:
        assert policy.allows("ram:PassRole", f"acs:ram:*:{ACCOUNT}:role/{role}")
        assert policy.allows("ram:AttachPolicyToRole", f"acs:ram:*:{ACCOUNT}:policy/{role}")
    assert policy.allows("ram:AttachPolicyToRole", f"acs:ram:*:system:policy/{attached}")
    assert policy.allows("ros:CreateStackGroup", f"acs:ros:{owner}:stackgroup/{group}")
    assert policy.allows("mns:CreateQueue", f"acs:mns:{owner}:/queues/{queue}")
    for place in (f"project/{project}", f"project/{project}/logstore/guard"):
        assert policy.allows("log:CreateIndex", f"acs:log:{owner}:{place}")


def test_the_deployer_may_touch_no_other_resource() -> None:
    """Another function, role, queue or project of the account is out of reach."""
    policy = policy_of("deployer")

    for action, place in {
        "fc:DeleteFunction": "fc:cn-hangzhou:1:functions/payroll",
        "ram:AttachPolicyToRole": "ram:*:1:role/administrator",
        "ram:PassRole": "ram:*:1:role/administrator",
        "mns:DeleteQueue": "mns:cn-hangzhou:1:/queues/orders",
        "log:DeleteProject": "log:cn-hangzhou:1:project/audit",
    }.items():
        assert not policy.allows(action, f"acs:{place}")


def test_an_auditor_only_reads() -> None:
    """No action of the auditor creates, changes, hides, sends or deletes anything.

    In other accounts the auditor takes a role of its own; that of the guard encrypts.
    """
    policy, roles = policy_of("auditor"), f"acs:ram::{ACCOUNT}:role/"

    assert granted("auditor") - TAKES_A_ROLE == reading(granted("auditor"))
    for name, allowed in ((MEMBER_ROLE, False), ("oss-tables-encryption-guard-auditor", True)):
        assert policy.allows("sts:AssumeRole", roles + name) is allowed


def test_an_operator_takes_the_role_of_the_functions() -> None:
    """In each account, and no other role."""
    policy, roles = policy_of("operator"), f"acs:ram::{ACCOUNT}:role/"

    assert policy.allows("sts:AssumeRole", roles + Settings().member_role)
    assert not policy.allows("sts:AssumeRole", roles + "administrator")


def test_an_auditor_reads_what_the_others_read() -> None:
    """The auditor reads nothing that neither operator nor deployer may read."""
    assert granted("auditor") - TAKES_A_ROLE <= reading(granted("operator") | granted("deployer"))


@pytest.mark.parametrize("function", ["encrypt_on_create", "sweep"])
def test_an_operator_may_do_what_a_function_does(function: str) -> None:
    """The commands make the function's calls, so the operator has the rights of its role."""
    policy = deployed_role(function, AUDITING).policy
    assert policy is not None

    assert policy.granted - ONLY_THE_PLATFORM_NEEDS <= granted("operator")


def test_an_operator_may_use_the_three_services_and_read_the_log() -> None:
    """What no command calls is the log alone; the integration tests hold the rest to the calls."""
    assert {
        action
        for action in granted("operator")
        if action.partition(":")[0] not in {"oss", "mns", "fc"}
    } == NO_COMMAND_NEEDS | TAKES_A_ROLE | {"resourcemanager:ListAccounts"}
