"""A sweep against a service that misbehaves in every way that can be thought of.

What holds of every sweep is checked after each (`Service.sweep`): a bucket is never called
encrypted that is not, what is unknown says why, no bucket has two findings, the totals add up.
"""

from __future__ import annotations

import json
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from encryption_guard.arn import Scope
from encryption_guard.credentials import Credentials
from encryption_guard.dead_letters import DeadLetters
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, DeadlineTransport, Invocation, TimeBudget
from encryption_guard.settings import Settings, TableAudit
from encryption_guard.sweep import Sweep
from encryption_guard.sweep.findings import Finding, Memory, Totals
from tests.emulators.cloud import ACCOUNT, AUDITING, OWNER, REGION, deployed_role
from tests.emulators.faults import (
    Delay,
    Drip,
    Effect,
    Fault,
    Garbage,
    GarbageBody,
    Refuse,
    Reset,
    ResetMidAnswer,
    SkewClock,
    Truncate,
    false_success,
    throttle,
)
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.integration.conftest import SkippingClock

PUT, GET = "PutTableBucketEncryption", "GetTableBucketEncryption"
LIST, EXISTS = "ListTableBuckets", "GetTableBucket"
ELSEWHERE = "cn-shanghai"
SWEEPER = deployed_role("sweep", AUDITING)
AS_SWEEPER = Credentials(SWEEPER.id, SWEEPER.secret, SWEEPER.security_token)
# Nothing is waited for but what the service names, and what is there to see a bucket at all.
IMPATIENT = Clock(chance=lambda: 0.0)
SHORT = {"GUARD_HTTP_TIMEOUT_SECONDS": "0.5", "GUARD_MAX_ATTEMPTS": "2"}


@dataclass
class Exchange:
    """One request as a client sees it; `status` is None where there was no answer."""

    operation: str
    region: str
    sent_at: float
    answered_at: float = 0.0
    status: int | None = None


@dataclass
class Watched(httpx.BaseTransport):
    """The real transport, and what went through it; `before` hears of each request first."""

    inner: DeadlineTransport
    before: Callable[[str, str], object] = lambda _operation, _bucket: None
    seen: list[Exchange] = field(default_factory=list)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        operation, bucket = self._about(request)
        self.before(operation, bucket)
        scope = re.search(r"Credential=[^/]+/\d+/([^/]+)/", request.headers["authorization"])
        assert scope is not None
        exchange = Exchange(operation, scope[1], time.monotonic())
        self.seen.append(exchange)
        response = self.inner.handle_request(request)
        exchange.answered_at, exchange.status = time.monotonic(), response.status_code
        return response

    @staticmethod
    def _about(request: httpx.Request) -> tuple[str, str]:
        path = request.url.raw_path.decode().partition("?")[0].split("/")[1:]
        bucket = path[1].rpartition("%2F")[2] if len(path) > 1 else ""
        if path == ["buckets"]:
            return LIST, ""
        if path[0] == "buckets" and len(path) == 2:
            return EXISTS, bucket
        if path[0] == "buckets":
            return (PUT if request.method == "PUT" else GET), bucket
        return path[0], bucket


@dataclass
class Swept:
    """What one sweep found."""

    findings: list[Finding]
    totals: Totals
    letters: list[dict[str, Any]]

    @property
    def buckets(self) -> dict[str | None, Finding]:
        return {found.bucket: found for found in self.findings if found.kind == "bucket"}

    @property
    def regions(self) -> list[Finding]:
        return [found for found in self.findings if found.kind == "region"]

    @property
    def tables(self) -> dict[str | None, Finding]:
        return {found.table: found for found in self.findings if found.kind == "table"}


@dataclass
class Service:
    """The emulated service, and sweeps of it."""

    tables: OssTables
    transport: Watched
    clock: Clock = IMPATIENT
    environment: Mapping[str, str] = field(default_factory=dict)
    credentials: Credentials = AS_SWEEPER
    memory: Memory = field(default_factory=Memory)

    def sweep(
        self,
        *regions: str,
        apply: bool = True,
        audit: TableAudit = "false",
        seconds: float = 120,
        workers: int = 8,
    ) -> Swept:
        """One sweep; whatever it found, it is no lie and adds up."""
        regions = regions or (REGION,)
        written: list[dict[str, Any]] = []
        places = [Scope(ACCOUNT, region) for region in regions]
        swept = Swept([], Totals.empty(places), written)

        def report(finding: Finding) -> None:
            swept.findings.append(finding)
            swept.totals.count(finding)

        Sweep(
            invocation=Invocation(
                transport=DeadlineTransport(self.transport),
                settings=Settings.from_environment(
                    {
                        "FC_ACCOUNT_ID": ACCOUNT,
                        "FC_REGION": REGION,
                        "GUARD_OSS_TABLES_ENDPOINT": self.tables.url,
                        **self.environment,
                    }
                ),
                read_credentials=lambda: self.credentials,
                budget=TimeBudget(self.clock.monotonic() + seconds, self.clock),
                clock=self.clock,
            ),
            dead_letters=DeadLetters(
                put=lambda letter: written.append(letter.model_dump()),
                log_error=lambda *_, **__: None,
                function="sweep",
                function_request_id="request-1",
                now=self.clock.now,
            ),
            apply=apply,
            audit=audit,
            report=report,
            memory=self.memory,
            workers=workers,
        ).check_buckets(places)
        self.check(swept)
        return swept

    def check(self, swept: Swept) -> None:
        """What holds of every sweep."""
        assert_no_false_encrypted(swept, self.tables)
        for found in swept.findings:
            assert found.state in ("encrypted", "not_encrypted", "unknown")
            if found.state == "unknown":
                assert found.detail, found
            assert found.detail is None or "None" not in found.detail
        counted = Counter(str(found.arn) for found in swept.findings if found.kind == "bucket")
        assert {arn: times for arn, times in counted.items() if times > 1} == {}
        assert_sums(swept)

    def puts(self) -> list[str | None]:
        """Which buckets PUTs came in for."""
        return [each.resource for each in self.tables.requests if each.operation == PUT]


def assert_no_false_encrypted(swept: Swept, tables: OssTables) -> None:
    """What is called encrypted is, by exactly that."""
    truth = {str(bucket.arn): bucket.encryption for bucket in tables.buckets()}
    for found in swept.findings:
        if found.kind == "bucket" and found.state == "encrypted":
            encryption = truth[str(found.arn)]
            assert encryption is not None, found
            assert encryption.algorithm.upper() == found.encryption
        if found.kind == "table" and found.state == "encrypted":
            (table,) = [
                table
                for table in tables.tables(str(found.arn))
                if (table.namespace, table.name) == (found.namespace, found.table)
            ]
            assert table.encryption is not None, found


def assert_sums(swept: Swept) -> None:
    """The regions add up to all, and the states to the buckets."""
    total = swept.totals.all
    for name, number in total.as_dict().items():
        assert number == sum(tally.as_dict()[name] for tally in swept.totals.regions.values())
    assert total.buckets == len([each for each in swept.findings if each.kind == "bucket"])
    states = total.encrypted + total.not_encrypted + total.unknown + total.exempt
    assert total.buckets == states
    assert total.ok == all(found.ok for found in swept.findings)


@pytest.fixture
def service(authority: Authority, trusted: Path) -> Iterator[Service]:  # noqa: ARG001  the client trusts it
    with (
        OssTables(OWNER, SWEEPER, region=REGION, authority=authority) as tables,
        open_transport() as transport,
    ):
        yield Service(tables, Watched(transport))


def listed(arn: object, created_at: object = "2020-01-02T03:04:05Z") -> dict[str, object]:
    return {"arn": arn, "name": "a-name", "createdAt": created_at}


def a_list_of(*entries: object, token: object = None) -> Fault:
    """The service lists these, and nothing else."""
    page = {"tableBuckets": list(entries), "continuationToken": token}
    return Fault(GarbageBody(json.dumps(page).encode()), operation=LIST)


def once(operation: str, bucket: str, do: Callable[[], object]) -> Callable[[str, str], None]:
    """Do something just before the first such request."""
    waiting = [do]

    def before(asked: str, about: str) -> None:
        if (asked, about) == (operation, bucket) and waiting:
            waiting.pop()()

    return before


# Regions and lists.


@pytest.fixture
def by_name(
    authority: Authority,
    trusted: Path,  # noqa: ARG001  the client trusts it
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Service]:
    """The service under the names of two regions; a third has a wrong certificate, others none."""
    resolve = socket.getaddrinfo
    known = {f"{region}.oss-tables.aliyuncs.com" for region in (REGION, ELSEWHERE, "cn-impostor")}

    def resolver(host: str, *arguments: Any, **keys: Any) -> Any:
        # The client looks up a name first, and then what it found.
        if host in known | {"127.0.0.1"}:
            return resolve("127.0.0.1", *arguments, **keys)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    names = [f"{region}.oss-tables.aliyuncs.com" for region in (REGION, ELSEWHERE)]
    with (
        OssTables(OWNER, SWEEPER, region=REGION, authority=authority, host_names=names) as tables,
        open_transport() as transport,
    ):
        endpoint = f"https://{{region}}.oss-tables.aliyuncs.com:{tables.port}"
        yield Service(
            tables, Watched(transport), environment={"GUARD_OSS_TABLES_ENDPOINT": endpoint}
        )


@pytest.mark.parametrize("region", ["cn-nowhere", "us-east-1", "cn-impostor"])
def test_a_region_out_of_reach_is_unknown(by_name: Service, region: str) -> None:
    """A region whose host is unknown, or is not who it says, is a finding; the others are swept."""
    arns = [by_name.tables.plant("orders", region=name) for name in (REGION, ELSEWHERE)]

    swept = by_name.sweep(REGION, region, ELSEWHERE)

    assert [by_name.tables.encryption(arn) for arn in arns] == ["AES256", "AES256"]
    (found,) = swept.regions
    assert (found.region, found.state, found.reason) == (region, "unknown", "not_listed")
    documented = region == "us-east-1"
    assert ("Check the region:" in (found.detail or "")) is not documented
    assert not swept.totals.all.ok


def test_a_refused_region_costs_the_others_nothing(service: Service) -> None:
    """A 403 to the list of one region is its finding, with the status and code of the service."""
    for region in (REGION, ELSEWHERE):
        service.tables.plant("orders", region=region)
    fault = Fault(Refuse(403, "RegionDenied", "Not enabled here."), operation=LIST, times=1)
    service.tables.faults.add(fault)

    swept = service.sweep(REGION, ELSEWHERE)

    (found,) = swept.regions
    assert (found.status, found.code) == (403, "RegionDenied")
    assert "Not enabled here." in (found.detail or "")
    assert [bucket.outcome for bucket in swept.buckets.values()] == ["encrypted"]


def test_whoever_may_not_list_is_told_the_right(service: Service) -> None:
    """A caller without ListTableBuckets reads which right is missing."""
    service.tables.admit(replace(SWEEPER, denied=frozenset({LIST})))

    (found,) = service.sweep().findings

    assert (found.kind, found.state) == ("region", "unknown")
    assert "grant oss:ListTableBuckets" in (found.detail or "")


def test_300_buckets_come_in_pages(service: Service) -> None:
    """Every bucket of several pages is found once and encrypted."""
    arns = {service.tables.plant(f"bucket-{number:03}") for number in range(300)}

    swept = service.sweep()

    assert {service.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert {str(found.arn) for found in swept.findings} == arns
    assert (swept.totals.all.newly_encrypted, swept.totals.all.ok) == (300, True)
    pages = [each for each in service.tables.requests if each.operation == LIST]
    assert len(pages) == 3


@pytest.mark.parametrize("number", [0, 1])
def test_a_token_that_leads_back_is_noticed(service: Service, number: int) -> None:
    """A list that never gets on ends as unknown, and what it named has one finding each."""
    arns = [service.tables.plant(f"bucket-{each}") for each in range(number)]
    service.tables.faults.add(a_list_of(*map(listed, arns), token="again"))

    swept = service.sweep()

    (found,) = swept.regions
    assert "twice" in (found.detail or "")
    assert [str(each.arn) for each in swept.findings if each.kind == "bucket"] == arns
    assert not swept.totals.all.ok


def test_a_bucket_that_is_listed_twice_is_one_bucket(service: Service) -> None:
    """A list may shift while it is read: a bucket on two pages has one finding and one PUT."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(a_list_of(listed(arn), listed(arn)))

    swept = service.sweep()

    assert swept.totals.all.buckets == 1
    assert service.puts() == ["orders"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"7",
        b'"tableBuckets"',
        b"<html>not what you asked for</html>",
        b'{"buckets": []}',
        b'{"tableBuckets": 7}',
        b'{"tableBuckets": "orders"}',
        b'{"tableBuckets": {"arn": "orders"}}',
        b'{"tableBuckets": {}}',
        b'{"tableBuckets": ""}',
        b'{"tableBuckets": false}',
        b'{"tableBuckets": 0}',
        b'{"tableBuckets": [], "continuationToken": 7}',
        b'{"tableBuckets": [], "continuationToken": {"a": 1}}',
        b'{"tableBuckets": [',
        b"[" * 100_000,
        b'{"tableBuckets": [' + b" " * (1024 * 1024) + b"]}",
    ],
    ids=lambda body: body[:40].decode(),
)
def test_what_is_no_list_is_no_empty_region(service: Service, body: bytes) -> None:
    """An answer that is no list leaves the region unknown, never well."""
    service.tables.plant("orders")
    service.tables.faults.add(Fault(GarbageBody(body), operation=LIST))

    swept = service.sweep()

    (found,) = swept.findings
    assert (found.kind, found.state) == ("region", "unknown")
    assert not swept.totals.all.ok


@pytest.mark.parametrize(
    "entry",
    [
        None,
        7,
        [],
        "acs:osstables:cn-hangzhou:1234567890123456:bucket/parts",
        {},
        {"arn": None},
        {"arn": 7},
        listed("orders"),
        listed("acs:osstables:cn-hangzhou:1234567890123456:bucket/../../etc"),
        listed("acs:osstables:cn-hangzhou:1234567890123456:bucket/parts\n"),
        listed("acs:osstables:cn-hangzhou:1234567890123456:bucket/\x1b[31mparts"),
        listed("acs:osstables:cn-hangzhou.evil.com/:1234567890123456:bucket/parts"),
        listed("acs:oss:cn-hangzhou:1234567890123456:bucket/parts"),
        listed("acs:osstables:cn-shanghai:1234567890123456:bucket/parts"),
    ],
    ids=str,
)
def test_an_entry_that_is_no_bucket_of_the_region_is_told(service: Service, entry: object) -> None:
    """It is a finding with a sentence; no request is made for it, and the others are encrypted."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(a_list_of(entry, listed(arn)))

    swept = service.sweep()

    (found,) = swept.regions
    assert (found.state, found.reason) == ("unknown", "unreadable")
    assert (found.detail or "").isprintable()
    assert service.tables.encryption(arn) == "AES256"
    assert {each.resource for each in service.tables.requests} == {None, "orders"}
    assert not swept.totals.all.ok


def test_a_bucket_of_another_account_is_left_alone(service: Service) -> None:
    """A list that names a stranger's bucket does not make it ours."""
    foreign = service.tables.plant("theirs", account_id="9" * 16)
    ours = service.tables.plant("ours")
    service.tables.faults.add(a_list_of(listed(foreign), listed(ours)))

    swept = service.sweep()

    assert service.tables.encryption(foreign) is None
    assert (swept.buckets["theirs"].state, swept.buckets["theirs"].status) == ("unknown", 403)
    assert swept.buckets["ours"].state == "encrypted"


def test_a_bucket_of_another_account_that_can_be_read_is_told_apart(service: Service) -> None:
    """Refused by the guard itself, its finding does not claim that OSS Tables refused it."""
    foreign = service.tables.plant("theirs", account_id="9" * 16)
    service.tables.faults.add(a_list_of(listed(foreign)))
    service.tables.faults.add(Fault(GarbageBody(b"{}"), operation=GET))

    swept = service.sweep()

    (found,) = swept.findings
    assert (found.outcome, found.reason) == ("dead_lettered", "foreign_account")
    assert "OSS Tables refused" not in (found.detail or "")
    assert [letter["reason"] for letter in swept.letters] == ["foreign_account"]


@pytest.mark.parametrize(
    "created_at",
    [None, "", "yesterday", 7, [], "2026-99-99T00:00:00Z", "\x1b[31m", "2026-01-02T03:04:05Z" * 99],
    ids=lambda value: str(value)[:25],
)
def test_a_time_that_cannot_be_read_costs_nothing_but_the_time(
    service: Service, created_at: object
) -> None:
    """A bucket whose age nobody knows is encrypted, as drift and without a time span."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(a_list_of(listed(arn, created_at)))

    swept = service.sweep()

    (found,) = swept.findings
    assert (found.state, found.reason) == ("encrypted", "drift")
    assert (found.created_at, found.time_to_encrypt_ms) == (None, None)


def test_a_bucket_without_a_time_is_encrypted(service: Service) -> None:
    """An entry that has no createdAt at all is an entry nevertheless."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(a_list_of({"arn": arn}))

    assert service.sweep().buckets["orders"].outcome == "encrypted"


@pytest.mark.parametrize(
    ("created_at", "reason"),
    [
        ("0001-01-01T00:00:00+14:00", "drift"),
        ("0001-01-01T00:00:00", "drift"),
        ("9999-12-31T23:59:59-14:00", "created"),
        ("2099-01-01T00:00:00Z", "created"),
    ],
)
def test_an_extreme_time_is_a_time(service: Service, created_at: str, reason: str) -> None:
    """Whenever the service says that a bucket was created, it is encrypted."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(a_list_of(listed(arn, created_at)))

    (found,) = service.sweep().findings

    assert (found.state, found.reason) == ("encrypted", reason)
    assert (found.time_to_encrypt_ms or 0) >= 0
    json.dumps(found.as_dict())


# One bucket that cannot be read.


READ_FAULTS: dict[str, Effect] = {
    "garbage": Garbage(),
    "a garbage body": GarbageBody(),
    "a truncated answer": Truncate(),
    "a reset": Reset(),
    "a reset amid the answer": ResetMidAnswer(),
    "an answer that drips": Drip(0.1),
    "a late answer": Delay(2),
    "500": Refuse(500),
    "502": Refuse(502),
    "503": throttle(503),
    "429": throttle(429),
    "408": Refuse(408),
    "an error document with 200": false_success("document"),
    "an error's header with 200": false_success("header"),
}


@pytest.mark.parametrize("effect", READ_FAULTS.values(), ids=READ_FAULTS)
def test_one_bad_answer_costs_nothing(service: Service, effect: Effect) -> None:
    """A read that fails once is repeated, and every bucket ends as it should."""
    service.environment = {"GUARD_HTTP_TIMEOUT_SECONDS": "0.5"}
    service.tables.plant("orders")
    service.tables.plant("parts", encryption="KMS")
    service.tables.faults.add(Fault(effect, operation=GET, times=1))

    swept = service.sweep()

    found = {name: bucket.encryption for name, bucket in swept.buckets.items()}
    assert found == {"orders": "AES256", "parts": "KMS"}


@pytest.mark.parametrize("effect", READ_FAULTS.values(), ids=READ_FAULTS)
def test_a_bucket_that_cannot_be_read_is_unknown(service: Service, effect: Effect) -> None:
    """A read that keeps failing is no reason to overwrite; the other buckets are encrypted."""
    service.environment = SHORT
    odd = service.tables.plant("odd", encryption="KMS")
    others = [service.tables.plant(f"bucket-{number}") for number in range(5)]
    service.tables.faults.add(Fault(effect, operation=GET, resource="odd"))

    swept = service.sweep()

    assert swept.buckets["odd"].state == "unknown"
    assert swept.buckets["odd"].outcome == "failed"
    assert service.tables.encryption(odd) == "KMS"
    assert "odd" not in service.puts()
    assert [service.tables.encryption(arn) for arn in others] == ["AES256"] * 5
    assert (swept.totals.all.unknown, swept.totals.all.encrypted) == (1, 5)


@pytest.mark.parametrize("effect", READ_FAULTS.values(), ids=READ_FAULTS)
def test_a_list_that_cannot_be_read_is_unknown(service: Service, effect: Effect) -> None:
    """The same of a list: the region is unknown, and why is told."""
    service.environment = SHORT
    service.tables.plant("orders")
    service.tables.faults.add(Fault(effect, operation=LIST))

    (found,) = service.sweep().findings

    assert (found.kind, found.state, found.reason) == ("region", "unknown", "not_listed")


@pytest.mark.parametrize(
    "body",
    [
        b"null",
        b"[]",
        b"7",
        b'"AES256"',
        b'{"sseAlgorithm": "AES256"}',
        b'{"encryptionConfiguration": "AES256"}',
        b'{"encryptionConfiguration": ["AES256"]}',
        b'{"encryptionConfiguration": 7}',
        b'{"encryptionConfiguration": false}',
        b'{"encryptionConfiguration": 0}',
        b'{"encryptionConfiguration": {"sseAlgorithm": 7}}',
        b'{"encryptionConfiguration": {"sseAlgorithm": ["AES256"]}}',
        b'{"encryptionConfiguration": {"sseAlgorithm": {"name": "AES256"}}}',
        b'{"encryptionConfiguration": {"sseAlgorithm": false}}',
        b'{"encryptionConfiguration": {"sseAlgorithm": "AES256"}',
    ],
    ids=lambda body: body.decode(),
)
def test_what_does_not_clearly_say_no_is_not_overwritten(service: Service, body: bytes) -> None:
    """A wrong type is unknown: the bucket keeps what it has."""
    arn = service.tables.plant("odd", encryption="KMS")
    service.tables.faults.add(Fault(GarbageBody(body), operation=GET))

    swept = service.sweep()

    (found,) = swept.findings
    assert (found.state, found.outcome) == ("unknown", "failed")
    assert (found.detail or "").isprintable()
    assert service.tables.encryption(arn) == "KMS"


@pytest.mark.parametrize(
    ("body", "state"),
    [
        (b'{"encryptionConfiguration": {"kmsKeyArn": "acs:kms:cn-hangzhou:1:key/k"}}', "encrypted"),
        (b'{"encryptionConfiguration": {"sseAlgorithm": null, "kmsKeyId": "k"}}', "encrypted"),
        (b'{"encryptionConfiguration": {"sseAlgorithm": "ROT13"}}', "unknown"),
        (b'{"encryptionConfiguration": {"sseAlgorithm": "\\u001b[31mAES256"}}', "unknown"),
    ],
    ids=lambda value: value.decode() if isinstance(value, bytes) else value,
)
def test_a_choice_in_other_words_is_kept(service: Service, body: bytes, state: str) -> None:
    """A word that nobody knows is a problem besides: somebody has to look at it."""
    arn = service.tables.plant("odd", encryption="KMS")
    service.tables.faults.add(Fault(GarbageBody(body), operation=GET))

    swept = service.sweep()

    (found,) = swept.findings
    assert (found.state, found.outcome) == (state, "kept_stronger")
    assert (found.detail or "").isprintable()
    assert swept.totals.all.unknown == (state == "unknown")
    assert service.tables.encryption(arn) == "KMS"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"encryptionConfiguration": {}}',
        b'{"encryptionConfiguration": null}',
        b'{"encryptionConfiguration": {"sseAlgorithm": "", "kmsKeyArn": ""}}',
    ],
    ids=lambda body: body.decode(),
)
def test_every_form_of_no_encryption_is_understood(service: Service, body: bytes) -> None:
    """However a service says that there is none, the bucket is encrypted."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(Fault(GarbageBody(body), operation=GET, times=2))

    swept = service.sweep()

    assert service.tables.encryption(arn) == "AES256"
    assert swept.buckets["orders"].outcome == "encrypted"


def test_an_unset_encryption_may_be_a_404(authority: Authority, service: Service) -> None:
    """Where 404 stands for "none", the bucket is encrypted; one that is gone is told apart."""
    with OssTables(OWNER, SWEEPER, region=REGION, authority=authority, unset="not_found") as tables:
        service.tables = tables
        arns = [tables.plant("orders"), tables.plant("parts", encryption="SM4")]
        gone = arns[0].replace("orders", "gone")
        tables.faults.add(a_list_of(*map(listed, [*arns, gone])))

        swept = service.sweep()

        assert [tables.encryption(arn) for arn in arns] == ["AES256", "SM4"]
    found = {name: (bucket.state, bucket.reason) for name, bucket in swept.buckets.items()}
    assert found == {
        "orders": ("encrypted", "drift"),
        "parts": ("encrypted", "SM4"),
        "gone": ("unknown", "gone"),
    }


def test_a_404_that_cannot_be_told_apart_is_unknown(authority: Authority, service: Service) -> None:
    """Without GetTableBucket nobody knows what a 404 means, and the finding names the right."""
    key = replace(SWEEPER, denied=frozenset({EXISTS}))
    with OssTables(OWNER, key, region=REGION, authority=authority, unset="not_found") as tables:
        service.tables = tables
        tables.plant("orders")

        (found,) = service.sweep().findings

    assert (found.state, found.status) == ("unknown", 403)
    assert "oss:GetTableBucket" in (found.detail or "")


# What changes while the sweep is under way.


@pytest.mark.parametrize("operation", [GET, PUT])
def test_a_bucket_that_is_removed_meanwhile_is_its_own_finding(
    service: Service, operation: str
) -> None:
    """Gone before it is read, or before its PUT: told as such, and the others are encrypted."""
    created_at = datetime.now(timezone.utc) - timedelta(days=2)
    arn = service.tables.plant("gone", created_at=created_at)
    others = [service.tables.plant(f"bucket-{number}") for number in range(3)]
    service.clock = SkippingClock().as_clock()
    service.transport.before = once(operation, "gone", lambda: service.tables.remove(arn))

    swept = service.sweep()

    found = swept.buckets["gone"]
    assert (found.state, found.outcome, found.reason) == ("unknown", "failed", "gone")
    assert [service.tables.encryption(other) for other in others] == ["AES256"] * 3


def test_a_stronger_choice_that_is_made_meanwhile_is_kept(service: Service) -> None:
    """An owner who is faster than the sweep keeps what they chose."""
    arn = service.tables.plant("orders")
    reads: list[str] = []

    def before(operation: str, _: str) -> None:
        if operation == GET:
            reads.append(operation)
        if len(reads) == 2:
            service.tables.remove(arn)
            service.tables.plant("orders", encryption="KMS")
            reads.append("done")

    service.transport.before = before
    swept = service.sweep()

    assert service.tables.encryption(arn) == "KMS"
    found = swept.buckets["orders"]
    assert (found.state, found.encryption, found.outcome) == ("encrypted", "KMS", "kept_stronger")


def test_a_stronger_choice_behind_a_passing_404_is_kept(service: Service) -> None:
    """A bucket that is not found for a moment, and then has an encryption, keeps it."""
    arn = service.tables.plant("orders", encryption="KMS")
    service.transport.before = once(GET, "orders", lambda: service.tables.hide(arn, requests=1))

    (found,) = service.sweep().findings

    assert service.tables.encryption(arn) == "KMS"
    assert (found.state, found.outcome) == ("encrypted", "kept_stronger")


def test_an_encryption_that_is_taken_off_at_once_is_noticed(service: Service) -> None:
    """What is read back counts, not what was answered to the PUT."""
    arn = service.tables.plant("orders")
    service.clock = SkippingClock().as_clock()
    done: list[str] = []

    def before(operation: str, _: str) -> None:
        if operation == GET and PUT in done:
            service.tables.decrypt(arn)
        done.append(operation)

    service.transport.before = before
    (found,) = service.sweep().findings

    assert (found.state, found.outcome, found.reason) == (
        "not_encrypted",
        "failed",
        "not_confirmed",
    )
    assert found.detail


@pytest.mark.parametrize("hidden", [2, 3, 4])
def test_a_bucket_that_is_not_yet_visible_is_left_to_the_next_sweep(
    service: Service, hidden: int
) -> None:
    """A bucket that a list shows before anything else does is no reason for a letter."""
    arn = service.tables.plant("orders")
    service.clock = SkippingClock().as_clock()
    service.transport.before = once(
        GET, "orders", lambda: service.tables.hide(arn, requests=hidden)
    )

    swept = service.sweep()

    assert swept.letters == []
    assert (swept.buckets["orders"].state, swept.buckets["orders"].reason) == ("unknown", "gone")
    service.tables.hide(arn, requests=0)
    assert service.sweep().buckets["orders"].state == "encrypted"


def test_a_bucket_that_hides_from_its_put_is_waited_for(service: Service) -> None:
    """A PUT that finds nothing is repeated for as long as a new bucket may take to be seen."""
    arn = service.tables.plant("orders")
    service.clock = SkippingClock().as_clock()
    service.transport.before = once(PUT, "orders", lambda: service.tables.hide(arn, requests=2))

    swept = service.sweep()

    assert swept.buckets["orders"].outcome == "encrypted"
    assert service.tables.encryption(arn) == "AES256"


# The PUT.


def test_a_put_that_is_not_kept_is_no_encryption(service: Service) -> None:
    """A service that confirms and does nothing is not believed."""
    arn = service.tables.plant("orders")
    service.clock = SkippingClock().as_clock()
    service.tables.faults.add(Fault(GarbageBody(b""), operation=PUT))

    (found,) = service.sweep().findings

    assert service.tables.encryption(arn) is None
    assert (found.state, found.reason) == ("not_encrypted", "not_confirmed")
    assert found.detail


LOST: dict[str, Effect] = {
    "a reset": Reset(),
    "a reset amid the answer": ResetMidAnswer(),
    "garbage": Garbage(),
    "500": Refuse(500),
}


@pytest.mark.parametrize("effect", LOST.values(), ids=LOST)
def test_a_put_whose_answer_is_lost_is_repeated(service: Service, effect: Effect) -> None:
    """The second PUT, or whatever is read back, tells that the bucket is encrypted."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(Fault(effect, operation=PUT, after=True, times=1))

    swept = service.sweep()

    assert service.tables.encryption(arn) == "AES256"
    assert swept.buckets["orders"].state == "encrypted"


@pytest.mark.parametrize("effect", LOST.values(), ids=LOST)
def test_a_put_whose_answer_is_always_lost_is_not_told_as_not_done(
    service: Service, effect: Effect
) -> None:
    """Where every answer was lost nobody knows before it is read: never a false "not encrypted"."""
    arn = service.tables.plant("orders")
    service.tables.faults.add(Fault(effect, operation=PUT, after=True))

    (found,) = service.sweep().findings

    assert service.tables.encryption(arn) == "AES256"
    assert found.state in ("encrypted", "unknown")
    assert found.detail or found.state == "encrypted"


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 307])
def test_a_last_word_on_a_put_is_a_letter(service: Service, status: int) -> None:
    """A refusal for good is a letter with its sentence, and the other buckets are encrypted."""
    service.clock = SkippingClock().as_clock()
    service.tables.plant("odd")
    others = [service.tables.plant(f"bucket-{number}") for number in range(3)]
    service.tables.faults.add(
        Fault(Refuse(status, "Odd\x1b[31m", "No.\x1b[31m"), operation=PUT, resource="odd")
    )

    swept = service.sweep()

    found = swept.buckets["odd"]
    assert (found.state, found.outcome) == ("not_encrypted", "dead_lettered")
    assert str(status) in (found.detail or "")
    assert [letter["status"] for letter in swept.letters] == [status]
    assert [service.tables.encryption(arn) for arn in others] == ["AES256"] * 3


# Who asks, and when.


def test_an_expired_token_is_no_crash(service: Service) -> None:
    """Credentials that are over leave every region unknown, with the service's own words."""
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    service.tables.admit(replace(SWEEPER, expires_at=past))

    (found,) = service.sweep().findings

    assert (found.kind, found.state) == ("region", "unknown")
    assert "403" in (found.detail or "")


def test_a_token_that_expires_in_the_middle_spoils_nothing(service: Service) -> None:
    """What was read before stays, what comes after is unknown, and no letter is written for it."""
    for number in range(20):
        service.tables.plant(f"bucket-{number:02}", encryption=None if number % 2 else "KMS")
    past = datetime.now(timezone.utc) - timedelta(hours=1)
    service.transport.before = once(
        GET, "bucket-10", lambda: service.tables.admit(replace(SWEEPER, expires_at=past))
    )

    swept = service.sweep()

    assert len(swept.buckets) == 20
    assert swept.buckets["bucket-10"].state == "unknown"
    assert swept.letters == []


@pytest.mark.parametrize("operation", [LIST, GET])
def test_401_is_unknown(service: Service, operation: str) -> None:
    """A 401 that new credentials do not mend is told, with its status."""
    service.tables.plant("orders", encryption="AES256")
    service.tables.faults.add(Fault(Refuse(401), operation=operation))

    (found,) = service.sweep().findings

    assert found.state == "unknown"
    assert "401" in (found.detail or "")


def test_a_wrong_key_is_unknown(service: Service) -> None:
    """A key that the service does not know leaves the region unknown."""
    service.credentials = Credentials("LTAI-nobody", "nothing", None)

    (found,) = service.sweep().findings

    assert (found.kind, found.state, found.status) == ("region", "unknown", 403)


@pytest.mark.parametrize("seconds", [3600, -3600])
@pytest.mark.parametrize("error_types", ["telling", "generic"])
def test_a_skewed_clock_is_corrected(service: Service, seconds: float, error_types: Any) -> None:
    """Whatever time the service has, and however it says so, every bucket is encrypted."""
    service.tables.error_types = error_types
    arns = [service.tables.plant(f"bucket-{number}") for number in range(5)]
    service.tables.faults.add(Fault(SkewClock(seconds)))

    swept = service.sweep()

    assert {service.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert swept.totals.all.ok


# Throttling.


@pytest.mark.parametrize("status", [429, 503])
def test_one_throttled_request_stops_all_threads(service: Service, status: Any) -> None:
    """Between a 429 or 503 and the end of its Retry-After nothing is sent to that region."""
    for number in range(40):
        service.tables.plant(f"bucket-{number:02}", encryption="AES256")
    service.tables.faults.add(
        Fault(Delay(0.05)),
        Fault(throttle(status, retry_after=2), operation=GET, resource="bucket-1[0-2]", times=1),
    )

    swept = service.sweep()

    (throttled,) = [each for each in service.transport.seen if each.status == status]
    # What had been sent, or was on its way out, when the answer came.
    begin, end = throttled.answered_at + 0.2, throttled.answered_at + 1.95
    assert [each for each in service.transport.seen if begin < each.sent_at < end] == []
    assert any(each.sent_at > end for each in service.transport.seen)
    assert (swept.totals.all.encrypted, swept.totals.all.ok) == (40, True)


def test_a_throttled_region_waits_by_itself(service: Service) -> None:
    """All its threads wait, once, and the other region is done meanwhile."""
    for number in range(30):
        service.tables.plant(f"throttled-{number:02}", encryption="AES256")
        service.tables.plant(f"bucket-{number:02}", region=ELSEWHERE, encryption="AES256")
    service.tables.faults.add(
        Fault(Delay(0.05)),
        Fault(throttle(503, retry_after=3), operation=GET, resource="throttled-*", times=8),
    )

    swept = service.sweep(REGION, ELSEWHERE)

    refused = [each for each in service.transport.seen if each.status == 503]
    begin, end = refused[0].answered_at + 0.3, refused[0].answered_at + 2.95
    assert {each.region for each in refused} == {REGION}
    assert [
        e for e in service.transport.seen if e.region == REGION and begin < e.sent_at < end
    ] == []
    elsewhere = [each.answered_at for each in service.transport.seen if each.region == ELSEWHERE]
    assert len(elsewhere) == 31
    assert max(elsewhere) < end
    assert swept.totals.all.ok


@pytest.mark.parametrize("operation", [GET, PUT])
def test_a_pause_leaves_no_bucket_behind(service: Service, operation: str) -> None:
    """With time enough, all that a shared pause costs is its length: every bucket is encrypted."""
    arns = [service.tables.plant(f"bucket-{number:02}") for number in range(24)]
    service.tables.faults.add(
        Fault(Delay(0.05)),
        Fault(throttle(429, retry_after=3), operation=operation, resource="bucket-05", times=1),
    )

    swept = service.sweep()

    assert [found.detail for found in swept.findings if not found.ok] == []
    assert {service.tables.encryption(arn) for arn in arns} == {"AES256"}


def test_a_long_pause_is_waited_for_if_there_is_time(service: Service) -> None:
    """A Retry-After of 20 s in a sweep that has hours is waited out: every bucket is encrypted."""
    arns = [service.tables.plant(f"bucket-{number:02}") for number in range(10)]
    service.clock = SkippingClock().as_clock()
    service.tables.faults.add(Fault(throttle(429, retry_after=20), operation=GET, times=1))

    swept = service.sweep(seconds=10_000, workers=1)

    assert [found.detail for found in swept.findings if not found.ok] == []
    assert {service.tables.encryption(arn) for arn in arns} == {"AES256"}


def test_a_storm_of_503s_is_weathered(service: Service) -> None:
    """With half of all requests refused, each bucket ends with one true finding."""
    for number in range(30):
        service.tables.plant(f"bucket-{number:02}", encryption="SM4" if number % 3 else None)
    service.clock = SkippingClock().as_clock()
    service.tables.faults.add(Fault(throttle(503), operation="*Encryption", probability=0.5))

    swept = service.sweep(seconds=100_000)

    assert len(swept.buckets) == 30
    assert swept.letters == []


def test_a_service_that_is_down_is_asked_few_times(service: Service) -> None:
    """Every request answered by 503 ends as one unknown region after as many tries as are set."""
    service.tables.plant("orders")
    service.tables.faults.add(Fault(throttle(503)))

    (found,) = service.sweep().findings

    assert (found.kind, found.state) == ("region", "unknown")
    assert "503" in (found.detail or "")
    assert len(service.tables.requests) == 4


def test_a_wait_longer_than_the_sweep_is_not_waited(service: Service) -> None:
    """A Retry-After that leads beyond the time there is ends as unknown, and soon."""
    for number in range(20):
        service.tables.plant(f"bucket-{number:02}")
    service.tables.faults.add(Fault(throttle(429, retry_after=3600), operation=GET))
    begun = time.monotonic()

    swept = service.sweep(seconds=20)

    assert time.monotonic() - begun < 20
    assert {found.state for found in swept.buckets.values()} == {"unknown"}


# Tables.


NAMES = ("plain", "a/b", "a%2Fb", "a?b=c", "a b#c", "ü", "x\x1b[31m", "a&b", "+", "-", "a.b")


@pytest.mark.parametrize("name", NAMES)
def test_a_table_of_any_name_is_read(service: Service, name: str) -> None:
    """Whatever a table or namespace is called, it is that one's encryption which is told."""
    arn = service.tables.plant("orders", encryption="AES256")
    service.tables.plant_table(arn, f"{name}1", f"{name}2", encryption="KMS")
    service.tables.plant_table(arn, f"{name}1", f"{name}3", unencrypted=True)

    swept = service.sweep(audit="true")

    told = {(t.namespace, t.table): (t.state, t.encryption) for t in swept.tables.values()}
    assert told == {
        (f"{name}1", f"{name}2"): ("encrypted", "KMS"),
        (f"{name}1", f"{name}3"): ("not_encrypted", None),
    }


@pytest.mark.parametrize("name", [".", "..", "...", "x" * 256, ""])
def test_a_name_that_leads_elsewhere_is_told(service: Service, name: str) -> None:
    """What cannot be a name is a finding with a sentence, and the other tables are read."""
    arn = service.tables.plant("orders", encryption="AES256")
    for table in (name, "fine"):
        service.tables.plant_table(arn, "sales", table)

    swept = service.sweep(audit="true")

    told = {found.table: (found.state, found.reason) for found in swept.tables.values()}
    assert told == {None: ("unknown", "unreadable"), "fine": ("encrypted", "AES256")}
    assert not swept.totals.all.ok


def test_a_table_that_is_dropped_meanwhile_is_unknown(service: Service) -> None:
    """Gone between the list and the read, it is told as that, like a bucket."""
    arn = service.tables.plant("orders", encryption="AES256")
    service.tables.plant_table(arn, "sales", "kept")
    service.tables.plant_table(arn, "sales", "dropped", unencrypted=True)
    reads: list[str] = []

    def before(operation: str, _: str) -> None:
        reads.append(operation)
        if reads.count("tables") == 2:
            service.tables.drop_table(arn, "sales", "dropped")
            reads.append("tables")

    service.transport.before = before
    swept = service.sweep(audit="true", workers=1)

    assert swept.tables["kept"].state == "encrypted"
    assert (swept.tables["dropped"].state, swept.tables["dropped"].reason) == ("unknown", "gone")
    assert not swept.totals.all.ok


@pytest.mark.parametrize("effect", READ_FAULTS.values(), ids=READ_FAULTS)
def test_a_table_that_cannot_be_read_is_unknown(service: Service, effect: Effect) -> None:
    """It is named with the reason; the tables of other buckets are read."""
    service.environment = SHORT
    for name in ("odd", "orders"):
        arn = service.tables.plant(name, encryption="AES256")
        service.tables.plant_table(arn, "sales", f"of-{name}")
    service.tables.faults.add(Fault(effect, operation="GetTableEncryption", resource="odd"))

    swept = service.sweep(audit="true")

    assert {name: found.state for name, found in swept.tables.items()} == {
        "of-odd": "unknown",
        "of-orders": "encrypted",
    }
    assert swept.totals.all.unknown_tables == 1


@pytest.mark.parametrize("operation", ["ListNamespaces", "ListTables"])
def test_tables_that_cannot_be_listed_are_told(service: Service, operation: str) -> None:
    """A list of namespaces or tables that never gets on leaves its bucket's tables unknown."""
    items = "namespaces" if operation == "ListNamespaces" else "tables"
    page = {items: [], "continuationToken": "again"}
    for name in ("odd", "orders"):
        arn = service.tables.plant(name, encryption="AES256")
        service.tables.plant_table(arn, "sales", f"of-{name}")
    service.tables.faults.add(
        Fault(GarbageBody(json.dumps(page).encode()), operation=operation, resource="odd")
    )

    swept = service.sweep(audit="true")

    (problems,) = [found for found in swept.findings if not found.ok]
    assert (problems.kind, problems.bucket, problems.state) == ("table", "odd", "unknown")
    assert swept.tables["of-orders"].state == "encrypted"


def test_a_404_of_a_table_is_told_apart(authority: Authority, service: Service) -> None:
    """Where 404 stands for "none", a table without encryption is unprotected, not gone."""
    with OssTables(OWNER, SWEEPER, region=REGION, authority=authority, unset="not_found") as tables:
        service.tables = tables
        arn = tables.plant("orders", encryption="AES256")
        tables.plant_table(arn, "sales", "early", unencrypted=True)

        swept = service.sweep(audit="true")

    assert swept.tables["early"].outcome == "unprotected"


# Anything, in any combination.


OPERATIONS = (LIST, GET, PUT, EXISTS, "List*", "Get*", "*", "ListTables", "GetTableEncryption")
# None of these says that there is no encryption: a service that lies cannot be seen through.
ANSWERS = st.sampled_from((b"[]", b"null", b"7", b"<html>", b'{"a": 1}', b'{"tables": 7}'))
EFFECTS: st.SearchStrategy[Effect] = st.one_of(
    st.sampled_from((Reset(), ResetMidAnswer(), Garbage(), GarbageBody(), Truncate())),
    st.sampled_from((SkewClock(3600), SkewClock(-7200))),
    st.builds(false_success, st.sampled_from(("document", "header"))),
    st.builds(Refuse, st.sampled_from((301, 400, 401, 403, 408, 409, 429, 500, 502, 503))),
)
BUCKETS = st.lists(
    st.tuples(
        st.sampled_from((REGION, ELSEWHERE)),
        st.sampled_from((None, None, "AES256", "KMS", "SM4", "ROT13")),
        st.integers(0, 3),
    ),
    max_size=12,
)


@dataclass(frozen=True)
class Plan:
    """What goes wrong: each effect, where, how often, and whether the deed is done before."""

    effect: Effect
    operation: str
    number: str
    times: int | None
    probability: float
    after: bool

    def fault(self) -> Fault:
        return Fault(
            self.effect,
            operation=self.operation,
            resource=self.number,
            times=self.times,
            probability=self.probability,
            after=self.after,
        )


PLANS = st.builds(
    Plan,
    effect=EFFECTS,
    operation=st.sampled_from(OPERATIONS),
    number=st.sampled_from(("*", "bucket-0", "bucket-[0-4]")),
    times=st.sampled_from((None, 1, 3, 10)),
    probability=st.sampled_from((0.2, 0.5, 1.0)),
    after=st.booleans(),
)


@pytest.mark.parametrize("hours", [-1, 1])
def test_with_a_wrong_clock_no_table_of_an_open_bucket_is_called_encrypted(
    service: Service, hours: int
) -> None:
    """The service tells its time in whole seconds, and tables are made within one."""
    wrong = timedelta(hours=hours)
    service.clock = Clock(now=lambda: datetime.now(timezone.utc) + wrong)
    for number in range(5):
        arn = service.tables.plant(f"bucket-{number}")
        service.tables.plant_table(arn, "sales", "orders")

    swept = service.sweep(audit="true")

    tables = [found for found in swept.findings if found.kind == "table"]
    assert [(table.outcome, table.reason) for table in tables] == [
        ("unprotected", "made_before")
    ] * 5


# The fixtures are the same for every example: a certificate that is trusted.
@settings(
    max_examples=60,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    buckets=BUCKETS,
    plans=st.lists(PLANS, max_size=4),
    answer=ANSWERS,
    unset=st.sampled_from(("empty", "not_found")),
    audit=st.sampled_from(["late", "true", "false"]),
    apply=st.booleans(),
)
def test_whatever_goes_wrong_a_sweep_tells_the_truth(
    authority: Authority,
    trusted: Path,  # noqa: ARG001  the client trusts it
    buckets: Sequence[tuple[str, str | None, int]],
    plans: Sequence[Plan],
    answer: bytes,
    unset: Any,
    audit: TableAudit,
    apply: bool,
) -> None:
    """No bucket is called encrypted that is not, each has one finding, and the totals add up."""
    with (
        OssTables(OWNER, SWEEPER, region=REGION, authority=authority, unset=unset) as tables,
        open_transport() as transport,
    ):
        planted: dict[str, str | None] = {}
        for number, (region, encryption, count) in enumerate(buckets):
            arn = tables.plant(f"bucket-{number}", region=region, encryption=encryption)
            planted[arn] = encryption
            for table in range(count):
                tables.plant_table(arn, "sales", f"table-{table}", unencrypted=table == 1)
        for plan in plans:
            tables.faults.add(plan.fault())
        tables.faults.add(Fault(GarbageBody(answer), operation="Get*", probability=0.05))
        service = Service(tables, Watched(transport), clock=SkippingClock().as_clock())

        swept = service.sweep(REGION, ELSEWHERE, audit=audit, apply=apply, seconds=1_000_000)

        failed = {found.region for found in swept.regions}
        found = {str(finding.arn) for finding in swept.findings if finding.kind == "bucket"}
        expected = {arn for arn in planted if arn.split(":")[2] not in failed}
        assert expected <= found <= set(planted)
        for arn, before in planted.items():
            after = tables.encryption(arn)
            assert after == before or (before is None and after == "AES256" and apply)
        if not apply:
            assert service.puts() == []
        assert swept.totals.all.tables == 0 or audit != "false"
