"""The doors of both functions in this process, as far as the sweep and the audit go."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.errors import ConfigurationError
from encryption_guard.findings import Finding, Memory, Totals
from encryption_guard.instance import read_settings, shared_transport
from encryption_guard.sweep_function import MOST_SHOWN, Diary, _memory
from functions.encrypt_on_create import index as creation
from functions.sweep import index
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, QUEUE_ARN, REGION, TIMER_EVENT
from tests.emulators.faults import Delay, Fault, Refuse
from tests.integration.conftest import Guard, creation_of
from tests.integration.test_handler import Context, FunctionContext
from tests.unit.fakes import forget_logger


@pytest.fixture(autouse=True)
def cold_instance() -> Iterator[None]:
    """Every test begins and ends as a fresh process would."""
    forget_logger()
    yield
    shared_transport().close()
    for cached in (shared_transport, read_settings, _memory):
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
    assert (result["is_well"], result["totals"]["newly_encrypted"]) == (True, 1)
    assert [found["bucket"] for found in result["encrypted"]] == ["orders"]
    assert [line["message"] for line in log_lines(capsys)] == ["sweep finding", "sweep finished"]


def test_a_refusal_is_amiss_and_one_letter(deployed: Guard) -> None:
    """However often the timer goes off."""
    deployed.tables.plant("orders")
    deployed.tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    results = [sweep() for _ in range(2)]

    assert [result["is_well"] for result in results] == [False, False]
    assert [found["outcome"] for found in results[1]["amiss"]] == ["dead_lettered"]
    assert len(deployed.queue.bodies(QUEUE)) == 1


def test_what_time_did_not_allow_is_told(deployed: Guard) -> None:
    """It is counted, and the next sweep has all of it."""
    for number in range(40):
        deployed.tables.plant(f"bucket-{number:02}", encryption="AES256")
    delay = Fault(Delay(0.4), operation="GetTableBucketEncryption")
    deployed.tables.faults.add(delay)

    first = sweep(timeout=2)
    deployed.tables.faults.clear()
    second = sweep()

    left = {found["bucket"] for found in first["not_reached"]}
    assert 0 < len(left) == first["totals"]["not_reached"] < 40
    assert (second["totals"]["encrypted"], second["is_well"]) == (40, True)


def test_a_wrong_setting_stops_the_sweep(deployed: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the sentence that names it."""
    monkeypatch.setenv("GUARD_SWEEP_REGIONS", "everywhere")

    with pytest.raises(ConfigurationError, match="GUARD_SWEEP_REGIONS"):
        sweep()
    assert deployed.tables.requests == []


def test_an_event_is_processed_as_the_creation_function_would(deployed: Guard) -> None:
    """So that a sweep's own dead letters can be redriven to it."""
    arn = deployed.tables.plant("orders")
    deployed.tables.plant("parts")

    result = json.loads(index.handler(creation_of(arn), Context()))

    assert (result["outcome"], result["arn"]) == ("encrypted", arn)
    encrypted = [bucket.arn.name for bucket in deployed.tables.buckets() if bucket.encryption]
    assert encrypted == ["orders"]


@pytest.mark.parametrize(
    ("ago", "audited"), [(timedelta(minutes=1), True), (timedelta(0), False)], ids=["late", "soon"]
)
def test_a_late_encryption_is_followed_by_a_look_at_the_tables(
    deployed: Guard,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    ago: timedelta,
    audited: bool,
) -> None:
    """Tables that slipped into the gap are told by name."""
    monkeypatch.setenv("GUARD_AUDIT_TABLES", "true")
    arn = deployed.tables.plant("orders")
    deployed.tables.plant_table(arn, "sales", "invoices")
    at = (datetime.now(timezone.utc) - ago).strftime("%Y-%m-%dT%H:%M:%SZ")

    result = json.loads(creation.handler(creation_of(arn, eventTime=at), Context()))

    assert result["outcome"] == "encrypted"
    found = [line["table"] for line in log_lines(capsys) if line.get("kind") == "table"]
    assert found == (["invoices"] if audited else [])


def test_only_so_much_of_what_was_not_reached_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Writing all of it might outlast the function: the totals have the number."""
    diary = Diary(Totals.of([REGION]), Memory())
    late = Finding(
        kind="bucket", region=REGION, state="unknown", outcome="not_reached", reason="time_over"
    )

    for _ in range(MOST_SHOWN + 50):
        diary.note(late)

    result = diary.as_dict([])
    assert result["totals"]["not_reached"] == MOST_SHOWN + 50
    assert len(result["not_reached"]) == len(log_lines(capsys)) == MOST_SHOWN
