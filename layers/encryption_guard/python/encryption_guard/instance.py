"""One instance of a function: what lasts from one invocation to the next, and what does not.

Connections and settings last; credentials, the clock and the time that is left never do.
"""

from __future__ import annotations

import functools
import json
from typing import Any

from encryption_guard.config import Credentials, Settings
from encryption_guard.dead_letters import DeadLetters, open_destination
from encryption_guard.enforcement import Processed, process_payload
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.oss_tables import OssTables
from encryption_guard.telemetry import open_logger, report

shared_transport = functools.cache(open_transport)


@functools.cache
def read_settings(account_id: str, region: str) -> Settings:
    """The settings of this instance; what is wrong with an exemption is logged, once."""
    settings = Settings.from_environment(account_id=account_id, region=region)
    for sentence in settings.exemption_errors:
        open_logger().error("exemption dropped", detail=sentence)
    return settings


@functools.cache
def open_proxied_transport() -> DeadlineTransport:
    """The transport of an instance that trusts its environment's proxy."""
    from encryption_guard.http.proxies import trusting_environment  # only who asks for it needs it

    return trusting_environment(shared_transport())


def open_invocation(context: Any) -> Invocation:
    """What one invocation may use, until the function's time-out.

    Raises ConfigurationError for a wrong setting.
    """
    clock = Clock()
    budget = TimeBudget(clock.monotonic() + context.function.timeout, clock)
    settings = read_settings(context.account_id, context.region)
    return Invocation(
        transport=open_proxied_transport() if settings.trust_env else shared_transport(),
        settings=settings,
        read_credentials=functools.partial(Credentials.read, context),
        budget=budget,
        clock=clock,
    )


def open_dead_letters(invocation: Invocation, context: Any) -> DeadLetters:
    """What writes the dead letters of this invocation."""
    return DeadLetters(
        put=open_destination(invocation),
        log_error=open_logger().error,
        function=invocation.settings.function_name or context.function.name,
        function_request_id=context.request_id,
        now=invocation.clock.now,
    )


def process(event: object, invocation: Invocation, context: Any) -> Processed:
    """Process one event, or an array of them, with a log line for each."""
    return process_payload(
        event,
        invocation=invocation,
        tables=OssTables(invocation),
        dead_letters=open_dead_letters(invocation, context),
        report=functools.partial(report, logger=open_logger()),
    )


def result(processed: Processed) -> str:
    """What the function returns; raises what was left unfinished, so that the platform retries."""
    processed.raise_failures()
    outcomes = [outcome.as_dict() for outcome in processed.outcomes]
    return json.dumps(outcomes if processed.is_array else outcomes[0])
