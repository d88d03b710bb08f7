"""No byte that leaves the process holds a secret, but for what is said to the services themselves.

Keys that can be told from everything else are planted; whatever is logged, returned, raised, kept
in the queue or printed is searched for them, also in the encodings that it may have gone through.
"""

from __future__ import annotations

import gzip
import hmac
import json
import logging
import re
import traceback
import zlib
from base64 import b64decode, b64encode
from binascii import Error as NotBase64
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote_to_bytes

import aws_lambda_powertools
import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.errors import GuardError
from functions.encrypt_on_create import index
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    QUEUE,
    REGION,
    SWEEP_ROLE,
    EmulatedCloud,
    deployed_role,
    emulated_cloud,
)
from tests.emulators.faults import Effect, Fault, GarbageBody, Refuse, SkewClock
from tests.emulators.function_compute import Invocation
from tests.emulators.operators_shell import invoke
from tests.emulators.resource_directory import Member
from tests.emulators.server import Authority, ConnectionSpentError, Server
from tests.integration.conftest import Guard, creation_of
from tests.integration.enforcement.test_handler import Context
from tests.integration.troubles import PASSING, UNANSWERED
from tests.unit.fakes import dead_letter_of

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment

SECRET = "planted/Secret+0123456789abcdefABCDEF=="
TOKEN = "CAISplanted/Token+" + "0123456789abcdefABCDEF" * 8 + "=="
ROLE = replace(
    deployed_role("encrypt_on_create"), id="STS.plantedKeyId", secret=SECRET, security_token=TOKEN
)
OPERATOR = AccessKey("STS.plantedOperator", SECRET, ROLE.account_id, security_token=TOKEN)
PUT = "PutTableBucketEncryption"
SEND = "SendMessage"
LOUD = {
    "POWERTOOLS_LOG_LEVEL": "DEBUG",
    "LOG_LEVEL": "DEBUG",
    "POWERTOOLS_LOGGER_LOG_EVENT": "true",
}
# Powertools warns of these, and in this process a warning is an error.
LOUDEST = LOUD | {"POWERTOOLS_DEV": "true", "POWERTOOLS_DEBUG": "true"}
# What Powertools logs when it makes a logger.
HEARD = "Adding filter in root logger"
AS_VARIABLES = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": ROLE.id,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
    "ALIBABA_CLOUD_SECURITY_TOKEN": TOKEN,
}
# Also in the alphabet of URLs, and without the padding.
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{16,}")
ESCAPED = re.compile(rb"\\u00([0-9a-fA-F]{2})")


def readings(data: bytes, depth: int = 4) -> Iterator[bytes]:
    """The bytes, and what they may stand for: unescaped, decoded from URLs, base64 and gzip."""
    yield data
    if not depth:
        return
    plain = ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), data).replace(b"\\/", b"/")
    for other in {unquote_to_bytes(data), plain, plain.replace(b'\\"', b'"')} - {data}:
        yield from readings(other, depth - 1)
    for run in BASE64.findall(data):
        with ExitStack() as stack:
            stack.enter_context(_suppressed())
            decoded = b64decode(run + b"=" * (-len(run) % 4), altchars=_alphabet(run))
            yield from readings(decoded, depth - 1)
            yield from readings(zlib.decompress(decoded, wbits=31), depth - 1)


def _alphabet(run: bytes) -> bytes:
    return b"-_" if re.search(rb"[-_]", run) else b"+/"


@contextmanager
def _suppressed() -> Iterator[None]:
    try:
        yield
    except (NotBase64, zlib.error):
        return


def signing_keys() -> Iterator[str]:
    """What of the secret signs for a day, a region and a service: each opens as much as it says."""
    key = f"aliyun_v4{SECRET}".encode()
    today = datetime.now(timezone.utc).strftime("%Y%m%d")
    for part in (today, REGION, "osstables", "aliyun_v4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
        yield key.hex()
        yield b64encode(key).decode()


def found_in(texts: Iterable[str | bytes], words: Iterable[str]) -> list[str]:
    """Which of these words can be read in the texts."""
    data = b"\n".join(text.encode() if isinstance(text, str) else text for text in texts)
    found = list(readings(data))
    return [word for word in words if any(word.encode() in reading for reading in found)]


def leaked(*texts: str | bytes, proofs: Iterable[str] = ()) -> list[str]:
    """Which of the planted secrets, and of the proofs that were sent, can be read in the texts.

    Of a key's id four characters may be.
    """
    wanted = [SECRET, TOKEN, TOKEN[:40], TOKEN[-40:], ROLE.id[4:], OPERATOR.id[4:], *proofs]
    return found_in(texts, [*wanted, *signing_keys()])


def proofs_of(*requests: Sequence[object]) -> list[str]:
    """The authorizations that services were sent, and the signatures in them."""
    headers = [r.headers.get("authorization", "") for some in requests for r in some]  # type: ignore[attr-defined]
    return [part for text in headers if text for part in (text, signature_of(text))]


def signature_of(authorization: str) -> str:
    return re.split("Signature=|:", authorization)[-1]


class Echo:
    """A service that refuses, and tells everybody what it was asked with."""

    def __init__(self, status: str = "403 Forbidden") -> None:
        self.status = status
        self.proofs: list[str] = []

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        asked = {key: value for key, value in environ.items() if key.startswith("HTTP_")}
        authorization = asked.get("HTTP_AUTHORIZATION", "")
        self.proofs += [authorization, signature_of(authorization)]
        token = [value for key, value in asked.items() if key.endswith("SECURITY_TOKEN")]
        code, told = authorization, f"{authorization} {token}"
        headers = [
            ("x-oss-error-type", authorization),
            ("x-oss-ec", (token or [""])[0]),
            ("x-oss-request-id", self.proofs[-1]),
            ("x-mns-request-id", self.proofs[-1]),
            ("location", f"https://127.0.0.1/?{authorization}"),
        ]
        start_response(self.status, headers)
        if environ["REQUEST_METHOD"] == "POST":
            return [
                f"<Error><Code>{code}</Code><Message>you said {told}</Message></Error>".encode()
            ]
        return [f'{{"Code": "{code}", "Message": "you said {told}"}}'.encode()]


@pytest.mark.parametrize(
    "hide",
    [
        lambda text: text,
        lambda text: json.dumps(json.dumps({"token": text})).encode(),
        lambda text: quote(text, safe="").encode(),
        lambda text: b64encode(text.encode()),
        lambda text: b64encode(text.encode() + b"?>", altchars=b"-_").rstrip(b"="),
        lambda text: b64encode(gzip.compress(text.encode())),
        lambda text: b64encode(json.dumps({"event": b64encode(text.encode()).decode()}).encode()),
        lambda text: "".join(f"\\u{ord(char):04x}" for char in text).encode(),
    ],
    ids=[
        "plain",
        "JSON in JSON",
        "URL",
        "base64",
        "base64 of URLs",
        "gzip",
        "base64 in base64",
        "escaped",
    ],
)
@pytest.mark.parametrize("planted", [SECRET, TOKEN])
def test_what_is_planted_is_found(hide: Callable[[str], bytes], planted: str) -> None:
    """Whoever finds nothing must have been able to find something."""
    assert planted in leaked("before", hide(f"x {planted} y"), "after")
    assert all(leaked(hide(key)) for key in signing_keys())
    assert leaked("nothing of that kind", b64encode(b"nothing here either")) == []


EFFECTS: dict[str, Effect | None] = {
    "nothing": None,
    **PASSING,
    **UNANSWERED,
    "400": Refuse(400),
    "403": Refuse(403),
    "404": Refuse(404),
    "a redirect": Refuse(307, headers={"Location": "/elsewhere"}),
    "a skewed clock": SkewClock(3600),
    "an expired token": Refuse(403, "SecurityTokenExpired"),
    "an echo": Refuse(403, message=f"The token {TOKEN} is not welcome."),
    "a foreign body": GarbageBody(),
}


def handled(event: bytes) -> str:
    """What the function returns, or raises with its causes."""
    try:
        return index.handler(event, Context())
    except Exception as error:
        return "".join(traceback.format_exception(error))


@pytest.fixture
def loud(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    """All that any library logs is heard, and the guard's own logger is at its loudest."""
    caplog.set_level(1)
    # Its own lines, which Powertools keeps to itself.
    monkeypatch.setattr(logging.getLogger(aws_lambda_powertools.__name__), "propagate", True)
    for name, value in LOUD.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("operation", [PUT, SEND])
@pytest.mark.usefixtures("loud")
def test_a_function_tells_no_secret(
    deployed: Guard,
    operation: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Logs of every library, results, errors and dead letters, through every kind of trouble."""
    in_trouble = deployed.tables if operation == PUT else deployed.queue
    for service in (deployed.tables, deployed.queue):
        service.admit(ROLE)
    for name, value in {**AS_VARIABLES, "GUARD_HTTP_TIMEOUT_SECONDS": "0.3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("GUARD_MAX_ATTEMPTS", "1")
    told: list[str] = []
    for effect in EFFECTS.values():
        event = creation_of(deployed.tables.plant(f"orders-{len(told)}"))
        if operation == SEND:
            deployed.tables.faults.add(Fault(Refuse(403), operation=PUT))
        if effect:
            in_trouble.faults.add(Fault(effect, operation=operation))
        told.append(handled(event))
        deployed.tables.faults.clear()
        deployed.queue.faults.clear()

    streams = capsys.readouterr()
    letters = deployed.queue.bodies(QUEUE)
    proofs = proofs_of(deployed.tables.requests, deployed.queue.requests)
    # The libraries were heard, and so was the guard.
    assert HEARD in caplog.text
    assert streams.out.count('"level"') >= len(EFFECTS)
    assert letters
    assert proofs
    assert leaked(*told, caplog.text, streams.out, streams.err, *letters, proofs=proofs) == []


ENDPOINTS = ["GUARD_OSS_TABLES_ENDPOINT", "GUARD_SMQ_ENDPOINT"]


def told_by(guard: Guard) -> str:
    """All that becomes of a creation: what is returned, raised with its causes, kept and logged."""
    processed = guard.process(creation_of(guard.tables.plant("orders")))
    told = [json.dumps(outcome.as_dict()) for outcome in processed.outcomes]
    raised = ["".join(traceback.format_exception(failure)) for failure in processed.failures]
    letters = [json.dumps(letter) for letter in (*guard.letters(), *guard.logged)]
    assert told or raised
    return "\n".join([*told, *raised, *letters])


@pytest.fixture
def planted(guard: Guard) -> Guard:
    """The guard with the planted key, of whose buckets none can be encrypted."""
    guard.read_credentials = lambda: Credentials(ROLE.id, SECRET, TOKEN)
    for service in (guard.tables, guard.queue):
        service.admit(ROLE)
    guard.tables.faults.add(Fault(Refuse(403), operation=PUT))
    guard.environment["GUARD_MAX_ATTEMPTS"] = "1"
    return guard


@pytest.mark.parametrize("status", ["403 Forbidden", "500 Oops", "302 Found"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_echo_of_the_credentials_goes_nowhere(
    planted: Guard, authority: Authority, endpoint: str, status: str
) -> None:
    """Whoever sends them back brings them into no letter and no error.

    tests/unit/http/test_redaction.py has the ways to write them.
    """
    echo = Echo(status)

    with Server(echo, tls=authority.server_context()) as server:
        planted.environment[endpoint] = server.url
        told = told_by(planted)

    assert any(echo.proofs)
    assert leaked(told, proofs=filter(None, echo.proofs)) == []
    if endpoint == "GUARD_OSS_TABLES_ENDPOINT" and status.startswith("4"):
        assert "[redacted]" in told


@pytest.mark.parametrize("instead", ["{head}", "HTTP/1.1 403 No\r\n{head}", "\0{token}"])
@pytest.mark.parametrize("endpoint", ENDPOINTS)
def test_an_echo_that_is_not_http_goes_nowhere(
    planted: Guard, endpoint: str, instead: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The libraries quote it in their errors, which are causes of ours."""
    heads: list[str] = []

    def echo(environ: WSGIEnvironment, _: StartResponse) -> Iterable[bytes]:
        asked = {key[5:]: value for key, value in environ.items() if key.startswith("HTTP_")}
        # The space before the colon is what no header may have.
        head = "".join(f"{name} : {value}\r\n" for name, value in sorted(asked.items()))
        heads.append(asked["AUTHORIZATION"])
        said = instead.format(head=head, token=TOKEN) + "\r\n\r\n"
        environ["werkzeug.socket"].sendall(said.encode())
        raise ConnectionSpentError

    caplog.set_level(logging.INFO)
    with Server(echo) as server:
        planted.environment[endpoint] = server.url
        told = told_by(planted)

    assert heads
    assert "RemoteProtocolError" in told
    assert leaked(told, caplog.text, proofs=[*heads, *map(signature_of, heads)]) == []


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("trouble", ["nobody", "an impostor", "no TLS", "no such host"])
def test_a_service_that_is_none_brings_out_no_secret(
    planted: Guard, endpoint: str, trouble: str, caplog: pytest.LogCaptureFixture
) -> None:
    """No error of the network or of TLS tells what would have been sent."""
    caplog.set_level(1)
    impostor = Authority().server_context()
    with Server(Echo(), tls=None if trouble == "no TLS" else impostor) as server:
        planted.environment[endpoint] = {
            "nobody": "https://127.0.0.1:9",
            # A name of more than 255 characters: no resolver looks for it.
            "no such host": f"https://{'.'.join(['a' * 60] * 5)}",
        }.get(trouble, server.url.replace("http://", "https://"))
        told = told_by(planted)

    assert "ConnectError" in told
    assert leaked(told, caplog.text) == []


def test_a_queue_that_cannot_be_written_brings_out_no_secret(
    planted: Guard, tmp_path: Path
) -> None:
    """The letter is in the log then, and holds none."""
    planted.environment["GUARD_DEAD_LETTER_QUEUE"] = f"file:{tmp_path}"

    told = told_by(planted)

    assert "dead letter not written" in told
    assert leaked(told) == []


WRONG = {
    "a newline in the secret": (ROLE.id, f"{SECRET}\n", TOKEN),
    "a newline in the token": (ROLE.id, SECRET, f"{TOKEN}\r\nx-injected: 1"),
    "a token that no header can hold": (ROLE.id, SECRET, f"{TOKEN}…"),
    "a space in the id": (f"{ROLE.id} {SECRET}", SECRET, TOKEN),
    "no secret": (ROLE.id, "", TOKEN),
}


@pytest.mark.parametrize("given", WRONG.values(), ids=WRONG)
def test_a_key_that_cannot_be_sent_is_not_told(
    guard: Guard,
    given: tuple[str, str, str],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """No library gets to complain of a header with the token in it."""
    for name, value in zip(AS_VARIABLES, given, strict=True):
        monkeypatch.setenv(name, value)
    guard.read_credentials = Credentials.read
    event = creation_of(guard.tables.plant("orders"))
    caplog.set_level(1)

    with pytest.raises(GuardError) as refused:
        guard.process(event)

    told = "".join(traceback.format_exception(refused.value))
    assert leaked(told, repr(refused.value), caplog.text) == []
    assert guard.tables.requests == []


def said(
    cloud: EmulatedCloud, caplog: pytest.LogCaptureFixture, *arguments: str, **variables: str
) -> str:
    """All that a command writes in a shell with the planted key, and all that is logged."""
    shell: dict[str, Any] = {
        "ALIBABA_CLOUD_SECURITY_TOKEN": TOKEN,
        "GUARD_HTTP_TIMEOUT_SECONDS": "0.5",
        "GUARD_MAX_ATTEMPTS": "2",
    }
    caplog.clear()
    result = invoke(cloud, *arguments, key=OPERATOR, **shell | variables)
    crash = "".join(traceback.format_exception(result.exception)) if result.exception else ""
    return "\n".join([result.stdout, result.stderr, crash, caplog.text])


@pytest.fixture
def cloud() -> Iterator[EmulatedCloud]:
    """A cloud in which the planted key may do everything, and three events were refused."""
    with emulated_cloud() as running:
        for service in (running.tables, running.queue, running.api):
            service.admit(OPERATOR)
        for name in ("refused-1", "refused-2", "refused-3"):
            event = json.loads(creation_of(running.tables.plant(name)))
            running.queue.put(QUEUE, b64encode(dead_letter_of(event | {"id": name})).decode())
        yield running


COMMANDS = [
    ("enforce", "{arn}"),
    ("enforce", "{arn}", "--apply", "--output", "json"),
    ("sweep", "--region", "cn-hangzhou", "--tables", "--output", "json", "--html", "{html}"),
    ("sweep", "--region", "cn-hangzhou", "--apply", "--output", "csv"),
    ("dead-letters", "list", "--output", "json"),
    ("dead-letters", "list", "--peek"),
    ("dead-letters", "show", "refused-1"),
    ("dead-letters", "redrive"),
    ("dead-letters", "discard", "--bucket", "refused-3", "--because", "no", "--apply"),
    ("dead-letters", "redrive", "--bucket", "refused-1", "--apply"),
    ("dead-letters", "redrive", "--local", "--apply"),
]


@pytest.mark.usefixtures("loud")
def test_no_command_tells_a_secret(
    cloud: EmulatedCloud, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Standard output, standard error, the auditor's page, and what any library logs."""
    page = tmp_path / "page.html"
    arn = cloud.tables.plant("orders")

    told = [
        said(cloud, caplog, *(part.format(arn=arn, html=page) for part in command))
        for command in COMMANDS
    ]

    proofs = proofs_of(cloud.tables.requests, cloud.queue.requests, cloud.api.requests)
    assert all(told)
    assert cloud.api.accepted
    assert cloud.queue.bodies(QUEUE) == []
    assert "dead letter discarded" in "".join(told)
    assert HEARD in "".join(told)
    assert leaked(*told, page.read_bytes(), proofs=proofs) == []


@pytest.mark.parametrize(
    ("command", "endpoint"),
    [
        (("enforce", "{arn}", "--apply"), "GUARD_OSS_TABLES_ENDPOINT"),
        (("sweep", "--region", "cn-hangzhou", "--apply"), "GUARD_OSS_TABLES_ENDPOINT"),
        (("dead-letters", "list"), "GUARD_SMQ_ENDPOINT"),
        (("dead-letters", "redrive", "--apply"), "GUARD_FC_ENDPOINT"),
        (("dead-letters", "discard", "{id}", "--because", "no", "--apply"), "GUARD_SMQ_ENDPOINT"),
    ],
)
@pytest.mark.usefixtures("loud")
def test_no_command_tells_what_a_service_echoes(
    cloud: EmulatedCloud,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    command: tuple[str, ...],
    endpoint: str,
) -> None:
    """Whichever service sends the credentials back, the operator is not shown them."""
    authority, echo = Authority(), Echo()
    arn = cloud.tables.plant("orders")
    both = tmp_path / "both.pem"
    both.write_bytes(cloud.certificate.read_bytes() + authority.pem)

    with Server(echo, tls=authority.server_context()) as server:
        told = said(
            cloud,
            caplog,
            *(part.format(arn=arn, id="0123456789abcdef") for part in command),
            **{endpoint: server.url, "SSL_CERT_FILE": str(both)},
        )

    assert any(echo.proofs)
    assert leaked(told, proofs=filter(None, echo.proofs)) == []


def test_a_sweep_tells_no_secret() -> None:
    """Its log, result and letters, of buckets that it encrypts, may not encrypt, and is echoed."""
    sweeper = replace(OPERATOR, policy=SWEEP_ROLE.policy)
    with emulated_cloud(sweep_role=sweeper, environment=LOUDEST) as cloud:
        for name in ("encrypted", "refused", "echoed"):
            cloud.tables.plant(name)
        cloud.tables.faults.add(Fault(Refuse(403), operation=PUT, resource="refused"))
        echo = Refuse(403, message=f"The token {TOKEN} is not welcome.")
        cloud.tables.faults.add(Fault(echo, operation=PUT, resource="echoed"))
        tries = cloud.sweep()
        messages = cloud.queue.bodies(QUEUE)
        proofs = proofs_of(cloud.tables.requests, cloud.queue.requests)

    told = [f"{each.logs} {each.result} {json.dumps(each.error)}" for each in tries]
    assert sorted(b"[redacted] is not welcome" in b64decode(body) for body in messages) == [
        False,
        True,
    ]
    assert leaked(*told, *messages, proofs=proofs) == []


def parts_of(keys: Iterable[AccessKey]) -> list[str]:
    """What may be read of these keys nowhere; of an id four characters may be."""
    parts = [part for key in keys for part in (key.secret, key.security_token, key.id[4:])]
    return [part for part in parts if part]


def test_an_assumed_key_goes_to_its_own_service_alone() -> None:
    """Not into logs, results, dead letters or shares, nor to the queue, STS or the directory."""
    members = [Member(f"77777777777777{number:02}") for number in range(3)]
    environment = {
        **LOUDEST,
        "GUARD_ACCOUNTS": "organization",
        "GUARD_ACCOUNTS_PER_SHARE": "2",
        "GUARD_SWEEP_EVERY": "0",
    }
    with emulated_cloud(
        environment=environment, members=members, sweep_instances=1, instances=1
    ) as cloud:
        arns = [
            cloud.tables.plant(f"{name}-{number}", account_id=member.account_id)
            for number, member in enumerate(members)
            for name in ("orders", "refused")
        ]
        cloud.tables.faults.add(Fault(Refuse(403), operation=PUT, resource="refused-*"))

        def by_sweep() -> list[Invocation]:
            return [*cloud.sweep(), *cloud.shares()]

        def by_events() -> list[Invocation]:
            return [each for arn in arns for each in cloud.function.deliver(creation_of(arn))]

        told: list[Invocation] = []
        for act in (by_sweep, by_events):
            earlier = len(cloud.sts.issued)
            told += act()
            # What the service gets of a key, it may also say.
            for key in cloud.sts.issued[earlier:]:
                echo = Refuse(403, message=f"{key.security_token} of {key.id} is not welcome.")
                buckets = f"*-{key.account_id[-1]}"
                cloud.tables.faults.add(Fault(echo, operation="*Encryption", resource=buckets))
            told += act()
            cloud.tables.faults.clear()
        messages = cloud.queue.bodies(QUEUE)
        others = (cloud.queue, cloud.sts, cloud.directory, cloud.api)
        elsewhere = [repr(each) for service in others for each in service.requests]
        to_tables = cloud.tables.requests
        issued = list(cloud.sts.issued)

    logs = [f"{each.logs} {each.result} {json.dumps(each.error)}" for each in told]
    assert any("is not welcome" in text for text in logs)
    assert messages
    assert {key.account_id for key in issued} == {each.account_id for each in members}
    assert found_in([*logs, *messages, *elsewhere], parts_of(issued)) == []
    secrets = [key.secret for key in issued]
    assert not [each for each in to_tables if any(secret in repr(each) for secret in secrets)]
