"""The creation function's real door, in a world that answers well and writes down what it is asked.

Only the pool of connections is not the real one: a host name that an event had steered would arrive
here as it would have gone out.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import dataclass, field
from types import SimpleNamespace
from unittest.mock import patch

import httpx

from encryption_guard.enforcement.handler import (
    read_settings,
    shared_transport,
    warn_of_unknown_names,
)
from encryption_guard.enforcement.telemetry import SERVICE, open_logger
from functions.encrypt_on_create import index
from tests.shielded import settings_in

ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
ENVIRONMENT = {
    "FC_FUNCTION_NAME": "encrypt-on-create",
    "FC_ACCOUNT_ID": ACCOUNT,
    "FC_REGION": REGION,
    "GUARD_DEAD_LETTER_QUEUE": f"acs:mns:{REGION}:{ACCOUNT}:/queues/dead-letters",
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "AKID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "AKSECRET",
}

_LABEL = "[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?"
_TABLES = re.compile(
    rf"(?:(?P<bucket>[a-z0-9][a-z0-9-]{{1,61}}[a-z0-9])-{ACCOUNT}\.)?{_LABEL}"
    r"\.oss-tables\.aliyuncs\.com"
)
_QUEUE = re.compile(rf"{ACCOUNT}\.mns\.{REGION}\.aliyuncs\.com")


def is_allowed(host: str) -> bool:
    """Whether it is one that the guard may ask: the two services', in their documented forms."""
    return bool(_TABLES.fullmatch(host) or _QUEUE.fullmatch(host))


class Network(httpx.BaseTransport):
    """Every bucket is there and not encrypted, every letter is taken; `letters` are their XML."""

    def __init__(self) -> None:
        self.hosts: list[str] = []
        self.letters: list[bytes] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer by method alone, and keep what the request says of where it goes."""
        self.hosts += [request.url.raw_host.decode("ascii"), *request.headers.get_list("host")]
        if request.method == "POST":
            self.letters.append(request.content)
            return httpx.Response(201, stream=httpx.ByteStream(b"<MessageId>1</MessageId>"))
        answered = {"x-oss-request-id": "0123456789ABCDEF01234567"}
        return httpx.Response(200, headers=answered, stream=httpx.ByteStream(b"{}"))


class Lines(io.TextIOBase):
    """A log that is not kept, only measured: how many lines, how much, what is not plain JSON."""

    def __init__(self) -> None:
        self.count = self.size = 0
        self.unreadable: list[str] = []

    def write(self, text: str) -> int:
        """Take a line, or several."""
        for line in text.splitlines():
            self.count += 1
            self.size += len(line)
            if not (line.isascii() and line.isprintable() and line.startswith('{"')):
                self.unreadable.append(line)
        return len(text)


@dataclass(frozen=True)
class Visit:
    """What one event led to."""

    outcomes: tuple[str, ...]
    error: Exception | None
    hosts: tuple[str, ...]
    letters: tuple[bytes, ...]
    log_lines: int
    log_size: int
    unreadable: tuple[str, ...]
    cpu_ms: float

    @property
    def wrong(self) -> list[str]:
        """What must not be, whatever the event."""
        found = [f"raised {type(self.error).__name__}: {self.error}"] if self.error else []
        found += [f"asked the host {host!r}" for host in self.hosts if not is_allowed(host)]
        return found + [f"logged {line[:200]!r}" for line in self.unreadable]


@dataclass(frozen=True)
class Door:
    """One warm instance of the function."""

    network: Network = field(default_factory=Network)
    lines: Lines = field(default_factory=Lines)

    def visit(self, event: object) -> Visit:
        """Hand one event in, as the platform does."""
        function = SimpleNamespace(name="encrypt-on-create", timeout=3600)
        context = SimpleNamespace(
            request_id="request-1", region=REGION, account_id=ACCOUNT, function=function
        )
        self.network.hosts, self.network.letters = [], []
        self.lines.__init__()  # type: ignore[misc]  # the logger holds on to the one it was given
        outcomes: tuple[str, ...] = ()
        failure: Exception | None = None
        began = time.thread_time()
        try:
            result = index.handler(event, context)
        except Exception as error:
            failure = error
        spent = time.thread_time() - began
        if failure is None:
            told = json.loads(result)
            outcomes = tuple(_kind(one) for one in (told if isinstance(told, list) else [told]))
        return Visit(
            outcomes,
            failure,
            tuple(self.network.hosts),
            tuple(self.network.letters),
            self.lines.count,
            self.lines.size,
            tuple(self.lines.unreadable),
            1000 * spent,
        )

    def traced(self, event: object) -> tuple[Visit, float]:
        """The same, and the memory that it took at its worst, in MB."""
        tracemalloc.start()
        try:
            visit = self.visit(event)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        return visit, peak / 1e6


def _kind(outcome: Mapping[str, object]) -> str:
    reason = str(outcome["reason"]).partition(":")[0]
    return f"{outcome['outcome']}: {reason}"


@contextmanager
def opened(**environment: str) -> Iterator[Door]:
    """A fresh instance of the function; the settings of the process are as before afterwards."""
    door = Door()
    with ExitStack() as stack:
        stack.enter_context(patch.dict("os.environ"))
        for name in settings_in(os.environ):  # noqa: TID251  those of whoever searches
            del os.environ[name]  # noqa: TID251  as above
        os.environ.update(ENVIRONMENT | environment)  # noqa: TID251  the function's
        stack.enter_context(redirect_stdout(door.lines))
        stack.callback(_forget)
        _forget()
        stack.enter_context(
            patch("encryption_guard.enforcement.handler.shared_transport", lambda: door.network)
        )
        open_logger()
        yield door


def _forget() -> None:
    for cached in (shared_transport, warn_of_unknown_names, read_settings, open_logger):
        cached.cache_clear()
    logging.Logger.manager.loggerDict.pop(SERVICE, None)
