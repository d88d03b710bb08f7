"""A misspelt key of the template is found, wherever it stands."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from layers.encryption_guard.tools import preflight, template_keys
from layers.encryption_guard.tools.template_keys import (
    ANY_KEY,
    ANY_NAME,
    BY,
    find_unknown_keys,
    read_keys,
    read_resources,
)
from tests.emulators.cloud import ACCOUNT, REPOSITORY
from tests.emulators.template import resolved

Props = dict[str, Any]
FUNCTIONS = ("sweep", "encrypt_on_create")
STACK = "template.Resources"


@pytest.fixture
def resources() -> dict[str, Props]:
    """The props of each resource, as Serverless Devs resolves the template."""
    every = deepcopy(resolved(account=ACCOUNT)["resources"])
    return {name: resource["props"] for name, resource in every.items()}


def at(node: Any, path: str) -> Any:
    """What stands at this place."""
    for part in path.split(".") if path else []:
        node = node[int(part)] if isinstance(node, list) else node[part]
    return node


def unknown_in(name: str, props: Props) -> list[str]:
    """The paths of the unknown keys of a resource."""
    return [key.path for key in find_unknown_keys("ros" if name == "infra" else "fc3", props)]


def places(node: Any, known: Any, path: tuple[str, ...] = ()) -> Iterator[str]:
    """Every place whose keys are listed: there, no other key may stand."""
    if isinstance(node, list):
        for number, each in enumerate(node):
            yield from places(each, known, (*path, str(number)))
    elif isinstance(node, dict) and known != ANY_KEY:
        if ANY_NAME not in known:
            yield ".".join(path)
        for key, value in node.items():
            tree = known.get(key, known.get(ANY_NAME, ANY_KEY))
            if tree != ANY_KEY and next(iter(tree), "").startswith(BY):
                ((by, trees),) = tree.items()
                tree = trees[node[by.removeprefix(BY)]]
            yield from places(value, tree, (*path, key))


def test_every_key_of_the_template_is_known(resources: dict[str, Props]) -> None:
    """Neither the functions nor the stack have a key that is not listed."""
    assert {name: unknown_in(name, props) for name, props in resources.items()} == {
        "infra": [],
        "sweep": [],
        "encrypt_on_create": [],
    }
    assert preflight.check_keys(resources) == []


def test_every_type_of_the_stack_is_listed(resources: dict[str, Props]) -> None:
    """Of another type nothing would be checked."""
    listed = at(read_keys("ros"), f"{STACK}.*.Properties.by Type")

    assert {each["Type"] for each in at(resources["infra"], STACK).values()} == set(listed)


@pytest.mark.parametrize(
    ("name", "place", "key", "misspelt"),
    [
        ("encrypt_on_create", "", "memorySize", "memory_size"),
        ("encrypt_on_create", "asyncInvokeConfig", "destinationConfig", "destinationsConfig"),
        ("sweep", "tags.1", "value", "values"),
        ("sweep", "triggers.0.triggerConfig", "cronExpression", "cronExpresion"),
        ("encrypt_on_create", "triggers.0.triggerConfig", "triggerEnable", "enable"),
        ("infra", "", "template", "templates"),
        ("infra", f"{STACK}.ErrorsLogged.Properties.Detail.Schedule", "Interval", "Intervall"),
        ("infra", f"{STACK}.LogStore.Properties", "TTL", "Ttl"),
    ],
)
def test_a_misspelt_key_is_found(
    resources: dict[str, Props], name: str, place: str, key: str, misspelt: str
) -> None:
    """It is named with its place; of a trigger, only the keys of its own type are known."""
    node = at(resources[name], place)
    node[misspelt] = node.pop(key)

    (unknown,) = find_unknown_keys("ros" if name == "infra" else "fc3", resources[name])

    assert unknown.path == f"{place}.{misspelt}".lstrip(".")
    assert unknown.similar in (key, "triggerEnable")


@pytest.mark.parametrize("name", ["infra", *FUNCTIONS])
def test_an_unknown_key_is_found_at_every_place(resources: dict[str, Props], name: str) -> None:
    """There is no place with listed keys that is not looked at."""
    props = resources[name]
    found = list(places(props, read_keys("ros" if name == "infra" else "fc3")))

    assert len(found) > 10
    for place in found:
        node = at(props, place)
        if len(node) == 1 and next(iter(node)).startswith(("Fn::", "Ref")):
            continue
        node["Zzz"] = 1
        assert unknown_in(name, props) == [f"{place}.Zzz".lstrip(".")]
        del node["Zzz"]


FREE: list[tuple[str, Callable[[Props], Props]]] = [
    ("sweep", lambda props: props["environmentVariables"]),
    ("infra", lambda props: props["parameters"]),
    ("infra", lambda props: at(props, f"{STACK}.DeadLettersWaiting.Properties.Resources.0")),
    ("infra", lambda props: props["template"]["Conditions"]),
]


@pytest.mark.parametrize(("name", "free"), FREE)
def test_a_free_map_has_any_key(
    resources: dict[str, Props], name: str, free: Callable[[Props], Props]
) -> None:
    """The author of the template chooses the names there."""
    free(resources[name])["ANY_NAME"] = {"of": "any depth"}

    assert unknown_in(name, resources[name]) == []


def test_a_resource_has_any_name(resources: dict[str, Props]) -> None:
    """Its properties are checked all the same."""
    queue = {"Type": "ALIYUN::MNS::Queue", "Properties": {"QueName": "other"}}
    at(resources["infra"], STACK)["Another"] = queue

    assert unknown_in("infra", resources["infra"]) == [f"{STACK}.Another.Properties.QueName"]


@pytest.mark.parametrize("kind", [None, "kafka", ["timer"]])
def test_a_type_that_is_not_listed_is_not_checked(resources: dict[str, Props], kind: Any) -> None:
    """`s verify` and the service know the types."""
    resources["sweep"]["triggers"][0] = {"triggerType": kind, "triggerConfig": {"a": 1}}
    at(resources["infra"], STACK)["Another"] = {"Type": kind, "Properties": {"a": 1}}

    assert unknown_in("sweep", resources["sweep"]) == []
    assert unknown_in("infra", resources["infra"]) == []


def test_functions_stand_for_what_they_return(resources: dict[str, Props]) -> None:
    """A function is no key, and both values of an Fn::If have the keys of their place."""
    detail = at(resources["infra"], f"{STACK}.ErrorsLogged.Properties.Detail")
    detail["Name"] = {"Fn::Join": ["-", ["a", {"Ref": "ActionPolicy"}]]}
    detail["Schedule"] = {"Fn::If": ["AuditTables", {"Interval": "1m"}, {"Intervall": "5m"}]}

    (path,) = unknown_in("infra", resources["infra"])

    assert path.endswith("Detail.Schedule.1.Intervall")


@pytest.mark.parametrize("key", ["Ref", "Fn::If"])
def test_a_function_of_fc3_has_no_functions(key: str) -> None:
    """Only a stack has them."""
    assert unknown_in("sweep", {"logConfig": {key: ["a", {}, {}]}}) == [f"logConfig.{key}"]


def test_a_value_has_no_keys() -> None:
    """A number or a text has none, so each is unknown; a text instead of keys is not judged."""
    (unknown,) = find_unknown_keys("fc3@0.1.22", {"timeout": {"seconds": 5}, "logConfig": "auto"})

    assert str(unknown) == "timeout.seconds is unknown"


# The command of `make check`.


def checked(file: Path, text: str) -> tuple[int, str]:
    """How it ends for a template with this text, and what it prints."""
    file.write_text(text, "utf-8")
    result = CliRunner().invoke(template_keys.main, [str(file)])
    return result.exit_code, result.output.replace(str(file), "template.yaml")


def test_the_command_needs_no_variables(tmp_path: Path) -> None:
    """It reads the template as it is written."""
    text = (REPOSITORY / "template.yaml").read_text("utf-8")
    file = tmp_path / "template.yaml"

    assert checked(file, text) == (0, "template.yaml: every key is known\n")
    assert checked(file, text.replace(" Interval:", " Intervall:", 1)) == (
        1,
        f"template.yaml: infra: {STACK}.ErrorsLogged.Properties.Detail.Schedule.Intervall "
        "is unknown; did you mean Interval?\n",
    )


def test_the_template_of_a_stack_alone_is_read_too(tmp_path: Path) -> None:
    """That of another account."""
    text = (REPOSITORY / "layers" / "encryption_guard" / "member.yaml").read_text("utf-8")
    file = tmp_path / "template.yaml"

    assert checked(file, text) == (0, "template.yaml: every key is known\n")
    assert checked(file, text.replace(" RoleName: {Ref", " RolName: {Ref", 1)) == (
        1,
        "template.yaml: stack: template.Resources.Role.Properties.RolName is unknown; "
        "did you mean RoleName?\n",
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", "it is no template"),
        ("a: 1", "it is no template"),
        ("[]", "it is no template"),
        ("resources: []", "it is no template"),
        ("resources: {a: {component: fc3}}", "it is no template"),
        ("resources: {a: {component: fc, props: {}}}", "a: there is no list of the keys of fc"),
    ],
)
def test_what_is_no_template_is_not_taken_for_one(tmp_path: Path, text: str, said: str) -> None:
    """The command never says that every key of it is known."""
    with pytest.raises(ValueError, match=said):
        read_resources(text)
    code, output = checked(tmp_path / "template.yaml", text)

    assert code == 2
    assert said in " ".join(output.split())


def test_make_check_runs_it() -> None:
    """Before a commit, not only before a deployment."""
    makefile = (REPOSITORY / "Makefile").read_text("utf-8")

    for template in ("template.yaml", "$(LAYER)/member.yaml"):
        assert f"\t$(BIN)/python -m $(TOOLS).template_keys {template}\n" in makefile
