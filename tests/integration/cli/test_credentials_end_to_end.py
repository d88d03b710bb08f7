"""Commands whose shell has no key, each in a process of its own: the library reads at import."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import pytest

from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    ACCOUNT,
    OWNER,
    QUEUE,
    REGION,
    EmulatedCloud,
    emulated_cloud,
)
from tests.emulators.emulated_service import utc_now
from tests.emulators.faults import Delay, Fault, Refuse
from tests.emulators.key_servers import KeyServer, Metadata
from tests.emulators.operators_shell import environment
from tests.unit.fakes import creation_of, dead_letter_of

# The metadata service has a fixed address: its connections lead to the emulated one. At the end the
# program prints what it has loaded and started.
PROGRAM = """
import os, socket, sys, threading
connect = socket.create_connection

def routed(address, *arguments, **options):
    if address[0] == "100.100.100.200":
        address = ("127.0.0.1", int(os.environ["METADATA_PORT"]))
    return connect(address, *arguments, **options)

socket.create_connection = routed
from encryption_guard.cli import main
try:
    main()
finally:
    threads = [thread.name for thread in threading.enumerate()]
    with open(os.environ["TRACE"], "w") as trace:
        trace.write(repr((threads, "alibabacloud_credentials" in sys.modules)))
"""
HELD = AccessKey("STS.of-a-role", "a-role-secret", ACCOUNT, security_token="a-role-token")
ROLE = f"acs:ram::{ACCOUNT}:role/operators"
OIDC = {
    "ALIBABA_CLOUD_ROLE_ARN": ROLE,
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": f"acs:ram::{ACCOUNT}:oidc-provider/ack",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE": "token",
}
KEY = {
    "ALIBABA_CLOUD_ACCESS_KEY_ID": OWNER.id,
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET": OWNER.secret,
}
AS_OWNER = f"acting as acs:ram::{ACCOUNT}:root of account {ACCOUNT}, with the access key LTAI... of"
AS_HELD = (
    f"acting as acs:ram::{ACCOUNT}:assumed-role/sts.of-a-role/session of account {ACCOUNT}, with"
    " the access key STS.... of"
)
SECRETS = (OWNER.secret, HELD.secret, str(HELD.security_token), "an-oidc-token", "metadata-token")
OF_OWNER = {"access_key_id": OWNER.id, "access_key_secret": OWNER.secret}
OF_ROLE = {"ram_role_arn": ROLE, "ram_session_name": "ops", "expired_seconds": 900}
PROFILES: dict[str, dict[str, object]] = {
    "key": {"mode": "AK", **OF_OWNER},
    "token": {
        "mode": "StsToken",
        "access_key_id": HELD.id,
        "access_key_secret": HELD.secret,
        "sts_token": HELD.security_token,
    },
    "role": {"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE},
    "instance": {"mode": "EcsRamRole"},
    "command": {"mode": "External", "process_command": "./get-key"},
    "over": {"mode": "CloudSSO", "access_token": "t", "cloud_sso_access_token_expire": 1},
    "quantum": {"mode": "Quantum"},
    "brief": {"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE, "expired_seconds": 899},
    "torn": {"mode": "StsToken", **OF_OWNER},
    "nameless": {"mode": "RamRoleArn", **OF_OWNER},
}
HERE = ("sweep", "--region", REGION)


@dataclass
class Machine:
    """An instance with a role, where everything is reachable, and the home of who works there."""

    cloud: EmulatedCloud
    metadata: Metadata
    home: Path
    loaded: bool = False

    def run(self, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
        """Run a command without a key in the shell; it prints no secret and leaves no thread."""
        shell = {
            name: value
            for name, value in environment(self.cloud).items()
            if not name.startswith("ALIBABA_CLOUD_")
        }
        trace = self.home / "trace"
        shell |= {"METADATA_PORT": str(self.metadata.port), "TRACE": str(trace)}
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, *arguments],
            cwd=self.home,
            env=shell | {"HOME": str(self.home)} | variables,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert not [secret for secret in SECRETS if secret in done.stdout + done.stderr]
        assert [line for line in done.stderr.splitlines() if not is_ours(line)] == []
        threads, self.loaded = eval(trace.read_text())  # noqa: S307  a literal of the program above
        assert threads == ["MainThread"]
        return done

    def configure(self, current: str = "key") -> Path:
        file = self.home / ".aliyun" / "config.json"
        file.parent.mkdir(exist_ok=True)
        named = [{"name": name, **fields} for name, fields in PROFILES.items()]
        file.write_text(json.dumps({"current": current, "profiles": named}), "utf-8")
        return file

    def configure_ini(self) -> None:
        lines = ("[default]", "type = access_key", *(f"{k} = {v}" for k, v in OF_OWNER.items()))
        file = self.home / ".alibabacloud" / "credentials.ini"
        file.parent.mkdir()
        file.write_text("\n".join(lines), "utf-8")

    def asked(self, operation: str) -> int:
        """How often STS was asked for this."""
        return [request.operation for request in self.cloud.sts.requests].count(operation)


def chosen(how: str, profile: str) -> tuple[tuple[str, ...], dict[str, str]]:
    """The options and the variables that choose a profile."""
    return ((how, profile), {}) if how == "--profile" else ((), {how: profile})


def is_ours(line: str) -> bool:
    return line.startswith(("encryption-guard: ", "{"))


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """With a config.json, a token of OIDC, and a command that prints a key without an expiry."""
    (tmp_path / "token").write_text("an-oidc-token", "utf-8")
    printed = json.dumps({"mode": "AK", **OF_OWNER})
    (tmp_path / "get-key").write_text(f"#!/bin/sh\necho run >>runs\necho '{printed}'\n", "utf-8")
    (tmp_path / "get-key").chmod(0o755)
    with emulated_cloud(role=HELD) as cloud, Metadata(HELD) as metadata:
        cloud.sts.roles[ROLE] = HELD
        cloud.sts.oidc_token = "an-oidc-token"
        machine = Machine(cloud, metadata, tmp_path)
        machine.configure()
        yield machine


# Each source, with the sentence that says whose key acts.


@pytest.mark.parametrize(
    ("how", "profile", "who"),
    [
        ("--profile", "key", AS_OWNER),
        ("ALIBABA_CLOUD_PROFILE", "token", AS_HELD),
        ("--profile", "role", AS_HELD),
        ("ALIBABA_CLOUD_PROFILE", "instance", AS_HELD),
        ("--profile", "command", AS_OWNER),
    ],
)
def test_a_profile_acts(how: str, profile: str, who: str, machine: Machine) -> None:
    """By option or by variable, in each mode."""
    machine.cloud.tables.plant("orders")
    option, variable = chosen(how, profile)

    result = machine.run(*HERE, "--apply", *option, **variable)

    assert result.returncode == 0
    first = result.stderr.splitlines()[0]
    assert first == f"encryption-guard: {who} profile {profile} of ~/.aliyun/config.json."


def test_a_credentials_uri_acts(machine: Machine) -> None:
    """Before the current profile and the instance, which the library would ask first."""
    with KeyServer(HELD) as server:
        uri = f"{server.url}/hidden?of=me"
        result = machine.run(*HERE, "--apply", ALIBABA_CLOUD_CREDENTIALS_URI=uri)

    shown = f"{server.url} (ALIBABA_CLOUD_CREDENTIALS_URI)"
    assert (result.returncode, f"{AS_HELD} {shown}." in result.stderr) == (0, True)
    assert "hidden" not in result.stderr
    assert machine.metadata.requests == []


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


def test_oidc_acts(machine: Machine) -> None:
    """In a cluster, before the current profile."""
    result = machine.run(*HERE, "--apply", **OIDC)

    assert (result.returncode, f"{AS_HELD} the OIDC role {ROLE}." in result.stderr) == (0, True)
    assert machine.asked("AssumeRoleWithOIDC") == 1


def test_the_current_profile_acts(machine: Machine) -> None:
    """Where nothing is named."""
    result = machine.run(*HERE, "--apply")

    said = f"{AS_OWNER} profile key of ~/.aliyun/config.json."
    assert (result.returncode, said in result.stderr) == (0, True)


def test_the_role_of_the_instance_acts(machine: Machine) -> None:
    """Where nothing else is set up."""
    (machine.home / ".aliyun" / "config.json").unlink()

    result = machine.run(*HERE, "--apply")

    said = f"{AS_HELD} the role of this ECS instance."
    assert (result.returncode, said in result.stderr) == (0, True)


def test_dead_letters_say_who_acts(machine: Machine) -> None:
    """`redrive` and `discard`, before the first message; a plan does not ask."""
    event = creation_of(f"acs:osstables:{REGION}:{ACCOUNT}:bucket/orders")
    for command in (["redrive"], ["discard", "--all", "--because", "a test"]):
        machine.cloud.queue.put(QUEUE, b64encode(dead_letter_of(event)))
        arguments = ("dead-letters", *command, "--profile", "key")

        plan = machine.run(*arguments)
        applied = machine.run(*arguments, "--apply")

        assert (plan.returncode, "acting as" in plan.stderr) == (0, False)
        first = applied.stderr.splitlines()[0]
        assert applied.returncode == 0
        assert first == f"encryption-guard: {AS_OWNER} profile key of ~/.aliyun/config.json."


def test_discarding_from_a_file_needs_no_key(machine: Machine) -> None:
    """Nobody acts in the cloud."""
    file = machine.home / "letters.jsonl"
    file.write_bytes(dead_letter_of(creation_of("acs:osstables:a-b:12345:bucket/orders")) + b"\n")
    arguments = ("--all", "--because", "a test", "--queue", f"file:{file}", "--apply")

    result = machine.run("dead-letters", "discard", *arguments)

    assert (result.returncode, "acting as" in result.stderr) == (0, False)
    assert not machine.loaded


@pytest.mark.parametrize(("mode", "said"), [("enforce", True), ("detect", False)])
def test_enforce_says_who_acts(mode: str, said: bool, machine: Machine) -> None:
    """Before it encrypts; not where it only looks."""
    arn = machine.cloud.tables.plant("orders")

    result = machine.run("enforce", arn, "--apply", "--profile", "role", GUARD_MODE=mode)

    first = f"encryption-guard: {AS_HELD} profile role of ~/.aliyun/config.json.\n"
    assert (result.returncode, result.stderr.startswith(first)) == (0 if said else 1, said)


# Nobody acts as somebody else.


@pytest.mark.parametrize(
    ("how", "profile"),
    [
        ("--profile", "keys"),
        ("ALIBABA_CLOUD_PROFILE", "keys"),
        ("--profile", "over"),
        ("ALIBABA_CLOUD_PROFILE", "brief"),
        ("--profile", "nameless"),
    ],
)
def test_a_profile_that_cannot_be_used_is_misuse(how: str, profile: str, machine: Machine) -> None:
    """Although OIDC, an ini file and the instance would give a key."""
    machine.configure_ini()
    option, variable = chosen(how, profile)

    result = machine.run(*HERE, "--apply", *option, **variable, **OIDC)

    assert_nobody_acts(machine, result, profile)


@pytest.mark.parametrize("current", ["keys", "quantum", "torn"])
def test_a_current_profile_that_cannot_be_used_is_misuse(current: str, machine: Machine) -> None:
    """It was configured, so it is not passed over."""
    machine.configure_ini()
    machine.configure(current=current)

    result = machine.run(*HERE, "--apply")

    assert_nobody_acts(machine, result, current)


def assert_nobody_acts(
    machine: Machine, result: subprocess.CompletedProcess[str], profile: str
) -> None:
    """One sentence about the profile, and no service was asked for anything."""
    assert (result.returncode, result.stdout) == (2, "")
    (sentence,) = result.stderr.replace('"', "").splitlines()
    assert f"profile {profile}" in sentence.lower()
    assert machine.cloud.sts.requests == machine.cloud.tables.requests == []
    assert machine.metadata.requests == []


def test_a_profile_beside_a_key_is_misuse(machine: Machine) -> None:
    """Whichever of both was meant."""
    result = machine.run(*HERE, "--profile", "role", **KEY)

    assert (result.returncode, result.stdout) == (2, "")
    assert "Both --profile and ALIBABA_CLOUD_ACCESS_KEY_ID" in result.stderr
    assert machine.cloud.tables.requests == []


def test_a_credentials_uri_that_is_down_is_misuse(machine: Machine) -> None:
    """The current profile and the instance would give another key."""
    uri = "http://127.0.0.1:9/hidden"

    result = machine.run(*HERE, ALIBABA_CLOUD_CREDENTIALS_URI=uri)

    assert result.returncode == 2
    assert "(ALIBABA_CLOUD_CREDENTIALS_URI) cannot be used: 127.0.0.1 gave no" in result.stderr
    assert machine.metadata.requests == machine.cloud.tables.requests == []


def test_oidc_that_is_refused_is_misuse(machine: Machine) -> None:
    """The node of the cluster has another role."""
    machine.cloud.sts.oidc_token = "another-token"

    result = machine.run(*HERE, **OIDC)

    assert result.returncode == 2
    assert "answered 400 AuthenticationFail.OIDCToken.Invalid" in result.stderr
    assert machine.metadata.requests == machine.cloud.tables.requests == []


# A key is asked for once, and again when it is over.


@pytest.mark.parametrize("profile", ["role", "command"])
def test_forty_signatures_are_one_question(profile: str, machine: Machine) -> None:
    """In eight threads, with a key that the library would get anew for each of them."""
    for number in range(40):
        machine.cloud.tables.plant(f"bucket-{number}")
    before = machine.configure().read_bytes()

    result = machine.run(*HERE, "--apply", "--profile", profile)

    assert result.returncode == 0
    assert len(machine.cloud.tables.requests) > 80
    if profile == "role":
        assert machine.asked("AssumeRole") == 1
    else:
        assert (machine.home / "runs").read_text().splitlines() == ["run"]
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

    assert (result.returncode, "40 of them now" in result.stderr) == (0, True)
    assert machine.asked("AssumeRole") == 2


def test_a_token_that_cannot_be_renewed_gives_up(machine: Machine) -> None:
    """The instance hands out a dead one without an error: what the service says is the result."""
    (machine.home / ".aliyun" / "config.json").unlink()
    machine.cloud.tables.plant("orders")
    machine.cloud.tables.admit(replace(HELD, expires_at=utc_now() - timedelta(seconds=1)))

    result = machine.run(*HERE, "--output", "json")

    assert result.returncode == 3
    assert "answered 403" in result.stdout
    keys = [request for request in machine.metadata.requests if "role" in request.path]
    assert len(keys) == 2


# The metadata service.


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy"])
def test_no_proxy_of_the_environment_is_asked(variable: str, machine: Machine) -> None:
    """Without GUARD_TRUST_ENV none is used for anything."""
    (machine.home / ".aliyun" / "config.json").unlink()
    with KeyServer(OWNER) as proxy:
        result = machine.run(*HERE, "--apply", **{variable: proxy.url})

    assert (result.returncode, AS_HELD in result.stderr) == (0, True)
    assert proxy.requests == []


def test_a_laptop_gets_a_sentence_within_a_second(machine: Machine) -> None:
    """Its network swallows every packet."""
    (machine.home / ".aliyun" / "config.json").unlink()
    machine.metadata.faults.add(Fault(Delay(60)))
    begun = time.monotonic()

    result = machine.run(*HERE)

    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr.startswith(
        "encryption-guard: No credentials: set ALIBABA_CLOUD_ACCESS_KEY"
    )
    assert len(result.stderr.splitlines()) == 1
    # Two programs start for it: Python with the commands, and the library.
    assert time.monotonic() - begun < 10
    (asked,) = machine.metadata.requests
    assert asked.operation == "PUT /latest/api/token"


def test_a_library_that_fails_prints_one_sentence(machine: Machine) -> None:
    """It would print 45 lines and three tracebacks, and with DEBUG=sdk each header."""
    (machine.home / ".aliyun" / "config.json").unlink()
    machine.metadata.faults.add(Fault(Refuse(404), operation="GET *"))

    result = machine.run(*HERE, DEBUG="sdk")

    assert result.returncode == 2
    assert len(result.stderr.splitlines()) == 1


# What nobody needs is not loaded.


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(("--version",), {}), (("sweep", "--help"), {}), ((*HERE, "--apply"), KEY)],
    ids=["--version", "--help", "a key in the shell"],
)
def test_the_library_is_loaded_only_where_it_is_needed(
    arguments: tuple[str, ...], variables: dict[str, str], machine: Machine
) -> None:
    """It takes longer than everything else together."""
    assert machine.run(*arguments, **variables).returncode == 0

    assert not machine.loaded
