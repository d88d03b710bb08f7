"""The sweep as deployed: the timer goes off, and a real process looks at every bucket."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, timedelta, timezone
from typing import Any

import pytest

from encryption_guard.dead_letters.duplicates import PEEKS
from encryption_guard.enforcement.telemetry import TABLES_NOT_CHECKED
from encryption_guard.sweep import WORKERS
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    AUDITING,
    NOT_AUDITING,
    QUEUE,
    REGION,
    REPOSITORY,
    ROLE,
    SWEEP_ROLE,
    EmulatedCloud,
    deployed_role,
    emulated_cloud,
)
from tests.emulators.faults import Delay, Fault, GarbageBody, Refuse, throttle
from tests.emulators.function_compute import Invocation
from tests.emulators.operators_shell import run as operator
from tests.integration.conftest import creation_of
from tests.unit.fakes import OUTCOME_FIELDS

PUT, GET = "PutTableBucketEncryption", "GetTableBucketEncryption"
LIST = "ListTableBuckets"
ELSEWHERE = "cn-shanghai"
NOBODY = AccessKey("", "", ROLE.account_id)
# Every call of the timer reads all buckets.
EVERY_TIME = {"GUARD_SWEEP_EVERY": "0"}


def ago(**past: float) -> datetime:
    return datetime.now(timezone.utc) - timedelta(**past)


def denied(role: AccessKey, *operations: str) -> AccessKey:
    return replace(role, denied=frozenset(operations))


def sweep(cloud: EmulatedCloud) -> tuple[dict[str, Any], Invocation]:
    """One sweep that came to its end: its result, and the one try that it took."""
    (invocation,) = cloud.sweep()
    assert invocation.error is None, invocation.error
    result: dict[str, Any] = json.loads(invocation.result or "")
    return result, invocation


def lines(*invocations: Invocation) -> list[dict[str, Any]]:
    """What was logged."""
    text = "".join(invocation.logs for invocation in invocations)
    return [json.loads(line) for line in text.splitlines()]


def findings(*invocations: Invocation) -> dict[str | None, dict[str, Any]]:
    """What was logged of each bucket."""
    told = [line for line in lines(*invocations) if line["message"] == "sweep finding"]
    assert len({line.get("bucket") for line in told}) == len(told)
    return {line.get("bucket"): line for line in told}


def table_findings(*invocations: Invocation) -> list[dict[str, Any]]:
    """What was logged of tables."""
    told = [line for line in lines(*invocations) if line["message"] == "sweep finding"]
    return [line for line in told if line["kind"] == "table"]


def operations(cloud: EmulatedCloud) -> list[str | None]:
    return [request.operation for request in cloud.tables.requests]


def letters(cloud: EmulatedCloud) -> list[dict[str, Any]]:
    """Our own dead letters, oldest first."""
    return [json.loads(b64decode(body)) for body in cloud.queue.bodies(QUEUE)]


# Every kind of bucket.


def test_every_kind_of_bucket_ends_as_promised() -> None:
    """Where encryption is missing it is set; what is there, exempt or managed by OSS is left."""
    exempt = [{"bucket": "sandbox-*", "reason": "public samples", "expires": "2099-12-31"}]
    with emulated_cloud(environment={"GUARD_EXEMPTIONS": json.dumps(exempt)}) as cloud:
        arns = {
            name: cloud.tables.plant(
                name,
                encryption=encryption,
                created_at=created_at,
                kind="oss" if name == "system" else "customer",
            )
            for name, encryption, created_at in (
                ("fresh", None, ago(minutes=5)),
                ("old", None, ago(days=3)),
                ("plain", "AES256", None),
                ("own-key", "KMS", None),
                ("national", "SM4", None),
                ("sandbox-1", None, None),
                ("system", None, None),
                ("odd", "ROT13", None),
            )
        }
        result, invocation = sweep(cloud)

        truth = {name: cloud.tables.encryption(arn) for name, arn in arns.items()}

    assert truth == {
        "fresh": "AES256",
        "old": "AES256",
        "plain": "AES256",
        "own-key": "KMS",
        "national": "SM4",
        "sandbox-1": None,
        "system": None,
        "odd": "ROT13",
    }
    assert result["totals"] == result["regions"][REGION]
    assert result["totals"] == result["totals"] | {
        "buckets": 8,
        "encrypted": 5,
        "newly_encrypted": 2,
        "unknown": 1,
        "not_encrypted": 0,
        "exempt": 2,
    }
    logged = findings(invocation)
    outcomes = {name: (line["outcome"], line["reason"]) for name, line in logged.items()}
    assert outcomes == {
        "fresh": ("encrypted", "created"),
        "old": ("encrypted", "drift"),
        "sandbox-1": ("skipped", "exempt: public samples"),
        "system": ("skipped", "managed_by_oss"),
        "odd": ("kept_stronger", "ROT13"),
    }
    assert logged["sandbox-1"]["exemption"] == exempt[0]
    assert [finding["bucket"] for finding in result["problems"]] == ["odd"]
    assert "ROT13" in result["problems"][0]["detail"]
    assert result["ok"] is False


def test_a_finding_has_the_fields_of_an_outcome() -> None:
    """The line of a bucket that a sweep encrypted holds all that an event's line holds."""
    with emulated_cloud() as cloud:
        arn = cloud.tables.plant("orders", created_at=ago(seconds=100))
        result, invocation = sweep(cloud)
        requests = {request.request_id for request in cloud.tables.requests}

    line = findings(invocation)["orders"]
    assert set(line) >= OUTCOME_FIELDS
    assert (line["level"], line["outcome"], line["arn"]) == ("INFO", "encrypted", arn)
    assert line["request_id"] == invocation.request_id
    assert (line["status"], line["state"], line["encryption"]) == (200, "encrypted", "AES256")
    assert line["oss_request_id"] in requests
    assert 100_000 <= line["time_to_encrypt_ms"] < 130_000
    assert result["ok"] is True
    assert [finding["arn"] for finding in result["encrypted"]] == [arn]


def test_a_sweep_ends_with_a_line_of_its_totals() -> None:
    """The last line of a sweep in which all was well is at INFO and tells how many there were."""
    with emulated_cloud() as cloud:
        cloud.tables.plant("orders", encryption="KMS")
        result, invocation = sweep(cloud)

    last = lines(invocation)[-1]
    assert (last["level"], last["message"]) == ("INFO", "sweep finished")
    assert last["totals"] == result["totals"]
    assert findings(invocation) == {}


def test_an_empty_region_is_well() -> None:
    """A region without buckets is swept like any other, and is in the result."""
    with emulated_cloud() as cloud:
        result, _ = sweep(cloud)

    assert (result["ok"], list(result["regions"])) == (True, [REGION])
    assert result["totals"]["buckets"] == 0


def test_an_exemption_that_ends_soon_is_a_warning() -> None:
    """What ends within 14 days is in the result and makes the last line a warning."""
    today = datetime.now(timezone.utc).date()
    days: list[date | None] = [today + timedelta(days=13), today + timedelta(days=30), None]
    exempt = [
        {"bucket": f"bucket-{number}", "reason": "a test", "expires": day and day.isoformat()}
        for number, day in enumerate(days)
    ]
    with emulated_cloud(environment={"GUARD_EXEMPTIONS": json.dumps(exempt)}) as cloud:
        cloud.tables.plant("bucket-0")
        result, invocation = sweep(cloud)

    (warning,) = result["warnings"]
    assert "bucket-0" in warning
    assert exempt[0]["expires"] in warning
    assert result["ok"] is True
    assert lines(invocation)[-1]["level"] == "WARNING"


def test_an_exemption_that_is_over_protects_nothing() -> None:
    """From the day after its last one, the buckets of an exemption are encrypted."""
    yesterday = (datetime.now(timezone.utc) - timedelta(days=1)).date().isoformat()
    exempt = [{"bucket": "orders", "reason": "a test", "expires": yesterday}]
    with emulated_cloud(environment={"GUARD_EXEMPTIONS": json.dumps(exempt)}) as cloud:
        arn = cloud.tables.plant("orders")
        sweep(cloud)

        assert cloud.tables.encryption(arn) == "AES256"


def test_detect_mode_changes_nothing() -> None:
    """With GUARD_MODE=detect no PUT is made, and what would be encrypted is told and amiss."""
    with emulated_cloud(environment={"GUARD_MODE": "detect"}) as cloud:
        arn = cloud.tables.plant("orders")
        result, invocation = sweep(cloud)

        assert cloud.tables.encryption(arn) is None
        assert PUT not in operations(cloud)
    line = findings(invocation)["orders"]
    assert (line["outcome"], line["reason"]) == ("detected", "would_encrypt")
    assert (result["ok"], result["totals"]["not_encrypted"]) == (False, 1)


# Drift, and what a warm instance remembers.


def test_a_warm_instance_knows_drift_of_a_young_bucket() -> None:
    """Encryption that was seen, and is gone without an event, is put back with reason drift."""
    with emulated_cloud(environment=EVERY_TIME) as cloud:
        arns = [cloud.tables.plant("orders"), cloud.tables.plant("parts", encryption="AES256")]
        sweep(cloud)
        for arn in arns:
            cloud.tables.decrypt(arn)
        _, invocation = sweep(cloud)

        assert [cloud.tables.encryption(arn) for arn in arns] == ["AES256", "AES256"]
    assert not invocation.cold_start
    reasons = {name: line["reason"] for name, line in findings(invocation).items()}
    assert reasons == {"orders": "drift", "parts": "drift"}


def test_a_cold_instance_knows_drift_by_age() -> None:
    """A new instance takes a bucket older than a day for drift, and a younger one for new."""
    with emulated_cloud() as cloud:
        cloud.tables.plant("older", created_at=ago(days=1, minutes=1))
        cloud.tables.plant("younger", created_at=ago(hours=23))
        result, invocation = sweep(cloud)

    assert invocation.cold_start
    reasons = {finding["bucket"]: finding["reason"] for finding in result["encrypted"]}
    assert reasons == {"older": "drift", "younger": "created"}


# Dead letters.


@pytest.mark.parametrize(
    ("options", "function"),
    [
        (("--function", "oss-tables-encryption-sweep"), "oss-tables-encryption-sweep"),
        (("--function", "oss-tables-encrypt-on-create"), "oss-tables-encrypt-on-create"),
        ((), "oss-tables-encryption-sweep"),
    ],
    ids=["to the sweep", "to the creation function", "to the function of the letter"],
)
def test_a_refused_bucket_is_one_letter_until_it_is_mended(
    options: tuple[str, ...], function: str
) -> None:
    """The first sweep writes a letter, the second none; redriven with the right, it encrypts."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, PUT), environment=EVERY_TIME) as cloud:
        arn = cloud.tables.plant("orders", created_at=ago(minutes=1))
        result, invocation = sweep(cloud)
        (letter,) = letters(cloud)
        again, _ = sweep(cloud)

        assert len(letters(cloud)) == 1
        assert (letter["reason"], letter["status"], letter["arn"]) == ("rejected", 403, arn)
        assert letter["function"] == "oss-tables-encryption-sweep"
        for told in (result, again):
            (finding,) = told["problems"]
            assert (finding["outcome"], finding["reason"]) == ("dead_lettered", "rejected")
            assert finding["state"] == "not_encrypted"
            assert "403" in finding["detail"]
            assert told["totals"]["dead_lettered"] == 1
        line = findings(invocation)["orders"]
        assert (line["level"], line["status"]) == ("WARNING", 403)
        assert line["code"] == letter["code"]

        cloud.tables.admit(SWEEP_ROLE)
        redrive = ("dead-letters", "redrive", "--apply", *options)
        redriven = operator(cloud, *redrive)
        cloud.api.join(timeout=60)

        assert redriven.returncode == 0, redriven.stderr
        assert [name for name, _ in cloud.api.accepted] == [function]
        assert cloud.tables.encryption(arn) == "AES256"
        assert cloud.queue.messages(QUEUE) == []


def test_a_letter_of_the_creation_function_is_enough() -> None:
    """A sweep that is refused what the creation function was refused writes no second letter."""
    with emulated_cloud(
        role=denied(ROLE, PUT), sweep_role=denied(SWEEP_ROLE, PUT), queue_nodes=3
    ) as cloud:
        arn = cloud.tables.plant("orders")
        cloud.bus.publish(json.loads(creation_of(arn)))
        cloud.bus.join(timeout=30)
        result, _ = sweep(cloud)

        assert [letter["function"] for letter in letters(cloud)] == [cloud.function.function.name]
    assert result["totals"]["dead_lettered"] == 1


def test_many_refused_buckets_get_one_letter_each() -> None:
    """However many letters wait, a sweep does not write another for a bucket that has one.

    It looks for them once, whichever of its threads is first.
    """
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, PUT), environment=EVERY_TIME) as cloud:
        arns = {cloud.tables.plant(f"bucket-{number:02}") for number in range(30)}
        sweep(cloud)
        looks = [asked.operation for asked in cloud.queue.requests].count("BatchPeekMessage")
        first = [letter["arn"] for letter in letters(cloud)]
        sweep(cloud)
        second = [letter["arn"] for letter in letters(cloud)]

    assert looks == PEEKS
    assert sorted(first) == sorted(arns)
    assert sorted(second) == sorted(arns)


def test_a_letter_that_was_discarded_is_written_anew() -> None:
    """A letter holds back the next one only for as long as it waits in the queue."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, PUT), environment=EVERY_TIME) as cloud:
        arn = cloud.tables.plant("orders")
        sweep(cloud)
        discard = ("dead-letters", "discard", "--all", "--apply", "--because", "a test")
        assert operator(cloud, *discard).returncode == 0
        assert letters(cloud) == []
        sweep(cloud)

        assert [letter["arn"] for letter in letters(cloud)] == [arn]


def test_without_the_queue_a_letter_is_in_the_log() -> None:
    """If SMQ takes no letter, the bucket's finding failed and the letter is whole in the log."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, PUT)) as cloud:
        arn = cloud.tables.plant("orders")
        cloud.tables.plant("parts", encryption="AES256")
        cloud.queue.faults.add(Fault(Refuse(500)))
        result, invocation = sweep(cloud)

        assert letters(cloud) == []
    (finding,) = result["problems"]
    assert (finding["bucket"], finding["outcome"]) == ("orders", "failed")
    assert finding["state"] == "not_encrypted"
    assert "dead letter" in finding["detail"]
    assert result["totals"]["encrypted"] == 1
    (written,) = [line for line in lines(invocation) if line["level"] == "ERROR"]
    assert written["message"] == "dead letter not written"
    assert written["dead_letter"]["arn"] == arn
    assert json.loads(written["dead_letter"]["event"])["responseElements"] == {"arn": arn}


def test_a_queue_that_hangs_does_not_hold_up_the_answer() -> None:
    """An SMQ that never answers costs a sweep no more than its time, and the letter is logged."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, PUT), sweep_seconds=8) as cloud:
        for number in range(12):
            cloud.tables.plant(f"bucket-{number:02}")
        cloud.queue.faults.add(Fault(Delay(60)))
        result, invocation = sweep(cloud)

    assert invocation.seconds < 8
    told = [*result["problems"], *result["not_reached"]]
    assert len({finding["bucket"] for finding in told if finding["kind"] == "bucket"}) == 12
    failed = [finding for finding in result["problems"] if finding["kind"] == "bucket"]
    errors = [line for line in lines(invocation) if line["level"] == "ERROR"]
    assert {line["dead_letter"]["arn"] for line in errors} == {f["arn"] for f in failed}


def test_only_a_last_word_becomes_a_letter() -> None:
    """A PUT that gets 500s leaves no letter: the bucket is failed, and the next sweep mends it."""
    with emulated_cloud(environment={"GUARD_MAX_ATTEMPTS": "2"}) as cloud:
        arn = cloud.tables.plant("orders")
        cloud.tables.faults.add(Fault(Refuse(500), operation=PUT))
        result, _ = sweep(cloud)

        (finding,) = result["problems"]
        assert (finding["outcome"], finding["reason"]) == ("failed", "unavailable")
        assert finding["detail"]
        assert letters(cloud) == []

        cloud.tables.faults.clear()
        well, _ = sweep(cloud)

        assert well["ok"] is True
        assert cloud.tables.encryption(arn) == "AES256"


# Regions.


def test_a_list_that_is_refused_is_told_with_the_missing_right() -> None:
    """Without ListTableBuckets the region is unknown, and the finding names the right."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, LIST)) as cloud:
        cloud.tables.plant("orders", encryption="AES256")
        result, invocation = sweep(cloud)

    (finding,) = result["problems"]
    assert (finding["kind"], finding["region"], finding["state"]) == ("region", REGION, "unknown")
    assert (finding["reason"], finding["status"]) == ("not_listed", 403)
    assert "oss:ListTableBuckets" in finding["detail"]
    assert (result["ok"], result["totals"]["not_listed"]) == (False, 1)
    assert findings(invocation)[None]["level"] == "WARNING"


def test_a_right_that_is_missing_to_read_is_told() -> None:
    """Without GetTableBucketEncryption every bucket is unknown, and nothing is overwritten."""
    with emulated_cloud(sweep_role=denied(SWEEP_ROLE, GET)) as cloud:
        arn = cloud.tables.plant("orders")
        result, _ = sweep(cloud)

        assert cloud.tables.encryption(arn) is None
    (finding,) = result["problems"]
    assert (finding["state"], finding["status"]) == ("unknown", 403)
    assert "oss:GetTableBucketEncryption" in finding["detail"]


def test_each_region_that_is_set_is_swept() -> None:
    """GUARD_SWEEP_REGIONS names them; the function's own is only swept if it is one of them."""
    regions = [ELSEWHERE, "eu-central-1"]
    with emulated_cloud(environment={"GUARD_SWEEP_REGIONS": ",".join(regions)}) as cloud:
        arns = {
            region: cloud.tables.plant("orders", region=region) for region in (REGION, *regions)
        }
        result, _ = sweep(cloud)
        truth = {region: cloud.tables.encryption(arn) for region, arn in arns.items()}

    assert truth == {REGION: None, ELSEWHERE: "AES256", "eu-central-1": "AES256"}
    assert {region: told["encrypted"] for region, told in result["regions"].items()} == {
        ELSEWHERE: 1,
        "eu-central-1": 1,
    }


def test_one_region_never_costs_the_others() -> None:
    """If one of three regions cannot be listed, the buckets of the other two are encrypted."""
    regions = (REGION, ELSEWHERE, "eu-central-1")
    with emulated_cloud(environment={"GUARD_SWEEP_REGIONS": ",".join(regions)}) as cloud:
        arns = {region: cloud.tables.plant("orders", region=region) for region in regions}
        cloud.tables.faults.add(Fault(Refuse(403), operation=LIST, times=1))
        result, _ = sweep(cloud)

        (failed,) = [finding["region"] for finding in result["problems"]]
        for region, arn in arns.items():
            expected = None if region == failed else "AES256"
            assert cloud.tables.encryption(arn) == expected
            assert result["regions"][region]["not_listed"] == (region == failed)


def test_a_wrong_list_of_regions_stops_the_sweep() -> None:
    """Each try fails with a sentence, and the platform's one record of it is in the queue."""
    with emulated_cloud(environment={"GUARD_SWEEP_REGIONS": "cn-hangzhou;eu"}) as cloud:
        cloud.tables.plant("orders")
        *_, invocation = cloud.sweep()

        assert invocation.error is not None
        assert invocation.error["errorType"] == "ConfigurationError"
        assert "GUARD_SWEEP_REGIONS" in invocation.error["errorMessage"]
        assert cloud.tables.requests == []
        listed = operator(cloud, "dead-letters", "list", "--output", "json")

    (letter,) = [json.loads(line) for line in listed.stdout.splitlines()]
    assert (letter["kind"], letter["cause"]) == ("destination_record", "sweep failed")


def test_the_record_of_a_failed_sweep_is_no_event_for_the_creation_function() -> None:
    """Redriven, it is left, or goes to the sweep: it never becomes a letter of its own."""
    with emulated_cloud(sweep_role=NOBODY) as cloud:
        cloud.sweep()
        assert len(cloud.queue.bodies(QUEUE)) == 1
        operator(cloud, "dead-letters", "redrive", "--apply")
        cloud.api.join(timeout=60)
        listed = operator(cloud, "dead-letters", "list", "--output", "json")

    told = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {one["reason"] for one in told} <= {"function_failed"}


def test_missing_credentials_stop_the_sweep() -> None:
    """Without an access key the invocation fails at once, not every bucket on its own."""
    with emulated_cloud(sweep_role=NOBODY) as cloud:
        cloud.tables.plant("orders")
        *_, invocation = cloud.sweep()

        assert invocation.error is not None
        assert "ALIBABA_CLOUD_ACCESS_KEY_ID" in invocation.error["errorMessage"]
        assert cloud.tables.requests == []
        assert len(cloud.queue.bodies(QUEUE)) == 1


# Time.


def test_what_time_did_not_allow_is_counted_and_left_to_the_next_sweep() -> None:
    """A slow service costs no time-out: the rest is told, and later sweeps get to it."""
    seconds = 6.0
    with emulated_cloud(sweep_seconds=seconds) as cloud:
        names = [f"bucket-{number:02}" for number in range(40)]
        arns = {name: cloud.tables.plant(name) for name in names}
        cloud.tables.faults.add(Fault(Delay(0.4)))
        result, invocation = sweep(cloud)

        assert invocation.seconds < seconds
        left = [finding["bucket"] for finding in result["not_reached"]]
        assert left
        assert set(left) < set(names)
        assert result["totals"]["not_reached"] == len(left)
        assert result["ok"] is False
        for finding in result["not_reached"]:
            assert (finding["state"], finding["outcome"]) == ("unknown", "not_reached")
            assert finding["detail"]

        for _ in range(8):
            again, warm = sweep(cloud)
            assert warm.seconds < seconds
            if again["ok"]:
                break

        assert {cloud.tables.encryption(arn) for arn in arns.values()} == {"AES256"}
        assert again["ok"] is True


def test_a_region_that_hangs_is_given_up_in_time() -> None:
    """A list that is never answered ends as unknown, before the function's own time-out."""
    with emulated_cloud(sweep_seconds=5) as cloud:
        cloud.tables.plant("orders")
        cloud.tables.faults.add(Fault(Delay(60), operation=LIST))
        result, invocation = sweep(cloud)

    assert invocation.seconds < 5
    (finding,) = result["problems"]
    assert (finding["kind"], finding["state"]) == ("region", "unknown")
    assert finding["detail"]


def test_a_put_that_hangs_costs_the_others_nothing() -> None:
    """A bucket whose PUT is never answered has failed in time, and the others are encrypted."""
    with emulated_cloud(sweep_seconds=6) as cloud:
        arns = {name: cloud.tables.plant(name) for name in ("hanging", "orders", "parts")}
        cloud.tables.faults.add(Fault(Delay(60), operation=PUT, resource="hanging"))
        result, invocation = sweep(cloud)

        assert invocation.seconds < 6
        truth = {name: cloud.tables.encryption(arn) for name, arn in arns.items()}
    assert (truth["orders"], truth["parts"]) == ("AES256", "AES256")
    assert [finding["bucket"] for finding in result["problems"]] == ["hanging"]


def test_waiting_to_see_an_encryption_does_not_outlast_the_function() -> None:
    """The pauses before a PUT is read back again end with the sweep's time, not after it."""
    with emulated_cloud(sweep_seconds=5) as cloud:
        cloud.tables.plant("orders")
        cloud.tables.faults.add(
            Fault(Delay(2), operation=LIST), Fault(GarbageBody(b""), operation=PUT)
        )
        result, invocation = sweep(cloud)

    assert invocation.seconds < 5
    assert [finding["reason"] for finding in result["problems"]] == ["not_confirmed"]


def test_throttling_is_waited_for() -> None:
    """A burst of 503s, of fewer than the tries of a request, leaves no bucket unencrypted."""
    with emulated_cloud() as cloud:
        arns = [cloud.tables.plant(f"bucket-{number:02}") for number in range(24)]
        cloud.tables.faults.add(Fault(throttle(503), operation=LIST, times=2))
        cloud.tables.faults.add(Fault(throttle(503), operation="*Encryption", times=3))
        result, _ = sweep(cloud)

        assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert result["ok"] is True


# Events.


def test_the_sweep_function_processes_an_event() -> None:
    """An event handed to it is processed as by the creation function, and nothing is swept."""
    with emulated_cloud() as cloud:
        arn = cloud.tables.plant("orders")
        other = cloud.tables.plant("parts")
        (invocation,) = cloud.sweeper.deliver(creation_of(arn))

        result = json.loads(invocation.result or "")
        assert set(result) == OUTCOME_FIELDS
        assert (result["outcome"], result["event_id"]) == ("encrypted", "event-1")
        assert cloud.tables.encryption(arn) == "AES256"
        assert cloud.tables.encryption(other) is None


def test_a_timer_event_is_no_event_of_a_bucket() -> None:
    """By mistake sent to the creation function, the timer's event is a dead letter."""
    with emulated_cloud() as cloud:
        cloud.tables.plant("orders")
        event = (REPOSITORY / "events" / "timer.json").read_bytes()
        cloud.function.deliver(event)

        (letter,) = letters(cloud)
        assert (letter["reason"], letter["event"].encode()) == ("invalid_event", event)
        assert cloud.tables.requests == []


# Tables.


def unprotected(told: list[dict[str, Any]]) -> set[tuple[str, str, str, str]]:
    return {
        (each["bucket"], each["namespace"], each["table"], each["reason"])
        for each in told
        if each["outcome"] == "unprotected"
    }


EARLY = {
    ("orders", "sales", "early", "made_before"),
    ("orders", "stock", "early", "made_before"),
}


def plant_tables(cloud: EmulatedCloud) -> str:
    """A bucket that is open, with two tables of now and one of after its encryption."""
    arn = cloud.tables.plant("orders", created_at=ago(days=2))
    cloud.tables.plant_table(arn, "sales", "early")
    cloud.tables.plant_table(arn, "sales", "late", encryption="AES256", created_at=ago(hours=-1))
    cloud.tables.plant_table(arn, "stock", "early")
    return arn


def test_an_audit_names_unprotected_tables() -> None:
    """With GUARD_AUDIT_TABLES=true those are named whose files are plain, whatever they show."""
    with emulated_cloud(environment=AUDITING) as cloud:
        arn = plant_tables(cloud)
        encrypted = cloud.tables.plant("parts", encryption="AES256")
        cloud.tables.plant_table(encrypted, "stock", "fine")
        cloud.tables.plant_table(encrypted, "stock", "older", unencrypted=True)
        result, invocation = sweep(cloud)

        assert cloud.tables.encryption(arn) == "AES256"
        files = [
            cloud.tables.files_of(arn, *table) for table in (("sales", "early"), ("sales", "late"))
        ]
    assert files == [None, "AES256"]
    expected = EARLY | {("parts", "stock", "older", "created_unencrypted")}
    assert unprotected(result["problems"]) == expected
    assert unprotected(table_findings(invocation)) == expected
    shown = {each["bucket"]: each["encryption"] for each in result["problems"]}
    assert shown == {"orders": "AES256", "parts": None}
    assert all("recreate the table" in each["detail"].lower() for each in result["problems"])
    counted = ("tables", "unprotected_tables", "unknown_tables", "encrypted")
    assert [result["totals"][name] for name in counted] == [5, 3, 0, 2]
    assert result["ok"] is False


def test_by_default_the_tables_of_what_a_sweep_encrypted_late_are_looked_at_once() -> None:
    """No table of a bucket that was encrypted before, and none again in the next full sweep."""
    with emulated_cloud(environment=EVERY_TIME) as cloud:
        plant_tables(cloud)
        encrypted = cloud.tables.plant("parts", encryption="AES256")
        cloud.tables.plant_table(encrypted, "stock", "older", unencrypted=True)
        first, invocation = sweep(cloud)
        second, _ = sweep(cloud)

    assert unprotected(first["problems"]) == unprotected(table_findings(invocation)) == EARLY
    totals = [(found["full"], found["ok"], found["totals"]["tables"]) for found in (first, second)]
    assert totals == [(True, False, 3), (True, True, 0)]


def test_without_an_audit_no_table_is_looked_at() -> None:
    """With GUARD_AUDIT_TABLES=false nothing is asked of tables, and the bucket's line says so."""
    with emulated_cloud(environment=NOT_AUDITING) as cloud:
        plant_tables(cloud)
        result, _ = sweep(cloud)

        assert set(operations(cloud)) == {LIST, GET, PUT}
    assert (result["ok"], result["totals"]["tables"]) == (True, 0)
    assert [found["detail"] for found in result["encrypted"]] == [TABLES_NOT_CHECKED]


@pytest.mark.parametrize("right", ["ListNamespaces", "ListTables", "GetTableEncryption"])
def test_an_audit_without_a_right_says_which(right: str) -> None:
    """What may not be read is unknown with the name of the right, and the bucket is encrypted."""
    role = denied(deployed_role("sweep", AUDITING), right)
    with emulated_cloud(sweep_role=role, environment=AUDITING) as cloud:
        arn = plant_tables(cloud)
        result, _ = sweep(cloud)

        assert cloud.tables.encryption(arn) == "AES256"
    assert result["problems"]
    for finding in result["problems"]:
        assert (finding["kind"], finding["state"]) == ("table", "unknown")
        assert f"oss:{right}" in finding["detail"]
        assert finding["bucket"] == "orders"
    assert (result["ok"], result["totals"]["encrypted"]) == (False, 1)


def test_an_exempt_bucket_is_not_audited() -> None:
    """Whoever exempts a bucket does not want to hear of its tables."""
    variables = AUDITING | {"GUARD_EXEMPTIONS": '[{"bucket": "orders", "reason": "a test"}]'}
    with emulated_cloud(environment=variables) as cloud:
        plant_tables(cloud)
        result, _ = sweep(cloud)

        assert "ListNamespaces" not in operations(cloud)
    assert result["ok"] is True


def test_tables_that_time_did_not_allow_are_counted() -> None:
    """In a bucket with more tables than there is time for, the rest is told as not reached."""
    with emulated_cloud(environment=AUDITING, sweep_seconds=4) as cloud:
        arn = cloud.tables.plant("orders", encryption="AES256")
        for number in range(100):
            cloud.tables.plant_table(arn, "sales", f"table-{number:02}")
        cloud.tables.faults.add(Fault(Delay(0.3)))
        result, invocation = sweep(cloud)

        asked = [each for each in cloud.tables.requests if each.operation == "GetTableEncryption"]
    assert invocation.seconds < 4
    totals = result["totals"]
    assert 0 < totals["not_reached"] == 100 - len(asked) < 100
    assert totals["tables"] == 100
    # Those that were under way got no answer.
    assert 0 <= totals["unknown_tables"] - totals["not_reached"] <= WORKERS


# The creation function's own look at tables.


def created(
    arn: str, at: datetime | None, event_id: str = "event-1", **record: object
) -> dict[str, Any]:
    """The event of a creation at this time, or at a time that it does not tell."""
    event: dict[str, Any] = json.loads(creation_of(arn, **record))
    event["id"] = event_id
    event["data"]["eventTime"] = at and at.strftime("%Y-%m-%dT%H:%M:%SZ")
    return event


@pytest.mark.parametrize(
    "seconds", [60, None], ids=["later than five seconds", "at an unknown time"]
)
def test_a_late_put_makes_the_creation_function_look_at_tables(seconds: int | None) -> None:
    """Tables that were there before the bucket was encrypted are named in the log."""
    with emulated_cloud() as cloud:
        arn = plant_tables(cloud)
        other = cloud.tables.plant("parts")
        cloud.tables.plant_table(other, "stock", "early")
        cloud.bus.publish(created(arn, None if seconds is None else ago(seconds=seconds)))
        cloud.bus.join(timeout=30)

        (invocation,) = cloud.invocations
        assert cloud.tables.encryption(arn) == "AES256"
        assert {each.resource for each in cloud.tables.requests} == {"orders"}
    assert unprotected(table_findings(invocation)) == EARLY
    assert json.loads(invocation.result or "")["outcome"] == "encrypted"


@pytest.mark.parametrize(
    ("variables", "seconds", "encryption"),
    [(NOT_AUDITING, 60, None), (AUDITING, 0, None), ({}, 0, None), ({}, 60, "AES256")],
    ids=["switched off", "in time, true", "in time, late", "encrypted before"],
)
def test_there_is_no_look_at_tables_without_a_cause(
    variables: Mapping[str, str], seconds: int, encryption: str | None
) -> None:
    """It is not switched off, and comes only after a PUT that was too late."""
    with emulated_cloud(environment=variables) as cloud:
        arn = cloud.tables.plant("orders", encryption=encryption)
        cloud.tables.plant_table(arn, "sales", "early", unencrypted=True)
        # An instance that is warm: its start does not count.
        cloud.function.deliver(b"{}")
        cloud.bus.publish(created(arn, ago(seconds=seconds)))
        cloud.bus.join(timeout=30)

        assert set(operations(cloud)) <= {GET, PUT}
        assert cloud.tables.encryption(arn) == "AES256"


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Refuse(403), operation="ListNamespaces"),
        Fault(Refuse(500), operation="ListTables"),
        Fault(GarbageBody(), operation="GetTableEncryption"),
        Fault(GarbageBody(b'{"namespaces": [{"namespace": 7}]}'), operation="ListNamespaces"),
        Fault(Delay(60), operation="ListNamespaces"),
    ],
    ids=["refused", "unavailable", "garbage", "wrong type", "hanging"],
)
def test_a_look_at_tables_that_fails_does_not_fail_the_event(fault: Fault) -> None:
    """The event is done when its bucket is encrypted; that the look failed is in the log."""
    with emulated_cloud(timeout_seconds=10) as cloud:
        arn = plant_tables(cloud)
        cloud.tables.faults.add(fault)
        cloud.bus.publish(created(arn, ago(seconds=60)))
        cloud.bus.join(timeout=60)

        (invocation,) = cloud.invocations
        assert cloud.tables.encryption(arn) == "AES256"
        assert cloud.queue.messages(QUEUE) == []
    assert json.loads(invocation.result or "")["outcome"] == "encrypted"
    told = table_findings(invocation)
    assert told
    assert all(line["state"] == "unknown" and line["detail"] for line in told)


def test_every_late_bucket_of_an_array_is_looked_at() -> None:
    """Of several events in one payload, each bucket that was encrypted late is looked at."""
    with emulated_cloud() as cloud:
        arns = [cloud.tables.plant(name) for name in ("orders", "parts", "bills")]
        for arn in arns:
            cloud.tables.plant_table(arn, "sales", "early")
        cloud.tables.faults.add(Fault(Refuse(403), operation=PUT, resource="bills"))
        events = [created(arn, ago(seconds=60), f"event-{arn}") for arn in arns]
        (invocation,) = cloud.function.deliver(json.dumps(events).encode())

        (letter,) = letters(cloud)
    assert letter["arn"] == arns[2]
    expected = {(name, "sales", "early", "made_before") for name in ("orders", "parts")}
    assert unprotected(table_findings(invocation)) == expected
