"""The services of a region in the emulated account, as somebody with a key can ask them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tests.emulators.access_keys import AccessKey
from tests.emulators.function_compute_api import FunctionComputeApi, deployed
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
