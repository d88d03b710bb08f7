"""Function Compute's door for the timer: every table bucket is looked at, and encrypted if need be.

timer ─▶ sweep of GUARD_SWEEP_REGIONS ─▶ one log line for each bucket that matters ─▶ JSON: totals,
                                                                 what is amiss, what was not reached

An event of the audit trail, as when one of its dead letters is redriven, is processed as the
creation function would.
"""

from __future__ import annotations

import json
from typing import Any

from encryption_guard.enforcement.handler import open_invocation, process, result, shared_transport
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.sweep.function import is_event, sweep


def initialize(context: Any) -> None:  # noqa: ARG001  the platform's signature
    """Build what the first sweep would wait for; the handler works without it."""
    open_logger()
    shared_transport()


def handler(event: object, context: Any) -> str:
    """Sweep, and return what was found as JSON; an event is processed instead.

    Raises ConfigurationError for a wrong setting or missing credentials; a bucket or region that
    cannot be swept is part of the result.
    """
    with open_logger().append_context_keys(request_id=context.request_id):
        invocation = open_invocation(context)
        if is_event(event):
            return result(process(event, invocation, context))
        return json.dumps(sweep(invocation, context))
