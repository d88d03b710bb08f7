"""How the emulated cloud reads template.yaml: expressions, then conditions and functions.

tests/integration/tools/test_serverless_devs.py holds the first against the real command.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.cloud import ACCOUNT, REPOSITORY
from tests.emulators.template import TEMPLATE, resolved, resolved_document, role_of, ros_decided

VARS: dict[str, Any] = {
    "region": "${env('REGION', 'cn-hangzhou')}",
    "name": "guard-${vars.region}",
    "number": 7,
    "flag": True,
    "tags": {"team": "lake"},
}
RESOURCES = {"one": {"component": "fc3", "props": {"name": "${vars.name}", "cpu": 0.25}}}


def value_of(text: str, **environment: str) -> Any:
    """What a text in a document becomes."""
    document = {"vars": VARS, "resources": RESOURCES, "asked": text}
    return resolved_document(document, environment, account=ACCOUNT)["asked"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("${vars.missing}", r"there is no \$\{vars\.missing\}"),
        ("${resources.two.props.name}", r"there is no \$\{resources\.two"),
        ("${resources.one.output.name}", r"unknown expression: \$\{resources\.one\.output"),
        ("${env('A')}", r"without a default: \$\{env\('A'\)\}"),
        ("${vars.region", r"not resolved: \$\{vars\.region"),
        ("${env('HOSTILE', '')}", r"not resolved: \$\{vars\.name\}"),
        ("x ${vars.tags}", "not a text"),
    ],
)
def test_what_nobody_knows_is_refused_by_its_name(text: str, complaint: str) -> None:
    """An expression that is unknown, or still there afterwards, raises and is named."""
    with pytest.raises(ValueError, match=complaint):
        value_of(text, HOSTILE="${vars.name}")


def test_the_template_depends_on_nothing_but_what_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The variables of the shell that runs the tests are not those of a deployment."""
    before = resolved(account=ACCOUNT)
    monkeypatch.setenv("GUARD_MODE", "detect")

    assert resolved(account=ACCOUNT) == before
    assert resolved({"GUARD_MODE": "detect"}, account=ACCOUNT) != before
    assert TEMPLATE == REPOSITORY / "template.yaml"


CONDITIONS = {
    "Audit": {"Fn::Equals": ["true", {"Ref": "AuditTables"}]},
    "NoAudit": {"Fn::Not": {"Fn::Equals": ["true", {"Ref": "AuditTables"}]}},
    "Odd": {"Fn::Select": ["0", "a"]},
}
PARAMETERS = {
    "AuditTables": {"Type": "String", "AllowedValues": ["true", "false"]},
    "Group": {"Type": "String", "Default": "operators"},
}


def decided(asked: object, *, audit: str = "true", condition: str | None = None) -> Any:
    """What a property becomes; None if its resource is not created."""
    resource = {"Type": "ALIYUN::Any", "Properties": {"asked": asked, "other": 1}}
    resources = {"Asked": resource | ({"Condition": condition} if condition else {})}
    template = {"Conditions": CONDITIONS, "Parameters": PARAMETERS, "Resources": resources}
    found = ros_decided(template, {"AuditTables": audit})["Resources"]
    return found["Asked"]["Properties"] if found else None


@pytest.mark.parametrize(
    ("asked", "value"),
    [
        ({"Fn::If": ["Audit", ["a"], ["b"]]}, ["a"]),
        ({"Fn::If": ["NoAudit", "a", {"Fn::If": ["Audit", "b", "c"]}]}, "b"),
        ({"Fn::If": ["Audit", {"k": {"Ref": "Group"}}, "b"]}, {"k": "operators"}),
        ({"Fn::Join": ["-", ["a", {"Ref": "Group"}, "b"]]}, "a-operators-b"),
        (
            {"Fn::Join": ["-", ["a", {"Fn::GetAtt": ["Asked", "Arn"]}]]},
            {"Fn::Join": ["-", ["a", {"Fn::GetAtt": ["Asked", "Arn"]}]]},
        ),
        (["a", {"Ref": "ALIYUN::NoValue"}, {"Fn::If": ["Audit", "b", "c"]}], ["a", "b"]),
        ({"Fn::Split": ["a", {"Ref": "Group"}]}, ["oper", "tors"]),
        ({"TemplateBody": {"Ref": "Theirs"}}, {"TemplateBody": {"Ref": "Theirs"}}),
        ({"Ref": "Asked"}, {"Ref": "Asked"}),
        ({"Ref": "ALIYUN::Region"}, {"Ref": "ALIYUN::Region"}),
        ({"Fn::GetAtt": ["Asked", "Arn"]}, {"Fn::GetAtt": ["Asked", "Arn"]}),
    ],
)
def test_a_function_is_decided(asked: object, value: object) -> None:
    """Fn::If, Fn::Join and parameters become values; what only a resource could tell stays."""
    assert decided(asked) == {"asked": value, "other": 1}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"asked": {"Fn::Sub": "x"}}, "unknown function: Fn::Sub"),
        ({"asked": {"Ref": "Nobody"}}, "there is no Nobody"),
        ({"asked": {"Fn::If": ["Missing", "a", "b"]}}, "there is no condition Missing"),
        ({"asked": "x", "condition": "Odd"}, "unknown condition: Fn::Select"),
        ({"asked": {"Ref": "AuditTables"}, "audit": "yes"}, "AuditTables may not be 'yes'"),
    ],
)
def test_what_cannot_be_decided_is_refused(changes: dict[str, Any], complaint: str) -> None:
    """Nothing that is unknown is passed over in silence."""
    with pytest.raises(ValueError, match=complaint):
        decided(**changes)


def test_a_parameter_needs_a_value() -> None:
    """Without a value and without a default there is nothing to decide by."""
    template = {"Parameters": {"A": {"Type": "String"}}, "Resources": {"R": {"P": {"Ref": "A"}}}}

    with pytest.raises(ValueError, match="the parameter A has no value"):
        ros_decided(template)


def test_a_parameter_has_to_be_declared() -> None:
    """A misspelt one would leave the default in its place."""
    with pytest.raises(ValueError, match="no such parameter: B"):
        ros_decided({"Parameters": {"A": {}}, "Resources": {}}, {"A": "", "B": ""})


def test_a_function_with_a_role_that_nobody_creates_is_refused() -> None:
    """The ARN of a role is a name that has to be one of the template's."""
    template = resolved(account=ACCOUNT)
    template["resources"]["sweep"]["props"]["role"] += "-2"

    with pytest.raises(ValueError, match="which nobody creates"):
        role_of(template, "sweep")
