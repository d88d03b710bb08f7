"""The emulated Function Compute: how it runs, ends, repeats and reports a function."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.emulators.function_compute import (
    Credentials,
    Freeze,
    FunctionCompute,
    Kill,
    Recycle,
)
from tests.emulators.function_instance import Function

ECHO = "def handler(event, context): return event"
RAISE = "def handler(event, context): raise KeyError('no such bucket')"
HANG = """
import time
def handler(event, context):
    print("waiting")
    time.sleep(60 if event == b"hang" else 0)
"""
SLOW = """
import time
def handler(event, context):
    time.sleep(0.2)
"""
EXIT = """
import os
import threading
def handler(event, context):
    print("leaving")
    os._exit(0)
"""
SHOW = """
import os, sys
def shape(value):
    if not hasattr(value, "__dict__"):
        return value
    return {key: shape(inner) for key, inner in vars(value).items()}
def handler(event, context):
    return {
        "event": type(event).__name__,
        "path": sys.path[:2],
        "folder": os.getcwd(),
        "environment": dict(os.environ),
        "context": shape(context),
    }
"""
COUNT = """
import logging
started = 0
def initialize(context):
    global started
    started += 1
def handler(event, context):
    print("printed")
    logging.getLogger().info("logged")
    return started
"""

Run = Callable[..., FunctionCompute]

# Each test starts processes.
pytestmark = pytest.mark.slow


@pytest.fixture
def deploy(tmp_path: Path) -> Iterator[Run]:
    """Deploys source code as index.py; whatever it started is stopped at the end."""
    with ExitStack() as running:

        def run(source: str, *, function: dict[str, Any] | None = None, **platform: Any) -> Any:
            (tmp_path / "index.py").write_text(source)
            deployed = Function(code=tmp_path, **(function or {}))
            return running.enter_context(FunctionCompute(deployed, **platform))

        yield run


def test_the_context_of_python_3_12(deploy: Run) -> None:
    """It has neither credentials nor a service; the version belongs to the function."""
    invocation = deploy(SHOW, function={"timeout_seconds": 7, "memory_mb": 512}).invoke(b"")

    assert json.loads(invocation.result or "")["context"] == {
        "request_id": invocation.request_id,
        "function": {
            "name": "encrypt-on-create",
            "handler": "index.handler",
            "memory": 512,
            "timeout": 7,
            "version_id": "LATEST",
            "qualifier": "LATEST",
        },
        "region": "cn-hangzhou",
        "account_id": "1234567890123456",
        "log_project": "emulated-project",
        "log_store": "emulated-store",
        "logger": None,
    }


def test_the_context_of_python_3_10(deploy: Run) -> None:
    """It has credentials and a service, and the log and the version belong to the service."""
    invocation = deploy(SHOW, function={"runtime": "python3.10"}).invoke(b"")

    assert json.loads(invocation.result or "")["context"] == {
        "request_id": invocation.request_id,
        "function": {
            "name": "encrypt-on-create",
            "handler": "index.handler",
            "memory": 256,
            "timeout": 10,
        },
        "service": {
            "name": "",
            "log_project": "emulated-project",
            "log_store": "emulated-store",
            "version_id": "LATEST",
            "qualifier": "LATEST",
        },
        "credentials": {
            "access_key_id": "STS.EmulatedKeyId",
            "access_key_secret": "emulated-secret",
            "security_token": "emulated-token",
        },
        "region": "cn-hangzhou",
        "account_id": "1234567890123456",
    }


def test_the_environment_is_the_function_s_own(
    deploy: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is what was deployed and what the platform sets, and nothing of this process."""
    monkeypatch.setenv("GUARD_MODE", "of the test process")

    invocation = deploy(SHOW, function={"environment": {"LOG_LEVEL": "INFO"}}).invoke(b"")

    environment = json.loads(invocation.result or "")["environment"]
    assert environment.keys() - {"PATH", "LD_LIBRARY_PATH", "LC_CTYPE"} == {
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_SECURITY_TOKEN",
        "FC_ACCOUNT_ID",
        "FC_FUNCTION_HANDLER",
        "FC_FUNCTION_MEMORY_SIZE",
        "FC_FUNCTION_NAME",
        "FC_FUNCTION_VERSION",
        "FC_FUNC_CODE_PATH",
        "FC_INSTANCE_ID",
        "FC_REGION",
        "LOG_LEVEL",
    }
    assert environment["FC_FUNC_CODE_PATH"] == str(tmp_path)


def test_credentials_are_new_in_every_invocation(deploy: Run) -> None:
    """A warm instance finds the rotated key in its environment."""
    keys = iter(["first", "second"])
    cloud = deploy(SHOW, credentials=lambda: Credentials(access_key_id=next(keys)))

    invocations = [cloud.invoke(b""), cloud.invoke(b"")]

    found = [json.loads(invocation.result or "")["environment"] for invocation in invocations]
    assert [found["ALIBABA_CLOUD_ACCESS_KEY_ID"] for found in found] == ["first", "second"]
    assert [invocation.cold_start for invocation in invocations] == [True, False]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (f"{ECHO}\ndef initialize(context): raise OSError('no disk')", "no disk"),
        ("import no_such_package", "No module named 'no_such_package'"),
    ],
)
def test_a_failed_start_fails_the_invocation(deploy: Run, source: str, message: str) -> None:
    """The exception is the invocation's, and the next one gets a new instance."""
    cloud = deploy(source, function={"initializer": "index.initialize"})

    failures = [cloud.invoke(b""), cloud.invoke(b"")]

    assert [failure.error and failure.error["errorMessage"] for failure in failures] == [
        message,
        message,
    ]
    assert [failure.cold_start for failure in failures] == [True, True]


def test_a_warm_invocation_has_its_own_logs_and_no_start(deploy: Run) -> None:
    """What was printed is raw, what was logged carries time, request id and level."""
    cloud = deploy(COUNT, function={"initializer": "index.initialize"})
    cloud.invoke(b"")

    invocation = cloud.invoke(b"")

    printed, logged = invocation.logs.splitlines()
    assert invocation.result == "1"
    assert printed == "printed"
    assert logged.endswith(f"Z {invocation.request_id} [INFO] logged")


def test_an_exception_is_reported_and_the_instance_stays_warm(deploy: Run, tmp_path: Path) -> None:
    """The report has message, type and the stack of the function's own frames."""
    cloud = deploy(RAISE)

    invocation, later = cloud.invoke(b""), cloud.invoke(b"")

    assert invocation.result is None
    assert invocation.condition == "UnhandledInvocationError"
    assert invocation.error == {
        "errorMessage": "'no such bucket'",
        "errorType": "KeyError",
        "stackTrace": [[f'File "{tmp_path / "index.py"}"', "line 1", "in handler", RAISE]],
    }
    assert not later.cold_start


def test_a_time_out_kills_the_instance(deploy: Run) -> None:
    """What was printed until then is kept, and the next invocation starts cold."""
    cloud = deploy(HANG, function={"timeout_seconds": 0.5})

    late, later = cloud.invoke(b"hang"), cloud.invoke(b"")

    assert late.condition == "FunctionTimedOut"
    assert late.error == {
        "errorMessage": "Function time out after 0.5 seconds",
        "errorType": "FunctionTimedOut",
    }
    assert late.logs == "waiting\n"
    assert later.result == "null"
    assert later.cold_start


def test_a_process_that_leaves_is_an_unhandled_error(deploy: Run) -> None:
    """An exit without an answer fails the invocation, and the next one starts cold."""
    cloud = deploy(EXIT)

    left, later = cloud.invoke(b""), cloud.invoke(b"")

    assert left.condition == "UnhandledInvocationError"
    assert left.error == {
        "errorMessage": "Process exited unexpectedly before completing request",
        "errorType": "UnhandledInvocationError",
    }
    assert left.logs == "leaving\n"
    assert later.cold_start


@pytest.mark.parametrize(
    ("interruption", "condition"),
    [(Kill(20), "UnhandledInvocationError"), (Freeze(10), "FunctionTimedOut")],
)
def test_chaos_interrupts_an_invocation(
    deploy: Run, interruption: Kill | Freeze, condition: str
) -> None:
    """A process that is killed has died; a frozen one answers nothing until its time-out."""
    cloud = deploy(
        SLOW,
        function={"timeout_seconds": 2},
        chaos=lambda event: interruption if event else None,
    )

    interrupted, later = cloud.invoke(b"interrupted"), cloud.invoke(b"")

    assert interrupted.condition == condition
    assert later.error is None


def test_a_recycled_instance_answers_and_is_not_used_again(deploy: Run) -> None:
    """The platform may give up any instance between two events: the next start is a cold one."""
    cloud = deploy(ECHO, chaos=lambda event: Recycle() if event == b"last" else None)

    cold, warm, last, anew = (cloud.invoke(event) for event in (b"", b"", b"last", b""))

    assert [each.cold_start for each in (cold, warm, last, anew)] == [True, False, False, True]
    assert last.result == "last"


def test_instances_work_at_a_time(deploy: Run) -> None:
    """Two invocations that wait for each other both end when two instances may run."""
    source = """
import pathlib, time
def handler(event, context):
    pathlib.Path(event.decode()).touch()
    while not (pathlib.Path("a").exists() and pathlib.Path("b").exists()):
        time.sleep(0.01)
"""
    cloud = deploy(source, function={"timeout_seconds": 5}, instances=2)
    other = threading.Thread(target=cloud.invoke, args=(b"a",))
    other.start()

    invocation = cloud.invoke(b"b")
    other.join()

    assert invocation.error is None


def test_a_strike_kills_those_that_work_on_the_event(deploy: Run) -> None:
    """Only the process that is at work on such an event dies."""
    cloud = deploy(HANG)
    with ThreadPoolExecutor() as pool:
        struck = pool.submit(cloud.invoke, b"hang")
        while not struck.done():
            cloud.strike(lambda event: event == b"another")
            cloud.strike(lambda event: event == b"hang")
            time.sleep(0.05)

    assert struck.result().condition == "UnhandledInvocationError"


def test_a_delivery_that_failed_to_the_end_reaches_its_destination_once(deploy: Run) -> None:
    """The record has the documented keys and the event as it came."""
    records: list[bytes] = []
    cloud = deploy(RAISE, on_failure=records.append)

    tries = cloud.deliver(b'{"id": "1"}')

    assert len({each.request_id for each in tries}) == 1
    [record] = [json.loads(record) for record in records]
    assert record.pop("timestamp") > 1_700_000_000_000
    assert json.loads(record.pop("responsePayload")) == tries[-1].error
    assert record == {
        "requestContext": {
            "requestId": tries[0].request_id,
            "functionArn": "acs:fc:cn-hangzhou:1234567890123456:functions/encrypt-on-create",
            "condition": "UnhandledInvocationError",
            "approximateInvokeCount": 4,
        },
        "requestPayload": '{"id": "1"}',
        "responseContext": {"statusCode": 200, "functionError": "UnhandledInvocationError"},
    }


def test_an_event_that_waited_for_too_long_goes_to_its_destination(deploy: Run) -> None:
    """It is not tried, and not repeated."""
    records: list[bytes] = []
    platform = deploy(SLOW, on_failure=records.append, max_age_seconds=0.1)

    with ThreadPoolExecutor(2) as pool:
        deliveries = list(pool.map(platform.deliver, [b"one", b"two"]))

    late, served = sorted(deliveries, key=lambda tries: tries[0].error is None)
    assert [each.condition for each in late] == ["AsyncEventExpired"]
    assert [each.error for each in served] == [None]
    assert len(records) == 1


def test_stopping_leaves_no_process(deploy: Run) -> None:
    """The instance is gone and collected, and nothing can be invoked any more."""
    cloud = deploy("import os\ndef handler(event, context): return os.getpid()")
    process = int(cloud.invoke(b"").result or "")

    cloud.stop()

    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    with pytest.raises(RuntimeError, match="stopped"):
        cloud.invoke(b"")


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [({"FC_REGION": "cn-beijing"}, "FC_REGION"), ({"LONG": "a" * 4093}, "4097 bytes")],
)
def test_an_environment_that_the_service_refuses(
    environment: dict[str, str], complaint: str
) -> None:
    """The prefix FC_ is reserved and all variables together have 4 KB."""
    with pytest.raises(ValueError, match=complaint):
        Function(code=Path(), environment=environment)
