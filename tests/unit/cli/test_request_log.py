"""`--debug` shows what a command asked, and never what it asked it with."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timezone

import httpx
import pytest

from encryption_guard.cli.request_log import REQUEST_IDS, LoggedTransport
from encryption_guard.invocation import Clock
from tests.unit.fakes import mocked

AT = datetime(2026, 11, 30, 14, 3, 7, 123456, tzinfo=timezone.utc)
URL = "https://cn-hangzhou.oss-tables.aliyuncs.com/buckets/acs%3Aosstables/encryption"
NAMED = "https://cn-hangzhou.oss-tables.aliyuncs.com/buckets/acs:osstables/encryption"


def logged(
    answer: httpx.Response | BaseException,
    url: str = URL,
    *,
    with_path: bool = True,
    headers: dict[str, str] | None = None,
) -> str:
    """The one line about a GET that takes 35 ms."""

    def handle(_: httpx.Request) -> httpx.Response:
        if isinstance(answer, BaseException):
            raise answer
        return answer

    lines: list[str] = []
    instants = iter((7.0, 7.035))
    clock = Clock(now=lambda: AT, monotonic=lambda: next(instants))
    transport = LoggedTransport(mocked(handle), clock, with_path=with_path, write=lines.append)
    with suppress(httpx.TransportError, KeyboardInterrupt):
        transport.handle_request(httpx.Request("GET", url, headers=headers))
    (line,) = lines
    return line


@pytest.mark.parametrize("header", REQUEST_IDS)
def test_a_request_is_one_line_with_time_status_and_id(header: str) -> None:
    """By the ID the service's support finds the request; each service has a header of its own."""
    line = logged(httpx.Response(403, headers={header: "65A1F0"}))

    assert line == f"debug: 14:03:07.123 GET {NAMED} 403, request ID 65A1F0, after 35 ms"


def test_an_answer_without_an_id_has_its_status_alone() -> None:
    """Such as that of a proxy."""
    assert logged(httpx.Response(502)) == f"debug: 14:03:07.123 GET {NAMED} 502 after 35 ms"


def test_a_request_without_an_answer_names_the_error_and_quotes_nothing() -> None:
    """The text of the error may be an echo of what was sent."""
    line = logged(httpx.ReadTimeout("Authorization: secret"))

    assert line == f"debug: 14:03:07.123 GET {NAMED} no answer (ReadTimeout) after 35 ms"


def test_a_request_that_is_interrupted_is_a_line_too() -> None:
    """The service may have received it."""
    line = logged(KeyboardInterrupt())

    assert line == f"debug: 14:03:07.123 GET {NAMED} no answer after 35 ms"


@pytest.mark.parametrize(
    "url",
    [f"{URL}?Signature=S3CRET&AccessKeyId=LTAI", "https://S3CRET:S3CRET@127.0.0.1:8/a#S3CRET"],
)
def test_no_secret_is_printed(url: str) -> None:
    """Neither of the query, nor of the user in a URL, nor of a header."""
    line = logged(httpx.Response(200), url, headers={"authorization": "S3CRET"})

    assert "S3CRET" not in line
    assert "LTAI" not in line


def test_the_path_of_a_credentials_uri_is_not_printed() -> None:
    """It may be what protects the key behind it."""
    line = logged(httpx.Response(200), "http://127.0.0.1:8080/S3CRET", with_path=False)

    assert line == "debug: 14:03:07.123 GET http://127.0.0.1:8080 200 after 35 ms"


def test_a_call_of_one_path_is_named_by_its_action() -> None:
    """STS has a single path."""
    headers = {"x-acs-action": "GetCallerIdentity"}

    line = logged(httpx.Response(200), "https://sts.aliyuncs.com/", headers=headers)

    assert "GET https://sts.aliyuncs.com/ GetCallerIdentity 200" in line
