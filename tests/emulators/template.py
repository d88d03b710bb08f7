"""template.yaml as Serverless Devs and Resource Orchestration Service understand it, without them.

https://docs.serverless-devs.com/user-guide/spec/#variables
https://www.alibabacloud.com/help/en/ros/user-guide/functions
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import yaml

TEMPLATE = Path(__file__).parents[2] / "template.yaml"
MEMBER = TEMPLATE.parent / "layers" / "encryption_guard" / "member.yaml"

EXPRESSION = re.compile(r"\$\{([^}]*)\}")
FROM_THE_SHELL = re.compile(r"env\('(?P<name>\w+)'(?:,\s*(?P<default>.+))?\)")
AS_JSON = re.compile(r"json\((?P<text>.+)\)")
PLACE = re.compile(r"vars(?:\.[\w-]+)+|resources\.[\w-]+\.props(?:\.[\w-]+)+")


def resolved(
    environment: Mapping[str, str] | None = None, *, account: str, template: Path = TEMPLATE
) -> dict[str, Any]:
    """The template as it is deployed into an account from a shell with these variables, no others.

    Raises ValueError for an expression that nobody knows.
    """
    return resolved_document(_read(template), environment or {}, account=account)


def resolved_document(
    document: Mapping[str, Any], environment: Mapping[str, str], *, account: str
) -> dict[str, Any]:
    """Any such document, resolved."""
    whole = _Expressions(document, environment, account).resolved(document)
    return cast("dict[str, Any]", whole)


@functools.cache
def _read(template: Path) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", yaml.safe_load(template.read_text("utf-8")))


@dataclass(frozen=True)
class _Expressions:
    """What the expressions of a document stand for; `within` are the places that lead to one."""

    document: Mapping[str, Any]
    environment: Mapping[str, str]
    account: str

    def resolved(self, node: Any, within: tuple[str, ...] = ()) -> Any:
        if isinstance(node, dict):
            return {key: self.resolved(value, within) for key, value in node.items()}
        if isinstance(node, list):
            return [self.resolved(value, within) for value in node]
        return self._filled(node, within) if isinstance(node, str) else node

    def _filled(self, text: str, within: tuple[str, ...]) -> Any:
        """A value that is one expression keeps its type; all others are text."""
        alone = EXPRESSION.fullmatch(text)
        if alone:
            value = self._value(alone[1], within)
        else:
            value = EXPRESSION.sub(lambda found: _text(self._value(found[1], within)), text)
        if isinstance(value, str) and "${" in value:
            raise ValueError(f"not resolved: {value}")
        return value

    def _value(self, expression: str, within: tuple[str, ...]) -> Any:
        expression = expression.strip()
        if expression == "config('AccountID')":
            return self.account
        if match := AS_JSON.fullmatch(expression):
            return json.loads(self._value(match["text"], within))
        if match := FROM_THE_SHELL.fullmatch(expression):
            return self._from_the_shell(match["name"], match["default"])
        if not PLACE.fullmatch(expression):
            raise ValueError(f"unknown expression: ${{{expression}}}")
        if expression in within:
            raise ValueError(f"refers to itself: ${{{expression}}}")
        return self.resolved(self._found(expression), (*within, expression))

    def _from_the_shell(self, name: str, default: str | None) -> Any:
        # An empty variable counts as none, also to Serverless Devs.
        if self.environment.get(name):
            return self.environment[name]
        if default is None:
            raise ValueError(f"not set, and without a default: ${{env('{name}')}}")
        return yaml.safe_load(default)

    def _found(self, place: str) -> Any:
        node: Any = self.document
        for key in place.split("."):
            if not isinstance(node, dict) or key not in node:
                raise ValueError(f"there is no ${{{place}}}")
            node = node[key]
        return node


def _text(value: Any) -> str:
    """A value in the middle of a text, as JavaScript writes it."""
    if isinstance(value, dict | list):
        raise ValueError(f"not a text: {value}")  # noqa: TRY004  a mistake in a document
    return str(value).lower() if isinstance(value, bool) else str(value)


# Resource Orchestration Service.


class _NoValue:
    """What stands for a property that is left out."""


NO_VALUE = _NoValue()


def ros_decided(
    template: Mapping[str, Any],
    parameters: Mapping[str, str] | None = None,
    *,
    region: str | None = None,
) -> dict[str, Any]:
    """The template with every condition decided, and what is left out left out.

    References to resources and to their attributes stay as they are: nothing is created here. So
    does the one to the stack's region, unless that is given. Raises ValueError for a parameter that
    is not declared.
    """
    given = parameters or {}
    if stray := given.keys() - template.get("Parameters", {}).keys():
        raise ValueError(f"no such parameter: {', '.join(sorted(stray))}")
    stack = _Stack(template, given, region)
    resources = {
        name: stack.decided({key: part for key, part in resource.items() if key != "Condition"})
        for name, resource in template["Resources"].items()
        if stack.holds(resource.get("Condition", True))
    }
    return {**template, "Resources": resources}


@dataclass(frozen=True)
class _Stack:
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    region: str | None = None

    def decided(self, node: Any) -> Any:
        """The node without functions, parameters and what has no value."""
        if isinstance(node, list):
            values = [self.decided(value) for value in node]
            return [value for value in values if value is not NO_VALUE]
        if not isinstance(node, dict):
            return node
        if set(node) == {"Ref"}:
            return self._referred(node["Ref"])
        if len(node) == 1 and next(iter(node)).startswith("Fn::"):
            return self._called(*next(iter(node.items())))
        # The template of a stack group is evaluated in the accounts that get it.
        pairs = [
            (key, value if key == "TemplateBody" else self.decided(value))
            for key, value in node.items()
        ]
        return {key: value for key, value in pairs if value is not NO_VALUE}

    def holds(self, condition: Any) -> bool:
        """Whether a condition, or the one of this name, is met."""
        if isinstance(condition, bool):
            return condition
        if isinstance(condition, str):
            return self.holds(self._condition(condition))
        ((function, given),) = condition.items()
        operands = given if isinstance(given, list) else [given]
        match function:
            case "Fn::Equals":
                first, second = (self.decided(operand) for operand in operands)
                return bool(first == second)
            case "Fn::Not":
                (operand,) = operands
                return not self.holds(operand)
            case "Fn::And":
                return all(self.holds(operand) for operand in operands)
            case "Fn::Or":
                return any(self.holds(operand) for operand in operands)
        raise ValueError(f"unknown condition: {function}")

    def _condition(self, name: str) -> Any:
        try:
            return self.template["Conditions"][name]
        except KeyError:
            raise ValueError(f"there is no condition {name}") from None

    def _called(self, function: str, given: Any) -> Any:
        match function:
            case "Fn::If":
                condition, if_true, if_false = given
                return self.decided(if_true if self.holds(condition) else if_false)
            case "Fn::Join":
                separator, parts = given[0], self.decided(given[1])
                whole = all(isinstance(part, str) for part in parts)
                return separator.join(parts) if whole else {function: [separator, parts]}
            case "Fn::Split":
                separator, text = given
                return self.decided(text).split(separator)
            case "Fn::GetAtt":
                return {function: given}
        raise ValueError(f"unknown function: {function}")

    def _referred(self, name: str) -> Any:
        if name == "ALIYUN::NoValue":
            return NO_VALUE
        if name == "ALIYUN::Region" and self.region:
            return self.region
        if name in self.template.get("Parameters", {}):
            return self._parameter(name)
        if name in self.template["Resources"] or name.startswith("ALIYUN::"):
            return {"Ref": name}
        raise ValueError(f"there is no {name} to refer to")

    def _parameter(self, name: str) -> str:
        declared = self.template["Parameters"][name]
        value: str | None = self.parameters.get(name, declared.get("Default"))
        if value is None:
            raise ValueError(f"the parameter {name} has no value")
        if value not in declared.get("AllowedValues", [value]):
            raise ValueError(f"the parameter {name} may not be {value!r}")
        return value


# What is deployed.


def member_resources(
    parameters: Mapping[str, str], *, region: str, template: Path = MEMBER
) -> dict[str, Any]:
    """What another account gets in a region, by name, each with its Type and Properties."""
    decided = ros_decided(_read(template), parameters, region=region)
    return cast("dict[str, Any]", decided["Resources"])


def infrastructure(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """The resources that are no functions, by name, each with its Type and Properties."""
    (stack,) = (one for one in resolved["resources"].values() if one["component"] == "ros")
    template, parameters = stack["props"]["template"], stack["props"].get("parameters")
    return cast("dict[str, Any]", ros_decided(template, parameters)["Resources"])


def properties(resolved: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Those of one resource that is no function."""
    return cast("dict[str, Any]", infrastructure(resolved)[name]["Properties"])


def function_props(resolved: Mapping[str, Any], function: str) -> dict[str, Any]:
    """What the template says about a function."""
    return cast("dict[str, Any]", resolved["resources"][function]["props"])


def role_policy(resolved: Mapping[str, Any], role: str) -> list[dict[str, Any]]:
    """Every statement of a role's policies."""
    policies = properties(resolved, role)["Policies"]
    return [one for policy in policies for one in policy["PolicyDocument"]["Statement"]]


def role_of(resolved: Mapping[str, Any], function: str) -> str:
    """The role that a function names by its ARN, as it is called in the template."""
    named = function_props(resolved, function)["role"].rpartition("/")[2]
    roles = {
        resource["Properties"]["RoleName"]: name
        for name, resource in infrastructure(resolved).items()
        if resource["Type"] == "ALIYUN::RAM::Role"
    }
    if named not in roles:
        raise ValueError(f"the function {function} has the role {named}, which nobody creates")
    return roles[named]
