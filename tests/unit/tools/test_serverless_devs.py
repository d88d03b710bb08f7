"""What is read from, and kept out of, what Serverless Devs prints."""

from __future__ import annotations

import io
import json
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from layers.encryption_guard.tools.serverless_devs import (
    DEFAULT_REMEDY,
    ServerlessDevs,
    StepFailed,
    find_json,
    find_remedy,
    redact,
    tail,
)

KEY = {
    "AccessKeyID": "LTAI5tExample",
    "AccessKeySecret": "secret-of-key",
    "SecurityToken": "x" * 40,
}
ENVIRONMENT = {
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret-of-the-shell",
    "my_serverless_devs_key": json.dumps(KEY),
    "GUARD_WEBHOOK": "https://hooks.example.com/robot?access_token=abc",
    "TOKENIZERS": "true",
}


def command(program: str, *, log: io.StringIO, told: list[str]) -> ServerlessDevs:
    """A Python program in the place of `s`."""
    return ServerlessDevs((sys.executable, "-c", program), (), ENVIRONMENT, log, told.append)


@pytest.mark.parametrize(
    "secret",
    [
        "secret-of-the-shell",
        "secret-of-key",
        "x" * 40,
        "https://hooks.example.com/robot?access_token=abc",
    ],
)
def test_no_secret_of_the_environment_is_seen(secret: str) -> None:
    """Whoever prints it: keys, tokens, those within the JSON of an alias, and a web hook's URL."""
    assert redact(f"<{secret}>", ENVIRONMENT) == "<****>"


def test_what_is_no_secret_stays() -> None:
    """A switch whose name sounds like a secret is not struck out of every line."""
    assert redact("triggerEnable: true", ENVIRONMENT) == "triggerEnable: true"


def test_the_log_has_everything_but_secrets_and_colours() -> None:
    """What is kept in a file can be read, and shown to others."""
    log, told = io.StringIO(), list[str]()
    program = r"print('\x1b[33mkey secret-of-the-shell\x1b[39m done')"

    printed = command(program, log=log, told=told).run("deploy", "-y")

    assert printed == "key **** done\n"
    assert log.getvalue() == "$ s deploy -y\nkey **** done\n"
    assert told == ["key **** done"]


def test_arguments_carry_the_template_and_the_alias() -> None:
    """The template and the options of the key follow the command's own arguments."""
    log = io.StringIO()
    s = ServerlessDevs(
        (sys.executable, "-c", "import sys; print(sys.argv[1:])"), ("-a", "k"), {}, log, print
    )

    assert s.run("infra", "remove") == "['infra', 'remove', '-t', 'template.yaml', '-a', 'k']\n"


def test_a_failure_tells_its_end_and_a_remedy() -> None:
    """The last lines are kept, warnings about who runs it are not."""
    program = "print('[2026-11-23 01:00:00][WARN][s_cli] root'); print('NoPermission'); exit(101)"

    with pytest.raises(StepFailed, match="`s deploy -y` ended with 101") as failed:
        command(program, log=io.StringIO(), told=[]).run("deploy", "-y")

    assert failed.value.output == "NoPermission"
    assert "right" in failed.value.remedy


def test_what_a_command_logs_goes_with_it(tmp_path: Path) -> None:
    """The components write their inputs there, also the URL of the web hook."""
    program = (
        "import os, pathlib; place = pathlib.Path(os.environ['HOME'], '.s', 'logs',"
        " os.environ['serverless_devs_traceid']); place.mkdir(parents=True);"
        " (place / 'infra.log').write_text('a web hook'); print(place)"
    )
    s = command(program, log=io.StringIO(), told=[])

    place = replace(s, environment={"HOME": str(tmp_path)}).run("deploy").strip()

    assert Path(place).parent == tmp_path / ".s" / "logs"
    assert not Path(place).exists()


def test_it_is_never_asked_anything() -> None:
    """A question would hang where nobody looks: there is nothing to read the answer from."""
    program = "import sys; print(repr(sys.stdin.read()))"

    assert command(program, log=io.StringIO(), told=[]).run("deploy") == "''\n"


@pytest.mark.parametrize(
    ("printed", "word"),
    [
        ("Code: Forbidden.RAM, the user is not authorized", "right"),
        ("SignatureDoesNotMatch: Specified signature is not matched", "key"),
        ("FC service is NotEnabled", "activate"),
        ("InvalidArgument: reservedConcurrency is over the quota", "GUARD_ACCOUNTS_PER_SHARE"),
        ("ResourceExhausted: exceeds the limit of concurrency", "GUARD_ACCOUNTS_PER_SHARE"),
        ("getaddrinfo ENOTFOUND ros.aliyuncs.com", "network"),
    ],
)
def test_a_known_failure_has_a_remedy(printed: str, word: str) -> None:
    """What the platform says in code words is told in plain ones."""
    assert word in find_remedy(printed)


def test_an_unknown_failure_can_be_repeated() -> None:
    """Whatever it was, running it again does no harm."""
    assert find_remedy("something else") == DEFAULT_REMEDY


def test_the_tail_is_what_says_something() -> None:
    """Empty lines are left out, and of many lines the last ones are shown."""
    printed = "\n\n".join(str(number) for number in range(100))

    assert tail(printed).splitlines() == [str(number) for number in range(75, 100)]


@pytest.mark.parametrize(
    ("printed", "value"),
    [
        ('{"version": 7}', {"version": 7}),
        ('[2026-11-23 01:20:56][INFO] Layer baseDir is: x\n{\n  "version": 7\n}\n', {"version": 7}),
        ('[{"version": 1}]\n', [{"version": 1}]),
        ('{"a": 1}\nmore\n{"b": 2}\n✔ completed\n', {"b": 2}),
    ],
    ids=["alone", "after a log line", "a list", "the last one"],
)
def test_json_is_found_among_lines(printed: str, value: object) -> None:
    """The commands print more than the JSON that they were asked for."""
    assert find_json(printed) == value


@pytest.mark.parametrize("printed", ["", "no JSON", "{broken", "[2026-11-23][WARN] only"])
def test_no_json_is_said(printed: str) -> None:
    """Nothing is made up where there is none."""
    with pytest.raises(ValueError, match="no JSON"):
        find_json(printed)


# A command that does not end by itself.


def test_a_command_that_waits_for_ever_is_stopped() -> None:
    """With what it printed last, and where to look; its children are stopped too."""
    program = (
        "import subprocess, sys; print('Stack status = DELETE_IN_PROGRESS', flush=True);"
        "subprocess.run([sys.executable, '-c', 'import time; time.sleep(60)'])"
    )
    waiting = replace(command(program, log=io.StringIO(), told=[]), max_seconds=0.6)
    started = time.monotonic()

    with pytest.raises(StepFailed, match="did not end within 0 minutes") as failed:
        waiting.run("infra", "remove")

    assert time.monotonic() - started < 10
    assert "DELETE_IN_PROGRESS" in failed.value.output
    assert "console of Resource Orchestration Service" in failed.value.remedy


@pytest.mark.parametrize(
    ("printed", "reason"),
    [
        ("[2026-11-30 01:00:00][INFO][infra] Stack status = DELETE_FAILED", "in DELETE_FAILED"),
        ("[2026-11-30 01:00:%02d][ERROR][infra] 403 Forbidden", "the same error 20 times"),
        (
            "[2026-11-30 01:00:%02d][ERROR][infra] 503, id 7A1B2C3D-0000-4000-8000-00000000%02d",
            "the same error 20 times",
        ),
    ],
)
def test_what_can_never_end_is_stopped_at_once(printed: str, reason: str) -> None:
    """A deletion that failed, and a state that cannot be read, are waited for without a limit."""
    program = (
        "import itertools, time\n"
        f"for n in itertools.count(): print({printed!r}.replace('%02d', f'{{n:02}}'), flush=True);"
        "time.sleep(0.005)"
    )

    with pytest.raises(StepFailed, match=f"`s infra remove` was stopped: .*{reason}") as failed:
        command(program, log=io.StringIO(), told=[]).run("infra", "remove")

    assert "console of Resource Orchestration Service" in failed.value.remedy


def test_different_errors_are_no_endless_wait() -> None:
    """As when a removal reports each part that it cannot remove."""
    program = "for n in range(50): print(f'[2026-11-30][ERROR][infra] part {n}')"

    assert command(program, log=io.StringIO(), told=[]).run("infra").count("ERROR") == 50


def test_an_error_while_the_output_is_read_leaves_nothing_waiting() -> None:
    """Otherwise a full pipe would hold the command, and the command the deployment."""
    program = "for number in range(200_000): print('a line', number)"
    started = time.monotonic()

    def fail(_: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        replace(command(program, log=io.StringIO(), told=[]), on_line=fail).run("plan")

    assert time.monotonic() - started < 10


@pytest.mark.parametrize("value", ["", "no JSON", "[]", "17"])
def test_a_key_that_is_no_json_hangs_nothing(value: str) -> None:
    """What cannot be read has no secret that could be hidden."""
    assert redact("a line", {"ci_serverless_devs_key": value}) == "a line"
