"""What there is, and what the service clearly says of each encryption: never more than that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import repeat
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from encryption_guard.arn import TableBucketArn
from encryption_guard.errors import InvalidEvent, Refused, Unavailable
from encryption_guard.services.inventory import (
    REGIONS,
    ListedBucket,
    ListedTable,
    Page,
    bucket_list,
    namespace_list,
    read_bucket,
    read_namespace,
    read_table,
    table_list,
)
from encryption_guard.services.inventory import Listing as PageOfList
from encryption_guard.services.oss_tables import OssTables, Reading
from tests.unit.fakes import (
    ACCOUNT,
    ARN,
    REGION,
    START,
    Broken,
    FakeOssTables,
    Reply,
    invocation_of,
)

Trouble = Reply | Broken

TABLE = ListedTable(ARN, "sales", "orders", None)
TABLE_KEY = (str(ARN), "sales", "orders")
BASE = f"https://{REGION}.oss-tables.aliyuncs.com"
ARN_IN_URL = f"acs%3Aosstables%3A{REGION}%3A{ACCOUNT}%3Abucket%2Fmy-table-bucket"


def of_bucket(service: FakeOssTables, **rest: Any) -> Reading:
    return read_bucket(OssTables(invocation_of(service, **rest)), ARN)


def of_table(service: FakeOssTables, **rest: Any) -> Reading:
    return read_table(OssTables(invocation_of(service, **rest)), TABLE)


def refusal(status: int, code: str = "", message: str = "") -> Reply:
    """An error in the service's own form."""
    body = json.dumps({"message": message}).encode()
    return Reply(status, body, {"x-oss-error-type": code, "x-oss-request-id": "OSS-9"})


def encryption(configuration: object) -> bytes:
    return json.dumps({"encryptionConfiguration": configuration}).encode()


@dataclass(frozen=True)
class Reader:
    """How an encryption is read: by which operation, and which one tells whether it is there."""

    read: Callable[..., Reading]
    asks: str
    looks: str


each_reader = pytest.mark.parametrize(
    "of",
    [
        Reader(of_bucket, "GetTableBucketEncryption", "GetTableBucket"),
        Reader(of_table, "GetTableEncryption", "GetTable"),
    ],
    ids=["bucket", "table"],
)


def with_table(encryption: str = "", **rest: Any) -> FakeOssTables:
    """A bucket and a table in it that have this encryption."""
    return FakeOssTables({str(ARN): encryption}, tables={TABLE_KEY: encryption}, **rest)


# What is said with 200.

CLEAR = {
    "AES256": (encryption({"sseAlgorithm": "AES256"}), "AES256"),
    "lower case": (encryption({"sseAlgorithm": "aes256"}), "AES256"),
    "KMS": (encryption({"sseAlgorithm": "KMS", "kmsKeyArn": "acs:kms:1"}), "KMS"),
    "KMS without a key": (encryption({"sseAlgorithm": "kms"}), "kms"),
    "AES256 with separators": (encryption({"sseAlgorithm": " aes-256 "}), "AES256"),
    "KMS of the metadata pages": (encryption({"sseAlgorithm": "SSE-KMS"}), "SSE-KMS"),
    "KMS of the SDK": (encryption({"sseAlgorithm": "oss:kms"}), "oss:kms"),
    "a key without an algorithm": (encryption({"kmsKeyArn": "acs:kms:1"}), "KMS"),
    "a key's id without an algorithm": (encryption({"kmsKeyId": "key-1"}), "KMS"),
    "a key and a word for nothing": (
        encryption({"sseAlgorithm": "none", "kmsKeyId": "key-1"}),
        "KMS",
    ),
    "the same key twice": (
        b'{"encryptionConfiguration": {"sseAlgorithm": "KMS", "sseAlgorithm": "KMS"}}',
        "KMS",
    ),
}


@each_reader
@pytest.mark.parametrize(("body", "algorithm"), CLEAR.values(), ids=CLEAR)
def test_an_algorithm_that_is_known_is_an_encryption(
    body: bytes, algorithm: str, of: Reader
) -> None:
    """A 200 that names AES256, a documented stronger word or a key shows an encryption."""
    service = with_table(troubles={of.asks: [Reply(200, body, {"x-oss-request-id": "OSS-7"})]})

    reading = of.read(service)

    known_as = algorithm if algorithm in ("AES256", "SM4") else "KMS"
    assert reading == Reading("encrypted", algorithm, known_as, status=200, oss_request_id="OSS-7")
    assert service.operations() == [of.asks]


EMPTY = {
    "no body": b"",
    "an empty object": b"{}",
    "an empty configuration": encryption({}),
    "a configuration of null": encryption(None),
    "an empty algorithm": encryption({"sseAlgorithm": ""}),
    "an algorithm of null": encryption({"sseAlgorithm": None}),
    **{
        f"the word {word!r}": encryption({"sseAlgorithm": word})
        for word in ("none", "NULL", "nil", "-", " Off", "false", "Disabled", "plaintext")
    },
    "the console's words": encryption({"sseAlgorithm": "Not Encrypted"}),
    "beside other keys": b'{"requestId": "1", "encryptionConfiguration": {}}',
}


@each_reader
@pytest.mark.parametrize("body", EMPTY.values(), ids=EMPTY)
def test_an_empty_encryption_is_none(body: bytes, of: Reader) -> None:
    """The documentation calls it an empty configuration, and does not say how that is written."""
    service = with_table(
        "AES256", troubles={of.asks: repeat(Reply(200, body, {"x-oss-request-id": "OSS-7"}))}
    )

    reading = of.read(service)

    assert reading == Reading("not_encrypted", status=200, oss_request_id="OSS-7")
    assert service.operations() == [of.asks]


@each_reader
@pytest.mark.parametrize(
    "word",
    [
        "ROT13",
        "AES",
        "AES256,KMS",
        "AES512",
        "no",
        "\u0391ES256",
        "\u4e2d",
    ],
)
def test_a_word_that_nobody_knows_is_a_choice(word: str, of: Reader) -> None:
    """It is kept, since it may be one that came after this guard; its state is unknown."""
    service = with_table(troubles={of.asks: [Reply(200, encryption({"sseAlgorithm": word}))]})

    reading = of.read(service)

    assert (reading.state, reading.algorithm, reading.gone) == ("unknown", word, False)
    assert json.dumps(word) in (reading.why or "")
    assert service.operations() == [of.asks]


@each_reader
@pytest.mark.parametrize("word", ["AE\u017f256", "KM\u017f", "\u017fM4", "\u017fm4"])
def test_a_letter_that_only_becomes_one_in_capitals_is_another(word: str, of: Reader) -> None:
    """Upper-cased, a long s is an S: casing is that of ASCII, and no other word is known."""
    service = with_table(troubles={of.asks: [Reply(200, encryption({"sseAlgorithm": word}))]})

    reading = of.read(service)

    assert (reading.state, of.looks in service.operations()) == ("unknown", False)


UNCLEAR = {
    "null": b"null",
    "a list": b"[]",
    "a word": b"AES256",
    "HTML": b"<html><h1>AES256</h1></html>",
    "binary": b"\xff\x00\xfe",
    "cut short": encryption({"sseAlgorithm": "AES256"})[:-1],
    "deep": b"[" * 60_000,
    "other keys": b'{"sseAlgorithm": "AES256"}',
    "a configuration that is a list": encryption([{"sseAlgorithm": "AES256"}]),
    "a configuration that is a word": encryption("AES256"),
    "a configuration that is true": encryption(True),
    "an algorithm that is a number": encryption({"sseAlgorithm": 256}),
    "an algorithm that is a list": encryption({"sseAlgorithm": ["AES256"]}),
}


# What Python takes for nothing, and JSON does not: none of it is an empty configuration.
FALSY = {
    "a configuration that is an empty list": encryption([]),
    "a configuration that is zero": encryption(0),
    "an algorithm that is zero": encryption({"sseAlgorithm": 0}),
    "an algorithm that is false": encryption({"sseAlgorithm": False}),
    "an algorithm that is an empty list": encryption({"sseAlgorithm": []}),
}


@each_reader
@pytest.mark.parametrize(
    "body", (UNCLEAR | FALSY).values(), ids=(f"{name}" for name in UNCLEAR | FALSY)
)
def test_what_is_no_encryption_is_unknown(body: bytes, of: Reader) -> None:
    """It is asked for again, as if there had been no answer, and then the sentence says so."""
    service = with_table(troubles={of.asks: repeat(Reply(200, body))})

    reading = of.read(service)

    assert (reading.state, reading.algorithm, reading.gone) == ("unknown", None, False)
    said = f"200 to {of.asks} of {ARN} in 4 tries ("
    assert said in (reading.why or "")
    assert service.operations() == [of.asks] * 4


@given(
    body=st.one_of(
        st.binary(max_size=60),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
            lambda inner: (
                st.lists(inner, max_size=3)
                | st.dictionaries(
                    st.sampled_from(["encryptionConfiguration", "sseAlgorithm", "kmsKeyArn", "x"]),
                    inner,
                    max_size=3,
                )
            ),
        ).map(lambda value: json.dumps(value).encode()),
    )
)
def test_nothing_is_encrypted_that_does_not_say_so(body: bytes) -> None:
    """Whatever stands in a 200, it is read as encrypted only where one of three names stands."""
    service = with_table(troubles={"GetTableBucketEncryption": repeat(Reply(200, body))})

    reading = of_bucket(service)

    names = (b'"aes256"', b'"kms"', b'"sm4"', b'"kmskeyarn"')
    assert reading.state != "encrypted" or any(name in body.lower() for name in names)
    assert (reading.why is None) == (reading.state != "unknown")


def both(first: object, second: object) -> bytes:
    """One object that has a configuration twice."""
    one, two = encryption(first)[1:-1], encryption(second)[1:-1]
    return b"{" + one + b"," + two + b"}"


CHOICES: dict[str, tuple[bytes, str, str | None]] = {
    "another casing": (
        b'{"EncryptionConfiguration": {"SSEAlgorithm": "SSE-KMS"}}',
        "encrypted",
        "SSE-KMS",
    ),
    "a key in another casing": (
        encryption({"sseAlgorithm": "AES256", "KmsKeyArn": "acs:kms:x"}),
        "encrypted",
        "AES256",
    ),
    "a key beside no text": (
        encryption({"sseAlgorithm": 5, "kmsKeyArn": "acs:kms:x"}),
        "encrypted",
        "KMS",
    ),
    "a JSON text": (
        b'{"encryptionConfiguration": "{\\"sseAlgorithm\\": \\"KMS\\"}"}',
        "encrypted",
        "KMS",
    ),
    "without the object around it": (b'{"sseAlgorithm": "oss:kms"}', "encrypted", "oss:kms"),
    "a blank word and key": (
        encryption({"sseAlgorithm": "", "kmsKeyArn": " "}),
        "not_encrypted",
        None,
    ),
    "a key that is a word for nothing": (
        encryption({"sseAlgorithm": "none", "kmsKeyArn": "null"}),
        "not_encrypted",
        None,
    ),
    "another setting": (
        encryption({"sseAlgorithm": None, "bucketKeyEnabled": True}),
        "not_encrypted",
        None,
    ),
}


@each_reader
@pytest.mark.parametrize(("body", "state", "algorithm"), CHOICES.values(), ids=CHOICES)
def test_a_choice_is_read_in_whatever_form_it_stands(
    of: Reader, body: bytes, state: str, algorithm: str | None
) -> None:
    """A stronger one is kept where it can be seen, and a word for nothing is none."""
    reading = of.read(with_table(troubles={of.asks: repeat(Reply(200, body))}))

    assert (reading.state, reading.algorithm) == (state, algorithm)


@each_reader
@pytest.mark.parametrize(
    ("body", "state"),
    [
        (both({"sseAlgorithm": "AES256"}, {}), "not_encrypted"),
        (both({"sseAlgorithm": "AES256"}, {"sseAlgorithm": "ROT13"}), "unknown"),
        (both({"sseAlgorithm": "AES256"}, "none"), "unknown"),
    ],
    ids=["then empty", "then unknown", "then no object"],
)
def test_a_key_that_is_there_twice_counts_as_it_stands_last(
    body: bytes, state: str, of: Reader
) -> None:
    """As JSON is read everywhere; an encryption that is taken back is none."""
    service = with_table(troubles={of.asks: repeat(Reply(200, body))})

    reading = of.read(service)

    assert (reading.state, of.looks in service.operations()) == (state, False)


# What is not there.


@each_reader
def test_where_there_is_no_encryption_it_may_be_that_none_was_set(of: Reader) -> None:
    """A 404 for the encryption of what is there says that it has none."""
    service = with_table("AES256", troubles={of.asks: [Reply(404)]})

    reading = of.read(service)

    assert reading == Reading("not_encrypted", status=200, oss_request_id="OSS-2")
    assert service.operations() == [of.asks, of.looks]
    assert service.time.slept == []


@each_reader
def test_what_is_not_there_is_gone(of: Reader) -> None:
    """A 404 for itself too says that it was deleted, or cannot be seen yet: nothing is known."""
    service = FakeOssTables(buckets={})

    reading = of.read(service)

    assert (reading.state, reading.algorithm, reading.gone) == ("unknown", None, True)
    assert (reading.status, reading.code) == (404, "NotFoundException")
    assert "does not find it" in (reading.why or "")
    assert service.operations() == [of.asks, of.looks]
    assert service.time.slept == []


def test_a_table_may_be_gone_from_a_bucket_that_is_there() -> None:
    """It is the table that is looked for, not its bucket."""
    service = FakeOssTables({str(ARN): "AES256"})

    reading = of_table(service)

    assert (reading.state, reading.gone) == ("unknown", True)


@each_reader
@pytest.mark.parametrize(
    "answers",
    [
        repeat(refusal(503, "ServiceUnavailable")),
        repeat(Broken(httpx.ReadError)),
        repeat(Broken(httpx.ReadTimeout, takes=5.0)),
        [refusal(403, "AccessDenied", "No.")],
        [Reply(302)],
        [refusal(401)],
    ],
    ids=["503", "reset", "time-out", "403", "redirect", "401"],
)
def test_where_nobody_says_whether_it_is_there_it_is_unknown(
    answers: Iterable[Trouble], of: Reader
) -> None:
    """Neither gone nor without encryption: the sentence tells which operation failed."""
    service = with_table(troubles={of.asks: [Reply(404)], of.looks: answers})

    reading = of.read(service)

    assert (reading.state, reading.algorithm, reading.gone) == ("unknown", None, False)
    assert f"{of.looks} of {ARN}" in (reading.why or "")


@each_reader
@pytest.mark.parametrize(
    "body",
    [b"<html>Welcome</html>", b"", b"[]", b"null", b"{}", b'{"name": 5}'],
    ids=["HTML", "nothing", "list", "null", "an empty object", "a name that is none"],
)
def test_what_is_no_bucket_or_table_does_not_say_that_one_is_there(body: bytes, of: Reader) -> None:
    """A 200 that is nothing of this API is no answer here either."""
    service = with_table(troubles={of.asks: [Reply(404)], of.looks: repeat(Reply(200, body))})

    reading = of.read(service)

    assert (reading.state, reading.gone) == ("unknown", False)


# What is refused, or not answered.


@each_reader
def test_a_missing_right_is_named(of: Reader) -> None:
    """Whoever reads the finding knows what to grant."""
    service = with_table(troubles={of.asks: [refusal(403, "AccessDenied", "No.")]})

    reading = of.read(service)

    assert reading == Reading(
        "unknown",
        why=(
            f'OSS Tables answered 403 AccessDenied to {of.asks} of {ARN}: "No.". If that is a'
            f" missing right, grant oss:{of.asks}."
        ),
        status=403,
        code="AccessDenied",
        oss_request_id="OSS-9",
    )
    assert of.looks not in service.operations()


@each_reader
def test_a_missing_right_to_look_is_named(of: Reader) -> None:
    """It is the second operation's where the first one said 404."""
    service = with_table(troubles={of.asks: [Reply(404)], of.looks: [refusal(403, "AccessDenied")]})

    reading = of.read(service)

    assert f"grant oss:{of.looks}." in (reading.why or "")
    assert (reading.status, reading.code) == (403, "AccessDenied")


@each_reader
@pytest.mark.parametrize("status", [400, 405, 409, 410, 301])
def test_another_refusal_is_unknown_and_names_no_right(status: int, of: Reader) -> None:
    """What was refused is not known, and only a 403 may be a missing right."""
    service = with_table(troubles={of.asks: repeat(refusal(status, "SomeException"))})

    reading = of.read(service)

    assert (reading.state, reading.gone, reading.status) == ("unknown", False, status)
    assert "grant" not in (reading.why or "")
    assert of.looks not in service.operations()


SILENCES = {
    "503": (refusal(503), 4),
    "429": (refusal(429), 4),
    "401": (refusal(401), 1),
    "reset": (Broken(httpx.ReadError), 4),
    "time-out": (Broken(httpx.ReadTimeout, takes=1.0), 4),
}


@each_reader
@pytest.mark.parametrize(("trouble", "tries"), SILENCES.values(), ids=SILENCES)
def test_without_an_answer_it_is_unknown(trouble: Trouble, tries: int, of: Reader) -> None:
    """After the usual tries, and with no status: there was no word on this one."""
    service = with_table("AES256", troubles={of.asks: repeat(trouble)})

    reading = of.read(service)

    assert (reading.state, reading.algorithm, reading.gone) == ("unknown", None, False)
    assert (reading.status, reading.code, reading.oss_request_id) == (None, None, None)
    assert f"{of.asks} of {ARN}" in (reading.why or "")
    assert service.operations() == [of.asks] * tries


def test_the_request_for_a_tables_encryption() -> None:
    """Its path holds the bucket's ARN, the namespace and the name, each escaped."""
    table = ListedTable(ARN, "naïve ~*/", "a?b#c%2F+d", None)
    key = (str(ARN), table.namespace, table.name)
    service = FakeOssTables(tables={key: "AES256"})

    reading = read_table(OssTables(invocation_of(service)), table)

    path = f"tables/{ARN_IN_URL}/na%C3%AFve%20~%2A%2F/a%3Fb%23c%252F%2Bd/encryption"
    assert reading.state == "encrypted"
    assert str(service.requests[0].url) == f"{BASE}/{path}"


def test_the_request_for_a_table() -> None:
    """Its query names the bucket by its ARN, the namespace and the table, each escaped."""
    table = ListedTable(ARN, "naïve", "a&b=c", None)
    key = (str(ARN), table.namespace, table.name)
    service = FakeOssTables(tables={key: ""}, troubles={"GetTableEncryption": [Reply(404)]})

    reading = read_table(OssTables(invocation_of(service)), table)

    query = f"tableBucketARN={ARN_IN_URL}&namespace=na%C3%AFve&name=a%26b%3Dc"
    assert reading.state == "not_encrypted"
    assert str(service.requests[1].url) == f"{BASE}/get-table?{query}"


# Lists.

NAMES = [f"name-{letter}" for letter in "abcde"]
LISTED = TableBucketArn(REGION, ACCOUNT, NAMES[0])


def walk(listing: PageOfList | None, service: FakeOssTables) -> Iterator[Page]:
    """Every page of a list, one after the other."""
    invocation = invocation_of(service)
    while listing:
        page = listing.page(OssTables(invocation))
        yield page
        listing = page.rest


def all_buckets(service: FakeOssTables, region: str = REGION) -> Iterator[Page]:
    return walk(bucket_list(region), service)


def all_namespaces(service: FakeOssTables) -> Iterator[Page]:
    return walk(namespace_list(LISTED), service)


def all_tables(service: FakeOssTables) -> Iterator[Page]:
    return walk(table_list(LISTED, NAMES[-1]), service)


@dataclass(frozen=True)
class Listing:
    """How a list is read: by which operation, under which key its entries are, and of what."""

    pages: Callable[[FakeOssTables], Iterator[Page]]
    operation: str
    items: str
    about: str


each_list = pytest.mark.parametrize(
    "of",
    [
        Listing(all_buckets, "ListTableBuckets", "tableBuckets", REGION),
        Listing(all_namespaces, "ListNamespaces", "namespaces", str(LISTED)),
        Listing(all_tables, "ListTables", "tables", str(LISTED)),
    ],
    ids=["buckets", "namespaces", "tables"],
)


def page_of(items: str, *entries: object, **more: object) -> Reply:
    return Reply(200, json.dumps({items: entries, **more}).encode())


def read_all(pages: Iterator[Page]) -> tuple[list[Page], Refused | Unavailable | None]:
    """The pages up to the end or to what ended them, and that."""
    read = []
    try:
        for page in pages:
            read.append(page)
    except (Refused, Unavailable) as error:
        return read, error
    return read, None


def names_of(pages: Iterable[Page]) -> list[Any]:
    entries = (entry for page in pages for entry in page.entries)
    return [entry.get("name") or entry["namespace"][0] for entry in entries]


def full(**rest: Any) -> FakeOssTables:
    """Five buckets in the region; the first has five namespaces, of which the last has five tables.

    In another region is another bucket, and each other namespace has one table.
    """
    buckets = [str(TableBucketArn(REGION, ACCOUNT, name)) for name in NAMES]
    elsewhere = str(TableBucketArn("us-east-1", ACCOUNT, "elsewhere"))
    tables = {(buckets[0], name, "t"): "" for name in NAMES[:-1]}
    tables |= {(buckets[0], NAMES[-1], name): "" for name in NAMES}
    return FakeOssTables(dict.fromkeys([*buckets, elsewhere], ""), tables=tables, **rest)


@each_list
@pytest.mark.parametrize(("page_size", "pages"), [(100, 1), (5, 1), (4, 2), (1, 5)])
def test_a_list_is_read_to_its_end(page_size: int, pages: int, of: Listing) -> None:
    """However many pages there are, each entry is on one of them, and none of elsewhere."""
    service = full(page_size=page_size)

    read, error = read_all(of.pages(service))

    assert (names_of(read), error) == (NAMES, None)
    assert service.operations() == [of.operation] * pages
    assert [page.rest is None for page in read] == [False] * (pages - 1) + [True]


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_without_buckets_has_one_empty_page(region: str) -> None:
    """Nothing is there, and nothing failed; the region is asked itself."""
    service = FakeOssTables(buckets={})

    read, error = read_all(all_buckets(service, region))

    assert (read, error) == ([Page((), None)], None)
    (request,) = service.requests
    assert request.url.host == f"{region}.oss-tables.aliyuncs.com"
    assert f"/{region}/osstables/" in request.headers["authorization"]


def test_a_page_is_read_when_it_is_asked_for() -> None:
    """And not before; each can be read with a client of its own, or again."""
    service = full(page_size=2)
    invocation = invocation_of(service)
    listing = bucket_list(REGION)

    first = listing.page(OssTables(invocation))
    assert first.rest is not None
    before = len(service.requests)
    second = first.rest.page(OssTables(invocation))
    again = first.rest.page(OssTables(invocation))

    assert (before, len(service.requests)) == (1, 3)
    assert names_of([first, second]) == NAMES[:4]
    assert again == second


@each_list
@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"%s": null}',
        b'{"%s": [], "continuationToken": null}',
        b'{"%s": [], "continuationToken": ""}',
    ],
    ids=["an empty object", "null", "with a token of null", "with an empty token"],
)
def test_nothing_is_an_empty_list(body: bytes, of: Listing) -> None:
    """An object that says nothing else is a list without entries."""
    said = body.replace(b"%s", of.items.encode())
    service = full(troubles={of.operation: [Reply(200, said)]})

    read, error = read_all(of.pages(service))

    assert (read, error) == ([Page((), None)], None)


@each_list
def test_a_page_without_entries_is_not_the_end(of: Listing) -> None:
    """It is the token that tells whether there is more."""
    answers = [page_of(of.items, continuationToken="t"), page_of(of.items, {"a": 1})]
    service = full(troubles={of.operation: answers})

    read, error = read_all(of.pages(service))

    assert error is None
    assert [page.entries for page in read] == [(), ({"a": 1},)]


NO_LISTS = {
    "nothing": b"",
    "null": b"null",
    "a list": b"[]",
    "binary": b"\xff\x00",
    "cut short": b'{"%s": [',
    "deep": b"[" * 60_000,
    "another list": b'{"buckets": []}',
    "an error": b'{"message": "No."}',
    "a text": b'{"%s": "none"}',
    "an object": b'{"%s": {"a": 1}}',
    "false": b'{"%s": false}',
    "a token that is a number": b'{"%s": [], "continuationToken": 5}',
    "a token that is an object": b'{"%s": [], "continuationToken": {"t": 1}}',
    "a token that is zero": b'{"%s": [], "continuationToken": 0}',
}


@each_list
@pytest.mark.parametrize("body", NO_LISTS.values(), ids=NO_LISTS)
def test_what_is_no_list_is_asked_for_again(body: bytes, of: Listing) -> None:
    """It is as good as no answer, never an empty list; when it stays, the list is unavailable."""
    filled_in = body.replace(b"%s", of.items.encode())
    service = full(troubles={of.operation: repeat(Reply(200, filled_in))})

    read, error = read_all(of.pages(service))

    assert read == []
    assert isinstance(error, Unavailable)
    said = f"200 to {of.operation} of {of.about} in 4 tries ("
    assert said in str(error)
    assert service.operations() == [of.operation] * 4


@each_list
@pytest.mark.parametrize("read_before", [0, 1], ids=["the first page", "the second page"])
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [
        (refusal(403, "AccessDenied"), Refused),
        (refusal(404), Refused),
        (refusal(503), Unavailable),
        (Broken(httpx.ReadError), Unavailable),
    ],
    ids=["403", "404", "503", "reset"],
)
def test_a_list_that_fails_raises_after_what_was_read(
    trouble: Trouble,
    kind: type[Exception],
    read_before: int,
    of: Listing,
) -> None:
    """The pages before are as good as ever."""
    first = [page_of(of.items, {"a": 1}, continuationToken="t")] * read_before
    service = full(troubles={of.operation: [*first, *[trouble] * 4]})

    read, error = read_all(of.pages(service))

    assert len(read) == read_before
    assert isinstance(error, kind)
    assert f"{of.operation} of {of.about}" in str(error)


@each_list
@pytest.mark.parametrize(
    "tokens",
    [["t", "t"], ["t", "u", "v", "w", "u"]],
    ids=["at once", "the second later"],
)
def test_a_list_that_leads_back_to_itself_is_not_complete(tokens: list[str], of: Listing) -> None:
    """All pages up to there are read, and then nobody knows whether there is more."""
    answers = [
        page_of(of.items, {"a": number}, continuationToken=token)
        for number, token in enumerate(tokens)
    ]
    service = full(troubles={of.operation: answers})

    read, error = read_all(of.pages(service))

    assert error is None
    assert [entry["a"] for page in read for entry in page.entries] == list(range(len(tokens)))
    assert [page.is_circular for page in read] == [False] * (len(tokens) - 1) + [True]
    assert len(service.requests) == len(tokens)


def test_a_token_and_a_namespace_are_escaped() -> None:
    """Both are foreign, and neither can become another parameter."""
    namespace = "naïve&x=1 +%2F"
    token = "a/b+c==&maxTables=1 é"
    answers = [page_of("tables", continuationToken=token), page_of("tables")]
    service = FakeOssTables(troubles={"ListTables": answers})

    read_all(walk(table_list(ARN, namespace), service))

    query = "namespace=na%C3%AFve%26x%3D1%20%2B%252F&maxTables=100"
    more = "&continuationToken=a%2Fb%2Bc%3D%3D%26maxTables%3D1%20%C3%A9"
    assert [str(request.url) for request in service.requests] == [
        f"{BASE}/tables/{ARN_IN_URL}?{query}",
        f"{BASE}/tables/{ARN_IN_URL}?{query}{more}",
    ]


def test_the_requests_for_buckets_and_namespaces() -> None:
    """A page has a hundred entries, if there are as many."""
    service = FakeOssTables()

    read_all(all_buckets(service))
    read_all(walk(namespace_list(ARN), service))

    assert [str(request.url) for request in service.requests] == [
        f"{BASE}/buckets?maxBuckets=100",
        f"{BASE}/namespaces/{ARN_IN_URL}?maxNamespaces=100",
    ]


def test_a_long_page_is_read_to_its_end() -> None:
    """A hundred entries with the longest names, and more about each, are far more than 64 KB."""
    entries = [{"name": "n" * 255, "more": "x" * 4000, "number": number} for number in range(100)]
    service = FakeOssTables(troubles={"ListTables": [page_of("tables", *entries)]})

    read, error = read_all(all_tables(service))

    assert (len(read[0].entries), error) == (100, None)


def test_a_page_without_an_end_is_no_list() -> None:
    """What is longer than any page is cut short, and cannot be read."""
    endless = Reply(200, b'{"tables": ["' + b"x" * (1024 * 1024) + b'"]}')
    service = FakeOssTables(troubles={"ListTables": repeat(endless)})

    read, error = read_all(all_tables(service))

    assert read == []
    assert isinstance(error, Unavailable)


# Entries.


@pytest.mark.parametrize(
    ("created_at", "read"),
    [
        ("2026-01-02T03:04:05Z", START),
        ("2026-01-02T03:04:05.000000+00:00", START),
        ("2026-01-02T11:04:05+08:00", START),
        ("2026-01-02T03:04:05", START),
        ("2026-01-02T03:04:05.123Z", datetime(2026, 1, 2, 3, 4, 5, 123000, timezone.utc)),
        ("yesterday", None),
        ("", None),
        (None, None),
        (1767323045, None),
    ],
)
def test_an_entry_tells_a_bucket_and_when_it_was_created(
    created_at: object, read: datetime | None
) -> None:
    """A time that cannot be read is none; it does not make the bucket unreadable."""
    entry = {"arn": str(ARN), "name": "another", "createdAt": created_at, "more": {}}

    bucket = ListedBucket.read(entry, region=REGION)

    assert bucket == ListedBucket(ARN, read)


@pytest.mark.parametrize(
    ("kind", "read"),
    [
        ("customer", "customer"),
        ("oss", "oss"),
        ("New!", "New!"),
        ("", None),
        (None, None),
        (7, None),
    ],
)
def test_an_entry_tells_the_type_as_it_came(kind: object, read: str | None) -> None:
    """Where it tells none, it is none; that does not make the bucket unreadable."""
    entry = {"arn": str(ARN), "type": kind}

    assert ListedBucket.read(entry, region=REGION) == ListedBucket(ARN, None, read)


NO_ENTRIES: dict[str, object] = {
    "null": None,
    "a text": str(ARN),
    "a number": 5,
    "a list": [str(ARN)],
    "an empty object": {},
}


@pytest.mark.parametrize(
    "entry",
    [
        *NO_ENTRIES.values(),
        {"arn": None},
        {"arn": [str(ARN)]},
        {"name": "my-table-bucket"},
        {"Arn": str(ARN)},
        {"arn": str(ARN).replace("my-table-bucket", "../evil")},
        {"arn": str(ARN).replace(REGION, "evil.com#")},
        {"arn": str(ARN) + "\n"},
        {"arn": "x" * 100_000},
    ],
)
def test_what_names_no_bucket_is_no_entry(entry: object) -> None:
    """Only a valid ARN becomes part of a request."""
    with pytest.raises(InvalidEvent) as caught:
        ListedBucket.read(entry, region=REGION)

    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400


def test_a_bucket_of_another_region_is_no_entry() -> None:
    """What a region lists is its own; the sentence names both."""
    with pytest.raises(InvalidEvent, match="eu-central-1") as caught:
        ListedBucket.read({"arn": str(ARN)}, region="eu-central-1")

    assert str(ARN) in str(caught.value)


@pytest.mark.parametrize("name", ["orders", ".orders", "a.b", "...x", "a/b", " ", "表", "n" * 255])
def test_an_entry_tells_a_table(name: str) -> None:
    """Its name and its time; bucket and namespace are those that were asked for."""
    entry = {"name": name, "namespace": ["other"], "createdAt": "2026-01-02T03:04:05Z"}

    table = ListedTable.read(entry, bucket=ARN, namespace="sales")

    assert table == ListedTable(ARN, "sales", name, START)


@pytest.mark.parametrize("name", ["", ".", "..", "...", "." * 300, None, 5, ["orders"], {}])
def test_what_has_no_name_is_no_table(name: object) -> None:
    """Dots alone would lead elsewhere in a path."""
    with pytest.raises(InvalidEvent) as caught:
        ListedTable.read({"name": name}, bucket=ARN, namespace="sales")

    assert str(caught.value).isascii()


@pytest.mark.parametrize("entry", NO_ENTRIES.values(), ids=NO_ENTRIES)
def test_what_is_no_object_is_neither_table_nor_namespace(entry: object) -> None:
    """Whatever a list holds, it is read or it is invalid."""
    with pytest.raises(InvalidEvent):
        ListedTable.read(entry, bucket=ARN, namespace="sales")
    with pytest.raises(InvalidEvent):
        read_namespace(entry)


@pytest.mark.parametrize("name", ["sales", ".sales", "a.b", "表", "n" * 255])
def test_an_entry_tells_a_namespace(name: str) -> None:
    """It comes as a list of one."""
    assert read_namespace({"namespace": [name], "createdAt": "soon"}) == name


@pytest.mark.parametrize(
    "namespace",
    [
        None,
        "sales",
        [],
        [""],
        [".."],
        [5],
        ["\u202e" * 1000, "x"],
    ],
)
def test_what_has_not_one_name_is_no_namespace(namespace: object) -> None:
    """The sentence quotes the entry, at a length that a line can hold."""
    with pytest.raises(InvalidEvent) as caught:
        read_namespace({"namespace": namespace})

    assert str(caught.value).isascii()
    assert len(str(caught.value)) < 400
