"""What template.yaml deploys, as far as it can be asked for afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tests.emulators.template import properties, resolved


@dataclass(frozen=True)
class Function:
    """One function, as it should be there."""

    name: str
    role: str
    on_failure: str
    # Of EventBridge's trigger: its name and its pattern.
    trigger: str | None
    pattern: Mapping[str, Any]


@dataclass(frozen=True)
class Expected:
    """The deployment of one region; its functions by the template's names."""

    functions: Mapping[str, Function]
    queue: str


def expected(*, region: str, account: str) -> Expected:
    """What the template says for this region and account, all else at its default."""
    template = resolved({"ALIBABA_CLOUD_REGION": region}, account=account)
    functions = {
        name: _function(resource["props"])
        for name, resource in template["resources"].items()
        if resource["component"] == "fc3"
    }
    return Expected(functions, properties(template, "DeadLetterQueue")["QueueName"])


def _function(props: Mapping[str, Any]) -> Function:
    (trigger,) = props["triggers"]
    by_events = trigger["triggerType"] == "eventbridge"
    return Function(
        name=props["functionName"],
        # Serverless Devs makes it so.
        role=props["role"].lower(),
        on_failure=props["asyncInvokeConfig"]["destinationConfig"]["onFailure"]["destination"],
        trigger=trigger["triggerName"] if by_events else None,
        pattern=json.loads(trigger["triggerConfig"]["eventRuleFilterPattern"]) if by_events else {},
    )
