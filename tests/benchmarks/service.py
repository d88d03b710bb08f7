"""The emulated OSS Tables in a process of its own, so that a client's CPU is the client's alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import certifi

from tests.benchmarks.case import ACCESS_KEY_ID, ACCESS_KEY_SECRET, ACCOUNT_ID, BUCKET
from tests.benchmarks.case import SECURITY_TOKEN as TOKEN
from tests.benchmarks.service_process import running
from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import RecordedRequest
from tests.emulators.faults import Delay, Fault
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority

KEY = AccessKey(ACCESS_KEY_ID, ACCESS_KEY_SECRET, ACCOUNT_ID, TOKEN)
# What may differ between two clients that do the same: when, and what nobody signs.
_TIME = "x-oss-date"
_SIGNED = ("content-md5", "content-type")


@dataclass(frozen=True)
class Seen:
    """What one of the two emulators has seen; a request it did not accept has another status."""

    connections: int
    requests: int
    kinds: frozenset[str]
    statuses: frozenset[int | None]
    # Of each bucket what was asked, in this order, and the status of the answer.
    asked: Mapping[str, tuple[str, ...]]
    encrypted: frozenset[str]


@dataclass(frozen=True)
class Service:
    """The emulators' addresses, and the line on which to ask what they have seen."""

    tls: str
    plain: str
    line: Connection

    def seen(self) -> tuple[Seen, Seen]:
        """Over TLS, and over plain HTTP."""
        self.line.send(None)
        over_tls, over_http = self.line.recv()
        return over_tls, over_http


@contextmanager
def running_service(
    trust: Path, buckets: Sequence[str] = (BUCKET,), *, tables: int = 0, delay: float = 0
) -> Iterator[Service]:
    """Start the process, which writes to `trust` its own authority and those of the public.

    The buckets are there from the beginning: not encrypted, unless each has so many tables. Over
    TLS an answer takes `delay` seconds.
    """
    with running(_serve, trust, buckets, tables, delay) as ((over_tls, over_http), line):
        yield Service(over_tls, over_http, line)


def trusted_authority(trust: Path) -> Authority:
    """One that clients trust beside those of the public, because to load all of them costs time."""
    authority = Authority()
    trust.write_bytes(Path(certifi.where()).read_bytes() + authority.pem)
    return authority


def _serve(
    line: Connection, trust: Path, buckets: Sequence[str], tables: int, delay: float
) -> None:
    authority = trusted_authority(trust)
    with OssTables(KEY, authority=authority) as over_tls, OssTables(KEY) as over_http:
        if delay:
            over_tls.faults.add(Fault(Delay(delay)))
        for name in buckets:
            for emulator in (over_tls, over_http):
                arn = emulator.plant(name, encryption="AES256" if tables else None)
                for number in range(tables):
                    emulator.plant_table(arn, "tables", f"table_{number}")
        line.send((over_tls.url, over_http.url))
        try:
            while True:
                line.recv()
                line.send((_seen(over_tls), _seen(over_http)))
        except EOFError:
            return


def _seen(emulator: OssTables) -> Seen:
    recorded = emulator.requests
    return Seen(
        connections=emulator.connections_accepted,
        requests=len(recorded),
        kinds=frozenset(_kind(request) for request in recorded),
        statuses=frozenset(request.status for request in recorded),
        asked=_asked(recorded),
        encrypted=frozenset(one.arn.name for one in emulator.buckets() if one.encryption),
    )


def _asked(recorded: Sequence[RecordedRequest]) -> dict[str, tuple[str, ...]]:
    asked = defaultdict(list)
    for request in recorded:
        asked[request.resource or ""].append(f"{request.method} {request.status}")
    return {name: tuple(requests) for name, requests in asked.items()}


def _kind(request: RecordedRequest) -> str:
    signed = sorted(
        f"{name}: {value}"
        for name, value in request.headers.items()
        if name in _SIGNED or (name.startswith("x-oss-") and name != _TIME)
    )
    return f"{request.method} {request.path} {signed} {request.body!r}"
