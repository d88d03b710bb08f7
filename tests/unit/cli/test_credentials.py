"""The access key of a command: asked for rarely, kept for all threads, and said before a change."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from threading import Barrier
from time import sleep

import click
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner

from encryption_guard.cli import main
from encryption_guard.cli.credentials import (
    ASK_AGAIN_SECONDS,
    HeldKey,
    open_command,
    profile_option,
    say_who_acts,
)
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError
from encryption_guard.services.sts import Caller
from encryption_guard.settings import Settings
from tests.unit.cli.conftest import each_command
from tests.unit.fakes import ACCOUNT, FakeOssTables, FakeTime, invocation_of

OLD, NEW = (Credentials(f"STS.{name}", "secret", "token") for name in ("OLD", "NEW"))
DOWN = ConfigurationError("Profile prod cannot be used: sts.aliyuncs.com gave no answer.")
CALLER = Caller(ACCOUNT, f"acs:ram::{ACCOUNT}:user/ops", "RAMUser")


@dataclass
class Provider:
    """A source of keys: each question gets the next answer, the last one stays."""

    answers: list[Credentials | ConfigurationError]
    takes: float = 0.0
    asked: list[bool] = field(default_factory=list)

    def __call__(self, renew: bool) -> Credentials:
        self.asked.append(renew)
        answer = self.answers[min(len(self.asked), len(self.answers)) - 1]
        sleep(self.takes)
        if isinstance(answer, ConfigurationError):
            raise answer
        return answer


def held(provider: Callable[[bool], Credentials], time: FakeTime | None = None) -> HeldKey:
    return HeldKey("a source", provider, monotonic=(time or FakeTime()).monotonic)


# When a key is asked for.


def test_a_key_is_asked_for_once_a_minute() -> None:
    """However many requests are signed with it."""
    time, provider = FakeTime(), Provider([OLD, NEW])
    key = held(provider, time)

    first = {key() for _ in range(40)}
    time.sleep(ASK_AGAIN_SECONDS - 1)
    before = key()
    time.sleep(1)

    assert (first, before, key(), key()) == ({OLD}, OLD, NEW, NEW)
    assert provider.asked == [False, False]


def test_all_threads_ask_together() -> None:
    """Eight threads that begin at once and sign forty requests are one question."""
    provider, together = Provider([OLD], takes=0.05), Barrier(8)
    key = held(provider)

    def sign(_: int) -> set[Credentials]:
        together.wait(timeout=10)
        return {key() for _ in range(5)}

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(sign, range(8))) == [{OLD}] * 8
    assert provider.asked == [False]


def test_without_a_key_there_is_an_error_each_time() -> None:
    """Nothing is kept of a failure."""
    key = held(provider := Provider([DOWN, DOWN, OLD]))

    for _ in range(2):
        with pytest.raises(ConfigurationError, match="gave no answer"):
            key()

    assert key() == OLD
    assert provider.asked == [False] * 3


def test_the_last_key_stays_while_its_source_is_down(capsys: pytest.CaptureFixture[str]) -> None:
    """It may be good for long: the sentence comes once, and the command goes on."""
    time, provider = FakeTime(), Provider([OLD, DOWN, DOWN, NEW])
    key = held(provider, time)

    keys = []
    for _ in range(4):
        keys.append(key())
        time.sleep(ASK_AGAIN_SECONDS)

    assert keys == [OLD, OLD, OLD, NEW]
    assert (
        capsys.readouterr().err == f"encryption-guard: {DOWN} The last access key stays in use.\n"
    )


def test_a_refused_key_is_renewed_at_once() -> None:
    """By one question of all threads, for a key that the source has not kept."""
    provider, together = Provider([OLD, NEW], takes=0.05), Barrier(8)
    key = held(provider)
    key()

    def renew(_: int) -> Credentials:
        together.wait(timeout=10)
        key.discard(OLD)
        return key()

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(renew, range(8))) == [NEW] * 8
    assert provider.asked == [False, True]


@pytest.mark.parametrize("answer", [OLD, DOWN], ids=["the same key", "no key"])
@pytest.mark.usefixtures("capsys")
def test_a_source_without_a_new_key_is_not_asked_again(
    answer: Credentials | ConfigurationError,
) -> None:
    """Each of a thousand refused requests would ask it; a minute later it is asked as ever."""
    time, provider = FakeTime(), Provider([OLD, answer])
    key = held(provider, time)
    key()

    for _ in range(3):
        key.discard(OLD)
        assert key() == OLD
    asked = list(provider.asked)
    time.sleep(ASK_AGAIN_SECONDS)
    key()

    assert asked == [False, True]
    assert provider.asked == [False, True, False]


def test_a_key_that_was_replaced_is_not_discarded_again() -> None:
    """A thread whose request was refused late does not throw the newest key away."""
    newest = Credentials("STS.NEWEST", "secret", "token")
    provider = Provider([OLD, NEW, newest])
    key = held(provider)
    for refused in (OLD, NEW):
        assert key() == refused
        key.discard(refused)
    assert key() == newest

    key.discard(OLD)

    assert key() == newest
    assert provider.asked == [False, True, True]


# The option.


@click.command()
@profile_option
def probe() -> None:
    with open_command(Settings(), seconds=10) as invocation:
        click.echo(getattr(invocation.read_credentials, "source", "your shell"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person with two profiles."""
    (tmp_path / ".aliyun").mkdir()
    config = {"current": "dev", "profiles": [{"name": "dev"}, {"name": "prod"}]}
    (tmp_path / ".aliyun" / "config.json").write_text(json.dumps(config), "utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


@pytest.mark.usefixtures("home")
def test_the_option_comes_before_the_variable() -> None:
    """And the variable is not said to be without effect, because the option says so."""
    result = CliRunner().invoke(probe, ["--profile", "prod"], env={"ALIBABA_CLOUD_PROFILE": "dev"})

    assert (result.stdout, result.stderr) == ("profile prod of ~/.aliyun/config.json\n", "")


@pytest.mark.usefixtures("home")
def test_a_variable_beside_a_key_is_said_to_be_without_effect() -> None:
    """The key of the shell counts, as in every tool of the vendor."""
    shell = {
        "ALIBABA_CLOUD_PROFILE": "prod",
        "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI",
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret",
    }

    result = CliRunner().invoke(probe, [], env=shell)

    assert result.stdout == "your shell\n"
    assert result.stderr == (
        "encryption-guard: ALIBABA_CLOUD_PROFILE has no effect: the access key is that of your"
        " shell.\n"
    )


@each_command
@pytest.mark.usefixtures("home")
def test_every_command_refuses_a_profile_that_is_not_there(command: tuple[str, ...]) -> None:
    """As misuse, before anything is asked."""
    queue = {"GUARD_DEAD_LETTER_QUEUE": "file:none"}

    result = CliRunner().invoke(main, [*command, "--profile", "prodd"], env=queue)

    assert (result.exit_code, result.stdout) == (2, "")
    assert 'no profile "prodd". Did you mean prod?' in result.stderr


def test_an_empty_name_is_misuse() -> None:
    """`--profile "$PROFILE"` without the variable must not mean another key."""
    result = CliRunner().invoke(main, ["sweep", "--region", "cn-hangzhou", "--profile", ""])

    assert result.exit_code == 2
    assert "the name is empty" in result.stderr


def completed(typed: str) -> list[str]:
    shell = ShellComplete(probe, {}, "probe", "_PROBE_COMPLETE")
    return [item.value for item in shell.get_completions(["--profile"], typed)]


def test_a_shell_completes_the_names_of_profiles(home: Path) -> None:
    """Those of the file; none, and no error, if it cannot be read."""
    assert [completed(typed) for typed in ("", "p", "x")] == [["dev", "prod"], ["prod"], []]

    (home / ".aliyun" / "config.json").write_text("{", "utf-8")
    assert completed("") == []


# Who acts.


def test_account_caller_and_source_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    """Of the key only its first four characters."""
    invocation = invocation_of(FakeOssTables(), read_credentials=held(Provider([OLD])))

    say_who_acts(invocation, (CALLER, ""))

    assert capsys.readouterr().err == (
        f"encryption-guard: acting as {CALLER.arn} of account {ACCOUNT}, with the access key"
        " STS.... of a source.\n"
    )


def test_an_unknown_caller_is_said_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    """The service that knows it may not be reachable, and nothing waits for that."""
    invocation = invocation_of(FakeOssTables(), environment={"GUARD_MAX_ATTEMPTS": "1"})

    say_who_acts(invocation)

    said = capsys.readouterr().err
    assert "acting as an unknown caller (GetCallerIdentity of sts.aliyuncs.com" in said
    assert said.endswith("), with the access key AKID... of your shell.\n")


def test_without_credentials_nobody_acts(capsys: pytest.CaptureFixture[str]) -> None:
    """The error is the command's."""
    invocation = invocation_of(FakeOssTables(), read_credentials=held(Provider([DOWN])))

    with pytest.raises(ConfigurationError, match="gave no answer"):
        say_who_acts(invocation)
    assert capsys.readouterr().err == ""
