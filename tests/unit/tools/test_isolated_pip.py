"""Of pip's settings only those count that say where packages come from: pip itself is asked."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from layers.encryption_guard.tools import isolated_pip
from layers.encryption_guard.tools.build import REPOSITORY
from layers.encryption_guard.tools.isolated_pip import SOURCE_OPTIONS

# Each would change what an installation does, or where it goes.
CHANGES = {
    "PIP_USER": "1",
    "PIP_PREFIX": "/elsewhere",
    "PIP_ROOT": "/elsewhere",
    "PIP_TARGET": "/elsewhere",
    "PIP_DRY_RUN": "1",
    "PIP_PYTHON": "/elsewhere/python",
    "PIP_PLATFORM": "win32",
    "PIP_CONSTRAINT": "/elsewhere/constraints.txt",
    "PIP_NO_BINARY": ":all:",
    "PIP_REQUIRE_HASHES": "1",
    "PIP_QUIET": "3",
    "PIP_ISOLATED": "1",
}
SURROUNDINGS = dict(os.environ)  # noqa: TID251  pip's settings, not ours
INDEX = "https://mirror.example/simple"

# What of pip's answer is looked at: this machine has settings of its own.
VARIED = {name.removeprefix("PIP_").lower().replace("_", "-") for name in CHANGES} | {
    "index-url",
    "proxy",
}


def settings(variables: dict[str, str], folder: Path) -> dict[str, str]:
    """What pip goes by when this program starts it there, as pip tells it."""
    inherited = {name: text for name, text in SURROUNDINGS.items() if not name.startswith("PIP_")}
    # A file of the user's, in a home of its own, beside whatever this machine's files say.
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_CONFIG_DIRS": str(folder)}
    done = subprocess.run(
        [sys.executable, "-m", isolated_pip.__name__, "config", "list"],
        cwd=REPOSITORY,
        env={**inherited, **home, **variables},
        check=True,
        capture_output=True,
        text=True,
    )
    lines = [line.partition("=") for line in done.stdout.splitlines()]
    told = {name.removeprefix(":env:."): value.strip("'") for name, _, value in lines}
    return {name: text for name, text in told.items() if name in VARIED}


def test_a_variable_that_changes_where_things_go_does_not_count(tmp_path: Path) -> None:
    """A cloud workspace sets some of them for everybody."""
    assert settings({**CHANGES, "PIP_INDEX_URL": INDEX}, tmp_path) == {"index-url": INDEX}


@pytest.mark.slow
def test_of_a_file_the_same_settings_count_as_of_variables(tmp_path: Path) -> None:
    """`user = true` does not count, nor does it hide what does: the mirror and the proxy."""
    changes = [
        f"{name.removeprefix('PIP_').lower().replace('_', '-')} = {value}"
        for name, value in CHANGES.items()
    ]
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text(
        "\n".join(["[global]", *changes, f"index-url = {INDEX}", "[install]", "proxy = http://p:1"])
    )

    assert settings({}, tmp_path) == {"index-url": INDEX, "proxy": "http://p:1"}


@pytest.mark.slow
def test_of_several_files_the_one_counts_that_counts_for_pip(tmp_path: Path) -> None:
    """PIP_CONFIG_FILE comes before the user's file, whatever its name; `[install]` comes last."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://of.the.user\nproxy = http://global:1\n"
        "[install]\nproxy = http://install:1\n"
    )
    (tmp_path / "a.conf").write_text(f"[global]\nindex-url = {INDEX}\n")

    counted = settings({"PIP_CONFIG_FILE": str(tmp_path / "a.conf")}, tmp_path)

    assert counted == {"index-url": INDEX, "proxy": "http://install:1"}


@pytest.mark.slow
def test_of_several_files_for_everybody_the_last_counts(tmp_path: Path) -> None:
    """Of those `pip config get` knows none."""
    for number, name in enumerate(["z", "a"]):
        (tmp_path / name / "pip").mkdir(parents=True)
        text = f"[install]\nproxy = http://p:{number}\n"
        (tmp_path / name / "pip" / "pip.conf").write_text(text)

    counted = settings({"XDG_CONFIG_DIRS": f"{tmp_path / 'z'}:{tmp_path / 'a'}"}, tmp_path)

    assert counted == {"proxy": "http://p:1"}


@pytest.mark.slow
def test_a_variable_comes_before_a_file(tmp_path: Path) -> None:
    """As for pip itself; an empty one is none."""
    (tmp_path / "pip").mkdir()
    (tmp_path / "pip" / "pip.conf").write_text(f"[global]\nindex-url = {INDEX}\nproxy = http://p:1")

    counted = settings({"PIP_INDEX_URL": "", "PIP_PROXY": "http://q:2"}, tmp_path)

    assert counted == {"index-url": INDEX, "proxy": "http://q:2"}


@pytest.mark.slow
def test_a_file_that_pip_cannot_read_is_told_in_its_words(tmp_path: Path) -> None:
    """pip names the file and the line; nothing is installed as if it were not there."""
    (tmp_path / "pip.conf").write_text("index-url = before any section\n")

    done = subprocess.run(
        [sys.executable, "-m", isolated_pip.__name__, "install", "--quiet"],
        cwd=REPOSITORY,
        env={**SURROUNDINGS, "PIP_CONFIG_FILE": str(tmp_path / "pip.conf")},
        check=False,
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr.startswith("pip cannot read its own configuration:\n")
    assert str(tmp_path / "pip.conf") in done.stderr


@pytest.mark.slow
def test_what_counts_are_options_of_pip() -> None:
    """pip has each of them, so none is misspelt; what is new among its sources is seen here."""
    told = subprocess.run(
        [sys.executable, "-m", "pip", "install", "--help"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    options = set(re.findall(r"--([a-z-]+)", told))
    package_index = told.partition("Package Index Options:")[2].partition("\n\n")[0]

    # Two have a second name, which `--help` does not print.
    assert SOURCE_OPTIONS - {"pypi-url", "default-timeout"} <= options
    assert (
        set(re.findall(r"^  (?:-., )?--([a-z-]+)", package_index, re.MULTILINE)) <= SOURCE_OPTIONS
    )
