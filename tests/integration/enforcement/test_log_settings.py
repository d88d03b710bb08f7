"""Wrong settings of the log, in functions as they are deployed."""

from __future__ import annotations

import json
from typing import Any

from tests.emulators.cloud import emulated_cloud
from tests.emulators.function_compute import Invocation
from tests.integration.conftest import creation_of

WRONG = {
    "POWERTOOLS_LOG_LEVEL": "TRACE",
    "LOG_LEVEL": "verbose",
    "AWS_LAMBDA_LOG_LEVEL": "FATAL",
    "POWERTOOLS_LOGGER_SAMPLE_RATE": "50%",
    "POWERTOOLS_DEV": "maybe",
    "POWERTOOLS_DEBUG": "maybe",
    "POWERTOOLS_LOG_DEDUPLICATION_DISABLED": "maybe",
}


def log_lines(invocation: Invocation) -> list[dict[str, Any]]:
    return [json.loads(line) for line in invocation.logs.splitlines()]


def test_wrong_log_settings_keep_no_bucket_open() -> None:
    """Both functions encrypt, log it at INFO, and warn once in their instance."""
    with emulated_cloud(environment=WRONG) as cloud:
        arns = [cloud.tables.plant(name) for name in ("orders", "parts", "bills")]
        tries = [cloud.function.deliver(creation_of(arn)) for arn in arns[:2]]
        swept = cloud.sweep()

        assert {cloud.tables.encryption(arn) for arn in arns} == {"AES256"}
    assert [len(each) for each in (*tries, swept)] == [1, 1, 1]
    first, second = (log_lines(each[0]) for each in tries)
    assert [line["message"] for line in first] == ["log setting ignored", "event processed"]
    assert [line["message"] for line in second] == ["event processed"]
    assert [line["level"] for line in first] == ["WARNING", "INFO"]
    warning, *others = log_lines(swept[0])
    assert [line["message"] for line in others] == ["sweep finding", "sweep finished"]
    for name, value in WRONG.items():
        assert f'{name} is "{value}", but has to be ' in warning["detail"]
