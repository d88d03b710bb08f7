"""The whole of `make verify-live`, against the emulated cloud."""

from __future__ import annotations

import io
import json
import os
import signal
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn
from urllib.parse import parse_qsl

import pytest
from click.testing import CliRunner
from rich.console import Console

from encryption_guard.credentials import Credentials
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, Invocation, TimeBudget
from encryption_guard.services.smq import SmqMessage
from encryption_guard.settings import Settings
from tests.emulators import function_compute
from tests.emulators.access_keys import AccessKey
from tests.emulators.acs3_access import parameters
from tests.emulators.action_trail import cloud_event
from tests.emulators.cloud import (
    ACCOUNT,
    OWNER,
    QUEUE,
    REGION,
    EmulatedCloud,
    deployment,
    emulated_cloud,
)
from tests.emulators.emulated_service import Call
from tests.emulators.event_bridge import matches
from tests.emulators.faults import Fault, Refuse
from tests.emulators.function_compute_api import FunctionComputeApi, deployed
from tests.emulators.oss_tables import ApiCall
from tests.emulators.rpc_service import RpcService, answered
from tests.emulators.template import function_props
from tests.emulators.wire import Answer
from tests.live.capture import PATTERN, Begin, Capture, Deaf, LeftOver, Listen
from tests.live.expected import expected
from tests.live.experiment import Plan
from tests.live.function_api import FunctionApi
from tests.live.inquiry import POLL_SECONDS
from tests.live.observations import Said, Told
from tests.live.verify import ACCOUNT as ACCOUNT_VARIABLE
from tests.live.verify import KEY_ID, SECRET, Asked, MakeCapture, Peek, main, verify

WANTED = expected(region=REGION, account=ACCOUNT)
KEY = {KEY_ID: OWNER.id, SECRET: OWNER.secret, ACCOUNT_VARIABLE: ACCOUNT}


class Knowing(RpcService):
    """ActionTrail and EventBridge, as far as they are asked: they know all, or, if `late`, nothing.

    What the questions have to look like is tested in `test_inquiry.py`.
    """

    def __init__(self, *, late: bool = False) -> None:
        super().__init__(OWNER)
        self.late = late
        self.events: list[dict[str, Any]] = []

    def perform(self, call: Call) -> Answer:
        self.authenticated(call)
        answers: dict[str, Callable[[Call], dict[str, Any]]] = {
            "LookupEvents": self.records,
            "ListAliyunOfficialEventSources": self.sources,
            "TestEventPattern": self.judgement,
            "QueryTracedEvents": self.traced,
            "QueryEventTraces": self.steps,
        }
        return answered(call, answers[call.operation or ""](call))

    def records(self, call: Call) -> dict[str, Any]:
        name = parameters(call.request).get("LookupAttribute.1.Value")
        known = [] if self.late else [each["data"] for each in self.events]
        return {"Events": [each for each in known if name in (None, each["eventName"])]}

    def sources(self, _: Call) -> dict[str, Any]:
        types = [{"Name": "oss:ActionTrail:ApiCall"}, {"Name": "oss:BucketCreated:PutBucket"}]
        return {"Data": {"EventSourceList": [{"FullName": "acs.oss", "EventTypes": types}]}}

    def judgement(self, call: Call) -> dict[str, Any]:
        form = {key: json.loads(text) for key, text in parse_qsl(call.request.body.decode())}
        return {"Data": {"Result": matches(form["EventPattern"], form["Event"])}}

    def traced(self, _: Call) -> dict[str, Any]:
        names = {"EventId": "id", "EventSource": "source", "EventType": "type"}
        rows = [{name: each[key] for name, key in names.items()} for each in self.events]
        return {"Data": {"Events": rows}}

    def steps(self, call: Call) -> dict[str, Any]:
        now = int(call.now.timestamp() * 1000)
        pushed = {"NotifyTime": str(now), "NotifyStatus": 200, "NotifyLatency": "17"}
        received = {"Action": "PutEvent", "ReceivedTime": now}
        return {"Data": [received, {"Action": "PushEvent", "RuleName": "guard", **pushed}]}


def recorded(cloud: EmulatedCloud, knowing: Knowing) -> None:
    """Let both services know what the emulated ActionTrail hands to the bus."""
    publish = cloud.tables.on_event

    def record(call: ApiCall) -> None:
        knowing.events.append(cloud_event(call, shape="responseElements"))
        if publish:
            publish(call)

    cloud.tables.on_event = record


def invocable(cloud: EmulatedCloud) -> None:
    """Let both functions be invoked synchronously."""
    for runs in (cloud.function, cloud.sweeper):
        name = runs.function.name
        cloud.api.deployed[name] = replace(cloud.api.deployed[name], invoke=runs.invoke)


def nothing() -> None:
    """What happens where nothing has to."""


def capturing(
    begin: Callable[[Plan, Peek], Listen], when_left: Callable[[], object] = nothing
) -> MakeCapture:
    """A capture that begins so, and of which this becomes when it is left."""

    def make(plan: Plan, peek: Peek) -> Capture:
        @contextmanager
        def capture() -> Iterator[Begin]:
            yield lambda: begin(plan, peek)
            when_left()

        return capture

    return make


def captured(cloud: EmulatedCloud, when_left: Callable[[], object] = nothing) -> MakeCapture:
    """A rule on the emulated bus into an emulated queue, as the temporary stack would make them."""

    def begin(plan: Plan, peek: Peek) -> Listen:
        cloud.queue.create_queue(plan.bucket)
        cloud.bus.add_rule(PATTERN, lambda event: cloud.queue.put(plan.bucket, b64encode(event)))
        return lambda: list(peek(plan.bucket))

    return capturing(begin, when_left)


def deaf(_plan: Plan, _peek: Peek) -> Listen:
    raise Deaf("`s deploy` ended with 101")


def leave_over() -> None:
    raise LeftOver("the stack: remove it by hand")


@dataclass
class Run:
    """One run, what it printed, and where it saved the event."""

    cloud: EmulatedCloud
    apis: Knowing
    folder: Path
    printed: io.StringIO = field(default_factory=io.StringIO)
    progress: io.StringIO = field(default_factory=io.StringIO)

    def __call__(
        self,
        make_capture: MakeCapture,
        *,
        sleep: Callable[[float], None] = time.sleep,
        wait: float = 60,
        wait_drift: float = 20,
        wait_trail: float = 20,
    ) -> int:
        endpoints = {
            "GUARD_OSS_TABLES_ENDPOINT": self.cloud.tables.url,
            "GUARD_SMQ_ENDPOINT": self.cloud.queue.url,
            "GUARD_FC_ENDPOINT": self.cloud.api.url,
        }
        return verify(
            Asked(
                REGION,
                yes=True,
                wait=wait,
                wait_drift=wait_drift,
                wait_trail=wait_trail,
                queue=QUEUE,
                folder=self.folder,
                endpoint=self.apis.url,
            ),
            KEY | endpoints,
            console=Console(file=self.printed, width=600),
            confirm=lambda: False,
            make_capture=make_capture,
            clock=Clock(sleep=sleep),
            progress=Console(file=self.progress, width=220),
        )

    @property
    def output(self) -> str:
        return self.printed.getvalue()

    def requested(self) -> list[str | None]:
        return [request.operation for request in self.cloud.tables.requests]

    def row(self, beginning: str) -> str:
        """The one row of a table with this in it."""
        (row,) = [line for line in self.output.splitlines() if beginning in line]
        return " ".join(row.split())


Start = Callable[..., AbstractContextManager[Run]]


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Start:
    """An emulated cloud with the guard in it, and a program that is told where it is."""

    @contextmanager
    def started(apis: Knowing | None = None, **environment: str) -> Iterator[Run]:
        with ExitStack() as stack:
            cloud = stack.enter_context(emulated_cloud(environment=environment))
            events = stack.enter_context(apis or Knowing())
            patch = stack.enter_context(pytest.MonkeyPatch.context())
            recorded(cloud, events)
            invocable(cloud)
            patch.setenv("SSL_CERT_FILE", str(cloud.certificate))
            patch.setenv("REQUESTS_CA_BUNDLE", str(cloud.certificate))
            yield Run(cloud, events, tmp_path_factory.mktemp("run") / "verify-live")

    return started


@pytest.fixture(scope="module")
def well(start: Start) -> Iterator[Run]:
    """A run to its end, with a guard at work."""
    with start() as run:
        code = run(captured(run.cloud))
        assert code == 0, run.output
        yield run


def test_a_guard_at_work_passes_every_check(well: Run) -> None:
    """Everything is well: it says so, settles facts, and leaves nothing."""
    assert well.cloud.tables.buckets() == []
    assert "NOT" not in well.output
    assert "named by responseElements" in well.row("the event names the bucket")
    assert "AES256 after" in well.row("the guard encrypts it")
    assert "settled acs.oss; oss:ActionTrail:ApiCall" in well.row("source and type")
    assert "settled told after" in well.row("DeleteTableBucketEncryption is told")
    assert "settled yes, 200" in well.row("signature of the vendor's FC 2.0 client")
    assert "not settled it shows only where" in well.row("asyncInvocationType: false means")


def test_both_services_are_asked_what_they_know(well: Run) -> None:
    """The record, the listed types, the judgement of the pattern and the steps are told."""
    assert "settled yes, at most" in well.row("ActionTrail records CreateTableBucket")
    assert "settled yes, at most" in well.row("ActionTrail records DeleteTableBucketEncryption")
    assert "settled no, 0 of the last 0 records" in well.row("ActionTrail records each ListTable")
    assert "settled Oss; ApiCall" in well.row("serviceName and eventType of its record")
    assert "settled acs.oss has 2, of table buckets none" in well.row("EventBridge lists types")
    assert "settled as it was delivered: yes" in well.row("EventBridge says that the pattern")
    steps = well.row("how late EventBridge had the event")
    assert "settled acs.oss; oss:ActionTrail:ApiCall: on the bus" in steps
    assert "s after the call, pushed by guard" in steps
    assert "(NotifyStatus 200, NotifyLatency 17)" in steps
    assert well.progress.getvalue() == ""
    assert [r.operation for r in well.apis.requests if r.status != 200] == []


def test_the_event_is_saved_without_whose_it_is(well: Run) -> None:
    """The saved event holds neither the run's bucket nor its ids, and is what the guard reads."""
    text = (well.folder / "create_table_bucket.json").read_text("utf-8")
    event = json.loads(text)
    (created,) = [
        request
        for request in well.cloud.tables.requests
        if request.operation == "CreateTableBucket" and request.status == 200
    ]

    assert created.resource is not None
    assert created.resource not in text
    assert created.request_id not in text
    assert event["data"]["eventName"] == "CreateTableBucket"
    assert "data.responseElements.arn" in well.output
    assert text == json.dumps(event, indent=2) + "\n"


def test_no_secret_is_shown_or_saved(well: Run) -> None:
    """Neither the output nor the saved event holds a key, a secret or a signature."""
    signatures = {
        request.headers["authorization"].rpartition("Signature=")[2].rpartition(":")[2]
        for service in (well.cloud.tables, well.cloud.queue, well.apis)
        for request in service.requests
    }
    saved = [file.read_text("utf-8") for file in sorted(well.folder.glob("*.json"))]
    shown = "".join([well.output, well.progress.getvalue(), *saved])

    assert len(saved) == 2
    assert OWNER.secret not in shown
    assert OWNER.id not in shown
    assert not any(signature in shown for signature in signatures)


@pytest.mark.slow
def test_a_guard_that_does_nothing_fails_the_check(start: Start) -> None:
    """A bucket that nobody encrypts in time is a failure; it is deleted all the same."""
    with start(GUARD_MODE="detect") as run:
        code = run(captured(run.cloud), wait=2, wait_drift=2)

        assert code == 1
        assert run.row("the guard encrypts it").startswith("NOT")
        assert run.cloud.tables.buckets() == []
        assert "DeleteTableBucketEncryption" not in run.requested()


@pytest.mark.slow
def test_without_the_capture_the_rest_is_done(start: Start) -> None:
    """If the rule cannot be made it says why, and the record stands in for the event."""
    with start() as run:
        code = run(capturing(deaf), wait_drift=5)

        assert code == 0, run.output
        assert "`s deploy` ended with 101" in run.row("Without the event")
        assert "not settled `s deploy` ended with 101" in run.row("source and type")
        assert "AES256 after" in run.row("the guard encrypts it")
        assert not (run.folder / "create_table_bucket.json").exists()
        assert run.cloud.tables.buckets() == []
        judged = run.row("EventBridge says that the pattern")
        assert "acs.osstables; osstables:ActionTrail:ApiCall: yes" in judged
        assert "(NotifyStatus 200," in run.row("how late EventBridge had the event")
        record = json.loads((run.folder / "action_trail_create_table_bucket.json").read_text())
        assert ACCOUNT in record["responseElements"]["arn"]  # the made-up one, as in events/


@pytest.mark.slow
def test_services_that_are_not_there_cost_nothing_else(start: Start) -> None:
    """Nobody at the address is a fact of the report."""
    with start() as run:
        run.apis.stop()
        code = run(captured(run.cloud), wait_trail=0, sleep=lambda s: time.sleep(min(s, 0.1)))

        assert code == 0, run.output
        assert "gave no answer in 4 tries (ConnectError)" in run.row("records CreateTableBucket")


@pytest.mark.slow
def test_an_interruption_of_the_waiting_still_reports(start: Start) -> None:
    """Ctrl-C while ActionTrail is waited for: all is deleted already, and the report comes."""
    buckets: list[int] = []

    with start(Knowing(late=True)) as run:

        def sleep(seconds: float) -> None:
            if seconds == POLL_SECONDS:
                buckets.append(len(run.cloud.tables.buckets()))
                signal.raise_signal(signal.SIGINT)
            time.sleep(seconds)

        code = run(captured(run.cloud), sleep=sleep)

        assert (code, buckets) == (1, [0])
        assert "It was interrupted" in run.output
        assert "AES256 after" in run.row("the guard encrypts it")
        assert "not settled ActionTrail showed no record" in run.row("records CreateTableBucket")
        assert "Waiting for ActionTrail" in run.progress.getvalue()
        assert "Waiting for ActionTrail" not in run.output


@pytest.mark.slow
def test_an_interruption_does_not_reach_the_cleaning_up(start: Start) -> None:
    """Ctrl-C while the bucket is watched deletes it; a second one changes nothing of that."""
    with start(GUARD_MODE="detect") as run:

        def interrupt() -> None:
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGTERM)

        code = run(
            captured(run.cloud, interrupt), sleep=lambda _: signal.raise_signal(signal.SIGINT)
        )

        assert code == 1
        assert "CreateTableBucket" in run.requested()
        assert run.output.count("please wait") == 2
        assert run.cloud.tables.buckets() == []


@pytest.mark.slow
def test_an_interruption_at_the_end_is_no_success(start: Start) -> None:
    """Ctrl-C while the long name is asked for: every check is well, and the exit code is 1."""
    with start() as run:
        publish = run.cloud.tables.on_event
        assert publish is not None

        def interrupt(call: ApiCall) -> None:
            publish(call)
            if call.bucket and call.bucket.startswith("guard-verify-long-"):
                os.kill(os.getpid(), signal.SIGINT)

        run.cloud.tables.on_event = interrupt
        code = run(captured(run.cloud))

        assert "NOT" not in run.output
        assert "It was interrupted" in run.output
        assert code == 1


@pytest.mark.slow
def test_an_interruption_does_not_reach_the_cleaning_up_after_a_crash(start: Start) -> None:
    """Ctrl-C during the deletion after a crash changes nothing, and the crash is still raised."""

    def listen() -> list[SmqMessage]:
        raise RuntimeError("crashed")

    with start(GUARD_MODE="detect") as run:
        # The second attempt comes after a pause: then there is Ctrl-C, and still a bucket.
        run.cloud.tables.faults.add(Fault(Refuse(403), "DeleteTableBucket", times=1))
        with pytest.raises((RuntimeError, KeyboardInterrupt)) as ended:
            run(
                capturing(lambda _plan, _peek: listen),
                sleep=lambda _: signal.raise_signal(signal.SIGINT),
            )

        assert (ended.type, str(ended.value)) == (RuntimeError, "crashed")
        assert run.output.count("please wait") == 1
        assert run.cloud.tables.buckets() == []


@pytest.mark.slow
def test_an_interruption_while_the_rule_is_made_leaves_it_again(start: Start) -> None:
    """Ctrl-C before there is a bucket: the capture is left, and nothing was created."""
    left: list[str] = []

    def begin(_plan: Plan, _peek: Peek) -> Listen:
        signal.raise_signal(signal.SIGINT)
        raise AssertionError("not interrupted")

    with start() as run:
        code = run(capturing(begin, lambda: left.append("left")))

        assert (code, left) == (1, ["left"])
        assert "CreateTableBucket" not in run.requested()


@pytest.mark.slow
def test_what_is_left_over_is_no_success(start: Start) -> None:
    """It is named with how to remove it; where all else is well, the exit code is 1."""
    with start() as run:
        code = run(captured(run.cloud, leave_over))

        assert "LEFT OVER: the stack: remove it by hand." in run.output
        assert run.output.count("NOT") == 1
        assert run.row("all that was made is deleted").startswith("NOT")
        assert code == 1


@pytest.mark.slow
def test_nothing_deployed_is_not_waited_for(start: Start) -> None:
    """Where neither function exists the checks fail at once, without a wait for them."""
    with start(GUARD_MODE="detect") as run:
        run.cloud.api.deployed.clear()

        code = run(captured(run.cloud))

        assert code == 1
        assert "Neither function is deployed here" in run.output
        assert "NOT" in run.row("the trigger table-bucket-events is there")
        assert run.cloud.tables.buckets() == []


# What begins nothing: no service is there.


def not_begun(**environment: str) -> str:
    """What it prints, where nothing may be begun."""
    printed = io.StringIO()

    def fail(*_: object) -> NoReturn:
        raise AssertionError("it was begun")

    code = verify(
        Asked(REGION),
        KEY | environment,
        console=Console(file=printed, width=600),
        confirm=lambda: False,
        make_capture=fail,
        clock=Clock(sleep=fail),
    )
    assert code == 2
    return printed.getvalue()


@pytest.mark.parametrize("missing", KEY)
def test_a_missing_variable_is_named(missing: str) -> None:
    """Without the key or the account it says which variable is missing."""
    assert not_begun(**{missing: ""}) == (
        f"verify-live: {missing} is not set: export it in the shell that runs this.\n"
    )


def test_a_misspelt_setting_is_named_before_anything_is_begun() -> None:
    """Who sets it believes that it counts."""
    printed = not_begun(GUARD_MAX_ATTEMPT="1")

    assert printed.startswith("verify-live: GUARD_MAX_ATTEMPT is not a setting")
    assert "Did you mean GUARD_MAX_ATTEMPTS?" in printed


def test_nothing_is_begun_without_a_yes() -> None:
    """It says what it would do and asks; a no ends it before any request."""
    printed = not_begun()

    assert printed.startswith(f"In account {ACCOUNT}, region {REGION}")
    assert printed.endswith("Nothing was begun.\n")


def test_the_program_says_what_is_missing() -> None:
    """From a shell without a key it is one sentence, and exit code 2."""
    done = CliRunner().invoke(main, ["--region", REGION], env=dict.fromkeys(KEY))

    assert (done.exit_code, done.stderr) == (2, "")
    assert " ".join(done.stdout.split()) == (
        f"verify-live: {KEY_ID} is not set: export it in the shell that runs this."
    )


# The door of Function Compute that is asked.


def failing(_event: bytes) -> function_compute.Invocation:
    return function_compute.Invocation(
        "1", None, {"errorMessage": "no"}, "UnhandledInvocationError", "", 0.1, cold_start=True
    )


Ask = Callable[..., FunctionApi]


@pytest.fixture
def ask() -> Iterator[Ask]:
    """Makes clients of such a door."""
    with open_transport() as transport:

        def client(api: FunctionComputeApi, key: AccessKey = OWNER) -> FunctionApi:
            clock = Clock()
            invocation = Invocation(
                transport=transport,
                settings=Settings.from_environment({"GUARD_FC_ENDPOINT": api.url}),
                read_credentials=lambda: Credentials(key.id, key.secret, key.security_token),
                budget=TimeBudget(clock.monotonic() + 30, clock),
                clock=clock,
            )
            return FunctionApi(invocation, region=REGION, account=ACCOUNT)

        yield client


@pytest.fixture
def door() -> Iterator[FunctionComputeApi]:
    """A function that fails, and whose owner has lent a key that may only invoke it."""
    function = deployed(function_props(deployment(), "encrypt_on_create"))
    functions = {NAME: replace(function, invoke=failing)}
    with FunctionComputeApi(OWNER, LENT, functions={}, deployed=functions) as api:
        yield api


LENT = AccessKey("STS.lent", "lent-secret", ACCOUNT, "token", allowed=frozenset({"InvokeFunction"}))
NAME = WANTED.functions["encrypt_on_create"].name


def test_a_function_tells_of_itself(door: FunctionComputeApi, ask: Ask) -> None:
    """The function, its trigger and its asynchronous configuration have a path each."""
    told = [
        ask(door).get(NAME),
        ask(door).get(NAME, "/triggers/table-bucket-events"),
        ask(door).get(NAME, "/async-invoke-config?qualifier=LATEST"),
    ]

    assert [each.said for each in told] == [Said(200)] * 3
    for each, name in zip(told, ("functionName", "triggerName", "destinationConfig"), strict=True):
        assert name in each.fields


def test_what_is_not_there_or_not_allowed_is_refused(door: FunctionComputeApi, ask: Ask) -> None:
    """An unknown function or trigger is a 404, and a key without the right gets a 403."""
    assert ask(door).get("nothing").said == Said(404, "FunctionNotFound")
    assert ask(door).get(NAME, "/triggers/nothing").said == Said(404, "TriggerNotFound")
    assert ask(door, LENT).get(NAME).said == Said(403, "AccessDenied")
    stranger = AccessKey(OWNER.id, "another-secret", ACCOUNT)
    assert ask(door, stranger).get(NAME).said == Said(403, "SignatureNotMatch")


def test_a_function_that_fails_is_told_by_its_error_type(
    door: FunctionComputeApi, ask: Ask
) -> None:
    """A synchronous invocation answers 200 also for an exception: the header says so."""
    assert ask(door, LENT).invoke(NAME, b"{}") == Told(Said(200, "UnhandledInvocationError"))


def test_nobody_there_is_an_answer_too(ask: Ask) -> None:
    """A service that cannot be reached is a value like any other."""
    with FunctionComputeApi(OWNER, functions={}) as api:
        asked = ask(api)

    assert asked.get(NAME).said == Said(None, "ConnectError")
