"""The request as the function sends it."""

from __future__ import annotations

from collections.abc import Callable

from encryption_guard.arn import TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, Invocation, TimeBudget
from encryption_guard.services.oss_tables import OssTables
from encryption_guard.settings import Settings
from tests.benchmarks.case import ARN


def open_put(endpoint: str) -> Callable[[], object]:
    """A client of this package; what the handler makes anew for an invocation is made anew."""
    transport = open_transport()
    settings = Settings.from_environment({"GUARD_OSS_TABLES_ENDPOINT": endpoint})
    clock = Clock()

    def put() -> object:
        invocation = Invocation(
            transport=transport,
            settings=settings,
            read_credentials=Credentials.read,
            budget=TimeBudget(clock.monotonic() + 60, clock),
            clock=clock,
        )
        return OssTables(invocation).put_encryption(TableBucketArn.parse(ARN), "AES256")

    return put
