"""What `make build` decides before it asks the package index."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from layers.encryption_guard.build import LAYER, applies, requirements_for, write_zip

LOCKED = (LAYER / "requirements.txt").read_text("utf-8")


@pytest.mark.parametrize(
    ("marker", "runtime", "holds"),
    [
        ("python_full_version < '3.11'", "3.10", True),
        ("python_full_version < '3.11'", "3.12", False),
        ("python_full_version >= '3.11'", "3.10", False),
        ("python_full_version >= '3.11'", "3.12", True),
    ],
)
def test_a_marker_is_judged_by_the_runtime(marker: str, runtime: str, holds: bool) -> None:
    """It is the runtime's Python that counts, not the one that builds."""
    assert applies(marker, runtime) == holds


def test_an_unknown_marker_stops_the_build() -> None:
    """A marker that nobody thought of must not silently drop or keep a dependency."""
    with pytest.raises(SystemExit, match="sys_platform"):
        applies("sys_platform == 'win32'", "3.12")


@pytest.mark.parametrize(("runtime", "backport"), [("3.10", True), ("3.12", False)])
def test_the_lock_is_narrowed_to_the_runtime(runtime: str, backport: bool) -> None:
    """Every kept requirement has its hashes and no marker; backports only go where they belong."""
    kept = requirements_for(runtime, LOCKED)

    assert ";" not in kept
    assert kept.count("==") == LOCKED.count("==") - (0 if backport else 1)
    assert ("exceptiongroup==" in kept) == backport
    assert kept.count(" \\\n    --hash=") >= kept.count("==")


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    """Neither times nor permissions nor the order of creation show in the archive."""
    for folder, names in (("one", ["a.py", "b.py"]), ("two", ["b.py", "a.py"])):
        for name in names:
            file = tmp_path / folder / "python" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(name)
            file.chmod(0o600 if folder == "one" else 0o755)
        write_zip(tmp_path / f"{folder}.zip", tmp_path / folder)

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_only_the_installer_needs_is_left_out(tmp_path: Path) -> None:
    """Bytecode, scripts and the installer's records do not ship; licences do."""
    kept = ["python/p/__init__.py", "python/p-1.dist-info/licenses/LICENSE"]
    dropped = ["python/bin/p", "python/p/__pycache__/p.pyc", "python/p-1.dist-info/RECORD"]
    for name in kept + dropped:
        file = tmp_path / "layer" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("")

    write_zip(tmp_path / "layer.zip", tmp_path / "layer")

    assert sorted(zipfile.ZipFile(tmp_path / "layer.zip").namelist()) == sorted(kept)
