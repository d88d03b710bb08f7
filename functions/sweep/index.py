"""Function Compute's entry point for the timer: check all table buckets, and encrypt if necessary.

timer ─▶ sweep of GUARD_SWEEP_REGIONS ─▶ one log line per relevant bucket ─▶ JSON: totals, problems,
                                                                             and unreached buckets

The handler also processes events of the audit trail, because an operator may redrive dead letters.
"""

from __future__ import annotations

import json
from typing import Any

from encryption_guard.enforcement.handler import (
    open_dead_letters,
    open_invocation,
    process,
    result,
    shared_members,
    shared_transport,
    to_audit,
)
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.sweep.function import holds_bucket_event, sweep
from encryption_guard.sweep.late_audit import audit_tables


def initialize(context: Any) -> None:  # noqa: ARG001  the platform passes it
    """Open the logger and the transport in advance; otherwise, the first sweep opens them."""
    open_logger()
    shared_transport()


def handler(event: object, context: Any) -> str:
    """Sweep and return the result as JSON; process an event instead if there is one.

    Raises ConfigurationError if a setting is wrong or credentials are missing. A bucket or region
    that cannot be swept is part of the result.
    """
    with open_logger().append_context_keys(request_id=context.request_id):
        invocation = open_invocation(context)
        if not holds_bucket_event(event):
            return json.dumps(sweep(invocation, context, event))
        processed = process(event, invocation, context)
        audit_tables(
            to_audit(processed.outcomes, invocation.settings),
            invocation=invocation,
            dead_letters=open_dead_letters(invocation, context),
            logger=open_logger(),
            members=shared_members(),
        )
        return result(processed)
