"""Events handed to the emulated Function Compute over TLS: accepted, refused, or not answered."""

from __future__ import annotations

import io
import logging
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError, GuardError, Unavailable
from encryption_guard.http import open_transport
from encryption_guard.invocation import DeadlineTransport, Invocation, TimeBudget
from encryption_guard.services.function_compute import FunctionCompute, NotAccepted, Unreachable
from encryption_guard.settings import FunctionArn, Settings
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, REGION
from tests.emulators.emulated_service import utc_now
from tests.emulators.faults import (
    Effect,
    Fault,
    Garbage,
    GarbageBody,
    Refuse,
    Reset,
    SkewClock,
    throttle,
)
from tests.emulators.function_compute_api import Deployed, FunctionComputeApi
from tests.emulators.server import Authority
from tests.emulators.skipping_clock import SkippingClock
from tests.integration.troubles import PASSING, UNANSWERED
from tests.unit.fakes import skipping

KEY = AccessKey("LTAIplantedkeyid", "planted-secret", ACCOUNT)
ANOTHER_KEY = replace(KEY, id="LTAIanother", secret="another-secret")
STS_KEY = replace(KEY, id="STS.plantedkeyid", security_token="planted-token")
VERSION_3 = FunctionArn("guard", REGION, ACCOUNT)
VERSION_2 = FunctionArn("fn", REGION, ACCOUNT, "svc")
BOTH = pytest.mark.parametrize("function", [VERSION_3, VERSION_2], ids=["3.0", "2.0"])
EVENT = b'{"id": "event-1"}'
LARGEST = 128 * 1024


def ignore(_event: bytes) -> None:
    """A function for tests that look at what was accepted, or was not."""


def resource(function: FunctionArn) -> str:
    """What the emulator calls it."""
    return f"{function.service}${function.name}" if function.service else function.name


def credentials_of(key: AccessKey) -> Credentials:
    return Credentials(key.id, key.secret, key.security_token)


def function_compute(
    transport: DeadlineTransport,
    environment: dict[str, str],
    *,
    clock: SkippingClock,
    read_credentials: Callable[[], Credentials] = lambda: Credentials(KEY.id, KEY.secret),
) -> FunctionCompute:
    """As a command makes it that has been at work for long: no event may depend on its budget."""
    return FunctionCompute(
        Invocation(
            transport=transport,
            settings=Settings.from_environment(environment),
            read_credentials=read_credentials,
            budget=TimeBudget(clock.monotonic(), skipping(clock)),
            clock=skipping(clock),
        )
    )


@dataclass
class Caller:
    """An operator's command with its key; `environment` are settings of its shell."""

    service: FunctionComputeApi
    transport: DeadlineTransport
    key: AccessKey = KEY
    environment: dict[str, str] = field(default_factory=dict)
    clock: SkippingClock = field(default_factory=SkippingClock)

    def __post_init__(self) -> None:
        environment = {"GUARD_FC_ENDPOINT": self.service.url} | self.environment
        self.functions = function_compute(
            self.transport,
            environment,
            clock=self.clock,
            read_credentials=lambda: credentials_of(self.key),
        )

    def invoke(self, function: FunctionArn, payload: bytes = EVENT) -> str:
        return self.functions.invoke(function, payload)

    def failure(self, function: FunctionArn, payload: bytes = EVENT) -> GuardError:
        with pytest.raises(GuardError) as caught:
            self.invoke(function, payload)
        return caught.value


@pytest.fixture(autouse=True)
def _root_logger() -> Iterator[None]:
    """What the client's silence changes is as before for other tests."""
    root = logging.getLogger()
    before = root.level, root.handlers[:], root.filters[:]
    yield
    root.level, root.handlers, root.filters = before


@pytest.fixture
def transport(trusted: Path) -> Iterator[DeadlineTransport]:  # noqa: ARG001  it is what there is to trust
    with open_transport() as transport:
        yield transport


def open_api(authority: Authority, *keys: AccessKey) -> FunctionComputeApi:
    names = ("guard", "other", "svc$fn", "svc$other")
    functions = dict.fromkeys(names, ignore)
    return FunctionComputeApi(*(keys or (KEY,)), functions=functions, authority=authority)


@pytest.fixture
def service(authority: Authority) -> Iterator[FunctionComputeApi]:
    with open_api(authority) as service:
        yield service


@pytest.fixture
def caller(service: FunctionComputeApi, transport: DeadlineTransport) -> Caller:
    return Caller(service, transport)


# Accepted.

FUNCTIONS = {
    "3.0": (VERSION_3, "guard"),
    "2.0": (VERSION_2, "svc$fn"),
    "2.0 with a qualifier": (VERSION_2._replace(qualifier="LATEST"), "svc$fn"),
}


@pytest.mark.parametrize(("function", "name"), FUNCTIONS.values(), ids=FUNCTIONS)
@pytest.mark.parametrize(
    "payload",
    [EVENT, '{"größe": "€\\u0000"}'.encode(), b"", b"\x00\xff\r\n", b"x" * LARGEST],
    ids=["an event", "not ASCII", "nothing", "no text", "128 KB"],
)
def test_an_event_is_handed_over(
    service: FunctionComputeApi, caller: Caller, function: FunctionArn, name: str, payload: bytes
) -> None:
    """It is accepted byte for byte, for later, and the id of the request comes back."""
    request_id = caller.invoke(function, payload)

    (request,) = service.requests
    assert service.accepted == [(name, payload)]
    assert (request.request_id, request.status) == (request_id, 202)
    assert request.headers["x-fc-invocation-type"] == "Async"
    assert caller.clock.slept == []


@BOTH
def test_credentials_are_read_for_every_request(
    authority: Authority, transport: DeadlineTransport, function: FunctionArn
) -> None:
    """A key that is renewed during a long command signs the next request."""
    with open_api(authority, KEY, ANOTHER_KEY) as service:
        caller = Caller(service, transport)
        caller.invoke(function)
        caller.key = ANOTHER_KEY
        caller.invoke(function)

    assert [request.headers["authorization"].partition(":")[0] for request in service.requests] == [
        "FC LTAIplantedkeyid",
        "FC LTAIanother",
    ]


@BOTH
def test_an_expired_token_is_renewed(
    authority: Authority, transport: DeadlineTransport, function: FunctionArn
) -> None:
    """A long redrive may outlive its token: a new one is read, and the event is sent once more."""
    old = replace(STS_KEY, id="STS.old", expires_at=utc_now())
    with open_api(authority, old, STS_KEY) as service:
        keys = iter([old])
        functions = function_compute(
            transport,
            {"GUARD_FC_ENDPOINT": service.url},
            clock=SkippingClock(),
            read_credentials=lambda: credentials_of(next(keys, STS_KEY)),
        )

        functions.invoke(function, EVENT)

    assert [request.status for request in service.requests] == [403, 202]


# Refused for good.


@dataclass(frozen=True)
class Refusal:
    """What makes the service refuse for good, and how it says so."""

    status: int
    code: str
    known: AccessKey = KEY
    sent: AccessKey = KEY
    fault: Effect | None = None
    payload: bytes = EVENT


RIGHTS = "; check the credentials, their permission fc:InvokeFunction, and this machine's clock."
REFUSALS = {
    "no right": Refusal(403, "AccessDenied", known=replace(KEY, denied=frozenset({"*"}))),
    "a wrong secret": Refusal(403, "SignatureNotMatch", sent=replace(KEY, secret="other")),
    "a wrong token": Refusal(
        403, "InvalidSecurityToken", known=STS_KEY, sent=replace(STS_KEY, security_token="other")
    ),
    "an expired token": Refusal(
        403, "SecurityTokenExpired", known=replace(STS_KEY, expires_at=utc_now()), sent=STS_KEY
    ),
    "a clock ahead": Refusal(403, "AccessDenied", fault=SkewClock(-3600)),
    "not found": Refusal(404, "FunctionNotFound", fault=Refuse(404)),
}
NOT_THIS_ONE = {
    "too large": Refusal(400, "EntityTooLarge", payload=b"x" * (LARGEST + 1)),
    "a conflict": Refusal(409, "Conflict", fault=Refuse(409, "Conflict")),
}


@BOTH
@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
def test_a_refusal_for_good_ends_the_calls_of_this_function(
    authority: Authority, transport: DeadlineTransport, function: FunctionArn, refusal: Refusal
) -> None:
    """The sentence names function, status and code; other functions are still called."""
    other = function._replace(name="other")
    with open_api(authority, refusal.known, ANOTHER_KEY) as service:
        caller = Caller(service, transport, refusal.sent)
        if refusal.fault:
            service.faults.add(Fault(refusal.fault, resource=resource(function)))
        first = caller.failure(function, refusal.payload)
        service.faults.clear()
        caller.key = ANOTHER_KEY
        second = caller.failure(function)
        asked = len(service.requests)
        caller.invoke(other)

    assert isinstance(first, ConfigurationError)
    said = f"The endpoint of {function} answered {refusal.status} {refusal.code}; "
    assert str(first).startswith(said)
    if refusal.status == 403:
        assert str(first).endswith(RIGHTS)
    assert (type(second), str(second)) == (ConfigurationError, str(first))
    assert (asked, caller.clock.slept) == (1, [])
    assert [name for name, _ in service.accepted] == [resource(other)]


@BOTH
@pytest.mark.parametrize("refusal", NOT_THIS_ONE.values(), ids=NOT_THIS_ONE)
def test_a_refusal_of_one_event_does_not_end_the_calls(
    caller: Caller, function: FunctionArn, refusal: Refusal
) -> None:
    """It is not tried again; the next event is."""
    if refusal.fault:
        caller.service.faults.add(Fault(refusal.fault, times=1))

    failure = caller.failure(function, refusal.payload)
    caller.invoke(function)

    assert isinstance(failure, NotAccepted)
    assert str(failure).startswith(
        f"The endpoint of {function} answered {refusal.status} {refusal.code}: "
    )
    assert caller.clock.slept == []
    assert [name for name, _ in caller.service.accepted] == [resource(function)]


@pytest.mark.parametrize(
    ("function", "code"),
    [
        pytest.param(VERSION_3._replace(name="missing"), "FunctionNotFound", id="3.0"),
        pytest.param(VERSION_2._replace(name="missing"), "FunctionNotFound", id="2.0"),
        pytest.param(VERSION_2._replace(service="missing"), "ServiceNotFound", id="its service"),
        pytest.param(VERSION_2._replace(qualifier="prod"), "AliasNotFound", id="its alias"),
        pytest.param(VERSION_2._replace(qualifier="7"), "VersionNotFound", id="its version"),
    ],
)
def test_what_does_not_exist_is_to_be_named(
    caller: Caller, function: FunctionArn, code: str
) -> None:
    """The sentence says how another function is named."""
    failure = caller.failure(function)

    assert isinstance(failure, ConfigurationError)
    assert str(failure) == (
        f"The endpoint of {function} answered 404 {code}; name the function with --function or"
        " GUARD_FUNCTION."
    )


@BOTH
def test_the_words_of_another_refusal_are_quoted(caller: Caller, function: FunctionArn) -> None:
    """Where no advice of ours fits, the service's own message is told, as ASCII in quotes."""
    caller.service.faults.add(Fault(Refuse(400, "InvalidArgument", message='a "größe"\x1b[31m')))

    failure = caller.failure(function)

    assert str(failure) == (
        f"The endpoint of {function} answered 400 InvalidArgument:"
        r' "a \"gr\u00f6\u00dfe\"\u001b[31m".'
    )


@BOTH
def test_a_code_that_is_none_is_escaped(caller: Caller, function: FunctionArn) -> None:
    """Whatever the service calls its error, the sentence stays printable."""
    caller.service.faults.add(Fault(Refuse(403, 'Größe\x1b[31m "x"' + "y" * 1000)))

    failure = caller.failure(function)

    assert str(failure).isascii()
    assert str(failure).isprintable()
    assert len(str(failure)) < 500


# Not now.


@BOTH
@pytest.mark.parametrize("effect", PASSING.values(), ids=PASSING)
@pytest.mark.parametrize("attempts", [1, 4])
def test_what_does_not_pass_is_unavailable(
    service: FunctionComputeApi,
    transport: DeadlineTransport,
    function: FunctionArn,
    effect: Refuse,
    attempts: int,
) -> None:
    """GUARD_MAX_ATTEMPTS tries with growing pauses; the next event is tried again."""
    caller = Caller(service, transport, environment={"GUARD_MAX_ATTEMPTS": str(attempts)})
    service.faults.add(Fault(effect, times=attempts))

    failure = caller.failure(function)
    paused = len(caller.clock.slept)
    caller.invoke(function)

    assert type(failure) is Unavailable
    assert str(failure).startswith(f"The endpoint of {function} answered {effect.status} ")
    assert str(failure).endswith("; a later try may succeed.")
    assert [request.status for request in service.requests] == [effect.status] * attempts + [202]
    assert paused == len(caller.clock.slept) == attempts - 1
    assert len(service.accepted) == 1


@BOTH
@pytest.mark.parametrize("effect", [*PASSING.values(), Reset()], ids=[*PASSING, "a reset"])
def test_what_passes_is_tried_again(caller: Caller, function: FunctionArn, effect: Effect) -> None:
    """After three failures the event is accepted, with a growing pause after each."""
    caller.service.faults.add(Fault(effect, times=3))

    request_id = caller.invoke(function)

    assert caller.service.requests[-1].request_id == request_id
    assert caller.service.accepted == [(resource(function), EVENT)]
    assert len(caller.service.requests) == 4
    assert caller.clock.slept == sorted(caller.clock.slept)


@BOTH
def test_a_pause_that_is_too_long_is_not_waited_for(caller: Caller, function: FunctionArn) -> None:
    """A Retry-After beyond the time of one event raises at once; a shorter one is kept to."""
    caller.service.faults.add(Fault(throttle(429, retry_after=7), times=1))
    caller.service.faults.add(Fault(throttle(503, retry_after=60), times=1))

    failure = caller.failure(function)

    assert type(failure) is Unavailable
    assert [request.status for request in caller.service.requests] == [429, 503]
    assert caller.clock.slept == [7]


# Nobody there.


@BOTH
@pytest.mark.parametrize("effect", UNANSWERED.values(), ids=UNANSWERED)
def test_who_does_not_answer_is_left_alone(
    service: FunctionComputeApi, transport: DeadlineTransport, function: FunctionArn, effect: Effect
) -> None:
    """After GUARD_MAX_ATTEMPTS tries no further event goes there; other functions are called."""
    settings = {"GUARD_HTTP_TIMEOUT_SECONDS": "0.3", "GUARD_MAX_ATTEMPTS": "2"}
    caller = Caller(service, transport, environment=settings)
    other = function._replace(name="other")
    service.faults.add(Fault(effect, resource=resource(function)))

    first = caller.failure(function)
    asked = len(service.requests)
    second = caller.failure(function)
    caller.invoke(other)

    assert isinstance(first, Unreachable)
    assert (
        str(first)
        == f"The endpoint of {function} gave no answer: check the region and the network."
    )
    assert (type(second), str(second)) == (Unreachable, str(first))
    assert (asked, len(service.requests), len(caller.clock.slept)) == (2, 3, 1)


def test_a_host_that_is_none_is_left_alone(transport: DeadlineTransport) -> None:
    """Without GUARD_FC_ENDPOINT the function's ARN makes the host, and not every ARN makes one."""
    functions = function_compute(transport, {}, clock=SkippingClock())
    # Longer than a part of a host's name may be: no resolver is asked.
    function = FunctionArn.parse(f"acs:fc:cn-{'h' * 64}:{ACCOUNT}:functions/guard")

    with pytest.raises(Unreachable, match=r"check the region and the network\.$"):
        functions.invoke(function, EVENT)


# Somebody else there.


def answer(status: str, body: bytes = b"", *headers: str) -> Garbage:
    """An answer that the service itself would not give."""
    length = f"Content-Length: {len(body)}"
    lines = [f"HTTP/1.1 {status}", length, "Connection: close", *headers, "", ""]
    return Garbage("\r\n".join(lines).encode() + body)


PAGE = (b"<html>Go away.</html>", "Content-Type: text/html")
FOREIGN: dict[str, tuple[Effect, type[GuardError], str]] = {
    "an HTML 502": (answer("502 Bad Gateway", *PAGE), Unavailable, "502; a later try may succeed."),
    "an HTML 403": (answer("403 Forbidden", *PAGE), ConfigurationError, f"403{RIGHTS}"),
    "a text for an error": (
        answer("400 Bad Request", b'"No."'),
        NotAccepted,
        "400: no message.",
    ),
}


@BOTH
@pytest.mark.parametrize(("effect", "kind", "said"), FOREIGN.values(), ids=FOREIGN)
def test_an_error_in_no_form_counts_by_its_status(
    caller: Caller, function: FunctionArn, effect: Effect, kind: type[GuardError], said: str
) -> None:
    """A proxy's or a balancer's page is told by its status, and read no further."""
    caller.service.faults.add(Fault(effect))

    failure = caller.failure(function)

    assert type(failure) is kind
    assert str(failure) == f"The endpoint of {function} answered {said}"
    assert len(caller.service.requests) == (4 if kind is Unavailable else 1)


DOUBTFUL: dict[str, tuple[Effect, int]] = {
    "a 200 with a body": (GarbageBody(), 200),
    "a 200 without a body": (GarbageBody(b""), 200),
    "a 204": (answer("204 No Content", b"", "X-Fc-Request-Id: request-1"), 204),
    "a 202 without an id": (answer("202 Accepted"), 202),
}


@BOTH
@pytest.mark.parametrize(("effect", "status"), DOUBTFUL.values(), ids=DOUBTFUL)
def test_only_a_202_with_an_id_says_accepted(
    caller: Caller, function: FunctionArn, effect: Effect, status: int
) -> None:
    """Whoever answers otherwise is not Function Compute: the sentence names the endpoint."""
    caller.service.faults.add(Fault(effect))

    failure = caller.failure(function)

    assert isinstance(failure, ConfigurationError)
    assert str(failure).startswith(f"The endpoint of {function} answered {status}")
    assert str(failure).endswith("; check GUARD_FC_ENDPOINT.")
    assert len(caller.service.requests) == 1


@BOTH
@pytest.mark.parametrize("status", [302, 307])
def test_a_redirect_is_not_followed(
    authority: Authority, caller: Caller, function: FunctionArn, status: int
) -> None:
    """Nobody else is sent the event, its signature or the token."""
    with open_api(authority) as elsewhere:
        location = {"Location": f"{elsewhere.url}/elsewhere"}
        caller.service.faults.add(Fault(Refuse(status, "Moved", headers=location)))
        failure = caller.failure(function)

        assert elsewhere.requests == []
    assert isinstance(failure, ConfigurationError)
    assert str(failure).startswith(f"The endpoint of {function} answered {status}")
    assert [request.method for request in caller.service.requests] == ["POST"]


# Secrets.

SECRETS = ("planted-secret", "planted-token", "planted-password")


@dataclass
class Heard:
    """All that a failure could be told to: the log, both streams, and the exceptions."""

    log: io.StringIO
    capsys: pytest.CaptureFixture[str]
    service: FunctionComputeApi
    transport: DeadlineTransport
    told: list[str] = field(default_factory=list)

    def hear(self, call: Callable[[], object]) -> None:
        try:
            call()
        except GuardError as error:
            self.told += [str(error), repr(error), *traceback.format_exception(error)]

    def leaked(self) -> list[str]:
        """Everything secret that anybody could read."""
        streams = self.capsys.readouterr()
        text = "\n".join([*self.told, self.log.getvalue(), streams.out, streams.err])
        sent = [request.headers.get("authorization", "") for request in self.service.requests]
        signatures = [header.rpartition(":")[2] for header in sent if header]
        words = {*SECRETS, *sent, *signatures} - {""}
        return [word for word in words if word in text]


@pytest.fixture
def heard(
    authority: Authority, transport: DeadlineTransport, capsys: pytest.CaptureFixture[str]
) -> Iterator[Heard]:
    """The root logger tells everything there is, from DEBUG on."""
    log = io.StringIO()
    handler = logging.StreamHandler(log)
    handler.setFormatter(logging.Formatter("%(name)s %(levelname)s %(message)s %(pathname)s"))
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    with open_api(authority, STS_KEY) as service:
        yield Heard(log, capsys, service, transport)


EVERY_TROUBLE: dict[str, Effect | None] = {
    "nothing": None,
    **UNANSWERED,
    **{name: effect for name, (effect, *_) in FOREIGN.items()},
    "403": Refuse(403),
    "503": Refuse(503),
    "a redirect": Refuse(307, headers={"Location": "/elsewhere"}),
}


@BOTH
@pytest.mark.parametrize("effect", EVERY_TROUBLE.values(), ids=EVERY_TROUBLE)
def test_no_trouble_tells_a_secret(
    heard: Heard, function: FunctionArn, effect: Effect | None
) -> None:
    """Whatever happens, neither log nor streams nor exceptions hold secret, token or signature."""
    settings = {"GUARD_HTTP_TIMEOUT_SECONDS": "0.2", "GUARD_MAX_ATTEMPTS": "2"}
    if effect:
        heard.service.faults.add(Fault(effect))
    caller = Caller(heard.service, heard.transport, STS_KEY, settings)

    # The second time it may be told from memory.
    heard.hear(lambda: caller.invoke(function))
    heard.hear(lambda: caller.invoke(function))

    assert heard.leaked() == []
    assert heard.service.requests[0].headers["x-fc-security-token"] == "planted-token"


WRONG_KEYS = {
    "a wrong secret": replace(STS_KEY, secret="planted-secret-but-wrong"),
    "a wrong token": replace(STS_KEY, security_token="planted-token-but-wrong"),
    "an unknown key": replace(STS_KEY, id="LTAIunknown"),
    # The service quotes an authorization that it cannot read, signature and all.
    "a key with a space": replace(STS_KEY, id="STS.planted keyid"),
    "a key with a newline": replace(STS_KEY, id="STS.planted\nkeyid"),
    "a token with a newline": replace(STS_KEY, security_token="planted-token\nplanted-token"),
    "a token that no header can hold": replace(STS_KEY, security_token="planted-token…"),
}


@BOTH
@pytest.mark.parametrize("key", WRONG_KEYS.values(), ids=WRONG_KEYS)
def test_no_wrong_key_is_told(heard: Heard, function: FunctionArn, key: AccessKey) -> None:
    """A key that was copied wrongly is as secret as the right one, and never a crash."""
    caller = Caller(heard.service, heard.transport, key)

    heard.hear(lambda: caller.invoke(function))

    assert len(heard.told) > 2
    assert heard.leaked() == []


@BOTH
def test_a_key_is_not_replaced_by_a_password(
    heard: Heard, function: FunctionArn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ~/.netrc, which is for other programs, changes no signature and is shown to nobody."""
    (tmp_path / "netrc").write_text("default login planted-login password planted-password\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    caller = Caller(heard.service, heard.transport, STS_KEY)

    heard.hear(lambda: caller.invoke(function))

    assert (heard.told, heard.leaked()) == ([], [])
    (request,) = heard.service.requests
    assert request.headers["authorization"].startswith("FC STS.plantedkeyid:")


def test_other_lines_are_still_logged(heard: Heard) -> None:
    """Only the client is silent: what others log on the root logger is heard, as before."""
    Caller(heard.service, heard.transport, STS_KEY).invoke(VERSION_3)

    logging.getLogger().warning("from the root")
    logging.getLogger("another").debug("from another")

    assert "root WARNING from the root" in heard.log.getvalue()
    assert "another DEBUG from another" in heard.log.getvalue()


def test_silence_is_kept_once(service: FunctionComputeApi, transport: DeadlineTransport) -> None:
    """However many clients there are, a bare root logger has one handler, which says nothing."""
    root = logging.getLogger()
    root.handlers, level = [], root.level

    Caller(service, transport).invoke(VERSION_3)
    filters = root.filters[:]
    Caller(service, transport)

    (handler,) = root.handlers
    assert type(handler) is logging.NullHandler
    assert (root.filters, root.level) == (filters, level)


# What is deployed.

CONFIGURATION = {
    "functionName": "guard",
    "runtime": "python3.12",
    "environmentVariables": {"GUARD_MODE": "detect"},
}


def never(_event: bytes) -> Any:
    """A function that nobody invokes."""
    raise AssertionError


@pytest.fixture
def reader(authority: Authority, transport: DeadlineTransport) -> Iterator[Caller]:
    """A caller where one function can be asked for."""
    deployed = {"guard": Deployed(CONFIGURATION, {}, {}, never)}
    with FunctionComputeApi(KEY, functions={}, deployed=deployed, authority=authority) as service:
        yield Caller(service, transport)


def test_a_deployed_function_can_be_read(reader: Caller) -> None:
    """Its configuration is what the service has, and nothing was invoked."""
    assert reader.functions.read_function(VERSION_3) == CONFIGURATION

    (request,) = reader.service.requests
    assert (request.operation, request.method) == ("GetFunction", "GET")
    assert "x-fc-invocation-type" not in request.headers


def test_a_function_that_is_not_there_is_none(reader: Caller) -> None:
    """Nothing is deployed yet."""
    assert reader.functions.read_function(VERSION_3._replace(name="other")) is None


def test_a_repeat_helps_a_reader_too(reader: Caller) -> None:
    """A service that is busy for a moment is asked again."""
    reader.service.faults.add(Fault(Refuse(503), times=1), Fault(Reset(), times=1))

    assert reader.functions.read_function(VERSION_3) == CONFIGURATION


@pytest.mark.parametrize(
    ("effect", "error", "sentence"),
    [
        (Refuse(403), ConfigurationError, "answered 403 AccessDenied; check the credentials"),
        (Refuse(404, "DomainNameNotFound"), ConfigurationError, "404 DomainNameNotFound"),
        (Refuse(503), Unavailable, "answered 503 ResourceThrottled; a later try may succeed"),
        (GarbageBody(b"[]"), ConfigurationError, "answered 200; check the credentials"),
        (GarbageBody(b'{"a": 1}'), ConfigurationError, "answered 200; check the credentials"),
        (Reset(), Unreachable, "gave no answer"),
    ],
    ids=["no right", "another 404", "busy", "no object", "another object", "no answer"],
)
def test_what_cannot_be_read_is_no_absence(
    reader: Caller, effect: Effect, error: type[GuardError], sentence: str
) -> None:
    """Only the service's own word says that there is no function."""
    reader.service.faults.add(Fault(effect))

    with pytest.raises(error, match=sentence):
        reader.functions.read_function(VERSION_3)
