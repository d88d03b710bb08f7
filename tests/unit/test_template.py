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
from tests.emulators.cloud import ACCOUNT, REPOSITORY, ROLE, filter_pattern
from tests.emulators.event_bridge import matches

TEMPLATE: dict[str, Any] = yaml.safe_load((REPOSITORY / "template.yaml").read_text("utf-8"))
FUNCTION: dict[str, Any] = TEMPLATE["resources"]["encrypt_on_create"]["props"]
ROS: dict[str, Any] = TEMPLATE["resources"]["infra"]["props"]["template"]["Resources"]
STATEMENTS = ROS["Role"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]


def test_the_handler_and_the_initializer_exist() -> None:
    """What the template calls is there, in the folder that it ships."""
    code = (REPOSITORY / FUNCTION["code"]).relative_to(REPOSITORY)
    initializer = FUNCTION["instanceLifecycleConfig"]["initializer"]["handler"]

    for entry in (FUNCTION["handler"], initializer):
        module, _, name = entry.partition(".")
        assert callable(getattr(importlib.import_module(f"{'.'.join(code.parts)}.{module}"), name))


def test_every_variable_is_a_setting_and_a_string() -> None:
    """The function is given settings that it reads, as strings, which is all the platform takes."""
    known = {field.alias for field in Settings.model_fields.values()} | {"GUARD_EXEMPTIONS"}

    variables = FUNCTION["environmentVariables"]

    assert set(variables) <= known
    assert {type(value) for value in variables.values()} == {str}


def test_the_settings_satisfy_the_function() -> None:
    """With its variables filled in, the function starts."""
    values = {"vars.mode": "detect", "vars.region": "cn-hangzhou", "config('AccountID')": ACCOUNT}
    values["resources.infra.output.QueueName"] = "letters"
    filled = {
        name: re.sub(r"\$\{([^}]+)\}", lambda match: values[match[1]], text)
        for name, text in FUNCTION["environmentVariables"].items()
    }

    settings = Settings.from_environment(filled | {"FC_FUNCTION_NAME": "encrypt-on-create"})

    assert settings.mode == "detect"


def test_the_failure_destination_is_the_queue_and_the_role_may_send_there() -> None:
    """FC's own letters go where ours go; FC wants `/messages` behind the queue."""
    config = FUNCTION["asyncInvokeConfig"]
    queue = FUNCTION["environmentVariables"]["GUARD_DEAD_LETTER_QUEUE"]
    name = ROS["DeadLetterQueue"]["Properties"]["QueueName"]

    destination = config["destinationConfig"]["onFailure"]["destination"]

    assert destination == f"{queue}/messages"
    (send,) = [s for s in STATEMENTS if "mns:SendMessage" in s["Action"]]
    assert send["Resource"] == [f"acs:mns:${{vars.region}}:*:/queues/{name}/messages"]


def test_the_role_has_what_the_emulated_one_has() -> None:
    """The rights that the tests run with are the rights that are deployed, and no more."""
    actions = {action for statement in STATEMENTS for action in statement["Action"]}

    needed = {action.partition(":")[2] for action in actions if not action.startswith("log:")}

    assert needed == ROLE.allowed
    assert not any("*" in action for action in actions)
    assert "*" not in {resource for s in STATEMENTS for resource in s["Resource"]}


def test_the_platforms_limits_are_kept() -> None:
    """Sizes and times are within what Function Compute takes."""
    processors, gigabytes = FUNCTION["cpu"], FUNCTION["memorySize"] / 1024

    assert FUNCTION["memorySize"] % 64 == 0
    assert round(processors / 0.05, 6).is_integer()
    assert 1 <= gigabytes / processors <= 4
    assert FUNCTION["runtime"] == "python3.12"
    assert FUNCTION["asyncInvokeConfig"]["maxAsyncEventAgeInSeconds"] <= 604800
    assert 0 <= FUNCTION["asyncInvokeConfig"]["maxAsyncRetryAttempts"] <= 8
    assert ROS["DeadLetterQueue"]["Properties"]["MessageRetentionPeriod"] == 7 * 24 * 3600
    assert TEMPLATE["vars"]["name"] == TEMPLATE["vars"]["name"].lower()


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
