"""Function Compute's door: an event of the audit trail comes in, its outcome goes out.

settings, credentials ─▶ process_payload ─▶ one log line each ─▶ JSON, or an exception that
                                                                 makes the platform retry
"""

from __future__ import annotations

from typing import Any

from encryption_guard.enforcement.handler import open_invocation, process, result, shared_transport
from encryption_guard.enforcement.telemetry import open_logger


def initialize(context: Any) -> None:  # noqa: ARG001  the platform's signature
    """Build what the first event would wait for; the handler works without it."""
    open_logger()
    shared_transport()


def handler(event: object, context: Any) -> str:
    """Process one event, or an array of them, and return the outcome as JSON.

    Raises what was left unfinished, so that the platform delivers the payload again.
    """
    with open_logger().append_context_keys(request_id=context.request_id):
        invocation = open_invocation(context)
        processed = process(event, invocation, context)
        if invocation.settings.audit_tables:
            # Only few events need it, and it costs time to load.
            from encryption_guard.sweep.function import look_for_gaps

            look_for_gaps(processed.outcomes, invocation, context)
        return result(processed)
