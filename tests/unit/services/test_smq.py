"""The SMQ client: its signature and form against the vendor's, its answers and its patience."""

from __future__ import annotations

from base64 import b64decode, b64encode
from dataclasses import replace
from itertools import repeat
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mns.auth import Credentials as MnsCredentials
from mns.mns_client import MNSClient
from mns.mns_http import RequestInternal
from mns.mns_request import SendMessageRequest
from mns.mns_xml_handler import MessageEncoder

from encryption_guard.credentials import Credentials
from encryption_guard.errors import Unavailable
from encryption_guard.services.smq import SmqMessage, SmqQueue, signature, string_to_sign
from encryption_guard.settings import QueueArn
from tests.unit.fakes import ACCOUNT, KEY, REGION, Broken, FakeSmq, KeyRing, Reply, invocation_of

QUEUE = QueueArn(REGION, ACCOUNT, "dlq")
NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
# A handle has every character that is awkward in a query, and goes there as it is.
HIDDEN = Reply(
    200,
    f'<?xml version="1.0"?><ChangeVisibility xmlns="{NAMESPACE}">'
    "<ReceiptHandle>2-new/+==</ReceiptHandle><NextVisibleTime>1767323075000</NextVisibleTime>"
    "</ChangeVisibility>".encode(),
)


def queue_of(service: FakeSmq, *, queue: QueueArn = QUEUE, **rest: Any) -> SmqQueue:
    return SmqQueue(queue, invocation_of(service, **rest))


# The signature.

# What the vendor's client made of these requests.
GOLDEN = {
    "send": "J6gzCz21OYHAz3p0ddRHU+G7XYI=",
    "peek": "oSSpfHP2XFmpj443SRDdiZCIxsM=",
    "delete": "tavF2DH2xKQHdaJecy0EQ9F8n84=",
    "hide": "S9jO5hj97uZ9YgKV9V+8Y1S6Rig=",
}


def authorization(request: httpx.Request) -> str:
    header: str = request.headers["authorization"]
    return header


def test_requests_go_out_with_the_recorded_signatures() -> None:
    """Whatever is asked of the queue is signed on the wire as the vendor's client signs it."""
    service = FakeSmq(troubles={"PUT": [HIDDEN]})
    queue = queue_of(service)

    queue.send(b'{"a":1}')
    queue.peek()
    queue.delete("1-ODU4/OTkz+==")
    queue.hide("1-ODU4/OTkz+==", seconds=30)

    assert [authorization(request) for request in service.requests] == [
        f"MNS AKID:{signed}" for signed in GOLDEN.values()
    ]


@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE"]),
    headers=st.dictionaries(
        st.sampled_from(
            ["content-md5", "content-type", "date", "host", "x-mns-version", "x-mns-a", "x-mns-z"]
        ),
        st.text(),
    ),
    resource=st.text(),
    secret=st.text(min_size=1),
)
def test_the_signature_is_the_vendors(
    method: str, headers: dict[str, str], resource: str, secret: str
) -> None:
    """Whatever is signed, the vendor's client signs it in the same way."""
    official = MNSClient("http://127.0.0.1", "AKID", "AKSECRET").get_signature(
        method, headers, resource, MnsCredentials("AKID", secret)
    )

    to_sign = string_to_sign(method=method, headers=headers, resource=resource)
    ours = signature(access_key_secret=secret, string_to_sign=to_sign)

    assert f"MNS AKID:{ours}" == official


def test_a_token_goes_along_unsigned() -> None:
    """Temporary credentials add a header and change nothing else."""
    temporary = Credentials("AKID", "AKSECRET", "STS-TOKEN")
    service = FakeSmq(key=temporary)

    queue_of(service, read_credentials=KeyRing([temporary]).read).send(b'{"a":1}')
    queue_of(service).send(b'{"a":1}')

    with_token, without = service.requests
    assert with_token.headers["security-token"] == "STS-TOKEN"
    assert "security-token" not in without.headers
    assert authorization(with_token) == authorization(without)


def test_credentials_are_read_for_every_request() -> None:
    """A key that was renewed meanwhile signs the next request."""
    renewed = Credentials("AKID2", "AKSECRET2", "T")
    service = FakeSmq(key=renewed)
    queue = queue_of(service, read_credentials=KeyRing([KEY, renewed]).read)

    with pytest.raises(Unavailable, match="403"):
        queue.send(b"first")
    queue.send(b"second")

    assert [b64decode(message.body) for message in service.messages] == [b"second"]


# The form.


@settings(deadline=None)
@given(body=st.text(min_size=1))
def test_a_message_has_the_vendors_form(body: str) -> None:
    """Body and digest are, byte for byte, what the vendor's client sends."""
    service = FakeSmq()
    official = MessageEncoder.encode(SendMessageRequest("dlq", body))

    queue_of(service).send(body.encode())

    (request,) = service.requests
    assert request.content == official
    assert b64decode(service.messages[0].body).decode() == body


def test_headers_are_the_vendors() -> None:
    """Digest, type and version are those that the vendor's client builds."""
    service = FakeSmq()
    asked = SendMessageRequest("dlq", '{"a":1}')
    sent = RequestInternal("POST", "/queues/dlq/messages", data=MessageEncoder.encode(asked))
    MNSClient("http://127.0.0.1", "AKID", "AKSECRET").build_header(asked, sent)

    queue_of(service).send(b'{"a":1}')

    names = ("content-md5", "content-type", "x-mns-version")
    (request,) = service.requests
    assert {name: request.headers[name] for name in names} == {
        name: sent.header[name] for name in names
    }
    assert request.headers["date"] == "Fri, 02 Jan 2026 03:04:05 GMT"


@pytest.mark.parametrize(
    ("environment", "base"),
    [
        ({}, f"https://{ACCOUNT}.mns.cn-hangzhou.aliyuncs.com"),
        ({"GUARD_SMQ_ENDPOINT": "http://127.0.0.1:8080"}, "http://127.0.0.1:8080"),
    ],
    ids=["the queue's own host", "GUARD_SMQ_ENDPOINT"],
)
def test_where_a_message_goes(environment: dict[str, str], base: str) -> None:
    """The queue's ARN gives host and path; a setting replaces scheme, host and port."""
    service = FakeSmq()

    queue_of(service, environment=environment).send(b"letter")

    (request,) = service.requests
    assert (request.method, str(request.url)) == ("POST", f"{base}/queues/dlq/messages")


# What the answers lead to.

PASSING = {
    "500": Reply(500),
    "503": Reply(503, b"<html>"),
    "refused": Broken(httpx.ConnectError),
    "reset": Broken(httpx.ReadError),
}


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_what_passes_is_tried_again(trouble: Reply | Broken) -> None:
    """A message is in the queue after two failures, with a growing pause after each."""
    service = FakeSmq(troubles={"POST": [trouble] * 2})

    queue_of(service).send(b"letter")

    assert len(service.messages) == 1
    assert service.time.slept == pytest.approx([0.2, 0.4])


@pytest.mark.parametrize("trouble", PASSING.values(), ids=PASSING)
def test_what_does_not_pass_is_unavailable(trouble: Reply | Broken) -> None:
    """After GUARD_MAX_ATTEMPTS tries the platform has to try again."""
    service = FakeSmq(troubles={"POST": repeat(trouble)})

    with pytest.raises(Unavailable, match="dlq"):
        queue_of(service).send(b"letter")

    assert len(service.requests) == 4
    assert service.time.slept == pytest.approx([0.2, 0.4, 0.8])


@pytest.mark.parametrize("status", [301, 307, 400, 401, 403, 404, 405, 409, 413, 499])
def test_a_refusal_is_not_repeated(status: int) -> None:
    """Any other answer than a success is final, and the letter is nowhere."""
    service = FakeSmq(troubles={"POST": [Reply(status, headers={"location": "/elsewhere"})]})

    with pytest.raises(Unavailable, match=str(status)):
        queue_of(service).send(b"letter")

    assert len(service.requests) == 1
    assert service.time.slept == []


@pytest.mark.parametrize(
    "answer",
    [
        *(Reply(status, b"<Message><MessageId>1</MessageId></Message>") for status in (200, 202)),
        *(
            Reply(201, body)
            for body in (b"", b"<html>sign in</html>", b"<Error><Code>X</Code></Error>")
        ),
    ],
    ids=["200", "202", "nothing", "a sign-in page", "an error"],
)
def test_only_a_201_with_an_id_confirms_a_message(answer: Reply) -> None:
    """Another success than the documented one does not say that the message is kept."""
    service = FakeSmq(troubles={"POST": [answer]})

    with pytest.raises(Unavailable, match=str(answer.status)):
        queue_of(service).send(b"letter")


def test_a_refusal_names_queue_status_and_code() -> None:
    """The exception tells an operator where to look, and nothing secret."""
    service = FakeSmq(name="another")

    with pytest.raises(Unavailable) as caught:
        queue_of(service).send(b"letter")

    assert all(part in str(caught.value) for part in ("dlq", "404", "QueueNotExist"))
    assert "AKSECRET" not in str(caught.value)


@pytest.mark.parametrize(
    "trouble",
    [Broken(httpx.ReadError, takes=1.0), Reply(201, takes=1e6)],
    ids=["slow resets", "silence"],
)
def test_a_request_keeps_to_sixty_percent_of_the_time(trouble: Reply | Broken) -> None:
    """What holds for OSS Tables holds for the queue, however often it may be tried."""
    service = FakeSmq(troubles={"POST": repeat(trouble)})
    queue = queue_of(service, seconds=10, environment={"GUARD_MAX_ATTEMPTS": "20"})

    with pytest.raises(Unavailable):
        queue.send(b"letter")

    assert service.time.passed <= 6 + 1e-6


# Reading the queue.

BODIES = ["eyJhIjoxfQ==", '{"not": "base64"}', "", "a & <b>"]


def test_a_peek_shows_messages_and_takes_nothing() -> None:
    """Bodies come as they lie there, in order, and nobody's receipt is touched."""
    service = FakeSmq(BODIES)
    queue = queue_of(service)

    first, second = queue.peek(), queue.peek()

    assert [message.body for message in first] == BODIES
    assert first == second
    assert {message.receipt_handle for message in first} == {None}
    assert service.requests[0].url.query == b"peekonly=true&numOfMessages=16"


def test_a_received_message_can_be_deleted() -> None:
    """What was received is hidden from the next one, and what was deleted is gone."""
    service = FakeSmq(["one", "two", "three"])
    queue = queue_of(service)

    (first,) = queue.receive(1, wait_seconds=3)
    second, third = queue.receive()
    deleted = queue.delete(first.receipt_handle or "")

    assert deleted is True
    assert first == SmqMessage("ID-1", "one", 1, 1767323045000, "1-ID-1/+==")
    assert [second.body, third.body] == ["two", "three"]
    assert [message.body for message in service.messages] == ["two", "three"]
    assert service.requests[0].url.query == b"numOfMessages=1&waitseconds=3"


@pytest.mark.parametrize("status", [200, 202, 302])
def test_only_a_204_confirms_that_a_message_is_gone(status: int) -> None:
    """Another answer than the documented one leaves it open whether the message is still there."""
    service = FakeSmq(troubles={"DELETE": [Reply(status)]})

    with pytest.raises(Unavailable, match=str(status)):
        queue_of(service).delete("1-handle")


@pytest.mark.parametrize("seconds", [1, 120, 43200])
def test_a_received_message_can_be_hidden_anew(seconds: int) -> None:
    """The old handle and the seconds are asked with, as they are; the new handle comes back."""
    service = FakeSmq(troubles={"PUT": [HIDDEN]})

    handle = queue_of(service).hide("1-old/+==", seconds=seconds)

    assert handle == "2-new/+=="
    (request,) = service.requests
    assert request.method == "PUT"
    assert request.url.raw_path.decode() == (
        f"/queues/dlq/messages?ReceiptHandle=1-old/+==&VisibilityTimeout={seconds}"
    )
    assert request.content == b""


@pytest.mark.parametrize("status", [201, 202, 204, 302])
def test_only_a_200_confirms_that_a_message_is_hidden(status: int) -> None:
    """Another answer than the documented one does not say for how long the message is hidden."""
    service = FakeSmq(troubles={"PUT": [replace(HIDDEN, status=status)]})

    with pytest.raises(Unavailable, match=str(status)):
        queue_of(service).hide("1-handle", seconds=30)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"<ChangeVisibility><NextVisibleTime>1767323075000</NextVisibleTime></ChangeVisibility>",
        b"<ChangeVisibility><ReceiptHandle></ReceiptHandle></ChangeVisibility>",
        b"<ChangeVisibility><ReceiptHandle>2-new",
    ],
    ids=["empty", "garbage", "no handle", "an empty handle", "cut short"],
)
def test_hidden_without_a_handle_is_unavailable(body: bytes) -> None:
    """Without the new handle the message is out of reach, but that is nobody else's doing."""
    service = FakeSmq(troubles={"PUT": [Reply(200, body)]})

    with pytest.raises(Unavailable, match="200"):
        queue_of(service).hide("1-handle", seconds=30)


NOT_EXIST = Reply(404, b"<Error><Code>MessageNotExist</Code><Message>No.</Message></Error>")


def test_a_spent_handle_is_told_apart() -> None:
    """Where the handle no longer holds the message, deleting says False and hiding None."""
    service = FakeSmq(troubles={"DELETE": [NOT_EXIST], "PUT": [NOT_EXIST]})
    queue = queue_of(service)

    deleted = queue.delete("1-handle")
    hidden = queue.hide("1-handle", seconds=30)

    assert (deleted, hidden) == (False, None)
    assert service.time.slept == []


@pytest.mark.parametrize(
    "answer",
    [
        Reply(400, b"<Error><Code>ReceiptHandleError</Code></Error>"),
        Reply(400, b"<Error><Code>MessageNotExist</Code></Error>"),
        Reply(403, b"<Error><Code>AccessDenied</Code></Error>"),
        Reply(404, b"<Error><Code>QueueNotExist</Code></Error>"),
        Reply(404, b"<html>"),
        Reply(500, b"<Error><Code>MessageNotExist</Code></Error>"),
    ],
    ids=["no handle", "another status", "no right", "no queue", "no code", "a failure"],
)
def test_nothing_else_says_that_a_handle_is_spent(answer: Reply) -> None:
    """Only 404 MessageNotExist does; after anything else the message may still be ours."""
    service = FakeSmq(troubles={"DELETE": repeat(answer), "PUT": repeat(answer)})
    queue = queue_of(service)

    with pytest.raises(Unavailable, match=str(answer.status)):
        queue.delete("1-handle")
    with pytest.raises(Unavailable, match=str(answer.status)):
        queue.hide("1-handle", seconds=30)


def test_an_empty_queue_is_an_empty_list() -> None:
    """MessageNotExist is what an empty queue answers, and no failure."""
    service = FakeSmq()
    queue = queue_of(service)

    found = [queue.peek(), queue.receive()]

    assert found == [[], []]
    assert service.time.slept == []


def test_a_full_batch_of_the_largest_messages_is_read_whole() -> None:
    """Sixteen messages of 64 KB come back as they were."""
    bodies = [b64encode(bytes([number]) * 48 * 1024).decode() for number in range(16)]
    service = FakeSmq(bodies)

    found = queue_of(service).receive()

    assert [message.body for message in found] == bodies


TOLD = {
    "no queue": (
        Reply(404, b"<Error><Code>QueueNotExist</Code></Error>"),
        "The queue dlq answered 404 QueueNotExist; there is no such queue in cn-hangzhou of account"
        " 1234567890123456: correct GUARD_DEAD_LETTER_QUEUE.",
    ),
    "no right": (
        Reply(403, b"<Error><Code>AccessDenied</Code></Error>"),
        "The queue dlq answered 403 AccessDenied; check the credentials, and that they may use the"
        " queue.",
    ),
    "a refusal without a code": (
        Reply(403, b"<html>"),
        "The queue dlq answered 403; check the credentials, and that they may use the queue.",
    ),
    "throttled": (
        Reply(429, b"<Error><Code>QpsLimitExceeded</Code></Error>"),
        "The queue dlq answered 429 QpsLimitExceeded; a later try may succeed.",
    ),
    "a failure": (
        Reply(503, b"<html>"),
        "The queue dlq answered 503; a later try may succeed.",
    ),
    "nobody there": (
        Broken(httpx.ConnectError),
        "The queue dlq gave no answer in 4 tries (ConnectError): check the region cn-hangzhou and"
        " the network.",
    ),
}


@pytest.mark.parametrize(("trouble", "sentence"), TOLD.values(), ids=TOLD)
def test_the_sentence_says_where_to_look(trouble: Reply | Broken, sentence: str) -> None:
    """Each failure tells what was answered and what can be done about it."""
    service = FakeSmq(troubles={"GET": repeat(trouble)})

    with pytest.raises(Unavailable) as caught:
        queue_of(service).receive()

    assert str(caught.value) == sentence


def test_an_error_code_is_quoted() -> None:
    """What is not a code by its alphabet is not repeated."""
    body = b"<Error><Code>\x1b[31mred</Code></Error>"
    service = FakeSmq(troubles={"POST": [Reply(403, body)]})

    with pytest.raises(Unavailable) as caught:
        queue_of(service).send(b"letter")

    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"garbage",
        b'<?xml version="1.0"?><Messages><Message>',
        b'<Message xmlns="http://mns.aliyuncs.com/doc/v1/"><DequeueCount>x</DequeueCount></Message>',
    ],
    ids=["empty", "no XML", "cut short", "a count that is none"],
)
def test_an_unreadable_answer_is_no_bug_of_ours(body: bytes) -> None:
    """A success that cannot be read is the service's trouble: Unavailable, like any other."""
    service = FakeSmq(troubles={"GET": repeat(Reply(200, body))})

    with pytest.raises(Unavailable):
        queue_of(service).receive()


def answer_with(body: bytes) -> Reply:
    """Two messages, of which the first one's body is as it stands here."""
    head = f'<?xml version="1.0" encoding="utf-8"?><Messages xmlns="{NAMESPACE}">'.encode()
    both = (b"<Message><MessageBody>" + each + b"</MessageBody></Message>" for each in (body, b"2"))
    return Reply(200, head + b"".join(both) + b"</Messages>")


def bodies_of(answer: Reply) -> list[str]:
    service = FakeSmq(troubles={"GET": [answer]})
    return [message.body for message in queue_of(service).receive()]


SMUGGLED = {
    "NUL": (b"a\x00b", "a?b"),
    "escape": (b"\x1b[31mred", "?[31mred"),
    "the last control character": (b"\x1f", "?"),
    "escape, a hexadecimal number": (b"&#x1b;[31m", "?[31m"),
    "with leading zeros": (b"&#00027;&#x0001b;&#000;", "???"),
    "the first ones": (b"&#1;&#8;&#11;&#12;&#14;&#19;&#x1;&#x8;&#xb;&#xc;&#xe;&#xf;", "?" * 12),
    "the last ones": (b"&#20;&#29;&#30;&#31;&#x10;&#x19;&#x1f;", "?" * 7),
}


@pytest.mark.parametrize(("body", "read"), SMUGGLED.values(), ids=SMUGGLED)
def test_a_control_character_hides_no_other_message(body: bytes, read: str) -> None:
    """What XML does not allow, as it stands or by its number, is read as a question mark."""
    assert bodies_of(answer_with(body)) == [read, "2"]


@pytest.mark.parametrize(
    "body",
    [
        "a\ufffeb".encode(),
        b"a&#65535;b",
        b"a&#xD800;b",
        b"a&#x110000;b",
        b"a&#" + b"9" * 5000 + b";b",
        b"a\xed\xa0\x80b",
        b"a\xffb",
    ],
    ids=[
        "U+FFFE",
        "U+FFFF, a number",
        "half a pair, a number",
        "beyond Unicode",
        "far beyond Unicode",
        "half a pair",
        "no UTF-8",
    ],
)
def test_no_other_character_hides_another_message(body: bytes) -> None:
    """The same holds for everything else that is no character of XML."""
    first, second = bodies_of(answer_with(body))

    assert (first[0], first[-1], second) == ("a", "b", "2")


ORDINARY = {
    "markup": (b"a &amp; &lt;b&gt; &quot;&apos;", "a & <b> \"'"),
    "what looks like a number once it is read": (b"&amp;#27;&amp;#x1b;", "&#27;&#x1b;"),
    "tab and newline": (b"\ta\nb", "\ta\nb"),
    "the same, hexadecimal": (b"&#x9;&#xA;&#xa;&#x0D;&#xd;", "\t\n\n\r\r"),
    "letters, numbers": (b"&#65;&#065;&#x41;&#100;&#119;", "AAAdw"),
    "the first after the control characters": (b"[&#32;&#x20;]", "[  ]"),
    "numbers that begin like one": (b"&#270;&#x1b0;&#311;&#x10d;", "\u010e\u01b0\u0137\u010d"),
    "other scripts": ("größe 表 😀".encode(), "größe 表 😀"),
    "beyond 16 bits, a number": (b"&#128512;&#x1F600;", "😀😀"),
    "a number without its end": (b"#27; 27;", "#27; 27;"),
}


@pytest.mark.parametrize(("body", "read"), ORDINARY.values(), ids=ORDINARY)
def test_ordinary_text_is_left_alone(body: bytes, read: str) -> None:
    """Everything that XML allows comes as it was sent."""
    assert bodies_of(answer_with(body)) == [read, "2"]


AN_HOUR_LATER = {"date": "Fri, 02 Jan 2026 04:04:05 GMT"}


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(400, b"<Error><Code>TimeExpired</Code></Error>", AN_HOUR_LATER),
        Reply(
            403,
            b"<Error><Code>AccessDenied</Code><Message>The request time is too skewed.</Message>"
            b"<ServerTime>2026-01-02T04:04:05Z</ServerTime></Error>",
        ),
    ],
    ids=["its code", "its message, with the time in the body"],
)
def test_a_wrong_clock_is_corrected(refusal: Reply) -> None:
    """SMQ calls it TimeExpired: the request is signed again, once, with the service's time."""
    service = FakeSmq(troubles={"POST": [refusal]})

    queue_of(service).send(b"{}")

    assert [request.headers["date"] for request in service.requests] == [
        "Fri, 02 Jan 2026 03:04:05 GMT",
        "Fri, 02 Jan 2026 04:04:05 GMT",
    ]
    assert len(service.messages) == 1


def test_whose_clock_is_wrong_is_told() -> None:
    """Where a correction does not help, the sentence says which clock has to be set."""
    refusal = Reply(400, b"<Error><Code>TimeExpired</Code></Error>", AN_HOUR_LATER)

    with pytest.raises(Unavailable, match=r"400 TimeExpired; set this machine's clock\.$"):
        queue_of(FakeSmq(troubles={"POST": [refusal] * 2})).send(b"{}")


@pytest.mark.parametrize(
    "refusal",
    [
        Reply(401),
        Reply(403, b"<Error><Code>SecurityTokenExpired</Code></Error>"),
        Reply(403, b"<Error><Code>Denied</Code><Message>The token is expired.</Message></Error>"),
    ],
    ids=["401", "an expired token", "in a message"],
)
def test_credentials_that_are_over_are_read_again(refusal: Reply) -> None:
    """A token may be renewed while a message is sent."""
    old = Credentials("OLD", "OLDSECRET")
    service = FakeSmq(troubles={"POST": [refusal]})

    queue_of(service, read_credentials=KeyRing([old, KEY]).read).send(b"{}")

    assert [r.headers["authorization"].split(":")[0] for r in service.requests] == [
        "MNS OLD",
        f"MNS {KEY.access_key_id}",
    ]
