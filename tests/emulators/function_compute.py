"""A stand-in for Function Compute: runs one function in processes of its own and delivers to it.

An instance serves one request at a time. It is kept warm after an answer, also after an exception;
after a time-out, a death or a failed start the next request gets a new one.
"""

import base64
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass

from tests.emulators.function_instance import Function, Instance, InstanceDiedError, Message
from tests.emulators.running import Running

MAX_ASYNC_EVENT_BYTES = 128 * 1024
UNHANDLED = "UnhandledInvocationError"
TIMED_OUT = "FunctionTimedOut"
# A guess: the condition for an event that grew too old is not documented.
TOO_OLD = "AsyncEventExpired"


@dataclass(frozen=True)
class Kill:
    """The process dies so many milliseconds after the handler was called."""

    after_ms: int


@dataclass(frozen=True)
class Freeze:
    """It stands still from then on, until the function's time-out."""

    after_ms: int


@dataclass(frozen=True)
class Recycle:
    """The platform gives the instance up after its answer."""


Interruption = Kill | Freeze | Recycle
Chaos = Callable[[bytes], Interruption | None]


@dataclass(frozen=True)
class Credentials:
    """What the function's role gets for one invocation."""

    access_key_id: str = "STS.EmulatedKeyId"
    access_key_secret: str = "emulated-secret"
    security_token: str = "emulated-token"


@dataclass(frozen=True)
class Invocation:
    """One try. `error` is FC's report; `condition` its class, as the destination record has it."""

    request_id: str
    result: str | None
    error: Message | None
    condition: str | None
    logs: str
    seconds: float
    cold_start: bool


class FunctionCompute(Running):
    """The platform around one function: synchronous and asynchronous invocations of it."""

    def __init__(
        self,
        function: Function,
        *,
        credentials: Callable[[], Credentials] = Credentials,
        max_retries: int = 3,
        backoff_seconds: float = 0.005,
        on_failure: Callable[[bytes], object] | None = None,
        chaos: Chaos | None = None,
        instances: int = 1,
        max_age_seconds: float = 86400,
    ) -> None:
        """`chaos` gets the event of each try and says what befalls the process.

        `instances` is how many run at a time: what is more waits, and an asynchronous event that
        waits for longer than `max_age_seconds` is given up.
        """
        if not 0 <= max_retries <= 8:
            raise ValueError(f"max_retries is {max_retries}, 0 to 8 are allowed")
        self.function = function
        self._credentials = credentials
        self._max_retries = max_retries
        self._backoff_seconds = backoff_seconds
        self._on_failure = on_failure
        self._chaos = chaos or (lambda _event: None)
        self._instances = instances
        self._max_age_seconds = max_age_seconds
        self._places = threading.Semaphore(instances)
        self._warm: list[Instance] = []
        self._at_work: dict[Instance, bytes] = {}
        self._stopped = False

    def stop(self) -> None:
        """Let what runs come to its end, then end every process."""
        self._stopped = True
        for _ in range(self._instances):
            self._places.acquire()
        while self._warm:
            self._warm.pop().close()
        self._places.release(self._instances)

    def invoke(self, event: bytes) -> Invocation:
        """A synchronous invocation: one try, never repeated by the platform."""
        return self._try(event, str(uuid.uuid4()))

    def deliver(self, event: bytes) -> list[Invocation]:
        """An asynchronous invocation: every try. What failed to the end goes to `on_failure`."""
        if len(event) > MAX_ASYNC_EVENT_BYTES:
            raise ValueError(f"413: {len(event)} bytes, an asynchronous event may have 128 KB")
        request_id = str(uuid.uuid4())
        given_up_at = time.monotonic() + self._max_age_seconds
        tries = [self._try(event, request_id, until=given_up_at)]
        while self._is_repeated(tries):
            time.sleep(self._backoff_seconds * 2 ** (len(tries) - 1))
            tries.append(self._try(event, request_id, until=given_up_at))
        if tries[-1].error is not None and self._on_failure is not None:
            self._on_failure(self._destination_record(event, tries))
        return tries

    def _is_repeated(self, tries: list[Invocation]) -> bool:
        last = tries[-1]
        has_failed = last.error is not None and last.condition != TOO_OLD
        return has_failed and len(tries) <= self._max_retries

    def strike(self, concerned: Callable[[bytes], bool]) -> None:
        """Kill every process that is at work on such an event."""
        for instance, event in list(self._at_work.items()):
            if concerned(event):
                instance.kill()

    def _destination_record(self, event: bytes, tries: list[Invocation]) -> bytes:
        record = {
            "timestamp": time.time_ns() // 1_000_000,
            "requestContext": {
                "requestId": tries[-1].request_id,
                "functionArn": self.function.arn,
                "condition": tries[-1].condition,
                "approximateInvokeCount": len(tries),
            },
            "requestPayload": event.decode(errors="replace"),
            "responseContext": {"statusCode": 200, "functionError": tries[-1].condition},
            "responsePayload": json.dumps(tries[-1].error),
        }
        return json.dumps(record).encode()

    def _try(self, event: bytes, request_id: str, *, until: float | None = None) -> Invocation:
        started = time.monotonic()
        left = None if until is None else max(until - started, 0.0)
        if not self._places.acquire(timeout=left):
            late = _failure(TOO_OLD, "the event waited for too long")
            waited = time.monotonic() - started
            return Invocation(request_id, None, late["error"], TOO_OLD, "", waited, False)
        with self._instance() as (instance, cold):
            started = time.monotonic()
            answer = self._answer(instance, event, request_id, cold)
            return Invocation(
                request_id=request_id,
                result=answer.get("result"),
                error=answer.get("error"),
                condition=answer.get("condition", UNHANDLED if "error" in answer else None),
                logs=instance.new_logs(),
                seconds=time.monotonic() - started,
                cold_start=cold,
            )

    @contextmanager
    def _instance(self) -> Iterator[tuple[Instance, bool]]:
        """A warm instance or a new one, for a place that was taken, and whether it is new."""
        try:
            if self._stopped:
                raise RuntimeError("this Function Compute was stopped")
            instance, cold = self._warm_or_new()
            try:
                yield instance, cold
            except BaseException:
                instance.kill()
                raise
            finally:
                if instance.alive:
                    self._warm.append(instance)
                else:
                    instance.close()
        finally:
            self._places.release()

    def _warm_or_new(self) -> tuple[Instance, bool]:
        # Not a question first: another thread may take the last warm one in between.
        try:
            return self._warm.pop(), False
        except IndexError:
            return Instance(self.function), True

    def _answer(self, instance: Instance, event: bytes, request_id: str, cold: bool) -> Message:
        """What the function says; an instance that cannot be used again is not alive after it."""
        request = {"request_id": request_id, "credentials": asdict(self._credentials())}
        payload = base64.b64encode(event).decode()
        interruption = self._chaos(event)
        try:
            if cold:
                limit = self.function.initialization_timeout_seconds
                started = instance.ask({**request, "start": self.function.as_message()}, limit)
                if "error" in started:
                    instance.kill()
                    return started
            limit = self.function.timeout_seconds
            self._at_work[instance] = event
            with _interrupted(instance, interruption):
                return instance.ask({**request, "event": payload}, limit)
        except TimeoutError:
            return _failure(TIMED_OUT, f"Function time out after {limit:g} seconds")
        except InstanceDiedError:
            return _failure(UNHANDLED, "Process exited unexpectedly before completing request")
        finally:
            self._at_work.pop(instance, None)


@contextmanager
def _interrupted(instance: Instance, interruption: Interruption | None) -> Iterator[None]:
    with ExitStack() as stack:
        match interruption:
            case Kill(after_ms):
                stack.enter_context(_later(after_ms, instance.kill))
            case Freeze(after_ms):
                stack.enter_context(_later(after_ms, instance.freeze))
            case Recycle():
                stack.callback(instance.kill)
        yield


@contextmanager
def _later(milliseconds: int, act: Callable[[], object]) -> Iterator[None]:
    timer = threading.Timer(milliseconds / 1000, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


def _failure(condition: str, message: str) -> Message:
    error = {"errorMessage": message, "errorType": condition}
    return {"error": error, "condition": condition}
