"""Whom the guard speaks to: only a service that proves its name, in a TLS that is not outdated."""

from __future__ import annotations

import os
import re
import socket
import ssl
import threading
import warnings
from collections.abc import Callable, Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import certifi
import httpx
import pytest
import trustme

from encryption_guard.errors import Unavailable
from encryption_guard.http import new_request, open_transport, send
from encryption_guard.invocation import Clock
from encryption_guard.settings import FunctionArn
from layers.encryption_guard.tools.authorities import split_bundle
from tests.emulators.cloud import QUEUE, emulated_cloud
from tests.emulators.faults import Fault, Refuse
from tests.emulators.operators_shell import invoke
from tests.emulators.server import LOOPBACK, Server
from tests.integration.conftest import Guard, creation_of
from tests.integration.services.test_function_compute import function_compute

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

Context = Callable[[trustme.CA, Path], ssl.SSLContext]


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def good(ca: trustme.CA, _folder: Path) -> ssl.SSLContext:
    return server_context(ca.issue_cert(LOOPBACK))


def wrong_name(ca: trustme.CA, _folder: Path) -> ssl.SSLContext:
    return server_context(ca.issue_cert("cn-hangzhou.oss-tables.aliyuncs.com"))


def expired(ca: trustme.CA, _folder: Path) -> ssl.SSLContext:
    ended = datetime(2020, 1, 2, tzinfo=timezone.utc)
    began = datetime(2020, 1, 1, tzinfo=timezone.utc)
    return server_context(ca.issue_cert(LOOPBACK, not_before=began, not_after=ended))


def unknown_authority(_ca: trustme.CA, _folder: Path) -> ssl.SSLContext:
    return server_context(trustme.CA().issue_cert(LOOPBACK))


def self_signed(_ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    another = trustme.CA()
    pem = folder / "self.pem"
    pem.write_bytes(another.private_key_pem.bytes() + another.cert_pem.bytes())
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return context


def speaks(version: ssl.TLSVersion) -> Context:
    """A server with a good certificate that speaks this version of TLS and no other."""

    def context(ca: trustme.CA, folder: Path) -> ssl.SSLContext:
        made = good(ca, folder)
        # The versions that are to be refused are deprecated in Python too.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            made.set_ciphers("ALL:@SECLEVEL=0")
            made.minimum_version = made.maximum_version = version
        return made

    return context


class Service:
    """Answers everything with 200, and remembers what it was asked."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        self.heard.append(environ["REQUEST_METHOD"])
        start_response("200 OK", [])
        return [b""]


@pytest.fixture
def authorities(tmp_path: Path) -> Path:
    """What is /opt/authorities in the cloud."""
    return tmp_path / "authorities"


@pytest.fixture(params=["SSL_CERT_FILE", "the layer"])
def ca(
    request: pytest.FixtureRequest,
    authorities: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> trustme.CA:
    """The one authority that is trusted, by the environment's word or as the layer brings it."""
    made = trustme.CA()
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    if request.param == "SSL_CERT_FILE":
        made.cert_pem.write_to_path(tmp_path / "ca.pem")
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    else:
        bring(authorities, made)
    return made


def bring(authorities: Path, ca: trustme.CA) -> None:
    """Put an authority into a folder as `make build` does."""
    authorities.mkdir()
    for name, certificate in split_bundle(ca.cert_pem.bytes().decode()).items():
        (authorities / name).write_text(certificate, "utf-8")


def fetch(url: str, authorities: Path) -> int:
    with open_transport(authorities=authorities) as transport:
        return send(
            transport,
            new_request("PUT", url, headers={"authorization": "planted"}, content=b"{}"),
            until=Clock().monotonic() + 10,
        ).status


@pytest.mark.parametrize(
    "context",
    [good, speaks(ssl.TLSVersion.TLSv1_2), speaks(ssl.TLSVersion.TLSv1_3)],
    ids=["as it is", "TLS 1.2", "TLS 1.3"],
)
def test_a_service_that_proves_itself_is_spoken_to(
    ca: trustme.CA, authorities: Path, tmp_path: Path, context: Context
) -> None:
    """A good certificate, in either TLS of today."""
    service = Service()

    with Server(service, tls=context(ca, tmp_path)) as server:
        assert fetch(server.url, authorities) == 200

    assert service.heard == ["PUT"]


@pytest.mark.parametrize(
    ("context", "why"),
    [
        (wrong_name, "CERTIFICATE_VERIFY_FAILED.*IP address mismatch"),
        (expired, "CERTIFICATE_VERIFY_FAILED.*certificate has expired"),
        (unknown_authority, "CERTIFICATE_VERIFY_FAILED.*unable to get local issuer"),
        (self_signed, "CERTIFICATE_VERIFY_FAILED.*self.signed certificate"),
        (speaks(ssl.TLSVersion.TLSv1_1), "UNSUPPORTED_PROTOCOL|PROTOCOL_VERSION"),
    ],
    ids=["wrong name", "expired", "unknown authority", "self-signed", "TLS 1.1"],
)
def test_a_service_that_does_not_is_told_nothing(
    ca: trustme.CA, authorities: Path, tmp_path: Path, context: Context, why: str
) -> None:
    """No certificate that fails and no outdated TLS gets to see a request."""
    service = Service()

    with (
        Server(service, tls=context(ca, tmp_path)) as server,
        pytest.raises(httpx.ConnectError, match=why),
    ):
        fetch(server.url, authorities)

    assert service.heard == []


def test_the_environments_word_counts_before_the_layers(
    authorities: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names authorities trusts them alone, not those of the layer besides."""
    of_the_layer, named, service = trustme.CA(), trustme.CA(), Service()
    bring(authorities, of_the_layer)
    named.cert_pem.write_to_path(tmp_path / "named.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "named.pem"))

    with Server(service, tls=good(named, tmp_path)) as server:
        assert fetch(server.url, authorities) == 200
    with (
        Server(service, tls=good(of_the_layer, tmp_path)) as server,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        fetch(server.url, authorities)

    assert service.heard == ["PUT"]


HOST = "cn-hangzhou.oss-tables.aliyuncs.com"


@pytest.fixture
def hosts_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A resolver that finds every host on this machine."""

    def resolve(_: str, port: int, *__: object, **___: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (LOOPBACK, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)


@pytest.mark.parametrize("name", [HOST, "*.oss-tables.aliyuncs.com"])
@pytest.mark.usefixtures("hosts_are_here")
def test_a_service_that_proves_its_hosts_name_is_spoken_to(
    ca: trustme.CA, authorities: Path, name: str
) -> None:
    """The name of the URL, itself or by a wildcard of one label, whatever its address."""
    service = Service()

    with Server(service, tls=server_context(ca.issue_cert(name))) as server:
        assert fetch(f"https://{HOST}:{server.port}", authorities) == 200

    assert service.heard == ["PUT"]


@pytest.mark.parametrize(
    "name",
    [LOOPBACK, "*.aliyuncs.com", f"*.{HOST}", f"{HOST}.example.com", "cn-beijing" + HOST[11:]],
    ids=["the address alone", "two labels up", "a label below", "a longer name", "a neighbour"],
)
@pytest.mark.usefixtures("hosts_are_here")
def test_a_service_of_another_name_is_told_nothing(
    ca: trustme.CA, authorities: Path, name: str
) -> None:
    """That a trusted certificate is somebody's does not make it the host's."""
    service = Service()

    with (
        Server(service, tls=server_context(ca.issue_cert(name))) as server,
        pytest.raises(httpx.ConnectError, match=r"CERTIFICATE_VERIFY_FAILED.*Hostname mismatch"),
    ):
        fetch(f"https://{HOST}:{server.port}", authorities)

    assert service.heard == []


def test_the_servers_of_outdated_tls_are_ones_that_answer(ca: trustme.CA, tmp_path: Path) -> None:
    """A client that does not mind is answered in TLS 1.1: it is the guard that refuses."""
    lenient = ssl.create_default_context(cadata=ca.cert_pem.bytes().decode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        lenient.minimum_version = ssl.TLSVersion.TLSv1_1
    lenient.set_ciphers("ALL:@SECLEVEL=0")

    with (
        Server(Service(), tls=speaks(ssl.TLSVersion.TLSv1_1)(ca, tmp_path)) as server,
        socket.create_connection((LOOPBACK, server.port)) as plain,
        lenient.wrap_socket(plain, server_hostname=LOOPBACK) as encrypted,
    ):
        assert encrypted.version() == "TLSv1.1"


@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(guard: Guard, status: int) -> None:
    """Nobody else is sent a signed request, nor the letter about the event.

    The letter is not written, and the platform keeps the event.
    """
    service = Service()
    arn = guard.tables.plant("orders")

    with Server(service) as elsewhere:
        moved = Fault(Refuse(status, headers={"Location": elsewhere.url}))
        guard.tables.faults.add(moved)
        guard.queue.faults.add(moved)
        processed = guard.process(creation_of(arn))

    assert processed.outcomes == ()
    assert guard.logged[0]["dead_letter"]["reason"] == "unexpected_redirect"
    assert service.heard == []


# What is said of it.


def knows_no_name(ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """As a server, or a gateway before it, that serves other hosts only."""
    context = good(ca, folder)
    context.sni_callback = lambda *_: ssl.ALERT_DESCRIPTION_UNRECOGNIZED_NAME
    return context


Failure = Callable[[Guard, str], Exception]


def failure_of_tables(guard: Guard, url: str) -> Exception:
    guard.environment["GUARD_OSS_TABLES_ENDPOINT"] = url
    (failure,) = guard.process(creation_of(guard.tables.plant("orders"))).failures
    return failure


def failure_of_queue(guard: Guard, url: str) -> Exception:
    """A letter that should be written."""
    guard.environment["GUARD_SMQ_ENDPOINT"] = url
    (failure,) = guard.process(b"not JSON").failures
    return failure


def failure_of_function_compute(guard: Guard, url: str) -> Exception:
    functions = function_compute(guard.transport, {"GUARD_FC_ENDPOINT": url}, clock=guard.clock)
    with pytest.raises(Unavailable) as caught:
        functions.invoke(FunctionArn("guard", "cn-hangzhou", "1234567890123456"), b"{}")
    return caught.value


each_service = pytest.mark.parametrize(
    ("fails", "requests"),
    [(failure_of_tables, 2), (failure_of_queue, 1), (failure_of_function_compute, 1)],
    ids=["OSS Tables, GET and PUT", "SMQ", "Function Compute"],
)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guard: Guard) -> trustme.CA:
    """An authority that the guard trusts beside the emulators'."""
    made = trustme.CA()
    both = tmp_path / "both.pem"
    trusted = Path(os.environ["SSL_CERT_FILE"]).read_bytes()  # noqa: TID251  (the fixture's)
    both.write_bytes(trusted + made.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(both))
    guard.transport.close()
    guard.transport = open_transport()
    return made


@each_service
@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (expired, "certificate has expired"),
        (unknown_authority, "unable to get local issuer certificate"),
        (self_signed, "self.signed certificate"),
        (wrong_name, r"IP address mismatch, certificate is not valid for '127\.0\.0\.1'"),
    ],
    ids=["expired", "another authority", "self-signed", "another name"],
)
def test_a_refused_certificate_is_told_and_final(
    guard: Guard,
    mine: trustme.CA,
    tmp_path: Path,
    fails: Failure,
    requests: int,
    context: Context,
    reason: str,
) -> None:
    """OpenSSL's reason and what to check; no repeat, no promise, and yet nothing is given up."""
    with Server(Service(), tls=context(mine, tmp_path)) as impostor:
        failure = fails(guard, impostor.url)
        accepted = impostor.connections_accepted

    assert isinstance(failure, Unavailable)
    assert re.search(
        rf": its certificate is refused \({reason}\): check SSL_CERT_FILE and SSL_CERT_DIR,"
        r" this machine's clock, and which server answers for the service\.$",
        str(failure),
    )
    assert "later" not in str(failure)
    assert (accepted, guard.clock.slept) == (requests, [])


@each_service
@pytest.mark.parametrize(
    ("context", "reason"),
    [
        (speaks(ssl.TLSVersion.TLSv1_1), "tlsv1 alert protocol version|unsupported protocol"),
        (knows_no_name, "(tlsv1|ssl/tls alert) unrecognized name"),
        (lambda *_: None, "wrong version number|record layer failure"),
    ],
    ids=["TLS 1.1", "an unrecognized name", "plain HTTP"],
)
def test_tls_that_fails_is_told_with_its_reason(
    guard: Guard,
    mine: trustme.CA,
    tmp_path: Path,
    fails: Failure,
    requests: int,
    context: Context,
    reason: str,
) -> None:
    """In OpenSSL's words. It may be a gateway that is being changed, so it is tried again."""
    with Server(Service(), tls=context(mine, tmp_path)) as server:
        failure = fails(guard, server.url.replace("http://", "https://"))
        accepted = server.connections_accepted

    assert isinstance(failure, Unavailable)
    assert re.search(
        rf": TLS failed \(({reason})\): check the endpoint, and which server answers for the"
        r" service\.$",
        str(failure),
    )
    assert "later" not in str(failure)
    # Four of each, and of a PUT a look before each repeat.
    assert accepted == 4 * requests + 3 * (requests - 1)


@each_service
def test_who_hangs_up_is_no_failure_of_tls(guard: Guard, fails: Failure, requests: int) -> None:
    """A server that ends the connection in the handshake may be well a moment later."""

    def hang_up() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(65536)

    with socket.create_server((LOOPBACK, 0)) as listener:
        thread = threading.Thread(target=hang_up)
        thread.start()
        failure = fails(guard, f"https://{LOOPBACK}:{listener.getsockname()[1]}")
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()

    assert isinstance(failure, Unavailable)
    assert "TLS" not in str(failure)
    assert "certificate" not in str(failure)
    assert len(guard.clock.slept) == 3 * requests


@pytest.mark.parametrize(
    ("arguments", "exit_code", "said"),
    [
        (["enforce", "{arn}", "--apply"], 1, "OSS Tables gave no answer to Put"),
        (["sweep", "--region", "cn-hangzhou"], 3, "OSS Tables gave no answer to ListTableBuckets"),
        (["dead-letters", "redrive", "--apply"], 3, f"The queue {QUEUE} gave no answer"),
    ],
    ids=["enforce", "sweep", "redrive"],
)
def test_a_command_tells_why_a_certificate_is_refused(
    arguments: list[str], exit_code: int, said: str
) -> None:
    """An operator whose shell trusts another authority reads what to correct.

    What could not look has an exit code of its own.
    """
    with emulated_cloud() as cloud:
        arn = cloud.tables.plant("orders")

        result = invoke(
            cloud, *(word.format(arn=arn) for word in arguments), SSL_CERT_FILE=certifi.where()
        )

    told = result.stdout + result.stderr
    assert result.exit_code == exit_code
    assert said in told
    assert ": its certificate is refused (unable to get local issuer certificate): check" in told
