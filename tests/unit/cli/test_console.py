"""Printing safely, ending a command, and being stopped: what the commands have in common."""

from __future__ import annotations

import errno
import io
import json
import os
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import click
import pytest
from click.testing import CliRunner

from encryption_guard import __version__
from encryption_guard.cli import main
from encryption_guard.cli.console import (
    MAX_RUN_SECONDS,
    Commands,
    NotLogged,
    Stdout,
    asked_to_stop,
    log_line,
    open_dead_letters,
    progress,
    reopen_closed_streams,
    say,
)
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import ConfigurationError, InvalidEvent
from encryption_guard.settings import Settings
from encryption_guard.untrusted import plain, plain_json
from tests.emulators.cloud import REPOSITORY
from tests.unit.fakes import ACCOUNT, LetterBox, creation_of, forget_logger
from tests.unit.opened import ARN, only

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
each_stop_signal = pytest.mark.parametrize(
    "number", STOP_SIGNALS, ids=[number.name for number in STOP_SIGNALS]
)


@pytest.fixture(autouse=True)
def logger() -> Iterator[None]:
    """A logger of its own for each test."""
    forget_logger()
    yield
    forget_logger()


# Sentences.


def test_sentences_go_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no result says who speaks, and cannot steer the terminal."""
    say("no such bucket: \x1b[31m")

    assert capsys.readouterr() == ("", "encryption-guard: no such bucket: \\x1b[31m\n")


# Streams that take nothing more; tests/integration/cli/test_lost_streams.py has the real commands.


@pytest.fixture
def full() -> Iterator[IO[str]]:
    """A stream whose disk is full."""
    if not Path("/dev/full").exists():
        pytest.skip("there is no full device here")
    stream = Path("/dev/full").open("w", encoding="utf-8")  # noqa: SIM115  (closing it fails)
    yield stream
    # What a test has left in its buffer.
    with suppress(OSError):
        stream.close()


def test_what_is_lost_is_said_once(
    full: IO[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """After the first text that is not taken nothing is printed, and nothing fails again."""
    monkeypatch.setattr(sys, "stdout", full)
    stdout = Stdout()

    stdout.say_if_lost("nothing is said yet")
    stdout.line("a line")
    stdout.line("another one")
    stdout.table(("bucket",), [("orders",)])
    stdout.say_if_lost("two of three were printed")
    full.flush()

    assert stdout.is_lost
    assert capsys.readouterr().err == (
        "encryption-guard: standard output cannot be written (No space left on device): two of"
        " three were printed.\n"
    )


def test_what_has_to_be_logged_raises(full: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time: what depends on it must not be done. What is merely said does not matter."""
    monkeypatch.setattr(sys, "stderr", full)

    for _ in range(2):
        say("A sentence.")
        with pytest.raises(NotLogged, match=r"standard error cannot be written \(No space left"):
            log_line("a line")


def test_a_stream_of_a_test_has_no_descriptor(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream that is none of the system's fails in the same way."""

    class Broken(io.StringIO):
        def write(self, _: str) -> int:
            raise BrokenPipeError(errno.EPIPE, "Broken pipe")

    monkeypatch.setattr(sys, "stdout", Broken())
    stdout = Stdout()

    stdout.line("a line")
    stdout.say_if_lost("nothing was printed")

    assert "(Broken pipe): nothing was printed" in capsys.readouterr().err


@click.group(cls=Commands)
def commands() -> None:
    """Commands."""


@commands.command()
def failing() -> None:
    raise PermissionError(errno.EACCES, "Permission denied")


def test_help_that_is_not_taken_fails(
    full: IO[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is click that prints it."""
    monkeypatch.setattr(sys, "stdout", full)

    with pytest.raises(SystemExit) as raised:
        commands(["--help"])

    assert raised.value.code == 1
    assert capsys.readouterr().err == (
        "encryption-guard: standard output cannot be written (No space left on device).\n"
    )


def test_misuse_that_is_not_taken_is_misuse(full: IO[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """It is click that tells it."""
    monkeypatch.setattr(sys, "stderr", full)

    with pytest.raises(SystemExit) as raised:
        commands(["unheard-of"])

    assert raised.value.code == 2


@commands.command()
def interrupted() -> None:
    raise KeyboardInterrupt


def test_ctrl_c_has_an_exit_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    """A script can tell "stopped" from "open buckets"."""
    with pytest.raises(SystemExit) as raised:
        commands(["interrupted"])

    assert raised.value.code == 130
    assert capsys.readouterr().err.strip() == "encryption-guard: stopped."


def test_another_error_is_not_taken_for_a_lost_stream() -> None:
    """What no command expects is a bug, and is shown as one."""
    with pytest.raises(PermissionError):
        commands(["failing"])


def test_a_closed_stream_becomes_one_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python has None for it; the others stay what they are."""
    output = sys.stdout
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stderr", None)

    reopen_closed_streams()

    assert sys.stdout is output
    with pytest.raises(OSError, match="Bad file descriptor"):
        sys.stdin.read()
    with pytest.raises(OSError, match="Bad file descriptor"):
        print("a line", file=sys.stderr, flush=True)
    for stream in (sys.stdin, sys.stderr):
        with suppress(OSError):
            stream.close()


# Tables.


def test_a_table_has_a_heading_and_a_line_for_each_row(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns are as wide as they have to be; what is empty is a dash."""
    Stdout().table(("bucket", "status"), [("orders", "403"), ("a", None), (None, "")])

    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines] == [
        ["bucket", "status"],
        ["orders", "403"],
        ["a", "-"],
        ["-", "-"],
    ]
    assert len({line.index(cell) for line, cell in zip(lines, ("stat", "403"), strict=False)}) == 1


SENTENCE = "Grant the right. " * 10


def test_a_table_in_a_pipe_is_not_wrapped(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pipe has no width, unless COLUMNS gives it one; without rows there is no heading either."""
    for columns in ("", "80"):
        monkeypatch.setenv("COLUMNS", columns)
        Stdout().table(("bucket", "what to do"), [("orders", SENTENCE)])
        Stdout().table(("bucket", "what to do"), [])

    head, row, *folded = capsys.readouterr().out.splitlines()
    assert head.split() == ["bucket", "what", "to", "do"]
    assert SENTENCE.strip() in row
    assert len(folded) > 2
    assert max(map(len, folded)) <= 80


def test_a_cell_that_is_too_long_is_folded(capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever its length, a cell is printed to its end."""
    Stdout().table(("bucket", "detail"), [("orders", "x" * 1000)])

    out = capsys.readouterr().out
    assert out.count("x") == 1000
    assert max(map(len, out.splitlines())) <= 240


@pytest.mark.parametrize("columns", [34, 35, 40])
def test_no_heading_of_a_narrow_table_is_cut_off(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    """As long as its least widths have room: they are taken from other columns."""
    monkeypatch.setenv("COLUMNS", str(columns))

    Stdout().table(
        ("account", "encryption", "action"), [("2" * 16, "AES256", "would be encrypted")]
    )

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["account", "encryption", "action"]
    assert max(map(len, lines)) <= columns


def test_a_terminal_of_one_column_gets_a_table(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends, whatever there is room for."""
    monkeypatch.setenv("COLUMNS", "1")

    Stdout().table(("account",), [("2" * 16,)])

    assert "2" in capsys.readouterr().out


@pytest.mark.parametrize(
    "cell",
    [
        "\x1b[31mred",
        "[red]red[/red]",
        "a:bomb:b:cn:",
        "\u202e\x9b\x7f",
        "two\nlines",
        "\u516c\u5f00",
    ],
    ids=["escape", "markup", "emoji", "controls", "line end", "Chinese"],
)
def test_a_cell_is_only_text(cell: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Foreign words are printed as they are, or escaped: nothing in them is followed."""
    Stdout().table(("bucket", "detail"), [("orders", cell)])

    (_, row) = capsys.readouterr().out.splitlines()
    assert row.split() == ["orders", *plain(cell).split()]


CHINESE = """
from encryption_guard.cli.console import Stdout, log_line, say
from encryption_guard.untrusted import plain_json
text = "\u516c\u5f00 caf\u00e9 \U0001f600"
out = Stdout()
out.line(text)
out.line(plain_json({"text": text}))
say(text)
log_line(plain_json({"text": text}))
"""


@pytest.mark.parametrize(
    ("encoding", "written"),
    # click takes ASCII for a shell that was not told its language, and writes UTF-8.
    [("utf-8", "utf-8"), ("ascii", "utf-8"), ("latin-1", "latin-1"), ("gb18030", "gb18030")],
)
def test_what_a_stream_cannot_hold_is_escaped(encoding: str, written: str) -> None:
    """Whatever the shell's encoding, no text stops a command, and JSON stays JSON."""
    environment = {
        "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
        "PYTHONIOENCODING": encoding,
    }
    text = "\u516c\u5f00 caf\u00e9 \U0001f600"

    done = subprocess.run(
        [sys.executable, "-c", CHINESE], env=environment, capture_output=True, check=True
    )

    line, as_json = done.stdout.decode(written).splitlines()
    sentence, logged = done.stderr.decode(written).splitlines()
    assert json.loads(f'"{line}"') == json.loads(as_json)["text"] == text
    assert sentence.startswith("encryption-guard: ")
    assert logged.isascii()
    assert json.loads(logged) == {"text": text}
    if written != "latin-1":
        assert (line, sentence) == (text, f"encryption-guard: {text}")


def test_a_log_line_is_ascii(capsys: pytest.CaptureFixture[str]) -> None:
    """As every line that the guard logs, whatever language is in it."""
    log_line(plain_json({"because": "\u6d4b\u8bd5 \U0001f600"}))

    line = capsys.readouterr().err
    assert line == '{"because": "\\u6d4b\\u8bd5 \\ud83d\\ude00"}\n'


def test_ids_and_regions_stay_in_one_piece(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However narrow the terminal is, what is pasted into a command is not folded."""
    monkeypatch.setenv("COLUMNS", "40")

    Stdout().table(
        ("age", "ID", "region", "bucket"), [("10 min", "41b48d3f", "cn-zhangjiakou", "orders" * 10)]
    )

    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 40
    assert all(word in out for word in ("10 min", "41b48d3f", "cn-zhangjiakou"))


# Progress.


@pytest.mark.parametrize("silent", [False, True], ids=["shown", "silent"])
def test_progress_of_a_terminal_adds_up(
    silent: bool, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Standard output has nothing of it; where results are shown as they come, it is silent."""
    monkeypatch.setenv("FORCE_COLOR", "1")

    with progress("letters read", silent=silent) as (expect, one_more):
        expect(2)
        expect(1)
        one_more()

    printed = capsys.readouterr()
    assert printed.out == ""
    assert ("1/3" in printed.err) is not silent


def test_progress_in_a_log_is_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """What is no terminal gets no progress, but the work goes on."""
    with progress("letters read") as (expect, one_more):
        expect(2)
        one_more()

    assert capsys.readouterr() == ("", "")


# Being stopped.


def test_a_program_that_handles_sigterm_itself_keeps_its_handler() -> None:
    """Such as one that calls the commands."""
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        result = CliRunner().invoke(main, ["--version"])
        after = signal.getsignal(signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert (result.exit_code, after) == (0, signal.SIG_IGN)


def handlers() -> list[object]:
    return [signal.getsignal(number) for number in STOP_SIGNALS]


@each_stop_signal
def test_the_first_signal_is_a_request(
    number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command goes on, knows that it should stop, and says what it does."""
    before = handlers()

    with asked_to_stop() as stopping:
        assert not stopping()
        os.kill(os.getpid(), number)
        assert stopping()

    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("encryption-guard: stopping after the work in progress")
    assert handlers() == before


@pytest.mark.parametrize("first", STOP_SIGNALS, ids=[number.name for number in STOP_SIGNALS])
@each_stop_signal
def test_the_second_signal_ends_the_command(
    first: signal.Signals, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever asks again, in whatever way, does not want to wait."""
    before = handlers()
    left: list[int] = []

    with asked_to_stop(leave=left.append):
        os.kill(os.getpid(), first)
        assert left == []
        os.kill(os.getpid(), number)

    assert left == [130]
    assert handlers() == before
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_without_a_signal_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The handlers are put back as they were, also when the command fails."""
    before = handlers()

    def fail() -> None:
        with asked_to_stop() as stopping:
            assert handlers() != before
            assert not stopping()
            raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        fail()

    assert handlers() == before
    assert capsys.readouterr() == ("", "")


# How it is started.


def test_the_package_runs_as_a_module(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`python -m encryption_guard` is the same program."""
    monkeypatch.setattr("sys.argv", ["encryption_guard", "--version"])

    with pytest.raises(SystemExit) as raised:
        runpy.run_module("encryption_guard", run_name="__main__")

    assert raised.value.code == 0
    assert capsys.readouterr().out == f"encryption-guard, version {__version__}\n"


# What a command works with.


def test_a_command_asks_with_the_credentials_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are read for each request, so that renewed ones count."""
    settings = Settings.from_environment({"FC_ACCOUNT_ID": ACCOUNT})

    with open_command(settings, seconds=MAX_RUN_SECONDS) as invocation:
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_ID", "LTAI-renewed")
        monkeypatch.setenv("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "secret")

        assert invocation.settings is settings
        assert invocation.read_credentials().access_key_id == "LTAI-renewed"
        assert 0 < invocation.budget.remaining() <= 120


def test_no_command_begins_with_a_bad_exemption() -> None:
    """It would encrypt what somebody wanted to exempt; the error names each bad entry."""
    settings = Settings.from_environment({"GUARD_EXEMPTIONS": '[{"bucket": "*"}, 5]'})

    with (
        pytest.raises(ConfigurationError, match=r"entry 1: .* entry 2: "),
        open_command(settings, seconds=MAX_RUN_SECONDS),
    ):
        pass


def test_a_letter_of_a_command_says_which() -> None:
    """What an operator's command writes does not look like a function's."""
    box = LetterBox()

    written: Callable[..., object] = open_dead_letters(box.put, command="enforce").write
    written(InvalidEvent("no bucket"), event=only(creation_of(ARN)), arn=None)

    (letter,) = box.read()
    assert letter["function"] == "encryption-guard enforce"
    assert letter["function_request_id"]
