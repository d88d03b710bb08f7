"""SMQ on loopback: queues with state, behind the service's own authentication."""

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import Call, Clock, EmulatedService, refuse, utc_now
from tests.emulators.faults import Faults, Refuse
from tests.emulators.server import Authority
from tests.emulators.smq_access import authenticate, check_content
from tests.emulators.smq_documents import (
    HEADERS,
    answer,
    answer_list,
    hidden,
    message_fields,
    peeked,
    received,
    sent,
)
from tests.emulators.smq_state import DEFAULT_PRIORITY, Queues, StoredMessage, no_message
from tests.emulators.wire import LOOPBACK_HOSTS, Answer, Request

LARGEST_BODY = 64 * 1024
LARGEST_BATCH = 16
LONGEST_WAIT = 30
LONGEST_DELAY = 604800
LONGEST_HIDING = 43200

PATH = re.compile(r"/queues/([^/?]+)/messages")
HOST = re.compile(r"(?P<account>[0-9]+)\.mns\.[a-z0-9-]+\.aliyuncs\.com")

DEFAULT_CODES = {
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "QueueNotExist",
    409: "QueueAlreadyExist",
    429: "QpsLimitExceeded",
    500: "InternalError",
    503: "QpsLimitExceeded",
}


@dataclass(frozen=True)
class _Asked:
    queue: str
    parameters: Mapping[str, str]
    body: bytes


class Smq(EmulatedService):
    """The service; the queues belong to the account of its first key and lie on so many nodes."""

    server_name = "AliyunMNS"
    request_id_header = "x-mns-request-id"

    def __init__(
        self,
        *access_keys: AccessKey,
        queues: Sequence[str] = (),
        region: str = "cn-hangzhou",
        nodes: int = 1,
        visibility_seconds: float = 30,
        authority: Authority | None = None,
        host_names: Sequence[str] = (),
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(
            *access_keys, authority=authority, host_names=host_names, faults=faults, clock=clock
        )
        self._owner = access_keys[0].account_id
        self._region = region
        self._visibility_seconds = visibility_seconds
        self._queues = Queues(clock, nodes)
        for queue in queues:
            self.create_queue(queue)

    def create_queue(self, queue: str) -> None:
        self._queues.create(queue)

    def put(self, queue: str, body: bytes | str) -> str:
        """Put a message there without an API call, its body as it is, and return its id."""
        text = body if isinstance(body, str) else body.decode()
        return self._queues.send(queue, text).id

    def bodies(self, queue: str) -> list[str]:
        """The bodies as they were sent: in base64 if the sender made it so."""
        return [message.body for message in self.messages(queue)]

    def empty(self, queue: str) -> None:
        """Take every message out, as nothing that is documented does."""
        self._queues.empty(queue)

    def messages(self, queue: str) -> list[StoredMessage]:
        """All messages, hidden ones too, in the order they came."""
        return self._queues.messages(queue)

    def stop(self) -> None:
        self._queues.close()
        super().stop()

    def new_request_id(self) -> str:
        return uuid.uuid4().hex[:24].upper()

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        match = PATH.fullmatch(request.path)
        if match is None:
            return None, None
        return _operation(request), unquote(match[1])

    def perform(self, call: Call) -> Answer:
        if call.operation is None or call.resource is None:
            raise refuse(400, "InvalidRequestURL", "Http request URL format invalid.")
        key = authenticate(call.request, self.keys, call.now)
        self._check_account(call.request, key)
        place = f"acs:mns:{self._region}:{self._owner}:/queues/{call.resource}/messages"
        if not self.rights.allow(key, f"mns:{call.operation}", place):
            raise _access_denied()
        check_content(call.request)
        asked = _Asked(call.resource, call.request.parameters, call.request.body)
        return OPERATIONS[call.operation](self, asked)

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        fields = {
            "Code": refusal.code or DEFAULT_CODES.get(refusal.status, "InternalError"),
            "Message": refusal.message,
            "RequestId": call.request_id,
            "HostId": f"http://{call.request.headers.get('host', '')}",
        }
        return answer(refusal.status, "Error", fields, dict(refusal.headers))

    def send_message(self, asked: _Asked) -> Answer:
        fields = message_fields(asked.body)
        body = fields.get("MessageBody", "")
        if not 0 < len(body.encode()) <= LARGEST_BODY:
            raise refuse(
                400,
                "InvalidArgument",
                f"The value of MessageBody should between 1 and {LARGEST_BODY} bytes.",
            )
        message = self._queues.send(
            asked.queue,
            body,
            delay_seconds=_number(fields, "DelaySeconds", 0, LONGEST_DELAY, default=0),
            priority=_number(fields, "Priority", 1, 16, default=DEFAULT_PRIORITY),
        )
        return answer(201, "Message", sent(message))

    def receive_message(self, asked: _Asked) -> Answer:
        found = self._queues.receive(
            asked.queue,
            _count(asked),
            wait_seconds=_number(asked.parameters, "waitseconds", 0, LONGEST_WAIT, default=0),
            hidden_seconds=self._visibility_seconds,
        )
        return _messages(asked, [received(message) for message in found])

    def peek_message(self, asked: _Asked) -> Answer:
        found = self._queues.peek(asked.queue, _count(asked))
        return _messages(asked, [peeked(message) for message in found])

    def delete_message(self, asked: _Asked) -> Answer:
        self._queues.delete(asked.queue, _handle(asked))
        return Answer(204, HEADERS)

    def change_message_visibility(self, asked: _Asked) -> Answer:
        if "VisibilityTimeout" not in asked.parameters:
            raise refuse(400, "MissingVisibilityTimeout", "VisibilityTimeout is required.")
        seconds = _number(asked.parameters, "VisibilityTimeout", 1, LONGEST_HIDING, default=1)
        message = self._queues.hide(asked.queue, _handle(asked), seconds)
        return answer(200, "ChangeVisibility", hidden(message))

    def _check_account(self, request: Request, key: AccessKey) -> None:
        match = HOST.fullmatch(request.host)
        if match is None and request.host not in LOOPBACK_HOSTS:
            raise refuse(400, "InvalidRequestURL", "Http request URL format invalid.")
        asked_of = self._owner if match is None else match["account"]
        if {key.account_id, asked_of} != {self._owner}:
            raise _access_denied()


OPERATIONS: Mapping[str, Callable[[Smq, _Asked], Answer]] = {
    "SendMessage": Smq.send_message,
    "ReceiveMessage": Smq.receive_message,
    "BatchReceiveMessage": Smq.receive_message,
    "PeekMessage": Smq.peek_message,
    "BatchPeekMessage": Smq.peek_message,
    "DeleteMessage": Smq.delete_message,
    "ChangeMessageVisibility": Smq.change_message_visibility,
}


def _operation(request: Request) -> str | None:
    if request.method == "GET":
        verb = "Peek" if request.parameters.get("peekonly") == "true" else "Receive"
        batch = "Batch" if "numOfMessages" in request.parameters else ""
        return f"{batch}{verb}Message"
    return {
        "POST": "SendMessage",
        "DELETE": "DeleteMessage",
        "PUT": "ChangeMessageVisibility",
    }.get(request.method)


def _access_denied() -> Exception:
    return refuse(
        403,
        "AccessDenied",
        "The OwnerId that your Access Key Id associated to is forbidden for this operation.",
    )


def _messages(asked: _Asked, found: list[Mapping[str, str]]) -> Answer:
    if not found:
        raise no_message()
    if "numOfMessages" in asked.parameters:
        return answer_list(200, "Messages", "Message", found)
    return answer(200, "Message", found[0])


def _count(asked: _Asked) -> int:
    return _number(asked.parameters, "numOfMessages", 1, LARGEST_BATCH, default=1)


def _handle(asked: _Asked) -> str:
    handle = asked.parameters.get("ReceiptHandle")
    if not handle:
        raise refuse(400, "MissingReceiptHandle", "ReceiptHandle is required.")
    return handle


def _number(fields: Mapping[str, str], name: str, low: int, high: int, *, default: int) -> int:
    text = fields.get(name, str(default))
    if not text.isdecimal() or not low <= int(text) <= high:
        raise refuse(
            400, "InvalidArgument", f"The value of {name} should between {low} and {high}."
        )
    return int(text)
