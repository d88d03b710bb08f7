"""What `make build` decides and writes; only the package index is not asked."""

from __future__ import annotations

import os
import random
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from subprocess import CompletedProcess

import certifi
import pytest

from encryption_guard.cli.console import Stdout
from layers.encryption_guard.tools.authorities import split_bundle
from layers.encryption_guard.tools.build import (
    ARCHIVE,
    AUTHORITIES,
    BUNDLE,
    FUNCTIONS,
    IGNORE_IN_FUNCTIONS,
    MAX_ZIP_BYTES,
    BuildFailed,
    build,
    compile_layer,
    main,
    read_wheel,
    report,
    write_authorities,
    write_zip,
)
from layers.encryption_guard.tools.build import write_results as finish_with
from layers.encryption_guard.tools.bytecode import Interpreter
from layers.encryption_guard.tools.sbom import MissingMetadata, Product, ShippedWheel

if sys.version_info >= (3, 11):
    pass
else:
    pass

OURS = Product("ours", "1.2", "Apache-2.0", [], "3.12")
RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"


def layer_of(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A folder that is to become a layer."""
    for name, content in contents.items():
        file = folder / "python" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def contents_of(folder: Path) -> dict[str, bytes]:
    """Each file in it."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def scratch_of(output: Path, name: str) -> Path:
    """A folder of one build's own, as each has it."""
    scratch = output / f".building-{name}"
    scratch.mkdir()
    return scratch


def finish(layer: Path, *, scratch: Path, output: Path) -> None:
    """The end of a build in which nothing of third parties ships."""
    finish_with(layer, product=OURS, shipped=[], scratch=scratch, output=output)


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    """Neither times nor permissions nor the order of creation show in the archive."""
    for folder, names in (("one", ["p/a.py", "p-1.py"]), ("two", ["p-1.py", "p/a.py"])):
        root = layer_of(tmp_path / folder, {name: name.encode() for name in names})
        for number, name in enumerate(names):
            (root / "python" / name).chmod(0o600 if folder == "one" else 0o755)
            os.utime(root / "python" / name, (number, number))
        write_zip(tmp_path / f"{folder}.zip", root)

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_what_only_the_installer_needs_is_left_out(tmp_path: Path) -> None:
    """Scripts and the installer's records do not ship; licences and bytecode do."""
    kept = ["p-1.dist-info/licenses/LICENSE", "p/__init__.py", "p/__pycache__/p.pyc"]
    dropped = ["bin/p", "p-1.dist-info/RECORD"]

    write_zip(
        tmp_path / "layer.zip", layer_of(tmp_path / "layer", dict.fromkeys(kept + dropped, b""))
    )

    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert archive.namelist() == [f"python/{name}" for name in kept]


def test_the_size_and_the_compiler_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The layer as a zip and unpacked, and whose bytecode it has: another's has other bytes."""
    noise = random.Random(0).randbytes(2**20)
    write_zip(tmp_path / "l.zip", layer_of(tmp_path, {"p/a": noise, "p/b": bytes(2**20)}))
    python = Interpreter("/usr/bin/python3.12", "3.12.1")
    line = f"{tmp_path / 'l.zip'} (python3.12): 1.0 MiB, unpacked 2.0 MiB"

    report(tmp_path / "l.zip", "python3.12", python, Stdout())
    assert capsys.readouterr() == (
        f"{line}, bytecode of Python 3.12.1 (/usr/bin/python3.12)\n",
        "",
    )
    report(tmp_path / "l.zip", "python3.12", None, Stdout())
    assert capsys.readouterr() == (
        f"{line}\n",
        "build: python3.12 was not found, so the layer has no bytecode: "
        "a cold start takes more than twice as long.\n"
        "Install python3.12, or set its path: "
        "make build RUNTIME=python3.12 PYTHON=/path/to/python3.12\n",
    )


@pytest.mark.parametrize("is_folder", [True, False])
def test_a_build_that_fails_leaves_no_layer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_folder: bool
) -> None:
    """One sentence says why, and nobody publishes the layer of before by mistake."""
    output = tmp_path / "build"
    if is_folder:
        output.mkdir()
        (output / ARCHIVE).write_text("of before")
    else:
        output.touch()
    monkeypatch.setattr("sys.argv", ["build", "--output", str(output)])
    failing: CompletedProcess[str] = CompletedProcess([], 1)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: failing)

    with pytest.raises(SystemExit) as ended:
        main()

    assert str(ended.value) == (
        "build: pip cannot install the packages of requirements-3.12.txt: fix the error above."
        if is_folder
        else f"build: cannot build into {output} ([Errno 17] File exists: '{output}');"
        " set another --output."
    )
    assert not is_folder or list(output.iterdir()) == []


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [(None, "No such file"), (b"", "it is empty"), (b"\xff", "can't decode")],
)
def test_a_bundle_that_cannot_be_read_ends_the_build(
    tmp_path: Path, bundle: bytes | None, reason: str
) -> None:
    """One sentence has the file and the reason: nobody deploys a layer that trusts less."""
    name = BUNDLE.relative_to("python").as_posix()
    layer = layer_of(tmp_path, {} if bundle is None else {name: bundle})

    with pytest.raises(BuildFailed, match=reason) as failure:
        write_authorities(layer)

    assert str(failure.value).startswith(
        "the certificates in the layer's python/certifi/cacert.pem cannot be read"
    )
    assert len(str(failure.value).splitlines()) == 1
    assert not (layer / AUTHORITIES).exists()


def test_an_operators_commands_do_not_ship(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither sources nor bytecode nor the page; what others call `cli` stays where it is."""
    bundle = Path(certifi.where()).read_bytes()

    def install(target: Path, **_: object) -> list[ShippedWheel]:
        theirs = {"certifi/cacert.pem": bundle, "theirs/cli/run.py": b"", "theirs/cli.py": b""}
        layer_of(target.parent, theirs)
        return []

    monkeypatch.setattr("layers.encryption_guard.tools.build.install", install)
    monkeypatch.setattr("layers.encryption_guard.tools.build.read_product", lambda _: OURS)

    build(RUNNING, tmp_path)

    with zipfile.ZipFile(tmp_path / ARCHIVE) as archive:
        names = archive.namelist()
    assert [name for name in names if "cli" in name and "__pycache__" not in name] == [
        "python/theirs/cli.py",
        "python/theirs/cli/run.py",
    ]
    ours = [name for name in names if name.startswith("python/encryption_guard/")]
    assert "python/encryption_guard/enforcement/handler.py" in ours
    assert not any(name.startswith("python/encryption_guard/cli/") for name in ours)
    assert "python/encryption_guard/__main__.py" not in ours
    authorities = [name for name in names if name.startswith(f"{AUTHORITIES}/")]
    assert authorities == [
        f"{AUTHORITIES}/{name}" for name in sorted(split_bundle(bundle.decode()))
    ]


def test_our_own_code_has_to_compile(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It would fail in the cloud: the build says so first, after Python's own words."""
    layer = layer_of(tmp_path, {"encryption_guard/b.py": b"print 1\n", "theirs/a.py": b""})

    with pytest.raises(BuildFailed) as failure:
        compile_layer(layer, RUNNING)

    assert str(failure.value) == (
        f"{sys.executable} cannot compile all of encryption_guard: fix the error above."
    )
    assert "SyntaxError" in capfd.readouterr().out


def test_a_layer_that_is_too_large_is_not_built(tmp_path: Path) -> None:
    """Over 8 MiB nothing reaches the output folder, and one sentence says what to do."""
    noise = random.Random(0).randbytes(MAX_ZIP_BYTES)
    layer = layer_of(tmp_path / "layer", {"bulky/data.bin": noise})
    output = tmp_path / "build"
    output.mkdir()

    with pytest.raises(BuildFailed) as failure:
        finish(layer, scratch=scratch_of(output, "1"), output=output)

    assert "the limit is 8,388,608 (8 MiB); remove a dependency" in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1
    assert [path.name for path in output.iterdir()] == [".building-1"]


def test_builds_at_the_same_time_do_not_mix(tmp_path: Path) -> None:
    """Whoever is last wins as a whole: the zip is one build's, and the functions are complete."""
    names = [f"{number}" for number in range(20)]
    alone = {}
    for name in names:
        layer = layer_of(tmp_path / name, {"p/a.py": name.encode() * 1000, f"p/{name}.py": b""})
        write_zip(tmp_path / f"{name}.zip", layer)
        alone[name] = (tmp_path / f"{name}.zip").read_bytes()
    output = tmp_path / "build"
    output.mkdir()

    def build_one(name: str) -> None:
        finish(tmp_path / name, scratch=scratch_of(output, name), output=output)

    with ThreadPoolExecutor(len(names)) as pool:
        assert len(list(pool.map(build_one, names))) == len(names)

    assert (output / ARCHIVE).read_bytes() in alone.values()
    assert sorted(path.name for path in (output / "functions").rglob("*")) == sorted(
        ["encrypt_on_create", "index.py", "sweep", "index.py"]
    )


def test_what_was_built_before_is_replaced(tmp_path: Path) -> None:
    """Of a former build nothing is left; the functions are copied as they stand."""
    (tmp_path / ARCHIVE).write_text("of before")
    (tmp_path / "functions" / "renamed").mkdir(parents=True)

    finish(
        layer_of(tmp_path / "layer", {"p.py": b""}),
        scratch=scratch_of(tmp_path, "1"),
        output=tmp_path,
    )

    assert zipfile.is_zipfile(tmp_path / ARCHIVE)
    assert contents_of(tmp_path / "functions") == {
        f"{path.parent.name}/index.py": path.read_bytes() for path in FUNCTIONS.glob("*/index.py")
    }


def test_without_its_materials_a_layer_is_not_built(tmp_path: Path) -> None:
    """When they cannot be told, the output folder stays as it was: all or nothing."""
    output = tmp_path / "build"
    output.mkdir()
    parts = [ShippedWheel({"name": "a", "version": "1", "requires_dist": ["b"]}, "00")]

    with pytest.raises(MissingMetadata, match="b is required, but not in the layer"):
        finish_with(
            layer_of(tmp_path / "layer", {"p.py": b""}),
            product=OURS,
            shipped=parts,
            scratch=scratch_of(output, "1"),
            output=output,
        )

    assert [path.name for path in output.iterdir()] == [".building-1"]


def test_what_a_wheel_ships_is_read_from_the_layer(tmp_path: Path) -> None:
    """Its metadata as it is installed, the SHA-256 of the wheel, and documents that it brings."""
    info = tmp_path / "layer" / "python" / "a-1.dist-info"
    (info / "sboms").mkdir(parents=True)
    (info / "METADATA").write_text("Name: a\nVersion: 1\n")
    (info / "sboms" / "a.json").write_bytes(b"{}")
    (tmp_path / "a-1-py3-none-any.whl").write_bytes(b"wheel")

    assert read_wheel(tmp_path / "a-1-py3-none-any.whl", info.parent) == ShippedWheel(
        {"name": "a", "version": "1"},
        sha256(b"wheel").hexdigest(),
        {"python/a-1.dist-info/sboms/a.json": sha256(b"{}").hexdigest()},
    )


@pytest.mark.parametrize(
    "function",
    sorted(path.parent for path in FUNCTIONS.glob("*/index.py")),
    ids=lambda path: path.name,
)
def test_serverless_devs_leaves_out_what_the_build_does(function: Path) -> None:
    """It zips a function's folder itself, and reads there what not to take."""
    text = (function / ".fcignore").read_text("utf-8")
    lines = {line for line in text.splitlines() if not line.startswith("#")}

    assert IGNORE_IN_FUNCTIONS("", [*lines, "__pycache__", ".fcignore", "index.py"]) == lines
