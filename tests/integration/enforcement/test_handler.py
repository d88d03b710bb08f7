"""The door of the creation function, called as Function Compute calls it."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import pytest

from encryption_guard.enforcement.handler import (
    open_invocation,
    open_proxied_transport,
    shared_transport,
)
from encryption_guard.enforcement.telemetry import open_logger
from encryption_guard.errors import ConfigurationError, Unavailable
from functions.encrypt_on_create import index
from tests.emulators.cloud import ACCOUNT, OWNER, REGION, ROLE
from tests.emulators.connect_proxy import ConnectProxy
from tests.emulators.faults import Fault, Refuse
from tests.integration.conftest import Guard, creation_of
from tests.unit.fakes import OUTCOME_FIELDS


@dataclass(frozen=True)
class FunctionContext:
    """`context.function` of python3.12."""

    name: str = "encrypt-on-create"
    handler: str = "index.handler"
    memory: int = 256
    timeout: int = 30
    version_id: str = "LATEST"
    qualifier: str = "LATEST"


@dataclass(frozen=True)
class Context:
    """FC's context of python3.12: without credentials, without service."""

    request_id: str = "request-1"
    region: str = REGION
    account_id: str = ACCOUNT
    function: FunctionContext = field(default_factory=FunctionContext)
    log_project: str = "project"
    log_store: str = "store"


@dataclass(frozen=True)
class HeldCredentials:
    """`context.credentials` of python3.10."""

    access_key_id: str = ROLE.id
    access_key_secret: str = ROLE.secret
    security_token: str | None = ROLE.security_token


@dataclass(frozen=True)
class ContextOfPython310(Context):
    """The context up to python3.10, which brings the credentials along."""

    credentials: HeldCredentials = field(default_factory=HeldCredentials)


def log_lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


FORMS: dict[str, Callable[[bytes], object]] = {
    "bytes": lambda event: event,
    "text": lambda event: event.decode(),
    "parsed": json.loads,
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_creation_event_encrypts_the_bucket(
    deployed: Guard, form: Callable[[bytes], object], capsys: pytest.CaptureFixture[str]
) -> None:
    """One event in, one encrypted bucket, one JSON result, one log line with the same fields."""
    arn = deployed.tables.plant("orders")

    result = json.loads(index.handler(form(creation_of(arn)), Context()))

    assert deployed.tables.encryption(arn) == "AES256"
    assert set(result) == OUTCOME_FIELDS
    assert (result["outcome"], result["reason"], result["arn"]) == ("encrypted", "created", arn)
    assert (result["event_id"], result["named_by"]) == ("event-1", "responseElements")
    assert result["time_to_encrypt_ms"] >= 0
    (line,) = log_lines(capsys)
    assert {key: line[key] for key in OUTCOME_FIELDS} == result


@pytest.mark.usefixtures("deployed")
def test_an_invocation_knows_its_request() -> None:
    """The session in a member's account is named by it."""
    assert open_invocation(Context()).request_id == "request-1"


def test_an_array_gives_a_list_and_one_line_each(
    deployed: Guard, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each item of an array has its own outcome; the result is a list in the same order."""
    arns = [deployed.tables.plant(name) for name in ("orders", "parts")]
    events = b"[" + b" , ".join([creation_of(arns[0]), b"{}", creation_of(arns[1])]) + b"]"

    results = json.loads(index.handler(events, Context()))

    outcomes = [result["outcome"] for result in results]
    assert outcomes == ["encrypted", "dead_lettered", "encrypted"]
    assert [line["outcome"] for line in log_lines(capsys)] == outcomes
    assert [letter["event"] for letter in deployed.letters()] == ["{}"]


def test_an_unfinished_item_makes_the_platform_repeat_them_all(deployed: Guard) -> None:
    """If some items were unavailable, the others are done first and then the invocation raises."""
    arns = [deployed.tables.plant(name) for name in ("orders", "order-lines", "parts")]
    fault = Fault(Refuse(500), operation="PutTableBucketEncryption", resource="order*")
    deployed.tables.faults.add(fault)

    with pytest.raises(Unavailable, match=r"^2 of 3 events are unfinished"):
        index.handler(b"[" + b",".join(map(creation_of, arns)) + b"]", Context())

    assert [deployed.tables.encryption(arn) for arn in arns] == [None, None, "AES256"]


def test_initialize_opens_what_lasts_and_is_not_needed(deployed: Guard) -> None:
    """After `initialize` the handler uses the transport that it made."""
    arn = deployed.tables.plant("orders")
    index.initialize(Context())
    transport = shared_transport()

    index.handler(creation_of(arn), Context())

    assert shared_transport() is transport
    assert deployed.tables.encryption(arn) == "AES256"


def test_one_connection_serves_all_invocations(deployed: Guard) -> None:
    """GET and PUT of successive invocations, for any bucket, go over one connection."""
    arns = [deployed.tables.plant(name) for name in ("orders", "parts", "bills")]

    for arn in arns:
        index.handler(creation_of(arn), Context())

    assert len(deployed.tables.requests) == 6
    assert deployed.tables.connections_accepted == 1


def test_a_request_id_stays_with_its_invocation(
    deployed: Guard, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each line carries its own invocation's request id; outside of one there is none."""
    arn = deployed.tables.plant("orders")

    index.handler(creation_of(arn), Context(request_id="first"))
    open_logger().info("between two invocations")
    index.handler(creation_of(arn), Context(request_id="second"))

    assert [line.get("request_id") for line in log_lines(capsys)] == ["first", None, "second"]


def test_credentials_are_read_anew_for_every_invocation(
    deployed: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A warm instance signs with the credentials that the environment holds now."""
    arn = deployed.tables.plant("orders")
    index.handler(creation_of(arn), Context())

    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", OWNER.id)
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", OWNER.secret)
    monkeypatch.delenv("ALIBABA_CLOUD_SECURITY_TOKEN")
    result = json.loads(index.handler(creation_of(arn), Context()))

    keys = [
        request.headers["authorization"].partition("Credential=")[2].partition("/")[0]
        for request in deployed.tables.requests
    ]
    assert keys == [ROLE.id, ROLE.id, OWNER.id]
    assert result["outcome"] == "already_encrypted"


def test_credentials_of_the_context_come_first(
    deployed: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On python3.10 `context.credentials` is what signs, whatever the environment holds."""
    arn = deployed.tables.plant("orders")
    monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "STS.of-the-environment")

    result = json.loads(index.handler(creation_of(arn), ContextOfPython310()))

    assert result["outcome"] == "encrypted"


def test_a_missing_queue_stops_the_function(
    deployed: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On Function Compute the function does nothing until it knows where dead letters go."""
    arn = deployed.tables.plant("orders")
    monkeypatch.delenv("GUARD_DEAD_LETTER_QUEUE")

    with pytest.raises(ConfigurationError, match=r"^GUARD_DEAD_LETTER_QUEUE is not set"):
        index.handler(creation_of(arn), Context())

    assert deployed.tables.requests == []


def test_a_bad_exemption_is_logged_and_exempts_nothing(
    deployed: Guard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An exemption without a reason is an ERROR line, and its bucket is encrypted."""
    arn = deployed.tables.plant("orders")
    monkeypatch.setenv("GUARD_EXEMPTIONS", '[{"bucket": "orders"}]')

    index.handler(creation_of(arn), Context())

    dropped, outcome = log_lines(capsys)
    assert (dropped["level"], dropped["message"]) == ("ERROR", "exemption dropped")
    assert outcome["outcome"] == "encrypted"


@pytest.mark.parametrize("mode", ["enforce", "look"], ids=["else well", "another one wrong"])
def test_a_misspelt_name_is_logged_once(
    mode: str, deployed: Guard, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An instance names it with the nearest setting, once, also where a wrong setting stops it."""
    arn = deployed.tables.plant("orders")
    monkeypatch.setenv("GUARD_MOD", "detect")
    monkeypatch.setenv("GUARD_MODE", mode)

    for _ in range(2):
        with suppress(ConfigurationError):
            index.handler(creation_of(arn), Context())

    first, *others = log_lines(capsys)
    assert (first["level"], first["message"]) == ("WARNING", "setting ignored")
    assert first["detail"] == "GUARD_MOD is not a setting. Did you mean GUARD_MODE?"
    assert "setting ignored" not in [line["message"] for line in others]


@pytest.mark.parametrize(
    "arn",
    [
        "acs:osstables:evil.com#:1234567890123456:bucket/orders",
        "acs:osstables:cn-hangzhou:1234567890123456:bucket/../../etc",
        "acs:osstables:cn-hangzhou:1234567890123456:bucket/a\r\nHost: evil.com",
    ],
    ids=["another host", "another path", "a header"],
)
def test_an_arn_that_would_steer_the_host_is_a_letter(deployed: Guard, arn: str) -> None:
    """A crafted ARN makes no request at all; the letter says what was wrong and keeps the event."""
    event = creation_of(arn)

    result = json.loads(index.handler(event, Context()))

    assert (result["outcome"], result["reason"]) == ("dead_lettered", "invalid_event")
    assert deployed.tables.requests == []
    (letter,) = deployed.letters()
    assert letter["event"].encode() == event
    assert letter["detail"].startswith("In responseElements: ")
    assert letter["detail"].isascii()


@pytest.mark.parametrize("asked", ["true", "false"])
def test_the_proxy_of_the_environment_is_asked_only_if_told_to(
    deployed: Guard, asked: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """GUARD_TRUST_ENV alone decides whether the variables that name one count."""
    for name in ("no_proxy", "NO_PROXY", "https_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GUARD_TRUST_ENV", asked)
    arn = deployed.tables.plant("orders")

    with ConnectProxy() as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        index.handler(creation_of(arn), Context())
        shared_transport().close()
        open_proxied_transport().close()

    assert deployed.tables.encryption(arn) == "AES256"
    assert bool(proxy.heads) is (asked == "true")
