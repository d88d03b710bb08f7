"""The XML that SMQ takes and gives."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from xml.etree import ElementTree

from tests.emulators.emulated_service import refuse
from tests.emulators.smq_state import StoredMessage
from tests.emulators.wire import Answer

NAMESPACE = "http://mns.aliyuncs.com/doc/v1/"
HEADERS = {"Content-Type": "text/xml;charset=utf-8", "x-mns-version": "2015-06-06"}

Fields = Mapping[str, str]


def message_fields(body: bytes) -> dict[str, str]:
    """The elements of a `<Message>`."""
    try:
        # Only tests write to this server: there is nobody here to blow up the parser.
        root = ElementTree.fromstring(body)  # noqa: S314
    except ElementTree.ParseError as error:
        raise refuse(400, "MalformedXML", "The XML you provided was not well-formed.") from error
    if root.tag != f"{{{NAMESPACE}}}Message":
        raise refuse(
            400, "InvalidArgument", "The XML you provided did not validate: Message is required."
        )
    return {child.tag.removeprefix(f"{{{NAMESPACE}}}"): child.text or "" for child in root}


def answer(
    status: int, name: str, fields: Fields, headers: Mapping[str, str] | None = None
) -> Answer:
    return _answer(status, _element(name, fields), headers)


def answer_list(status: int, name: str, item: str, items: Iterable[Fields]) -> Answer:
    root = ElementTree.Element(name)
    root.extend(_element(item, fields) for fields in items)
    return _answer(status, root)


def sent(message: StoredMessage) -> Fields:
    return {"MessageId": message.id, "MessageBodyMD5": message.body_md5}


def peeked(message: StoredMessage) -> Fields:
    first = message.first_dequeued_at
    return {
        **sent(message),
        "MessageBody": message.body,
        "EnqueueTime": milliseconds(message.enqueued_at),
        "FirstDequeueTime": "0" if first is None else milliseconds(first),
        "DequeueCount": str(message.dequeue_count),
        "Priority": str(message.priority),
    }


def received(message: StoredMessage) -> Fields:
    return {**peeked(message), **hidden(message)}


def hidden(message: StoredMessage) -> Fields:
    return {
        "ReceiptHandle": message.receipt_handle or "",
        "NextVisibleTime": milliseconds(message.visible_at),
    }


def milliseconds(at: datetime) -> str:
    return str(int(at.timestamp() * 1000))


def _element(name: str, fields: Fields) -> ElementTree.Element:
    element = ElementTree.Element(name)
    for field, value in fields.items():
        ElementTree.SubElement(element, field).text = value
    return element


def _answer(
    status: int, root: ElementTree.Element, headers: Mapping[str, str] | None = None
) -> Answer:
    root.set("xmlns", NAMESPACE)
    body: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return Answer(status, HEADERS | dict(headers or {}), body)
