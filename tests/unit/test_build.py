"""What `make build` decides and writes; only the package index is not asked."""

from __future__ import annotations

import errno
import json
import os
import random
import re
import sys
import zipfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import pytest
import trustme

from layers.encryption_guard.build import (
    ARCHIVE,
    AUTHORITIES,
    BUNDLE,
    FUNCTIONS,
    LARGEST_ZIP,
    LEFT_OUT_OF_FUNCTIONS,
    MATERIALS,
    REPOSITORY,
    Failed,
    Layer,
    compile_layer,
    part_of,
    product,
    readable,
    run,
    sentence,
    shipped,
    sizes,
    without_bytecode,
    write_authorities,
    write_zip,
)
from layers.encryption_guard.build import finish as finish_with
from layers.encryption_guard.bytecode import Bytecode, Interpreter
from layers.encryption_guard.sbom import Product, Shipped, Untold

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

OURS = Product("ours", "1.2", "Apache-2.0", [], "3.12")
RUNNING = f"python{sys.version_info.major}.{sys.version_info.minor}"


def layer_of(folder: Path, contents: Mapping[str, bytes]) -> Path:
    """A folder that is to become a layer."""
    for name, content in contents.items():
        file = folder / "python" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return folder


def scratch_of(output: Path, name: str) -> Path:
    """A folder of one build's own, as each has it."""
    scratch = output / f".building-{name}"
    scratch.mkdir()
    return scratch


def finish(layer: Path, *, scratch: Path, output: Path) -> Layer:
    """The end of a build in which nothing of third parties ships."""
    return finish_with(layer, product=OURS, shipped=[], scratch=scratch, output=output)


def test_the_same_files_make_the_same_zip(tmp_path: Path) -> None:
    """Neither times nor permissions nor the order of creation show in the archive."""
    for folder, names in (("one", ["p/a.py", "p-1.py"]), ("two", ["p-1.py", "p/a.py"])):
        root = layer_of(tmp_path / folder, {name: name.encode() for name in names})
        for number, name in enumerate(names):
            (root / "python" / name).chmod(0o600 if folder == "one" else 0o755)
            os.utime(root / "python" / name, (number, number))
        write_zip(tmp_path / f"{folder}.zip", root)

    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_the_files_of_the_zip_are_in_order(tmp_path: Path) -> None:
    """Entries are sorted by their whole name, also where a folder lists a file before others."""
    write_zip(tmp_path / "layer.zip", layer_of(tmp_path / "layer", {"z.py": b"", "a/b.py": b""}))

    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert archive.namelist() == ["python/a/b.py", "python/z.py"]


def test_what_only_the_installer_needs_is_left_out(tmp_path: Path) -> None:
    """Scripts and the installer's records do not ship; licences and bytecode do."""
    kept = ["p-1.dist-info/licenses/LICENSE", "p/__init__.py", "p/__pycache__/p.pyc"]
    dropped = ["bin/p", "p-1.dist-info/RECORD"]

    write_zip(
        tmp_path / "layer.zip", layer_of(tmp_path / "layer", dict.fromkeys(kept + dropped, b""))
    )

    with zipfile.ZipFile(tmp_path / "layer.zip") as archive:
        assert archive.namelist() == [f"python/{name}" for name in kept]


def test_each_package_counts_with_its_metadata(tmp_path: Path) -> None:
    """What is said to be large is a package as one installs it: its code, metadata and licence."""
    contents = {"p/a.py": b"1234", "p-1.dist-info/LICENSE": b"123", "q.py": b"12"}

    written = write_zip(tmp_path / "layer.zip", layer_of(tmp_path / "layer", contents))

    assert written.parts == {"p": 7, "q": 2}
    assert written.unpacked == 9
    assert written.zipped == (tmp_path / "layer.zip").stat().st_size


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("python/p/a.py", "p"),
        ("python/p/__pycache__/a.cpython-312.pyc", "p"),
        ("python/q.py", "q"),
        ("python/__pycache__/q.cpython-312.pyc", "q"),
        ("python/p-1.dist-info/licenses/LICENSE", "p"),
        ("authorities/0123abcd.0", "authorities"),
    ],
)
def test_a_file_counts_for_what_it_belongs_to(name: str, part: str) -> None:
    """Bytecode counts for its package, also beside a single module; the authorities alone."""
    assert part_of(name) == part


def test_each_authority_of_certifi_gets_a_file(tmp_path: Path) -> None:
    """The folder is made of the bundle in the layer being built, and lies beside `python/`."""
    bundle = b"# one\r\n" + trustme.CA().cert_pem.bytes() + trustme.CA().cert_pem.bytes()
    layer = layer_of(tmp_path, {BUNDLE.relative_to("python").as_posix(): bundle})

    write_authorities(layer)

    files = sorted((layer / AUTHORITIES).iterdir())
    assert all(re.fullmatch(r"[0-9a-f]{8}\.0", file.name) for file in files)
    assert sorted(file.read_bytes() for file in files) == sorted(
        re.findall(rb"-----BEGIN.+?END CERTIFICATE-----\n", bundle, re.DOTALL)
    )


@pytest.mark.parametrize(
    ("bundle", "reason"),
    [(None, "No such file"), (b"", "it holds none"), (b"\xff", "can't decode")],
)
def test_a_bundle_that_cannot_be_read_ends_the_build(
    tmp_path: Path, bundle: bytes | None, reason: str
) -> None:
    """One sentence has the file and the reason: nobody deploys a layer that trusts less."""
    name = BUNDLE.relative_to("python").as_posix()
    layer = layer_of(tmp_path, {} if bundle is None else {name: bundle})

    with pytest.raises(Failed, match=reason) as failure:
        write_authorities(layer)

    assert str(failure.value).startswith("the layer's python/certifi/cacert.pem is not read")
    assert len(str(failure.value).splitlines()) == 1
    assert not (layer / AUTHORITIES).exists()


def test_what_others_wrote_for_another_python_ships_as_it_is(tmp_path: Path) -> None:
    """A source of a dependency that does not compile does not end the build."""
    layer = layer_of(tmp_path, {"encryption_guard/a.py": b"", "theirs/b.py": b"print 1\n"})

    done = compile_layer(layer, RUNNING)

    assert done is not None
    assert list(done.lacking) == ["python/theirs/b.py"]


def test_our_own_code_has_to_compile(tmp_path: Path) -> None:
    """It would fail in the cloud: the build says so first, with Python's own words."""
    layer = layer_of(tmp_path, {"encryption_guard/b.py": b"print 1\n", "theirs/a.py": b""})

    with pytest.raises(Failed) as failure:
        compile_layer(layer, RUNNING)

    assert str(failure.value).startswith(
        f"{sys.executable} cannot compile all of encryption_guard:"
    )
    assert "SyntaxError" in str(failure.value)


def test_a_layer_that_is_too_large_is_not_built(tmp_path: Path) -> None:
    """Over 8 MiB nothing reaches the output folder, and one sentence says what is large."""
    noise = random.Random(0).randbytes(LARGEST_ZIP)
    layer = layer_of(tmp_path / "layer", {"bulky/data.bin": noise, "slim/__init__.py": b""})
    output = tmp_path / "build"
    output.mkdir()

    with pytest.raises(Failed) as failure:
        finish(layer, scratch=scratch_of(output, "1"), output=output)

    assert "8,388,608 (8 MiB) are allowed" in str(failure.value)
    assert "bulky 8.0 MiB, slim 0.0 KiB; take out what" in str(failure.value)
    assert len(str(failure.value).splitlines()) == 1
    assert [path.name for path in output.iterdir()] == [".building-1"]


def test_a_layer_at_the_bound_is_built(tmp_path: Path) -> None:
    """What is known to be needed today fits: only beyond the bound is it refused."""
    noise = random.Random(0).randbytes(LARGEST_ZIP - 100_000)
    layer = layer_of(tmp_path / "layer", {"bulky/data.bin": noise})

    written = finish(layer, scratch=scratch_of(tmp_path, "1"), output=tmp_path)

    assert LARGEST_ZIP - 100_000 < written.zipped <= LARGEST_ZIP


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

    def build(name: str) -> Layer:
        return finish(tmp_path / name, scratch=scratch_of(output, name), output=output)

    with ThreadPoolExecutor(len(names)) as pool:
        assert len(list(pool.map(build, names))) == len(names)

    assert (output / ARCHIVE).read_bytes() in alone.values()
    assert sorted(path.name for path in (output / "functions").rglob("*")) == sorted(
        ["encrypt_on_create", "index.py", "sweep", "index.py"]
    )


def test_what_was_built_before_is_replaced(tmp_path: Path) -> None:
    """Of a former build nothing is left that this one does not have."""
    (tmp_path / ARCHIVE).write_text("of before")
    (tmp_path / "functions" / "renamed").mkdir(parents=True)

    finish(
        layer_of(tmp_path / "layer", {"p.py": b""}),
        scratch=scratch_of(tmp_path, "1"),
        output=tmp_path,
    )

    assert zipfile.is_zipfile(tmp_path / ARCHIVE)
    assert not (tmp_path / "functions" / "renamed").exists()


def test_the_materials_name_the_zip_beside_them(tmp_path: Path) -> None:
    """Whoever has both files can tell that they are of one build."""
    finish(
        layer_of(tmp_path / "layer", {"p.py": b""}),
        scratch=scratch_of(tmp_path, "1"),
        output=tmp_path,
    )

    component = json.loads((tmp_path / MATERIALS).read_text())["metadata"]["component"]
    content = sha256((tmp_path / ARCHIVE).read_bytes()).hexdigest()
    assert component["hashes"] == [{"alg": "SHA-256", "content": content}]


def test_without_its_materials_a_layer_is_not_built(tmp_path: Path) -> None:
    """When they cannot be told, the output folder stays as it was: all or nothing."""
    output = tmp_path / "build"
    output.mkdir()
    parts = [Shipped("Name: a\nVersion: 1\nRequires-Dist: b\n", "00")]

    with pytest.raises(Untold, match="b is required, but not in the layer"):
        finish_with(
            layer_of(tmp_path / "layer", {"p.py": b""}),
            product=OURS,
            shipped=parts,
            scratch=scratch_of(output, "1"),
            output=output,
        )

    assert [path.name for path in output.iterdir()] == [".building-1"]


def test_the_product_is_what_pyproject_says() -> None:
    """A Python without a TOML parser reads the same as one that has it."""
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]

    assert product("3.12") == Product(
        project["name"], project["version"], project["license"], project["dependencies"], "3.12"
    )


def test_what_a_wheel_ships_is_read_from_the_layer(tmp_path: Path) -> None:
    """Its metadata as it is installed, the SHA-256 of the wheel, and documents that it brings."""
    info = tmp_path / "layer" / "python" / "a-1.dist-info"
    (info / "sboms").mkdir(parents=True)
    (info / "METADATA").write_text("Name: a\nVersion: 1\n")
    (info / "sboms" / "a.json").write_bytes(b"{}")
    with zipfile.ZipFile(tmp_path / "a-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("a-1.dist-info/METADATA", "")

    assert shipped(tmp_path / "a-1-py3-none-any.whl", info.parent) == Shipped(
        "Name: a\nVersion: 1\n",
        sha256((tmp_path / "a-1-py3-none-any.whl").read_bytes()).hexdigest(),
        {"python/a-1.dist-info/sboms/a.json": sha256(b"{}").hexdigest()},
    )


def test_the_functions_are_copied_as_they_stand(tmp_path: Path) -> None:
    """Copies have the contents of their originals, and always the same dates and permissions."""
    finish(
        layer_of(tmp_path / "layer", {"p.py": b""}),
        scratch=scratch_of(tmp_path, "1"),
        output=tmp_path,
    )

    for name in ("encrypt_on_create", "sweep"):
        folder = tmp_path / "functions" / name
        (file,) = folder.iterdir()
        assert folder.stat().st_mode & 0o777 == 0o755
        assert file.read_bytes() == (FUNCTIONS / name / "index.py").read_bytes()
        assert file.stat().st_mode & 0o777 == 0o644
        assert zipfile.ZipInfo.from_file(file).date_time[0] == 1980


@pytest.mark.parametrize(
    "function",
    sorted(path.parent for path in FUNCTIONS.glob("*/index.py")),
    ids=lambda path: path.name,
)
def test_serverless_devs_leaves_out_what_the_build_does(function: Path) -> None:
    """It zips a function's folder itself, and reads there what not to take."""
    lines = (function / ".fcignore").read_text("utf-8").splitlines()

    assert {line for line in lines if not line.startswith("#")} == LEFT_OUT_OF_FUNCTIONS


def test_a_command_that_fails_ends_in_one_sentence() -> None:
    """Its own last lines follow: they say why, and what came before them is noise."""
    program = "import sys; print(*range(100), 'why', sep='\\n', file=sys.stderr); sys.exit(3)"

    with pytest.raises(Failed) as failure:
        run([sys.executable, "-c", program], otherwise="It could not be done:")

    lines = str(failure.value).splitlines()
    assert lines[0] == "It could not be done:"
    assert lines[-2:] == ["  99", "  why"]
    assert len(lines) < 12


def test_a_command_that_succeeds_is_silent(capfd: pytest.CaptureFixture[str]) -> None:
    """Nothing that a successful command prints is passed on."""
    run([sys.executable, "-c", "print('WARNING')"], otherwise="It could not be done:")

    assert capfd.readouterr() == ("", "")


def test_a_folder_that_cannot_be_written_is_named() -> None:
    """The sentence has the folder, the system's reason and a way out."""
    denied = PermissionError(errno.EACCES, "Permission denied", "build/.building-1")

    assert sentence(denied, Path("build")) == (
        "build cannot be built into (Permission denied: build/.building-1); "
        "mend that, or name another folder with --output."
    )
    assert sentence(OSError(errno.ENOSPC, "No space left on device"), Path("build")) == (
        "build cannot be built into (No space left on device); "
        "mend that, or name another folder with --output."
    )


def test_sizes_are_told_from_the_largest_down(tmp_path: Path) -> None:
    """The zip with its bound, the five largest packages, the rest, and each function's folder."""
    (tmp_path / "functions" / "one").mkdir(parents=True)
    (tmp_path / "functions" / "one" / "index.py").write_bytes(b"x" * 1234)
    parts = {f"p{number}": 1024 * 2**number for number in range(12)}

    told = list(sizes(Layer(3 * 2**20, parts), "python3.12", tmp_path))

    assert told == [
        f"{tmp_path / ARCHIVE} (python3.12): 3.0 MiB zipped, at most 8.0 MiB; 4.0 MiB unpacked, "
        "of which",
        *("     2.0 MiB  p11", "     1.0 MiB  p10", "   512.0 KiB  p9", "   256.0 KiB  p8"),
        *("   128.0 KiB  p7", "   127.0 KiB  everything else", "  without bytecode"),
        f"{tmp_path / MATERIALS}: what it is made of (CycloneDX)",
        f"{tmp_path / 'functions' / 'one'}/: 1,234 bytes",
    ]


@pytest.mark.parametrize(
    ("lacking", "told"),
    [
        ([], "  with bytecode of Python 3.12.1 (/usr/bin/python3.12)"),
        (
            ["python/a.py", "python/b.py"],
            "  with bytecode of Python 3.12.1 (/usr/bin/python3.12); "
            "not of python/a.py, python/b.py",
        ),
    ],
)
def test_who_compiled_is_told(tmp_path: Path, lacking: list[str], told: str) -> None:
    """Another release would give other bytes; what it could not compile is named."""
    (tmp_path / "functions").mkdir()
    bytecode = Bytecode(Interpreter("/usr/bin/python3.12", "3.12.1"), lacking)

    assert told in sizes(Layer(1, {"p": 1}, bytecode), "python3.12", tmp_path)


def test_what_it_costs_to_have_no_bytecode_is_told() -> None:
    """What happened and what it costs, and in another line what to do."""
    assert without_bytecode("python3.10").splitlines() == [
        "no python3.10 was found here to compile the layer with: "
        "a cold start takes about twice as long.",
        "Install python3.10 and build again, or name it: "
        "make build RUNTIME=python3.10 PYTHON=/path/to/python3.10",
    ]


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.0 KiB"), (2**20 - 1, "1024.0 KiB"), (2**20, "1.0 MiB")]
)
def test_bytes_are_readable(size: int, text: str) -> None:
    """A size is told in KiB below one MiB and in MiB from there on, with one decimal."""
    assert readable(size) == text
