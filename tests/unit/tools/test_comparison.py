"""What a deployment would change, as `make plan` finds it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from layers.encryption_guard.tools.comparison import (
    Deployed,
    Difference,
    Function,
    Stack,
    compare,
    digest_content,
)
from layers.encryption_guard.tools.configuration import CONTENT

PATTERN = {"source": ["acs.oss"]}
TEMPLATE = {
    "Parameters": {"Webhook": {"Type": "String", "NoEcho": True}, "Group": {"Type": "String"}},
    "Resources": {"Queue": {"Type": "Q", "Properties": {"Days": 7}}},
}
RESOURCES: Mapping[str, Any] = {
    "infra": {
        "name": "guard",
        "parameters": {"Webhook": "https://hooks.example.com/a-secret", "Group": "ops"},
        "template": TEMPLATE,
    },
    "sweep": {
        "region": "cn-hangzhou",
        "functionName": "guard-sweep",
        "code": "./functions/sweep",
        "role": "acs:ram::1:role/Guard",
        "cpu": 1,
        "layers": ["acs:fc:cn-hangzhou:1:layers/guard/versions/1"],
        "environmentVariables": {"GUARD_MODE": "enforce", CONTENT: "a"},
        "asyncInvokeConfig": {"maxAsyncRetryAttempts": 0},
        "concurrencyConfig": {"reservedConcurrency": 2},
        "triggers": [
            {
                "triggerName": "events",
                "triggerConfig": {"enable": True, "eventRuleFilterPattern": json.dumps(PATTERN)},
            }
        ],
        "tags": [{"key": "version", "value": "1"}],
    },
}
# The services return more than what the template states.
FUNCTION = Function(
    {
        "functionName": "guard-sweep",
        "role": "acs:ram::1:role/guard",
        "cpu": 1.0,
        "layers": [{"arn": "acs:fc:cn-hangzhou:1:layers/guard/versions/7", "size": 1}],
        "environmentVariables": {"GUARD_MODE": "enforce", CONTENT: "a"},
        "tags": [{"Key": "version", "Value": "1"}, {"Key": "owner", "Value": "somebody"}],
        "state": "Active",
    },
    {
        "events": {
            "triggerName": "events",
            "status": "Enabled",
            "triggerConfig": json.dumps(
                {"enable": True, "eventRuleFilterPattern": json.dumps(PATTERN, indent=2), "more": 1}
            ),
        }
    },
    {"maxAsyncRetryAttempts": 0, "asyncTask": False},
    {"reservedConcurrency": 2, "functionArn": "an ARN"},
)
STACK = Stack("CREATE_COMPLETE", TEMPLATE, {"Webhook": "******", "Group": "ops", "Region": "x"})
SAME = Deployed(STACK, {"sweep": FUNCTION})


def with_settings(**settings: Any) -> Deployed:
    """The same, but for these settings of the function."""
    return replace(
        SAME, functions={"sweep": replace(FUNCTION, settings={**FUNCTION.settings, **settings})}
    )


@pytest.mark.parametrize(
    ("share", "differences"),
    [
        (0.05000000074505806, []),
        (0.25, [Difference("sweep.cpu", "0.25", "0.05")]),
    ],
)
def test_a_share_of_a_vcpu_is_a_number(share: float, differences: list[Difference]) -> None:
    """Another size is a change, and the single precision of a service is none."""
    resources = {**RESOURCES, "sweep": {**RESOURCES["sweep"], "cpu": 0.05}}

    assert compare(resources, with_settings(cpu=share)) == differences


def with_function(**parts: Any) -> Deployed:
    """The same, but for these parts of the function."""
    return replace(SAME, functions={"sweep": replace(FUNCTION, **parts)})


def with_stack(**parts: Any) -> Deployed:
    """The same, but for these parts of the stack."""
    return replace(SAME, stack=replace(STACK, **parts))


def test_what_is_deployed_as_the_template_has_it_does_not_change() -> None:
    """Whatever else the services tell, in whichever form."""
    assert compare(RESOURCES, SAME) == []


@pytest.mark.parametrize(
    ("deployed", "expected"),
    [
        (replace(SAME, stack=None), Difference("infra", "-", "the stack guard")),
        (
            replace(SAME, functions={"sweep": None}),
            Difference("sweep", "-", "the function guard-sweep"),
        ),
        (
            with_stack(template=TEMPLATE | {"Outputs": {}}),
            Difference("infra.Outputs", "{}", "-"),
        ),
        (
            with_stack(parameters={"Group": ""}),
            Difference("infra.parameters.Group", '""', "ops"),
        ),
        (with_settings(cpu=0.5), Difference("sweep.cpu", "0.5", "1")),
        (
            with_settings(environmentVariables={"GUARD_MODE": "enforce", CONTENT: "b"}),
            Difference("sweep.code and layer", "b", "a"),
        ),
        (
            with_settings(
                environmentVariables={"GUARD_MODE": "enforce", CONTENT: "a", "DEBUG": "1"}
            ),
            Difference("sweep.environmentVariables.DEBUG", "1", "-"),
        ),
        (with_settings(tags=[]), Difference("sweep.tags.version", "-", "1")),
        (
            with_function(async_config={}),
            Difference("sweep.asyncInvokeConfig.maxAsyncRetryAttempts", "-", "0"),
        ),
        (
            with_function(concurrency={"reservedConcurrency": 9}),
            Difference("sweep.concurrencyConfig.reservedConcurrency", "9", "2"),
        ),
    ],
    ids=lambda value: getattr(value, "path", ""),
)
def test_each_difference_is_named(deployed: Deployed, expected: Difference) -> None:
    """By its path, with what is deployed and what would be; nothing else is."""
    assert compare(RESOURCES, deployed) == [expected]


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (None, ["triggerName", "triggerConfig.enable", "triggerConfig.eventRuleFilterPattern"]),
        (
            {"enable": False, "eventRuleFilterPattern": json.dumps({"source": ["acs.oss", "x"]})},
            ["triggerConfig.enable", "triggerConfig.eventRuleFilterPattern.source"],
        ),
        (
            {"enable": True, "eventRuleFilterPattern": "no pattern"},
            ["triggerConfig.eventRuleFilterPattern"],
        ),
    ],
    ids=["no trigger", "another one", "garbage"],
)
def test_a_trigger_is_compared_by_its_meaning(config: Any, expected: list[str]) -> None:
    """Its JSON texts may be written in any way."""
    found = {"triggerName": "events", "triggerConfig": json.dumps(config)} if config else {}

    differences = compare(RESOURCES, with_function(triggers={"events": found}))

    assert [each.path for each in differences] == [f"sweep.triggers.events.{e}" for e in expected]


def test_functions_with_two_versions_of_the_layer_are_a_difference() -> None:
    """A deployment that stopped half-way left them; the number alone is none."""
    two: Mapping[str, Any] = {**RESOURCES, "create": RESOURCES["sweep"]}
    other = replace(FUNCTION, settings={**FUNCTION.settings, "layers": []})

    differences = compare(two, replace(SAME, functions={"sweep": FUNCTION, "create": other}))

    assert differences == [
        Difference(
            "sweep.layers", "acs:fc:cn-hangzhou:1:layers/guard/versions/7", "the same version"
        ),
        Difference("create.layers", "-", "the same version"),
    ]


def test_a_long_value_is_cut() -> None:
    """A line of the plan stays one that can be read."""
    (difference,) = compare(RESOURCES, with_settings(cpu="x" * 500))

    assert difference.before == "x" * 160 + "..."


# What is built.

SOURCES = (
    "layers/encryption_guard/python/encryption_guard/__init__.py",
    "layers/encryption_guard/python/encryption_guard/http/retries.py",
    "layers/encryption_guard/requirements-3.12.txt",
    "layers/encryption_guard/tools/build.py",
    "functions/sweep/index.py",
)
OTHERS = (
    "layers/encryption_guard/python/encryption_guard/cli/console.py",
    "layers/encryption_guard/python/encryption_guard/__main__.py",
    "layers/encryption_guard/python/encryption_guard/__pycache__/arn.pyc",
    "layers/encryption_guard/tools/deploy.py",
    "functions/sweep/exemptions-0123456789ab.json",
    "tests/test_arn.py",
)


@pytest.mark.parametrize("path", SOURCES + OTHERS)
def test_only_what_is_built_counts(tmp_path: Path, path: str) -> None:
    """Another digest means that a deployment ships something else."""
    for name in SOURCES + OTHERS:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("once", "utf-8")
    before = digest_content(tmp_path, "0.2.0")

    (tmp_path / path).write_text("now", "utf-8")

    assert (digest_content(tmp_path, "0.2.0") != before) == (path in SOURCES)


def test_another_version_is_another_content(tmp_path: Path) -> None:
    """The layer has it in a module."""
    assert digest_content(tmp_path, "0.2.0") != digest_content(tmp_path, "0.2.1")
