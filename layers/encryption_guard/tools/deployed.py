"""Read what is deployed in a region: the settings of both functions, and the dead letters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Final

import httpx

from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters.destinations import open_destination
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import GuardError
from encryption_guard.http import send
from encryption_guard.http.retries import server_times
from encryption_guard.invocation import Invocation
from encryption_guard.settings import FunctionArn, Settings
from layers.encryption_guard.tools import configuration
from layers.encryption_guard.tools.preflight import Access, Region

FUNCTION_NAMES: Final = ("oss-tables-encrypt-on-create", "oss-tables-encryption-sweep")
# For all requests about a region, retries included.
READ_SECONDS = 60.0
CLOCK_SECONDS = 5.0
# SMQ shows no more at once.
MAX_PEEKED = 16
# Settings of the shell for how requests are sent.
CONNECTION = (
    *("GUARD_FC_ENDPOINT", "GUARD_SMQ_ENDPOINT", "GUARD_TRUST_ENV"),
    *("GUARD_HTTP_TIMEOUT_SECONDS", "GUARD_MAX_ATTEMPTS"),
)


def read_deployed(
    access: Access, region: Region, environment: Mapping[str, str]
) -> dict[str, str] | None:
    """Read the settings of both deployed functions; None if only Serverless Devs has the key.

    Raises GuardError if the service does not return them.
    """
    if (credentials := access.credentials) is None:
        return None
    # fc2 is slow to import.
    from encryption_guard.services.function_compute import FunctionCompute

    with _opened(credentials, environment) as invocation:
        client = FunctionCompute(invocation)
        create, sweep = (
            client.read_function(FunctionArn(name, region.name, access.account_id)) or {}
            for name in FUNCTION_NAMES
        )
    return configuration.merge(*map(configuration.of_function, (create, sweep)))


def measure_clock(access: Access, region: Region, environment: Mapping[str, str]) -> float | None:
    """Return by how many seconds this machine's clock is ahead of the region's; None if unknown."""
    if access.credentials is None:
        return None
    with _opened(access.credentials, environment) as invocation:
        host = f"https://{access.account_id}.{region.name}.fc.aliyuncs.com"
        # Any answer has the time, also the refusal of a request without a signature.
        request = httpx.Request("GET", invocation.settings.fc_endpoint or host)
        until = invocation.clock.monotonic() + CLOCK_SECONDS
        try:
            answer = send(invocation.transport, request, until=until)
        except httpx.HTTPError:
            return None
        ahead = (invocation.clock.now() - at for at in server_times(answer))
        return next((difference.total_seconds() for difference in ahead), None)


def count_dead_letters(access: Access, queue: str, environment: Mapping[str, str]) -> str:
    """Say how many dead letters a queue shows: at most 16 of those that are visible."""
    if (credentials := access.credentials) is None:
        return "dead letters not counted"
    try:
        with _opened(credentials, environment, GUARD_DEAD_LETTER_QUEUE=queue) as invocation:
            number = len(open_destination(invocation).peek().messages)
    except GuardError:
        # Perhaps there is no queue, or no right to look into it: neither prevents a removal.
        return "dead letters not readable"
    if not number:
        return "no dead letter visible"
    words = "1 dead letter" if number == 1 else f"{number} dead letters"
    return f"{words} or more" if number >= MAX_PEEKED else words


@contextmanager
def _opened(
    credentials: Credentials, environment: Mapping[str, str], **settings: str
) -> Iterator[Invocation]:
    shell = {name: environment.get(name, "") for name in CONNECTION}
    with open_command(Settings.from_environment(shell | settings), seconds=READ_SECONDS) as opened:
        yield opened._replace(read_credentials=lambda: credentials)
