"""The watch as deployed: a bucket is encrypted within seconds, between two calls of the timer."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from tests.emulators.cloud import EmulatedCloud, emulated_cloud
from tests.emulators.faults import Delay, Fault, Faults, GarbageBody, Reset, throttle
from tests.emulators.function_compute import Invocation
from tests.integration.conftest import creation_of

LIST, GET, PUT = "ListTableBuckets", "GetTableBucketEncryption", "PutTableBucketEncryption"
EACH_SECOND = {"GUARD_WATCH_SECONDS": "1"}
# Four fifths of it are for the sweep.
SECONDS = 10.0


@contextmanager
def watched(cloud: EmulatedCloud) -> Iterator[Future[list[Invocation]]]:
    """The timer goes off, and the sweep function is at work."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(cloud.sweep)
        wait_until(lambda: bool(cloud.tables.requests), seconds=10)
        yield running


def wait_until(condition: Any, *, seconds: float) -> float:
    """The seconds until the condition is true."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() < start + seconds, "it has not come true"
        time.sleep(0.01)
    return time.monotonic() - start


def lines(*invocations: Invocation) -> list[dict[str, Any]]:
    text = "".join(invocation.logs for invocation in invocations)
    return [json.loads(line) for line in text.splitlines()]


def findings(*invocations: Invocation) -> dict[str, dict[str, Any]]:
    return {line["bucket"]: line for line in lines(*invocations) if "bucket" in line}


def test_a_bucket_whose_event_never_comes_is_encrypted_within_seconds() -> None:
    """The timer of a minute need not go off again; the log has the way and the time."""
    with emulated_cloud(environment=EACH_SECOND, sweep_seconds=SECONDS) as cloud:
        with watched(cloud) as running:
            time.sleep(2.3)
            arn = cloud.tables.plant("orders")
            gap = wait_until(lambda: cloud.tables.encryption(arn) == "AES256", seconds=5)
        (invocation,) = running.result()

    assert gap < 2.5
    found = findings(invocation)["orders"]
    assert (found["outcome"], found["found_by"]) == ("encrypted", "watch")
    assert found["time_to_encrypt_ms"] < 2500
    assert invocation.seconds <= 0.8 * SECONDS + 1
    result = json.loads(invocation.result or "")
    assert (result["full"], [each["bucket"] for each in result["encrypted"]]) == (True, ["orders"])


class Weather:
    """Buckets appear at random instants; events of theirs come, come late, or never come."""

    def __init__(self, cloud: EmulatedCloud, seed: int) -> None:
        self._cloud = cloud
        self._chance = random.Random(seed)
        self.arns: list[str] = []

    def blow(self, buckets: int, seconds: float) -> None:
        pauses = [self._chance.expovariate(buckets / seconds) for _ in range(buckets)]
        with ThreadPoolExecutor(4) as events:
            for number, pause in enumerate(pauses):
                time.sleep(min(pause, 1))
                arn = self._cloud.tables.plant(f"storm-{number:03}")
                self.arns.append(arn)
                late = (0.0, 2.0, None)[number % 3]
                if late is not None:
                    events.submit(self._deliver, arn, late)

    def _deliver(self, arn: str, late: float) -> None:
        time.sleep(late)
        self._cloud.function.deliver(creation_of(arn))


FAULTS = (
    Fault(throttle(503), probability=0.1),
    Fault(throttle(429, retry_after=1), probability=0.03),
    Fault(Reset(), probability=0.05),
    Fault(GarbageBody(b"<html>"), probability=0.05),
    Fault(Delay(0.3), probability=0.1),
)


@pytest.mark.slow
def test_nothing_is_lost_in_a_storm() -> None:
    """With faults at every request, two instances and events at any time: no bucket stays open.

    No line says "encrypted" of a request that the service did not answer so, and the lists are not
    more than the setting allows, throttling included.
    """
    environment = EACH_SECOND | {
        "GUARD_SWEEP_EVERY": "86400",
        "GUARD_HTTP_TIMEOUT_SECONDS": "0.5",
    }
    with emulated_cloud(
        environment=environment, sweep_seconds=SECONDS, instances=4, timeout_seconds=10
    ) as cloud:
        cloud.tables.faults.add(*FAULTS)
        weather, calm = Weather(cloud, seed=20261130), threading.Event()
        with ThreadPoolExecutor(2) as timers:
            calls = [timers.submit(call_until, calm, cloud) for _ in range(2)]
            weather.blow(40, seconds=15)
            calm.set()
            tries = [invocation for each in calls for invocation in each.result()]
        lists = [each for each in cloud.tables.requests if each.operation == LIST]
        cloud.tables.faults = Faults()
        tries += cloud.sweep()
        answered = {
            each.request_id
            for each in cloud.tables.requests
            if each.operation in (GET, PUT) and each.status is not None and each.status < 300
        }
        open_ones = [arn for arn in weather.arns if cloud.tables.encryption(arn) is None]

    assert open_ones == []
    told = [line for line in lines(*tries) if line.get("outcome") == "encrypted"]
    assert {line["found_by"] for line in told} <= {"watch", "sweep"}
    assert [line for line in told if line["oss_request_id"] not in answered] == []
    assert [each.error for each in tries] == [None] * len(tries)
    # Eight a call, since four fifths of its time are eight seconds; four tries of two first sweeps.
    assert len(lists) <= 8 * len(tries) + 2 * 4


def call_until(calm: threading.Event, cloud: EmulatedCloud) -> list[Invocation]:
    """The timer goes off again as soon as the call before has ended."""
    tries: list[Invocation] = []
    while not calm.is_set():
        tries += cloud.sweep()
    return tries
