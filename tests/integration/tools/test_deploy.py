"""`make deploy`, `make plan` and `make remove`: the real Serverless Devs, an emulated account."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import Mock, patch

import pytest
from click.testing import CliRunner, Result

from encryption_guard import __version__
from encryption_guard.errors import ConfigurationError
from encryption_guard.services.acs3 import Api
from encryption_guard.settings import Settings
from layers.encryption_guard.tools import comparison, deploy, deployed, preflight, tasks
from layers.encryption_guard.tools.organization import Guarded
from layers.encryption_guard.tools.preflight import Access, Region
from tests.documents import commands_in
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, REPOSITORY
from tests.emulators.event_apis import EventApis
from tests.emulators.ram_policies import Policy
from tests.emulators.resource_directory import Member, ResourceDirectory
from tests.emulators.serverless_devs import CREDENTIALS, MISSING, ServerlessDevs, serverless_devs
from tests.emulators.serverless_devs import services as api_of_a_region
from tests.emulators.serverless_devs.services import services
from tests.emulators.stacks_api import KeptStack

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))

SECRET, TOKEN = "secret-of-the-deployer", "token-of-the-deployer"
KEY = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI5tDeployer",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": SECRET,
    "ALIBABA_CLOUD_SECURITY_TOKEN": TOKEN,
    "ALIBABA_CLOUD_ACCOUNT_ID": ACCOUNT,
}
CREATE, SWEEP = "oss-tables-encrypt-on-create", "oss-tables-encryption-sweep"
HERE = ("--region", "cn-hangzhou")
POLICY = json.loads((REPOSITORY / "docs" / "policies" / "deployer.json").read_text("utf-8"))
# What a plan reads, it reads with the documented rights.
ACCESS_KEY = AccessKey(
    *("LTAI5tDeployer", SECRET, ACCOUNT),
    security_token=TOKEN,
    policy=Policy.of(each for each in POLICY["Statement"] if "Condition" not in each),
)
DEPLOYED = {
    "stacks": {"oss-tables-encryption-guard": {"stackId": "a stack", "resources": {}}},
    "layers": {"encryption-guard": [{"version": 1}]},
    "functions": {CREATE: {}, SWEEP: {}},
}
TOOLS = Path("layers", "encryption_guard", "tools")
BUILDER = TOOLS / "build.py"
# The deployed function, with the variables that the template gives it.
INVOKED = f"""
import contextlib, importlib, os, sys, types
os.environ.update(ALIBABA_CLOUD_ACCESS_KEY_ID="role", ALIBABA_CLOUD_ACCESS_KEY_SECRET="x")
name = os.environ["FC_FUNCTION_NAME"]
folder = dict([("{CREATE}", "encrypt_on_create"), ("{SWEEP}", "sweep")])[name]
sys.path.insert(0, os.path.join("functions", folder))
function = types.SimpleNamespace(name=name, handler="index.handler", memory=256, timeout=60)
context = types.SimpleNamespace(request_id="r", function=function, region=os.environ["FC_REGION"],
    account_id=os.environ["FC_ACCOUNT_ID"], credentials=None)
with contextlib.redirect_stdout(sys.stderr):
    result = importlib.import_module("index").handler(sys.stdin.buffer.read(), context)
print(result)
"""


class Deployer:
    """Somebody in a checkout of their own, with an account that is emulated."""

    # What is typed where a command asks.
    answer = ""
    # The other accounts of the organization.
    members: Sequence[Member] = ()
    seconds_ahead: float | None = 0.5

    def __init__(self, folder: Path) -> None:
        self.s: ServerlessDevs = serverless_devs(folder)
        self.environment = {
            **KEY,
            **self.s.environment,
            "EMULATED_FUNCTION": json.dumps([sys.executable, "-c", INVOKED]),
        }

    def __call__(self, *arguments: str, **environment: str | None) -> Result:
        self.requests: list[str | None] = []
        with (
            patch.object(deploy, "read_deployed", self.read_deployed),
            patch.object(deploy, "read_parts", self.read_parts),
            patch.object(deploy, "read_accounts", self.read_accounts),
            patch.object(deploy, "read_stack", self.read_stack),
            patch.object(deploy, "find_regions", self.find_regions),
            patch.object(deploy, "find_missing_buses", self.find_missing_buses),
            patch.object(deploy, "count_dead_letters", lambda *_: "3 dead letters"),
            patch.object(deploy, "measure_clock", lambda *_: self.seconds_ahead),
        ):
            return CliRunner().invoke(
                deploy.main, arguments, env={**self.environment, **environment}, input=self.answer
            )

    def read_deployed(
        self, access: Access, region: Region, environment: Mapping[str, str]
    ) -> dict[str, str] | None:
        """The settings of the emulated functions, read from the emulated services."""
        with self.services(region, environment) as (shell, _):
            return deployed.read_deployed(access, region, shell)

    def read_parts(
        self,
        access: Access,
        region: Region,
        resources: Mapping[str, Any],
        environment: Mapping[str, str],
    ) -> comparison.Deployed | None:
        """What is deployed, read from the emulated services."""
        with self.services(region, environment) as (shell, ros):
            return deployed.read_parts(access, region, resources, shell, ros=ros)

    def read_stack(
        self, access: Access, region: Region, name: str, environment: Mapping[str, str]
    ) -> comparison.Stack | None:
        """A stack, read from the emulated service."""
        with self.services(region, environment) as (shell, ros):
            return deployed.read_stack(access, region, name, shell, ros=ros)

    def find_missing_buses(
        self, access: Access, bus: str, names: Iterable[str], environment: Mapping[str, str]
    ) -> tuple[str, ...]:
        """The regions without this bus, by the emulated service; EMULATED_BUSES are in each."""
        with EventApis(ACCESS_KEY, region="cn-hangzhou") as service:
            service.state.buses = environment.get("EMULATED_BUSES", "").split(",")
            api = Api(service.url, deployed.EVENT_BRIDGE.version)
            return deployed.find_missing_buses(access, bus, names, environment, api=api)

    def find_regions(
        self, access: Access, names: Iterable[str], environment: Mapping[str, str]
    ) -> tuple[str, ...]:
        """The regions of the emulated account that have the functions."""
        assert access.credentials or deployed.find_regions(access, names, environment)
        regions = self.s.account()["regions"]
        return tuple(name for name in regions if SWEEP in regions[name]["functions"])

    def read_accounts(
        self, access: Access, settings: Mapping[str, str], environment: Mapping[str, str]
    ) -> Guarded:
        """The accounts of the organization, read from the emulated directory."""
        with ResourceDirectory(ACCESS_KEY, manager=ACCOUNT, members=self.members) as directory:
            stated = {**settings, "GUARD_DIRECTORY_ENDPOINT": directory.url}
            return deployed.read_accounts(access, stated, environment)

    @contextmanager
    def services(
        self, region: Region, environment: Mapping[str, str]
    ) -> Iterator[tuple[dict[str, str], Api]]:
        """The services of a region as this shell reaches them; `requests` has what was asked."""
        nothing: dict[str, Any] = {"stacks": {}, "functions": {}}
        place = self.s.account()["regions"].get(region.name, nothing)
        with services(ACCESS_KEY, region.name, place) as (function_compute, orchestration):
            shell = {**environment, "GUARD_FC_ENDPOINT": function_compute.url}
            yield shell, Api(orchestration.url, deployed.ROS.version)
            for service in (function_compute, orchestration):
                self.requests += [each.operation for each in service.requests]

    def settings(self, region: str) -> dict[str, str]:
        """The variables of the deployed sweep."""
        variables: dict[str, str] = self.place(region)["functions"][SWEEP]["environmentVariables"]
        return variables

    def place(self, region: str) -> dict[str, Any]:
        """What is in this region of the account."""
        place: dict[str, Any] = self.s.account()["regions"][region]
        return place

    def layers(self) -> list[str]:
        """The versions of the layer that both functions in cn-hangzhou use."""
        functions = self.place("cn-hangzhou")["functions"].values()
        return [arn.rpartition("/")[2] for each in functions for arn in each["layers"]]

    def rate(self, region: str) -> str:
        """How often this region is swept."""
        (trigger,) = self.place(region)["functions"][SWEEP]["triggers"]
        return str(trigger["triggerConfig"]["cronExpression"])

    def sweep_size(self) -> tuple[float, int]:
        """The vCPU and MB of the sweep function in cn-hangzhou."""
        sweep = self.place("cn-hangzhou")["functions"][SWEEP]
        return sweep["cpu"], sweep["memorySize"]

    def runtimes(self, region: str) -> set[str]:
        """Of the functions, and what the layer is for."""
        place = self.place(region)
        (layer,) = place["layers"]["encryption-guard"]
        used = {each["runtime"] for each in place["functions"].values()}
        return used | set(layer["compatibleRuntime"])

    def holds(self, region: str, **what: Any) -> None:
        """There is something in the account already."""
        regions = {region: {"stacks": {}, "layers": {}, "functions": {}, **what}}
        account = {"calls": [], "steps": [], "roles": [], "regions": regions}
        Path(self.s.environment["EMULATED_ACCOUNT"]).write_text(json.dumps(account), "utf-8")

    def rewrite(self, file_name: str, old: str, new: str) -> None:
        """Let a component behave in another way."""
        file = self.s.folder / ".s/components/devsapp.cn/v3" / file_name
        text = file.read_text("utf-8")
        assert text.count(old) == 1
        file.write_text(text.replace(old, new), "utf-8")

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


def eventually(read: Callable[[], str]) -> str:
    """What is read, as soon as there is something."""
    until = time.monotonic() + 30
    while time.monotonic() < until:
        with suppress(OSError):
            if text := read():
                return text
        time.sleep(0.05)
    raise TimeoutError


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


@pytest.fixture(autouse=True, scope="module")
def nobodys_shell() -> Iterator[None]:
    """Nothing of whoever runs the tests decides about them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in (*KEY, "AccountID", "AccessKeyID", "AccessKeySecret", "LAYER_VERSION"):
            patch.delenv(name, raising=False)
        yield


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


@dataclass(frozen=True)
class Deployed:
    deployer: Deployer
    result: Result
    folder: Path


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Deployed]:
    """One command in a fresh clone, with a component that prints the credentials it gets."""
    deployer = Deployer(tmp_path_factory.mktemp("home"))
    deployer.rewrite(
        "ros/account.js",
        "const { region } = inputs.props;",
        "const { region } = inputs.props; console.log(JSON.stringify(credential));",
    )
    deployer.rewrite(
        "ros/component.js",
        "const COMMANDS = {",
        "console.error('[2026-11-23 01:00:00][ERROR][infra] something minor');\nconst COMMANDS = {",
    )
    folder = lay_out(tmp_path_factory.mktemp("clone"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield Deployed(deployer, deployer("deploy", "--region", "cn-shanghai"), folder)


def test_one_command_protects_a_region(first: Deployed) -> None:
    """From a clone to a deployed and tried guard: layer, stack, both functions, in this order."""
    assert first.result.exit_code == 0, first.result.output
    place = first.deployer.place("cn-shanghai")
    assert [layer["version"] for layer in place["layers"]["encryption-guard"]] == [1]
    assert set(place["functions"]) == {CREATE, SWEEP}
    for function in place["functions"].values():
        assert {"key": "version", "value": __version__} in function["tags"]
    assert first.deployer.asked()[-5:] == [
        ("infra", "deploy"),
        ("sweep", "deploy"),
        ("encrypt_on_create", "deploy"),
        ("sweep", "invoke"),
        ("encrypt_on_create", "invoke"),
    ]
    assert (first.folder / tasks.LAYER_ZIP).stat().st_size > 1_000_000


def test_the_functions_answer_that_it_is_not_relevant(first: Deployed) -> None:
    """Their real handlers, with the template's variables, get a harmless event at the end."""
    assert first.result.output.count("skipped: not_relevant") == 2


def test_an_error_that_failed_nothing_is_shown(first: Deployed) -> None:
    """What Serverless Devs calls an error is not kept back, though it went on."""
    said = first.result.output

    assert "! [2026-11-23 01:00:00][ERROR][infra] something minor" in said
    assert "continued after this error" in said


def test_what_to_look_at_next_is_told(first: Deployed) -> None:
    """The commands that follow can be pasted: queue, region and log project are the account's."""
    queue = f"acs:mns:cn-shanghai:{ACCOUNT}:/queues/oss-tables-encryption-guard-dead-letters"

    said = first.result.output

    assert f"export GUARD_DEAD_LETTER_QUEUE={queue}\n" in said
    assert "encryption-guard sweep --region cn-shanghai\n" in said
    assert "make verify-live REGION=cn-shanghai\n" in said
    assert f"oss-tables-encryption-guard-cn-shanghai-{ACCOUNT}" in said


def test_no_secret_is_printed_or_kept(first: Deployed) -> None:
    """Neither on the terminal nor in any file, though a component prints its credentials."""
    log = first.folder / "build" / "deploy-cn-shanghai.log"
    places = (first.folder / "build", first.deployer.s.folder)
    written = [file for place in places for file in place.rglob("*") if file.is_file()]

    assert '"AccessKeySecret":"****"' in log.read_text("utf-8")
    for kept in (first.result.output.encode(), *(file.read_bytes() for file in written)):
        assert SECRET.encode() not in kept
        assert TOKEN.encode() not in kept


def test_the_web_hook_stays_in_no_file(deployer: Deployer, checkout: Path) -> None:
    """Serverless Devs writes its URL into a log of its own, which goes with the command."""
    hook = {"GUARD_CONTACT_GROUP": "ops", "GUARD_WEBHOOK": "https://hooks.example.com/a-secret"}

    result = deployer("deploy", **hook)

    kept = [
        file
        for folder in (checkout / "build", deployer.s.folder / ".s")
        for file in folder.rglob("*")
        if file.is_file() and b"a-secret" in file.read_bytes()
    ]
    assert (result.exit_code, kept) == (0, []), result.output
    deployer.s.run("infra", "plan", environment=hook)
    logs = (deployer.s.folder / ".s" / "logs").rglob("infra.log")
    assert any("a-secret" in file.read_text("utf-8") for file in logs)


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.parametrize(
    ("region", "runtime"), [("cn-hangzhou", "python3.12"), ("ap-southeast-1", "python3.10")]
)
def test_serverless_devs_alone_does_it_too(
    deployer: Deployer, checkout: Path, region: str, runtime: str
) -> None:
    """In a fresh account `s deploy` builds and publishes the layer before the first function."""
    with_make(checkout)

    done = deployer.s.run(
        "deploy",
        "-y",
        template=checkout / "template.yaml",
        environment={
            "PYTHON": sys.executable,
            "ALIBABA_CLOUD_REGION": region,
            "GUARD_RUNTIME": runtime,
        },
    )

    assert done.returncode == 0, done.stdout
    place = deployer.place(region)
    assert [layer["version"] for layer in place["layers"]["encryption-guard"]] == [1]
    assert set(place["functions"]) == {CREATE, SWEEP}
    assert deployer.runtimes(region) == {runtime}
    assert f"--runtime {runtime}" in (checkout / "build" / "arguments").read_text("utf-8")


def test_serverless_devs_alone_asks_nobody(deployer: Deployer, checkout: Path) -> None:
    """Its documented lines have `-y`: without it, it waits for a terminal, or ends with 0."""
    with_make(checkout)
    text = (REPOSITORY / "docs" / "deploy.md").read_text("utf-8")
    lines = re.findall(
        r"^((?:[A-Z_]+=\d+ )?)node_modules/.bin/s (.+) -t template.yaml$", text, re.M
    )
    deployments = [(given, line) for given, line in lines if line.startswith("deploy")]
    removals = [(given, line) for given, line in lines if " remove" in line]
    template = checkout / "template.yaml"
    assert (len(deployments), len(removals)) == (2, 4)

    for given, line in deployments + removals:
        environment = {"PYTHON": sys.executable, **dict(re.findall(r"(\w+)=(\d+)", given))}
        done = deployer.s.run(*line.split(), template=template, environment=environment)
        assert done.returncode == 0, done.stdout
        if (given, line) == deployments[0]:
            (checkout / "layer").write_bytes(b"another layer")
        if (given, line) == deployments[1]:
            assert deployer.layers() == ["2", "2"]

    place = deployer.place("cn-hangzhou")
    assert place == {"stacks": {}, "functions": {}, "layers": {"encryption-guard": []}}


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
@pytest.mark.usefixtures("checkout")
def test_three_commands_guard_a_region_and_leave_nothing(deployer: Deployer) -> None:
    """As the docs have them, without a guard.toml; what they run is what make says."""
    docs = commands_in(REPOSITORY / "docs" / "deploy.md")
    plan, deployment, removal = (
        next(line for line in docs if line.startswith(f"make {word} REGION="))
        for word in ("plan", "deploy", "remove")
    )

    outputs = []
    for line in (plan, deployment, plan, f"{removal} YES=1", plan):
        result = deployer(*run_by(line))
        assert result.exit_code == 0, result.output
        outputs.append(result.output)
        if line == deployment:
            place = deployer.place("cn-hangzhou")
            assert (len(place["stacks"]), set(place["functions"])) == (1, {CREATE, SWEEP})

    assert "cn-hangzhou is guarded" in outputs[1]
    assert "nothing changes" in outputs[2]
    assert deployer.place("cn-hangzhou") == {
        "stacks": {},
        "functions": {},
        "layers": {"encryption-guard": []},
    }
    assert "infra  - -> the stack oss-tables-encryption-guard" in outputs[4]


def run_by(line: str) -> list[str]:
    """The arguments that a line with make gives to the program."""
    printed = subprocess.run(
        [*line.split(), "--dry-run"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    program = "layers.encryption_guard.tools.deploy "
    # A make that runs inside another one says also where it is.
    (command,) = [line for line in printed.splitlines() if program in line]
    return command.partition(program)[2].split()


@pytest.mark.usefixtures("checkout")
def test_empty_variables_of_serverless_devs_do_not_count(deployer: Deployer) -> None:
    """They would win over the shell's key, so they are not handed on."""
    result = deployer("deploy", AccountID="", AccessKeyID="", AccessKeySecret="")

    assert result.exit_code == 0, result.output
    assert {(call["account"], call["key_ending"]) for call in deployer.s.calls()} == {
        (ACCOUNT, "oyer")
    }


def test_an_upgrade_takes_the_new_layer(deployer: Deployer, checkout: Path) -> None:
    """A layer that changed becomes the next version, and both functions are moved to it; without a
    change nothing is published, and the functions stay as they are."""
    deployer("deploy", "--region", "cn-hangzhou")
    first = deployer.place("cn-hangzhou")
    deployer("deploy", "--region", "cn-hangzhou")
    assert deployer.place("cn-hangzhou") == first
    (checkout / "layer").write_bytes(b"a newer layer")

    upgraded = deployer("deploy", "--region", "cn-hangzhou")

    assert upgraded.exit_code == 0
    assert deployer.layers() == ["2", "2"]


@pytest.mark.usefixtures("checkout")
def test_each_region_gets_what_it_has(deployer: Deployer) -> None:
    """No events: it says so, and sweeps every minute. No python3.12: the older one, and its layer.
    The others are as always."""
    regions = ["us-east-1", "ap-southeast-1", "cn-hangzhou"]

    result = deployer("deploy", *(word for name in regions for word in ("--region", name)))

    assert result.exit_code == 0, result.output
    assert (
        "OSS publishes no events in us-east-1: only the sweep, every minute, protects it"
        in result.output
    )
    assert "Done in: us-east-1, ap-southeast-1, cn-hangzhou\n" in result.output
    assert [deployer.rate(name) for name in regions] == ["@every 1m"] * 3
    assert [deployer.runtimes(name) for name in regions] == [
        {"python3.12"},
        {"python3.10"},
        {"python3.12"},
    ]


def test_one_region_that_fails_does_not_keep_the_next_from_it(
    deployer: Deployer, checkout: Path
) -> None:
    """Both are named, the failure with its cause, what to do, and where all of it stands."""
    name = "oss-tables-encryption-guard-cn-hangzhou"
    role = {"type": "ALIYUN::RAM::Role", "properties": {"RoleName": name}}
    deployer.holds("cn-hangzhou", stacks={"x": {"stackId": "x", "resources": {"R": role}}})

    result = deployer("deploy", "--region", "cn-hangzhou", "--region", "cn-shanghai")

    assert result.exit_code == 1
    assert f"EntityAlreadyExists.Role: {name}" in result.output
    assert "run the command again" in result.output
    assert "build/deploy-cn-hangzhou.log" in result.output
    assert "Done in: cn-shanghai\n  Failed in: cn-hangzhou\n" in result.output
    assert (checkout / "build" / "deploy-cn-hangzhou.log").is_file()


@pytest.mark.usefixtures("checkout")
def test_a_function_that_does_not_work_is_found(deployer: Deployer) -> None:
    """A deployment whose functions do not load has failed, and shows what they say."""
    broken = 'print(\'{"errorMessage": "No module named httpx"}\'); raise SystemExit(1)'

    result = deployer(
        *("deploy", "--region", "cn-hangzhou"),
        EMULATED_FUNCTION=json.dumps([sys.executable, "-c", broken]),
    )

    assert result.exit_code == 1
    assert "sweep answered a harmless event with an error" in result.output
    assert "No module named httpx" in result.output


def test_a_layer_that_cannot_be_built_is_said(deployer: Deployer, checkout: Path) -> None:
    """Nothing is published, and the builder's last words are shown."""
    (checkout / BUILDER).write_text("raise SystemExit('no wheel for this Python')")

    result = deployer("deploy", "--region", "cn-hangzhou")

    assert result.exit_code == 1
    assert "no wheel for this Python" in result.output
    assert deployer.asked() == []


@pytest.mark.parametrize("command", ["deploy", "plan"])
@pytest.mark.parametrize(
    ("key", "as_", "said"),
    [
        ("memorySize", "memory_size", "sweep: memory_size is unknown; did you mean memorySize?"),
        (
            "destinationConfig",
            "destinationsConfig",
            "encrypt_on_create: asyncInvokeConfig.destinationsConfig is unknown",
        ),
        ("environmentVariables", "environment", "sweep: environment is unknown"),
        ("Interval", "Intervall", "Detail.Schedule.Intervall is unknown; did you mean Interval?"),
        ("template", "templates", "infra: templates is unknown; did you mean template?"),
    ],
)
def test_a_misspelt_template_stops_it_before_anything_is_made(
    deployer: Deployer, checkout: Path, command: str, key: str, as_: str, said: str
) -> None:
    """`s verify` accepts any key, and `s deploy` would send it."""
    misspell(checkout, key, as_)

    result = deployer(command, "--region", "cn-hangzhou")

    assert result.exit_code == 2
    assert said in result.output
    assert deployer.asked() == []


def misspell(checkout: Path, key: str, as_: str) -> None:
    """Write a key of the template in another way."""
    template = checkout / "template.yaml"
    text = template.read_text("utf-8")
    assert f"{key}:" in text
    template.write_text(text.replace(f"{key}:", f"{as_}:"), "utf-8")


def test_a_misspelt_template_does_not_stop_a_removal(deployer: Deployer, checkout: Path) -> None:
    """What is deployed has to go, whatever the template of today says about it."""
    assert deployer("deploy", *HERE).exit_code == 0
    misspell(checkout, "destinationConfig", "destinationsConfig")

    result = deployer("remove", *HERE, "--yes")

    assert result.exit_code == 0, result.output
    assert deployer.place("cn-hangzhou")["functions"] == {}


@pytest.mark.parametrize(
    ("arguments", "environment", "said"),
    [
        (("--region", "mars-1"), {}, "OSS Tables is not documented for the region 'mars-1'"),
        (("--region", "cn-hangzhou", "--region", "mars-1"), {}, "'mars-1'"),
        ((), {"ALIBABA_CLOUD_ACCESS_KEY_SECRET": None}, "There are no credentials"),
        ((), {"ALIBABA_CLOUD_ACCOUNT_ID": None}, "The account of the access key"),
        ((), {"GUARD_MODE": "protect"}, "GUARD_MODE"),
        ((), {"GUARD_RUNTIME": "python3.13"}, "No layer can be built for python3.13"),
        ((), {"PATH": "/nowhere"}, "Node.js is not installed"),
    ],
    ids=["region", "one of two", "no key", "no account", "setting", "runtime", "no Node.js"],
)
def test_what_cannot_succeed_is_not_begun(
    deployer: Deployer,
    checkout: Path,
    arguments: tuple[str, ...],
    environment: dict[str, str | None],
    said: str,
) -> None:
    """The check names what is wrong, in whichever region, and nothing is touched in any."""
    result = deployer("deploy", *arguments, **environment)

    assert result.exit_code == 2
    assert said in result.output
    assert "Nothing was started." in result.output
    assert deployer.asked() == []
    assert not (checkout / "build").exists()


@pytest.mark.parametrize(("set_to", "region"), [("cn-beijing", "cn-beijing"), ("", "cn-hangzhou")])
@pytest.mark.usefixtures("checkout")
def test_the_region_of_the_shell_is_the_default(
    deployer: Deployer, set_to: str, region: str
) -> None:
    """Without REGION it is ALIBABA_CLOUD_REGION, and without that the template's."""
    result = deployer("deploy", ALIBABA_CLOUD_REGION=set_to, GUARD_MODE="none, to end it here")

    assert f"python3.12 in {region}\n" in result.output


@pytest.mark.usefixtures("checkout")
def test_a_configured_alias_is_enough(deployer: Deployer) -> None:
    """Without a key in the shell, what `s config add` set up is used."""
    home = deployer.s.folder / ".s"
    (home / "access.yaml").write_text("other: {}\ndefault:\n  AccountID: x\n", "utf-8")

    result = deployer("deploy", **dict.fromkeys(KEY), GUARD_MODE="none, to end it here")

    assert "the alias `default` of Serverless Devs" in result.output


@pytest.mark.usefixtures("checkout")
def test_what_was_deployed_can_be_removed(deployer: Deployer) -> None:
    """Functions first, so that no event meets a missing role. A part that stays does not keep the
    others; the end names it, and the next time it goes too."""
    deployer("deploy", "--region", "cn-hangzhou")

    failed = deployer("remove", "--yes", *HERE, EMULATED_REFUSALS="DeleteLayerVersion")
    left = deployer.place("cn-hangzhou")
    result = deployer("remove", "--yes", "--region", "cn-hangzhou")

    assert failed.exit_code == 1
    assert "Layer versions not removed: [1]" in failed.output
    assert "Not removed from cn-hangzhou: the layer, all versions" in failed.output
    assert (left["functions"], left["stacks"]) == ({}, {})
    assert result.exit_code == 0, result.output
    assert deployer.place("cn-hangzhou")["layers"] == {"encryption-guard": []}
    assert [asked for asked in deployer.asked() if asked[1] != "layer"][-3:] == [
        ("encrypt_on_create", "remove"),
        ("sweep", "remove"),
        ("infra", "remove"),
    ]


@pytest.mark.usefixtures("checkout")
def test_removing_asks_first(deployer: Deployer) -> None:
    """The dead letters and the logs go too: a slip of the hand must not do that."""
    result = deployer("remove", "--region", "cn-hangzhou", "--region", "us-east-1")

    assert result.exit_code == 1
    assert (
        f"Remove the guard from cn-hangzhou of account {ACCOUNT} (3 dead letters), us-east-1 of"
        f" account {ACCOUNT} (3 dead letters), with the functions, the layer, the"
        " dead letters and the logs of 90 days?"
    ) in result.output
    assert deployer.asked() == []


@pytest.mark.parametrize("environment", [{}, {"ALIBABA_CLOUD_REGION": "cn-beijing"}])
@pytest.mark.usefixtures("checkout")
def test_removing_takes_no_region_for_granted(
    deployer: Deployer, environment: dict[str, str]
) -> None:
    """Not even that of the shell: it may be left from something else."""
    result = deployer("remove", "--yes", **environment)

    assert result.exit_code == 2
    assert "make remove REGION=cn-hangzhou" in result.output
    assert deployer.asked() == []


@pytest.mark.usefixtures("checkout")
def test_a_clock_that_is_ahead_stops_it(deployer: Deployer) -> None:
    """Serverless Devs would wait for ever for the events of the stack."""
    deployer.seconds_ahead = 75.2

    result = deployer("deploy", "--region", "cn-hangzhou")

    assert result.exit_code == 2
    assert "This machine's clock is 75 s ahead" in result.output
    assert ("infra", "deploy") not in deployer.asked()


# A stack that stands in the way.


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("state", ["CREATE_ROLLBACK_COMPLETE", "CREATE_FAILED"])
def test_a_stack_that_was_never_complete_is_named(deployer: Deployer, state: str) -> None:
    """No later deployment can update it: both say so, and that its removal helps; it does."""
    region = ("--region", "cn-hangzhou")

    first = deployer("deploy", *region, EMULATED_STACK=state)
    second = deployer("deploy", *region)
    removed = deployer("remove", "--yes", *region)
    third = deployer("deploy", *region)

    for failed in (first, second):
        assert failed.exit_code == 1
        assert f"the stack oss-tables-encryption-guard is in {state}" in failed.output
        assert "run `make remove REGION=cn-hangzhou`" in failed.output
    assert (removed.exit_code, third.exit_code) == (0, 0), third.output


@pytest.mark.usefixtures("checkout")
def test_a_deletion_that_fails_ends(deployer: Deployer) -> None:
    """The component would wait for ever: the command ends, and names the state."""
    deployer("deploy", "--region", "cn-hangzhou")

    failed = deployer("remove", "--yes", "--region", "cn-hangzhou", EMULATED_STACK="DELETE_FAILED")

    assert failed.exit_code == 1
    assert "was stopped: the stack is in DELETE_FAILED" in failed.output
    assert "console of Resource Orchestration Service" in failed.output


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    ("error", "exit_code", "times"),
    [
        ("InvalidArgument: project 'x' does not exist", 0, 3),
        ("EntityNotExist.Role: the role x does not exist", 0, 3),
        ("InvalidArgument: memorySize", 1, 1),
        ("InvalidArgument: reservedConcurrency is over the quota", 1, 1),
        ("AccessDenied: no right to fc:PutConcurrencyConfig", 1, 1),
    ],
)
def test_what_passes_soon_is_tried_again(
    deployer: Deployer, monkeypatch: pytest.MonkeyPatch, error: str, exit_code: int, times: int
) -> None:
    """A project or a role that was just made is not seen everywhere at once; anything else ends."""
    monkeypatch.setattr(tasks, "RETRY_AFTER_SECONDS", (0.01, 0.02, 0.03))
    counter = deployer.s.folder / "times"
    begin = "if (!place.role(role)) refuse("
    deployer.rewrite(
        "fc3/component.js",
        begin,
        f"fs.appendFileSync({str(counter)!r}, 'x');"
        f"if (fs.statSync({str(counter)!r}).size < 3) refuse({error!r});" + begin,
    )

    result = deployer("deploy", "--region", "cn-hangzhou")

    assert result.exit_code == exit_code, result.output
    assert len(counter.read_text()) == (times if exit_code else times + 1)


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize(
    "call",
    [
        *("DeleteAsyncInvokeConfig", "ListTriggers", "DeleteTrigger"),
        *("DeleteConcurrencyConfig", "DeleteFunction"),
    ],
)
def test_what_a_function_needs_stays_as_long_as_it_does(deployer: Deployer, call: str) -> None:
    """Without its role, queue and log a function that events still start would fail unseen."""
    deployer.holds("cn-hangzhou", **DEPLOYED)

    failed = deployer("remove", "--yes", *HERE, EMULATED_REFUSALS=call)
    left = deployer.place("cn-hangzhou")
    result = deployer("remove", "--yes", *HERE)

    assert failed.exit_code == 1
    assert f"AccessDenied: 403, {call}" in failed.output
    assert "Not removed from cn-hangzhou: encrypt_on_create, sweep" in failed.output
    assert "the queue, the roles, the alarms and the logs (kept for them)" in failed.output
    assert (set(left["functions"]), len(left["stacks"])) == ({CREATE, SWEEP}, 1)
    assert result.exit_code == 0, result.output
    assert deployer.place("cn-hangzhou")["stacks"] == {}


@pytest.mark.usefixtures("checkout")
def test_the_logs_can_be_kept(deployer: Deployer) -> None:
    """The stack stays with its queue and its logs; nothing is left that writes into them."""
    deployer.holds("cn-hangzhou", **DEPLOYED)

    asked = deployer("remove", *HERE, "--keep-logs")
    result = deployer("remove", *HERE, "--keep-logs", "--yes")

    place = deployer.place("cn-hangzhou")
    assert "The roles, the dead letters and the logs stay." in asked.output
    assert (asked.exit_code, result.exit_code) == (1, 0), result.output
    assert (place["functions"], place["layers"]) == ({}, {"encryption-guard": []})
    assert place["stacks"] == DEPLOYED["stacks"]


@pytest.mark.usefixtures("checkout")
def test_a_list_that_was_refused_is_no_empty_list(deployer: Deployer) -> None:
    """The layer is not called removed if nobody could look."""
    deployer.holds("cn-hangzhou", **DEPLOYED)

    failed = deployer("remove", "--yes", *HERE, EMULATED_REFUSALS="ListLayerVersions")

    assert failed.exit_code == 1
    assert "The versions of the layer could not be listed" in failed.output
    assert "Not removed from cn-hangzhou: the layer, all versions" in failed.output


@pytest.mark.parametrize("command", ["deploy", "plan", "remove"])
@pytest.mark.parametrize("folder", [".", "functions/sweep"])
def test_a_file_that_would_choose_another_account_stops_it(
    deployer: Deployer, checkout: Path, command: str, folder: str
) -> None:
    """Serverless Devs would act in the account of the file, whatever was printed before."""
    other = "AccountID=9999999999999999\nAccessKeyID=LTAI-other\nAccessKeySecret=other-secret\n"
    (checkout / folder / ".env").write_text(other)

    result = deployer(command, "--region", "cn-hangzhou")

    assert result.exit_code == 2
    assert f"would read {Path(folder, '.env')}" in result.output
    assert "Nothing was started." in result.output
    assert deployer.asked() == []


@pytest.mark.parametrize("command", ["deploy", "plan", "remove"])
@pytest.mark.usefixtures("checkout")
def test_the_account_that_acts_is_the_one_that_was_announced(
    deployer: Deployer, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever another one comes from, the resolved template gives it away."""
    monkeypatch.setattr(deploy, "find_account", lambda _: "9999999999999999")

    result = deployer(
        command, "--region", "cn-hangzhou", *(["--yes"] if command == "remove" else [])
    )

    assert result.exit_code == 2
    assert f"acts in account 9999999999999999, not {ACCOUNT}" in result.output
    assert deployer.asked() == []


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"GUARD_MOD": "detect"}, "Did you mean GUARD_MODE?"),
        ({"GUARD_CONTACT_GROUP": "${env('HOME')}"}, "GUARD_CONTACT_GROUP contains a $"),
        ({"ci_serverless_devs_key": ""}, "ci_serverless_devs_key is not an access key in JSON"),
        ({"GUARD_SWEEP_REGIONS": "cn-hangzou"}, "'cn-hangzou'"),
        (
            {"GUARD_EXEMPTIONS": json.dumps([{"bucket": "Tmp-*", "reason": "a capital"}])},
            "can match no bucket name",
        ),
        (
            {"GUARD_ALLOWED_ACCOUNTS": ",".join(str(10**15 + number) for number in range(250))},
            "4,096 are allowed",
        ),
    ],
    ids=["a misspelt name", "expansion", "no key", "region", "no bucket", "too large"],
)
@pytest.mark.usefixtures("checkout")
def test_what_would_be_deployed_otherwise_is_not_begun(
    deployer: Deployer, environment: dict[str, str], said: str
) -> None:
    """What is checked is what is deployed: nothing is touched before it is known."""
    result = deployer("deploy", "--region", "cn-hangzhou", **environment)

    assert result.exit_code == 2, result.output
    assert said in result.output
    assert deployer.asked() == []


@pytest.mark.usefixtures("checkout")
def test_a_dollar_in_a_reason_arrives(deployer: Deployer) -> None:
    """Neither a variable nor a file of the deployer gets into the function."""
    exemptions = [{"bucket": "tmp-*", "reason": "costs $5, ${env('HOME')}, $HOME"}]

    result = deployer("deploy", "--region", "cn-hangzhou", GUARD_EXEMPTIONS=json.dumps(exemptions))

    assert result.exit_code == 0, result.output
    for function in deployer.place("cn-hangzhou")["functions"].values():
        assert json.loads(function["environmentVariables"]["GUARD_EXEMPTIONS"]) == exemptions


MANY = [{"bucket": f"scratch-{number}-*", "reason": "an example: $5"} for number in range(60)]


def test_long_exemptions_go_into_a_file(deployer: Deployer, checkout: Path) -> None:
    """All variables of a function may have 4 KB; both functions find the file in their code."""
    (checkout / "guard.toml").write_text(
        "".join(
            f'[[exemptions]]\nbucket = "{x["bucket"]}"\nreason = "{x["reason"]}"\n' for x in MANY
        )
    )

    result = deployer("deploy", *HERE)
    again = deployer("deploy", *HERE)

    assert (result.exit_code, again.exit_code) == (0, 0), result.output + again.output
    assert "Is that wanted?" not in again.output
    for function in deployer.place("cn-hangzhou")["functions"].values():
        variable = function["environmentVariables"]["GUARD_EXEMPTIONS"]
        read = Settings.from_environment(
            {"GUARD_EXEMPTIONS": variable, "FC_FUNC_CODE_PATH": function["code"]}
        )
        assert variable.startswith("file:exemptions-")
        assert [(one.bucket, one.reason) for one in read.exemptions] == [
            (entry["bucket"], entry["reason"]) for entry in MANY
        ]


def test_a_file_of_exemptions_that_is_elsewhere_has_to_be_stated(
    deployer: Deployer, checkout: Path
) -> None:
    """It cannot be read back: another checkout stops, or asks."""
    deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY))
    for file in checkout.glob("functions/*/exemptions-*.json"):
        file.unlink()

    unstated = deployer("deploy", *HERE)
    fewer = deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY[:-1]))
    same = deployer("deploy", *HERE, GUARD_EXEMPTIONS=json.dumps(MANY, indent=1))

    assert unstated.exit_code == 2
    assert "state the exemptions in guard.toml" in unstated.output
    assert fewer.exit_code == 1
    assert "Other exemptions than those of the deployed file:exemptions-" in fewer.output
    assert same.exit_code == 0, same.output


# Settings that last.

STATED = {
    "GUARD_MODE": "detect",
    "GUARD_EXEMPTIONS": '[{"bucket": "tmp-*", "reason": "a test"}]',
    "GUARD_CONTACT_GROUP": "security",
    "GUARD_WEBHOOK": "https://hooks.example.com/robot?key=not-to-be-seen",
    "GUARD_ACTION_POLICY": "sls.builtin",
    "GUARD_SLOW_AFTER_MS": "90000",
    "GUARD_ALLOWED_ACCOUNTS": "2222222222222222",
    "GUARD_SWEEP_REGIONS": "cn-hangzhou,cn-shanghai",
    "GUARD_RUNTIME": "python3.10",
}


@pytest.mark.usefixtures("checkout")
def test_another_shell_changes_nothing(deployer: Deployer) -> None:
    """A colleague who upgrades knows nothing of the settings, and takes none of them away."""
    deployer("deploy", *HERE, **STATED)
    before = deployer.settings("cn-hangzhou"), deployer.runtimes("cn-hangzhou")

    result = deployer("deploy", *HERE, GUARD_WEBHOOK=STATED["GUARD_WEBHOOK"])

    assert result.exit_code == 0, result.output
    assert (deployer.settings("cn-hangzhou"), deployer.runtimes("cn-hangzhou")) == before
    assert "->" not in result.output
    assert "not-to-be-seen" not in result.output


@pytest.mark.parametrize(
    ("changed", "question"),
    [
        ({"GUARD_MODE": "enforce"}, "Unencrypted buckets will be encrypted (detect -> enforce)"),
        (
            {"GUARD_EXEMPTIONS": '[{"bucket": "raw-*", "reason": "a test"}]'},
            "No longer protected: raw-*; No longer exempt, so encrypted: tmp-*",
        ),
        ({"GUARD_SWEEP_REGIONS": "cn-hangzhou"}, "No longer swept: cn-shanghai"),
        ({"GUARD_WEBHOOK": None}, "GUARD_WEBHOOK is gone"),
    ],
    ids=["mode", "exemptions", "regions", "web hook"],
)
@pytest.mark.usefixtures("checkout")
def test_what_opens_buckets_or_silences_somebody_asks(
    deployer: Deployer, changed: dict[str, str | None], question: str
) -> None:
    """Without an answer nothing is touched; YES=1 is one."""
    deployer("deploy", *HERE, **STATED)
    before, calls = deployer.settings("cn-hangzhou"), deployer.asked()

    asked = deployer("deploy", *HERE, **(STATED | changed))
    deployer.answer = "n\n"
    refused = deployer("deploy", *HERE, **(STATED | changed))

    assert question in asked.output
    assert f"cn-hangzhou of account {ACCOUNT}" in asked.output
    assert (asked.exit_code, refused.exit_code) == (1, 1)
    assert "Set YES=1 where nobody can answer" in asked.output + asked.stderr
    assert (deployer.settings("cn-hangzhou"), deployer.asked()) == (before, calls)
    done = deployer("deploy", *HERE, "--yes", **(STATED | changed))
    assert done.exit_code == 0, done.output
    for name, value in changed.items():
        if value:
            assert deployer.settings("cn-hangzhou")[name] == value


def test_functions_that_differ_have_to_be_stated(deployer: Deployer, checkout: Path) -> None:
    """Which of the two is wanted is not known: neither is overwritten in silence."""
    functions = {
        CREATE: {"environmentVariables": {"GUARD_MODE": "detect"}},
        SWEEP: {"environmentVariables": {"GUARD_MODE": "enforce"}},
    }
    deployer.holds("cn-hangzhou", functions=functions)

    unstated = deployer("plan", *HERE)
    (checkout / "guard.toml").write_text('mode = "enforce"')
    stated = deployer("plan", *HERE)

    assert unstated.exit_code == 2
    assert "The functions differ in GUARD_MODE: detect | sweep: enforce" in unstated.output
    assert stated.exit_code == 0, stated.output
    assert re.search(r"GUARD_MODE +detect \| sweep: enforce -> enforce", stated.output)


def test_a_file_states_settings_for_each_region(deployer: Deployer, checkout: Path) -> None:
    """The shell counts before it, a region's table before what is for all; each source is shown."""
    (checkout / "guard.toml").write_text(
        'mode = "detect"\nslow_after_ms = 70000\n'
        '[[exemptions]]\nbucket = "tmp-*"\nreason = "a test"\nexpires = 2099-12-31\n'
        '[regions.us-east-1]\nmode = "enforce"\n'
    )

    result = deployer("deploy", *HERE, "--region", "us-east-1", GUARD_SLOW_AFTER_MS="80000")

    assert result.exit_code == 0, result.output
    modes = [deployer.settings(region)["GUARD_MODE"] for region in ("cn-hangzhou", "us-east-1")]
    assert modes == ["detect", "enforce"]
    assert deployer.settings("us-east-1")["GUARD_SLOW_AFTER_MS"] == "80000"
    assert json.loads(deployer.settings("us-east-1")["GUARD_EXEMPTIONS"]) == [
        {"bucket": "tmp-*", "reason": "a test", "expires": "2099-12-31"}
    ]
    assert re.search(r"GUARD_SLOW_AFTER_MS +80000 \(shell\)", result.output)
    assert re.search(r"GUARD_MODE +detect \(file\)", result.output)


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ('mod = "detect"', 'guard.toml: "mod" is not a setting; did you mean mode?'),
        ("mode = detect", "guard.toml is not TOML"),
        ("sweep_every = true", 'guard.toml: sweep_every is "True", but has to be a number'),
        ('[regions.cn-hangzhou]\nmode = "protect"', "GUARD_MODE"),
        ('mode = "protect"', "GUARD_MODE"),
        ('[regions.cn-hangzou]\nmode = "detect"', "the region 'cn-hangzou'"),
        ('mode = "\udcff"', "guard.toml is not UTF-8"),
    ],
    ids=["key", "no TOML", "type", "value in a region", "value", "region", "no UTF-8"],
)
def test_a_wrong_file_stops_it(deployer: Deployer, checkout: Path, file: str, said: str) -> None:
    """Before anything is begun, with the key at fault."""
    (checkout / "guard.toml").write_bytes(file.encode("utf-8", "surrogateescape"))

    result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert said in result.output
    assert "Nothing was started." in result.output
    assert deployer.asked() == []


def test_a_named_file_counts_instead(deployer: Deployer, checkout: Path, tmp_path: Path) -> None:
    """CONFIG= names another place; one that is not there stops the deployment."""
    (checkout / "guard.toml").write_text('mode = "protect"')
    named = tmp_path / "production.toml"
    # As some editors write it, with a byte order mark.
    named.write_text('\ufeffmode = "detect"', "utf-8")

    result = deployer("plan", *HERE, "--config", str(named))
    missing = deployer("plan", *HERE, "--config", str(tmp_path / "gone.toml"))

    assert re.search(r"GUARD_MODE +detect \(file\)", result.output)
    assert (result.exit_code, missing.exit_code) == (0, 2)
    assert "gone.toml cannot be read" in missing.output


def test_a_sigterm_leaves_no_command_behind(deployer: Deployer, checkout: Path) -> None:
    """It would go on to change the account. The end says where it was."""
    (checkout / "node_modules").unlink()
    s = checkout / "node_modules" / ".bin" / "s"
    s.parent.mkdir(parents=True)
    s.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo 3.1.10 && exit\n'
        "(while :; do date +%N > alive; sleep 0.05; done) & wait\n"
    )
    s.chmod(0o755)
    shell = {
        **os.environ,  # noqa: TID251  (no setting: a process needs it)
        **deployer.environment,
        "PYTHONPATH": f"{REPOSITORY / 'layers/encryption_guard/python'}:{REPOSITORY}",
        # Nobody answers: nothing is read back.
        "GUARD_FC_ENDPOINT": "http://127.0.0.1:9",
    }
    program = (sys.executable, "-m", "layers.encryption_guard.tools.deploy")
    command = [*program, "remove", "--yes", *HERE]

    with subprocess.Popen(command, env=shell, stdout=subprocess.PIPE, text=True) as process:
        try:
            eventually((checkout / "alive").read_text)
            process.terminate()
            said = process.communicate(timeout=30)[0]
        finally:
            process.kill()

    assert process.returncode == 130
    assert "Stopped in cn-hangzhou" in said
    last = (checkout / "alive").read_text()
    time.sleep(0.5)
    assert (checkout / "alive").read_text() == last


# The plan.


@pytest.mark.usefixtures("checkout")
def test_the_watch_names_its_price_and_asks(deployer: Deployer) -> None:
    """To turn it on costs more, and has to be wanted; what gets cheaper does not."""
    regions = ",".join(preflight.REGIONS)
    first = deployer("deploy", *HERE, GUARD_WATCH_SECONDS="0", GUARD_AUDIT_TABLES="true")
    watched = {"GUARD_WATCH_SECONDS": "5", "GUARD_SWEEP_REGIONS": regions}
    planned = deployer("plan", *HERE, **watched)
    asked = deployer("deploy", *HERE, **watched)
    before = deployer.sweep_size()
    done = deployer("deploy", *HERE, "--yes", **watched)
    eight = deployer.sweep_size()
    cheaper = deployer("deploy", *HERE, GUARD_AUDIT_TABLES="late")
    again = deployer("plan", *HERE)

    assert [each.exit_code for each in (first, planned, asked, done, cheaper, again)] == (
        [0, 0, 1, 0, 0, 0]
    ), asked.output
    price = "55 of 60 seconds: about 13.67 USD a month instead of 0.13"
    assert [price in each.output for each in (first, planned, asked, done, cheaper)] == (
        [False, True, True, True, False]
    )
    assert re.search(r"GUARD_WATCH_SECONDS +0 -> 5 \(shell\)", planned.output)
    assert f"cn-hangzhou: The sweep function looks for new buckets for {price}" in asked.output
    assert (before, eight, deployer.sweep_size()) == ((0.25, 256), (0.25, 256), (0.05, 128))
    assert "nothing changes" in again.output


@pytest.mark.usefixtures("checkout")
def test_a_plan_of_a_first_deployment_names_the_price(deployer: Deployer) -> None:
    """A script that deploys for the first time is not stopped; somebody at a terminal is asked."""
    planned = deployer("plan", *HERE)
    with patch.object(deploy, "is_terminal", lambda: True):
        asked = deployer("deploy", *HERE)
    done = deployer("deploy", *HERE)

    assert [each.exit_code for each in (planned, asked, done)] == [0, 1, 0], done.output
    for each in (planned, asked, done):
        assert "about 3.27 USD a month by list prices" in each.output
    assert "Is that wanted?" in asked.output
    assert deployer.sweep_size() == (0.05, 128)


@pytest.mark.usefixtures("checkout")
def test_a_plan_of_what_is_deployed_says_that_nothing_changes(deployer: Deployer) -> None:
    """It only reads: no component is asked, and the services are asked for nothing but reads."""
    deployer("deploy", *HERE, **STATED)
    before = deployer.s.account()

    result = deployer("plan", *HERE, GUARD_WEBHOOK=STATED["GUARD_WEBHOOK"])

    assert result.exit_code == 0, result.output
    assert "Compared with what is deployed: nothing changes" in result.output
    assert deployer.s.account() == before
    assert {each for each in deployer.requests if each} == {
        *("GetFunction", "GetTrigger", "GetFunctionAsyncInvokeConfig", "GetConcurrencyConfig"),
        *("ListStacks", "GetStack", "GetTemplate"),
    }


def test_a_plan_shows_old_and_new(deployer: Deployer, checkout: Path) -> None:
    """Of settings, of the template and of the code, each with what is deployed."""
    deployer("deploy", *HERE, **STATED)
    template = (checkout / "template.yaml").read_text("utf-8")
    (checkout / "template.yaml").write_text(template.replace("TTL: 90", "TTL: 30"), "utf-8")
    (checkout / "functions" / "sweep" / "index.py").write_text("another handler", "utf-8")
    before = deployer.s.account()

    result = deployer("plan", *HERE, GUARD_MODE="enforce", GUARD_WEBHOOK=STATED["GUARD_WEBHOOK"])

    assert result.exit_code == 0, result.output
    for line in (
        r"GUARD_MODE +detect -> enforce \(shell\)",
        r"GUARD_CONTACT_GROUP +security \(deployed\)",
        r"GUARD_WEBHOOK +\(set\) \(shell\)",
        r"Compared with what is deployed: 5 changes",
        r"infra\.Resources\.LogStore\.Properties\.TTL  90 -> 30",
        r"sweep\.environmentVariables\.GUARD_MODE  detect -> enforce",
        r"encrypt_on_create\.environmentVariables\.GUARD_MODE  detect -> enforce",
        r"sweep\.code and layer  [0-9a-f]{16} -> [0-9a-f]{16}",
        r"encrypt_on_create\.code and layer  [0-9a-f]{16} -> [0-9a-f]{16}",
    ):
        assert re.search(line, result.output), (line, result.output)
    assert deployer.s.account() == before


@pytest.mark.usefixtures("checkout")
def test_a_plan_of_a_first_deployment_shows_all_that_it_creates(deployer: Deployer) -> None:
    """The stack with its resources, and both functions."""
    result = deployer("plan", *HERE)

    assert result.exit_code == 0, result.output
    assert "infra  - -> the stack oss-tables-encryption-guard" in result.output
    assert f"sweep  - -> the function {SWEEP}" in result.output
    assert f"encrypt_on_create  - -> the function {CREATE}" in result.output
    assert re.search("DeadLetterQueue +ALIYUN::MNS::Queue", result.output)
    assert "Serverless Devs creates service-linked roles" in result.output
    assert (deployer.s.account()["regions"], deployer.s.account()["roles"]) == ({}, [])


@pytest.mark.usefixtures("checkout")
def test_a_plan_names_a_stack_that_no_deployment_can_update(deployer: Deployer) -> None:
    """It says so before the deployment fails there."""
    deployer("deploy", *HERE)
    failed = Mock(return_value=KeptStack("x", {}, {}, status="CREATE_ROLLBACK_COMPLETE"))
    with patch.object(api_of_a_region, "KeptStack", failed):
        failed.return_value = replace(failed.return_value, name="oss-tables-encryption-guard")
        result = deployer("plan", *HERE)

    assert "! the stack oss-tables-encryption-guard is in CREATE_ROLLBACK_COMPLETE" in result.output
    assert "make remove REGION=cn-hangzhou" in result.output


@pytest.mark.usefixtures("checkout")
def test_a_plan_that_cannot_read_says_so(deployer: Deployer) -> None:
    """Nothing is called unchanged that nobody could look at."""
    unreadable = Mock(side_effect=ConfigurationError("403 NoPermission; check ros:GetTemplate."))
    with patch.object(Deployer, "read_parts", unreadable):
        result = deployer("plan", *HERE)

    assert result.exit_code == 2
    assert "What is deployed is not readable: 403 NoPermission" in result.output


@pytest.mark.usefixtures("checkout")
def test_with_a_key_of_serverless_devs_it_makes_the_plan(deployer: Deployer) -> None:
    """Nobody else can ask: it compares with the latest layer, and says what it assumes."""
    key = [word for name, value in CREDENTIALS.items() for word in (f"--{name}", value)]
    assert deployer.s.run("config", "add", "--access", "default", *key).returncode == 0
    nothing = dict.fromkeys(KEY)
    assert deployer("deploy", *HERE, "--yes", **nothing).exit_code == 0
    Path("layer").write_bytes(b"a newer layer")
    assert deployer("deploy", *HERE, "--yes", **nothing).exit_code == 0

    planned = deployer("plan", *HERE, **nothing)
    refused = deployer("plan", *HERE, **nothing, EMULATED_REFUSALS="ListLayerVersions")

    assert (planned.exit_code, refused.exit_code) == (0, 0), planned.output
    assert "Serverless Devs creates service-linked roles" in planned.output
    assert len(deployer.s.account()["roles"]) == 3
    assert "- Key: version" in planned.output
    assert re.search("encrypt_on_create update .*/versions/2", planned.output)
    assert "the plan assumes version 1" in refused.output


@pytest.mark.usefixtures("checkout")
def test_settings_that_cannot_be_read_stop_it(deployer: Deployer) -> None:
    """Otherwise they would be turned back in silence."""
    unreadable = Mock(side_effect=ConfigurationError("403 AccessDenied; check fc:GetFunction."))
    with patch.object(Deployer, "read_deployed", unreadable):
        result = deployer("deploy", *HERE)

    assert result.exit_code == 2
    assert "The deployed settings are not readable: 403 AccessDenied" in result.output
    assert deployer.asked() == []
