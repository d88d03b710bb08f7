"""Whether what was deployed is there as template.yaml has it, and lives."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from encryption_guard.untrusted import object_or_empty
from layers.encryption_guard.tools.tasks import HARMLESS_EVENT
from tests.live.expected import Expected, Function
from tests.live.function_api import FunctionApi
from tests.live.observations import Check, Deployment, Told

HARMLESS_END = "skipped: not_relevant"


def look(api: FunctionApi, wanted: Expected) -> Deployment:
    """Ask for everything; nothing is decided here."""
    functions = wanted.functions
    by_events = {key: each for key, each in functions.items() if each.trigger}
    return Deployment(
        functions={key: api.get(each.name) for key, each in functions.items()},
        invocations={
            key: api.invoke(each.name, HARMLESS_EVENT.encode()) for key, each in functions.items()
        },
        triggers={
            key: api.get(each.name, f"/triggers/{each.trigger}") for key, each in by_events.items()
        },
        async_configs={
            key: api.get(each.name, "/async-invoke-config?qualifier=LATEST")
            for key, each in functions.items()
        },
    )


def checks(seen: Deployment, wanted: Expected) -> list[Check]:
    """One for each thing that has to be as the template has it."""
    found: list[Check] = []
    for key, function in wanted.functions.items():
        found.append(_role(seen.functions[key], function))
        found.append(_loads(seen.invocations[key], function))
        found.append(_on_failure(seen.async_configs[key], function))
        if key in seen.triggers:
            found.append(_enabled(seen.triggers[key], function))
            found.append(_pattern(seen.triggers[key], function))
    return found


def anything_there(seen: Deployment) -> bool:
    """Whether there is a function that could do the work."""
    return any(told.said.status != 404 for told in seen.functions.values())


def trigger_config(told: Told) -> Mapping[str, Any]:
    """Of a trigger: a JSON text on the wire."""
    return object_or_empty(told.fields.get("triggerConfig"))


def _role(told: Told, function: Function) -> Check:
    role = str(told.fields.get("role", ""))
    return Check(
        f"{function.name} has the role of the template",
        told.said.done and role.lower() == function.role.lower(),
        role.rpartition("/")[2] or str(told.said),
    )


def _loads(told: Told, function: Function) -> Check:
    end = f"{told.fields.get('outcome')}: {told.fields.get('reason')}"
    well = told.said.done and end == HARMLESS_END
    what = f"{function.name} starts, its layer loads, and it skips a harmless event"
    return Check(what, well, end if told.fields.get("outcome") else str(told.said))


def _on_failure(told: Told, function: Function) -> Check:
    destinations = object_or_empty(told.fields.get("destinationConfig"))
    destination = object_or_empty(destinations.get("onFailure")).get("destination", "")
    return Check(
        f"{function.name} sends what failed to the dead-letter queue",
        told.said.done and destination == function.on_failure,
        str(destination).rpartition("/queues/")[2] or str(told.said),
    )


def _enabled(told: Told, function: Function) -> Check:
    enabled = trigger_config(told).get("triggerEnable")
    return Check(
        f"the trigger {function.trigger} is there and enabled",
        told.said.done and enabled is True,
        f"triggerEnable: {json.dumps(enabled)}" if told.said.done else str(told.said),
    )


def _pattern(told: Told, function: Function) -> Check:
    same = object_or_empty(trigger_config(told).get("eventRuleFilterPattern")) == function.pattern
    seen = "the template's" if same else "another one"
    return Check(
        f"the trigger {function.trigger} has the pattern of the template",
        told.said.done and same,
        seen if told.said.done else str(told.said),
    )
