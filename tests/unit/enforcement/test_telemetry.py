"""One outcome, one log line."""

from __future__ import annotations

import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import date
from typing import Any

import pytest
from aws_lambda_powertools import Logger
from aws_lambda_powertools.shared import constants

import encryption_guard
from encryption_guard.arn import Scope
from encryption_guard.enforcement import (
    AlreadyEncrypted,
    DeadLettered,
    Detected,
    Encrypted,
    KeptStronger,
    KeptUnknown,
    Outcome,
    Skipped,
)
from encryption_guard.enforcement.telemetry import SERVICE, log_outcome, open_logger
from encryption_guard.errors import DeadLetterNotWritten, Unavailable
from encryption_guard.sweep.findings import Finding, log_finding
from tests.emulators.cloud import deployment
from tests.emulators.function_instance import LAYER
from tests.emulators.serverless_devs.checks import indexed
from tests.unit.fakes import ARN, OUTCOME_FIELDS, REGION, forget_logger

# What a line has besides: where and when it was written.
FRAME = {"level", "location", "message", "timestamp", "service"}
FULL: dict[str, Any] = {
    "arn": str(ARN),
    "event_id": "event-1",
    "time_to_encrypt_ms": 1234,
    "named_by": "responseElements",
    "oss_request_id": "OSS-1",
    "status": 200,
    "code": "ForbiddenException",
}
OUTCOMES: dict[str, Outcome] = {
    "encrypted": Encrypted(reason="created", **FULL),
    "already_encrypted": AlreadyEncrypted(reason="AES256"),
    "kept_stronger": KeptStronger(reason="KMS", arn=ARN),
    "skipped": Skipped(reason="not_relevant"),
    "detected": Detected(reason="would_encrypt", status=0, time_to_encrypt_ms=0),
    "dead_lettered": DeadLettered(reason="rejected", status=403, code=""),
}
each_outcome = pytest.mark.parametrize("outcome", OUTCOMES.values(), ids=OUTCOMES)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where a logger of this test alone writes."""
    forget_logger()
    yield io.StringIO()
    forget_logger()


@pytest.fixture
def logger(stream: io.StringIO) -> Logger:
    return open_logger(stream)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """What was written so far, each line an object."""
    text = stream.getvalue()
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


@each_outcome
def test_an_outcome_is_one_line_with_its_fields(
    outcome: Outcome, logger: Logger, stream: io.StringIO
) -> None:
    """The line has what the handler returns, the empty fields included, and no other."""
    log_outcome(outcome, logger=logger)

    (line,) = lines(stream)
    assert {key: value for key, value in line.items() if key not in FRAME} == outcome.as_dict()
    assert set(line) >= FRAME


def test_the_line_of_an_exempt_bucket_tells_its_last_day(
    logger: Logger, stream: io.StringIO
) -> None:
    """Besides the fields of every outcome, which alone are returned."""
    outcome = Skipped(reason="exempt: migration", arn=ARN, exempt_until=date(2027, 1, 31))

    log_outcome(outcome, logger=logger)

    (line,) = lines(stream)
    assert {key: value for key, value in line.items() if key not in FRAME} == {
        **outcome.as_dict(),
        "exempt_until": "2027-01-31",
    }
    assert set(outcome.as_dict()) == OUTCOME_FIELDS


def finding(outcome: str, **told: Any) -> Finding:
    return Finding(
        kind="bucket",
        scope=Scope(None, REGION),
        state="unknown",
        outcome=outcome,
        reason="told",
        **told,
    )


@pytest.mark.parametrize(
    ("outcome", "level"),
    [
        ("encrypted", "INFO"),
        ("detected", "INFO"),
        ("skipped", "INFO"),
        ("dead_lettered", "WARNING"),
        ("failed", "WARNING"),
        ("not_reached", "WARNING"),
        ("unprotected", "WARNING"),
    ],
)
def test_a_finding_is_a_line(outcome: str, level: str, logger: Logger, stream: io.StringIO) -> None:
    """What somebody has to look at is a warning; the line tells all that is known."""
    found = finding(outcome, arn=ARN, status=403, code="ForbiddenException")

    log_finding(found, logger=logger)

    (line,) = lines(stream)
    told = {key: value for key, value in found.as_dict().items() if value is not None}
    assert line["level"] == level
    assert {key: line[key] for key in told} == told


@pytest.mark.parametrize("outcome", ["already_encrypted", "kept_stronger"])
def test_what_is_as_it_was_is_no_line(outcome: str, logger: Logger, stream: io.StringIO) -> None:
    """A thousand buckets that are well are not a thousand lines, unless they are asked for."""
    well = replace(finding(outcome), state="encrypted")

    log_finding(well, logger=logger)
    logger.setLevel(logging.DEBUG)
    log_finding(well, logger=logger)

    assert [line["level"] for line in lines(stream)] == ["DEBUG"]


def test_a_kept_encryption_that_nobody_knows_is_a_line(logger: Logger, stream: io.StringIO) -> None:
    """Somebody has to look at it: its state is unknown."""
    log_finding(finding("kept_stronger"), logger=logger)

    assert [line["level"] for line in lines(stream)] == ["WARNING"]


@pytest.mark.parametrize(
    ("result", "level"),
    [
        *[(outcome, "INFO") for name, outcome in OUTCOMES.items() if name != "dead_lettered"],
        (OUTCOMES["dead_lettered"], "WARNING"),
        (Unavailable("No answer."), "WARNING"),
        (DeadLetterNotWritten("No letter."), "WARNING"),
        (ZeroDivisionError("a bug"), "ERROR"),
    ],
    ids=[
        *[name for name in OUTCOMES if name != "dead_lettered"],
        "dead_lettered",
        "unavailable",
        "letter not written",
        "bug",
    ],
)
def test_the_level_says_who_has_to_look(
    result: Outcome | Exception, level: str, logger: Logger, stream: io.StringIO
) -> None:
    """Ordinary outcomes are information, what is unfinished or kept a warning, a bug an error."""
    log_outcome(result, logger=logger)

    (line,) = lines(stream)
    assert line["level"] == level


def test_what_is_unfinished_is_named(logger: Logger, stream: io.StringIO) -> None:
    """An event that has to come again is a line with the kind of failure and its sentence."""
    log_outcome(Unavailable("OSS Tables answered 503."), logger=logger)

    (line,) = lines(stream)
    assert (line["error"], line["detail"]) == ("Unavailable", "OSS Tables answered 503.")
    assert (line["fault"], line["retryable"]) == ("service", True)
    assert "outcome" not in line


def test_a_bug_is_told_with_its_place(logger: Logger, stream: io.StringIO) -> None:
    """What nobody thought of is one line with its traceback."""
    try:
        _ = 1 // 0
    except ZeroDivisionError as error:
        log_outcome(error, logger=logger)

    (line,) = lines(stream)
    assert "ZeroDivisionError" in line["exception"]
    assert "test_telemetry" in line["exception"]


@pytest.mark.parametrize(
    "foreign",
    ["\u4e2d\u6587", "a\nb\r\u2028c", "\x1b[31m\x9b1m\x7f", '"}{"', "\U0001f600"],
    ids=["Chinese", "line ends", "escapes", "quotes", "emoji"],
)
def test_a_line_is_ascii(foreign: str, logger: Logger, stream: io.StringIO) -> None:
    """What comes from outside is escaped, and can neither end the line nor steer a terminal."""
    log_outcome(Skipped(reason=foreign, event_id=foreign, code=foreign), logger=logger)
    log_outcome(Unavailable(foreign), logger=logger)

    assert stream.getvalue().isascii()
    assert "\x1b" not in stream.getvalue()
    first, second = lines(stream)
    assert (first["reason"], first["event_id"], first["code"]) == (foreign,) * 3
    assert second["detail"] == foreign


def test_nothing_of_a_line_is_left_in_the_next(logger: Logger, stream: io.StringIO) -> None:
    """A warm instance does not tell one bucket's fields about another."""
    log_outcome(OUTCOMES["encrypted"], logger=logger)
    log_outcome(OUTCOMES["skipped"], logger=logger)
    logger.info("something else")

    _, second, third = lines(stream)
    assert {second[key] for key in FULL} == {None}
    assert set(third) == FRAME | {"version"}
    assert third["version"] == encryption_guard.__version__


def test_an_encryption_that_nobody_knows_is_a_warning(logger: Logger, stream: io.StringIO) -> None:
    """The bucket keeps it, and somebody has to look at it."""
    log_outcome(KeptUnknown(reason="ROT13"), logger=logger)

    (line,) = lines(stream)
    assert (line["level"], line["outcome"]) == ("WARNING", "kept_stronger")


def test_the_time_of_a_line_is_utc(logger: Logger, stream: io.StringIO) -> None:
    """Lines of all regions sort by their time, to the millisecond."""
    log_outcome(OUTCOMES["skipped"], logger=logger)

    (line,) = lines(stream)
    assert re.fullmatch(r"[0-9-]{10}T[0-9:]{8}\.[0-9]{3}(Z|\+00:00)", line["timestamp"])


def test_there_is_one_logger(stream: io.StringIO, capsys: pytest.CaptureFixture[str]) -> None:
    """It is made once, and without a stream of its own writes to standard output."""
    logger = open_logger()

    log_outcome(OUTCOMES["skipped"], logger=logger)

    assert open_logger() is logger
    assert json.loads(capsys.readouterr().out)["outcome"] == "skipped"
    assert stream.getvalue() == ""


def test_the_alerts_of_the_template_find_these_lines(logger: Logger, stream: io.StringIO) -> None:
    """The fields that its index knows are those of a line, the numbers numbers."""
    logger.error("anything")
    log_outcome(OUTCOMES["encrypted"], logger=logger)
    log_finding(replace(finding("failed"), scope=Scope("12345", REGION)), logger=logger)
    error, encrypted, found = lines(stream)
    # The last line of a share has its name; see the tests of the sweep.
    encrypted = {"share": "a-share", **found, **encrypted}

    asked = {
        name.removeprefix("message."): kind
        for name, kind in indexed(deployment()["resources"]).items()
        if name.startswith("message.")
    }

    assert error["level"] == "ERROR"
    assert {name: "long" if isinstance(encrypted[name], int) else "text" for name in asked} == asked


def test_the_first_line_names_what_is_wrong(
    stream: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often the logger is asked for, and before any other line."""
    monkeypatch.setenv("POWERTOOLS_DEV", "maybe")

    for _ in range(2):
        open_logger(stream).info("a line")

    first, *others = lines(stream)
    assert first["detail"].startswith('POWERTOOLS_DEV is "maybe", but has to be true or false')
    assert [line["message"] for line in others] == ["a line", "a line"]


def logged_by_a_process(
    environment: dict[str, str], statement: str, *options: str
) -> list[dict[str, Any]]:
    """What a fresh process logs, which imports the real Powertools under these variables."""
    program = f"from encryption_guard.enforcement.telemetry import open_logger\n{statement}"
    done = subprocess.run(
        [sys.executable, *options, "-c", program],
        env={"PYTHONPATH": str(LAYER), **environment},
        check=True,
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


OUTCOME = "open_logger().debug('detail'); open_logger().info('outcome')"
WRONG_AT_ONCE = (
    *("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL", "LOG_LEVEL"),
    *("POWERTOOLS_LOGGER_SAMPLE_RATE", "POWERTOOLS_DEV", "POWERTOOLS_DEBUG"),
    "POWERTOOLS_LOG_DEDUPLICATION_DISABLED",
)


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("POWERTOOLS_LOG_LEVEL", "TRACE", "DEBUG, INFO, WARNING or ERROR"),
        ("POWERTOOLS_LOGGER_SAMPLE_RATE", "50%", "a number from 0 to 1"),
        ("POWERTOOLS_DEBUG", "maybe", "true or false"),
    ],
)
def test_a_wrong_log_setting_is_one_warning(variable: str, value: str, allowed: str) -> None:
    """The log goes on at INFO, and says which variable is wrong, its value and what is allowed."""
    warning, outcome = logged_by_a_process({variable: value}, OUTCOME)

    assert (warning["level"], warning["message"]) == ("WARNING", "log setting ignored")
    assert warning["detail"] == (
        f'{variable} is "{value}", but has to be {allowed}; correct the variable.'
    )
    assert (outcome["level"], outcome["message"]) == ("INFO", "outcome")


def test_several_wrong_log_settings_are_one_warning() -> None:
    """An instance has one line about them, which names all."""
    warning, outcome = logged_by_a_process(dict.fromkeys(WRONG_AT_ONCE, "?"), OUTCOME)

    assert [name for name in WRONG_AT_ONCE if f'{name} is "?"' in warning["detail"]] == [
        *WRONG_AT_ONCE
    ]
    assert outcome["message"] == "outcome"


def test_no_variable_of_powertools_stops_the_log() -> None:
    """Whatever else Powertools knows by a name of its own or of AWS Lambda may hold anything."""
    names = [
        value
        for value in vars(constants).values()
        if isinstance(value, str) and value.startswith(("POWERTOOLS_", "AWS_", "LOG_LEVEL"))
    ]
    assert {*WRONG_AT_ONCE} <= {*names}

    *_, outcome = logged_by_a_process(dict.fromkeys(names, "?"), OUTCOME)

    assert (outcome["level"], outcome["service"]) == ("INFO", SERVICE)


def test_an_empty_log_setting_counts_as_not_set() -> None:
    """As with every other setting; the library alone would raise for most of them."""
    (outcome,) = logged_by_a_process(dict.fromkeys(WRONG_AT_ONCE, ""), OUTCOME)

    assert outcome["message"] == "outcome"


@pytest.mark.parametrize(
    ("environment", "shown"),
    [
        ({}, ["INFO", "WARNING", "ERROR"]),
        ({"POWERTOOLS_LOG_LEVEL": "debug"}, ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ({"POWERTOOLS_LOG_LEVEL": "WARN"}, ["WARNING", "ERROR"]),
        ({"LOG_LEVEL": "Error"}, ["ERROR"]),
        ({"LOG_LEVEL": "ERROR", "POWERTOOLS_LOG_LEVEL": "WARNING"}, ["WARNING", "ERROR"]),
        # Powertools alone raises for the next one: it compares a number with a text.
        (
            {"AWS_LAMBDA_LOG_LEVEL": "INFO", "POWERTOOLS_LOG_LEVEL": "warning"},
            ["INFO", "WARNING", "ERROR"],
        ),
        ({"AWS_LAMBDA_LOG_LEVEL": "warn", "POWERTOOLS_LOG_LEVEL": "DEBUG"}, ["WARNING", "ERROR"]),
        ({"POWERTOOLS_LOGGER_SAMPLE_RATE": "1"}, ["DEBUG", "INFO", "WARNING", "ERROR"]),
        ({"POWERTOOLS_DEV": "OFF", "POWERTOOLS_DEBUG": "0"}, ["INFO", "WARNING", "ERROR"]),
    ],
)
def test_the_level_is_what_was_asked_for(environment: dict[str, str], shown: list[str]) -> None:
    """In any casing; the variable of AWS Lambda first, then Powertools' own, then LOG_LEVEL."""
    levels = ("debug", "info", "warning", "error")
    every = "; ".join(f"open_logger().{level}('a line')" for level in levels)

    lines = logged_by_a_process(environment, every, "-W", "error")

    assert [line["level"] for line in lines] == shown
