"""What `make` sets up: once, again after whatever broke it, and else with the true reason."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from layers.encryption_guard.tools.build import REPOSITORY

pytestmark = pytest.mark.slow

SURROUNDINGS = dict(os.environ)  # noqa: TID251  those of whoever runs make
MAKES_IT_AGAIN = "-m venv --clear"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder in which make can set something up without touching what is set up here."""
    names = ["Makefile", "package.json", "package-lock.json", "pyproject.toml"]
    for file in [*(REPOSITORY / name for name in names), *REPOSITORY.glob("requirements*")]:
        shutil.copy(file, tmp_path)
    pip = Path("layers", "encryption_guard", "tools", "isolated_pip.py")
    (tmp_path / pip).parent.mkdir(parents=True)
    shutil.copy(REPOSITORY / pip, tmp_path / pip)
    return tmp_path


def make(
    project: Path, *arguments: str, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    # A make that runs these tests has told its own options to its children.
    inherited = {name: text for name, text in SURROUNDINGS.items() if "MAKE" not in name}
    return subprocess.run(
        ["make", "-C", project, *arguments],
        env={**inherited, **(variables or {})},
        check=False,
        capture_output=True,
        text=True,
    )


def script(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)
    return file


def virtual_environment(project: Path) -> Path:
    """One that looks whole, whose Python is the one that runs the tests."""
    folder = project / ".venv"
    script(folder / "bin" / "python", f'exec "{sys.executable}" "$@"')
    runs = f"{sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"
    (folder / ".dependencies").write_text(f"{folder} {runs}\n")
    (folder / ".installed").touch()
    return folder


def planned(project: Path, *arguments: str) -> str:
    """What make would do to have a virtual environment."""
    done = make(project, "--dry-run", ".venv/.installed", *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


# .venv.


def test_what_is_whole_is_not_set_up_again(project: Path) -> None:
    """The second call does nothing."""
    virtual_environment(project)

    assert "up to date" in planned(project)
    assert "up to date" in planned(project, f"PYTHON={sys.executable}")


def lose_the_python(project: Path) -> None:
    """As a distribution's upgrade does it."""
    python = project / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")


def take_another_version(project: Path) -> None:
    """As an upgrade of what `python3` means does it: packages lie elsewhere."""
    script(project / ".venv" / "bin" / "python", "echo /usr 3.99")


def update_a_lock(project: Path) -> None:
    """As an update of the repository does it."""
    later = (project / ".venv" / ".dependencies").stat().st_mtime + 10
    os.utime(project / "requirements-dev.txt", (later, later))


@pytest.mark.parametrize(
    "change",
    [
        lambda project: (project / ".venv" / ".dependencies").unlink(),
        lose_the_python,
        take_another_version,
        update_a_lock,
    ],
    ids=["half made", "without its Python", "another Python", "a newer lock"],
)
def test_what_is_not_whole_is_made_again(project: Path, change: Callable[[Path], object]) -> None:
    """The next call does not take the folder for what is locked."""
    virtual_environment(project)

    change(project)

    assert MAKES_IT_AGAIN in planned(project)


def test_what_was_moved_is_made_again(project: Path) -> None:
    """Its commands name the place that they were installed to."""
    virtual_environment(project)

    assert MAKES_IT_AGAIN in planned(project.rename(project.with_name("moved")))


def test_another_python_counts_where_it_is_named(project: Path) -> None:
    """`make test PYTHON=python3.10` tests that one, and not the one that was there."""
    virtual_environment(project)
    other = script(project / "other", f'exec "{sys.executable}" -c "print(0, 3, 10)"')

    assert MAKES_IT_AGAIN in planned(project, f"PYTHON={other}")


def test_a_python_that_cannot_be_used_costs_nothing(project: Path) -> None:
    """It is named, and what was set up before stays."""
    folder = virtual_environment(project)
    other = script(project / "other", "exit 1")

    done = make(project, ".venv/.installed", f"PYTHON={other}")

    assert done.returncode != 0
    assert f"{other} is not a Python 3.10 or newer with venv" in done.stderr
    assert (folder / ".dependencies").exists()


def test_what_is_being_emptied_does_not_count(project: Path) -> None:
    """An interruption there may leave a Python that runs, and not its packages."""
    folder = virtual_environment(project)
    (folder / ".dependencies").write_text("elsewhere")
    fails = script(project / "other", f'[ "$1" = -m ] && exit 1\nexec "{sys.executable}" "$@"')

    done = make(project, ".venv/.installed", f"PYTHON={fails}")

    assert "could not create .venv" in done.stderr
    assert not (folder / ".dependencies").exists()
    assert not (folder / ".installed").exists()


def test_a_folder_of_somebody_else_is_not_emptied(project: Path) -> None:
    """VENV may be set by mistake, or for another project."""
    # As in a home, or in /usr: a Python is there, and it is no virtual environment's.
    script(project / "precious" / "bin" / "python", "exit 1")
    (project / "precious" / "thesis.txt").write_text("all of it")

    done = make(project, "precious/.installed", "VENV=precious", f"PYTHON={sys.executable}")

    assert done.returncode != 0
    assert "precious is not empty and not a virtual environment" in done.stderr
    assert (project / "precious" / "thesis.txt").exists()


def test_an_installation_that_fails_says_so_and_begins_anew(project: Path) -> None:
    """pip's own words, one sentence that says what to do, and nothing that counts as set up."""
    done = make(
        project, ".venv/.installed", f"PYTHON={sys.executable}", variables={"PIP_NO_INDEX": "1"}
    )

    assert done.returncode != 0
    assert "No matching distribution found for pip==" in done.stderr
    assert (
        "pip could not install the locked packages: fix the error above. "
        "Then run the same command again" in done.stderr
    )
    assert MAKES_IT_AGAIN in planned(project)


def test_variables_of_python_do_not_reach_what_is_set_up(project: Path) -> None:
    """With them, modules of another Python would be imported, or compiled at each start."""
    probed = f'[ "$1" = -E ] && exec "{sys.executable}" "$@"'
    script(virtual_environment(project) / "bin" / "python", f"{probed}\nenv")

    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONDONTWRITEBYTECODE")
    done = make(project, "demo", variables=dict.fromkeys(names, str(project)))

    assert "PATH=" in done.stdout
    assert [name for name in names if f"{name}=" in done.stdout] == []
    assert "Setting up" not in done.stderr


# node_modules.


def with_npm(project: Path, text: str) -> dict[str, str]:
    """The surroundings in which `npm` is this script."""
    script(project / "path" / "npm", text)
    return {"PATH": f"{project / 'path'}:{SURROUNDINGS['PATH']}"}


INSTALLS = (
    "mkdir -p node_modules/.bin\n"
    "printf '#!/bin/sh\\necho 3.1.10\\n' > node_modules/.bin/s\nchmod +x node_modules/.bin/s"
)


def test_serverless_devs_is_installed_once(project: Path) -> None:
    """The second call does nothing; one after `node_modules` was emptied does it again."""
    variables = with_npm(project, f"echo ran >> npm.log\n{INSTALLS}")

    for _ in range(2):
        assert make(project, "serverless-devs", variables=variables).returncode == 0
    assert (project / "npm.log").read_text() == "ran\n"

    (project / "node_modules" / ".bin" / "s").unlink()
    assert make(project, "serverless-devs", variables=variables).returncode == 0
    assert (project / "npm.log").read_text() == "ran\nran\n"


@pytest.mark.parametrize(
    ("npm", "sentence"),
    [
        ("echo E: no network >&2; exit 1", "npm could not install Serverless Devs"),
        ("mkdir -p node_modules/.bin", "Serverless Devs was installed but does not run"),
    ],
    ids=["npm fails", "npm installs nothing and ends well"],
)
def test_what_keeps_serverless_devs_from_being_installed_is_said(
    project: Path, npm: str, sentence: str
) -> None:
    """In one sentence after the words of npm; and the next call tries again."""
    for _ in range(2):
        done = make(project, "serverless-devs", variables=with_npm(project, npm))

        assert done.returncode != 0
        assert f"{sentence}: fix the error above. Then run the same command" in done.stderr


def test_without_npm_that_is_the_reason(project: Path) -> None:
    """And nothing else is said to be."""
    tools = project / "tools"
    tools.mkdir()
    for name in ("make", "sh", "grep", "env"):
        (tools / name).symlink_to(shutil.which(name) or name)

    done = make(project, "serverless-devs", variables={"PATH": str(tools)})

    assert done.returncode != 0
    assert "npm is not installed" in done.stderr


# Each alone would change what `npm ci` installs, or where.
SETTINGS_OF_NPM = {
    "NODE_ENV": "production",
    "npm_config_omit": "dev",
    "npm_config_production": "true",
    "npm_config_global": "true",
    "npm_config_dry_run": "true",
    "npm_config_bin_links": "false",
    "npm_config_package_lock": "false",
    "npm_config_package_lock_only": "true",
    "npm_config_workspaces": "true",
}


@pytest.mark.skipif(shutil.which("npm") is None, reason="npm is not here")
def test_settings_of_npm_do_not_change_what_is_installed(project: Path) -> None:
    """The real npm, and a package that it need not fetch where package.json names the real one."""
    script(project / "package" / "s", "echo 3.1.10")
    written = {"name": "@serverless-devs/s", "version": "3.1.10", "bin": {"s": "s"}}
    (project / "package" / "package.json").write_text(json.dumps(written))
    wanted = (project / "package.json").read_text("utf-8")
    (project / "package.json").write_text(wanted.replace('"3.1.10"', '"file:package"'))
    lock = ["npm", "install", "--package-lock-only", "--offline", "--silent"]
    subprocess.run(lock, cwd=project, check=True)

    done = make(project, "serverless-devs", variables=SETTINGS_OF_NPM)

    assert done.returncode == 0, done.stderr
    assert (project / "node_modules" / ".bin" / "s").exists()
