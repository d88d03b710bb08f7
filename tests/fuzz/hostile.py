"""The worst that 128 KB can be: one payload for each way in which an event may try to cost much."""

from __future__ import annotations

import gzip
import json
import random
from base64 import b64encode
from typing import Final

from encryption_guard.events.envelopes import MAX_DECODED_BYTES
from tests.fuzz.door import ACCOUNT, REGION

# What an asynchronous invocation takes.
LARGEST: Final = 128 * 1024


def letter(event: bytes, *, encoding: str = "gzip+base64") -> bytes:
    """The least that passes for a dead letter of ours."""
    packed = gzip.compress(event, mtime=0) if encoding == "gzip+base64" else event
    text = event.decode() if encoding == "utf-8" else b64encode(packed).decode()
    return json.dumps({"version": 1, "event": text, "event_encoding": encoding}).encode()


def record(event: bytes) -> bytes:
    """The least that passes for a record of Function Compute's failure destination."""
    return json.dumps({"requestPayload": event.decode("latin-1")}).encode()


def filled(item: bytes, *, size: int = LARGEST) -> bytes:
    """An array of as many of these as fit."""
    return b"[" + b",".join([item] * ((size - 1) // (len(item) + 1))) + b"]"


def creation(**rest: object) -> bytes:
    """A creation that names nothing but for what `rest` says."""
    told = {"eventName": "CreateTableBucket", "acsRegion": REGION, "recipientAccountId": ACCOUNT}
    return json.dumps({"id": "1", "source": "acs.oss", "data": told | rest}).encode()


def real(number: int) -> bytes:
    """A creation as large as the smallest that the audit trail would write."""
    arn = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/bucket-{number}"
    return creation(eventTime="2026-01-02T03:04:04Z", responseElements={"arn": arn}, pad="x" * 80)


def in_record(key: str, text: str, size: int) -> bytes:
    """A creation, filled up with a text under one key of its record."""
    return creation(**{key: _repeated(text, size - len(creation(**{key: ""})))})


def _repeated(text: str, size: int) -> str:
    return text * (size // len(json.dumps(text)[1:-1]))


def _noise(size: int, signs: bytes = b"abcdefghijklmnop") -> bytes:
    # Of 16 signs it compresses by half: neither a bomb nor incompressible. Of two, nothing else
    # takes so long to compress.
    return bytes(random.Random(7).choices(signs, k=size))


def _arrays(size: int) -> dict[str, bytes]:
    reals = b",".join(real(number) for number in range(size // (len(real(1000)) + 1)))
    return {
        "array of {}": filled(b"{}", size=size),
        "array of 0": filled(b"0", size=size),
        "array of []": filled(b"[]", size=size),
        'array of ""': filled(b'""', size=size),
        "array of 4300 digits": filled(b"9" * 4300, size=size),
        "array of real creations": b"[" + reals + b"]",
        "array of long ids": filled(
            json.dumps({"id": "ü" * 200}, ensure_ascii=False).encode(), size=size
        ),
        "array cut short": filled(b"{}", size=size)[:-1],
        "array of arrays of arrays": filled(b"[[[{}]]]", size=size),
        "array of 999 and of what is left": b"["
        + filled(b"0", size=1998)[1:-1]
        + b","
        + filled(b"[]", size=size - 2000)
        + b"]",
        "eight arrays deep": b"[" * 8 + filled(b"{}", size=size - 16)[1:-1] + b"]" * 8,
        "[ without end": b"[" * size,
        '{"a": without end': (b'{"a":' * size)[:size],
    }


def _objects(size: int) -> dict[str, bytes]:
    casings = [f'"{key}":0' for number in range(size // 16) for key in (f"k{number}", f"K{number}")]
    names = [f"bucket-{number}" for number in range(size // 18)]
    inner = size - 9
    return {
        "wide object": ("{" + ",".join(casings)[:inner].rpartition(",")[0] + "}").encode(),
        "the same key throughout": b'{"id":0' + b',"id":0' * (size // 8) + b"}",
        'data of {"":0}': b'{"data":' + filled(b'{"":0}', size=inner) + b"}",
        "data of []": b'{"data":' + filled(b"[]", size=inner) + b"}",
        "data of numbers": b'{"data":' + filled(b"1e9", size=inner) + b"}",
        "data of integers": b'{"data":' + filled(b"9" * 4300, size=inner) + b"}",
        "one text": b'{"data":"' + b"x" * (size - 11) + b'"}',
        "one integer": b'{"id":' + b"9" * (size - 7) + b"}",
        "NULs": b'{"id":"' + b"\\u0000" * (size // 6 - 2) + b'"}',
        "not JSON": b"\xff" * size,
        "noise of two signs": _noise(size, b"a\xff"),
        "names of different buckets": creation(referencedResources={"Bucket": names}),
        "one name again and again": creation(
            referencedResources={"Bucket": ["my-table-bucket"] * (size // 21)}
        ),
    }


def _texts(size: int) -> dict[str, bytes]:
    room = size - 400

    def url(text: str) -> bytes:
        return creation(requestParameters={"url": _repeated(text, room)})

    def subject(text: str) -> bytes:
        event = json.loads(creation()) | {"subject": _repeated(text, room)}
        return json.dumps(event).encode()

    return {
        "eventSource a-": in_record("eventSource", "a-", size),
        "eventSource a-12345.": in_record("eventSource", "a-12345.", size),
        "eventSource of a long region": creation(
            eventSource="abc-12345.ab" + _repeated("-internal", room) + "!"
        ),
        "resourceName commas": in_record("resourceName", ",;", size),
        "resourceName semicolons": in_record("resourceName", "a;", size),
        "resourceName of different names": creation(
            resourceName=";".join(f"{number:04x}" for number in range(room // 5))
        ),
        "resourceName names": in_record("resourceName", "abc,", size),
        "resourceType": in_record("resourceType", "b;", size),
        "url acs:": url("/buckets/acs:"),
        "url /buckets/": url("/buckets/acs:a/"),
        "url %": url("%2f%62"),
        "url ?": url("?#"),
        "eventTime": in_record("eventTime", "2026-01-02T", size),
        "a JSON text in requestParameters": creation(
            requestParameters=filled(b"[]", size=room).decode()
        ),
        "ARN that is none": creation(
            responseElements={"arn": "acs:osstables:" + "a-" * (room // 2)}
        ),
        "spaces before an ARN": creation(responseElements={"arn": " " * room}),
        "subject digits": subject(":12345"),
        "subject colons": subject(":"),
        "subject of a long region": subject("acs:osstables:ab-"),
    }


def _broken() -> bytes:
    packed = b64encode(gzip.compress(b"", mtime=0)[:-1]).decode()
    return json.dumps({"version": 1, "event": packed, "event_encoding": "gzip+base64"}).encode()


def _damaged(event: bytes) -> bytes:
    packed = gzip.compress(event, mtime=0)
    text = b64encode(packed[:-8] + b"\xff" * 8).decode()
    return json.dumps({"version": 1, "event": text, "event_encoding": "gzip+base64"}).encode()


def _letters() -> dict[str, bytes]:
    bomb = letter(b" " * 4 * 1024 * 1024)
    most = letter(b" " * MAX_DECODED_BYTES)
    junk = letter(_objects(MAX_DECODED_BYTES)["data of []"])
    return {
        "gzip bomb": bomb,
        "gzip of the most that is unpacked": most,
        "gzip of noise": letter(_noise(150_000)),
        "array of gzip bombs": filled(bomb),
        "array of the most that is unpacked": filled(most),
        "array of gzips of junk": filled(junk),
        "gzip of an array of gzip bombs": letter(filled(bomb, size=MAX_DECODED_BYTES)),
        "gzip of an array of letters": letter(filled(letter(b"{}"), size=MAX_DECODED_BYTES)),
        "gzip of an array of broken gzips": letter(
            filled(_broken(), size=MAX_DECODED_BYTES)[: 1000 * (len(_broken()) + 1)] + b"]"
        ),
        "array of broken gzips": filled(_broken()),
        "array of damaged gzip bombs": filled(_damaged(b" " * MAX_DECODED_BYTES)),
        "as many events as are opened": filled(b"{}", size=3001),
        "gzip of gzips of gzips": letter(filled(letter(filled(most)))),
        "letters in letters in letters": filled(letter(letter(letter(b"{}")))),
        "records in letters in records": filled(record(letter(record(b"{}"), encoding="utf-8"))),
        "array of letters of noise": filled(letter(_noise(20_000))),
        "text in text in text": letter(
            letter(letter(b"\\" * 8000, encoding="utf-8"), encoding="utf-8")
        ),
    }


def worst_cases() -> dict[str, bytes]:
    """Each by what it tries; none is larger than an asynchronous event may be."""
    plain = _arrays(LARGEST) | _objects(LARGEST) | _texts(LARGEST)
    larger = _arrays(MAX_DECODED_BYTES) | _objects(MAX_DECODED_BYTES) | _texts(MAX_DECODED_BYTES)
    unpacked = {f"gzip: {name}": letter(event) for name, event in larger.items()}
    cases = plain | unpacked | _letters()
    return {name: event for name, event in cases.items() if len(event) <= LARGEST}
