"""What a sweep asks, in a process of its own: canned answers, each so long after its request.

It has the service's form and none of its care: no signature is checked, no header but the scope of
the signature and the length of a body is read, and all buckets are encrypted alike, at first or by
a PUT. In return it costs so little that the clients, and not it, are measured; `bare_rate` tells
how little.
"""

from __future__ import annotations

import asyncio
import math
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from urllib.parse import parse_qs, quote, unquote

from tests.benchmarks.canned_service import END, HOST, CannedService, canned, canned_buckets, serve
from tests.benchmarks.case import ACCOUNT_ID, REGION
from tests.benchmarks.service_process import running
from tests.emulators.oss_tables_documents import encryption_document
from tests.emulators.oss_tables_state import Encryption

PAGE_SIZE = 100
# A list names its region nowhere else, unless the host does.
_SCOPE = re.compile(rb"/([a-z0-9-]+)/osstables/aliyun_v4_request")


@dataclass(frozen=True)
class Stage:
    """How many buckets there are in each region, and how many seconds an answer takes."""

    regions: Mapping[str, int]
    delay: float
    encrypted: bool = True
    # From its first read on, one region refuses whatever comes within so many seconds.
    throttled: str | None = None
    retry_after: float = 0.0

    @property
    def buckets(self) -> int:
        """How many there are in all."""
        return sum(self.regions.values())

    @property
    def pages(self) -> int:
        """How many there are in all lists; an empty one has a page, too."""
        return sum(max(-(-count // PAGE_SIZE), 1) for count in self.regions.values())


@dataclass
class Seen:
    """What was asked since the last question; `cpu` is the process's own seconds."""

    lists: int = 0
    reads: int = 0
    puts: int = 0
    refused: int = 0
    others: int = 0
    connections: int = 0
    cpu: float = 0.0
    arns: set[str] = field(default_factory=set)


# Asked with a stage, it changes to that one.
Service = CannedService[Seen]


@contextmanager
def running_service() -> Iterator[Service]:
    """Start the process; it ends with the block."""
    with running(_serve) as (port, line):
        yield Service(port, line)


def bare_rate(service: Service, *, requests: int, connections: int) -> float:
    """Answers per second to a client that asks for one bucket's encryption and does nothing else.

    It neither signs nor decides; the stage has to have buckets in REGION.
    """
    service.seen()
    rate = asyncio.run(_bare_rate(service.port, requests // connections, connections))
    if (answered := service.seen().reads) != requests:
        raise RuntimeError(f"{answered} of {requests} requests were answered")
    return rate


async def _bare_rate(port: int, each: int, connections: int) -> float:
    streams = [await asyncio.open_connection(HOST, port) for _ in range(connections)]
    start = time.perf_counter()
    await asyncio.gather(*(_ask_bare(*stream, each) for stream in streams))
    rate = each * connections / (time.perf_counter() - start)
    for _, writer in streams:
        writer.close()
        await writer.wait_closed()
    return rate


async def _ask_bare(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, requests: int
) -> None:
    for _ in range(requests):
        writer.write(_BARE)
        answer = await reader.readexactly(len(_ENCRYPTED))
        if not answer.startswith(b"HTTP/1.1 200 "):
            raise RuntimeError("there is no such bucket")


_FIRST = quote(f"acs:osstables:{REGION}:{ACCOUNT_ID}:bucket/analytics-00000", safe="")
_BARE = f"GET /buckets/{_FIRST}/encryption HTTP/1.1\r\nhost: {HOST}".encode() + END


# The inside of the process.


def _serve(line: Connection) -> None:
    serve(line, _Desk())


class _Desk:
    """What is answered, and what was asked."""

    def __init__(self) -> None:
        self.seen = Seen()
        self._cpu = time.process_time()
        self._set(Stage({}, 0))

    @property
    def delay(self) -> float:
        return self.stage.delay

    def connected(self) -> None:
        self.seen.connections += 1

    def told(self, stage: Stage | None) -> Seen:
        """What was seen, which is forgotten."""
        told, self.seen = self.seen, Seen()
        told.cpu, self._cpu = time.process_time() - self._cpu, time.process_time()
        if stage:
            self._set(stage)
        return told

    def _set(self, stage: Stage) -> None:
        self.stage = stage
        self._entries = {
            region: canned_buckets(region, ACCOUNT_ID, n) for region, n in stage.regions.items()
        }
        self._arns = {entry["arn"] for entries in self._entries.values() for entry in entries}
        self._pages: dict[tuple[str, str], bytes] = {}
        self._encrypted = set(self._arns) if stage.encrypted else set()
        self._refusing_until: float | None = None

    def answer(self, request: bytes) -> bytes:
        """The answer to a request, of which only the head is here."""
        target = request.split(b" ", 2)[1].decode()
        path, _, query = target.partition("?")
        arn = unquote(path.removeprefix("/buckets/").removesuffix("/encryption"))
        scope = _SCOPE.search(request)
        if arn in self._arns and path.endswith("/encryption"):
            if arn.split(":")[2] == self.stage.throttled and (wait := self._refuses()):
                self.seen.refused += 1
                return canned({"code": "SlowDown"}, "503 Slow Down", f"Retry-After: {wait}")
            self.seen.arns.add(arn)
            if request.startswith(b"PUT "):
                self.seen.puts += 1
                self._encrypted.add(arn)
                return _DONE
            self.seen.reads += 1
            return _ENCRYPTED if arn in self._encrypted else _NOT_ENCRYPTED
        if request.startswith(b"GET ") and path == "/buckets" and scope:
            self.seen.lists += 1
            return self._page(scope[1].decode(), query)
        self.seen.others += 1
        return _UNKNOWN

    def _refuses(self) -> int:
        """Whole seconds until the throttled region answers again."""
        now = time.monotonic()
        if self._refusing_until is None:
            self._refusing_until = now + self.stage.retry_after
        return max(math.ceil(self._refusing_until - now), 0)

    def _page(self, region: str, query: str) -> bytes:
        key = (region, query)
        if key not in self._pages:
            asked = parse_qs(query)
            size = min(int(asked.get("maxBuckets", ["100"])[0]), PAGE_SIZE)
            start = int(asked.get("continuationToken", ["0"])[0])
            entries = self._entries.get(region, [])
            token = {"continuationToken": str(start + size)} if start + size < len(entries) else {}
            self._pages[key] = canned({"tableBuckets": entries[start : start + size], **token})
        return self._pages[key]


_ENCRYPTED = canned(encryption_document(Encryption("AES256")))
_NOT_ENCRYPTED = canned(encryption_document(None))
_DONE = canned({})
_UNKNOWN = canned({"code": "NotFoundException", "message": "canned"}, "404 Not Found")
