"""Function Compute's door: an event of the audit trail comes in, its outcome goes out.

settings, credentials ─▶ process_payload ─▶ one log line each ─▶ JSON, or an exception that
                                                                 makes the platform retry
"""

from __future__ import annotations

import functools
import json
from typing import Any

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters, open_destination
from encryption_guard.enforcement import process_payload
from encryption_guard.oss_tables import OssTables
from encryption_guard.telemetry import open_logger, report
from encryption_guard.transport import Clock, Invocation, TimeBudget, Transport

# What lasts from one invocation to the next: connections and settings, never credentials.
_transport = functools.cache(Transport)


@functools.cache
def _settings(account_id: str, region: str) -> Settings:
    settings = Settings.from_environment(account_id=account_id, region=region)
    for sentence in settings.exemption_errors:
        open_logger().error("exemption dropped", detail=sentence)
    return settings


def initialize(context: Any) -> None:  # noqa: ARG001  the platform's signature
    """Build what the first event would wait for; the handler works without it."""
    _transport()


def handler(event: object, context: Any) -> str:
    """Process one event, or an array of them, and return the outcome as JSON.

    Raises what was left unfinished, so that the platform delivers the payload again.
    """
    clock = Clock()
    budget = TimeBudget(clock.monotonic() + context.function.timeout, clock)
    logger = open_logger()
    with logger.append_context_keys(request_id=context.request_id):
        settings = _settings(context.account_id, context.region)
        invocation = Invocation(
            transport=_transport(),
            settings=settings,
            read_credentials=functools.partial(Credentials.read, context),
            budget=budget,
            clock=clock,
        )
        processed = process_payload(
            event,
            invocation=invocation,
            tables=OssTables(invocation),
            dead_letters=DeadLetters(
                put=open_destination(invocation),
                log_error=logger.error,
                function=settings.function_name or context.function.name,
                function_request_id=context.request_id,
                now=clock.now,
            ),
            report=functools.partial(report, logger=logger),
        )
        processed.raise_failures()
        outcomes = [outcome.as_dict() for outcome in processed.outcomes]
        return json.dumps(outcomes if processed.is_array else outcomes[0])
