"""One signed request and its answer, within a time budget.

What OSS Tables and SMQ have in common: an HTTP client whose time-outs bound a whole try, and the
arithmetic of trying again. What an answer means is each service's own affair.
"""

from __future__ import annotations

import math
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime, timezone
from functools import lru_cache, partial
from pathlib import Path
from typing import NamedTuple, cast

import httpx

from encryption_guard.config import Credentials, Settings, names_authorities
from encryption_guard.connections import Connections, Origin, connect
from encryption_guard.errors import ConfigurationError, Throttled
from encryption_guard.version import __version__

CONNECT_SECONDS = 2.0
# What is read is raw: an answer that was compressed all the same would be unreadable.
COMMON_HEADERS = {
    "user-agent": f"oss-tables-encryption-guard/{__version__}",
    "accept-encoding": "identity",
}
LONGEST_ANSWER = 64 * 1024
# These tell the length of their content also where there is none: RFC 9110, 8.6.
EXPECTING_CONTENT = {"POST", "PUT"}

# Headers of OSS Tables, SMQ and Function Compute that let whoever has them act for us.
PROOFS = {b"authorization", b"x-oss-security-token", b"security-token", b"x-fc-security-token"}
_KEY_ID = r"(?:Credential=|MNS |FC )(.+?)(?:/\d{8}/|:)"
# What is shorter proves nothing, and would be found everywhere.
SHORTEST_PROOF = 16
REDACTED = b"[redacted]"

# One request, its repeats and pauses included, may take this much of the time that is left: there
# has to be some for the dead letter of a request that failed, and for saying so.
SHARE_OF_THE_REST = 0.6
FIRST_PAUSE_SECONDS = 0.2
SLOW_DOWN = frozenset({429, 503})
# A shared pause stops growing at 0.2 s * 2^4, some 3 s.
LONGEST_ROW = 5
# At a time, idle ones included. A sweep has some to each region; its workers bound what is under
# way, and a pool too small for all regions would close one for each that it opens.
CONNECTIONS = 64
# certifi's, as `make build` puts them beside the layer's `python/`: a file for each, found by the
# hash of its name and read when a server presents what it signed. To read all takes 20 ms.
AUTHORITIES = Path(__file__).parents[2] / "authorities"


def _utc_now() -> datetime:
    return datetime.now(timezone.utc)


class Clock(NamedTuple):
    """Time and chance, as arguments: `now` in UTC, the rest in seconds."""

    now: Callable[[], datetime] = _utc_now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    chance: Callable[[], float] = random.random


class TimeBudget(NamedTuple):
    """What is left of one invocation; instants are those of the monotonic clock."""

    ends_at: float
    clock: Clock

    def remaining(self) -> float:
        """Seconds left; never less than zero."""
        return max(self.ends_at - self.clock.monotonic(), 0)

    def for_one_request(self) -> float:
        """The instant at which a request that starts now has to be over, repeats included."""
        return self.clock.monotonic() + SHARE_OF_THE_REST * self.remaining()


class Invocation(NamedTuple):
    """What every request of one invocation needs; only the transport outlives it."""

    transport: httpx.BaseTransport
    settings: Settings
    read_credentials: Callable[[], Credentials]
    budget: TimeBudget
    clock: Clock

    def __repr__(self) -> str:
        # What reads the credentials may hold the platform's context, and so the key.
        return f"Invocation({self.settings!r}, {self.budget!r})"

    def end_of_try(self, end_of_request: float) -> float:
        """The instant at which a try that starts now has to be over."""
        one_try = self.clock.monotonic() + self.settings.http_timeout_seconds
        return min(one_try, end_of_request)


class Answer(NamedTuple):
    """A service's answer: its body is what was read of it, at most 64 KB unless asked for more."""

    status: int
    headers: httpx.Headers
    body: bytes


def exchange(
    transport: httpx.BaseTransport,
    request: httpx.Request,
    *,
    auth: httpx.Auth,
    until: float,
    longest: int = LONGEST_ANSWER,
) -> Answer:
    """Sign a request, send it once and read its answer, all before the instant `until`.

    What proved who asks is taken out of the answer: a service or a proxy that echoes it must not
    bring it into a log or a dead letter.
    Raises httpx.TransportError if that does not work out, for whatever reason.
    """
    now = time.monotonic()
    request.extensions["timeout"] = {
        "connect": min(now + CONNECT_SECONDS, until),
        "write": until,
        "read": until,
        "pool": max(until - now, 0),
    }
    signed = next(auth.auth_flow(request))
    try:
        answer = _answer(transport.handle_request(signed), longest)
    except httpx.TransportError as error:
        told = _without(_proofs(signed, with_id=True), str(error).encode()).decode()
        if told == str(error):
            raise
        # It quotes what came instead of HTTP, and so do its causes.
        raise type(error)(told) from None
    # What is handed out may be an event about the same key, which has to stay as it is.
    return _redacted(answer, _proofs(signed, with_id=answer.status >= 300))


def _answer(response: httpx.Response, longest: int) -> Answer:
    try:
        body = bytearray()
        # As it comes: neither decompressed nor counted.
        for chunk in cast("httpx.SyncByteStream", response.stream):
            body += chunk
            if len(body) > longest:
                break
        return Answer(response.status_code, response.headers, bytes(body[:longest]))
    finally:
        response.close()


def _proofs(request: httpx.Request, *, with_id: bool) -> list[str]:
    """The tokens of a request, the signature in its authorization, and the key's id if wanted."""
    given = [value.decode() for name, value in request.headers.raw if name.lower() in PROOFS]
    proofs = [text.replace("Signature=", ":").rpartition(":")[2] for text in given]
    if with_id:
        proofs += re.findall(_KEY_ID, request.headers.get("authorization", ""))
    return [proof for proof in proofs if len(proof) >= SHORTEST_PROOF]


def _redacted(answer: Answer, proofs: list[str]) -> Answer:
    said = b"\n".join([*(value for _, value in answer.headers.raw), answer.body])
    if _without(proofs, said) == said:
        return answer
    headers = [(name, _without(proofs, value)) for name, value in answer.headers.raw]
    return Answer(answer.status, httpx.Headers(headers), _without(proofs, answer.body))


def _without(proofs: Iterable[str], said: bytes) -> bytes:
    for proof in proofs:
        # Hardly an answer has any: only what looks like one pays for the search.
        plain = re.search("[0-9A-Za-z]{8}", proof)
        if plain is None or plain[0].encode() in said:
            said = re.sub("".join(map(_spelled, proof)).encode(), REDACTED, said)
    return said


def _spelled(sign: str) -> str:
    """A sign as it stands, and as JSON, XML or a URL may write it, also one in another."""
    if sign.isalnum():
        return sign
    code = f"{ord(sign):02x}"
    return (
        rf"(?:\\{{0,4}}{re.escape(sign)}|(?i:\\{{1,4}}u00{code}|%(?:25){{0,3}}{code}"
        rf"|&(?:amp;){{0,3}}(?:#x0{{0,4}}{code}|#0{{0,4}}{ord(sign)}|[a-z]{{1,20}});))"
    )


def pause_before_next(answer: Answer | None, *, tries: int, clock: Clock) -> float:
    """Seconds until the next try: `Retry-After` if the service names it, else a jittered back-off.

    Full jitter: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    if answer is not None and "retry-after" in answer.headers:
        asked = _retry_after(answer.headers["retry-after"], clock)
        if asked is not None:
            return asked
    return clock.chance() * FIRST_PAUSE_SECONDS * 2.0 ** (tries - 1)


def _retry_after(text: str, clock: Clock) -> float | None:
    # Seconds or a date: RFC 9110, 10.2.3.
    if text.isascii() and text.isdigit():
        return float(text)
    at = http_date(text)
    return max((at - clock.now()).total_seconds(), 0) if at else None


def http_date(text: str) -> datetime | None:
    """A `Date` header's time in UTC, or None where it is not one."""
    from email.utils import parsedate_to_datetime

    try:
        at = parsedate_to_datetime(text)
    except (ValueError, OverflowError, TypeError):
        return None
    return at if at.tzinfo else at.replace(tzinfo=timezone.utc)


class Pace:
    """One pause for all threads that ask the same service, whenever it asks one to slow down.

    A burst of refusals counts once; each that follows makes the pause longer, and any other answer
    ends the row. Throttling of OSS comes as 503:
    https://help.aliyun.com/en/oss/user-guide/http-status-code-503
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._asked_at = self._resume_at = -math.inf

    def left(self) -> float:
        """Seconds until requests may go out; zero where they may."""
        return max(self._resume_at - self._clock.monotonic(), 0)

    def wait(self, until: float) -> None:
        """Wait until requests may go out; raises Throttled where that is not before `until`."""
        while left := self.left():
            if self._resume_at >= until:
                raise Throttled(
                    f"The service asks to wait {left:.0f} s before the next request; a later try"
                    " may succeed."
                )
            self._clock.sleep(left)

    def heed(self, answer: Answer, *, sent_at: float) -> None:
        """Take note of an answer to a request that was sent at this instant."""
        with self._lock:
            # What was sent before the last pause began tells nothing new.
            if sent_at < self._asked_at:
                return
            if answer.status not in SLOW_DOWN:
                self._in_a_row = 0
                return
            self._in_a_row = min(self._in_a_row + 1, LONGEST_ROW)
            self._asked_at = self._clock.monotonic()
            pause = pause_before_next(answer, tries=self._in_a_row, clock=self._clock)
            self._resume_at = max(self._resume_at, self._asked_at + pause)


# What is read of a bucket is written next, under the same URL, which takes long to parse.
_parsed = lru_cache(maxsize=1)(httpx.URL)


def new_request(
    method: str, url: str, *, headers: dict[str, str], content: bytes = b""
) -> httpx.Request:
    """A request with the headers that all of ours have; nothing else is added on its way."""
    parsed = _parsed(url)
    framing = {"host": parsed.netloc.decode("ascii")}
    if content or method in EXPECTING_CONTENT:
        framing["content-length"] = str(len(content))
    # To what comes as a stream httpx adds nothing.
    request = httpx.Request(
        method,
        parsed,
        headers=framing | COMMON_HEADERS | headers,
        stream=httpx.ByteStream(content),
    )
    request.read()
    return request


class Transport(httpx.BaseTransport):
    """The one transport of a process: its connections and its TLS context.

    Nothing follows a redirect, asks a proxy or sends back the cookies of an earlier answer.
    Trust comes from certifi, or from `SSL_CERT_FILE` or `SSL_CERT_DIR` where they are set.
    """

    def __init__(self, *, connections: int = CONNECTIONS, authorities: Path = AUTHORITIES) -> None:
        self._tls = tls_context(authorities)
        self._connections = Connections(connections)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request, and read the head of its answer.

        Raises httpx.TransportError if that does not work out, for whatever reason.
        """
        ends, origin = request.extensions["timeout"], Origin.of(request.url)
        connection = self._connections.take(
            origin,
            lambda: connect(origin, self._tls, until=ends["connect"]),
            seconds=ends["pool"],
        )
        try:
            head = connection.ask(request, until=ends["read"])
        except BaseException:
            self._connections.drop(connection)
            raise
        body = _Body(
            connection.body(until=ends["read"]),
            partial(self._connections.give_back, origin, connection),
        )
        return httpx.Response(head.status_code, headers=head.headers.raw_items(), stream=body)

    def close(self) -> None:
        """Close every connection."""
        self._connections.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, pieces: Iterator[bytes], done: Callable[[], None]) -> None:
        self._pieces = pieces
        self._done = done

    def __iter__(self) -> Iterator[bytes]:
        return self._pieces

    def close(self) -> None:
        self._done()


def tls_context(authorities: Path = AUTHORITIES) -> ssl.SSLContext:
    """Whom to trust: by the word of the environment, else those of the layer, else certifi's.

    Raises ConfigurationError where the environment's word leads nowhere.
    """
    try:
        if authorities.is_dir() and not names_authorities():
            context = ssl.create_default_context(capath=authorities)
        else:
            context = httpx.create_ssl_context()
    except OSError as error:
        raise ConfigurationError(
            f"SSL_CERT_FILE or SSL_CERT_DIR does not lead to certificates ({error.strerror});"
            " correct or unset it."
        ) from error
    # Python's own default, unless it was built to follow OpenSSL's.
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    return context
