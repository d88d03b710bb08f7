"""The emulated SMQ under the official client, and under requests altered by hand."""

import base64
import hashlib
import http.client
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest
from mns.account import Account
from mns.auth import Credentials
from mns.mns_client import MNSClient
from mns.mns_exception import MNSServerException
from mns.queue import Message

from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import utc_now
from tests.emulators.smq import Smq

ACCOUNT = "1234567890123456"
KEY = AccessKey("AKID", "AKSECRET", ACCOUNT)
STS_KEY = replace(KEY, security_token="STSTOKEN")
TARGET = "/queues/dlq/messages"

Connect = Callable[..., Any]


@pytest.fixture
def service() -> Iterator[Smq]:
    with Smq(KEY, queues=["dlq"]) as service:
        yield service


@pytest.fixture
def connect() -> Iterator[Connect]:
    """Makes queues of official clients, and closes their connections."""
    accounts = []

    def queue(service: Smq, key: AccessKey = KEY, name: str = "dlq") -> Any:
        accounts.append(Account(service.url, key.id, key.secret, key.security_token or ""))
        return accounts[-1].get_queue(name)

    yield queue
    for account in accounts:
        account.mns_client.close_connection()


def refusal(call: Callable[..., Any], *arguments: Any) -> Any:
    with pytest.raises(MNSServerException) as caught:
        call(*arguments)
    return caught.value


def test_a_sent_message_is_received_and_deleted(service: Smq, connect: Connect) -> None:
    """A message is sent, received with a handle, and gone once it is deleted by it."""
    queue = connect(service)

    sent = queue.send_message(Message("größer"))
    received = queue.receive_message(1)
    queue.delete_message(received.receipt_handle)

    assert received.message_body.decode() == "größer"
    assert received.message_id == sent.message_id
    assert received.message_body_md5 == sent.message_body_md5
    assert received.dequeue_count == 1
    assert service.messages("dlq") == []


def test_the_body_is_kept_as_it_was_sent(service: Smq, connect: Connect) -> None:
    """The queue holds base64 from a client that encodes and text from one that does not."""
    raw = connect(service)
    raw.set_encoding(False)

    connect(service).send_message(Message('{"a":1}'))
    raw.send_message(Message('{"b":<2>}'))
    service.put("dlq", '{"c":"ü"}'.encode())

    assert service.bodies("dlq") == ["eyJhIjoxfQ==", '{"b":<2>}', '{"c":"ü"}']
    assert [each.message_body for each in raw.batch_peek_message(16)] == service.bodies("dlq")


def test_peeking_changes_nothing(service: Smq, connect: Connect) -> None:
    """A message that was peeked at can still be received, for the first time."""
    queue = connect(service)
    queue.send_message(Message("a"))

    peeked = queue.peek_message(), queue.batch_peek_message(16)[0]
    received = queue.receive_message()

    assert [each.message_body for each in peeked] == [b"a", b"a"]
    assert [each.dequeue_count for each in peeked] == [0, 0]
    assert received.dequeue_count == 1


def test_a_batch_is_received_by_priority(service: Smq, connect: Connect) -> None:
    """Up to sixteen messages come at once, the most urgent ones first."""
    queue = connect(service)
    for index in range(20):
        queue.send_message(Message(str(index), priority=1 if index == 19 else -1))

    first = queue.batch_receive_message(16, 1)
    second = queue.batch_receive_message(16, 1)

    assert [each.message_body for each in first[:3]] == [b"19", b"0", b"1"]
    assert (len(first), len(second)) == (16, 4)


@pytest.mark.parametrize("call", ["batch_receive_message", "batch_peek_message"])
def test_one_node_answers_with_what_it_has(connect: Connect, call: str) -> None:
    """Of eleven messages on five nodes only two or three come at once, in turn from each node."""
    with Smq(KEY, queues=["dlq"], nodes=5) as service:
        for number in range(11):
            service.put("dlq", str(number))
        queue = connect(service)
        queue.set_encoding(False)
        answers = [getattr(queue, call)(16) for _ in range(5)]

    found = [[message.message_body for message in answer] for answer in answers]
    assert found == [["0", "5", "10"], ["1", "6"], ["2", "7"], ["3", "8"], ["4", "9"]]


def test_an_empty_node_passes_its_turn_on(connect: Connect) -> None:
    """As long as any node has a message nobody is told that there is none."""
    with Smq(KEY, queues=["dlq"], nodes=5) as service:
        for number in range(3):
            service.put("dlq", str(number))
        queue = connect(service)
        queue.set_encoding(False)
        found = [queue.receive_message().message_body for _ in range(3)]
        error = refusal(queue.receive_message)

    assert sorted(found) == ["0", "1", "2"]
    assert error.type == "MessageNotExist"


def test_an_undeleted_message_comes_again(connect: Connect) -> None:
    """A message that was not deleted returns after NextVisibleTime, and its handle is void then."""
    seconds = 0.0
    with Smq(KEY, queues=["dlq"], clock=lambda: utc_now() + timedelta(seconds=seconds)) as service:
        queue = connect(service)
        queue.send_message(Message("a"))
        first = queue.receive_message()
        hidden = refusal(queue.receive_message)
        seconds = 31.0
        void = refusal(queue.delete_message, first.receipt_handle)
        second = queue.receive_message()

    assert (hidden.type, void.type) == ("MessageNotExist", "MessageNotExist")
    assert second.message_id == first.message_id
    assert second.dequeue_count == 2


def test_a_handle_works_once(service: Smq, connect: Connect) -> None:
    """The message of a handle that has deleted it does not exist; a made-up handle is not valid."""
    queue = connect(service)
    queue.send_message(Message("a"))
    handle = queue.receive_message().receipt_handle
    queue.delete_message(handle)

    again = refusal(queue.delete_message, handle)
    assert (again.type, service.requests[-1].status) == ("MessageNotExist", 404)
    made_up = refusal(queue.delete_message, "1-none")
    assert (made_up.type, service.requests[-1].status) == ("ReceiptHandleError", 400)


def test_receiving_waits_for_a_message(connect: Connect) -> None:
    """A delayed message ends the wait of the one who asked before it came into sight."""
    began = utc_now()
    with Smq(KEY, queues=["dlq"], clock=lambda: began + 10 * (utc_now() - began)) as service:
        queue = connect(service)
        queue.send_message(Message("a", delay_seconds=2))

        at_once = refusal(queue.receive_message)
        waited = queue.receive_message(10)

    assert at_once.type == "MessageNotExist"
    assert waited.message_body == b"a"


def test_a_missing_queue_is_told(service: Smq, connect: Connect) -> None:
    """Nothing can be sent to or received from a queue that does not exist."""
    queue = connect(service, name="missing")

    errors = [refusal(queue.send_message, Message("a")), refusal(queue.receive_message)]

    assert [error.type for error in errors] == ["QueueNotExist", "QueueNotExist"]


def test_the_size_of_a_body_is_limited(service: Smq, connect: Connect) -> None:
    """A body of 64 KB, base64 included, is taken and a larger one refused."""
    queue = connect(service)

    queue.send_message(Message("a" * 49152))
    error = refusal(queue.send_message, Message("a" * 49153))

    assert error.type == "InvalidArgument"
    assert [len(body) for body in service.bodies("dlq")] == [65536]


@pytest.mark.parametrize(
    ("known", "sent", "code"),
    [
        (KEY, replace(KEY, secret="wrong"), "SignatureDoesNotMatch"),
        (KEY, replace(KEY, id="NOBODY"), "InvalidAccessKeyId"),
        (STS_KEY, KEY, "InvalidAccessKeyId"),
        (KEY, STS_KEY, "InvalidSecurityToken"),
        (STS_KEY, replace(STS_KEY, security_token="OTHER"), "InvalidSecurityToken"),
        (replace(STS_KEY, expires_at=utc_now()), STS_KEY, "SecurityTokenExpired"),
        (replace(KEY, denied=frozenset({"Send*"})), KEY, "AccessDenied"),
    ],
)
def test_a_wrong_caller_is_refused(
    connect: Connect, known: AccessKey, sent: AccessKey, code: str
) -> None:
    """A wrong secret, key, token or right is a 403, and nothing is queued."""
    with Smq(known, queues=["dlq"]) as service:
        error = refusal(connect(service, sent).send_message, Message("a"))

    assert error.type == code
    assert service.requests[-1].status == 403
    assert service.messages("dlq") == []


def test_a_foreign_account_is_denied(connect: Connect) -> None:
    """The queues belong to the account of the first key; a key of another may not use them."""
    foreign = AccessKey("FOREIGN", "SECRET", "9999999999999999")
    with Smq(KEY, foreign, queues=["dlq"]) as service:
        error = refusal(connect(service, foreign).receive_message)

    assert error.type == "AccessDenied"


BODY = (
    b'<?xml version="1.0" encoding="utf-8"?><Message xmlns="http://mns.aliyuncs.com/doc/v1/">'
    b"<MessageBody>eyJhIjoxfQ==</MessageBody></Message>"
)


def headers_of(body: bytes, **changes: str) -> dict[str, str]:
    """The headers of a send, changed and then signed by the official client's own code."""
    digest = hashlib.md5(body, usedforsecurity=False).hexdigest().encode()
    headers = {
        "content-md5": base64.b64encode(digest).decode(),
        "content-type": "text/xml;charset=UTF-8",
        "date": format_datetime(utc_now(), usegmt=True),
        "x-mns-version": "2015-06-06",
        **{name.replace("_", "-"): value for name, value in changes.items()},
    }
    client = MNSClient("http://127.0.0.1", KEY.id, KEY.secret)
    credentials = Credentials(KEY.id, KEY.secret)
    headers["authorization"] = client.get_signature("POST", headers, TARGET, credentials)
    return headers


def post(service: Smq, headers: dict[str, str], body: bytes) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)
    connection.request("POST", TARGET, body, headers)
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, content


LATE = format_datetime(utc_now() - timedelta(minutes=16), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        (headers_of(BODY), BODY, 201, "MessageBodyMD5"),
        (headers_of(BODY, date=LATE), BODY, 400, "TimeExpired"),
        (headers_of(BODY, date="yesterday"), BODY, 400, "InvalidDateHeader"),
        (headers_of(BODY, x_mns_version="2010"), BODY, 400, "InvalidVersionHeader"),
        (headers_of(BODY), BODY + b" ", 400, "InvalidDegist"),
        (headers_of(BODY) | {"content-type": "text/plain"}, BODY, 403, "SignatureDoesNotMatch"),
        (headers_of(BODY) | {"x-mns-added": "1"}, BODY, 403, "SignatureDoesNotMatch"),
        (headers_of(BODY) | {"authorization": "Basic x"}, BODY, 400, "InvalidAuthorizationHeader"),
        (headers_of(b"<Message"), b"<Message", 400, "MalformedXML"),
        (headers_of(b"<Message/>"), b"<Message/>", 400, "InvalidArgument"),
        (headers_of(BODY, host=f"{ACCOUNT}.mns.cn-hangzhou.aliyuncs.com"), BODY, 201, "MessageId"),
        (headers_of(BODY, host="1.mns.cn-hangzhou.aliyuncs.com"), BODY, 403, "AccessDenied"),
        (headers_of(BODY, host="example.com"), BODY, 400, "InvalidRequestURL"),
    ],
)
def test_what_is_altered_is_refused(
    service: Smq, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    """A send altered anywhere is refused for that reason, and an unaltered one is taken."""
    answered, content = post(service, headers, body)

    assert answered == status
    assert code in content
    assert len(service.messages("dlq")) == (1 if status == 201 else 0)
