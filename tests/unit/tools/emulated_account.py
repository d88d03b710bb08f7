"""Serverless Devs and the account behind it in this process, for what a deployment decides.

The real command is in tests/integration/tools, which also compares the resolved template with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import yaml
from click.testing import CliRunner, Result

from encryption_guard.errors import ConfigurationError
from layers.encryption_guard.tools import configuration, deploy, deployed, tasks
from layers.encryption_guard.tools.comparison import Deployed, Function, Stack
from layers.encryption_guard.tools.deployed import FUNCTION_NAMES
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import ALIAS, Access, Region
from layers.encryption_guard.tools.serverless_devs import ServerlessDevs, StepFailed, find_remedy
from tests.emulators.cloud import ACCOUNT
from tests.emulators.template import resolved_document, ros_decided

CREATE, SWEEP = FUNCTION_NAMES
GROUP, INSTANCES, RULE = (
    f"ALIYUN::{each}" for each in ("ROS::StackGroup", "ROS::StackInstances", "EventBridge::Rule")
)
SECRET, TOKEN = "secret-of-the-deployer", "token-of-the-deployer"
KEY = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI5tDeployer",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
    "ALIBABA_CLOUD_SECURITY_TOKEN": TOKEN,
    "ALIBABA_CLOUD_ACCOUNT_ID": ACCOUNT,
}
# None of these comes from the shell that runs the tests.
UNSET = dict.fromkeys(("AccountID", "AccessKeyID", "AccessKeySecret", "LAYER_VERSION"))
# What a deployment reads of the account. Each can be made unreadable.
READERS = (
    *("read_deployed", "read_parts", "read_stack", "read_accounts", "find_regions"),
    *("find_missing_buses", "has_stack_group", "measure_clock", "count_dead_letters"),
)

Props = Mapping[str, Any]


@dataclass
class Place:
    """What is in one region."""

    functions: dict[str, Props] = field(default_factory=dict)
    stack: Stack | None = None
    layers: list[int] = field(default_factory=list)

    @property
    def made(self) -> dict[str, Any]:
        """The resources of the stack by their names, each with its Type and Properties."""
        if not self.stack or not self.stack.template:
            return {}
        decided = ros_decided(self.stack.template, self.stack.parameters)
        resources: dict[str, Any] = decided["Resources"]
        return resources


@dataclass
class Account:
    """An account in which `s` acts; `refuse` says why it refuses a command, or None.

    It gets the region, the command, and the types of the stack's resources after a deployment.
    """

    places: dict[str, Place] = field(default_factory=dict)
    # Each command that is no question, and what became of stacks and functions.
    commands: list[str] = field(default_factory=list)
    steps: list[str] = field(default_factory=list)
    # That of the last command.
    environment: Mapping[str, str] = field(default_factory=dict)
    # Which version of the layer the next build makes.
    version: int = 1
    members: Sequence[str] = ()
    buses: Sequence[str] = ()
    seconds_ahead: float | None = 0.5
    groups: bool = True
    # What a deployment prints.
    output: str = ""
    refuse: Callable[[str, str, Place], str | None] = lambda *_: None

    def place(self, region: str = "cn-hangzhou") -> Place:
        """What is in this region."""
        return self.places.setdefault(region, Place())

    def run(self, environment: Mapping[str, str], arguments: Sequence[str]) -> str:
        """Carry out a command of `s` and return what it prints; raises StepFailed."""
        self.environment = environment
        if arguments[0] == "preview":
            return json.dumps({"resources": resolve(environment)})
        if "verify" in arguments or "plan" in arguments:
            return "as planned" if "plan" in arguments else ""
        region, command = environment["ALIBABA_CLOUD_REGION"], " ".join(arguments)
        place = self.place(region)
        self.commands.append(f"{region}: {command}")
        match arguments:
            case ("deploy", *_) | ("infra", "deploy", *_):
                return self._deploy(environment, region, command)
            case (_, "layer", "publish", *_):
                place.layers += [] if self.version in place.layers else [self.version]
                return f"version: {self.version}"
            case (_, "layer", "versions", *_):
                refused = self.refuse(region, command, place)
                return refused or json.dumps([{"version": each} for each in place.layers])
            case (_, "invoke", *_):
                refused = self.refuse(region, command, place)
                answer = {"outcome": "skipped", "reason": "not_relevant"}
                return f"Invoke Result:\n{refused or json.dumps(answer)}"
            case (part, *_) if "remove" in arguments:
                return self._remove(region, part, command)
            case ("infra", "info"):
                return f"status: {place.stack.state}\n" if place.stack else ""
        raise AssertionError(arguments)

    def _deploy(self, environment: Mapping[str, str], region: str, command: str) -> str:
        place, resources = self.place(region), resolve(environment)
        infra = resources["infra"]["props"]
        after = replace(
            place, stack=Stack("UPDATE_COMPLETE", infra["template"], infra["parameters"])
        )
        refused = self.refuse(region, command, after) or find_update(place.made, after.made)
        if refused:
            raise StepFailed(f"`s {command}` ended with 101", find_remedy(refused), refused)
        self.steps += [f"{region}: {each}" for each in list_steps(place.made, after.made)]
        place.stack = after.stack
        for name in tasks.FUNCTIONS if command.startswith("deploy") else ():
            props = resources[name]["props"]
            place.functions[props["functionName"]] = props
            self.steps.append(f"{region}: function {props['functionName']}")
        return self.output

    def _remove(self, region: str, part: str, command: str) -> str:
        place = self.place(region)
        if refused := self.refuse(region, command, place):
            # `s` ends with 0 all the same.
            return f"[2026-11-23 03:33:33][ERROR][{part}] {refused}"
        if "layer" in command:
            place.layers.clear()
            return "[]"
        if part == "infra":
            place.stack = None
        else:
            place.functions.pop({"sweep": SWEEP}.get(part, CREATE), None)
        return ""

    # What is read of it, as `deployed` does it over the network.

    def read_deployed(self, access: Access, region: Region, *_: object) -> dict[str, str] | None:
        functions = self.place(region.name).functions
        found = (configuration.of_function(functions.get(name, {})) for name in FUNCTION_NAMES)
        return configuration.merge(*found) if access.credentials else None

    def read_parts(
        self, access: Access, region: Region, resources: Mapping[str, Any], _: object
    ) -> Deployed | None:
        place = self.place(region.name)
        functions = {
            name: as_function(place.functions.get(props["functionName"]))
            for name, props in resources.items()
            if name != "infra"
        }
        return Deployed(place.stack, functions) if access.credentials else None

    def read_stack(self, _access: Access, region: Region, *_: object) -> Stack | None:
        return self.place(region.name).stack

    def read_accounts(
        self, access: Access, settings: Mapping[str, str], environment: Mapping[str, str]
    ) -> Guarded:
        if settings["GUARD_ACCOUNTS"] == "organization":
            return Guarded((ACCOUNT, *self.members))
        return deployed.read_accounts(access, settings, environment)

    def find_regions(self, access: Access, names: Iterable[str], _: object) -> tuple[str, ...]:
        if not access.credentials:
            raise ConfigurationError(deployed.NO_KEY)
        return tuple(each for each in names if SWEEP in self.place(each).functions)

    def find_missing_buses(
        self, _access: Access, bus: str, names: Iterable[str], _: object
    ) -> tuple[str, ...]:
        return () if bus in self.buses else tuple(names)

    def has_stack_group(self, *_: object) -> bool:
        return self.groups

    def measure_clock(self, *_: object) -> float | None:
        return self.seconds_ahead

    def count_dead_letters(self, *_: object) -> str:
        return "3 dead letters"


@dataclass(frozen=True)
class Command(ServerlessDevs):
    """`s` in this process."""

    account: Account = field(kw_only=True)

    def run(self, *arguments: str) -> str:
        return self.account.run(self.environment, arguments)


@dataclass
class Deployer:
    """Somebody in the folder of a checkout who calls the program."""

    home: Path
    account: Account = field(default_factory=Account)
    # What is typed where a command asks.
    answer: str = ""
    # Of the readers.
    unreadable: Sequence[str] = ()
    node: str | None = "20.20.2"

    def __call__(self, *arguments: str, **environment: str | None) -> Result:
        with ExitStack() as stack:
            for (module, name), stand_in in self.stand_ins().items():
                stack.enter_context(patch.object(module, name, stand_in))
            shell = {**UNSET, **KEY, **self.shell(), **environment}
            return CliRunner().invoke(deploy.main, arguments, env=shell, input=self.answer)

    def stand_ins(self) -> dict[tuple[Any, str], Any]:
        """What takes the place of a name in a module."""
        return {
            **{(deploy, name): self.reader(name) for name in READERS},
            (deploy, "ServerlessDevs"): partial(Command, account=self.account),
            (deploy, "read_version"): lambda *_: self.node,
            (tasks, "build_layer"): Mock(),
        }

    def shell(self) -> dict[str, str]:
        """Further variables."""
        return {"HOME": str(self.home)}

    def reader(self, name: str) -> Any:
        """One of the readers, or what it is if a service refuses it."""
        refusal = ConfigurationError("403 AccessDenied; check the rights.")
        return Mock(side_effect=refusal) if name in self.unreadable else getattr(self.account, name)

    def settings(self, region: str = "cn-hangzhou", function: str = SWEEP) -> dict[str, str]:
        """The variables of a deployed function."""
        variables: dict[str, str] = self.account.place(region).functions[function][
            "environmentVariables"
        ]
        return variables

    def sweep_size(self) -> tuple[float, int]:
        """The vCPU and MB of the sweep function in cn-hangzhou."""
        sweep = self.account.place().functions[SWEEP]
        return sweep["cpu"], sweep["memorySize"]


@cache
def parse(text: str) -> dict[str, Any]:
    """The template of this text: to parse it takes longer than all the rest."""
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def resolve(environment: Mapping[str, str]) -> dict[str, Any]:
    """The resources of the template in the current folder, for the account of the key."""
    key = json.loads(environment.get(ALIAS, "{}"))
    text = Path("template.yaml").read_text("utf-8")
    account = key.get("AccountID", ACCOUNT)
    resources: dict[str, Any] = resolved_document(parse(text), environment, account=account)[
        "resources"
    ]
    return resources


def as_function(props: Props | None) -> Function | None:
    """A function as the service returns it."""
    if props is None:
        return None
    layers = [{"arn": each} for each in props["layers"]]
    return Function(
        {**props, "role": props["role"].lower(), "layers": layers},
        {each["triggerName"]: each for each in props["triggers"]},
        props["asyncInvokeConfig"],
        props["concurrencyConfig"],
    )


def find_update(before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    """Why the stack cannot be updated: no property of a stack group can be.

    https://www.alibabacloud.com/help/en/ros/developer-reference/aliyun-ros-stackgroup
    """
    for name, made in after.items():
        if made["Type"] in (GROUP, INSTANCES) and made != before.get(name, made):
            return f"{name}: no property of {made['Type']} can be updated"
    return None


def list_steps(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """What a deployment of the stack does for other accounts."""
    had, has = ({each["Type"] for each in made.values()} for made in (before, after))
    ordered = (INSTANCES, GROUP, RULE)
    created = [f"create {each}" for each in ordered if each in has - had]
    return ["stack", *(f"remove {each}" for each in ordered if each in had - has), *created]
