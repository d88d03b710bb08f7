"""Compose one invocation, for the `index.py` of a function and for a command of an operator.

An instance reuses its connections and settings for all invocations. Each invocation has its own
credentials, clock and deadline.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters, put_into_queue
from encryption_guard.enforcement import (
    Outcome,
    Processed,
    keep_members,
    needs_table_audit,
    process_payload,
)
from encryption_guard.enforcement.telemetry import log_outcome, open_logger
from encryption_guard.errors import ConfigurationError
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings, unknown_names

shared_transport = functools.cache(open_transport)
# The keys of member accounts stay in the memory of the instance.
shared_members = functools.cache(keep_members)


@functools.cache
def warn_of_unknown_names() -> None:
    """Log each misspelt GUARD_* variable, once in this instance, also if another one is wrong."""
    for name, advice in unknown_names().items():
        open_logger().warning("setting ignored", detail=f"{name} is not a setting. {advice}")


@functools.cache
def read_settings(account_id: str, region: str) -> Settings:
    """Read the settings of this instance, and log each invalid exemption once."""
    warn_of_unknown_names()
    settings = Settings.from_environment(account_id=account_id, region=region)
    for error in settings.exemption_errors:
        open_logger().error("exemption dropped", detail=error)
    return settings


@functools.cache
def open_proxied_transport() -> DeadlineTransport:
    """Return a transport that uses the proxy of the environment."""
    return _through_proxy(shared_transport())


def _through_proxy(transport: DeadlineTransport) -> DeadlineTransport:
    # Only an instance that trusts a proxy needs this import.
    from encryption_guard.http.proxies import with_environment_proxy

    return with_environment_proxy(transport)


def open_invocation(context: Any) -> Invocation:
    """Return an invocation of a function, which ends at the function's time-out.

    Raises ConfigurationError if a setting is wrong.
    """
    settings = read_settings(context.account_id, context.region)
    invocation = _compose(
        open_proxied_transport() if settings.trust_env else shared_transport(),
        settings,
        seconds=context.function.timeout,
        read_credentials=functools.partial(Credentials.read, context),
    )
    return invocation._replace(request_id=context.request_id)


@contextmanager
def open_command(settings: Settings, *, seconds: float) -> Iterator[Invocation]:
    """Yield an invocation for a command, with the credentials of the shell; close its connections.

    Raises ConfigurationError if an exemption is wrong, or if the proxy cannot be used.
    """
    if settings.exemption_errors:
        # A function has to work without the entry; an operator can correct it before anything ends.
        raise ConfigurationError(" ".join(settings.exemption_errors))
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
    """Return a writer for the dead letters of a function's invocation."""
    return DeadLetters(
        put=functools.partial(put_into_queue, invocation),
        log_error=open_logger().error,
        function=invocation.settings.function_name or context.function.name,
        function_request_id=context.request_id,
        now=invocation.clock.now,
    )


def process(event: object, invocation: Invocation, context: Any) -> Processed:
    """Process one event or an array of events, and log one line for each."""
    audits_tables = invocation.settings.audits_late
    return process_payload(
        event,
        invocation=invocation,
        tables=OssTables(invocation),
        dead_letters=open_dead_letters(invocation, context),
        report=functools.partial(log_outcome, logger=open_logger(), audits_tables=audits_tables),
        members=shared_members(),
    )


def to_audit(outcomes: Iterable[Outcome], settings: Settings) -> tuple[Outcome, ...]:
    """Return the outcomes of buckets whose tables have to be checked; none without an audit."""
    return tuple(filter(needs_table_audit, outcomes)) if settings.audits_late else ()


def result(processed: Processed) -> str:
    """Return the outcomes as JSON; raise if an event is unfinished: the platform then retries."""
    processed.raise_failures()
    outcomes = [outcome.as_dict() for outcome in processed.outcomes]
    return json.dumps(outcomes if processed.is_array else outcomes[0])
