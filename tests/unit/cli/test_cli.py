"""`encryption-guard enforce`, as an operator calls it, against a service on loopback."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from encryption_guard.cli.enforce import _log
from tests.emulators.cloud import REPOSITORY
from tests.emulators.faults import Fault, Refuse
from tests.emulators.oss_tables import OssTables
from tests.emulators.server import Server
from tests.unit.cli.conftest import OPERATOR
from tests.unit.cli.printed import logged, objects, sentences
from tests.unit.fakes import ACCOUNT, ARN, OUTCOME_FIELDS, creation_of, dead_letter_of
from tests.unit.legible import assert_legible

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

pytestmark = pytest.mark.usefixtures("shell")


@pytest.fixture
def tables(tables: OssTables) -> OssTables:
    """The emulated service, with one bucket that is not encrypted."""
    tables.plant(ARN.name)
    return tables


def run(*arguments: str, stdin: bytes = b"", **environment: str | None) -> Result:
    """The command with --apply."""
    return plan(*arguments, "--apply", stdin=stdin, **environment)


def plan(*arguments: str, stdin: bytes = b"", **environment: str | None) -> Result:
    """The command as it is given, which without --apply is a plan."""
    return CliRunner().invoke(main, ["enforce", *arguments], input=stdin, env=environment)


def puts(tables: OssTables) -> list[str | None]:
    """The requests that may change something."""
    return [one.operation for one in tables.requests if (one.operation or "")[:3] != "Get"]


def event_file(folder: Path, event: object) -> str:
    """A file with an event: as JSON, or as the bytes that they are."""
    file = folder / "event.json"
    file.write_bytes(event if isinstance(event, bytes) else json.dumps(event).encode())
    return str(file)


def answering(status: str, body: bytes) -> WSGIApplication:
    """A service that has one answer for everybody."""

    def app(_: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, [("Content-Type", "application/json")])
        return [body]

    return app


# What may be given.


def test_a_bucket_is_encrypted_by_its_arn(tables: OssTables) -> None:
    """An ARN is enough, and allows its own account."""
    result = run(str(ARN), "--output", "json")

    assert result.exit_code == 0
    assert tables.encryption(str(ARN)) == "AES256"
    (outcome,) = objects(result.stdout)
    assert (outcome["outcome"], outcome["arn"]) == ("encrypted", str(ARN))


@pytest.mark.parametrize(
    "variable", [{"FC_ACCOUNT_ID": "99999"}, {"FC_REGION": "us-east-1"}], ids=str
)
def test_an_arn_brings_its_own_account_and_region(
    variable: dict[str, Any], tables: OssTables
) -> None:
    """Those of the function, or the default of a sweep, do not make the ARN a foreign one."""
    result = run(str(ARN), **variable)

    assert result.exit_code == 0
    assert tables.encryption(str(ARN)) == "AES256"


@pytest.mark.parametrize(
    ("event", "options", "variable"),
    [
        ("{file}", (), ACCOUNT),
        ("{file}", ("--account", ACCOUNT), "99999"),
        ("-", ("--account", ACCOUNT), None),
    ],
    ids=["variable", "option before variable", "standard input"],
)
def test_an_event_needs_an_account(
    event: str, options: tuple[str, ...], variable: str | None, tables: OssTables, tmp_path: Path
) -> None:
    """By option or by variable; then an event is processed, from a file or standard input."""
    file = event_file(tmp_path, creation_of(ARN))

    result = run(
        *("--event", event.format(file=file), "--output", "json", *options),
        stdin=Path(file).read_bytes(),
        FC_ACCOUNT_ID=variable,
    )

    assert result.exit_code == 0
    assert tables.encryption(str(ARN)) == "AES256"
    (outcome,) = objects(result.stdout)
    assert (outcome["outcome"], outcome["event_id"]) == ("encrypted", "event-1")


# What is printed.


def test_json_is_one_object_a_line(tables: OssTables, tmp_path: Path) -> None:
    """Each outcome is a line on standard output; log lines are on standard error alone."""
    tables.plant("encrypted-before", encryption="AES256")
    events = [creation_of(ARN), creation_of(str(ARN).replace(ARN.name, "encrypted-before"))]

    result = run("--event", event_file(tmp_path, events), "--account", ACCOUNT, "--output", "json")

    assert result.exit_code == 0
    printed, lines = objects(result.stdout), logged(result.stderr)
    assert lines.pop()["message"] == "table audit finished"
    assert [outcome["outcome"] for outcome in printed] == ["encrypted", "already_encrypted"]
    assert [{key: line[key] for key in printed[0]} for line in lines] == printed
    assert set(printed[0]) == OUTCOME_FIELDS


@pytest.mark.usefixtures("tables")
def test_a_table_is_for_people() -> None:
    """Without an option the outcome is shown with the whole ARN, the reason and the answer."""
    result = run(str(ARN), COLUMNS=None)

    assert result.exit_code == 0
    assert all(part in result.stdout for part in (str(ARN), "encrypted", "created", "200"))


@pytest.mark.usefixtures("tables")
def test_a_narrow_table_has_the_name_instead_of_the_arn() -> None:
    """Beside an ARN every other column would be folded."""
    result = run(str(ARN), COLUMNS="60")

    head, row = result.stdout.splitlines()
    assert head.split() == ["bucket", "outcome", "reason", "status"]
    assert row.split() == [ARN.name, "encrypted", "created", "200"]


@pytest.mark.parametrize(
    ("expires", "shown"),
    [({"expires": "2099-12-31"}, "(until 2099-12-31)"), ({}, "exempt: samples")],
    ids=["until a day", "for good"],
)
def test_an_exemption_tells_its_reason_and_its_last_day(
    tables: OssTables, expires: dict[str, str], shown: str
) -> None:
    """Whoever sees that a bucket is left alone sees why, and until when."""
    exemption = {"bucket": ARN.name, "reason": "samples", **expires}

    result = run(str(ARN), GUARD_EXEMPTIONS=json.dumps([exemption]))

    assert result.exit_code == 0
    assert "exempt: samples" in result.stdout
    assert shown in result.stdout
    assert ("until" in result.stdout) is bool(expires)
    assert tables.encryption(str(ARN)) is None


@pytest.mark.parametrize("command", [run, plan])
def test_detect_changes_nothing(command: Callable[..., Result], tables: OssTables) -> None:
    """The mode counts for an operator, too: --apply would change nothing, and is not advised."""
    result = command(str(ARN), "--output", "json", GUARD_MODE="detect")

    assert result.exit_code == 1
    assert [outcome["outcome"] for outcome in objects(result.stdout)] == ["detected"]
    assert sentences(result.stderr) == ["nothing was changed: GUARD_MODE is detect."]
    assert tables.encryption(str(ARN)) is None


# The plan.


@pytest.mark.parametrize("by", ["ARN", "event"])
def test_a_plan_only_reads(by: str, tables: OssTables, tmp_path: Path) -> None:
    """It says what would be done, exits with 1, and no request could change anything."""
    event = event_file(tmp_path, creation_of(ARN))
    given = [str(ARN)] if by == "ARN" else ["--event", event, "--account", ACCOUNT]

    result = plan(*given, "--output", "json")

    (outcome,) = objects(result.stdout)
    assert (outcome["outcome"], outcome["reason"]) == ("detected", "would_encrypt")
    assert (result.exit_code, puts(tables), tables.encryption(str(ARN))) == (1, [], None)
    assert result.stderr == (
        "encryption-guard: nothing was changed; to encrypt, run the same command with --apply.\n"
    )


def test_a_plan_with_nothing_to_do_is_well(tables: OssTables, tmp_path: Path) -> None:
    """What is encrypted, exempt or of no interest needs no --apply."""
    tables.plant("encrypted-before", encryption="KMS")
    kept = str(ARN).replace(ARN.name, "encrypted-before")
    events = [creation_of(kept), creation_of(ARN), creation_of(ARN, eventName="DeleteTable")]
    exemptions = json.dumps([{"bucket": ARN.name, "reason": "samples"}])

    result = plan(
        *("--event", event_file(tmp_path, events), "--account", ACCOUNT, "--output", "json"),
        GUARD_EXEMPTIONS=exemptions,
    )

    outcomes = [outcome["outcome"] for outcome in objects(result.stdout)]
    assert outcomes == ["kept_stronger", "skipped", "skipped"]
    assert (result.exit_code, result.stderr, puts(tables)) == (0, "", [])


def test_a_plan_puts_nothing_into_the_queue(tables: OssTables, tmp_path: Path) -> None:
    """A refusal that needs no request is known before: its dead letter is printed."""
    letters = tmp_path / "letters.jsonl"
    foreign = creation_of(str(ARN).replace(ACCOUNT, "99999"))

    result = plan(
        *("--event", event_file(tmp_path, [foreign, {}]), "--account", ACCOUNT),
        *("--output", "json"),
        GUARD_DEAD_LETTER_QUEUE=f"file:{letters}",
    )

    reasons = [line["reason"] for line in objects(result.stdout)]
    assert reasons == ["foreign_account", "invalid_event"] * 2
    assert (result.exit_code, letters.exists(), tables.requests) == (1, False, [])
    assert sentences(result.stderr) == [
        "a dead letter was printed, and not put into the queue: the same command with --apply puts"
        " it there.",
        "a dead letter was printed, and not put into the queue: it holds no event of a table"
        " bucket.",
    ]


@pytest.mark.parametrize(
    ("status", "why"),
    [
        (403, "oss:GetTableBucketEncryption"),
        (404, "does not find it"),
        (500, "a later try may succeed"),
    ],
)
def test_a_plan_says_what_it_could_not_read(status: int, why: str, tables: OssTables) -> None:
    """The guard encrypts in doubt; an operator with a wrong ARN or key reads of the doubt."""
    tables.faults.add(Fault(Refuse(status)))

    result = plan(str(ARN))

    doubt, _ = sentences(result.stderr)
    assert result.exit_code == 1
    assert doubt.startswith(f"The encryption of {ARN} is not clear, and then the guard tries to")
    assert why in doubt
    assert puts(tables) == []


def test_a_plan_reads_what_the_first_request_could_not(tables: OssTables) -> None:
    """A second answer that is clear leaves no doubt."""
    tables.faults.add(Fault(Refuse(500), operation="GetTableBucketEncryption", times=1))

    result = plan(str(ARN))

    (sentence,) = sentences(result.stderr)
    assert sentence.startswith("nothing was changed; to encrypt")


def test_a_bug_is_logged_also_of_a_plan(capsys: pytest.CaptureFixture[str]) -> None:
    """The sentence of an unexpected exception does not say where it happened."""
    _log(ValueError("a bug"), apply=False)

    assert json.loads(capsys.readouterr().err)["message"] == "event failed"


def on_a_terminal(program: str, *streams: str, **environment: str) -> tuple[str, str]:
    """What a program writes to a terminal that these of its streams lead to, and to a pipe."""
    ours, theirs = pty.openpty()
    leads_to = {name: theirs if name in streams else subprocess.PIPE for name in ("out", "err")}
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env={
            "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
            "TERM": "xterm",
            "COLUMNS": "100",
            **environment,
        },
        stdin=subprocess.DEVNULL,
        stdout=leads_to["out"],
        stderr=leads_to["err"],
    ) as process:
        os.close(theirs)
        shown = b""
        # Linux says that nobody is at the other end any more with an error.
        with suppress(OSError), os.fdopen(ours, "rb", buffering=0) as terminal:
            while chunk := terminal.read(4096):
                shown += chunk
        piped = b"".join(filter(None, process.communicate(timeout=30)))
    assert process.returncode == 0
    return shown.decode(), piped.decode()


@pytest.mark.parametrize("streams", [("out", "err"), ("err",), ("out",)], ids="+".join)
def test_on_a_terminal_no_log_line_stands_above_the_table(
    streams: tuple[str, ...], tables: OssTables
) -> None:
    """Where both streams are the terminal, the table is enough; a pipe has the log line."""
    program = f"from encryption_guard.cli import main; main(['enforce', '{ARN}', '--apply'])"

    shown, piped = on_a_terminal(
        program,
        *streams,
        ALIBABA_CLOUD_ACCESS_KEY_ID=OPERATOR.id,
        ALIBABA_CLOUD_ACCESS_KEY_SECRET=OPERATOR.secret,
        ALIBABA_CLOUD_SECURITY_TOKEN="operator-token",
        GUARD_OSS_TABLES_ENDPOINT=tables.url,
        GUARD_STS_ENDPOINT=tables.url,
    )

    assert tables.encryption(str(ARN)) == "AES256"
    assert "encrypted" in shown + piped
    assert ('"outcome":"encrypted"' in shown + piped) is (len(streams) == 1)


# What fails.


def test_without_a_queue_the_letter_is_printed(tmp_path: Path) -> None:
    """The letter comes after the outcome, and the command has failed."""
    result = run("--event", event_file(tmp_path, {}), "--account", ACCOUNT, "--output", "json")

    assert result.exit_code == 1
    outcome, letter = objects(result.stdout)
    assert (outcome["outcome"], outcome["reason"]) == ("dead_lettered", "invalid_event")
    assert (letter["version"], letter["reason"], letter["event"]) == (1, "invalid_event", "{}")


NO_EVENTS = {
    "words": b"not json",
    "a file with a key": b'{"current": "default", "access_key_secret": "of-the-operator"}',
    "a dead letter of one": dead_letter_of({"access_key_secret": "of-the-operator"}),
    "a record without a name": b'{"eventTime": "2026-01-01T00:00:00Z"}',
    "nothing": b"",
    "bytes": b"\x00\xff",
}


@pytest.mark.parametrize("event", NO_EVENTS.values(), ids=NO_EVENTS)
def test_what_is_no_event_goes_into_no_queue(event: bytes, tmp_path: Path) -> None:
    """Who reads the queue must not get a file that an operator passed by mistake."""
    letters = tmp_path / "letters.jsonl"

    result = run(
        *("--event", event_file(tmp_path, event), "--account", ACCOUNT, "--output", "json"),
        GUARD_DEAD_LETTER_QUEUE=f"file:{letters}",
    )

    _, letter = objects(result.stdout)
    assert (result.exit_code, letter["reason"]) == (1, "invalid_event")
    assert not letters.exists()
    assert sentences(result.stderr) == [
        "a dead letter was printed, and not put into the queue: it holds no event of a table"
        " bucket."
    ]


def test_of_an_array_only_the_events_go_into_the_queue(tables: OssTables, tmp_path: Path) -> None:
    """Each item is judged on its own."""
    tables.faults.add(Fault(Refuse(403), operation="PutTableBucketEncryption"))
    letters = tmp_path / "letters.jsonl"

    result = run(
        *("--event", event_file(tmp_path, [creation_of(ARN), {"secret": "x"}])),
        *("--account", ACCOUNT, "--output", "json"),
        GUARD_DEAD_LETTER_QUEUE=f"file:{letters}",
    )

    assert result.exit_code == 1
    assert [letter["reason"] for letter in objects(letters.read_text())] == ["rejected"]
    assert [line.get("event") for line in objects(result.stdout)][2:] == ['{"secret": "x"}']


def test_a_foreign_bucket_in_a_file_is_not_touched(tables: OssTables, tmp_path: Path) -> None:
    """A file's event does not bring its own account along."""
    file = event_file(tmp_path, creation_of(ARN))

    result = run("--event", file, "--account", "99999", "--output", "json")

    assert result.exit_code == 1
    assert objects(result.stdout)[0]["reason"] == "foreign_account"
    assert tables.requests == []


@pytest.mark.parametrize("output", ["json", "table"])
def test_an_unavailable_service_is_a_failure(output: str) -> None:
    """Nothing is printed as a result; one sentence says what is unfinished."""
    result = run(str(ARN), "--output", output)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert [line["error"] for line in logged(result.stderr)] == ["Unavailable"]
    assert str(ARN) in result.stderr.splitlines()[-1]


# Misuse.


def assert_misuse(result: Result, *parts: str) -> None:
    """Exit status 2, nothing on standard output, and one sentence that tells what is wrong."""
    assert result.exit_code == 2
    assert result.stdout == ""
    (sentence,) = result.stderr.splitlines()
    assert all(part in sentence for part in parts)
    assert OPERATOR.secret not in sentence


FORM = "acs:osstables:<region>:<account id>:bucket/<name>"
EITHER = "either the ARN of a table bucket, or --event FILE"
MISUSE: dict[str, tuple[list[str], dict[str, Any], list[str]]] = {
    "no key ID": ([str(ARN)], {"ALIBABA_CLOUD_ACCESS_KEY_ID": None}, ["ALIBABA_CLOUD_ACCESS_KEY"]),
    "no secret": ([str(ARN)], {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": None}, ["KEY_SECRET"]),
    "another service": (["acs:oss:cn-hangzhou:12345:bucket/orders"], {}, [FORM, "--event FILE"]),
    "a line end": ([f"{ARN}\n"], {}, [FORM]),
    "another host": (["acs:osstables:evil.example/:12345:bucket/abc"], {}, [FORM]),
    "neither": ([], {}, [EITHER]),
    "both": ([str(ARN), "--event", "-"], {}, [EITHER]),
    "another account": ([str(ARN), "--account", "99999"], {}, [ACCOUNT, "99999", "omit --account"]),
    "no file": (["--event", "/nowhere/event.json"], {}, ["/nowhere/event.json", "No such file"]),
    "a bad setting": ([str(ARN)], {"GUARD_MODE": "dry"}, ["GUARD_MODE", "dry", "or detect"]),
    "no account": (["--event", "-"], {}, ["--account", "FC_ACCOUNT_ID"]),
    "an account too short": (["--event", "-", "--account", "1234"], {}, ["1234"]),
    "other digits": (["--event", "-", "--account", "\u0661" * 5], {}, ["FC_ACCOUNT_ID"]),
    "an empty account": (["--event", "-", "--account", ""], {}, ["--account"]),
}


@pytest.mark.parametrize(("given", "variables", "parts"), MISUSE.values(), ids=MISUSE)
def test_misuse_is_told(
    given: list[str], variables: dict[str, Any], parts: list[str], tables: OssTables
) -> None:
    """What is wrong is named, and nothing is guessed or tried."""
    result = run(*given, stdin=json.dumps(creation_of(ARN)).encode(), **variables)

    assert_misuse(result, *parts)
    assert tables.requests == []


@pytest.mark.parametrize("word", ["-", "orders", "{file}", "acs:osstables"])
def test_a_file_is_read_only_with_its_option(word: str, tables: OssTables, tmp_path: Path) -> None:
    """A word that somebody pastes, from a dead letter perhaps, opens no file."""
    file = event_file(tmp_path, creation_of(ARN))

    result = run(
        *(word.format(file=file), "--account", ACCOUNT),
        stdin=json.dumps(creation_of(ARN)).encode(),
    )

    assert_misuse(result, "is not the ARN of a table bucket", "pass --event FILE")
    assert tables.requests == []


# What comes from outside.

ESCAPES = "\x1b[31m\x1b]0;title\x07\x9b1m\x7f\u202e\r"


@pytest.mark.parametrize("output", ["json", "table"])
@pytest.mark.parametrize(
    "event",
    [
        creation_of(ARN, event_id=ESCAPES, eventName="DeleteTable"),
        creation_of(ARN, responseElements={"arn": "acs:osstables:" + ESCAPES}),
        json.dumps(creation_of(ARN, responseElements=ESCAPES), ensure_ascii=False).encode(),
        ESCAPES.encode(),
        b"\x9b1m",
    ],
    ids=["id", "ARN", "raw", "no JSON", "no text"],
)
def test_an_event_does_not_steer_the_terminal(event: object, output: str, tmp_path: Path) -> None:
    """Whatever an event holds, only what is printable reaches standard output."""
    result = run("--event", event_file(tmp_path, event), "--account", ACCOUNT, "--output", output)

    assert result.exit_code in (0, 1)
    assert_legible(result.stdout, lines=True)


@pytest.mark.parametrize(
    ("command", "status", "output"),
    [
        (run, "400 Bad Request", "json"),
        (run, "500 Internal Server Error", "table"),
        (plan, "400 Bad Request", "table"),
    ],
    ids=["refused", "unavailable", "plan"],
)
def test_a_service_does_not_steer_the_terminal(
    command: Callable[..., Result], status: str, output: str
) -> None:
    """Neither do the code and the message of an error."""
    body = json.dumps({"Error": {"Code": ESCAPES, "Message": ESCAPES, "EC": ESCAPES}}).encode()

    with Server(answering(status, body)) as server:
        result = command(str(ARN), "--output", output, GUARD_OSS_TABLES_ENDPOINT=server.url)

    assert result.exit_code == 1
    assert_legible(result.stdout + result.stderr, lines=True)


def test_standard_input_that_cannot_be_read_is_misuse(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As a file that cannot be read is."""
    with os.fdopen(os.open(os.devnull, os.O_WRONLY)) as for_writing:
        monkeypatch.setattr("sys.stdin", for_writing)
        with pytest.raises(SystemExit) as raised:
            main(["enforce", "--event", "-", "--account", ACCOUNT])

    assert raised.value.code == 2
    assert capsys.readouterr().err == (
        "encryption-guard: standard input cannot be read: Bad file descriptor.\n"
    )
