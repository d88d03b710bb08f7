"""A service of canned answers in a process of its own: it costs so little that clients are timed.

It has the form of HTTP and none of its care: of a request only the head is read, and the length of
its body. What it answers, and when, says its desk.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from multiprocessing.connection import Connection
from typing import Any, Generic, Protocol, TypeVar

from tests.emulators.oss_tables_documents import bucket_document
from tests.emulators.oss_tables_requests import BucketArn
from tests.emulators.oss_tables_state import TableBucket

Seen = TypeVar("Seen")

FIRST_CREATED = datetime(2026, 1, 2, 3, 4, 5, 678901, timezone.utc)
HOST = "127.0.0.1"
END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: (\d+)", re.IGNORECASE)


class Desk(Protocol):
    """What is answered, and what was asked."""

    @property
    def delay(self) -> float:
        """The seconds until each answer."""

    def connected(self) -> None:
        """Count a connection."""

    def answer(self, request: bytes) -> bytes:
        """Return the answer to a request, of which only the head is here."""

    def told(self, message: Any) -> Any:
        """Return what was seen, which is forgotten, to whoever sent this message."""


@dataclass(frozen=True)
class CannedService(Generic[Seen]):
    """The address, and the line on which to ask what was seen."""

    port: int
    line: Connection

    @property
    def endpoint(self) -> str:
        """As clients want it."""
        return f"http://{HOST}:{self.port}"

    def seen(self, message: object = None) -> Seen:
        """What was asked since the last question; the desk also gets the message."""
        self.line.send(message)
        seen: Seen = self.line.recv()
        return seen


def canned_buckets(region: str, account_id: str, count: int) -> list[dict[str, str]]:
    """The entries of a list with so many buckets."""
    return [
        bucket_document(
            TableBucket(
                BucketArn(region, account_id, f"analytics-{number:05}"),
                FIRST_CREATED + timedelta(minutes=number),
                str(uuid.uuid5(uuid.NAMESPACE_URL, f"{account_id}/{region}/{number}")),
            )
        )
        for number in range(count)
    ]


def canned(fields: Mapping[str, object], status: str = "200 OK", *headers: str) -> bytes:
    """Return an answer with these fields as JSON."""
    body = json.dumps(fields, separators=(",", ":")).encode()
    head = (
        f"HTTP/1.1 {status}",
        "Server: AliyunOSS",
        f"Date: {datetime.now(timezone.utc):%a, %d %b %Y %H:%M:%S GMT}",
        "Content-Type: application/json",
        f"Content-Length: {len(body)}",
        "x-oss-request-id: 65F1C0A3D8E2B4363711A2C9",
        *headers,
    )
    return "\r\n".join(head).encode() + END + body


# The inside of the process.


def serve(line: Connection, desk: Desk) -> None:
    """Answer, and tell what was seen, until the other end of the line is closed."""
    asyncio.run(_until_hung_up(line, desk))


async def _until_hung_up(line: Connection, desk: Desk) -> None:
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    server = await loop.create_server(lambda: _Conversation(desk), HOST, 0, backlog=1024)
    line.send(server.sockets[0].getsockname()[1])

    def tell() -> None:
        try:
            message = line.recv()
        except EOFError:
            loop.remove_reader(line.fileno())
            over.set()
            return
        line.send(desk.told(message))

    loop.add_reader(line.fileno(), tell)
    await over.wait()


class _Conversation(asyncio.Protocol):
    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rest = b""
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._desk.connected()

    def data_received(self, data: bytes) -> None:
        assert self._transport is not None
        self._rest += data
        while (end := self._rest.find(END)) >= 0:
            request = self._rest[:end]
            length = _LENGTH.search(request)
            end += len(END) + (int(length[1]) if length else 0)
            if len(self._rest) < end:
                return
            self._rest = self._rest[end:]
            answer = self._desk.answer(request)
            if self._desk.delay:
                self._loop.call_later(self._desk.delay, self._transport.write, answer)
            else:
                self._transport.write(answer)
