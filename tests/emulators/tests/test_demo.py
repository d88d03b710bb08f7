"""What a newcomer sees first has to work, and to look as the README shows it."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from dataclasses import replace
from typing import cast

import pytest
from rich.console import Console

from encryption_guard.enforcement import Outcome
from tests.emulators.cloud import REPOSITORY
from tests.emulators.demo import DETECTED, NEWCOMER, WATCHED, Ending, play, results_table


@pytest.fixture(scope="module")
def shown() -> str:
    """What the demo prints where nobody's terminal is narrow."""
    command = [sys.executable, "-m", "tests.emulators.demo"]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def test_a_scene_of_the_demo_ends_as_it_should() -> None:
    """In a cloud of its own; the row of its bucket says how."""
    console = Console(file=io.StringIO(), width=150)

    ended = play(DETECTED, mode="detect", console=console)
    console.print(results_table(DETECTED, ended, width=console.width))

    assert [each.outcome for each in ended] == ["detected"]
    assert ended[0].is_as_it_should_be(DETECTED[0])
    assert "✓  preview" in cast("io.StringIO", console.file).getvalue()


@pytest.mark.slow
def test_the_demo_ends_as_it_should(shown: str) -> None:
    """`make demo` shows every outcome there is, and says so with its exit code."""
    assert "29 ended as expected" in shown
    for kind in Outcome.__subclasses__():
        assert f" {kind.outcome} " in shown


@pytest.mark.slow
def test_the_demo_shows_member_accounts(shown: str) -> None:
    """One bucket by its forwarded event, one by the sweep, and an account that is not prepared."""
    lines = shown.splitlines()
    ways = [line.split()[7:9] for line in lines if " in a member account " in line]

    assert ways == [["created", "responseElements"], ["created", "sweep"]]
    (finding,) = (line for line in lines if line.startswith("Not prepared "))
    assert f" acs:ram::{NEWCOMER}:role/" in finding


@pytest.mark.slow
def test_the_demo_shows_what_the_watch_finds(shown: str) -> None:
    """A bucket whose event never comes is encrypted between two sweeps, within seconds."""
    (line,) = (line for line in shown.splitlines() if line.startswith("✓  unannounced "))

    found = re.fullmatch(r".* watch +([0-9.]+) s +none → AES256 *", line)
    assert found
    assert float(found[1]) < 10


def test_a_bucket_that_a_sweep_found_does_not_pass_for_one_of_the_watch() -> None:
    """The demo fails unless the watch itself encrypted that bucket."""
    (scene,) = WATCHED
    ended = Ending(scene.outcome, scene.reason, after=scene.after, found_by="watch")

    assert ended.is_as_it_should_be(scene)
    assert not replace(ended, found_by="sweep").is_as_it_should_be(scene)
    assert not Ending().is_as_it_should_be(scene)


@pytest.mark.slow
@pytest.mark.parametrize("readme", ["README.md", "README.zh-CN.md"])
def test_the_readme_shows_what_the_demo_prints(readme: str, shown: str) -> None:
    """Each line of its block is a line of the demo, but for blanks and times."""
    text = (REPOSITORY / readme).read_text("utf-8")
    (block,) = re.findall(r"```text\n(.*?)```", text, re.DOTALL)

    assert {_words(line) for line in block.splitlines()} <= {
        _words(line) for line in shown.splitlines()
    }


def _words(line: str) -> tuple[str, ...]:
    return tuple(word for word in re.sub(r"[0-9.]+ s ", "", line).split())
