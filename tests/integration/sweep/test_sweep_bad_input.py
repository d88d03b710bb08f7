"""A sweep against a service that misbehaves in every way that can be thought of.

What holds of every sweep is checked after each (`Service.sweep`): a bucket is never called
encrypted that is not, what is unknown says why, no bucket has two findings, the totals add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from encryption_guard.sweep.findings import Finding, Totals
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
)
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.emulators.skipping_clock import SkippingClock
from tests.unit.fakes import LetterBox, LogLines, skipping

PUT, GET = "PutTableBucketEncryption", "GetTableBucketEncryption"
LIST, EXISTS = "ListTableBuckets", "GetTableBucket"
ELSEWHERE = "cn-shanghai"
SWEEPER = deployed_role("sweep", AUDITING)
AS_SWEEPER = Credentials(SWEEPER.id, SWEEPER.secret, SWEEPER.security_token)
# Nothing is waited for but what the service names, and what is there to see a bucket at all.
IMPATIENT = Clock(chance=lambda: 0.0)
SHORT = {"GUARD_HTTP_TIMEOUT_SECONDS": "0.5", "GUARD_MAX_ATTEMPTS": "2"}


@dataclass
class Swept:
    """What one sweep found."""

    findings: list[Finding]
    totals: Totals

    @property
    def buckets(self) -> dict[str | None, Finding]:
        return {found.bucket: found for found in self.findings if found.kind == "bucket"}

    @property
    def regions(self) -> list[Finding]:
        return [found for found in self.findings if found.kind == "region"]


@dataclass
class Service:
    """The emulated service, and sweeps of it."""

    tables: OssTables
    transport: DeadlineTransport
    clock: Clock = IMPATIENT
    environment: Mapping[str, str] = field(default_factory=dict)

    def sweep(
        self,
        *regions: str,
        apply: bool = True,
        audit: TableAudit = "false",
        seconds: float = 120,
    ) -> Swept:
        """One sweep; whatever it found, it is no lie and adds up."""
        regions = regions or (REGION,)
        places = [Scope(ACCOUNT, region) for region in regions]
        swept = Swept([], Totals.empty(places))

        def report(finding: Finding) -> None:
            swept.findings.append(finding)
            swept.totals.count(finding)

        Sweep(
            invocation=Invocation(
                transport=self.transport,
                settings=Settings.from_environment(
                    {
                        "FC_ACCOUNT_ID": ACCOUNT,
                        "FC_REGION": REGION,
                        "GUARD_OSS_TABLES_ENDPOINT": self.tables.url,
                        **self.environment,
                    }
                ),
                read_credentials=lambda: AS_SWEEPER,
                budget=TimeBudget(self.clock.monotonic() + seconds, self.clock),
                clock=self.clock,
            ),
            dead_letters=DeadLetters(
                put=LetterBox().put,
                log_error=LogLines().error,
                function="sweep",
                function_request_id="request-1",
                now=self.clock.now,
            ),
            apply=apply,
            audit=audit,
            report=report,
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
            assert (found.outcome == "encrypted") <= (found.state == "encrypted")
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
        yield Service(tables, transport)


# Regions and lists.


def test_300_buckets_come_in_pages(service: Service) -> None:
    """Every bucket of several pages is found once and encrypted."""
    arns = {service.tables.plant(f"bucket-{number:03}") for number in range(300)}

    swept = service.sweep()

    assert {service.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert {str(found.arn) for found in swept.findings} == arns
    assert (swept.totals.all.newly_encrypted, swept.totals.all.ok) == (300, True)
    pages = [each for each in service.tables.requests if each.operation == LIST]
    assert len(pages) == 3


# One bucket that cannot be read.


READ_FAULTS: dict[str, Effect] = {
    "garbage": Garbage(),
    "a truncated answer": Truncate(),
    "a reset amid the answer": ResetMidAnswer(),
    "an answer that drips": Drip(0.1),
    "a late answer": Delay(2),
    "an error's header with 200": false_success("header"),
}


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


# Tables.


NAMES = ("plain", "a/b", "a%2Fb", "a?b=c", "a b#c", "ü", "x\x1b[31m", "a&b", "+", "-", "a.b")


def test_a_table_of_any_name_is_read(service: Service) -> None:
    """Whatever a table or namespace is called, it is that one's encryption which is told."""
    arn = service.tables.plant("orders", encryption="AES256")
    for name in NAMES:
        service.tables.plant_table(arn, f"{name}1", f"{name}2", encryption="KMS")
        service.tables.plant_table(arn, f"{name}1", f"{name}3", unencrypted=True)

    swept = service.sweep(audit="true")

    tables = [found for found in swept.findings if found.kind == "table"]
    told = {(table.namespace, table.table): (table.state, table.encryption) for table in tables}
    assert told == {
        (f"{name}1", f"{name}{number}"): shown
        for name in NAMES
        for number, shown in ((2, ("encrypted", "KMS")), (3, ("not_encrypted", None)))
    }


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
    seconds=st.sampled_from((2, 20, 1_000_000)),
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
    seconds: int,
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
        service = Service(tables, transport, clock=skipping(SkippingClock()))

        swept = service.sweep(REGION, ELSEWHERE, audit=audit, apply=apply, seconds=seconds)

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
