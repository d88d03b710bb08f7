"""`make deploy`, `make plan` and `make remove`: the real Serverless Devs, an emulated account.

What a deployment decides is in tests/unit/tools/test_deploy*.py. Here is what only the command and
its processes show.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from encryption_guard import __version__
from layers.encryption_guard.tools import deploy, tasks
from layers.encryption_guard.tools.comparison import Stack
from tests.documents import commands_in
from tests.emulators.cloud import ACCOUNT, REPOSITORY
from tests.emulators.serverless_devs import MISSING, ServerlessDevs, serverless_devs
from tests.unit.tools.emulated_account import (
    CREATE,
    READERS,
    SECRET,
    SWEEP,
    TOKEN,
    Account,
    Place,
)
from tests.unit.tools.emulated_account import Deployer as EmulatedDeployer

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))
needs_make = pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")

HERE = ("--region", "cn-hangzhou")
TOOLS = Path("layers", "encryption_guard", "tools")
BUILDER = TOOLS / "build.py"
NOTHING: dict[str, Any] = {"stacks": {}, "functions": {}, "layers": {}}


@dataclass
class Kept(Account):
    """The account that the components of Serverless Devs keep in a file."""

    s: ServerlessDevs = field(kw_only=True)

    def place(self, region: str = "cn-hangzhou") -> Place:
        """What is in this region."""
        kept = self.s.account()["regions"].get(region, NOTHING)
        stacks = [
            Stack("UPDATE_COMPLETE", each.get("template", {}), each.get("parameters", {}))
            for each in kept["stacks"].values()
        ]
        layers = [each["version"] for each in kept["layers"].get("encryption-guard", ())]
        return Place(kept["functions"], stacks[0] if stacks else None, layers)


class Deployer(EmulatedDeployer):
    """Somebody who deploys with the real Serverless Devs."""

    def __init__(self, folder: Path) -> None:
        self.s = serverless_devs(folder)
        super().__init__(folder, Kept(s=self.s))

    def stand_ins(self) -> dict[tuple[Any, str], Any]:
        """Only what is read of the account."""
        return {(deploy, name): self.reader(name) for name in READERS}

    def shell(self) -> dict[str, str]:
        """The variables with which Serverless Devs acts on the account."""
        return self.s.environment

    def asked(self) -> list[tuple[str, str]]:
        """Which commands reached which resources, since the account is there."""
        return [(call["resource"], call["method"]) for call in self.s.calls()]


def lay_out(folder: Path) -> Path:
    """What a fresh clone holds after `npm ci`, without writing into this one."""
    (folder / "node_modules").symlink_to(REPOSITORY / "node_modules")
    # A deployment may write a file of exemptions there.
    for function in tasks.FUNCTIONS:
        (folder / "functions" / function).mkdir(parents=True)
        shutil.copy(
            REPOSITORY / "functions" / function / "index.py", folder / "functions" / function
        )
    for name in ("template.yaml", "pyproject.toml"):
        shutil.copy(REPOSITORY / name, folder)
    (folder / TOOLS).mkdir(parents=True)
    ours = REPOSITORY / "layers" / "encryption_guard"
    parts = (ours.glob(each) for each in ("*.txt", "*.yaml", "tools/*.*"))
    for path in (ours / "python", *(path for found in parts for path in found)):
        (folder / path.relative_to(REPOSITORY)).symlink_to(path)
    return folder


def with_make(folder: Path) -> None:
    """What `make build` needs, with a virtual environment that is taken for set up."""
    for file in (REPOSITORY / "Makefile", *REPOSITORY.glob("requirements*")):
        (folder / file.name).symlink_to(file)
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    runs = f"{sys.base_prefix} {sys.version_info[0]}.{sys.version_info[1]}"
    (folder / ".venv" / ".dependencies").write_text(f"{folder / '.venv'} {runs}\n")
    (folder / ".venv" / ".installed").touch()


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose layer takes no time to build: what is in it is in the file `layer`."""
    folder = lay_out(tmp_path)
    builder = folder / BUILDER
    builder.unlink()
    zip_file = str(tasks.LAYER_ZIP)
    builder.write_text(
        "import pathlib, shutil, sys; pathlib.Path('build').mkdir(exist_ok=True); "
        "pathlib.Path('build', 'arguments').write_text(' '.join(sys.argv)); "
        f"shutil.copy('layer', {zip_file!r})",
        "utf-8",
    )
    (folder / "layer").write_bytes(b"a layer")
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def deployer(tmp_path_factory: pytest.TempPathFactory) -> Deployer:
    return Deployer(tmp_path_factory.mktemp("home"))


@pytest.mark.usefixtures("checkout")
def test_a_deployment_ends_well(deployer: Deployer) -> None:
    """With the real command: layer, stack and functions, which both answer."""
    result = deployer("deploy", *HERE)

    assert result.exit_code == 0, result.output
    assert "cn-hangzhou is guarded" in result.output
    assert result.output.count("skipped: not_relevant") == 2
    place = deployer.account.place()
    assert (place.stack is None, set(place.functions)) == (False, {CREATE, SWEEP})
    assert [each["layers"][0][-11:] for each in place.functions.values()] == ["/versions/1"] * 2


# One command in a fresh clone.

HOOK = "https://hooks.example.com/a-secret"
# Neither a variable nor a file of the deployer gets into the function.
WITH_DOLLARS = [{"bucket": "tmp-*", "reason": "costs $5, ${env('HOME')}, $HOME"}]
SHELL = {
    "GUARD_CONTACT_GROUP": "ops",
    "GUARD_WEBHOOK": HOOK,
    "GUARD_EXEMPTIONS": json.dumps(WITH_DOLLARS),
    # Set but empty, these would win over the shell's key.
    **dict.fromkeys(("AccountID", "AccessKeyID", "AccessKeySecret"), ""),
}


@dataclass(frozen=True)
class First:
    deployer: Deployer
    result: Result
    folder: Path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[First]:
    """The layer is built; a component prints the credentials it gets."""
    deployer = Deployer(tmp_path_factory.mktemp("home"))
    component = deployer.s.folder / ".s/components/devsapp.cn/v3/ros/account.js"
    text, read = component.read_text("utf-8"), "const { region } = inputs.props;"
    prints = text.replace(read, f"{read} console.log(JSON.stringify(credential));")
    component.write_text(prints, "utf-8")
    folder = lay_out(tmp_path_factory.mktemp("clone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        result = deployer("deploy", *HERE, **SHELL)
        yield First(deployer, result, folder)


@pytest.mark.slow
def test_one_command_protects_a_region(first: First) -> None:
    """From a clone to a deployed and tried guard: layer, stack, both functions, in this order."""
    assert first.result.exit_code == 0, first.result.output
    place = first.deployer.account.place()
    assert (place.layers, set(place.functions)) == ([1], {CREATE, SWEEP})
    for function in place.functions.values():
        assert {"key": "version", "value": __version__} in function["tags"]
    assert first.deployer.asked()[-5:] == [
        ("infra", "deploy"),
        ("sweep", "deploy"),
        ("encrypt_on_create", "deploy"),
        ("sweep", "invoke"),
        ("encrypt_on_create", "invoke"),
    ]
    assert (first.folder / tasks.LAYER_ZIP).stat().st_size > 1_000_000


@pytest.mark.slow
def test_no_secret_is_printed_or_kept(first: First) -> None:
    """Neither on the terminal nor in any file, though a component prints its credentials."""
    log = first.folder / "build" / "deploy-cn-hangzhou.log"
    places = (first.folder / "build", first.deployer.s.folder / ".s")
    written = [file for place in places for file in place.rglob("*") if file.is_file()]

    assert '"AccessKeySecret":"****"' in log.read_text("utf-8")
    for kept in (first.result.output.encode(), *(file.read_bytes() for file in written)):
        for secret in (SECRET, TOKEN, HOOK):
            assert secret.encode() not in kept


@pytest.mark.slow
def test_a_dollar_in_a_reason_arrives(first: First) -> None:
    """Serverless Devs replaces no part of it."""
    for function in first.deployer.account.place().functions.values():
        exemptions = json.loads(function["environmentVariables"]["GUARD_EXEMPTIONS"])
        assert exemptions == WITH_DOLLARS


@pytest.mark.slow
def test_empty_variables_of_serverless_devs_do_not_count(first: First) -> None:
    """They are not handed on, so that the shell's key acts."""
    assert {(call["account"], call["key_ending"]) for call in first.deployer.s.calls()} == {
        (ACCOUNT, "oyer")
    }


@pytest.mark.slow
def test_without_us_the_web_hook_stays_in_a_log(deployer: Deployer) -> None:
    """Serverless Devs writes its URL into a log of its own, which a deployment removes."""
    deployer.s.run("infra", "plan", environment={"GUARD_WEBHOOK": HOOK})

    logs = (deployer.s.folder / ".s" / "logs").rglob("infra.log")
    assert any(HOOK in file.read_text("utf-8") for file in logs)


# As the docs have it.


@needs_make
@pytest.mark.slow
def test_serverless_devs_alone_asks_nobody(deployer: Deployer, checkout: Path) -> None:
    """Its documented lines have `-y`: without it, it waits for a terminal, or ends with 0.

    It builds the layer for the stated runtime, and publishes it before the first function.
    """
    with_make(checkout)
    stated = {"ALIBABA_CLOUD_REGION": "ap-southeast-1", "GUARD_RUNTIME": "python3.10"}
    text = (REPOSITORY / "docs" / "deploy.md").read_text("utf-8")
    lines = re.findall(
        r"^((?:[A-Z_]+=\d+ )?)node_modules/.bin/s (.+) -t template.yaml$", text, re.M
    )
    deployments = [(given, line) for given, line in lines if line.startswith("deploy")]
    removals = [(given, line) for given, line in lines if " remove" in line]
    template = checkout / "template.yaml"
    assert (len(deployments), len(removals)) == (2, 4)

    for given, line in deployments + removals:
        given_here = dict(re.findall(r"(\w+)=(\d+)", given))
        environment = {"PYTHON": sys.executable, **stated, **given_here}
        done = deployer.s.run(*line.split(), template=template, environment=environment)
        assert done.returncode == 0, done.stdout
        if (given, line) == deployments[0]:
            (checkout / "layer").write_bytes(b"another layer")
        if (given, line) == deployments[1]:
            functions = deployer.account.place("ap-southeast-1").functions.values()
            assert {each["runtime"] for each in functions} == {"python3.10"}
            assert {each["layers"][0].rpartition("/")[2] for each in functions} == {"2"}

    assert "--runtime python3.10" in (checkout / "build" / "arguments").read_text("utf-8")
    assert deployer.account.place("ap-southeast-1") == Place()


@needs_make
@pytest.mark.slow
@pytest.mark.usefixtures("checkout")
def test_three_commands_guard_a_region_and_leave_nothing(deployer: Deployer) -> None:
    """As the docs have them, without a guard.toml."""
    docs = commands_in(REPOSITORY / "docs" / "deploy.md")
    plan, deployment, removal = (
        next(line for line in docs if line.startswith(f"make {word} REGION="))
        for word in ("plan", "deploy", "remove")
    )

    outputs = []
    for line in (deployment, plan, f"{removal} YES=1", plan):
        result = deployer(*run_by(line))
        assert result.exit_code == 0, result.output
        outputs.append(result.output)

    assert "cn-hangzhou is guarded" in outputs[0]
    assert "nothing changes" in outputs[1]
    assert deployer.account.place() == Place()
    assert "infra  - -> the stack oss-tables-encryption-guard" in outputs[3]


def run_by(line: str) -> list[str]:
    """The arguments that a line with make gives to the program."""
    printed = subprocess.run(
        [*line.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    program = "layers.encryption_guard.tools.deploy "
    # A make that runs inside another one says also where it is.
    (command,) = [line for line in printed.splitlines() if program in line]
    return command.partition(program)[2].split()
