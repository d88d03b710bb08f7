"""template.yaml against the code that it deploys and the limits of the platform."""

from __future__ import annotations

import importlib
import json
import re
from typing import Any

import pytest
import yaml

from encryption_guard.config import Settings
from encryption_guard.policy import CAUSES
from encryption_guard.sweep import EVENT_LASTS
from encryption_guard.sweep_function import is_event
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    ACCOUNT,
    AUDIT,
    REPOSITORY,
    ROLE,
    SWEEP_ROLE,
    TIMER_EVENT,
    filter_pattern,
)
from tests.emulators.event_bridge import matches

TEMPLATE: dict[str, Any] = yaml.safe_load((REPOSITORY / "template.yaml").read_text("utf-8"))
FUNCTION: dict[str, Any] = TEMPLATE["resources"]["encrypt_on_create"]["props"]
SWEEP: dict[str, Any] = TEMPLATE["resources"]["sweep"]["props"]
ROS: dict[str, Any] = TEMPLATE["resources"]["infra"]["props"]["template"]["Resources"]

# Each function with the role that it has, and what the tests' clouds give it.
both = pytest.mark.parametrize("function", [FUNCTION, SWEEP], ids=["encrypt_on_create", "sweep"])
each_role = pytest.mark.parametrize(
    ("function", "resource", "emulated"),
    [(FUNCTION, "Role", ROLE), (SWEEP, "SweepRole", SWEEP_ROLE)],
    ids=["encrypt_on_create", "sweep"],
)


def statements(resource: str, *, audit: bool) -> list[dict[str, Any]]:
    """A role's policy, with the condition on AuditTables decided."""
    policy = ROS[resource]["Properties"]["Policies"][0]["PolicyDocument"]
    return [one | {"Action": decided(one["Action"], audit=audit)} for one in policy["Statement"]]


def decided(value: Any, *, audit: bool) -> list[str]:
    """What Resource Orchestration Service makes of a value that may be an Fn::If."""
    if isinstance(value, dict):
        condition, if_true, if_false = value["Fn::If"]
        assert condition == "AuditTables"
        return list(if_true if audit else if_false)
    return list(value)


@both
def test_the_handler_and_the_initializer_exist(function: dict[str, Any]) -> None:
    """What the template calls is there, in the folder that it ships."""
    code = (REPOSITORY / function["code"]).relative_to(REPOSITORY)
    initializer = function["instanceLifecycleConfig"]["initializer"]["handler"]

    for entry in (function["handler"], initializer):
        module, _, name = entry.partition(".")
        assert callable(getattr(importlib.import_module(f"{'.'.join(code.parts)}.{module}"), name))


@both
def test_every_variable_is_a_setting_and_a_string(function: dict[str, Any]) -> None:
    """The function is given settings that it reads, as strings, which is all the platform takes."""
    known = {field.alias for field in Settings.model_fields.values()} | {"GUARD_EXEMPTIONS"}

    variables = function["environmentVariables"]

    assert set(variables) <= known
    assert {type(value) for value in variables.values()} == {str}


@both
def test_the_settings_satisfy_the_function(function: dict[str, Any]) -> None:
    """With its variables filled in, the function starts."""
    values = {
        "vars.mode": "detect",
        "vars.region": "cn-hangzhou",
        "vars.sweepRegions": "",
        "vars.auditTables": "true",
        "vars.exemptions": "[]",
        "vars.allowedAccounts": "",
        "config('AccountID')": ACCOUNT,
        "resources.infra.output.QueueName": "letters",
    }
    filled = {
        name: re.sub(r"\$\{([^}]+)\}", lambda match: values[match[1]], text)
        for name, text in function["environmentVariables"].items()
    }

    settings = Settings.from_environment(filled | {"FC_FUNCTION_NAME": "encrypt-on-create"})

    assert settings.mode == "detect"
    assert settings.audit_tables


@each_role
def test_the_failure_destination_is_the_queue_and_the_role_may_send_there(
    function: dict[str, Any], resource: str, emulated: AccessKey
) -> None:
    """FC's own letters go where ours go; FC wants `/messages` behind the queue."""
    config = function["asyncInvokeConfig"]
    queue = function["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"]
    name = ROS["DeadLetterQueue"]["Properties"]["QueueName"]

    destination = config["destinationConfig"]["onFailure"]["destination"]

    assert destination == f"{queue}/messages"
    assert emulated.may("SendMessage")
    (send,) = [s for s in statements(resource, audit=False) if "mns:SendMessage" in s["Action"]]
    assert send["Resource"] == [f"acs:mns:${{vars.region}}:*:/queues/{name}/messages"]


@pytest.mark.parametrize("audit", [False, True], ids=["", "with the audit"])
@each_role
def test_the_role_has_what_the_emulated_one_has(
    function: dict[str, Any], resource: str, emulated: AccessKey, audit: bool
) -> None:
    """The rights that the tests run with are the rights that are deployed, and no more."""
    policy = statements(resource, audit=audit)
    actions = {action for statement in policy for action in statement["Action"]}

    needed = {action.partition(":")[2] for action in actions if not action.startswith("log:")}

    assert function["role"] == f"${{resources.infra.output.{resource}Arn}}"
    assert needed == emulated.allowed | (AUDIT if audit else set())
    assert not any("*" in action for action in actions)
    # What it needs for listing is not documented; everything else has a resource of its own.
    everywhere = [s["Action"] for s in policy if "*" in s["Resource"]]
    assert everywhere == ([["oss:ListTableBuckets"]] if resource == "SweepRole" else [])


def test_the_audit_is_what_the_condition_and_the_functions_are_told() -> None:
    """One variable decides about the audit and about the rights for it."""
    conditions = TEMPLATE["resources"]["infra"]["props"]["template"]["Conditions"]

    assert conditions == {"AuditTables": {"Fn::Equals": ["true", "${vars.auditTables}"]}}
    for function in (FUNCTION, SWEEP):
        assert function["environmentVariables"]["GUARD_AUDIT_TABLES"] == "${vars.auditTables}"


def test_both_functions_leave_the_same_alone() -> None:
    """An exemption that only one of them knew would end with the other one's next run."""
    shared = ("GUARD_MODE", "GUARD_EXEMPTIONS", "GUARD_ALLOWED_ACCOUNTS", "GUARD_AUDIT_TABLES")
    creation, sweep = (function["environmentVariables"] for function in (FUNCTION, SWEEP))

    assert [creation[name] for name in shared] == [sweep[name] for name in shared]


def test_the_timer_sweeps_every_quarter_of_an_hour() -> None:
    """The sweep has a timer whose rate is a variable, and whose event is no bucket's."""
    (trigger,) = SWEEP["triggers"]

    assert trigger["triggerType"] == "timer"
    assert trigger["triggerConfig"]["cronExpression"] == "@every ${vars.sweepEvery}"
    assert trigger["triggerConfig"]["enable"] is True
    assert TEMPLATE["vars"]["sweepEvery"] == "${env('GUARD_SWEEP_EVERY', '15m')}"
    assert json.loads(TIMER_EVENT)["payload"] == trigger["triggerConfig"]["payload"]
    assert not is_event(TIMER_EVENT)


@both
def test_the_platforms_limits_are_kept(function: dict[str, Any]) -> None:
    """Sizes and times are within what Function Compute takes."""
    processors, gigabytes = function["cpu"], function["memorySize"] / 1024

    assert function["memorySize"] % 64 == 0
    assert round(processors / 0.05, 6).is_integer()
    assert 1 <= gigabytes / processors <= 4
    assert function["runtime"] == "python3.12"
    assert function["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"] <= 604800
    assert 0 <= function["asyncInvokeConfig"]["maxAsyncRetryAttempts"] <= 8
    assert ROS["DeadLetterQueue"]["Properties"]["MessageRetentionPeriod"] == 7 * 24 * 3600
    assert TEMPLATE["vars"]["name"] == TEMPLATE["vars"]["name"].lower()


def test_what_is_old_to_a_sweep_is_old_to_the_platform() -> None:
    """As long as an event may still be on its way, its bucket is new and has not drifted."""
    longest = FUNCTION["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"]

    assert EVENT_LASTS.total_seconds() == longest


@pytest.mark.parametrize("spelling", ["acs.oss", "acs:oss", "acs.osstables", "acs:oss-tables"])
@pytest.mark.parametrize("kind", ["ApiCall", "ConsoleOperation", "AliyunServiceEvent"])
@pytest.mark.parametrize("name", ["CreateTableBucket", "DeleteTableBucketEncryption"])
def test_the_rule_lets_in_what_matters(spelling: str, kind: str, name: str) -> None:
    """Whatever the source is called and whoever made the call, both events pass the rule."""
    event = {
        "source": spelling,
        "type": f"oss:ActionTrail:{kind}",
        "data": {"eventName": name},
    }

    assert matches(filter_pattern(), event)


def test_the_rule_keeps_out_what_does_not() -> None:
    """Other calls, other services and OSS's own object events do not start the function."""
    base: dict[str, Any] = {"source": "acs.oss", "type": "oss:ActionTrail:ApiCall"}
    others = [
        base | {"data": {"eventName": "PutBucket"}},
        base | {"data": {"eventName": "CreateTableBucket"}, "source": "acs.ecs"},
        base | {"data": {"eventName": "CreateTableBucket"}, "type": "oss:ObjectCreated:PutObject"},
    ]

    assert [matches(filter_pattern(), event) for event in others] == [False] * 3


def minded_samples() -> dict[str, dict[str, Any]]:
    """The CloudEvents of events/ whose call is one that the guard minds."""
    parsed = {
        file.stem: json.loads(file.read_bytes())
        for file in sorted((REPOSITORY / "events").glob("*.json"))
    }
    return {
        name: event
        for name, event in parsed.items()
        if isinstance(event, dict)
        and isinstance(event.get("data"), dict)
        and event["data"].get("eventName") in list(CAUSES)
    }


@pytest.mark.parametrize("event", minded_samples().values(), ids=minded_samples())
def test_the_rule_lets_in_every_sample_that_matters(event: dict[str, Any]) -> None:
    """Every sample of an event that the guard minds reaches it."""
    assert matches(filter_pattern(), event)
