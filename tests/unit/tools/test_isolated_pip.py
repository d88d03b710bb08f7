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
from layers.encryption_guard.tools.isolated_pip import SOURCE_OPTIONS, isolate

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


@pytest.mark.slow
def test_a_variable_that_changes_where_things_go_does_not_count(tmp_path: Path) -> None:
    """A cloud workspace sets some of them for everybody; pip itself is asked."""
    inherited = {name: text for name, text in SURROUNDINGS.items() if not name.startswith("PIP_")}
    home = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path), "PIP_INDEX_URL": INDEX}

    printed = subprocess.run(
        [sys.executable, "-m", isolated_pip.__name__, "config", "list"],
        cwd=REPOSITORY,
        env={**inherited, **home, **CHANGES},
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert f":env:.index-url='{INDEX}'" in printed
    names = [name.removeprefix("PIP_").lower().replace("_", "-") for name in CHANGES]
    assert [name for name in names if f".{name}=" in printed] == []


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder with all of pip's files; beside `pip/pip.conf` a variable may name one."""
    for name in ("HOME", "XDG_CONFIG_HOME", "XDG_CONFIG_DIRS"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.delenv("PIP_CONFIG_FILE", raising=False)
    (tmp_path / "pip").mkdir()
    return tmp_path


def counted(**variables: str) -> dict[str, str]:
    """What of these two, and of what changes something, pip then goes by."""
    isolated = isolate(variables)
    names = {*CHANGES, "PIP_INDEX_URL", "PIP_PROXY"}
    return {name: text for name, text in isolated.items() if name in names}


@pytest.mark.usefixtures("files")
def test_of_variables_only_sources_count() -> None:
    """What says where packages come from."""
    assert counted(**CHANGES, PIP_INDEX_URL=INDEX) == {"PIP_INDEX_URL": INDEX}


def test_of_a_file_the_same_settings_count_as_of_variables(files: Path) -> None:
    """`user = true` does not count, nor does it hide what does: the mirror and the proxy."""
    changes = [
        f"{name.removeprefix('PIP_').lower().replace('_', '-')} = {value}"
        for name, value in CHANGES.items()
    ]
    lines = ["[global]", *changes, f"index-url = {INDEX}", "[install]", "proxy = http://p:1"]
    (files / "pip" / "pip.conf").write_text("\n".join(lines))

    assert counted() == {"PIP_INDEX_URL": INDEX, "PIP_PROXY": "http://p:1"}
    assert counted(PIP_INDEX_URL="", PIP_PROXY="http://q:2") == {
        "PIP_INDEX_URL": INDEX,
        "PIP_PROXY": "http://q:2",
    }


def test_of_several_files_the_one_counts_that_counts_for_pip(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PIP_CONFIG_FILE comes before the user's file, whatever its name; `[install]` comes last."""
    (files / "pip" / "pip.conf").write_text(
        "[global]\nindex-url = https://of.the.user\nproxy = http://global:1\n"
        "[install]\nproxy = http://install:1\n"
    )
    (files / "a.conf").write_text(f"[global]\nindex-url = {INDEX}\n")
    monkeypatch.setenv("PIP_CONFIG_FILE", str(files / "a.conf"))

    assert counted() == {"PIP_INDEX_URL": INDEX, "PIP_PROXY": "http://install:1"}


def test_a_file_that_pip_cannot_read_is_said_in_its_words(files: Path) -> None:
    """pip names the file and the line; nothing is installed as if it were not there."""
    (files / "pip" / "pip.conf").write_text("index-url = before any section\n")

    with pytest.raises(SystemExit) as ended:
        isolated_pip.main()

    assert str(ended.value).startswith("pip cannot read its own configuration:\n")
    assert str(files / "pip" / "pip.conf") in str(ended.value)


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
