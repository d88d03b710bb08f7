"""Function Compute's entry point for events of the audit trail.

settings, credentials ─▶ process_payload ─▶ one log line per event ─▶ JSON, or an exception that
                                                                      makes the platform retry
"""

from __future__ import annotations

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


def initialize(context: Any) -> None:  # noqa: ARG001  the platform passes it
    """Open the logger and the transport in advance; otherwise, the first event opens them."""
    open_logger()
    shared_transport()


def handler(event: object, context: Any) -> str:
    """Process one event or an array of events, and return the outcomes as JSON.

    Raises an exception if an event is unfinished, so that the platform delivers the payload again.
    """
    with open_logger().append_context_keys(request_id=context.request_id):
        invocation = open_invocation(context)
        processed = process(event, invocation, context)
        if late := to_audit(processed.outcomes, invocation.settings):
            # Only the audit of tables needs this import, which takes time.
            from encryption_guard.sweep.late_audit import audit_tables

            audit_tables(
                late,
                invocation=invocation,
                dead_letters=open_dead_letters(invocation, context),
                logger=open_logger(),
                members=shared_members(),
            )
        return result(processed)
