"""Which source of access keys a command uses, by its option, its variables and its files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from encryption_guard.cli.credential_sources import (
    SEARCH_SECONDS,
    SHELL,
    Source,
    choose,
    profile_names,
    unused_variables,
)
from encryption_guard.errors import ConfigurationError

KEY = {"ALIBABA_CLOUD_ACCESS_KEY_ID": "LTAI", "ALIBABA_CLOUD_ACCESS_KEY_SECRET": "secret"}
NAMED = {"ALIBABA_CLOUD_PROFILE": "prod"}
URI = {"ALIBABA_CLOUD_CREDENTIALS_URI": "http://127.0.0.1:6666/key?of=me"}
INI = {"ALIBABA_CLOUD_CREDENTIALS_FILE": "/etc/keys.ini"}
OIDC = {
    "ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/guard",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "acs:ram::1:oidc-provider/ack",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE": "/var/run/token",
}
ECS = {"ALIBABA_CLOUD_ECS_METADATA": "an-instance-role"}
CONFIG = {"current": "dev", "profiles": [{"name": "dev"}, {"name": "prod"}]}
SHOWN_URI = "http://127.0.0.1:6666 (ALIBABA_CLOUD_CREDENTIALS_URI)"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def profiles(home: Path) -> Path:
    """The profiles of the command line tool `aliyun`."""
    return written(home / ".aliyun" / "config.json", json.dumps(CONFIG))


@pytest.fixture
def ini(home: Path) -> Path:
    return written(home / ".alibabacloud" / "credentials.ini", "[default]\ntype = access_key\n")


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, "utf-8")
    return file


def refusal(environment: Mapping[str, str], home: Path, *, profile: str | None = None) -> str:
    with pytest.raises(ConfigurationError) as caught:
        choose(environment, home, profile=profile)
    return str(caught.value)


# The order.


@pytest.mark.parametrize(
    ("environment", "option", "name"),
    [
        (KEY | NAMED | URI | OIDC | INI | ECS, None, "your shell"),
        (NAMED | URI | OIDC, "dev", "profile dev of ~/.aliyun/config.json"),
        (NAMED | URI | OIDC | ECS, None, "profile prod of ~/.aliyun/config.json"),
        (URI | OIDC | INI | ECS, None, SHOWN_URI),
        (OIDC | INI | ECS, None, "the OIDC role acs:ram::1:role/guard"),
        (INI | ECS, None, "profile dev of ~/.aliyun/config.json"),
    ],
    ids=["key", "--profile", "ALIBABA_CLOUD_PROFILE", "URI", "OIDC", "current profile"],
)
@pytest.mark.usefixtures("profiles", "ini")
def test_the_first_source_counts(
    environment: Mapping[str, str], option: str | None, name: str, home: Path
) -> None:
    """In the order of the vendor's library; but what a person names comes before what is found."""
    assert choose(environment, home, profile=option).name == name


@pytest.mark.parametrize(
    ("environment", "name"),
    [
        (INI | ECS, "section default of /etc/keys.ini"),
        (ECS, "section default of ~/.alibabacloud/credentials.ini"),
        (dict.fromkeys(KEY | NAMED | URI | INI | OIDC | ECS, ""), "section default of ~/.alibaba"),
        ({"ALIBABA_CLOUD_ACCESS_KEY_ID": "half"}, "your shell"),
        ({"ALIBABA_CLOUD_ACCESS_KEY_SECRET": "half"}, "your shell"),
        ({"ALIBABA_CLOUD_SECURITY_TOKEN": "half"}, "your shell"),
    ],
    ids=["named", "found", "empty variables", "an ID alone", "a secret alone", "a token alone"],
)
@pytest.mark.usefixtures("ini")
def test_without_profiles_the_ini_file_counts(
    environment: Mapping[str, str], name: str, home: Path
) -> None:
    """The one that a variable names, else that in the home folder; half a key is the shell's."""
    source = choose(environment, home, profile=None)

    assert source.name.startswith(name)
    assert (source is SHELL) is (name == "your shell")


def test_the_role_of_the_instance_is_the_last(home: Path) -> None:
    """Only a search for it, which most machines cannot answer, is short."""
    named, found = (choose(each, home, profile=None) for each in (ECS, {}))

    assert (named.name, named.arguments) == (
        "the role an-instance-role of this ECS instance",
        {"role_name": "an-instance-role"},
    )
    assert (found.name, found.arguments) == ("the role of this ECS instance", {})
    assert found.seconds == SEARCH_SECONDS < named.seconds


def test_what_the_library_needs_is_passed_on(home: Path, profiles: Path, ini: Path) -> None:
    """Nothing is left to the variables that the library reads by itself."""
    sources = [choose(each, home, profile=None) for each in (NAMED, URI, OIDC, {})]
    profiles.unlink()
    sources.append(choose({}, home, profile=None))

    assert [(source.kind, source.arguments) for source in sources] == [
        ("profile", {"profile_name": "prod", "profile_file": str(profiles)}),
        ("uri", {"uri": "http://127.0.0.1:6666/key?of=me"}),
        (
            "oidc",
            {
                "role_arn": "acs:ram::1:role/guard",
                "oidc_provider_arn": "acs:ram::1:oidc-provider/ack",
                "oidc_token_file_path": "/var/run/token",
                "role_session_name": "oss-tables-encryption-guard",
            },
        ),
        ("profile", {"profile_name": "dev", "profile_file": str(profiles)}),
        ("ini", {"profile_file": str(ini), "profile_name": "default"}),
    ]


# Two sources at a time.


@pytest.mark.parametrize("name", [*KEY, "ALIBABA_CLOUD_SECURITY_TOKEN"])
@pytest.mark.usefixtures("profiles")
def test_an_option_beside_a_key_is_refused(name: str, home: Path) -> None:
    """Nobody knows which of both is meant."""
    said = refusal({name: "text"}, home, profile="prod")

    assert said.startswith(f"Both --profile and {name} choose an access key")
    assert "text" not in said


@pytest.mark.parametrize(
    ("environment", "unused"),
    [
        (KEY, []),
        (KEY | NAMED | URI | INI, [*NAMED, *URI, *INI]),
        (NAMED, []),
        (NAMED | URI, [*URI]),
        (INI, [*INI]),
        ({"ALIBABA_CLOUD_PROFILE": ""}, []),
    ],
)
@pytest.mark.usefixtures("profiles")
def test_a_variable_without_effect_is_named(
    environment: Mapping[str, str], unused: list[str], home: Path
) -> None:
    """Whoever set it believes that it counts."""
    source = choose(environment, home, profile=None)

    assert unused_variables(environment, source) == unused


# A source that is chosen, and is not there.


@pytest.mark.parametrize(
    ("option", "environment"),
    [("prodd", {}), (None, {"ALIBABA_CLOUD_PROFILE": "prodd"})],
    ids=["--profile", "ALIBABA_CLOUD_PROFILE"],
)
@pytest.mark.usefixtures("profiles", "ini")
def test_an_unknown_profile_is_refused(
    option: str | None, environment: dict[str, str], home: Path
) -> None:
    """The sentence has the nearest name and all names."""
    assert refusal(OIDC | ECS | environment, home, profile=option) == (
        '~/.aliyun/config.json has no profile "prodd". Did you mean prod? Its profiles are dev,'
        " prod; `aliyun configure --profile NAME` creates one."
    )


def test_without_a_file_there_is_no_profile(home: Path) -> None:
    """Nothing is near it."""
    assert 'no profile "prod". Its profiles are none;' in refusal({}, home, profile="prod")


@pytest.mark.parametrize("config", ["{}", '{"profiles": []}', '{"profiles": {"name": "dev"}}', "5"])
def test_a_file_without_profiles_is_not_set_up(config: str, home: Path) -> None:
    """The search goes on."""
    written(home / ".aliyun" / "config.json", config)

    assert choose({}, home, profile=None).kind == "ecs"
    assert profile_names(home) == ()


@pytest.mark.parametrize("current", ["", "gone", None])
def test_a_current_profile_that_is_not_there_is_refused(current: str | None, home: Path) -> None:
    """The next source is not the one that was configured."""
    written(home / ".aliyun" / "config.json", json.dumps(CONFIG | {"current": current}))

    assert f'no profile "{current or ""}"' in refusal(ECS, home, profile=None)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b'{"secret": "hidden"', "it is not JSON"),
        (b"\xff hidden", "it is not JSON"),
        (None, "Is a directory"),
    ],
    ids=["half a document", "no text", "a folder"],
)
def test_profiles_that_cannot_be_read_are_refused(
    content: bytes | None, why: str, home: Path
) -> None:
    """The sentence names the file and the reason, and quotes nothing of it."""
    file = home / ".aliyun" / "config.json"
    if content is None:
        file.mkdir(parents=True)
    else:
        file.parent.mkdir()
        file.write_bytes(content)

    said = refusal(ECS, home, profile=None)

    assert said == f"{file} cannot be read ({why}): correct or remove it."


def test_a_file_that_may_not_be_seen_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What cannot be looked at is not taken for absent; whoever runs this may be root."""

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.stat", forbidden)

    assert "cannot be read (Permission denied)" in refusal(ECS, home, profile=None)


@pytest.mark.parametrize("missing", [*OIDC])
def test_half_of_oidc_is_refused(missing: str, home: Path) -> None:
    """The node of a cluster has a role, too, and it is another one."""
    half = {name: value for name, value in OIDC.items() if name != missing}

    assert f"set {missing} too" in refusal(half | ECS, home, profile=None)


def test_a_role_alone_is_not_oidc(home: Path) -> None:
    """Other tools read that variable as well."""
    role = {"ALIBABA_CLOUD_ROLE_ARN": "acs:ram::1:role/guard"}

    assert choose(role, home, profile=None).kind == "ecs"


@pytest.mark.parametrize(
    "uri", ["127.0.0.1:6666/key", "ftp://127.0.0.1/key", "http:///key", "key", "http://host:key/"]
)
def test_what_is_no_address_is_refused(uri: str, home: Path) -> None:
    """The sentence does not repeat it: it may contain a secret."""
    said = refusal({"ALIBABA_CLOUD_CREDENTIALS_URI": uri}, home, profile=None)

    assert said.startswith("ALIBABA_CLOUD_CREDENTIALS_URI is not an address")
    assert uri not in said.replace("http(s)://<host>[:<port>]/<path>", "")


def test_an_address_is_shown_without_its_secrets(home: Path) -> None:
    """Neither user nor path nor query."""
    uri = {"ALIBABA_CLOUD_CREDENTIALS_URI": "https://me:pass@keys.example:8443/hidden?of=me"}

    name = choose(uri, home, profile=None).name
    assert name == "https://keys.example:8443 (ALIBABA_CLOUD_CREDENTIALS_URI)"


# Switched off.


@pytest.mark.parametrize("word", ["true", "TRUE", "1", "yes", " on "])
@pytest.mark.usefixtures("profiles")
def test_a_source_can_be_switched_off(word: str, home: Path) -> None:
    """By any word that says so: the vendor's library takes only `true`."""
    off = {"ALIBABA_CLOUD_CLI_PROFILE_DISABLED": word}

    assert choose(off, home, profile=None).kind == "ecs"
    assert "ALIBABA_CLOUD_CLI_PROFILE_DISABLED is set: unset it" in refusal(
        off, home, profile="prod"
    )
    said = refusal(off | {"ALIBABA_CLOUD_ECS_METADATA_DISABLED": word}, home, profile=None)
    assert said.startswith("No credentials: set ALIBABA_CLOUD_ACCESS_KEY_ID")
    assert "ALIBABA_CLOUD_ECS_METADATA_DISABLED is set" in said


@pytest.mark.parametrize("word", ["false", "0", "No", "off"])
@pytest.mark.usefixtures("profiles")
def test_a_source_can_be_left_on(word: str, home: Path) -> None:
    """A word that says no is not the same as a word."""
    on: dict[str, str] = {
        "ALIBABA_CLOUD_CLI_PROFILE_DISABLED": word,
        "ALIBABA_CLOUD_ECS_METADATA_DISABLED": word,
    }
    chosen: Source = choose(on, home, profile=None)

    assert chosen.kind == "profile"
    (home / ".aliyun" / "config.json").unlink()
    assert choose(on, home, profile=None).kind == "ecs"
