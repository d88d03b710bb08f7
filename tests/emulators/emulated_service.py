"""What the emulated services have in common: a server, a clock, faults and a record of requests."""

import socket
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import TYPE_CHECKING, ClassVar

from tests.emulators.access_keys import AccessKey, Rights
from tests.emulators.faults import (
    Delay,
    Drip,
    Fault,
    Faults,
    Garbage,
    GarbageBody,
    Refuse,
    Reset,
    ResetMidAnswer,
    SkewClock,
    Strike,
    Truncate,
)
from tests.emulators.running import Running
from tests.emulators.server import Authority, ConnectionSpentError, Server
from tests.emulators.wire import Answer, Request, close, received, reset, with_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Clock = Callable[[], datetime]


def utc_now() -> datetime:
    return datetime.now(timezone.utc)


class RefusedError(Exception):
    """The service does not do what was asked."""

    def __init__(self, refusal: Refuse) -> None:
        super().__init__(f"{refusal.status} {refusal.code}: {refusal.message}")
        self.refusal = refusal


def refuse(
    status: int, code: str, message: str, headers: Mapping[str, str] | None = None
) -> RefusedError:
    return RefusedError(Refuse(status, code, message, headers or {}))


@dataclass(frozen=True)
class RecordedRequest:
    """A request, when it came by the service's clock, and what became of it. `status` is None as
    long as, or if, nothing was answered in HTTP; `body` is empty if it was not read."""

    request: Request
    operation: str | None
    resource: str | None
    request_id: str
    at: datetime
    faults: tuple[Fault, ...] = ()
    status: int | None = None

    @property
    def method(self) -> str:
        return self.request.method

    @property
    def path(self) -> str:
        return self.request.path

    @property
    def query(self) -> str:
        return self.request.query

    @property
    def headers(self) -> dict[str, str]:
        return dict(self.request.headers)

    @property
    def body(self) -> bytes:
        return self.request.body


@dataclass(frozen=True)
class Call:
    """One request in the hands of the service; `now` is the time by the service's clock."""

    request: Request
    operation: str | None
    resource: str | None
    request_id: str
    now: datetime


class EmulatedService(Running, ABC):
    """A service on loopback.

    `keys` are those that may call it, by their ids, and `rights` holds what was asked about their
    rights. `on_strike` is what kills a client, wherever its process is.
    """

    server_name: ClassVar[str]
    request_id_header: ClassVar[str]
    # Methods and paths where only the body tells which bucket or queue the request is about.
    named_in_body: ClassVar[frozenset[tuple[str, str]]] = frozenset()

    def __init__(
        self,
        *access_keys: AccessKey,
        authority: Authority | None = None,
        host_names: Sequence[str] = (),
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        tls = None if authority is None else authority.server_context(*host_names)
        self.keys = {key.id: key for key in access_keys}
        self.rights = Rights()
        self.faults = Faults() if faults is None else faults
        self.on_strike: Callable[[Call], object] = lambda _call: None
        self._clock = clock
        self._stopping = threading.Event()
        self._record: list[RecordedRequest] = []
        self._record_lock = threading.Lock()
        self._server = Server(self._serve, tls=tls)
        self.url = self._server.url
        self.port = self._server.port

    @property
    def requests(self) -> list[RecordedRequest]:
        """Every request so far, in the order of arrival."""
        with self._record_lock:
            return list(self._record)

    @property
    def connections_accepted(self) -> int:
        return self._server.connections_accepted

    def admit(self, key: AccessKey) -> None:
        """Let this key call from now on, instead of an earlier one of the same id."""
        self.keys[key.id] = key

    def start(self) -> None:
        self._server.start()

    def stop(self) -> None:
        """Close every connection and end every delay."""
        self._stopping.set()
        self._server.stop()

    @abstractmethod
    def classify(self, request: Request) -> tuple[str | None, str | None]:
        """The operation, and the bucket or queue it is about."""

    @abstractmethod
    def perform(self, call: Call) -> Answer:
        """Carry the call out, or raise RefusedError."""

    @abstractmethod
    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        """The service's own form of an error."""

    @abstractmethod
    def new_request_id(self) -> str: ...

    def wait(self, seconds: float) -> bool:
        """Wait; True if the service is stopped meanwhile."""
        return self._stopping.wait(seconds)

    def _serve(
        self, environ: "WSGIEnvironment", start_response: "StartResponse"
    ) -> Iterable[bytes]:
        request = received(environ)
        in_body = (request.method, request.path) in self.named_in_body
        if in_body or self.faults.reads_bodies:
            request = with_body(request, environ)
        operation, resource = self.classify(request)
        met = self.faults.met_by(operation, resource, request.body)
        entry = RecordedRequest(
            request, operation, resource, self.new_request_id(), self._clock(), tuple(met)
        )
        position = self._remember(entry)
        answer = self._answer(entry, environ, position)
        self._note(position, status=answer.status)
        start_response(answer.status_line, list(answer.headers.items()))
        return [answer.body]

    def _answer(self, entry: RecordedRequest, environ: "WSGIEnvironment", position: int) -> Answer:
        fault = next((fault for fault in entry.faults if fault.ends_it), None)
        carried_out = fault is None or fault.carries_out
        self._delay(entry.faults, after=False)
        if carried_out or not (fault and isinstance(fault.effect, Reset)):
            entry = replace(entry, request=with_body(entry.request, environ))
            self._note(position, request=entry.request)
        call = self._call(entry)
        answer = self._performed(call) if carried_out else Answer(200)
        self._delay(entry.faults, after=True)
        if fault is None:
            return answer
        if isinstance(fault.effect, Drip):
            self._note(position, status=answer.status)
        return self._spoilt(fault, answer, call, environ["werkzeug.socket"])

    def _call(self, entry: RecordedRequest) -> Call:
        skews = [fault.effect for fault in entry.faults if isinstance(fault.effect, SkewClock)]
        now = self._clock() + timedelta(seconds=sum(skew.seconds for skew in skews))
        return Call(entry.request, entry.operation, entry.resource, entry.request_id, now)

    def _performed(self, call: Call) -> Answer:
        try:
            return self._stamped(self.perform(call), call)
        except RefusedError as error:
            return self._stamped(self.refused(error.refusal, call), call)

    def _stamped(self, answer: Answer, call: Call) -> Answer:
        stamp = {
            "Server": self.server_name,
            "Date": format_datetime(call.now, usegmt=True),
            self.request_id_header: call.request_id,
        }
        return replace(answer, headers=stamp | dict(answer.headers))

    def _spoilt(
        self, fault: Fault, answer: Answer, call: Call, connection: socket.socket
    ) -> Answer:
        match fault.effect:
            case Refuse():
                return self._stamped(self.refused(fault.effect, call), call)
            case GarbageBody(body):
                spoilt = Answer(answer.status, {"Content-Type": "text/html"}, body)
                return self._stamped(spoilt, call)
            case Reset():
                reset(connection)
            case Strike():
                self.on_strike(call)
                reset(connection)
            case ResetMidAnswer():
                answered = answer.head() + answer.body
                connection.sendall(answered[: len(answered) // 2])
                reset(connection)
            case Truncate(missing):
                promised = len(answer.body) + missing
                connection.sendall(answer.head(content_length=promised) + answer.body)
                close(connection)
            case Garbage(data):
                connection.sendall(data)
                close(connection)
            case Drip():
                self._drip(fault.effect, answer, connection)
        raise ConnectionSpentError

    def _drip(self, drip: Drip, answer: Answer, connection: socket.socket) -> None:
        head, body = answer.head(), answer.body
        slow = head if drip.part == "head" else body
        if drip.part == "body":
            connection.sendall(head)
        for byte in slow:
            if self.wait(drip.pause_seconds):
                break
            connection.sendall(bytes([byte]))
        if drip.part == "head":
            connection.sendall(body)
        close(connection)

    def _delay(self, faults: Iterable[Fault], *, after: bool) -> None:
        for fault in faults:
            if isinstance(fault.effect, Delay) and fault.after is after:
                self.wait(fault.effect.seconds)

    def _remember(self, entry: RecordedRequest) -> int:
        with self._record_lock:
            self._record.append(entry)
            return len(self._record) - 1

    def _note(
        self, position: int, *, request: Request | None = None, status: int | None = None
    ) -> None:
        with self._record_lock:
            entry = self._record[position]
            self._record[position] = replace(
                entry, request=request or entry.request, status=status or entry.status
            )
