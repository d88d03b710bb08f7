"""Compare the resolved template with what is deployed in a region (`make plan`).

Only what the template states is compared, because the services return more than that. Exceptions
are the variables of a function and the stack's own template: a deployment replaces these.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from math import isclose
from pathlib import Path
from typing import Any, Final, NamedTuple

from encryption_guard.untrusted import as_object, object_or_empty
from layers.encryption_guard.tools.configuration import CONTENT

_LAYER = Path("layers", "encryption_guard")
_SOURCES: Final = (
    (_LAYER / "python" / "encryption_guard", "**/*"),
    (_LAYER, "requirements-*.txt"),
    *((_LAYER / "tools", f"{name}.py") for name in ("authorities", "build", "bytecode")),
    (Path("functions"), "*/*.py"),
)
MAX_SHOWN = 160
MISSING = "-"
# Of a resource of Serverless Devs, these are no properties of the function itself.
_ELSEWHERE = frozenset(
    {"region", "code", "triggers", "asyncInvokeConfig", "concurrencyConfig", "layers", "tags"}
)
# https://www.alibabacloud.com/help/en/resource-orchestration-service/latest/stack-management-update-a-stack
# lists the states in which a stack can be updated; of the final ones these are missing.
STUCK_STATES: Final = frozenset(
    {"CREATE_FAILED", "CREATE_ROLLBACK_COMPLETE", "CREATE_ROLLBACK_FAILED", "DELETE_FAILED"}
)


@dataclass(frozen=True)
class Stack:
    """A stack as Resource Orchestration Service returns it: its template, and its parameters.

    `reason` is the service's word for the state.
    """

    state: str
    template: Mapping[str, Any]
    parameters: Mapping[str, str]
    reason: str = ""

    @property
    def is_settled(self) -> bool:
        """Whether the last operation succeeded: the stack is what template and parameters say."""
        return self.state in ("CREATE_COMPLETE", "UPDATE_COMPLETE")


@dataclass(frozen=True)
class Function:
    """A function as Function Compute returns it; `triggers` has those of the template."""

    settings: Mapping[str, Any]
    triggers: Mapping[str, Mapping[str, Any]]
    async_config: Mapping[str, Any]
    concurrency: Mapping[str, Any]


@dataclass(frozen=True)
class Deployed:
    """What is deployed in a region; None for a part that does not exist."""

    stack: Stack | None
    functions: Mapping[str, Function | None]


class Difference(NamedTuple):
    """A property that a deployment would change, by its dotted path, and both texts."""

    path: str
    before: str
    after: str


def digest_content(repository: Path, version: str) -> str:
    """Return a digest of what the layer and both functions are built from.

    The guard's commands are not in the layer, so they do not count.
    """
    digest = sha256(version.encode())
    for folder, pattern in _SOURCES:
        for file in sorted((repository / folder).glob(pattern)):
            parts = file.relative_to(repository).parts
            if file.is_file() and not {"__pycache__", "cli", "__main__.py"} & {*parts}:
                digest.update(f"\0{'/'.join(parts)}\0".encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def compare(resources: Mapping[str, Any], deployed: Deployed) -> list[Difference]:
    """Return what a deployment of these resources would change."""
    functions = {name: resources[name] for name in deployed.functions}
    return [
        *_compare_stack(resources["infra"], deployed.stack),
        *(
            difference
            for name, props in functions.items()
            for difference in _compare_function(name, props, deployed.functions[name])
        ),
        *_compare_layers(deployed.functions),
    ]


def _compare_stack(props: Mapping[str, Any], stack: Stack | None) -> Iterator[Difference]:
    if stack is None:
        yield Difference("infra", MISSING, f"the stack {props['name']}")
        return
    template = props["template"]
    yield from _walk("infra", template, stack.template, exact=True)
    declared = template.get("Parameters", {})
    stated = {
        name: text
        for name, text in props.get("parameters", {}).items()
        # The service does not return it.
        if not declared[name].get("NoEcho")
    }
    yield from _walk("infra.parameters", stated, stack.parameters)


def _compare_function(
    name: str, props: Mapping[str, Any], function: Function | None
) -> Iterator[Difference]:
    if function is None:
        yield Difference(name, MISSING, f"the function {props['functionName']}")
        return
    settings, variables = dict(function.settings), dict(props["environmentVariables"])
    deployed_variables = dict(settings.pop("environmentVariables", {}))
    own = {key: value for key, value in props.items() if key not in _ELSEWHERE}
    del own["environmentVariables"]
    # fc3 converts role names to lower case.
    own["role"] = str(own["role"]).lower()
    before, after = deployed_variables.pop(CONTENT, None), variables.pop(CONTENT, None)
    yield from _walk(f"{name}.code and layer", after, before)
    yield from _walk(name, own, settings)
    yield from _walk(f"{name}.environmentVariables", variables, deployed_variables, exact=True)
    yield from _walk(f"{name}.tags", _tags(props["tags"]), _tags(settings.get("tags") or ()))
    yield from _walk(f"{name}.asyncInvokeConfig", props["asyncInvokeConfig"], function.async_config)
    yield from _walk(f"{name}.concurrencyConfig", props["concurrencyConfig"], function.concurrency)
    for trigger in props["triggers"]:
        path = f"{name}.triggers.{trigger['triggerName']}"
        found = function.triggers.get(trigger["triggerName"], {})
        yield from _walk(path, _parsed(trigger), _parsed(found))


def _compare_layers(functions: Mapping[str, Function | None]) -> Iterator[Difference]:
    """Find functions that use other versions of the layer; a deployment gives all the same."""
    used = {
        name: ", ".join(str(layer.get("arn")) for layer in function.settings.get("layers") or ())
        for name, function in functions.items()
        if function
    }
    if len(set(used.values())) > 1:
        for name, layers in used.items():
            yield Difference(f"{name}.layers", layers or MISSING, "the same version")


def _walk(path: str, after: Any, before: Any, *, exact: bool = False) -> Iterator[Difference]:
    """Find the values of `after` that differ in `before`; `exact`: also what only `before` has."""
    if isinstance(after, Mapping) and isinstance(before, Mapping):
        for key in [*after, *(key for key in before if exact and key not in after)]:
            yield from _walk(f"{path}.{key}", after.get(key), before.get(key), exact=exact)
    elif isinstance(after, list) and isinstance(before, list) and len(after) == len(before):
        for number, pair in enumerate(zip(after, before, strict=True)):
            yield from _walk(f"{path}.{number}", *pair, exact=exact)
    elif after != before and not _is_same_number(after, before):
        yield Difference(path, _shown(before), _shown(after))


def _is_same_number(after: Any, before: Any) -> bool:
    # A service may return a share of a vCPU in single precision: 0.05000000074505806.
    return type(after) is float and type(before) is float and isclose(after, before, rel_tol=1e-6)


def _shown(value: Any) -> str:
    if value is None:
        return MISSING
    is_plain = isinstance(value, str) and value
    text = value if is_plain else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."


def _tags(tags: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Return tags by their keys; the template writes `key`, and the service `Key`."""
    lowered = ({name.lower(): text for name, text in tag.items()} for tag in tags)
    return {str(tag["key"]): tag.get("value") for tag in lowered}


def _parsed(trigger: Mapping[str, Any]) -> dict[str, Any]:
    """Return a trigger with its JSON texts parsed: the service returns its configuration as one."""
    config = dict(object_or_empty(trigger.get("triggerConfig")))
    if pattern := as_object(config.get("eventRuleFilterPattern")):
        config["eventRuleFilterPattern"] = pattern
    return {**trigger, "triggerConfig": config}
