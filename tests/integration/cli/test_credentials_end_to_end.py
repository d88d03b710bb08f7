"""Commands whose shell has no key: whose key acts, who is told so, and how often one is asked for.

tests/integration/cli/test_vendor_credentials.py has each source, and each failure of one.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT, OWNER, QUEUE, REGION, EmulatedCloud, emulated_cloud
from tests.emulators.emulated_service import utc_now
from tests.emulators.key_servers import KeyServer, Metadata
from tests.emulators.operators_shell import environment, invoke
from tests.unit.fakes import creation_of, dead_letter_of

HELD = AccessKey("STS.of-a-role", "a-role-secret", ACCOUNT, security_token="a-role-token")
ROLE = f"acs:ram::{ACCOUNT}:role/operators"
AS_OWNER = f"acting as acs:ram::{ACCOUNT}:root of account {ACCOUNT}, with the access key LTAI... of"
AS_HELD = (
    f"acting as acs:ram::{ACCOUNT}:assumed-role/sts.of-a-role/session of account {ACCOUNT}, with"
    " the access key STS.... of"
)
SECRETS = (OWNER.secret, HELD.secret, str(HELD.security_token), "metadata-token")
OF_OWNER = {"access_key_id": OWNER.id, "access_key_secret": OWNER.secret}
OF_ROLE = {"ram_role_arn": ROLE, "ram_session_name": "ops", "expired_seconds": 900}
PROFILES: dict[str, dict[str, object]] = {
    "key": {"mode": "AK", **OF_OWNER},
    "role": {"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE},
    "instance": {"mode": "EcsRamRole"},
    "over": {"mode": "CloudSSO", "access_token": "t", "cloud_sso_access_token_expire": 1},
}
HERE = ("sweep", "--region", REGION)
# At its end the program prints what it has loaded.
PROGRAM = """
import sys
from encryption_guard.cli import main
try:
    main()
finally:
    print("alibabacloud_credentials" in sys.modules)
"""

# The library asks for the time without a zone, which Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


@dataclass
class Machine:
    """An instance with a role, where everything is reachable, and the home of who works there."""

    cloud: EmulatedCloud
    metadata: Metadata
    home: Path

    def run(self, *arguments: str, **variables: str) -> Result:
        """Run a command without a key in the shell; it prints no secret."""
        keyless: dict[str, Any] = {
            "ALIBABA_CLOUD_ACCESS_KEY_ID": None,
            "ALIBABA_CLOUD_ACCESS_KEY_SECRET": None,
            "HOME": str(self.home),
        }
        done = invoke(self.cloud, *arguments, **(keyless | variables))
        assert not [secret for secret in SECRETS if secret in done.output]
        return done

    def configure(self, current: str = "key") -> Path:
        file = self.home / ".aliyun" / "config.json"
        file.parent.mkdir(exist_ok=True)
        named = [{"name": name, **fields} for name, fields in PROFILES.items()]
        file.write_text(json.dumps({"current": current, "profiles": named}), "utf-8")
        return file

    def asked(self, operation: str) -> int:
        """How often STS was asked for this."""
        return [request.operation for request in self.cloud.sts.requests].count(operation)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Machine]:
    """With a config.json; connections to the fixed address of the metadata service are routed."""
    connect = socket.create_connection

    def routed(address: tuple[str, int], *arguments: Any, **options: Any) -> socket.socket:
        to = ("127.0.0.1", metadata.port) if address[0] == "100.100.100.200" else address
        return connect(to, *arguments, **options)

    with emulated_cloud(role=HELD) as cloud, Metadata(HELD) as metadata:
        monkeypatch.setattr(socket, "create_connection", routed)
        cloud.sts.roles[ROLE] = HELD
        machine = Machine(cloud, metadata, tmp_path)
        machine.configure()
        yield machine


# Whose key acts.


@pytest.mark.parametrize(
    ("arguments", "variables", "who"),
    [
        (("--profile", "role"), {}, f"{AS_HELD} profile role of ~/.aliyun/config.json."),
        (
            (),
            {"ALIBABA_CLOUD_PROFILE": "instance"},
            f"{AS_HELD} profile instance of ~/.aliyun/config.json.",
        ),
        ((), {}, f"{AS_OWNER} profile key of ~/.aliyun/config.json."),
    ],
    ids=["option", "variable", "current"],
)
def test_a_profile_acts(
    arguments: tuple[str, ...], variables: dict[str, str], who: str, machine: Machine
) -> None:
    """Which one is said first, before anything is encrypted."""
    machine.cloud.tables.plant("orders")

    result = machine.run(*HERE, "--apply", *arguments, **variables)

    assert result.exit_code == 0
    assert result.stderr.splitlines()[0] == f"encryption-guard: {who}"


def test_debug_shows_the_requests_for_a_key_without_secrets(machine: Machine) -> None:
    """Neither the path of the credentials URI, nor a key, a token, or a signature."""
    with KeyServer(HELD) as server:
        uri = f"{server.url}/hidden?of=me"
        result = machine.run(*HERE, "--debug", ALIBABA_CLOUD_CREDENTIALS_URI=uri)

    requests = [line for line in result.stderr.splitlines() if "debug: " in line]
    assert f"access key of {server.url} (ALIBABA_CLOUD_CREDENTIALS_URI)" in requests[0]
    assert f" GET {server.url} 200 after " in requests[1]
    assert any("/buckets 200, request ID " in line for line in requests)
    secrets = ("hidden", HELD.id, HELD.secret, "a-role-token", "OSS4-HMAC", "Signature")
    assert [secret for secret in secrets if secret in result.stderr] == []


@pytest.mark.parametrize(
    "command", [("redrive",), ("discard", "--all", "--because", "a test")], ids=lambda one: one[0]
)
def test_dead_letters_say_who_acts(command: tuple[str, ...], machine: Machine) -> None:
    """Before the first message; a plan does not ask."""
    event = creation_of(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders")
    machine.cloud.queue.put(QUEUE, b64encode(dead_letter_of(event)))

    plan = machine.run("dead-letters", *command)
    applied = machine.run("dead-letters", *command, "--apply")

    assert (plan.exit_code, "acting as" in plan.stderr) == (0, False)
    first = applied.stderr.splitlines()[0]
    assert applied.exit_code == 0
    assert first == f"encryption-guard: {AS_OWNER} profile key of ~/.aliyun/config.json."


def test_discarding_from_a_file_needs_no_key(machine: Machine) -> None:
    """Nobody acts in the cloud."""
    file = machine.home / "letters.jsonl"
    file.write_bytes(dead_letter_of(creation_of("acs:osstables:a-b:12345:bucket/orders")) + b"\n")
    arguments = ("--all", "--because", "a test", "--queue", f"file:{file}", "--apply")

    result = machine.run("dead-letters", "discard", *arguments)

    assert (result.exit_code, "acting as" in result.stderr) == (0, False)
    assert machine.cloud.sts.requests == []


@pytest.mark.parametrize(("mode", "said"), [("enforce", True), ("detect", False)])
def test_enforce_says_who_acts(mode: str, said: bool, machine: Machine) -> None:
    """Before it encrypts; not where it only looks."""
    arn = machine.cloud.tables.plant("orders")

    result = machine.run("enforce", arn, "--apply", "--profile", "role", GUARD_MODE=mode)

    first = f"encryption-guard: {AS_HELD} profile role of ~/.aliyun/config.json.\n"
    assert (result.exit_code, result.stderr.startswith(first)) == (0 if said else 1, said)


@pytest.mark.parametrize("option", [(), ("--profile", "over")], ids=["current", "--profile"])
def test_a_profile_that_cannot_be_used_is_misuse(option: tuple[str, ...], machine: Machine) -> None:
    """Nobody acts as somebody else, although the instance would give a key."""
    machine.configure(current="over")

    result = machine.run(*HERE, "--apply", *option)

    assert (result.exit_code, result.stdout) == (2, "")
    (sentence,) = result.stderr.splitlines()
    assert "profile over" in sentence.lower()
    assert machine.cloud.sts.requests == machine.cloud.tables.requests == []
    assert machine.metadata.requests == []


# A key is asked for once, and again when it is over.


def test_forty_signatures_are_one_question(machine: Machine) -> None:
    """In eight threads, with a key that the library would get anew for each of them."""
    for number in range(40):
        machine.cloud.tables.plant(f"bucket-{number}")
    before = machine.configure().read_bytes()

    result = machine.run(*HERE, "--apply", "--profile", "role")

    assert result.exit_code == 0
    assert len(machine.cloud.tables.requests) > 80
    assert machine.asked("AssumeRole") == 1
    assert (machine.home / ".aliyun" / "config.json").read_bytes() == before


def test_a_token_that_ends_within_a_sweep_is_renewed(machine: Machine) -> None:
    """At once, by one question of all threads, and no bucket is left out."""
    for number in range(40):
        machine.cloud.tables.plant(f"bucket-{number}")
    renewed = replace(HELD, id="STS.renewed", security_token="a-renewed-token")

    def end(_: object) -> None:
        ended = replace(HELD, expires_at=utc_now() - timedelta(seconds=1))
        machine.cloud.tables.admit(ended)
        machine.cloud.tables.admit(renewed)
        machine.cloud.sts.roles[ROLE] = renewed

    machine.cloud.tables.on_event = end

    result = machine.run(*HERE, "--apply", "--profile", "role")

    assert (result.exit_code, "40 of them now" in result.stderr) == (0, True)
    assert machine.asked("AssumeRole") == 2


def test_a_token_that_cannot_be_renewed_gives_up(machine: Machine) -> None:
    """The instance hands out a dead one without an error: what the service says is the result."""
    (machine.home / ".aliyun" / "config.json").unlink()
    machine.cloud.tables.plant("orders")
    machine.cloud.tables.admit(replace(HELD, expires_at=utc_now() - timedelta(seconds=1)))

    result = machine.run(*HERE, "--output", "json")

    assert result.exit_code == 3
    assert "answered 403" in result.stdout
    keys = [request for request in machine.metadata.requests if "role" in request.path]
    assert len(keys) == 2


# In a process of its own.


def process(machine: Machine, **variables: str | None) -> subprocess.CompletedProcess[str]:
    """Run a sweep whose profiles are those of the machine."""
    shell = environment(machine.cloud) | {"HOME": str(machine.home)} | variables
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *HERE],
        env={name: value for name, value in shell.items() if value is not None},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_the_library_is_loaded_only_where_it_is_needed(machine: Machine) -> None:
    """It takes longer than everything else together; a key in the shell does without."""
    done = process(machine)

    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "False")


def test_a_library_that_fails_prints_one_sentence(machine: Machine) -> None:
    """It would print 45 lines and three tracebacks, and with DEBUG=sdk each header."""
    machine.configure(current="over")

    done = process(
        machine,
        ALIBABA_CLOUD_ACCESS_KEY_ID=None,
        ALIBABA_CLOUD_ACCESS_KEY_SECRET=None,
        DEBUG="sdk",
    )

    assert (done.returncode, done.stdout.splitlines()) == (2, ["True"])
    (sentence,) = done.stderr.splitlines()
    assert sentence.startswith("encryption-guard: Profile over")
