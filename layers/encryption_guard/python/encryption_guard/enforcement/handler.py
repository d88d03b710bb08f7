"""What a function's `index.py` and an operator's command call: one invocation, composed here.

Connections and settings last from one invocation of an instance to the next; credentials, the clock
and the time that is left never do.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.enforcement import Processed, process_payload
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings

shared_transport = functools.cache(open_transport)


@functools.cache
def read_settings(account_id: str, region: str) -> Settings:
    """The settings of this instance; what is wrong with an exemption is logged, once."""
    settings = Settings.from_environment(account_id=account_id, region=region)
    log_exemption_errors(settings)
    return settings


def log_exemption_errors(settings: Settings, stream: IO[str] | None = None) -> None:
    """Write a line for each entry of GUARD_EXEMPTIONS that does not count."""
    for sentence in settings.exemption_errors:
        open_logger(stream).error("exemption dropped", detail=sentence)


@functools.cache
def open_proxied_transport() -> DeadlineTransport:
    """The transport of an instance that trusts its environment's proxy."""
    return _through_proxy(shared_transport())


def _through_proxy(transport: DeadlineTransport) -> DeadlineTransport:
    from encryption_guard.http.proxies import trusting_environment  # only who asks for it needs it

    return trusting_environment(transport)


def open_invocation(context: Any) -> Invocation:
    """What one invocation of a function may use, until the function's time-out.

    Raises ConfigurationError for a wrong setting.
    """
    settings = read_settings(context.account_id, context.region)
    return _compose(
        open_proxied_transport() if settings.trust_env else shared_transport(),
        settings,
        seconds=context.function.timeout,
        read_credentials=functools.partial(Credentials.read, context),
    )


@contextmanager
def open_command(settings: Settings, *, seconds: float) -> Iterator[Invocation]:
    """What one command may use: its shell's credentials, and connections that it closes.

    Raises ConfigurationError for a proxy that cannot be used.
    """
    log_exemption_errors(settings, sys.stderr)
    direct = open_transport()
    with _through_proxy(direct) if settings.trust_env else direct as transport:
        yield _compose(
            DeadlineTransport(transport),
            settings,
            seconds=seconds,
            read_credentials=Credentials.read,
        )


def _compose(
    transport: DeadlineTransport,
    settings: Settings,
    *,
    seconds: float,
    read_credentials: Callable[[], Credentials],
) -> Invocation:
    clock = Clock()
    budget = TimeBudget(clock.monotonic() + seconds, clock)
    return Invocation(transport, settings, read_credentials, budget, clock)


def open_dead_letters(invocation: Invocation, context: Any) -> DeadLetters:
    """What writes the dead letters of a function's invocation."""
    return DeadLetters(
        put=functools.partial(put_into_queue, invocation),
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
        report=functools.partial(log_outcome, logger=open_logger()),
    )


def result(processed: Processed) -> str:
    """What the function returns; raises what was left unfinished, so that the platform retries."""
    processed.raise_failures()
    outcomes = [outcome.as_dict() for outcome in processed.outcomes]
    return json.dumps(outcomes if processed.is_array else outcomes[0])
