"""The whole of `make verify-live`, against the emulated cloud."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from rich.console import Console

from encryption_guard.credentials import Credentials
from encryption_guard.http import open_transport
from encryption_guard.invocation import Clock, Invocation, TimeBudget
from encryption_guard.services.smq import SmqMessage
from encryption_guard.settings import Settings
from tests.emulators import function_compute
from tests.emulators.access_keys import AccessKey
from tests.emulators.action_trail import cloud_event
from tests.emulators.cloud import (
    ACCOUNT,
    OWNER,
    QUEUE,
    REGION,
    REPOSITORY,
    EmulatedCloud,
    emulated_cloud,
    filter_pattern,
)
from tests.emulators.event_apis import EventApis
from tests.emulators.faults import Fault, GarbageBody, Refuse
from tests.emulators.function_compute_api import Deployed, FunctionComputeApi
from tests.emulators.oss_tables import ApiCall
from tests.live.capture import PATTERN, Begin, Capture, Deaf, LeftOver, Listen
from tests.live.expected import Function, expected
from tests.live.experiment import Plan
from tests.live.function_api import FunctionApi
from tests.live.inquiry import POLL_SECONDS
from tests.live.observations import Said, Told
from tests.live.verify import Asked, MakeCapture, Peek, verify

WANTED = expected(region=REGION, account=ACCOUNT)


def deployed(
    function: Function, invoke: Callable[[bytes], function_compute.Invocation]
) -> Deployed:
    """A function as Serverless Devs would have made it of the template."""
    trigger = {
        "triggerName": function.trigger,
        "triggerType": "eventbridge",
        "triggerConfig": json.dumps(
            {
                "triggerEnable": True,
                "asyncInvocationType": False,
                "eventRuleFilterPattern": json.dumps(function.pattern),
            }
        ),
    }
    return Deployed(
        function={"functionName": function.name, "role": function.role},
        triggers={function.trigger: trigger} if function.trigger else {},
        async_config={"destinationConfig": {"onFailure": {"destination": function.on_failure}}},
        invoke=invoke,
    )


@contextmanager
def function_api(cloud: EmulatedCloud) -> Iterator[FunctionComputeApi]:
    """Function Compute's door with both functions under the names of the template."""
    creation, sweep = WANTED.functions["encrypt_on_create"], WANTED.functions["sweep"]
    functions = {
        creation.name: deployed(creation, cloud.function.invoke),
        sweep.name: deployed(sweep, cloud.sweeper.invoke),
    }
    with FunctionComputeApi(OWNER, functions={}, deployed=functions) as api:
        yield api


def event_apis(key: AccessKey = OWNER, *, queryable_after: float = 0) -> EventApis:
    """What ActionTrail and EventBridge can be asked, with the rule of the guard's trigger."""
    creation = WANTED.functions["encrypt_on_create"]
    rule = f"{creation.name}-{creation.trigger}"
    return EventApis(key, rules={rule: filter_pattern()}, queryable_after=queryable_after)


def recorded(cloud: EmulatedCloud, apis: EventApis) -> None:
    """Let both services know what the emulated ActionTrail hands to the bus."""
    publish = cloud.tables.on_event

    def record(call: ApiCall) -> None:
        apis.record(cloud_event(call, shape="responseElements"))
        if publish:
            publish(call)

    cloud.tables.on_event = record


def captured(cloud: EmulatedCloud, *, left_over: bool = False) -> MakeCapture:
    """A rule on the emulated bus into an emulated queue, as the temporary stack would make them."""

    def make(plan: Plan, peek: Peek) -> Capture:
        @contextmanager
        def capture() -> Iterator[Begin]:
            def begin() -> Listen:
                cloud.queue.create_queue(plan.bucket)
                cloud.bus.add_rule(
                    PATTERN, lambda event: cloud.queue.put(plan.bucket, b64encode(event))
                )
                return lambda: list(peek(plan.bucket))

            yield begin
            if left_over:
                raise LeftOver("the stack: remove it by hand")

        return capture

    return make


def without_capture(_plan: Plan, _peek: Peek) -> Capture:
    """A capture that cannot be made."""

    @contextmanager
    def capture() -> Iterator[Begin]:
        def begin() -> Listen:
            raise Deaf("`s deploy` ended with 101")

        yield begin

    return capture


@dataclass
class Run:
    """One run, what it printed, and where it saved the event."""

    cloud: EmulatedCloud
    apis: EventApis
    folder: Path
    endpoints: dict[str, str]
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
        environment: dict[str, str] | None = None,
        confirmed: bool | None = None,
    ) -> int:
        return verify(
            Asked(
                REGION,
                yes=confirmed is None,
                wait=wait,
                wait_drift=wait_drift,
                wait_trail=wait_trail,
                queue=QUEUE,
                folder=self.folder,
                endpoint=self.apis.url,
            ),
            self.key() | self.endpoints if environment is None else environment,
            console=Console(file=self.printed, width=600),
            confirm=lambda: bool(confirmed),
            make_capture=make_capture,
            clock=Clock(sleep=sleep),
            progress=Console(file=self.progress, width=220),
        )

    @staticmethod
    def key() -> dict[str, str]:
        return {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": OWNER.id,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": OWNER.secret,
            "ALIBABA_CLOUD_ACCOUNT_ID": ACCOUNT,
        }

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


@pytest.fixture
def start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Start:
    """An emulated cloud with the guard in it, and a program that is told where it is."""

    @contextmanager
    def started(apis: EventApis | None = None, **deployment: str) -> Iterator[Run]:
        with (
            emulated_cloud(environment=deployment) as cloud,
            function_api(cloud) as api,
            apis or event_apis() as events,
        ):
            recorded(cloud, events)
            monkeypatch.setenv("SSL_CERT_FILE", str(cloud.certificate))
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(cloud.certificate))
            endpoints = {
                "GUARD_OSS_TABLES_ENDPOINT": cloud.tables.url,
                "GUARD_SMQ_ENDPOINT": cloud.queue.url,
                "GUARD_FC_ENDPOINT": api.url,
            }
            yield Run(cloud, events, tmp_path / "verify-live", endpoints)

    return started


def test_a_guard_at_work_passes_every_check(start: Start) -> None:
    """Everything is well: it says so, saves the event, settles facts, and leaves nothing."""
    with start() as run:
        code = run(captured(run.cloud))

        assert code == 0, run.output
        assert run.cloud.tables.buckets() == []
        assert "NOT" not in run.output
        assert "named by responseElements" in run.row("the event names the bucket")
        assert "AES256 after" in run.row("the guard encrypts it")
        assert "settled acs.oss; oss:ActionTrail:ApiCall" in run.row("source and type")
        assert "settled told after" in run.row("DeleteTableBucketEncryption is told")
        assert "settled 200, without an algorithm" in run.row("how a GET answers")
        assert "settled yes, 200" in run.row("signature of the vendor's FC 2.0 client")
        assert "settled osstables" in run.row("how the ARN spells")
        assert "settled no: 400" in run.row("longer than 32")
        assert "settled no, 0 of the last 0 records" in run.row(
            "ActionTrail records each ListTable"
        )
        assert "not settled it shows only where" in run.row("asyncInvocationType: false means")


def test_the_event_is_saved_without_whose_it_is(start: Start) -> None:
    """The saved event holds neither the run's bucket nor its ids, and is what the guard reads."""
    with start() as run:
        run(captured(run.cloud))
        text = (run.folder / "create_table_bucket.json").read_text("utf-8")
        event = json.loads(text)
        (created,) = [
            request
            for request in run.cloud.tables.requests
            if request.operation == "CreateTableBucket" and request.status == 200
        ]

    assert created.resource is not None
    assert created.resource not in text
    assert created.request_id not in text
    assert event["data"]["eventName"] == "CreateTableBucket"
    assert "data.responseElements.arn" in run.output
    assert text == json.dumps(event, indent=2) + "\n"


def test_no_secret_is_shown_or_saved(start: Start) -> None:
    """Neither the output nor the saved event holds a key, a secret or a signature."""
    with start() as run:
        run(captured(run.cloud))
        signatures = {
            request.headers["authorization"].rpartition("Signature=")[2].rpartition(":")[2]
            for service in (run.cloud.tables, run.cloud.queue, run.apis)
            for request in service.requests
        }
        saved = [file.read_text("utf-8") for file in sorted(run.folder.glob("*.json"))]
        shown = "".join([run.output, run.progress.getvalue(), *saved])

    assert len(saved) == 2
    assert OWNER.secret not in shown
    assert OWNER.id not in shown
    assert not any(signature in shown for signature in signatures)


def test_a_guard_that_does_nothing_fails_the_check(start: Start) -> None:
    """A bucket that nobody encrypts in time is a failure; it is deleted all the same."""
    with start(GUARD_MODE="detect") as run:
        code = run(captured(run.cloud), wait=2, wait_drift=2)

        assert code == 1
        assert run.row("the guard encrypts it").startswith("NOT")
        assert run.cloud.tables.buckets() == []
        assert "DeleteTableBucketEncryption" not in run.requested()


# What ActionTrail and EventBridge are asked afterwards.


def test_both_services_are_asked_what_they_know(start: Start) -> None:
    """The record, the listed types, the judgement of the pattern and the steps are told."""
    with start() as run:
        code = run(captured(run.cloud))

        assert code == 0, run.output
        assert "settled yes, at most" in run.row("ActionTrail records CreateTableBucket")
        assert "settled yes, at most" in run.row("ActionTrail records DeleteTableBucketEncryption")
        assert "settled Oss; ApiCall" in run.row("serviceName and eventType of its record")
        assert "settled acs.oss has 5, of table buckets none" in run.row("EventBridge lists types")
        assert "settled as it was delivered: yes" in run.row("EventBridge says that the pattern")
        steps = run.row("how late EventBridge had the event")
        assert "settled acs.oss; oss:ActionTrail:ApiCall: on the bus" in steps
        assert (
            "s after the call, pushed by oss-tables-encrypt-on-create-table-bucket-events" in steps
        )
        assert "(NotifyStatus 200, NotifyLatency 17)" in steps
        assert run.progress.getvalue() == ""
        assert [r.operation for r in run.apis.requests if r.status != 200] == []


def test_the_record_stands_in_for_an_event_that_was_not_captured(start: Start) -> None:
    """Where nothing was delivered to us, the record is asked about in each likely envelope."""
    with start() as run:
        code = run(without_capture, wait_drift=5)

        assert code == 0, run.output
        judged = run.row("EventBridge says that the pattern")
        assert "acs.oss; oss:ActionTrail:ApiCall: yes" in judged
        assert "acs.osstables; osstables:ActionTrail:ApiCall: yes" in judged
        assert "(NotifyStatus 200," in run.row("how late EventBridge had the event")
        record = json.loads((run.folder / "action_trail_create_table_bucket.json").read_text())
        assert record["eventName"] == "CreateTableBucket"
        assert ACCOUNT in record["responseElements"]["arn"]  # the made-up one, as in events/


def test_a_late_record_is_waited_for_in_sight_of_the_person(start: Start) -> None:
    """What takes its time is waited for after all is deleted, and progress tells of it."""
    buckets: list[int] = []

    with start(event_apis(queryable_after=4)) as run:

        def sleep(seconds: float) -> None:
            if seconds == POLL_SECONDS:
                buckets.append(len(run.cloud.tables.buckets()))
            time.sleep(min(seconds, 0.6))

        code = run(captured(run.cloud), sleep=sleep)

        assert code == 0, run.output
        assert buckets
        assert set(buckets) == {0}
        assert "Waiting for ActionTrail" in run.progress.getvalue()
        assert "Waiting for ActionTrail" not in run.output
        found = run.row("ActionTrail records DeleteTableBucketEncryption")
        assert re.search("settled yes, [0-9]+ to [0-9]+ s after the call", found)


def test_the_waiting_ends(start: Start) -> None:
    """A record that never comes is waited for no longer than was said, and fails nothing."""
    with start(event_apis(queryable_after=3600)) as run:
        code = run(captured(run.cloud), wait_trail=1, sleep=lambda s: time.sleep(min(s, 0.6)))

        assert code == 0, run.output
        never = run.row("ActionTrail records CreateTableBucket")
        assert "not settled ActionTrail showed no record of it within" in never
        assert "settled as it was delivered: yes" in run.row("EventBridge says that the pattern")


def test_rights_that_are_missing_are_named(start: Start) -> None:
    """A key that may not ask costs the answers and nothing else; each right is named."""
    with start(event_apis(replace(OWNER, allowed=frozenset()))) as run:
        code = run(captured(run.cloud))

        assert code == 0, run.output
        assert "AES256 after" in run.row("the guard encrypts it")
        for question, right in (
            ("ActionTrail records CreateTableBucket", "actiontrail:LookupEvents"),
            ("EventBridge lists types", "eventbridge:ListAliyunOfficialEventSources"),
            ("how late EventBridge had the event", "eventbridge:QueryEventTraces"),
        ):
            row = run.row(question)
            assert "not settled" in row
            assert "403 NoPermission" in row
            assert f"The key needs the right {right}." in row
        lookups = [r for r in run.apis.requests if r.operation == "LookupEvents"]
        assert len(lookups) == 1


@pytest.mark.parametrize("trouble", [GarbageBody(), Refuse(500), Refuse(400, "Throttling.User")])
def test_services_that_do_not_answer_cost_nothing_else(
    start: Start, trouble: GarbageBody | Refuse
) -> None:
    """HTML, a 500 and throttling that lasts are facts of the report, and all else is done."""
    with start() as run:
        run.apis.faults.add(Fault(trouble))
        code = run(captured(run.cloud), wait_trail=0, sleep=lambda s: time.sleep(min(s, 0.1)))

        assert code == 0, run.output
        assert "not settled LookupEvents of 127.0.0.1 answered" in run.row("records CreateTable")
        assert "not settled TestEventPattern of 127.0.0.1 answered" in run.row("says that the patt")


def test_services_that_are_not_there_cost_nothing_else(start: Start) -> None:
    """Nobody at the address is a fact of the report."""
    with start() as run:
        run.apis.stop()
        code = run(captured(run.cloud), wait_trail=0, sleep=lambda s: time.sleep(min(s, 0.1)))

        assert code == 0, run.output
        assert "gave no answer in 4 tries (ConnectError)" in run.row("records CreateTableBucket")


def test_a_pattern_that_eventbridge_refuses_fails_a_check(start: Start) -> None:
    """Where EventBridge itself says no, something is not well."""
    with start() as run:
        run.apis.state.rules.clear()
        apis = run.apis
        apis.judge = lambda _pattern, _event: False
        code = run(captured(run.cloud))

        assert code == 1
        assert run.row("EventBridge itself says that the rule").startswith("NOT")


def test_an_interruption_of_the_waiting_still_reports(start: Start) -> None:
    """Ctrl-C while ActionTrail is waited for: all is deleted already, and the report comes."""

    def sleep(seconds: float) -> None:
        if seconds == POLL_SECONDS:
            signal.raise_signal(signal.SIGINT)
        time.sleep(seconds)

    with start(event_apis(queryable_after=3600)) as run:
        code = run(captured(run.cloud), sleep=sleep)

        assert code == 1
        assert "It was interrupted" in run.output
        assert "AES256 after" in run.row("the guard encrypts it")
        assert "not settled ActionTrail showed no record" in run.row("records CreateTableBucket")
        assert run.cloud.tables.buckets() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_while_waiting_deletes_the_bucket(
    start: Start, number: signal.Signals
) -> None:
    """Ctrl-C, or SIGTERM, while the bucket is watched: it is deleted, and the exit code is 1."""

    def interrupt(_seconds: float) -> None:
        signal.raise_signal(number)

    with start(GUARD_MODE="detect") as run:
        code = run(captured(run.cloud), sleep=interrupt)

        assert code == 1
        assert "CreateTableBucket" in run.requested()
        assert run.cloud.tables.buckets() == []
        assert "It was interrupted" in run.output


def test_an_interruption_does_not_reach_the_cleaning_up(start: Start) -> None:
    """A second Ctrl-C, while everything is being deleted, is answered and changes nothing."""
    with start(GUARD_MODE="detect") as run:
        inner = captured(run.cloud)

        def make(plan: Plan, peek: Peek) -> Capture:
            @contextmanager
            def capture() -> Iterator[Begin]:
                with inner(plan, peek)() as begin:
                    yield begin
                    signal.raise_signal(signal.SIGINT)
                    signal.raise_signal(signal.SIGTERM)

            return capture

        code = run(make, sleep=lambda _: signal.raise_signal(signal.SIGINT))

        assert code == 1
        assert run.output.count("please wait") == 2
        assert run.cloud.tables.buckets() == []


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


def test_an_interruption_does_not_reach_the_cleaning_up_after_a_crash(start: Start) -> None:
    """Ctrl-C during the deletion after a crash changes nothing, and the crash is still raised."""

    def make(_plan: Plan, _peek: Peek) -> Capture:
        @contextmanager
        def capture() -> Iterator[Begin]:
            def listen() -> list[SmqMessage]:
                raise RuntimeError("crashed")

            yield lambda: listen

        return capture

    with start(GUARD_MODE="detect") as run:
        # The second attempt comes after a pause: then there is Ctrl-C, and still a bucket.
        run.cloud.tables.faults.add(Fault(Refuse(403), "DeleteTableBucket", times=1))
        with pytest.raises((RuntimeError, KeyboardInterrupt)) as ended:
            run(make, sleep=lambda _: signal.raise_signal(signal.SIGINT))

        assert (ended.type, str(ended.value)) == (RuntimeError, "crashed")
        assert run.output.count("please wait") == 1
        assert run.cloud.tables.buckets() == []


def test_an_interruption_while_the_rule_is_made_leaves_it_again(start: Start) -> None:
    """Ctrl-C before there is a bucket: the capture is left, and nothing was created."""
    left: list[str] = []

    def make(_plan: Plan, _peek: Peek) -> Capture:
        @contextmanager
        def capture() -> Iterator[Begin]:
            def begin() -> Listen:
                signal.raise_signal(signal.SIGINT)
                raise AssertionError("not interrupted")

            yield begin
            left.append("left")

        return capture

    with start() as run:
        code = run(make)

        assert (code, left) == (1, ["left"])
        assert "CreateTableBucket" not in run.requested()


def test_without_the_capture_the_rest_is_done(start: Start) -> None:
    """If the rule cannot be made it says why, and everything else is still tried."""
    with start() as run:
        code = run(without_capture, wait_drift=5)

        assert code == 0, run.output
        assert "`s deploy` ended with 101" in run.row("Without the event")
        assert "not settled `s deploy` ended with 101" in run.row("source and type")
        assert "AES256 after" in run.row("the guard encrypts it")
        assert not (run.folder / "create_table_bucket.json").exists()
        assert run.cloud.tables.buckets() == []


def test_what_cannot_be_removed_is_told(start: Start) -> None:
    """What is left over is named with how to remove it, and the exit code says so."""
    with start(GUARD_MODE="detect") as run:
        code = run(captured(run.cloud, left_over=True), wait=0, wait_drift=0)

        assert code == 1
        assert "LEFT OVER: the stack: remove it by hand." in run.output


def test_what_is_left_over_is_no_success(start: Start) -> None:
    """Where all else is well, something that could not be removed makes the exit code 1."""
    with start() as run:
        code = run(captured(run.cloud, left_over=True))

        assert run.output.count("NOT") == 1
        assert run.row("all that was made is deleted").startswith("NOT")
        assert code == 1


def test_nothing_deployed_is_not_waited_for(start: Start) -> None:
    """Where neither function exists the checks fail at once, without a wait for them."""
    with start(GUARD_MODE="detect") as run, FunctionComputeApi(OWNER, functions={}) as empty:
        run.endpoints["GUARD_FC_ENDPOINT"] = empty.url

        code = run(captured(run.cloud))

        assert code == 1
        assert "Neither function is deployed here" in run.output
        assert "NOT" in run.row("the trigger table-bucket-events is there")
        assert run.cloud.tables.buckets() == []


@pytest.mark.parametrize(
    "missing",
    [
        "ALIBABA_CLOUD_ACCESS_KEY_ID",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
        "ALIBABA_CLOUD_ACCOUNT_ID",
    ],
)
def test_a_missing_variable_is_named(start: Start, missing: str) -> None:
    """Without the key or the account it says which variable is missing, and asks nobody."""
    with start() as run:
        code = run(without_capture, environment={**run.key(), missing: ""})

        assert code == 2
        assert run.output.strip() == (
            f"verify-live: {missing} is not set: export it in the shell that runs this."
        )
        assert run.requested() == []


def test_a_misspelt_setting_is_named_before_anything_is_begun(start: Start) -> None:
    """Who sets it believes that it counts."""
    with start() as run:
        code = run(
            without_capture, confirmed=False, environment=run.key() | {"GUARD_MAX_ATTEMPT": "1"}
        )

        assert code == 2
        assert run.output.startswith("verify-live: GUARD_MAX_ATTEMPT is not a setting")
        assert "Did you mean GUARD_MAX_ATTEMPTS?" in run.output


def test_nothing_is_begun_without_a_yes(start: Start) -> None:
    """It says what it would do and asks; a no ends it before any request."""
    with start() as run:
        code = run(without_capture, confirmed=False)

        assert code == 2
        assert f"In account {ACCOUNT}, region {REGION}" in run.output
        assert run.requested() == []


def test_the_program_says_what_is_missing() -> None:
    """From a shell without a key it is one sentence, and exit code 2."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.live.verify", "--region", REGION],
        cwd=REPOSITORY,
        env={"PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python")},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout == (
        "verify-live: ALIBABA_CLOUD_ACCESS_KEY_ID is not set: export it in the shell that runs"
        " this.\n"
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
    function = WANTED.functions["encrypt_on_create"]
    with FunctionComputeApi(
        OWNER, LENT, functions={}, deployed={function.name: deployed(function, failing)}
    ) as api:
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
    assert [sorted(each.fields) for each in told] == [
        ["functionName", "role"],
        ["triggerConfig", "triggerName", "triggerType"],
        ["destinationConfig"],
    ]


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
