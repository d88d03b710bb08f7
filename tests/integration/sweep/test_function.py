"""The sweep as deployed: the timer goes off, and a real process looks at every bucket."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from encryption_guard.dead_letters.duplicates import PEEKS
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    AUDITING,
    QUEUE,
    REGION,
    ROLE,
    SWEEP_ROLE,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.faults import Delay, Fault, Refuse
from tests.emulators.function_compute import Invocation
from tests.emulators.operators_shell import run as operator
from tests.integration.conftest import creation_of

PUT = "PutTableBucketEncryption"
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


# Dead letters.


def test_a_refused_bucket_is_one_letter_until_it_is_mended() -> None:
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
        redriven = operator(cloud, "dead-letters", "redrive", "--apply")
        cloud.api.join(timeout=60)

        assert redriven.returncode == 0, redriven.stderr
        assert [name for name, _ in cloud.api.accepted] == ["oss-tables-encryption-sweep"]
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


# Regions.


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


# Time.


def test_what_hangs_costs_the_others_nothing_and_the_function_no_time_out() -> None:
    """A PUT and a queue that never answer fail what waits for them; its letter is in the log."""
    with emulated_cloud(sweep_seconds=5) as cloud:
        arns = {name: cloud.tables.plant(name) for name in ("hanging", "refused", "orders")}
        cloud.tables.faults.add(
            Fault(Delay(60), operation=PUT, resource="hanging"),
            Fault(Refuse(403), operation=PUT, resource="refused"),
        )
        cloud.queue.faults.add(Fault(Delay(60)))
        result, invocation = sweep(cloud)

        assert cloud.tables.encryption(arns["orders"]) == "AES256"
    failed = {finding["bucket"]: finding["outcome"] for finding in result["problems"]}
    assert failed == {"hanging": "failed", "refused": "failed"}
    (written,) = [line for line in lines(invocation) if line["level"] == "ERROR"]
    assert written["message"] == "dead letter not written"
    assert json.loads(written["dead_letter"]["event"])["responseElements"] == {
        "arn": arns["refused"]
    }


# Tables.


def test_an_audit_names_unprotected_tables() -> None:
    """With GUARD_AUDIT_TABLES=true those are named whose files are plain, whatever they show."""
    with emulated_cloud(environment=AUDITING) as cloud:
        arn = cloud.tables.plant("orders", created_at=ago(days=2))
        cloud.tables.plant_table(arn, "sales", "early")
        late = ago(hours=-1)
        cloud.tables.plant_table(arn, "sales", "late", encryption="AES256", created_at=late)
        encrypted = cloud.tables.plant("parts", encryption="AES256")
        cloud.tables.plant_table(encrypted, "stock", "older", unencrypted=True)
        result, invocation = sweep(cloud)

        files = [cloud.tables.files_of(arn, "sales", name) for name in ("early", "late")]
    assert files == [None, "AES256"]
    expected = [
        ("orders", "sales", "early", "made_before", "AES256"),
        ("parts", "stock", "older", "created_unencrypted", None),
    ]
    for told in (result["problems"], lines(invocation)):
        unprotected = [each for each in told if each.get("outcome") == "unprotected"]
        names = ("bucket", "namespace", "table", "reason", "encryption")
        assert sorted(tuple(map(each.get, names)) for each in unprotected) == expected
    counted = ("tables", "unprotected_tables", "unknown_tables", "encrypted")
    assert [result["totals"][name] for name in counted] == [3, 2, 0, 2]
    assert result["ok"] is False
