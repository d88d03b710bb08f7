"""The vendor's library, as the guard uses it: each source over real HTTP, each failure in words."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
from Tea.core import TeaCore

from encryption_guard.cli.credential_sources import ASK_SECONDS, SEARCH_SECONDS, Source
from encryption_guard.cli.vendor_credentials import VendorKey
from encryption_guard.credentials import Credentials
from encryption_guard.enforcement.handler import open_command
from encryption_guard.errors import ConfigurationError
from encryption_guard.invocation import DeadlineTransport, Invocation
from encryption_guard.settings import Settings
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import ACCOUNT
from tests.emulators.faults import Delay, Fault, GarbageBody, Refuse, Reset
from tests.emulators.key_servers import KeyServer, Metadata
from tests.emulators.sts import Sts

OWNER = AccessKey("LTAI-an-owner", "an-owner-secret", ACCOUNT)
HELD = AccessKey("STS.of-a-role", "a-role-secret", ACCOUNT, security_token="a-role-token")
ROLE = f"acs:ram::{ACCOUNT}:role/operators"
SECRETS = {OWNER.secret, HELD.secret, HELD.security_token, "an-oidc-token"}
METADATA = "100.100.100.200"

# The library asks for the time without a zone, which Python 3.12 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:datetime.datetime.utcnow:DeprecationWarning")


class Routed(httpx.BaseTransport):
    """The guard's transport, but the metadata service is on loopback."""

    def __init__(self, transport: DeadlineTransport, metadata: str) -> None:
        self._transport = transport
        self._metadata = httpx.URL(metadata)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        if request.url.host == METADATA:
            request.url = request.url.copy_with(host=self._metadata.host, port=self._metadata.port)
        return self._transport.handle_request(request)


@pytest.fixture
def metadata() -> Iterator[Metadata]:
    with Metadata(HELD) as service:
        yield service


@pytest.fixture
def sts() -> Iterator[Sts]:
    with Sts(OWNER, roles={ROLE: HELD}, oidc_token="an-oidc-token") as service:
        yield service


@pytest.fixture
def invocation(sts: Sts, metadata: Metadata) -> Iterator[Invocation]:
    """A command's, of a machine that is an instance, with STS on loopback."""
    with open_command(Settings(sts_endpoint=sts.url), seconds=60) as opened:
        routed = DeadlineTransport(Routed(opened.transport, metadata.url))
        yield opened._replace(transport=routed)


def source_of(kind: Any, **arguments: str) -> Source:
    seconds = ASK_SECONDS if arguments or kind != "ecs" else SEARCH_SECONDS
    return Source(kind, "this source", "do something", arguments, seconds)


def profile_of(folder: Path, **fields: object) -> Source:
    """The profile with these fields, in a file with others."""
    others = [{"name": "source", "mode": "EcsRamRole"}]
    config = {"current": "source", "profiles": [*others, {"name": "mine", **fields}]}
    file = folder / "config.json"
    file.write_text(json.dumps(config), "utf-8")
    return source_of("profile", profile_name="mine", profile_file=str(file))


def command(folder: Path, script: str) -> str:
    """A command of an operator, which writes down each of its runs."""
    file = folder / "get-key"
    file.write_text(f"#!/bin/sh\necho run >> {folder / 'runs'}\n{script}\n", "utf-8")
    file.chmod(0o755)
    return str(file)


def printing(key: AccessKey, **more: str) -> str:
    fields = {"mode": "AK", "access_key_id": key.id, "access_key_secret": key.secret, **more}
    return f"echo '{json.dumps(fields)}'"


def read(source: Source, invocation: Invocation) -> Credentials:
    return VendorKey(source, invocation).read(renew=False)


def failure(source: Source, invocation: Invocation) -> str:
    """What is said if the source cannot be used; it has no secret."""
    with pytest.raises(ConfigurationError) as caught:
        read(source, invocation)
    assert not [secret for secret in SECRETS if secret and secret in str(caught.value)]
    return str(caught.value)


AS_OWNER = Credentials(OWNER.id, OWNER.secret)
AS_HELD = Credentials(HELD.id, HELD.secret, HELD.security_token)
OF_OWNER = {"access_key_id": OWNER.id, "access_key_secret": OWNER.secret}
OF_ROLE = {"ram_role_arn": ROLE, "ram_session_name": "ops", "expired_seconds": 900}


# Each source.


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"mode": "AK", **OF_OWNER}, AS_OWNER),
        (
            {
                "mode": "StsToken",
                "access_key_id": HELD.id,
                "access_key_secret": HELD.secret,
                "sts_token": HELD.security_token,
            },
            AS_HELD,
        ),
        ({"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE}, AS_HELD),
        ({"mode": "EcsRamRole", "ram_role_name": Metadata.role}, AS_HELD),
        ({"mode": "EcsRamRole"}, AS_HELD),
    ],
    ids=["AK", "StsToken", "RamRoleArn", "EcsRamRole", "EcsRamRole without a name"],
)
def test_a_profile_gives_its_key(
    fields: dict[str, object], expected: Credentials, tmp_path: Path, invocation: Invocation
) -> None:
    """Whatever its mode is."""
    assert read(profile_of(tmp_path, **fields), invocation) == expected


def test_a_role_can_be_taken_with_the_key_of_another_profile(
    sts: Sts, tmp_path: Path, invocation: Invocation
) -> None:
    """Here with the role of the instance."""
    sts.admit(HELD)
    other = replace(HELD, id="STS.of-another-role")
    sts.roles[ROLE] = other

    source = profile_of(tmp_path, mode="ChainableRamRoleArn", source_profile="source", **OF_ROLE)

    assert read(source, invocation).access_key_id == other.id


def test_oidc_gives_the_key_of_its_role(sts: Sts, tmp_path: Path, invocation: Invocation) -> None:
    """The token is in a file of the cluster."""
    token = tmp_path / "token"
    token.write_text("an-oidc-token", "utf-8")
    source = source_of(
        "oidc",
        role_arn=ROLE,
        oidc_provider_arn=f"acs:ram::{ACCOUNT}:oidc-provider/ack",
        oidc_token_file_path=str(token),
        role_session_name="a-session",
    )

    assert read(source, invocation) == AS_HELD
    assert [request.operation for request in sts.requests] == ["AssumeRoleWithOIDC"]


def test_an_address_gives_its_key(invocation: Invocation) -> None:
    """With path and query as they are given."""
    with KeyServer(HELD) as server:
        key = read(source_of("uri", uri=f"{server.url}/keys?of=me"), invocation)

    assert key == AS_HELD
    assert [request.request.target for request in server.requests] == ["/keys?of=me"]


def test_an_ini_file_gives_its_key(tmp_path: Path, invocation: Invocation) -> None:
    """That of its section `default`."""
    file = tmp_path / "credentials.ini"
    key = f"type = access_key\naccess_key_id = {OWNER.id}\naccess_key_secret = {OWNER.secret}\n"
    file.write_text(f"[default]\n{key}[other]\ntype = ecs_ram_role\n", "utf-8")

    source = source_of("ini", profile_file=str(file), profile_name="default")

    assert read(source, invocation) == AS_OWNER


@pytest.mark.parametrize("arguments", [{}, {"role_name": Metadata.role}], ids=["found", "named"])
def test_an_instance_gives_the_key_of_its_role(
    arguments: dict[str, str], metadata: Metadata, invocation: Invocation
) -> None:
    """With the token that the newer metadata service requires."""
    assert read(source_of("ecs", **arguments), invocation) == AS_HELD
    assert {request.status for request in metadata.requests} == {200}


def test_a_command_gives_its_key(tmp_path: Path, invocation: Invocation) -> None:
    """Its keys stay out of the file, which the library would write each time."""
    process = command(tmp_path, printing(OWNER))
    source = profile_of(tmp_path, mode="External", process_command=process)
    before = (tmp_path / "config.json").read_bytes()

    assert read(source, invocation) == AS_OWNER
    assert (tmp_path / "config.json").read_bytes() == before


# What the provider keeps.


def test_a_key_is_renewed_although_the_library_has_kept_it(
    sts: Sts, tmp_path: Path, invocation: Invocation
) -> None:
    """A service has refused it, however long it seems to be good."""
    fields = {"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE, "expired_seconds": 3600}
    key = VendorKey(profile_of(tmp_path, **fields), invocation)
    before = [key.read(renew=False), key.read(renew=False)]
    sts.roles[ROLE] = replace(HELD, id="STS.renewed")

    after = key.read(renew=True)

    assert before == [AS_HELD] * 2
    assert after.access_key_id == "STS.renewed"
    assert len(sts.requests) == 2


# A source that cannot be used.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"mode": "AK", "access_key_id": ""}, "the access key id is empty"),
        ({"mode": "Quantum"}, "unsupported profile mode 'Quantum' form cli credentials file"),
        ({"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE, "expired_seconds": 899}, "session duration"),
        ({"mode": "RamRoleArn", **OF_OWNER}, "role_arn or environment variable"),
        ({"mode": "StsToken", **OF_OWNER}, "the security token is empty"),
        (
            {"mode": "CloudSSO", "access_token": "t", "cloud_sso_access_token_expire": 1},
            "CloudSSO access token is empty or expired, please re-login with cli",
        ),
        (
            {"mode": "RamRoleArn", **OF_OWNER, **OF_ROLE, "access_key_secret": "wrong"},
            "sts.aliyuncs.com answered 400 SignatureDoesNotMatch and gave no access key",
        ),
        ({"mode": "RamRoleArn", **OF_OWNER, "expired_seconds": "900"}, "library raised TypeError"),
        ({"mode": "External", "process_command": "/no/such/command"}, "No such file or directory"),
        ({"mode": "AK", "access_key_id": "a b", "access_key_secret": "c"}, "invalid character"),
        ({"mode": "AK", "access_key_id": 5, "access_key_secret": "c"}, "it gives no access key"),
    ],
    ids=lambda value: value if isinstance(value, str) else value["mode"],
)
def test_a_profile_that_cannot_be_used_is_an_error(
    fields: dict[str, object],
    reason: str,
    tmp_path: Path,
    metadata: Metadata,
    invocation: Invocation,
) -> None:
    """It names the profile, the reason and what to do; no other source is asked."""
    said = failure(profile_of(tmp_path, **fields), invocation)

    assert said.startswith("This source cannot be used: ")
    assert reason in said
    assert said.endswith(". No other credentials are tried: do something.")
    assert metadata.requests == []


@pytest.mark.parametrize(
    "environment",
    [
        {"ROLE_ARN": ROLE},
        {"OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/x", "OIDC_TOKEN_FILE": "/dev/null"},
        {"ACCESS_KEY_ID": OWNER.id, "ACCESS_KEY_SECRET": OWNER.secret},
    ],
    ids=["a role", "OIDC", "a key"],
)
@pytest.mark.parametrize("mode", ["AK", "RamRoleArn", "OIDC"])
def test_a_profile_takes_nothing_from_the_environment(
    mode: str,
    environment: dict[str, str],
    tmp_path: Path,
    sts: Sts,
    invocation: Invocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A field that is missing would let it act as somebody else: the library fills it in."""
    for name, value in environment.items():
        attribute = f"alibabacloud_credentials.utils.auth_util.environment_{name.lower()}"
        monkeypatch.setattr(attribute, value)

    failure(profile_of(tmp_path, mode=mode, ram_session_name="ops"), invocation)

    assert sts.requests == []


def test_metadata_that_is_switched_off_is_not_asked(
    tmp_path: Path,
    metadata: Metadata,
    invocation: Invocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By any word that says so, also for a profile."""
    monkeypatch.setenv("ALIBABA_CLOUD_ECS_METADATA_DISABLED", "Yes")

    said = failure(profile_of(tmp_path, mode="EcsRamRole"), invocation)

    assert "IMDS credentials is disabled" in said
    assert metadata.requests == []


@pytest.mark.parametrize(
    ("word", "asked"), [("1", {"PUT"}), ("0", {"PUT", "GET"}), ("", {"PUT", "GET"})]
)
def test_metadata_without_a_token_can_be_switched_off(
    word: str,
    asked: set[str],
    metadata: Metadata,
    invocation: Invocation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where no token is given, the library would ask without one."""
    monkeypatch.setenv("ALIBABA_CLOUD_IMDSV1_DISABLED", word)
    metadata.faults.add(Fault(Refuse(404), operation="PUT *"))

    failure(source_of("ecs"), invocation)

    assert {request.method for request in metadata.requests} == asked


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (Refuse(500, message="a-role-secret"), "127.0.0.1 answered 500 and gave no access key"),
        (Reset(), "127.0.0.1 gave no answer (ReadError)"),
        (GarbageBody(b"<html>"), "127.0.0.1 answered 200 and gave no access key"),
        (
            GarbageBody(b'{"Code":"Success","AccessKeyId":"a","AccessKeySecret":"a-role-secret"}'),
            "127.0.0.1 answered 200 and gave no access key",
        ),
    ],
    ids=["500", "reset", "no JSON", "no expiry"],
)
def test_an_address_that_cannot_be_used_is_an_error(
    fault: Any, reason: str, invocation: Invocation
) -> None:
    """The library's own sentence would quote the answer, and so a key."""
    with KeyServer(HELD) as server:
        server.faults.add(Fault(fault))
        said = failure(source_of("uri", uri=f"{server.url}/hidden"), invocation)

    assert f"cannot be used: {reason}. " in said
    assert "hidden" not in said


def test_an_address_that_leads_elsewhere_is_an_error(invocation: Invocation) -> None:
    """A request for a key may contain a token, and nobody else gets it."""
    with KeyServer(HELD) as server, KeyServer(OWNER) as elsewhere:
        server.faults.add(Fault(Refuse(302, headers={"Location": elsewhere.url})))
        said = failure(source_of("uri", uri=server.url), invocation)

    assert "127.0.0.1 answered 302 and gave no access key" in said
    assert elsewhere.requests == []


def test_an_address_of_no_host_is_an_error(invocation: Invocation) -> None:
    """Nothing is sent."""
    said = failure(source_of("uri", uri="http://a host/hidden"), invocation)

    assert "cannot be used: " in said
    assert "hidden" not in said


@pytest.mark.parametrize(
    "text",
    [
        "access_key_secret = an-owner-secret",
        "[default]\ntype = access_key\naccess_key_id = a\naccess_key_secret = %an-owner-secret\n",
        "[other]\ntype = access_key\n",
        "[default]\ntype = an_owner\n",
    ],
    ids=["no section", "a percent sign", "no section default", "unknown type"],
)
def test_an_ini_file_that_cannot_be_used_is_an_error(
    text: str, tmp_path: Path, invocation: Invocation
) -> None:
    """Python's own sentence would quote the line."""
    file = tmp_path / "credentials.ini"
    file.write_text(text, "utf-8")

    source = source_of("ini", profile_file=str(file), profile_name="default")

    assert failure(source, invocation).startswith("This source cannot be used: ")


@pytest.mark.parametrize(
    "script",
    ["echo an-owner-secret >&2; exit 3", "echo an-owner-secret", "echo '[\"an-owner-secret\"]'"],
    ids=["fails", "prints text", "prints a list"],
)
def test_a_command_that_cannot_be_used_is_an_error(
    script: str, tmp_path: Path, invocation: Invocation
) -> None:
    """What it printed is not repeated."""
    source = profile_of(tmp_path, mode="External", process_command=command(tmp_path, script))

    assert failure(source, invocation).startswith("This source cannot be used: ")


def test_a_machine_that_is_no_instance_has_no_credentials(
    metadata: Metadata, invocation: Invocation
) -> None:
    """A network may swallow every packet: the sentence comes after a second."""
    metadata.faults.add(Fault(Delay(30)))
    begun = time.monotonic()

    said = failure(source_of("ecs"), invocation)

    # A busy machine may take its time; without the limit it would be fifteen seconds.
    assert SEARCH_SECONDS <= time.monotonic() - begun < 10
    assert said.startswith("No credentials: set ALIBABA_CLOUD_ACCESS_KEY_ID")
    assert said.endswith(f"of an ECS instance either: {METADATA} gave no answer (ReadTimeout).")


def test_an_instance_has_time_after_its_first_answer(
    metadata: Metadata, invocation: Invocation
) -> None:
    """It is one, and only slow."""
    metadata.faults.add(Fault(Delay(SEARCH_SECONDS + 0.2), operation="GET *", times=1))

    assert read(source_of("ecs"), invocation) == AS_HELD


def test_an_instance_without_a_role_has_no_credentials(
    metadata: Metadata, invocation: Invocation
) -> None:
    """The service answers, and has none."""
    metadata.faults.add(Fault(Refuse(404), operation="GET *"))

    assert f"{METADATA} answered 404" in failure(source_of("ecs"), invocation)


# What the library does besides.


def test_the_library_is_quiet_and_starts_no_thread(
    tmp_path: Path, metadata: Metadata, invocation: Invocation, capfd: pytest.CaptureFixture[str]
) -> None:
    """Neither for a role of the instance nor for a key that is nearly over."""
    metadata.seconds = 60
    before = set(threading.enumerate())

    for source in (source_of("ecs"), profile_of(tmp_path, mode="EcsRamRole")):
        key = VendorKey(source, invocation)
        assert [key.read(renew=False) for _ in range(3)] == [AS_HELD] * 3

    started = {thread.name for thread in set(threading.enumerate()) - before}
    assert not [name for name in started if "APScheduler" in name or "refresh" in name]
    assert capfd.readouterr() == ("", "")
    for name in ("credentials", "alibabacloud-tea"):
        logger = logging.getLogger(name)
        assert [type(handler) for handler in logger.handlers] == [logging.NullHandler]
        assert not logger.propagate


def test_the_library_does_not_print_requests(
    metadata: Metadata,
    invocation: Invocation,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """DEBUG, which makes it print each token, is out of the environment."""
    monkeypatch.setenv("DEBUG", "sdk")

    read(source_of("ecs"), invocation)

    assert "DEBUG" not in os.environ  # noqa: TID251  no setting of the guard
    assert capfd.readouterr() == ("", "")
    assert metadata.requests != []


def test_no_proxy_sees_a_key(
    metadata: Metadata, invocation: Invocation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library would use any, whatever NO_PROXY says."""
    with KeyServer(OWNER) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
            monkeypatch.setenv(name, proxy.url)
        assert read(source_of("ecs"), invocation) == AS_HELD

    assert proxy.requests == []
    assert metadata.requests != []


def test_the_library_keeps_its_own_connections_for_others(
    tmp_path: Path, invocation: Invocation
) -> None:
    """Only while a key is asked for do its requests go through the guard's transport."""
    before = TeaCore.__dict__["do_action"]

    read(profile_of(tmp_path, mode="AK", **OF_OWNER), invocation)

    assert TeaCore.__dict__["do_action"] is before
