"""The services of a region in the emulated account, as somebody with a key can ask them.

Forms as the vendor's SDKs have them (`alibabacloud_fc20230330` 4.8.3 and `_ros20190910` 3.7.0).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.emulators.access_keys import AccessKey
from tests.emulators.function_compute_api import Deployed, FunctionComputeApi
from tests.emulators.stacks_api import KeptStack, StacksApi


@contextmanager
def services(
    key: AccessKey, region: str, place: Mapping[str, Any]
) -> Iterator[tuple[FunctionComputeApi, StacksApi]]:
    """Function Compute and Resource Orchestration Service with what is in this region."""
    functions = {name: deployed(props) for name, props in place["functions"].items()}
    stacks = [
        KeptStack(name, kept.get("template", {}), kept.get("parameters", {}))
        for name, kept in place["stacks"].items()
    ]
    with (
        FunctionComputeApi(
            key, functions={}, region=region, deployed=functions
        ) as function_compute,
        StacksApi(key, *stacks, region=region) as orchestration,
    ):
        yield function_compute, orchestration


def deployed(props: Mapping[str, Any]) -> Deployed:
    """What Function Compute tells of a function that fc3 made of these properties."""
    triggers = {each["triggerName"]: _trigger(each) for each in props.get("triggers", ())}
    elsewhere = {"region", "code", "triggers", "asyncInvokeConfig", "concurrencyConfig"}
    settings = {name: value for name, value in props.items() if name not in elsewhere}
    settings |= {
        "layers": [{"arn": arn, "size": 1} for arn in props.get("layers", ())],
        "tags": [{"Key": tag["key"], "Value": tag["value"]} for tag in props.get("tags", ())],
        # It tells more than what fc3 sent.
        "instanceConcurrency": 1,
        "internetAccess": True,
        "state": "Active",
    }
    return Deployed(
        {"environmentVariables": {}, **settings},
        triggers,
        {"asyncTask": False, **props.get("asyncInvokeConfig", {})},
        _never,
        props.get("concurrencyConfig"),
    )


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    config = json.dumps(trigger["triggerConfig"])
    return {**trigger, "triggerConfig": config, "qualifier": "LATEST", "status": "Enabled"}


def _never(_event: bytes) -> Any:
    raise AssertionError("nobody invokes it through this door")
