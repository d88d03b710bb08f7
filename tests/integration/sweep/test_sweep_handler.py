"""The doors of both functions in this process, as far as the sweep and the audit go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from encryption_guard.arn import Scope
from encryption_guard.enforcement.handler import read_settings, shared_members, shared_transport
from encryption_guard.sweep.findings import Finding, Totals
from encryption_guard.sweep.function import MAX_LISTED, SweepReport, _memory
from encryption_guard.sweep.function import sweep as one_call
from functions.encrypt_on_create import index as creation
from functions.sweep import index
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE_ARN, REGION, TIMER_EVENT
from tests.integration.conftest import Guard, creation_of
from tests.integration.enforcement.test_handler import Context, FunctionContext
from tests.unit.fakes import (
    ARN,
    OUTCOME_FIELDS,
    FakeOssTables,
    Reply,
    forget_logger,
    invocation_of,
)


@pytest.fixture(autouse=True)
def cold_instance() -> Iterator[None]:
    """Every test begins and ends as a fresh process would."""
    forget_logger()
    yield
    shared_transport().close()
    for cached in (shared_members, shared_transport, read_settings, _memory):
        cached.cache_clear()
    forget_logger()


@pytest.fixture
def deployed(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> Guard:
    """The environment of the functions, with the endpoints of the emulators."""
    environment = {
        "FC_FUNCTION_NAME": "sweep",
        "FC_ACCOUNT_ID": ACCOUNT,
        "FC_REGION": REGION,
        "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
        "GUARD_OSS_TABLES_ENDPOINT": guard.tables.url,
        "GUARD_SMQ_ENDPOINT": guard.queue.url,
        "GUARD_WATCH_SECONDS": "0",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": OWNER.id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": OWNER.secret,
    }
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    return guard


def sweep(timeout: int = 30) -> dict[str, Any]:
    function = FunctionContext(name="sweep", timeout=timeout)
    answer: dict[str, Any] = json.loads(index.handler(TIMER_EVENT, Context(function=function)))
    return answer


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_a_timer_sweeps(deployed: Guard, capsys: pytest.CaptureFixture[str]) -> None:
    """What is not encrypted is, and the result and the log say so."""
    arn = deployed.tables.plant("orders")
    deployed.tables.plant("parts", encryption="AES256")
    index.initialize(Context())

    result = sweep()

    assert deployed.tables.encryption(arn) == "AES256"
    assert (result["ok"], result["totals"]["newly_encrypted"]) == (True, 1)
    assert [found["bucket"] for found in result["encrypted"]] == ["orders"]
    finding, last = log_lines(capsys)
    assert set(finding) >= OUTCOME_FIELDS
    assert (finding["level"], finding["message"]) == ("INFO", "sweep finding")
    assert (last["level"], last["message"]) == ("INFO", "sweep finished")
    assert last["totals"] == result["totals"]


def test_an_event_is_processed_as_the_creation_function_would(deployed: Guard) -> None:
    """So that a sweep's own dead letters can be redriven to it."""
    arn = deployed.tables.plant("orders")
    deployed.tables.plant("parts")

    result = json.loads(index.handler(creation_of(arn), Context()))

    assert (result["outcome"], result["arn"]) == ("encrypted", arn)
    encrypted = [bucket.arn.name for bucket in deployed.tables.buckets() if bucket.encryption]
    assert encrypted == ["orders"]


# Both functions process events: an operator may redrive one to the sweep.
each_function = pytest.mark.parametrize("function", [creation, index], ids=["creation", "sweep"])


@each_function
@pytest.mark.parametrize(
    ("ago", "audited"), [(timedelta(minutes=1), True), (timedelta(0), False)], ids=["late", "soon"]
)
def test_a_late_encryption_is_followed_by_a_look_at_the_tables(
    deployed: Guard,
    capsys: pytest.CaptureFixture[str],
    function: ModuleType,
    ago: timedelta,
    audited: bool,
) -> None:
    """Tables that slipped into the gap are told by name, whatever they show; later ones are not."""
    arn = deployed.tables.plant("orders")
    deployed.tables.plant_table(arn, "sales", "invoices")
    later = datetime.now(timezone.utc) + timedelta(hours=1)
    deployed.tables.plant_table(arn, "sales", "later", created_at=later)
    at = (datetime.now(timezone.utc) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")

    result = json.loads(function.handler(creation_of(arn, eventTime=at), Context()))

    assert result["outcome"] == "encrypted"
    found = [
        (line["table"], line["reason"], line["encryption"])
        for line in log_lines(capsys)
        if line.get("kind") == "table"
    ]
    assert found == ([("invoices", "made_before", "AES256")] if audited else [])


def test_only_so_much_of_what_was_not_reached_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Writing all of it might outlast the function: the totals have the number."""
    report = SweepReport(Totals.empty([Scope(ACCOUNT, REGION)]))
    late = Finding(
        kind="bucket",
        scope=Scope(ACCOUNT, REGION),
        state="unknown",
        outcome="not_reached",
        reason="time_over",
    )

    for _ in range(MAX_LISTED + 50):
        report.add(late)

    result = report.as_dict([])
    assert result["totals"]["not_reached"] == MAX_LISTED + 50
    assert len(result["not_reached"]) == len(log_lines(capsys)) == MAX_LISTED


# Between two full sweeps.

PLAIN, OTHER = str(ARN), str(ARN._replace(name="other"))
MINUTE = 60.0
LISTED = ["ListTableBuckets"]
READ = "GetTableBucketEncryption"
REFUSED = Reply(403, b'{"message": "No."}', {"x-oss-error-type": "ForbiddenException"})


@dataclass
class Instance:
    """A warm instance of the sweep function, in front of a bucket that is encrypted."""

    folder: Path
    service: FakeOssTables = field(default_factory=lambda: FakeOssTables({PLAIN: "AES256"}))
    every: str = "300"
    variables: dict[str, str] = field(default_factory=dict)

    def call(self, *, after: float = 0.0) -> dict[str, Any]:
        """The timer goes off, so many seconds after the call before."""
        self.service.time.passed += after
        self.service.requests.clear()
        letters = f"file:{self.folder / 'letters'}"
        variables = {
            "GUARD_SWEEP_EVERY": self.every,
            "GUARD_WATCH_SECONDS": "0",
            "GUARD_DEAD_LETTER_QUEUE": letters,
            **self.variables,
        }
        context = SimpleNamespace(
            region=ARN.region, request_id="1", function=SimpleNamespace(name="sweep")
        )
        return one_call(invocation_of(self.service, environment=variables), context)

    def reads(self) -> list[str]:
        """The buckets that were read in the last call."""
        return sorted(set(self.service.asked_about(READ)))


def test_between_full_sweeps_only_new_buckets_are_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All are listed; what was encrypted, kept or left alone is met, and what is new encrypted."""
    kms, system = str(ARN._replace(name="kms")), str(ARN._replace(name="system"))
    service = FakeOssTables({PLAIN: "AES256", kms: "KMS", system: ""}, kinds={system: "oss"})
    instance = Instance(tmp_path, service)
    first = instance.call()
    second = instance.call(after=MINUTE)
    idle = service.operations()
    service.buckets[OTHER] = ""

    third = instance.call(after=MINUTE)

    assert idle == LISTED
    assert (service.buckets[OTHER], instance.reads()) == ("AES256", ["other"])
    assert [result["full"] for result in (first, second, third)] == [True, False, False]
    assert [result["totals"]["buckets"] for result in (first, second, third)] == [3, 0, 1]
    ends = [line for line in log_lines(capsys) if line["message"].endswith("finished")]
    assert [(line["message"], line["full"]) for line in ends] == [
        ("sweep finished", True),
        ("watch finished", False),
        ("watch finished", False),
    ]


def test_what_could_not_be_read_comes_again_at_the_next_call(tmp_path: Path) -> None:
    """It was not met, and nobody waits for the next full sweep."""
    instance = Instance(tmp_path, FakeOssTables({PLAIN: ""}, troubles={READ: [REFUSED]}))

    first, second = instance.call(), instance.call(after=MINUTE)

    assert (first["totals"]["unknown"], second["totals"]["newly_encrypted"]) == (1, 1)


def test_a_dead_letter_waits_for_the_next_full_sweep(tmp_path: Path) -> None:
    """What was refused for good is not tried again each minute."""
    service = FakeOssTables({PLAIN: ""}, troubles={"PUT": [REFUSED]})
    instance = Instance(tmp_path, service)
    first = instance.call()

    second = instance.call(after=240)
    asked = service.operations()
    third = instance.call(after=MINUTE)

    assert (first["totals"]["dead_lettered"], second["totals"]["buckets"]) == (1, 0)
    assert asked == LISTED
    assert (third["totals"]["newly_encrypted"], service.buckets[PLAIN]) == (1, "AES256")


def test_drift_of_a_bucket_that_was_met_is_found_by_the_next_full_sweep(tmp_path: Path) -> None:
    """Between two of them it is not read."""
    instance = Instance(tmp_path)
    instance.call()
    instance.service.buckets[PLAIN] = ""

    between, full = instance.call(after=240), instance.call(after=MINUTE)

    assert (between["full"], between["encrypted"]) == (False, [])
    assert [found["reason"] for found in full["encrypted"]] == ["drift"]


@pytest.mark.parametrize(
    ("every", "after", "full"),
    [("300", 240, False), ("300", 295, True), ("300", 300, True), ("60", 60, True), ("0", 0, True)],
)
def test_all_are_read_again_when_it_is_time(
    tmp_path: Path, every: str, after: float, full: bool
) -> None:
    """That is GUARD_SWEEP_EVERY seconds after the last full sweep began; with 0, each time.

    A timer that is a little early does not leave it to the next call.
    """
    instance = Instance(tmp_path, FakeOssTables({PLAIN: "AES256", OTHER: "KMS"}), every)
    instance.call()

    result = instance.call(after=after)

    assert result["full"] == full
    assert instance.reads() == ([ARN.name, "other"] if full else [])


def test_the_regions_of_the_settings_are_swept(tmp_path: Path) -> None:
    """The function's own is only swept if it is one of them."""
    regions = ["cn-shanghai", "eu-central-1"]
    instance = Instance(tmp_path, variables={"GUARD_SWEEP_REGIONS": ",".join(regions)})

    result = instance.call()

    assert sorted(instance.service.asked_about("ListTableBuckets")) == regions
    assert sorted(result["regions"]) == regions


def test_an_exemption_that_ends_soon_is_a_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is in the result, and makes the last line of a full sweep a warning."""
    ends = {"bucket": "my-*", "reason": "a test", "expires": "2026-01-15"}
    instance = Instance(tmp_path, variables={"GUARD_EXEMPTIONS": json.dumps([ends])})

    results = [instance.call(), instance.call(after=MINUTE)]

    assert [result["ok"] for result in results] == [True, True]
    assert all("2026-01-15" in warning for result in results for warning in result["warnings"])
    levels = [line["level"] for line in log_lines(capsys) if line["message"].endswith("finished")]
    assert levels == ["WARNING", "INFO"]


def test_what_time_does_not_allow_is_left_to_the_next_call(tmp_path: Path) -> None:
    """It is counted; a fifth of the time is left for the last dead letter and the result."""
    names = [f"bucket-{number:03}" for number in range(90)]
    buckets = {str(ARN._replace(name=name)): "AES256" for name in names}
    instance = Instance(tmp_path, FakeOssTables(buckets, takes=1.0))

    first = instance.call()
    passed = instance.service.time.passed
    instance.service = FakeOssTables(buckets, time=instance.service.time)
    second = instance.call(after=MINUTE)

    assert passed == pytest.approx(0.8 * 60, abs=3)
    assert 0 < first["totals"]["not_reached"] == len(first["not_reached"]) < len(names)
    assert (second["full"], second["ok"]) == (False, True)
    assert first["totals"]["encrypted"] + second["totals"]["encrypted"] == len(names)


def test_an_unknown_type_is_logged_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One warning of an instance, whatever the number of buckets and sweeps."""
    names = {PLAIN: "AES256", OTHER: "AES256"}
    service = FakeOssTables(names, kinds=dict.fromkeys(names, "new"))
    instance = Instance(tmp_path, service, every="0")

    instance.call()
    instance.call()

    (line,) = [line for line in log_lines(capsys) if line["message"] == "unknown type"]
    assert line["level"] == "WARNING"
    assert '"new"' in line["detail"]
