"""The stack of template.yaml against the official ROS CDK: its types, its keys and its values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from copy import deepcopy
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from layers.encryption_guard.tools import template_keys
from layers.encryption_guard.tools.template_keys import read_keys
from tests.emulators.cloud import ACCOUNT, REGION, REPOSITORY, deployment
from tests.emulators.deployed_members import members_of
from tests.emulators.template import infrastructure, member_resources
from tests.integration.tools import ros_cdk

NODE = shutil.which("node")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(NODE is None, reason="Node.js is not installed"),
]

Resources = dict[str, Any]
Change = Callable[[Resources], object]

LISTED = read_keys("ros")["template"]["Resources"]["*"]["Properties"]["by Type"]
SERVICES = {resource_type.split("::")[1].lower() for resource_type in LISTED}
ORGANIZATION = {
    "GUARD_ACCOUNTS": "2222222222222222",
    "GUARD_ORGANIZATION_FOLDERS": "fd-one,r-two",
    "GUARD_ORGANIZATION_BUS": "guard",
    "GUARD_EXTERNAL_ID": "guard-of:1234567890123456",
}
EVERY_CONDITION = {
    **ORGANIZATION,
    "GUARD_AUDIT_TABLES": "true",
    "GUARD_CONTACT_GROUP": "operators",
    "GUARD_WEBHOOK": "https://hooks.example/guard",
    "GUARD_ACTION_POLICY": "sls.builtin",
}
ENVIRONMENTS = {
    "no condition is true": {},
    "every condition is true": EVERY_CONDITION,
    "a contact group without a web hook": {"GUARD_CONTACT_GROUP": "operators"},
}
# What another account gets, in the region that creates the role, and where it only forwards events.
MEMBER_STACKS = {
    name: member_resources(
        {**members_of(shell, account_id=ACCOUNT, region=REGION).parameters, "AuditTables": audit},
        region=region,
    )
    for name, shell, audit, region in (
        ("an account that forwards its events", ORGANIZATION, "late", REGION),
        ("it in another region", ORGANIZATION, "late", "cn-beijing"),
        ("an account without the audit", {"GUARD_ACCOUNTS": "organization"}, "false", REGION),
    )
}


def properties(resources: Resources, name: str) -> Any:
    return resources[name]["Properties"]


def respell(node: Resources, key: str, misspelt: str) -> None:
    node[misspelt] = node.pop(key, None)


class Fault(NamedTuple):
    """A change of the stack, and what the CDK says about it."""

    change: Change
    answer: str


FAULTS = {
    "a type that does not exist": Fault(
        lambda r: r["LogIndex"].update(Type="ALIYUN::SLS::Indes"),
        "ALIYUN::SLS::Indes is an unknown type",
    ),
    "a misspelt property": Fault(
        lambda r: respell(properties(r, "LogStore"), "ShardCount", "ShardsCount"),
        "LogStore.ShardsCount is unknown",
    ),
    "a misspelt key in a list": Fault(
        lambda r: respell(properties(r, "LogIndex")["KeyIndices"][1], "Type", "type"),
        "LogIndex.KeyIndices.1.type is unknown",
    ),
    "a missing property": Fault(
        lambda r: properties(r, "LogStore").pop("ProjectName", None),
        "Missing required properties for @alicloud/ros-cdk-sls.RosLogstoreProps: 'projectName'",
    ),
    "a missing key in a list": Fault(
        lambda r: properties(r, "Role")["Policies"][0].pop("PolicyName", None),
        "Missing required properties for @alicloud/ros-cdk-ram.RosRole.PoliciesProperty: "
        "'policyName'",
    ),
    "a text instead of a number": Fault(
        lambda r: properties(r, "LogStore").update(ShardCount="many"),
        "Key 'shardCount': Unable to deserialize value as number",
    ),
    "a text instead of a list": Fault(
        lambda r: properties(r, "DeadLettersWaiting").update(ContactGroups="operators"),
        "Key 'contactGroups': Unable to deserialize value as",
    ),
    "a number that is too large": Fault(
        lambda r: properties(r, "DeadLetterQueue").update(MessageRetentionPeriod=604801),
        "messageRetentionPeriod: 604801 is larger than",
    ),
    "a name with other characters": Fault(
        lambda r: properties(r, "LogProject").update(Name="log project"),
        'name: The string "log project" does not match the regular expression',
    ),
    "a word that is not allowed": Fault(
        lambda r: properties(r, "LogIndex")["KeyIndices"][0].update(Type="txt"),
        'type: "txt" doesn\'t exist in [text,long,double,json]',
    ),
    "an empty name as the only property": Fault(
        lambda r: r["LogProject"].update(Properties={"Name": ""}),
        "LogProject is written as {}",
    ),
}


def spoilt(change: Change) -> Resources:
    """The resources with every condition true, after this change."""
    resources = deepcopy(infrastructure(deployment(EVERY_CONDITION)))
    change(resources)
    return resources


def refer(resources: Resources) -> None:
    """Name the project of the logs by a reference to it."""
    properties(resources, "LogStore")["ProjectName"] = {"Fn::GetAtt": ["LogProject", "Name"]}


@pytest.fixture(scope="module")
def answer(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the CDK says about every stack of this module: one start is enough for all."""
    whole = {name: infrastructure(deployment(each)) for name, each in ENVIRONMENTS.items()}
    stacks = {**whole, **MEMBER_STACKS, "a reference": spoilt(refer)}
    stacks |= {name: spoilt(fault.change) for name, fault in FAULTS.items()}
    folder = tmp_path_factory.mktemp("cdk")
    done = subprocess.run(
        [sys.executable, "-m", ros_cdk.__name__],
        cwd=REPOSITORY,
        # Both Python and Node.js put their temporary files there.
        env={"PATH": str(Path(str(NODE)).parent), "HOME": str(folder), "TMPDIR": str(folder)},
        input=json.dumps({"types": list(LISTED), "stacks": stacks}),
        capture_output=True,
        check=False,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("name", [*ENVIRONMENTS, *MEMBER_STACKS, "a reference"])
def test_the_cdk_finds_no_fault_in_the_stack(answer: dict[str, Any], name: str) -> None:
    """It knows every type and key, misses none, accepts each value, and writes all of it again."""
    assert answer["faults"][name] == []


@pytest.mark.parametrize("name", FAULTS)
def test_the_cdk_finds_a_fault(answer: dict[str, Any], name: str) -> None:
    """It finds what is wrong in a stack with one fault, and nothing besides."""
    (fault,) = answer["faults"][name]

    assert FAULTS[name].answer in fault


def test_the_listed_properties_are_those_that_the_cdk_knows(answer: dict[str, Any]) -> None:
    """ros_keys.json has each property and key of the stack's types, and no other."""
    assert answer["keys"] == LISTED


def test_the_list_names_the_packages_that_are_installed() -> None:
    """A newer CDK is compared with the list before the list says so."""
    file = Path(template_keys.__file__).with_name("ros_keys.json")
    sources = " ".join(json.loads(file.read_text("utf-8"))["sources"])
    packages, versions = (
        set(re.findall(pattern, sources)) for pattern in (r"ros-cdk-\w+", r"ros-cdk-\w+ ([\d.]+)")
    )

    assert {package.rpartition("-")[2] for package in packages} == {"core", *SERVICES}
    assert {version(package) for package in packages} == versions
