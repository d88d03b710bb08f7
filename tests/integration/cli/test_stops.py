"""A command that is stopped ends with an exit code of its own, whatever was under way."""

from __future__ import annotations

import signal
import time

import pytest

from tests.emulators.cloud import ACCOUNT, REGION, emulated_cloud
from tests.emulators.faults import Delay, Fault
from tests.emulators.operators_shell import start

ARN = f"acs:osstables:{REGION}:{ACCOUNT}:bucket/payments"


@pytest.mark.parametrize(
    ("number", "arguments"),
    [
        (signal.SIGTERM, ("status", "--region", REGION)),
        (signal.SIGTERM, ("enforce", ARN, "--apply")),
        (signal.SIGTERM, ("sweep", "--region", REGION)),
        (signal.SIGINT, ("dead-letters", "list", "--peek")),
        (signal.SIGTERM, ("dead-letters", "redrive")),
    ],
    ids=lambda each: " ".join(each[:2]) if isinstance(each, tuple) else each.name,
)
def test_a_stopped_command_exits_with_130(
    number: signal.Signals, arguments: tuple[str, ...]
) -> None:
    """Also by SIGTERM, and while a service that does not answer makes what is under way fail."""
    with emulated_cloud() as cloud:
        cloud.tables.plant("payments")
        services = (cloud.tables, cloud.queue, cloud.log, cloud.sts, cloud.api)
        for service in services:
            service.faults.add(Fault(Delay(2)))
        with start(cloud, *arguments) as process:
            while not any(service.requests for service in services):
                assert process.poll() is None
                time.sleep(0.01)
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)

    assert process.returncode == 130, errors
    assert "Traceback" not in errors
