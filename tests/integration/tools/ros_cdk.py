"""What the official ROS CDK says about resources: the keys of their types, and every fault.

A program of its own, because importing the CDK starts Node.js, which prints warnings about its own
version. It reads a question from standard input, `{"types": [TYPE], "stacks": {NAME: RESOURCES}}`,
and prints the answer, `{"keys": {TYPE: TREE}, "faults": {NAME: [FAULT]}}`. The trees are those of
ros_keys.json. The CDK does not look into a function, so those that can be evaluated are evaluated.
"""

from __future__ import annotations

import json
import sys
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from layers.encryption_guard.tools.template_keys import ANY_KEY, ANY_NAME

Resources = Mapping[str, Any]
# The place of a key: the keys that lead to it, and itself.
Place = tuple[str, ...]
# Every value may also be an object that the CDK resolves.
RESOLVABLE = {"fqn": "@alicloud/ros-cdk-core.IResolvable"}


class UnknownType(Exception):
    """A resource type that no installed package of the CDK describes."""


@dataclass(frozen=True)
class ResourceType:
    """A type as the CDK describes it: its class, its keys, and the CDK's name of each key."""

    create: Callable[..., object]
    keys: Any
    names: Mapping[Place, str]


@cache
def read_descriptions(service: str) -> Mapping[str, Any]:
    """Return the type descriptions in the package of a service: its jsii assembly.

    https://github.com/aws/jsii/blob/main/packages/@jsii/spec/src/assembly.ts describes it.
    """
    try:
        files = distribution(f"ros-cdk-{service}").files or []
    except PackageNotFoundError:
        return {}
    (package,) = [file for file in files if file.name.endswith(".jsii.tgz")]
    with tarfile.open(str(package.locate())) as archive:
        assembly = archive.extractfile("package/.jsii")
        types: Mapping[str, Any] = json.load(assembly)["types"] if assembly else {}
    return types


@cache
def describe(resource_type: str) -> ResourceType:
    """Describe a type by writing a resource with every key that its description has.

    The CDK has its own names (`ttl`, `identity`), and only what it writes shows how a template
    spells them (`TTL`, `Id`).
    """
    _, service, name = resource_type.split("::")
    types = read_descriptions(service.lower())
    kind = {"fqn": f"@alicloud/ros-cdk-{service.lower()}.Ros{name}Props"}
    if kind["fqn"] not in types:
        raise UnknownType(resource_type)
    create = getattr(import_module(f"ros_cdk_{service.lower()}"), f"Ros{name}")
    whole = write({"whole": (create, fill(kind, types))})["whole"]
    return ResourceType(create, list_keys(whole), dict(match_names(whole)))


def fill(kind: Mapping[str, Any], types: Mapping[str, Any], place: Place = ()) -> Any:
    """Return a value of this kind with every key; below the last one is a reference to its place.

    A validator accepts every reference, whatever the allowed values are.
    """
    if "union" in kind:
        (kind,) = [each for each in kind["union"]["types"] if each != RESOLVABLE]
    if kind.get("fqn") in types:
        properties = [(each["name"], each["type"]) for each in types[kind["fqn"]]["properties"]]
        return {name: fill(inner, types, (*place, name)) for name, inner in properties}
    match kind.get("collection"):
        case {"kind": "array", "elementtype": element}:
            return [fill(element, types, place)]
        case {"kind": "map"}:
            return {"Ref": ".".join((*place, ANY_NAME))}
    return as_token({"Ref": ".".join(place)})


def as_token(function: Mapping[str, Any]) -> object:
    """Return a function of a template as the CDK takes it; it refuses a plain mapping."""
    token: object = import_module("ros_cdk_core").Token.as_any(function)
    return token


def is_function(node: object) -> bool:
    """Tell whether a node is a function of a template, as the CDK recognizes it."""
    names = list(node) if isinstance(node, dict) else []
    return len(names) == 1 and (names == ["Ref"] or names[0].startswith("Fn::"))


def list_keys(whole: Any) -> Any:
    """Return the tree of the keys of a filled value as it is written."""
    if isinstance(whole, list):
        return list_keys(whole[0])
    if is_function(whole):
        return ANY_KEY if whole["Ref"].endswith(ANY_NAME) else {}
    return {key: list_keys(value) for key, value in whole.items()}


def match_names(whole: Any, place: Place = ()) -> Iterator[tuple[Place, str]]:
    """Yield the place of each key of a filled value as it is written, and the CDK's name of it."""
    if isinstance(whole, list):
        yield from match_names(whole[0], place)
    elif is_function(whole):
        names = whole["Ref"].split(".")
        yield from ((place[: depth + 1], names[depth]) for depth in range(len(place)))
    else:
        for key, value in whole.items():
            yield from match_names(value, (*place, key))


def write(created: Mapping[str, tuple[Callable[..., object], Any]]) -> dict[str, Any]:
    """Return the properties of resources as the CDK writes them into a template.

    Each resource is given by its class and its properties. Raises RuntimeError for a missing
    property or a value that the CDK refuses.
    """
    core = import_module("ros_cdk_core")
    with TemporaryDirectory() as folder:
        app = core.App(outdir=folder)
        stack = core.Stack(app, "stack")
        for name, (create, properties) in created.items():
            create(stack, name, properties, True)
        app.synth()
        written = json.loads(Path(folder, "stack.template.json").read_text("utf-8"))["Resources"]
    # The CDK leaves out properties of which each is empty, zero or false.
    return {name: resource.get("Properties", {}) for name, resource in written.items()}


def rename(node: Any, names: Mapping[Place, str], place: Place = ()) -> Any:
    """Return properties with the CDK's names; a key in a free mapping is the author's own."""
    if isinstance(node, list):
        return [rename(each, names, place) for each in node]
    if is_function(node):
        return as_token(node)
    if isinstance(node, dict):
        inner = [(key, value, (*place, key)) for key, value in node.items()]
        return {names.get(at, key): rename(value, names, at) for key, value, at in inner}
    return node


def find_unknown_keys(node: Any, known: Any, place: str) -> Iterator[str]:
    """Yield each key that the CDK would leave out without a word."""
    if known == ANY_KEY or is_function(node):
        return
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from find_unknown_keys(each, known, f"{place}.{number}")
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in known:
                yield from find_unknown_keys(value, known[key], f"{place}.{key}")
            else:
                yield f"{place}.{key} is unknown"


def find_faults(resources: Resources) -> list[str]:
    """Return the unknown types or keys; if there are none, what the CDK says of the values."""
    try:
        types = {name: describe(resource["Type"]) for name, resource in resources.items()}
    except UnknownType as unknown:
        return [f"{unknown} is an unknown type"]
    given = {name: resource["Properties"] for name, resource in resources.items()}
    unknown_keys = [
        fault
        for name, properties in given.items()
        for fault in find_unknown_keys(properties, types[name].keys, name)
    ]
    return unknown_keys or list(find_wrong_values(given, types))


def find_wrong_values(given: Mapping[str, Any], types: Mapping[str, ResourceType]) -> Iterator[str]:
    """Yield the first value that the CDK refuses, or the resources that it writes differently."""
    created = {
        name: (types[name].create, rename(properties, types[name].names))
        for name, properties in given.items()
    }
    try:
        written = write(created)
    except RuntimeError as error:
        yield str(error).partition("\nObject creation stack")[0]
        return
    for name, properties in given.items():
        if written[name] != properties:
            yield f"{name} is written as {written[name]}"


def main() -> None:
    """Answer the question."""
    question = json.load(sys.stdin)
    answer = {
        "keys": {each: describe(each).keys for each in question["types"]},
        "faults": {name: find_faults(stack) for name, stack in question["stacks"].items()},
    }
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
