"""`--quiet` and `--debug` of every command."""

from __future__ import annotations

import pytest
from click.testing import CliRunner, Result

from encryption_guard.cli import main
from encryption_guard.cli.console import Stdout, note
from encryption_guard.cli.verbosity import is_debug, is_quiet
from tests.unit.cli.conftest import each_command


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@each_command
def test_quiet_and_debug_exclude_each_other(command: tuple[str, ...]) -> None:
    """Nobody wants both: one of them is a mistake."""
    for flags in (("--quiet", "--debug"), ("--debug", "--quiet")):
        result = run(*command, *flags)

        assert result.exit_code == 2
        assert "either --quiet or --debug" in result.stderr


@pytest.mark.usefixtures("shell", "queue")
def test_quiet_leaves_out_what_is_no_problem() -> None:
    """The plan is a result; that it is one, and its total, are notes."""
    loud = run("dead-letters", "discard", "--all")
    quiet = run("dead-letters", "discard", "--all", "--quiet")

    assert "dry run" in loud.stderr
    assert quiet.stderr == ""
    assert (quiet.stdout, quiet.exit_code) == (loud.stdout, loud.exit_code)


@pytest.mark.usefixtures("shell", "queue")
def test_quiet_does_not_hide_a_problem() -> None:
    """What was asked for is not there."""
    result = run("dead-letters", "discard", "abcdefgh", "--quiet")

    assert "No message in the queue has the ID abcdefgh" in result.stderr
    assert result.exit_code == 1


@pytest.mark.usefixtures("shell", "queue")
def test_debug_says_version_and_source_of_the_key() -> None:
    """What a report of a bug begins with."""
    result = run("dead-letters", "list", "--debug")

    assert result.stderr.startswith("encryption-guard: debug: version ")
    assert "access key of your shell" in result.stderr.splitlines()[0]
    assert "debug" not in result.stdout


def test_outside_of_a_command_nothing_is_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    """As in a thread, or in the function."""
    note("something")

    assert (is_quiet(), is_debug(), Stdout().is_lost) == (False, False, False)
    assert capsys.readouterr().err == "encryption-guard: something\n"
