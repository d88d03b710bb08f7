"""`encryption-guard sweep` against the whole cloud: its queue, its functions, and Ctrl-C."""

from __future__ import annotations

import json
import signal
import subprocess
import time
from base64 import b64decode
from collections.abc import Iterator

import pytest

from tests.emulators.cloud import QUEUE, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.faults import Delay, Fault, Refuse
from tests.emulators.operators_shell import invoke, start
from tests.unit.cli.printed import objects

GET = "GetTableBucketEncryption"
HERE = ("sweep", "--region", REGION)


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    with emulated_cloud() as cloud:
        yield cloud


def test_with_a_queue_a_letter_is_there_once(cloud: EmulatedCloud) -> None:
    """A refused bucket's letter lands in the queue, a second sweep writes no other, and it can be
    redriven."""
    arn = cloud.tables.plant("orders")
    cloud.tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))

    first, second = (invoke(cloud, *HERE, "--apply", columns=200) for _ in range(2))

    assert (first.exit_code, second.exit_code) == (1, 1)
    letters = [json.loads(b64decode(body)) for body in cloud.queue.bodies(QUEUE)]
    assert [letter["arn"] for letter in letters] == [arn]
    assert "dead-lettered (rejected)" in first.stdout
    assert "; 1 dead letter written." in first.stderr
    assert "rejected; a dead letter waits already" in second.stdout
    assert "; 1 dead letter waits already." in second.stderr

    cloud.tables.faults.clear()
    redriven = invoke(cloud, "dead-letters", "redrive", "--apply")
    cloud.api.join(timeout=60)

    assert redriven.exit_code == 0
    assert cloud.tables.encryption(arn) == "AES256"


# Ctrl-C.


def asked(cloud: EmulatedCloud) -> list[str | None]:
    """The buckets whose encryption was asked for."""
    return [each.resource for each in cloud.tables.requests if each.operation == GET]


def interrupted(
    cloud: EmulatedCloud, *arguments: str, after: int
) -> subprocess.CompletedProcess[str]:
    """Run until so many buckets were asked about, then press Ctrl-C."""
    process = start(cloud, *HERE, *arguments)
    deadline = time.monotonic() + 60
    while len(asked(cloud)) < after:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


@pytest.mark.parametrize("output", ["table", "json", "csv"])
def test_ctrl_c_tells_what_was_found_so_far(cloud: EmulatedCloud, output: str) -> None:
    """Stopped midway it exits with 130, says that this is not all, and prints the rows so far."""
    names = [f"bucket-{number:02}" for number in range(40)]
    for name in names:
        cloud.tables.plant(name, encryption="KMS")
    cloud.tables.faults.add(Fault(Delay(0.2)))

    result = interrupted(cloud, "--output", output, after=9)

    assert result.returncode == 130
    assert "the results are incomplete" in result.stderr
    assert len([name for name in names if name in result.stdout]) >= 8
    assert 9 <= len(asked(cloud)) < 40
    if output == "json":
        *found, last = objects(result.stdout)
        assert (last["kind"], last["complete"], last["ok"]) == ("totals", False, False)
        assert {one["bucket"] for one in found if one["state"] == "encrypted"} == {*asked(cloud)}


def test_ctrl_c_lets_what_is_under_way_end(cloud: EmulatedCloud) -> None:
    """A bucket that is being encrypted when Ctrl-C comes is encrypted, and told as such."""
    for number in range(30):
        cloud.tables.plant(f"bucket-{number:02}")
    cloud.tables.faults.add(Fault(Delay(0.2)))

    result = interrupted(cloud, "--apply", "--output", "json", after=12)

    assert result.returncode == 130
    *found, _ = objects(result.stdout)
    told = {one["bucket"] for one in found if one["state"] == "encrypted"}
    truth = {bucket.arn.name for bucket in cloud.tables.buckets() if bucket.encryption is not None}
    assert told == truth
