"""Proxies: asked by nobody unless it is wished, and told nothing that is secret."""

from __future__ import annotations

import traceback
from base64 import b64encode
from collections.abc import Iterator
from contextlib import ExitStack

import httpx
import pytest
from click.testing import CliRunner

from encryption_guard.cli import main
from encryption_guard.errors import ConfigurationError
from encryption_guard.http import new_request, open_transport, send
from encryption_guard.http.proxies import with_environment_proxy
from encryption_guard.invocation import Clock
from tests.emulators.cloud import OWNER, QUEUE_ARN, REGION, ROLE
from tests.emulators.connect_proxy import ConnectProxy
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Authority
from tests.integration.conftest import Guard

VARIABLES = ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY", "no_proxy", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever this shell has set does not count."""
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def proxy() -> Iterator[ConnectProxy]:
    with ConnectProxy() as running:
        yield running


def fetch(url: str, *, seconds: float = 10) -> int:
    """Ask with what the environment wants."""
    with ExitStack() as stack:
        transport = with_environment_proxy(open_transport())
        stack.callback(transport.close)
        return send(
            transport,
            new_request("GET", url, headers={"authorization": "planted-signature"}),
            until=Clock().monotonic() + seconds,
        ).status


@pytest.mark.parametrize("name", ["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_that_is_asked_carries_what_it_cannot_read(
    guard: Guard, proxy: ConnectProxy, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It learns host and port; the request, its signature and the answer go by encrypted."""
    monkeypatch.setenv(name, proxy.url)

    status = fetch(guard.tables.url)

    assert status == guard.tables.requests[0].status
    (head,) = proxy.heads
    assert head.startswith(f"CONNECT 127.0.0.1:{guard.tables.port} HTTP/1.1\r\n")
    assert "authorization" not in head.lower()
    assert proxy.read
    assert b"planted-signature" not in proxy.read


@pytest.mark.parametrize("asked", [True, False])
def test_a_command_asks_the_proxy_only_if_told_to(
    guard: Guard, proxy: ConnectProxy, asked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator behind a proxy says GUARD_TRUST_ENV=true."""
    arn = guard.tables.plant("orders")
    settings = {
        "HTTPS_PROXY": proxy.url,
        "GUARD_TRUST_ENV": str(asked).lower(),
        "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
        "GUARD_OSS_TABLES_ENDPOINT": guard.tables.url,
        "ALIBABA_CLOUD_ACCESS_KEY_ID": ROLE.id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": ROLE.secret,
        "ALIBABA_CLOUD_SECURITY_TOKEN": ROLE.security_token or "",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)

    result = CliRunner().invoke(main, ["enforce", arn, "--apply"])

    assert (result.exit_code, guard.tables.encryption(arn)) == (0, "AES256")
    assert bool(proxy.heads) is asked


@pytest.mark.parametrize("exception", ["*", "example.com,127.0.0.1"])
def test_what_no_proxy_names_is_asked_directly(
    guard: Guard, proxy: ConnectProxy, exception: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NO_PROXY counts as in every other program."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)
    monkeypatch.setenv("NO_PROXY", exception)

    fetch(guard.tables.url)

    assert len(guard.tables.requests) == 1
    assert proxy.heads == []


def test_without_a_proxy_everything_is_asked_directly(guard: Guard) -> None:
    """To trust an environment that names none changes nothing."""
    fetch(guard.tables.url)

    assert len(guard.tables.requests) == 1


def test_what_is_not_https_goes_to_no_proxy(
    proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy would read the request with its signature."""
    monkeypatch.setenv("ALL_PROXY", proxy.url)

    with pytest.raises(httpx.ConnectError):
        fetch("http://127.0.0.1:9")

    assert proxy.heads == []


@pytest.mark.parametrize(
    ("given", "password"),
    [
        ("pass%20word", "pass word"),
        ("gr%C3%BC%C3%9Fe", "gr\u00fc\u00dfe"),
        ("gr\u00fc\u00dfe", "gr\u00fc\u00dfe"),
        ("a%0D%0Ax-b:c", "a\r\nx-b:c"),
    ],
)
def test_a_proxy_gets_its_own_password_and_nothing_else(
    guard: Guard,
    proxy: ConnectProxy,
    given: str,
    password: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The name and the password in its URL are meant for it."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", f"//somebody:{given}@"))

    fetch(guard.tables.url)

    expected = b64encode(f"somebody:{password}".encode()).decode()
    assert f"Proxy-Authorization: Basic {expected}\r\n" in proxy.heads[0]
    assert "planted" not in proxy.heads[0]


def test_an_address_without_a_scheme_is_one_of_http(
    guard: Guard, proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As curl and others take it."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url.removeprefix("http://"))

    fetch(guard.tables.url)

    assert len(proxy.heads) == 1


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n",
        b"\x16\x03\x01 this is not HTTP\r\n\r\n",
        b"",
    ],
    ids=["407", "502", "garbage", "nothing"],
)
def test_a_proxy_in_trouble_is_a_broken_connection(
    guard: Guard, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it does, the try ends in time, and nothing is sent past it."""
    with ConnectProxy(answer=answer) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)

        with pytest.raises(httpx.TransportError):
            fetch(guard.tables.url, seconds=0.5)

    assert guard.tables.requests == []


def test_a_proxy_may_be_spoken_to_in_tls(
    guard: Guard, authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The service's TLS is then inside of the proxy's."""
    with ConnectProxy(tls=authority.server_context()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)

        fetch(guard.tables.url)

    assert len(guard.tables.requests) == 1
    assert len(proxy.heads) == 1
    assert b"planted-signature" not in proxy.read


def test_a_proxy_in_tls_has_to_prove_its_name(
    guard: Guard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To one that cannot, not even the password for it is told."""
    with ConnectProxy(tls=Authority().server_context()) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url.replace("//", "//somebody:password@"))

        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            fetch(guard.tables.url)

    assert proxy.heads == []
    assert guard.tables.requests == []


@pytest.mark.usefixtures("trusted")
def test_behind_a_proxy_the_service_still_has_to_prove_its_name(
    proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever a proxy leads to is told nothing without a certificate that is trusted."""
    monkeypatch.setenv("HTTPS_PROXY", proxy.url)

    with (
        OssTables(OWNER, ROLE, region=REGION, authority=Authority()) as impostor,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        fetch(impostor.url)

    assert len(proxy.heads) == 1
    assert impostor.requests == []


@pytest.mark.parametrize(
    "given",
    [
        "socks5://somebody:planted@127.0.0.1:1080",
        "http://somebody:planted@",
        "http://somebody:planted@127.0.0.1:port",
        "http://somebody:plan/ted@127.0.0.1:1",
        "http://somebody:plan#ted@127.0.0.1:1",
    ],
)
@pytest.mark.parametrize("name", ["HTTPS_PROXY", "ALL_PROXY"])
@pytest.mark.usefixtures("trusted")
def test_a_proxy_that_is_none_is_a_wrong_setting(
    given: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sentence that names the variable, and not its value: that may hold a password."""
    monkeypatch.setenv(name, given)

    with pytest.raises(ConfigurationError) as refused:
        with_environment_proxy(open_transport())

    assert str(refused.value).startswith(f"{name} is not a valid proxy URL")
    told = "".join(traceback.format_exception(refused.value))
    assert "plan" not in told
    assert "somebody" not in told
