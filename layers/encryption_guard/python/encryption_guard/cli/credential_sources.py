"""Decide where the access key of a command comes from.

--profile NAME                   that profile alone; beside a key in the shell: misuse
ALIBABA_CLOUD_ACCESS_KEY_ID      the key of the shell
ALIBABA_CLOUD_PROFILE            that profile alone
ALIBABA_CLOUD_CREDENTIALS_URI    that address alone
otherwise                        the first that is set up: OIDC, the current profile of
                                 ~/.aliyun/config.json, ~/.alibabacloud/credentials.ini, the role
                                 of the ECS instance

A source that is set up and cannot be used is an error: the next one would act as somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, NamedTuple

from encryption_guard.errors import ConfigurationError
from encryption_guard.untrusted import as_text, loads, object_or_empty, quoted

Kind = Literal["shell", "profile", "uri", "oidc", "ini", "ecs"]

KEY_VARIABLES: Final = (
    "ALIBABA_CLOUD_ACCESS_KEY_ID",
    "ALIBABA_CLOUD_ACCESS_KEY_SECRET",
    "ALIBABA_CLOUD_SECURITY_TOKEN",
)
PROFILE: Final = "ALIBABA_CLOUD_PROFILE"
URI: Final = "ALIBABA_CLOUD_CREDENTIALS_URI"
INI_FILE: Final = "ALIBABA_CLOUD_CREDENTIALS_FILE"
OIDC_VARIABLES: Final = {
    "ALIBABA_CLOUD_ROLE_ARN": "role_arn",
    "ALIBABA_CLOUD_OIDC_PROVIDER_ARN": "oidc_provider_arn",
    "ALIBABA_CLOUD_OIDC_TOKEN_FILE": "oidc_token_file_path",
}
ECS_ROLE: Final = "ALIBABA_CLOUD_ECS_METADATA"
NO_PROFILES: Final = "ALIBABA_CLOUD_CLI_PROFILE_DISABLED"
NO_METADATA: Final = "ALIBABA_CLOUD_ECS_METADATA_DISABLED"
# A laptop has no metadata service, and its network may swallow the packets.
SEARCH_SECONDS: Final = 1.0
ASK_SECONDS: Final = 15.0


@dataclass(frozen=True, slots=True)
class Source:
    """A source of access keys: its name for a person, and the arguments of the vendor's provider.

    `advice` says what to do if the source cannot be used. It answers within `seconds`. `variable`
    is the one that chose it.
    """

    kind: Kind
    name: str
    advice: str = ""
    arguments: Mapping[str, str] = field(default_factory=dict)
    seconds: float = ASK_SECONDS
    variable: str | None = None


class Profiles(NamedTuple):
    """The profiles of ~/.aliyun/config.json, by name."""

    current: str
    names: tuple[str, ...]


SHELL: Final = Source("shell", "your shell")


def choose(environment: Mapping[str, str], home: Path, *, profile: str | None) -> Source:
    """Return the source of a command's access key; `profile` is the value of --profile.

    Raises ConfigurationError if two sources are chosen, or if the chosen one is not set up.
    """
    given = {name: value for name, value in environment.items() if value}
    key_variable = next((name for name in KEY_VARIABLES if name in given), None)
    if profile is not None and key_variable:
        raise ConfigurationError(
            f"Both --profile and {key_variable} choose an access key: leave out --profile, or run"
            f" `unset {' '.join(KEY_VARIABLES)}`."
        )
    if key_variable:
        return SHELL
    if chosen := profile or given.get(PROFILE):
        return _profile(chosen, given, home, variable=None if profile else PROFILE)
    return _uri(given[URI]) if URI in given else _first_set_up(given, home)


def unused_variables(environment: Mapping[str, str], source: Source) -> list[str]:
    """Return the variables that are set and choose another source than the one that is used."""
    names = (PROFILE, URI, INI_FILE)
    return [name for name in names if environment.get(name) and name != source.variable]


def _first_set_up(given: Mapping[str, str], home: Path) -> Source:
    if any(name in given for name in OIDC_VARIABLES if "OIDC" in name):
        return _oidc(given)
    if not is_on(given.get(NO_PROFILES)):
        profiles = _read_profiles(home)
        if profiles.names:
            return _profile(profiles.current, given, home, variable=None)
    if INI_FILE in given:
        return _ini(Path(given[INI_FILE]), given[INI_FILE], variable=INI_FILE)
    ini = home / ".alibabacloud" / "credentials.ini"
    if _exists(ini):
        return _ini(ini, "~/.alibabacloud/credentials.ini", variable=None)
    if is_on(given.get(NO_METADATA)):
        raise no_credentials(f"the ECS metadata service is not asked, because {NO_METADATA} is set")
    return _ecs(given.get(ECS_ROLE))


def no_credentials(reason: str) -> ConfigurationError:
    """Return the error of a command that finds no source at all."""
    return ConfigurationError(
        "No credentials: set ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET in"
        " your shell, or choose a profile of ~/.aliyun/config.json with --profile. There is no role"
        f" of an ECS instance either: {reason}."
    )


def profile_names(home: Path) -> tuple[str, ...]:
    """Return the names of the profiles, for the completion of a shell; raises as `choose`."""
    return _read_profiles(home).names


def _profile(name: str, given: Mapping[str, str], home: Path, *, variable: str | None) -> Source:
    if is_on(given.get(NO_PROFILES)):
        raise ConfigurationError(
            f"The profile {name} cannot be used, because {NO_PROFILES} is set: unset it."
        )
    names = _read_profiles(home).names
    if name not in names:
        nearest = get_close_matches(name, names, n=1)
        hint = f" Did you mean {nearest[0]}?" if nearest else ""
        raise ConfigurationError(
            f"~/.aliyun/config.json has no profile {quoted(name)}.{hint} Its profiles are"
            f" {', '.join(names) or 'none'}; `aliyun configure --profile NAME` creates one."
        )
    return Source(
        "profile",
        f"profile {name} of ~/.aliyun/config.json",
        f"correct it, for example with `aliyun configure --profile {name}`, or choose another one"
        " with --profile",
        {"profile_name": name, "profile_file": str(_config_of(home))},
        variable=variable,
    )


def _config_of(home: Path) -> Path:
    return home / ".aliyun" / "config.json"


def _read_profiles(home: Path) -> Profiles:
    """Return the profiles; none if there is no file."""
    file = _config_of(home)
    try:
        config = object_or_empty(loads(file.read_bytes())) if _exists(file) else {}
    except (OSError, ValueError) as error:
        # The text of a ValueError may quote the file, which holds keys.
        cause = error.strerror if isinstance(error, OSError) else "it is not JSON"
        raise _unreadable(file, cause) from None
    listed = config.get("profiles")
    profiles = map(object_or_empty, listed if isinstance(listed, list) else [])
    names = tuple(name for each in profiles if (name := as_text(each.get("name"))))
    return Profiles(as_text(config.get("current")) or "", names)


def _exists(file: Path) -> bool:
    try:
        file.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        # Without this error, the next source would act as somebody else.
        raise _unreadable(file, error.strerror) from error
    return True


def _unreadable(file: Path, cause: str | None) -> ConfigurationError:
    return ConfigurationError(f"{file} cannot be read ({cause}): correct or remove it.")


def _uri(uri: str) -> Source:
    scheme, _, rest = uri.partition("://")
    host = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2]
    # What follows the last colon may be a misplaced secret, unless it is a port.
    is_host = re.fullmatch(r"(?:\[[0-9A-Fa-f:.]+\]|[^:\s\[\]]+)(?::[0-9]{1,5})?", host)
    if scheme not in ("http", "https") or not is_host:
        raise ConfigurationError(
            f"{URI} is not an address: it has to be http(s)://<host>[:<port>]/<path>; correct or"
            " unset the variable."
        )
    # The path and the query may be a secret.
    return Source(
        "uri",
        f"{scheme}://{host} ({URI})",
        "correct or unset the variable",
        {"uri": uri},
        variable=URI,
    )


def _oidc(given: Mapping[str, str]) -> Source:
    if missing := [name for name in OIDC_VARIABLES if name not in given]:
        raise ConfigurationError(
            f"The variables for OIDC are incomplete: set {' and '.join(missing)} too, or unset the"
            " others."
        )
    session = given.get("ALIBABA_CLOUD_ROLE_SESSION_NAME", "oss-tables-encryption-guard")
    arguments = {argument: given[name] for name, argument in OIDC_VARIABLES.items()}
    return Source(
        "oidc",
        f"the OIDC role {given['ALIBABA_CLOUD_ROLE_ARN']}",
        f"check {', '.join(OIDC_VARIABLES)}",
        arguments | {"role_session_name": session},
    )


def _ini(file: Path, shown: str, *, variable: str | None) -> Source:
    return Source(
        "ini",
        f"section default of {shown}",
        "correct the file",
        {"profile_file": str(file), "profile_name": "default"},
        variable=variable,
    )


def _ecs(role: str | None) -> Source:
    if role:
        name, advice = f"the role {role} of this ECS instance", f"correct or unset {ECS_ROLE}"
        return Source("ecs", name, advice, {"role_name": role}, variable=ECS_ROLE)
    return Source("ecs", "the role of this ECS instance", seconds=SEARCH_SECONDS)


def is_on(word: str | None) -> bool:
    """Return whether the value of a variable switches something on, or off if it says so.

    The vendor's library takes only `true`, but a person who writes `1` means the same.
    """
    return (word or "").strip().lower() not in ("", "0", "false", "no", "off")
