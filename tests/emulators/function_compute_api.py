"""Function Compute's door on loopback: invocations, and what is asked of functions, over HTTP.

https://www.alibabacloud.com/help/en/functioncompute/error-codes
https://help.aliyun.com/en/functioncompute/fc-2-0/developer-reference/signature-authentication
3.0 is signed as its own SDK signs (`alibabacloud_fc20230330` 4.8.3), or as Serverless Devs does.
"""

import concurrent.futures
import hmac
import json
import re
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any
from urllib.parse import unquote

from fc2.auth import Auth

from tests.emulators import acs3_access
from tests.emulators.access_keys import AccessKey
from tests.emulators.emulated_service import (
    Call,
    Clock,
    EmulatedService,
    RefusedError,
    refuse,
    utc_now,
)
from tests.emulators.faults import Faults, Refuse
from tests.emulators.function_compute import MAX_ASYNC_EVENT_BYTES, Invocation
from tests.emulators.server import Authority
from tests.emulators.wire import LOOPBACK_HOSTS, Answer, Request

LARGEST_SKEW = timedelta(minutes=15)
VERSION_3 = "/2023-03-30/"
PATH = re.compile(
    r"(?:/2016-08-15/services/(?P<service>[^/.]+)(?:\.(?P<qualifier>[^/]+))?|/2023-03-30)"
    r"/functions/(?P<function>[^/]+)/invocations"
)
DESCRIPTION = re.compile(
    r"/2023-03-30/functions/(?P<function>[^/]+)"
    r"(?:/triggers/(?P<trigger>[^/]+)|/(?P<config>async-invoke-config|concurrency))?"
)
HOST = re.compile(
    r"(?:(?P<account>[0-9]+)\.[a-z0-9-]+\.fc|fcv3\.(?P<region>[a-z0-9-]+))\.aliyuncs\.com"
)
AUTHORIZATION = re.compile(r"FC (?P<access_key_id>[^:\s]+):\S+")

DEFAULT_CODES = {
    400: "InvalidArgument",
    403: "AccessDenied",
    404: "FunctionNotFound",
    429: "ResourceExhausted",
    503: "ResourceThrottled",
}

Deliver = Callable[[bytes], object]


@dataclass(frozen=True)
class _Asked:
    """What a path names. `key` is the function's name in 3.0, where what came over from 2.0 is
    called service$function."""

    service: str | None
    function: str
    qualifier: str | None

    @property
    def key(self) -> str:
        return self.function if self.service is None else f"{self.service}${self.function}"


@dataclass(frozen=True)
class Deployed:
    """What the service tells of a function, and what a synchronous invocation of it does.

    https://www.alibabacloud.com/help/en/functioncompute/fc/developer-reference/api-fc-2023-03-30-getfunction
    """

    function: Mapping[str, object]
    triggers: Mapping[str, Mapping[str, object]]
    async_config: Mapping[str, object]
    invoke: Callable[[bytes], Invocation]
    concurrency: Mapping[str, object] | None = None


class FunctionComputeApi(EmulatedService):
    """The service; the functions belong to the account of its first key.

    `functions` says for each name what takes its events, in one of `workers` threads: nobody waits
    for it but `join` and `stop`. `accepted` holds every event that was answered with a 202.
    What is `deployed` can be asked for, and invoked synchronously; the rest cannot.
    """

    server_name = "FunctionCompute"
    request_id_header = "X-Fc-Request-Id"

    def __init__(
        self,
        *access_keys: AccessKey,
        functions: Mapping[str, Deliver],
        region: str = "cn-hangzhou",
        deployed: Mapping[str, Deployed] | None = None,
        workers: int = 4,
        authority: Authority | None = None,
        host_names: Sequence[str] = (),
        faults: Faults | None = None,
        clock: Clock = utc_now,
    ) -> None:
        super().__init__(
            *access_keys, authority=authority, host_names=host_names, faults=faults, clock=clock
        )
        self.accepted: list[tuple[str, bytes]] = []
        self._owner = access_keys[0].account_id
        self._region = region
        self._nonces = acs3_access.Nonces()
        self._functions = dict(functions)
        self.deployed = dict(deployed or {})
        self._workers = concurrent.futures.ThreadPoolExecutor(workers)
        self._deliveries: list[concurrent.futures.Future[object]] = []
        self._lock = threading.Lock()

    def deploy(self, name: str, deliver: Deliver, description: Deployed | None = None) -> None:
        """One more function takes events from now on, and can be asked for if it is described."""
        self._functions[name] = deliver
        if description:
            self.deployed[name] = description

    def join(self, timeout: float) -> None:
        """Wait until all that was accepted is delivered; raises what a delivery raised."""
        with self._lock:
            deliveries = list(self._deliveries)
        done, waiting = concurrent.futures.wait(deliveries, timeout)
        if waiting:
            raise TimeoutError(f"{len(waiting)} deliveries are not done")
        for delivery in done:
            delivery.result()

    def stop(self) -> None:
        """Close every connection, then let the deliveries come to their end."""
        super().stop()
        self._workers.shutdown()

    def new_request_id(self) -> str:
        return str(uuid.uuid4())

    def classify(self, request: Request) -> tuple[str | None, str | None]:
        asked = _asked(request)
        if asked is not None:
            return "InvokeFunction", asked.key
        described = _described(request)
        return (None, None) if described is None else (_get(described), described["function"])

    def perform(self, call: Call) -> Answer:
        request = call.request
        asked = _asked(request)
        if (described := _described(request)) is not None:
            return self._describe(call, described)
        if asked is None:
            against = f"'{request.method}' against '{request.path}'"
            raise refuse(400, "PathNotSupported", f"{against} is not supported")
        key = self._caller(call)
        self._check_account(request, key)
        self._check_right(key, "InvokeFunction", asked.key)
        if request.headers.get("x-fc-invocation-type") == "Sync" and asked.key in self.deployed:
            return _invoked(self.deployed[asked.key], request.body)
        deliver = self._found(asked)
        _check_event(request)
        with self._lock:
            self.accepted.append((asked.key, request.body))
            self._deliveries.append(self._workers.submit(deliver, request.body))
        return Answer(202)

    def refused(self, refusal: Refuse, call: Call, /) -> Answer:
        code = refusal.code or DEFAULT_CODES.get(refusal.status, "InternalServerError")
        if call.request.path.startswith(VERSION_3):
            # https://help.aliyun.com/zh/functioncompute/api-fc-2023-03-30-struct-error
            fields = {"Code": code, "Message": refusal.message, "RequestId": call.request_id}
        else:
            # The page of error codes has a small e. What the service sends and fc2 reads has not:
            # https://github.com/aliyun/fc-nodejs-sdk/issues/43
            fields = {"ErrorCode": code, "ErrorMessage": refusal.message}
        headers = {"Content-Type": "application/json", **refusal.headers}
        return Answer(refusal.status, headers, json.dumps(fields).encode())

    def _describe(self, call: Call, described: re.Match[str]) -> Answer:
        key = self._caller(call)
        self._check_account(call.request, key)
        name = unquote(described["function"])
        self._check_right(key, _get(described), name)
        deployed = self.deployed.get(name)
        if deployed is None:
            raise refuse(404, "FunctionNotFound", f"function '{name}' does not exist")
        if described["trigger"]:
            told = deployed.triggers.get(described["trigger"])
        else:
            told = {
                None: deployed.function,
                "async-invoke-config": deployed.async_config,
                "concurrency": deployed.concurrency,
            }[described["config"]]
        if told is None:
            # The code for a concurrency that is not reserved is a guess.
            code = "TriggerNotFound" if described["trigger"] else "ConcurrencyConfigNotExists"
            raise refuse(404, code, f"'{call.request.path}' does not exist")
        return Answer(200, {"Content-Type": "application/json"}, json.dumps(told).encode())

    def _caller(self, call: Call) -> AccessKey:
        """The key that signed: 3.0 takes the signature of its own SDK, and also the older one."""
        request = call.request
        is_acs3 = request.headers.get("authorization", "").startswith(acs3_access.ALGORITHM)
        if not (is_acs3 and request.path.startswith(VERSION_3)):
            return authenticate(request, self.keys, call.now)
        key = acs3_access.authenticate(request, self.keys, call.now)
        self._nonces.check(request)
        return key

    def _check_account(self, request: Request, key: AccessKey) -> None:
        match = HOST.fullmatch(request.host)
        is_elsewhere = match is not None and match["region"] not in (None, self._region)
        if is_elsewhere or (match is None and request.host not in LOOPBACK_HOSTS):
            message = f"domain name '{request.host}' does not exist"
            raise refuse(404, "DomainNameNotFound", message)
        asked_of = match["account"] if match and match["account"] else self._owner
        if {key.account_id, asked_of} != {self._owner}:
            raise _access_denied("The service or function doesn't belong to you.")

    def _check_right(self, key: AccessKey, operation: str, function: str) -> None:
        action, name = f"fc:{operation}", f"functions/{function}"
        if not self.rights.allow(key, action, f"acs:fc:{self._region}:{self._owner}:{name}"):
            raise _access_denied(
                f"the caller is not authorized to perform '{action}' on resource '{name}'"
            )

    def _found(self, asked: _Asked) -> Deliver:
        service = asked.service
        if service and not any(key.startswith(f"{service}$") for key in self._functions):
            raise refuse(404, "ServiceNotFound", f"service '{service}' does not exist")
        owner = f"service '{service}'" if service else f"function '{asked.function}'"
        if asked.key not in self._functions:
            missing = f"function '{asked.function}' does not exist"
            raise refuse(404, "FunctionNotFound", f"{missing} in {owner}" if service else missing)
        if asked.qualifier not in (None, "LATEST"):
            kind = "version" if asked.qualifier.isdecimal() else "alias"
            message = f"{kind} '{asked.qualifier}' of {owner} does not exist"
            raise refuse(404, f"{kind.title()}NotFound", message)
        return self._functions[asked.key]


def deployed(props: Mapping[str, Any]) -> Deployed:
    """What the service tells of a function that fc3 made of these properties.

    In the form of the vendor's SDK (`alibabacloud_fc20230330` 4.8.3).
    """
    triggers = {each["triggerName"]: _trigger(each) for each in props.get("triggers", ())}
    elsewhere = {"region", "code", "triggers", "asyncInvokeConfig", "concurrencyConfig"}
    settings = {name: value for name, value in props.items() if name not in elsewhere}
    settings |= {
        "layers": [{"arn": arn, "size": 1} for arn in props.get("layers", ())],
        "tags": [{"Key": tag["key"], "Value": tag["value"]} for tag in props.get("tags", ())],
        # It tells more than what fc3 sent.
        "instanceConcurrency": 1,
        "internetAccess": True,
        "state": "Active",
    }
    return Deployed(
        {"environmentVariables": {}, **settings},
        triggers,
        {"asyncTask": False, **props.get("asyncInvokeConfig", {})},
        _never,
        props.get("concurrencyConfig"),
    )


def _trigger(trigger: Mapping[str, Any]) -> dict[str, Any]:
    config = json.dumps(trigger["triggerConfig"])
    return {**trigger, "triggerConfig": config, "qualifier": "LATEST", "status": "Enabled"}


def _never(_event: bytes) -> Any:
    raise AssertionError("nobody invokes it through this door")


def authenticate(request: Request, keys: Mapping[str, AccessKey], now: datetime) -> AccessKey:
    """The key that signed the request."""
    if "date" not in request.headers:
        message = "required HTTP header Date was not specified"
        raise refuse(400, "MissingRequiredHeader", message)
    authorization = request.headers.get("authorization", "")
    match = AUTHORIZATION.fullmatch(authorization)
    if match is None:
        # The page on signatures promises a 403; seen was this, also for none at all.
        raise refuse(400, "InvalidArgument", f"invalid authorization '{authorization}'")
    key = keys.get(match["access_key_id"])
    if key is None:
        raise _unknown_key(match["access_key_id"])
    _check_date(request.headers["date"], now)
    _check_token(request, key, now)
    _check_signature(request, key, authorization)
    return key


def _asked(request: Request) -> _Asked | None:
    match = PATH.fullmatch(request.path)
    if match is None or request.method != "POST":
        return None
    named = {name: value and unquote(value) for name, value in match.groupdict().items()}
    if named["service"] is None:
        named["qualifier"] = request.parameters.get("qualifier")
    return _Asked(named["service"], named["function"], named["qualifier"])


def _described(request: Request) -> re.Match[str] | None:
    return DESCRIPTION.fullmatch(request.path) if request.method == "GET" else None


def _get(described: re.Match[str]) -> str:
    """The operation, as a policy names it."""
    if described["trigger"]:
        return "GetTrigger"
    return {
        None: "GetFunction",
        "async-invoke-config": "GetFunctionAsyncInvokeConfig",
        "concurrency": "GetConcurrencyConfig",
    }[described["config"]]


def _invoked(deployed: Deployed, event: bytes) -> Answer:
    """https://www.alibabacloud.com/help/en/functioncompute/fc/error-handling-1-1"""
    invocation = deployed.invoke(event)
    if invocation.error is None:
        return Answer(200, {}, (invocation.result or "").encode())
    report = json.dumps(invocation.error).encode()
    return Answer(200, {"X-Fc-Error-Type": invocation.condition or ""}, report)


def _unknown_key(access_key_id: str) -> RefusedError:
    return refuse(403, "InvalidAccessKeyID", f"invalid access key ID '{access_key_id}'")


def _access_denied(message: str) -> RefusedError:
    return refuse(403, "AccessDenied", message)


def _check_date(date: str, now: datetime) -> None:
    try:
        sent_at = parsedate_to_datetime(date)
    except ValueError as error:
        raise refuse(400, "InvalidArgument", f"invalid date '{date}'") from error
    if abs(now - sent_at.replace(tzinfo=timezone.utc)) > LARGEST_SKEW:
        # Status and message as seen, https://github.com/alibaba/funcraft/issues/983; of the codes
        # that are documented for a 403 only this one is not about something else.
        raise _access_denied(
            f"the difference between the request time '{date}' and the current time "
            f"'{format_datetime(now, usegmt=True)}' is too large"
        )


def _check_token(request: Request, key: AccessKey, now: datetime) -> None:
    token = request.headers.get("x-fc-security-token")
    if token is None and key.security_token is not None:
        # Without its token, a temporary key is in nobody's records.
        raise _unknown_key(key.id)
    # Both codes are those of the vendor's other services: nothing says what this one answers.
    if token != key.security_token:
        raise refuse(403, "InvalidSecurityToken", "The security token you provided is invalid.")
    if key.expired(now):
        raise refuse(403, "SecurityTokenExpired", "The security token you provided has expired.")


def _check_signature(request: Request, key: AccessKey, authorization: str) -> None:
    official = Auth(key.id, key.secret)
    # fc2 signs a query for HTTP triggers and leaves it out everywhere else. Which of them holds
    # for a qualifier in 3.0, where fc2 never was, is not documented: either will do.
    queries = [None, request.parameters] if request.query else [None]
    signatures: list[str] = [
        official.sign_request(request.method, unquote(request.path), request.headers, query)
        for query in queries
    ]
    if not any(hmac.compare_digest(signature, authorization) for signature in signatures):
        raise refuse(
            403,
            "SignatureNotMatch",
            "The request signature we calculated does not match the signature you provided. "
            "Check your access key and signing method.",
        )


def _check_event(request: Request) -> None:
    if request.headers.get("x-fc-invocation-type") != "Async":
        message = "the emulator takes asynchronous invocations only"
        raise refuse(400, "InvalidArgument", message)
    if len(request.body) > MAX_ASYNC_EVENT_BYTES:
        message = f"payload size exceeds maximum allowed size ({MAX_ASYNC_EVENT_BYTES} bytes)"
        raise refuse(400, "EntityTooLarge", message)
