"""What the unit tests use instead of the world: time, the two services, a queue and a log.

Each is constructed with data and then behaves. The services check signatures with the vendor's own
signers, so that a request they take is one that the real ones would take.
"""

from __future__ import annotations

import json
import logging
import threading
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from hashlib import md5
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

import httpx
from mns.auth import Credentials as MnsCredentials
from mns.mns_client import MNSClient

from encryption_guard.arn import Scope, TableBucketArn
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters.destinations import Peek, QueuedMessage
from encryption_guard.dead_letters.document import DeadLetter, dead_letter_id
from encryption_guard.dead_letters.messages import open_message
from encryption_guard.dead_letters.redrivable import CREATION_FUNCTION
from encryption_guard.enforcement.telemetry import SERVICE, open_logger
from encryption_guard.errors import InvalidEvent, Unavailable
from encryption_guard.events import find_bucket
from encryption_guard.events.envelopes import Event, open_payload
from encryption_guard.http.deadlines import current_deadline
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.settings import Settings
from tests.emulators.emulated_service import utc_now
from tests.emulators.skipping_clock import SkippingClock
from tests.vectors.make import Case, sign

START = datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc)
ACCOUNT = "1234567890123456"
REGION = "cn-hangzhou"
ARN = TableBucketArn(REGION, ACCOUNT, "my-table-bucket")
KEY = Credentials("AKID", "AKSECRET")
LARGEST_SKEW = timedelta(minutes=15)

# The keys of an outcome, in its log line as in the function's result.
OUTCOME_FIELDS = {
    "outcome",
    "reason",
    "arn",
    "event_id",
    "time_to_encrypt_ms",
    "named_by",
    "found_by",
    "by",
    "disagrees",
    "oss_request_id",
    "status",
    "code",
    "version",
}


def mocked(handler: Callable[[httpx.Request], httpx.Response]) -> DeadlineTransport:
    """A transport in memory: nothing is waited for."""
    return DeadlineTransport(httpx.MockTransport(handler))


@dataclass
class FakeTime:
    """Time passes only where something takes or waits; chance is always the same.

    `slept` holds the pauses that were longer than nothing.
    """

    chance: float = 1.0
    passed: float = 0.0
    slept: list[float] = field(default_factory=list)

    def now(self) -> datetime:
        return START + timedelta(seconds=self.passed)

    def monotonic(self) -> float:
        return 1000.0 + self.passed

    def sleep(self, seconds: float) -> None:
        if seconds > 0:
            self.slept.append(seconds)
            self.passed += seconds

    def as_clock(self) -> Clock:
        return Clock(self.now, self.monotonic, self.sleep, lambda: self.chance)


def skipping(time: SkippingClock) -> Clock:
    """The clock of a guard beside emulated services: the real time of day, but it never sleeps."""
    return Clock(now=utc_now, monotonic=time.monotonic, sleep=time.sleep, chance=lambda: 1.0)


class Chunks(httpx.SyncByteStream):
    """A body that arrives piece by piece; it counts what was taken and knows when it was closed."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self.taken = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self.taken += len(chunk)
            yield chunk

    def close(self) -> None:
        self.closed = True


@dataclass(frozen=True)
class Reply:
    """An answer, and the seconds until it is there."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    takes: float = 0.0


@dataclass(frozen=True)
class Broken:
    """No answer: what the client runs into instead, and after how many seconds."""

    error: type[Exception]
    takes: float = 0.0


Troubles = Mapping[str, Iterable[Reply | Broken]]


class FakeService:
    """A service behind httpx.MockTransport that keeps to the time-outs of the real transport.

    `troubles` holds, by `METHOD` or `METHOD bucket`, what comes before the true answers; of OSS
    Tables by `Operation` or `Operation bucket` too.
    """

    def __init__(self, *, time: FakeTime | None = None, troubles: Troubles | None = None) -> None:
        self.time = time or FakeTime()
        self.requests: list[httpx.Request] = []
        self._troubles = {key: iter(answers) for key, answers in (troubles or {}).items()}

    def transport(self) -> DeadlineTransport:
        return DeadlineTransport(httpx.MockTransport(self))

    def methods(self) -> list[str]:
        """The methods of all requests so far."""
        return [request.method for request in self.requests]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self._trouble(request) or self.answer(request)
        # As every wait on the guard's own connections does.
        left = max(current_deadline() - self.time.monotonic(), 0.0)
        if reply.takes > left:
            self.time.passed += left
            raise httpx.ReadTimeout("the answer took too long", request=request)
        self.time.passed += reply.takes
        if isinstance(reply, Broken):
            raise reply.error("the connection broke")
        pieces = [reply.body[at : at + 4096] for at in range(0, len(reply.body), 4096)]
        headers = {"content-length": str(len(reply.body)), **reply.headers}
        return httpx.Response(reply.status, headers=headers, stream=Chunks(pieces))

    def _trouble(self, request: httpx.Request) -> Reply | Broken | None:
        resource = self.resource(request)
        names = (request.method, self.operation(request))
        keys = (key for name in dict.fromkeys(names) for key in (name, f"{name} {resource}"))
        found = (next(self._troubles[key], None) for key in keys if key in self._troubles)
        return next(found, None)

    def operation(self, request: httpx.Request) -> str:
        return request.method

    def resource(self, request: httpx.Request) -> str:
        raise NotImplementedError

    def answer(self, request: httpx.Request) -> Reply:
        raise NotImplementedError


@dataclass(frozen=True)
class Asked:
    """What a request to OSS Tables is about; `path` are the parts of its path, decoded."""

    operation: str
    region: str
    path: tuple[str, ...]
    query: Mapping[str, str]

    @classmethod
    def read(cls, request: httpx.Request) -> Asked:
        """By the path and, for the region, by what the request is signed for."""
        raw_path, _, query = request.url.raw_path.decode().partition("?")
        path = tuple(unquote(part) for part in raw_path.split("/")[1:])
        pairs = (pair.partition("=") for pair in query.split("&") if pair)
        _, _, scope = request.headers["authorization"].partition("Credential=")
        region = next(iter(scope.split("/")[2:]), "")
        parameters = {name: unquote(value) for name, _, value in pairs}
        return cls(OPERATIONS.get((path[0], len(path)), "Unknown"), region, path, parameters)

    @property
    def arn(self) -> str | None:
        """The table bucket that it is about, if it is about one."""
        if len(self.path) > 1:
            return self.path[1]
        return self.query.get("tableBucketARN")


OPERATIONS = {
    ("buckets", 1): "ListTableBuckets",
    ("buckets", 2): "GetTableBucket",
    ("buckets", 3): "GetTableBucketEncryption",
    ("namespaces", 2): "ListNamespaces",
    ("tables", 2): "ListTables",
    ("tables", 5): "GetTableEncryption",
    ("get-table", 1): "GetTable",
}


class FakeOssTables(FakeService):
    """Table buckets with an encryption, or without one, by their ARN.

    `tables` are, by bucket, namespace and name, the tables with the encryption that they show, or
    without one. `created` are the times of creation of both, by the same keys, else one second
    ago; `kinds` the types of buckets, else `customer`. A list has at most `page_size` entries a
    page. `ahead` is how far its clock is ahead of the caller's; keys in
    `expired` are known, but too old.
    """

    def __init__(
        self,
        buckets: Mapping[str, str] | None = None,
        *,
        created: Mapping[str | tuple[str, str, str], str | None] | None = None,
        kinds: Mapping[str, str | None] | None = None,
        tables: Mapping[tuple[str, str, str], str] | None = None,
        page_size: int = 100,
        keys: Iterable[Credentials] = (KEY,),
        expired: Iterable[str] = (),
        ahead: timedelta = timedelta(),
        takes: float = 0.0,
        time: FakeTime | None = None,
        troubles: Troubles | None = None,
    ) -> None:
        super().__init__(time=time, troubles=troubles)
        self.buckets = {str(ARN): ""} if buckets is None else dict(buckets)
        self.created = dict(created or {})
        self.kinds = dict(kinds or {})
        self.tables = dict(tables or {})
        self._page_size = page_size
        self._keys = {key.access_key_id: key for key in keys}
        self._expired = frozenset(expired)
        self._ahead = ahead
        self._takes = takes

    def now(self) -> datetime:
        """The service's own time."""
        return self.time.now() + self._ahead

    def operations(self) -> list[str]:
        """The operations of all requests so far."""
        return [self.operation(request) for request in self.requests]

    def asked_about(self, operation: str) -> list[str]:
        """The buckets, by name, or the regions that this operation was asked for, in order."""
        asked = (request for request in self.requests if self.operation(request) == operation)
        return [self.resource(request) for request in asked]

    def operation(self, request: httpx.Request) -> str:
        if request.method == "PUT":
            return "PutTableBucketEncryption"
        return Asked.read(request).operation

    def resource(self, request: httpx.Request) -> str:
        asked = Asked.read(request)
        return asked.arn.rpartition("/")[2] if asked.arn else asked.region

    def answer(self, request: httpx.Request) -> Reply:
        refusal = self._refusal(request)
        if refusal:
            return self._reply(*refusal)
        asked = Asked.read(request)
        arn = asked.arn
        if arn is None:
            return self._page("tableBuckets", self._buckets_of(asked.region), asked.query)
        if arn not in self.buckets:
            return self._reply(404, "NotFoundException", "The specified bucket does not exist.")
        if request.method == "PUT":
            self.buckets[arn] = json.loads(request.content)["encryptionConfiguration"][
                "sseAlgorithm"
            ]
            return self._reply(200)
        return self._found(asked, arn)

    def _found(self, asked: Asked, arn: str) -> Reply:
        known = {key[1:]: encryption for key, encryption in self.tables.items() if key[0] == arn}
        match asked.operation:
            case "GetTableBucketEncryption":
                return self._encryption(self.buckets[arn])
            case "GetTableBucket":
                return self._reply(200, body=self._entry(arn))
            case "ListNamespaces":
                named = {namespace: {"namespace": [namespace]} for namespace, _ in known}
                return self._page("namespaces", named, asked.query)
            case "ListTables":
                within = asked.query["namespace"]
                tables = {
                    name: {
                        "name": name,
                        "namespace": [within],
                        "createdAt": self._created((arn, within, name)),
                    }
                    for namespace, name in known
                    if namespace == within
                }
                return self._page("tables", tables, asked.query)
            case "GetTableEncryption":
                table = asked.path[2:4]
            case _:
                table = (asked.query["namespace"], asked.query["name"])
        if table not in known:
            return self._reply(404, "NotFoundException", "The specified table does not exist.")
        if asked.operation == "GetTable":
            return self._reply(200, body={"name": table[1], "namespace": [table[0]]})
        return self._encryption(known[table])

    def _encryption(self, algorithm: str) -> Reply:
        found = {"encryptionConfiguration": {"sseAlgorithm": algorithm, "kmsKeyArn": ""}}
        return self._reply(200, body=found if algorithm else {})

    def _buckets_of(self, region: str) -> dict[str, object]:
        return {arn: self._entry(arn) for arn in self.buckets if arn.split(":")[2] == region}

    def _entry(self, arn: str) -> dict[str, object]:
        kind = self.kinds.get(arn, "customer")
        return {
            "arn": arn,
            "name": arn.rpartition("/")[2],
            "createdAt": self._created(arn),
            **({} if kind is None else {"type": kind}),
        }

    def _created(self, key: str | tuple[str, str, str]) -> str | None:
        return self.created.get(key, "2026-01-02T03:04:04Z")

    def _page(self, items: str, entries: Mapping[str, object], query: Mapping[str, str]) -> Reply:
        asked_for = next((int(query[name]) for name in query if name.startswith("max")), 1000)
        after = query.get("continuationToken", "after /+=").removeprefix("after /+=")
        rest = sorted(key for key in entries if key > after)
        shown = rest[: min(asked_for, self._page_size)]
        more = {"continuationToken": f"after /+={shown[-1]}"} if len(rest) > len(shown) else {}
        return self._reply(200, body={items: [entries[key] for key in shown], **more})

    def _refusal(self, request: httpx.Request) -> tuple[int, str, str] | None:
        authorization = request.headers["authorization"]
        key = self._keys.get(authorization.partition("Credential=")[2].partition("/")[0])
        if key is None:
            return 403, "InvalidAccessKeyId", "The OSS Access Key Id you provided does not exist."
        signed_at = _signing_time(request)
        if abs(signed_at - self.now()) > LARGEST_SKEW:
            said = "The difference between the request time and the current time is too large."
            return 403, "RequestTimeTooSkewed", said
        if request.headers.get("x-oss-security-token") != key.security_token:
            return 403, "InvalidSecurityToken", "The security token you provided is invalid."
        if key.access_key_id in self._expired:
            return 403, "SecurityTokenExpired", "The security token you provided has expired."
        if authorization != _vendors_authorization(request, key, signed_at):
            return 403, "SignatureDoesNotMatch", "The request signature does not match."
        digest = b64encode(md5(request.content, usedforsecurity=False).digest()).decode()
        if request.headers["content-md5"] != digest:
            return 400, "BadRequestException", "The Content-MD5 you specified is not valid."
        return None

    def _reply(self, status: int, code: str = "", message: str = "", body: object = None) -> Reply:
        headers = {
            "date": format_datetime(self.now(), usegmt=True),
            "x-oss-request-id": f"OSS-{len(self.requests)}",
        }
        if code:
            headers |= {"x-oss-error-type": code, "x-oss-ec": f"0000-{status:08}"}
            body = {"message": message}
        content = b"" if body is None else json.dumps(body).encode()
        return Reply(status, content, headers, takes=self._takes)


def _signing_time(request: httpx.Request) -> datetime:
    at = datetime.strptime(request.headers["x-oss-date"], "%Y%m%dT%H%M%SZ")  # noqa: DTZ007
    return at.replace(tzinfo=timezone.utc)


def _vendors_authorization(request: httpx.Request, key: Credentials, at: datetime) -> str:
    asked = Asked.read(request)
    case = Case(
        name="",
        method=request.method,
        url=str(request.url),
        path=request.url.raw_path.decode().partition("?")[0].removeprefix("/"),
        resource=asked.arn,
        region=asked.region,
        time=at.isoformat(),
        security_token=key.security_token,
        headers={name: request.headers[name] for name in ("content-md5", "content-type")},
    )
    stages = sign(case, access_key_id=key.access_key_id, access_key_secret=key.access_key_secret)
    return stages.authorization


@dataclass
class StoredMessage:
    """A message in a FakeSmq; a receipt handle hides it from the next receiver."""

    body: str
    message_id: str
    dequeue_count: int = 0
    receipt_handle: str | None = None


class FakeSmq(FakeService):
    """One SMQ queue; a message that was received stays hidden."""

    def __init__(
        self,
        bodies: Iterable[str] = (),
        *,
        key: Credentials = KEY,
        name: str = "dlq",
        time: FakeTime | None = None,
        troubles: Troubles | None = None,
    ) -> None:
        super().__init__(time=time, troubles=troubles)
        self.messages: list[StoredMessage] = []
        self._key = key
        self._path = f"/queues/{name}/messages"
        for body in bodies:
            self._keep(body)

    def resource(self, request: httpx.Request) -> str:
        return request.url.path.split("/")[2]

    def answer(self, request: httpx.Request) -> Reply:
        if request.headers["authorization"] != self._vendors_authorization(request):
            return _smq_error(403, "SignatureNotMatch")
        if request.url.path != self._path:
            return _smq_error(404, "QueueNotExist")
        match request.method:
            case "POST":
                encoded = request.content.partition(b"<MessageBody>")[2]
                kept = self._keep(encoded.partition(b"</MessageBody>")[0].decode())
                return _smq_xml(201, f"<MessageId>{kept.message_id}</MessageId>", "Message")
            case "DELETE":
                handle = unquote(request.url.query.decode().partition("ReceiptHandle=")[2])
                return self._delete(handle)
            case _:
                return self._hand_out(request)

    def _vendors_authorization(self, request: httpx.Request) -> str:
        official = MNSClient("http://127.0.0.1", self._key.access_key_id, "")
        expected: str = official.get_signature(
            request.method,
            dict(request.headers),
            request.url.raw_path.decode(),
            MnsCredentials(self._key.access_key_id, self._key.access_key_secret),
        )
        return expected

    def _keep(self, body: str) -> StoredMessage:
        message = StoredMessage(body, f"ID-{len(self.messages) + 1}")
        self.messages.append(message)
        return message

    def _delete(self, handle: str) -> Reply:
        kept = [message for message in self.messages if message.receipt_handle != handle]
        if len(kept) == len(self.messages):
            return _smq_error(404, "MessageNotExist")
        self.messages = kept
        return Reply(204)

    def _hand_out(self, request: httpx.Request) -> Reply:
        number = int(request.url.params.get("numOfMessages", "1"))
        visible = [message for message in self.messages if not message.receipt_handle][:number]
        if not visible:
            return _smq_error(404, "MessageNotExist")
        if "peekonly" not in request.url.params:
            for message in visible:
                message.dequeue_count += 1
                message.receipt_handle = f"1-{message.message_id}/+=="
        texts = [f"<Message>{_message_parts(message)}</Message>" for message in visible]
        return _smq_xml(200, "".join(texts), "Messages")


def _message_parts(message: StoredMessage) -> str:
    parts = {
        "MessageId": message.message_id,
        "MessageBody": message.body,
        "EnqueueTime": "1767323045000",
        "DequeueCount": str(message.dequeue_count),
        "Priority": "8",
    }
    if message.receipt_handle:
        parts["ReceiptHandle"] = message.receipt_handle
    return "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in parts.items())


def _smq_xml(status: int, inner: str, root: str) -> Reply:
    text = f'<?xml version="1.0"?><{root} xmlns="http://mns.aliyuncs.com/doc/v1/">{inner}</{root}>'
    return Reply(status, text.encode(), {"content-type": "text/xml;charset=utf-8"})


def _smq_error(status: int, code: str) -> Reply:
    return _smq_xml(status, f"<Code>{code}</Code><Message>No.</Message>", "Error")


@dataclass
class KeyRing:
    """Credentials as an environment holds them: each reading finds the next, the last one stays."""

    held: list[Credentials] = field(default_factory=lambda: [KEY])
    readings: int = 0

    def read(self) -> Credentials:
        self.readings += 1
        return self.held[min(self.readings, len(self.held)) - 1]


@dataclass
class LetterBox:
    """Keeps dead letters as long as there is room for them."""

    room: int = 1000
    letters: list[bytes] = field(default_factory=list)

    def put(self, letter: DeadLetter) -> None:
        if len(self.letters) >= self.room:
            raise Unavailable("The letter box is full.")
        self.letters.append(letter.body())

    def read(self) -> list[dict[str, Any]]:
        """The letters as they can be read, oldest first."""
        return [json.loads(letter) for letter in self.letters]


@dataclass
class FakeLetterQueue:
    """Letters that are under a lease from when they are read until they are removed or released.

    Letters in `taken` turn out to be somebody else's when they are to be kept; the time of those in
    `late` has run out when they are to be removed; for those in `silent` nobody answers then. `log`
    is what happened, in order; `most_leased` says how far it was read ahead of being removed.
    """

    letters: Iterable[QueuedMessage]
    taken: frozenset[str] = frozenset()
    late: frozenset[str] = frozenset()
    silent: frozenset[str] = frozenset()
    log: list[tuple[str, str]] = field(default_factory=list)
    leased: set[str] = field(default_factory=set)
    most_leased: int = 0
    scope: Scope | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def put(self, letter: DeadLetter) -> None:
        body = letter.body()
        self.letters = [*self.letters, QueuedMessage(letter.id, body, open_message(body), None)]

    def peek(self) -> Peek:
        return Peek(tuple(self.letters), is_all=True)

    def read(self) -> Iterator[QueuedMessage]:
        for letter in self.letters:
            with self._lock:
                self.leased.add(letter.key)
                self.most_leased = max(self.most_leased, len(self.leased))
            yield letter

    def keep(self, key: str) -> bool:
        self.note("kept", key)
        return key not in self.taken

    def remove(self, key: str) -> bool:
        if key in self.silent:
            raise Unavailable("The queue gave no answer.")
        if key in self.late:
            return False
        self.note("removed", key)
        with self._lock:
            self.leased.remove(key)
        return True

    def release(self) -> None:
        for key in sorted(self.leased):
            self.note("released", key)
        self.leased.clear()

    def note(self, what: str, key: str) -> None:
        """Write down what happens to a letter under its lease; nothing else may happen to it."""
        with self._lock:
            assert key in self.leased, f"{key} is {what} without a lease"
            self.log.append((what, key))

    def told(self, what: str) -> list[str]:
        """The letters to which this happened, in order."""
        return [key for happened, key in self.log if happened == what]


def dead_letter_of(event: object, /, **told: object) -> bytes:
    """A letter of ours about an event that was refused for want of a right, or as `told` says."""
    (first, *_) = open_payload(event).events
    letter = {
        "version": 1,
        "id": dead_letter_id(first, str(told.get("reason", "rejected"))),
        "reason": "rejected",
        "detail": "OSS Tables answered 403.",
        "event": json.dumps(event),
        "event_encoding": "utf-8",
        "event_id": first.event_id,
        "arn": _bucket_of(first),
        "status": 403,
        "code": "ForbiddenException",
        "message": "You have no right to perform oss:PutTableBucketEncryption.",
        "ec": "0003-00000001",
        "oss_request_id": "OSS-1",
        "function": CREATION_FUNCTION,
        "function_request_id": "FC-1",
        "attempts": 1,
        "redrives": 0,
        "at": "2026-01-02T03:04:05.000Z",
    }
    return json.dumps(letter | told).encode()


def _bucket_of(event: Event) -> str | None:
    """The bucket that the guard finds in an event of its own account and region."""
    if isinstance(event.parsed, InvalidEvent):
        return None
    try:
        return str(find_bucket(event.parsed, region=REGION, account_id=ACCOUNT).arn)
    except InvalidEvent:
        return None


def destination_record_of(event: object, **context: object) -> bytes:
    """What Function Compute keeps of an event that failed at every try."""
    known = {
        "requestId": "FC-1",
        "functionArn": f"acs:fc:{REGION}:{ACCOUNT}:functions/{CREATION_FUNCTION}",
        "condition": "UnhandledInvocationError",
        "approximateInvokeCount": 4,
    }
    record = {
        "timestamp": 1767323045000,
        "requestContext": known | context,
        "requestPayload": json.dumps(event),
        "responseContext": {"statusCode": 200, "functionError": "UnhandledInvocationError"},
        "responsePayload": {"errorType": "Unavailable", "errorMessage": "No answer in 4 tries."},
    }
    return json.dumps(record).encode()


def waiting_of(body: bytes, *, key: str = "message-1") -> QueuedMessage:
    """A message that was put into a queue at START."""
    return QueuedMessage(key, body, open_message(body, Scope(ACCOUNT, REGION)), since=START)


@dataclass
class LogLines:
    """What was logged as an error: the message and its keys."""

    lines: list[dict[str, Any]] = field(default_factory=list)

    def error(self, message: str, **keys: object) -> None:
        self.lines.append({"message": message, **keys})


def invocation_of(
    service: FakeService,
    *,
    environment: Mapping[str, str] | None = None,
    seconds: float = 60.0,
    read_credentials: Callable[[], Credentials] | None = None,
) -> Invocation:
    """An invocation that has so many seconds left and meets this service."""
    clock = service.time.as_clock()
    return Invocation(
        transport=service.transport(),
        settings=Settings.from_environment(
            {"FC_ACCOUNT_ID": ACCOUNT, "FC_REGION": REGION} | dict(environment or {})
        ),
        read_credentials=read_credentials or KeyRing().read,
        budget=TimeBudget(clock.monotonic() + seconds, clock),
        clock=clock,
    )


def creation_of(
    arn: TableBucketArn | str, *, event_id: str | None = "event-1", **record: object
) -> dict[str, Any]:
    """The event of a bucket's creation one second ago, except for what `record` says."""
    data: dict[str, object] = {
        "eventName": "CreateTableBucket",
        "eventTime": "2026-01-02T03:04:04Z",
        "responseElements": {"arn": str(arn)},
    }
    event = {"source": "acs.oss", "type": "oss:ActionTrail:ApiCall", "data": data | record}
    return event if event_id is None else event | {"id": event_id}


def forget_logger() -> None:
    """Let the next logger be made anew: a process keeps its first one, and the stream of that."""
    open_logger.cache_clear()
    logging.Logger.manager.loggerDict.pop(SERVICE, None)
