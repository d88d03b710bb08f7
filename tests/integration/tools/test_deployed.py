"""What is read of a deployment, over the real protocols of the emulated services."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.errors import GuardError
from encryption_guard.services.acs3 import Api
from layers.encryption_guard.tools import comparison
from layers.encryption_guard.tools.deployed import (
    EVENT_BRIDGE,
    FUNCTION_NAMES,
    ROS,
    count_dead_letters,
    find_missing_buses,
    find_regions,
    has_stack_group,
    measure_clock,
    read_accounts,
    read_deployed,
    read_parts,
    read_stack,
)
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import REGIONS, Access
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, REGION, REPOSITORY
from tests.emulators.event_apis import EventApis
from tests.emulators.faults import Fault, GarbageBody, Refuse, Reset
from tests.emulators.function_compute_api import Deployed, FunctionComputeApi
from tests.emulators.ram_policies import Policy
from tests.emulators.resource_directory import Member, ResourceDirectory
from tests.emulators.smq import Smq
from tests.emulators.stacks_api import KeptStack, StacksApi
from tests.unit.fakes import creation_of, dead_letter_of

POLICY = json.loads((REPOSITORY / "docs" / "policies" / "deployer.json").read_text("utf-8"))
# Everything is read with the documented rights.
KEY = AccessKey(
    *("LTAIdeployer", "deployer-secret", ACCOUNT),
    policy=Policy.of(each for each in POLICY["Statement"] if "Condition" not in each),
)
ACCESS = Access("a key", ACCOUNT, Credentials(KEY.id, KEY.secret))
ALIAS = Access("the alias `default`")
NAME = "oss-tables-encryption-guard-dead-letters"
QUEUE = f"acs:mns:{REGION}:{ACCOUNT}:/queues/{NAME}"
HERE = REGIONS[REGION]
CONFIGURATION = tuple(
    {"runtime": "python3.12", "environmentVariables": {"GUARD_MODE": "detect", **more}}
    for more in ({}, {"GUARD_CONTACT_GROUP": "ops"})
)


def never(_event: bytes) -> Any:
    """A function that nobody invokes."""
    raise AssertionError


@pytest.fixture
def api() -> Iterator[FunctionComputeApi]:
    """A region where both functions are deployed, in detect mode."""
    deployed = {
        name: Deployed(
            {"functionName": name, **configuration},
            {"sweep": {"triggerType": "timer"}},
            {"maxAsyncRetryAttempts": 0},
            never,
        )
        for name, configuration in zip(FUNCTION_NAMES, CONFIGURATION, strict=True)
    }
    with FunctionComputeApi(KEY, functions={}, deployed=deployed) as service:
        yield service


def shell(service: FunctionComputeApi | Smq) -> dict[str, str]:
    """The shell of a deployer who reaches this service."""
    return {
        "GUARD_FC_ENDPOINT": service.url,
        "GUARD_SMQ_ENDPOINT": service.url,
        "GUARD_MAX_ATTEMPTS": "1",
    }


def test_the_settings_are_those_of_both_functions(api: FunctionComputeApi) -> None:
    """Each of them is asked for once."""
    assert read_deployed(ACCESS, HERE, shell(api)) == {
        "GUARD_MODE": "detect",
        "GUARD_CONTACT_GROUP": "ops",
        "GUARD_RUNTIME": "python3.12",
    }
    assert [request.operation for request in api.requests] == ["GetFunction"] * 2


def test_what_cannot_be_read_is_not_taken_for_absent(api: FunctionComputeApi) -> None:
    """Settings that nobody stated would else return to their defaults."""
    api.faults.add(Fault(Refuse(403)))

    with pytest.raises(GuardError, match="AccessDenied"):
        read_deployed(ACCESS, HERE, shell(api))


def test_the_regions_with_the_guard_are_found(api: FunctionComputeApi) -> None:
    """By their sweep functions; what cannot be read is not taken for absent."""
    assert find_regions(ACCESS, [REGION, "cn-beijing"], shell(api)) == (REGION, "cn-beijing")
    with FunctionComputeApi(KEY, functions={}) as empty:
        assert find_regions(ACCESS, [REGION], shell(empty)) == ()
    api.faults.add(Fault(Refuse(403)))
    with pytest.raises(GuardError, match="AccessDenied"):
        find_regions(ACCESS, [REGION], shell(api))
    with pytest.raises(GuardError, match="Only Serverless Devs has this key"):
        find_regions(ALIAS, [REGION], {})


def test_a_bus_that_is_missing_is_named_by_its_region() -> None:
    """What cannot be read is neither there nor missing."""
    with EventApis(KEY) as service:
        service.state.buses = ["guard"]
        api = Api(service.url, EVENT_BRIDGE.version)

        def missing(access: Access, bus: str) -> tuple[str, ...]:
            return find_missing_buses(access, bus, [REGION, "cn-beijing"], {}, api=api)

        assert missing(ACCESS, "guard") == ()
        assert missing(ACCESS, "gaurd") == (REGION, "cn-beijing")
        service.faults.add(Fault(Refuse(403)))
        with pytest.raises(GuardError, match=r"GetEventBus of 127.0.0.1 answered 403 NoPermission"):
            missing(ACCESS, "guard")
        with pytest.raises(GuardError, match="Only Serverless Devs has this key"):
            missing(ALIAS, "guard")


# The accounts.

MEMBERS = [Member(str(each) * 16) for each in (2, 3)]
ORGANIZATION = {"GUARD_ACCOUNTS": "organization"}


def accounts(settings: dict[str, str], directory: ResourceDirectory) -> Guarded:
    """What a deployment with these settings guards."""
    stated = settings | {"GUARD_DIRECTORY_ENDPOINT": directory.url}
    return read_accounts(ACCESS, stated, {"GUARD_MAX_ATTEMPTS": "1"})


@pytest.fixture
def directory() -> Iterator[ResourceDirectory]:
    """A directory of which the deployer's account is the manager."""
    with ResourceDirectory(KEY, manager=ACCOUNT, members=MEMBERS) as service:
        yield service


def test_the_accounts_are_those_of_a_sweep(directory: ResourceDirectory) -> None:
    """The own one first; those that are allowed are of the own role, which lists nothing there."""
    first, second = (member.account_id for member in MEMBERS)
    allowed = {"GUARD_ALLOWED_ACCOUNTS": first}

    assert accounts({}, directory) == Guarded((ACCOUNT,))
    listed = {"GUARD_ACCOUNTS": f"{second},{ACCOUNT},{first}"}
    assert accounts(listed, directory) == Guarded((ACCOUNT, first, second))
    assert accounts(listed | allowed, directory) == Guarded((ACCOUNT, second))
    assert directory.requests == []
    assert accounts(ORGANIZATION, directory) == Guarded((ACCOUNT, first, second))
    assert accounts(ORGANIZATION | allowed, directory) == Guarded((ACCOUNT, second))


def test_an_entry_that_is_left_out_is_told(directory: ResourceDirectory) -> None:
    """The other accounts are guarded."""
    directory.join(Member("4444444444444444", status="Left"))  # type: ignore[arg-type]

    found = accounts(ORGANIZATION, directory)

    assert (len(found.account_ids), found.problem) == (3, "")
    assert "4444444444444444" in found.incomplete[0]


def test_a_list_that_cannot_be_read_is_not_taken_for_empty(directory: ResourceDirectory) -> None:
    """Neither after a refusal nor with a key that only Serverless Devs has."""
    directory.faults.add(Fault(Refuse(403)))

    found = accounts(ORGANIZATION, directory)

    assert found.account_ids == (ACCOUNT,)
    assert "403 NoPermission" in found.problem
    alone = ("its own",)
    assert read_accounts(ALIAS, ORGANIZATION, {}) == Guarded(alone, "only Serverless Devs has it.")
    assert read_accounts(ALIAS, {"GUARD_ACCOUNTS": "11111"}, {}) == Guarded((*alone, "11111"))


def test_a_key_that_only_serverless_devs_has_reads_nothing() -> None:
    """Nobody is asked."""
    assert read_deployed(ALIAS, HERE, {}) is None
    assert read_parts(ALIAS, HERE, RESOURCES, {}) is None
    assert count_dead_letters(ALIAS, QUEUE, {}) == "dead letters not counted"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "no dead letter visible"),
        (1, "1 dead letter"),
        (20, "16 dead letters or more"),
    ],
)
def test_waiting_dead_letters_are_counted(number: int, words: str) -> None:
    """As far as the queue shows them, and they stay visible."""
    with Smq(KEY, queues=[NAME]) as queue:
        for count in range(number):
            body = dead_letter_of(creation_of(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/b-{count}"))
            queue.put(NAME, body)

        assert count_dead_letters(ACCESS, QUEUE, shell(queue)) == words
        assert all(message.dequeue_count == 0 for message in queue.messages(NAME))


def test_a_queue_that_is_not_readable_prevents_no_removal() -> None:
    """There may be none, or no right to look into it."""
    with Smq(KEY) as queue:
        assert count_dead_letters(ACCESS, QUEUE, shell(queue)) == "dead letters not readable"


# The clock.


@pytest.mark.parametrize("seconds", [-120, 0, 75])
def test_the_clock_is_compared_with_the_services(seconds: int) -> None:
    """Its answer has the time, whatever it answers."""

    def clock() -> datetime:
        return datetime.now(timezone.utc) - timedelta(seconds=seconds)

    with FunctionComputeApi(KEY, functions={}, clock=clock) as service:
        ahead = measure_clock(ACCESS, HERE, shell(service))

    assert ahead == pytest.approx(seconds, abs=5)


def test_an_unknown_clock_is_none(api: FunctionComputeApi) -> None:
    """Nobody answers, or nobody may be asked."""
    api.faults.add(Fault(Reset()))

    assert measure_clock(ACCESS, HERE, shell(api)) is None
    assert measure_clock(ALIAS, HERE, shell(api)) is None


# All parts, for a plan.

RESOURCES = {
    "infra": {"name": "guard", "template": {}},
    "sweep": {"functionName": FUNCTION_NAMES[1], "triggers": [{"triggerName": "sweep"}]},
    "encrypt_on_create": {"functionName": FUNCTION_NAMES[0], "triggers": []},
}
TEMPLATE = {
    "Parameters": {"Webhook": {"Type": "String", "NoEcho": True}},
    "Resources": {"Queue": {"Type": "ALIYUN::MNS::Queue"}},
}
STACK = KeptStack("guard", TEMPLATE, {"Webhook": "https://hooks.example.com/a-secret"})


@pytest.fixture
def ros() -> Iterator[StacksApi]:
    """A region with the stack, one of another name, and one of this name that is deleted."""
    deleted = replace(STACK, id="a deleted stack", status="DELETE_COMPLETE")
    others = (deleted, replace(STACK, name="another", id="another stack"))
    with StacksApi(KEY, *others, STACK) as service:
        yield service


def parts(functions: FunctionComputeApi, stacks: StacksApi) -> comparison.Deployed | None:
    """What is read of both services."""
    endpoint = Api(stacks.url, ROS.version)
    return read_parts(ACCESS, HERE, RESOURCES, shell(functions), ros=endpoint)


def test_all_parts_are_read(api: FunctionComputeApi, ros: StacksApi) -> None:
    """The stack by its name, and of each function what the template states; nothing is changed."""
    found = parts(api, ros)

    assert {each.operation for each in (*api.requests, *ros.requests)} == {
        *("GetFunction", "GetTrigger", "GetFunctionAsyncInvokeConfig", "GetConcurrencyConfig"),
        *("ListStacks", "GetStack", "GetTemplate"),
    }
    assert found is not None
    assert found.stack == comparison.Stack(
        "CREATE_COMPLETE", TEMPLATE, {"ALIYUN::Region": REGION, "Webhook": "******"}
    )
    assert {name: function and function.settings for name, function in found.functions.items()} == {
        "sweep": {**CONFIGURATION[1], "functionName": FUNCTION_NAMES[1]},
        "encrypt_on_create": {**CONFIGURATION[0], "functionName": FUNCTION_NAMES[0]},
    }
    sweep = found.functions["sweep"]
    assert sweep is not None
    assert (sweep.triggers, sweep.async_config, sweep.concurrency) == (
        {"sweep": {"triggerType": "timer"}},
        {"maxAsyncRetryAttempts": 0},
        {},
    )


def test_a_stack_is_read_alone(ros: StacksApi) -> None:
    """With the service's reason for its state; a key of Serverless Devs reads nothing."""
    ros.stacks = [replace(STACK, status="UPDATE_FAILED", reason="No trusted access.")]
    endpoint = Api(ros.url, ROS.version)

    found = read_stack(ACCESS, HERE, "guard", {}, ros=endpoint)

    assert found is not None
    assert (found.state, found.reason) == ("UPDATE_FAILED", "No trusted access.")
    assert read_stack(ACCESS, HERE, "no such stack", {}, ros=endpoint) is None
    assert read_stack(ALIAS, HERE, "guard", {}, ros=endpoint) is None


def test_a_stack_group_is_there_or_not(ros: StacksApi) -> None:
    """What cannot be read is neither."""
    api = Api(ros.url, ROS.version)
    ros.groups = ["guard"]

    assert has_stack_group(ACCESS, HERE, "guard", {}, ros=api)
    assert not has_stack_group(ACCESS, HERE, "other", {}, ros=api)
    ros.faults.add(Fault(Refuse(403)))
    with pytest.raises(GuardError, match=r"GetStackGroup of 127.0.0.1 answered 403 NoPermission"):
        has_stack_group(ACCESS, HERE, "guard", {}, ros=api)
    with pytest.raises(GuardError, match="Only Serverless Devs has this key"):
        has_stack_group(ALIAS, HERE, "guard", {}, ros=api)


def test_what_does_not_exist_is_none() -> None:
    """Nothing is deployed yet."""
    with FunctionComputeApi(KEY, functions={}) as functions, StacksApi(KEY) as stacks:
        found = parts(functions, stacks)

    assert found == comparison.Deployed(None, {"sweep": None, "encrypt_on_create": None})


@pytest.mark.parametrize("action", ["ListStacks", "GetStack", "GetTemplate"])
def test_a_stack_that_cannot_be_read_is_not_taken_for_absent(
    api: FunctionComputeApi, ros: StacksApi, action: str
) -> None:
    """Neither after a refusal nor after an answer that says nothing."""
    ros.faults.add(Fault(Refuse(403), operation=action, times=1))
    with pytest.raises(GuardError, match=f"{action} of 127.0.0.1 answered 403 NoPermission"):
        parts(api, ros)

    ros.faults.add(Fault(GarbageBody(b'{"RequestId": "1"}'), operation=action))
    with pytest.raises(GuardError, match="returned a stack guard without '"):
        parts(api, ros)


@pytest.mark.parametrize(
    "operation", ["GetTrigger", "GetFunctionAsyncInvokeConfig", "GetConcurrencyConfig"]
)
def test_a_part_that_cannot_be_read_is_not_taken_for_absent(
    api: FunctionComputeApi, ros: StacksApi, operation: str
) -> None:
    """The error names the right that is missing."""
    api.faults.add(Fault(Refuse(403), operation=operation))

    with pytest.raises(GuardError, match=f"their permission fc:{operation},"):
        parts(api, ros)
