"""The settings of a deployment: from the shell, guard.toml, what is deployed, and the template.

The first source that has a setting counts. What none of the first two states stays as it is
deployed, so that a deployment from another shell changes nothing in silence.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from difflib import get_close_matches
from hashlib import sha256
from typing import Any, Final, Literal, NamedTuple

import tomli

from encryption_guard.errors import ConfigurationError
from encryption_guard.settings import ORGANIZATION, Exemption
from encryption_guard.untrusted import as_object, as_text, loads, quoted

Source = Literal["shell", "file", "deployed", "default"]
FILE_NAME = "guard.toml"
# Stands for the URL of a deployed web hook, which is not readable.
SECRET = "(set)"  # noqa: S105  not a secret, but its name
UNKNOWN = "(unknown)"
# Between the texts of two functions, as after a deployment that stopped half-way.
DIFFERS = " | sweep: "
MAX_EXEMPTIONS_BYTES = 1500
MAX_SHOWN = 160
# The digest of what the functions and their layer are built from.
CONTENT: Final = "ENCRYPTION_GUARD_CONTENT"
# How many calls of the sweep function share the accounts.
SHARES: Final = "ENCRYPTION_GUARD_SHARES"
# The functions do not use these. A deployment leaves them there for the next one to read.
RECORDED: Final = frozenset(
    {
        *("GUARD_CONTACT_GROUP", "GUARD_HAS_WEBHOOK", "GUARD_ACTION_POLICY"),
        *("GUARD_SLOW_AFTER_MS", "GUARD_SWEEP_CONCURRENCY", SHARES, CONTENT),
        *("GUARD_ORGANIZATION_HOME", "GUARD_ORGANIZATION_FOLDERS", "GUARD_ORGANIZATION_BUS"),
    }
)


class Value(NamedTuple):
    """The text of a variable, and where it comes from."""

    text: str
    source: Source


@dataclass(frozen=True)
class File:
    """The variables of a guard.toml: for every region, and for single ones."""

    values: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, region: str) -> dict[str, str]:
        """Return the variables for a region, with its own before those for every region."""
        return {**self.values, **self.regions.get(region, {})}


@dataclass(frozen=True)
class Change:
    """A setting whose deployed value will change; `question` asks if that is wanted."""

    name: str
    before: str
    after: Value
    question: str | None = None


def parse(text: str, *, file: str) -> File:
    """Parse a guard.toml.

    Raises ConfigurationError, which names the file, the key, its value and what is allowed.

    >>> parse('mode = "detect"', file="guard.toml").of("cn-hangzhou")
    {'GUARD_MODE': 'detect'}
    """
    try:
        document = tomli.loads(text)
    except tomli.TOMLDecodeError as error:
        raise ConfigurationError(f"{file} is not TOML: {error}; correct it.") from None
    regions = document.pop("regions", {})
    if not isinstance(regions, dict) or not all(isinstance(v, dict) for v in regions.values()):
        raise ConfigurationError(
            f"{file}: regions has to hold tables such as [regions.cn-hangzhou]."
        )
    return File(
        _variables(document, file),
        {name: _variables(table, f"{file}, region {name}") for name, table in regions.items()},
    )


def _variables(table: Mapping[str, Any], place: str) -> dict[str, str]:
    variables = {}
    for key, value in table.items():
        if key not in KEYS:
            similar = get_close_matches(key, KEYS, n=1)
            hint = f"did you mean {similar[0]}?" if similar else f"known are {', '.join(KEYS)}."
            raise ConfigurationError(f"{place}: {quoted(key)} is not a setting; {hint}")
        write, allowed = KEYS[key]
        try:
            variables[f"GUARD_{key.upper()}"] = write(value)
        except (TypeError, ValueError):
            # A web hook is a secret also where it is no string, such as in a list.
            found = "" if key == "webhook" else f"is {quoted(str(value))}, but "
            raise ConfigurationError(
                f"{place}: {key} {found}has to be {allowed}; correct it."
            ) from None
    return variables


def _string(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _number(value: object) -> str:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError
    return str(value)


def _boolean(value: object) -> str:
    if not isinstance(value, bool):
        raise TypeError
    return str(value).lower()


def _table_audit(value: object) -> str:
    return "late" if value == "late" else _boolean(value)


def _strings(value: object) -> str:
    if not isinstance(value, list):
        raise TypeError
    return ",".join(map(_string, value))


def _accounts(value: object) -> str:
    return ORGANIZATION if value == ORGANIZATION else _strings(value)


def _exemptions(value: object) -> str:
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise TypeError
    return json.dumps(value, ensure_ascii=False, default=_day)


def _day(value: object) -> str:
    # TOML has dates without quotes.
    if type(value) is not date:
        raise TypeError
    return value.isoformat()


# Each key, its conversion to the text of a variable, and what is allowed.
KEYS: Final[dict[str, tuple[Callable[[object], str], str]]] = {
    "mode": (_string, '"enforce" or "detect"'),
    "exemptions": (_exemptions, "tables [[exemptions]] with bucket, reason and perhaps expires"),
    "allowed_accounts": (_strings, "a list of account ids in quotes"),
    "accounts": (_accounts, f'a list of account ids in quotes, or "{ORGANIZATION}"'),
    "member_role": (_string, "the name of a role"),
    "external_id": (_string, "an external id"),
    "accounts_per_share": (_number, "a number of accounts"),
    "sweep_concurrency": (_number, "a number of instances"),
    "directory_endpoint": (_string, "a URL"),
    "organization_home": (_string, "a region id"),
    "organization_folders": (_strings, "a list of the ids of folders or of the root"),
    "organization_bus": (_string, "the name of an event bus"),
    "sweep_regions": (_strings, "a list of region ids"),
    "sweep_every": (_number, "a number of seconds"),
    "watch_seconds": (_number, "a number of seconds"),
    "audit_tables": (_table_audit, 'true, false or "late"'),
    "contact_group": (_string, "the name of a contact group"),
    "webhook": (_string, "a URL"),
    "action_policy": (_string, "the id of an action policy"),
    "slow_after_ms": (_number, "a number of milliseconds"),
    "runtime": (_string, '"python3.10" or "python3.12"'),
}
WATCH: Final = "GUARD_WATCH_SECONDS"
RECEIVERS: Final = ("GUARD_CONTACT_GROUP", "GUARD_WEBHOOK", "GUARD_ACTION_POLICY")
VARIABLES: Final = tuple(f"GUARD_{key.upper()}" for key in KEYS)


def of_function(function: Mapping[str, object]) -> dict[str, str]:
    """Return the settings of a deployed function, as GetFunction returns it."""
    variables = as_object(function.get("environmentVariables")) or {}
    settings = {name: str(value) for name, value in variables.items() if name in VARIABLES}
    if runtime := as_text(function.get("runtime")):
        settings["GUARD_RUNTIME"] = runtime
    if shares := as_text(variables.get(SHARES)):
        settings[SHARES] = shares
    if variables.get("GUARD_HAS_WEBHOOK") == "true":
        settings["GUARD_WEBHOOK"] = SECRET
    return settings


def merge(first: Mapping[str, str], second: Mapping[str, str]) -> dict[str, str]:
    """Merge the settings of two functions; where they differ, both texts are in the value."""
    differing = {
        name: f"{first[name]}{DIFFERS}{second[name]}"
        for name in first.keys() & second.keys()
        if first[name] != second[name]
    }
    return {**first, **second, **differing}


def variables_of(values: Mapping[str, Value]) -> dict[str, str]:
    """Return the variables for the template."""
    variables = {name: value.text for name, value in values.items()}
    variables["GUARD_HAS_WEBHOOK"] = "true" if variables["GUARD_WEBHOOK"] else ""
    variables["GUARD_EXEMPTIONS"] = shorten_exemptions(variables["GUARD_EXEMPTIONS"])
    return variables


def shorten_exemptions(text: str) -> str:
    """Return the exemptions, or `file:` and a name for their content if they are long.

    All variables of a function may have 4 KB together.

    >>> shorten_exemptions("[]")
    '[]'
    """
    if len(text.encode()) <= MAX_EXEMPTIONS_BYTES:
        return text
    content = json.dumps(_read_exemptions(text), sort_keys=True)
    return f"file:exemptions-{sha256(content.encode()).hexdigest()[:12]}.json"


def resolve(
    *,
    shell: Mapping[str, str],
    file: Mapping[str, str],
    deployed: Mapping[str, str],
    defaults: Mapping[str, str],
) -> dict[str, Value]:
    """Return the value of each variable; an empty one of the shell counts as not set."""
    # The URL of a web hook cannot be read back: it has to be stated again.
    deployed = {name: text for name, text in deployed.items() if text != SECRET}
    sources: list[tuple[Source, Mapping[str, str]]] = [
        ("shell", {name: value for name, value in shell.items() if value}),
        ("file", file),
        ("deployed", deployed),
        ("default", defaults),
    ]
    return {
        name: next(
            (Value(values[name], source) for source, values in sources if name in values),
            Value("", "default"),
        )
        for name in VARIABLES
    }


def find_changes(
    deployed: Mapping[str, str], values: Mapping[str, Value], *, region: str
) -> list[Change]:
    """Compare the values with what is deployed in a region; nothing deployed: no changes.

    A deployment of an older version did not leave its receivers in the functions' variables, and
    had no watch.
    """
    older = {name: UNKNOWN for name in RECEIVERS if deployed and not values[name].text}
    if RECORDED & deployed.keys():
        older = {}
    if deployed and values[WATCH].text:
        older[WATCH] = "0"
    return [
        Change(name, before, values[name], _question(name, before, values[name].text, region))
        for name, before in ({**older, **deployed}).items()
        if name in values and not _is_same(name, before, values[name].text)
    ]


def _is_same(name: str, before: str, after: str) -> bool:
    if before == SECRET:
        return bool(after)
    if name != "GUARD_EXEMPTIONS":
        return before == after
    if before.startswith("file:"):
        return before == shorten_exemptions(after)
    return _read_exemptions(before) == _read_exemptions(after)


def _question(name: str, before: str, after: str, region: str) -> str | None:
    if before == UNKNOWN:
        return f"{name} is not stated: if an older version set it, its alarms will reach nobody"
    match name:
        case "GUARD_MODE" if after == "detect":
            return "New buckets will stay unencrypted (enforce -> detect)"
        case "GUARD_MODE":
            return "Unencrypted buckets will be encrypted (detect -> enforce)"
        case "GUARD_EXEMPTIONS":
            return "; ".join(_describe_exemptions(before, after)) or None
        case "GUARD_SWEEP_REGIONS":
            gone = _gone(before or region, after or region)
            return f"No longer swept: {gone}" if gone else None
        case "GUARD_ALLOWED_ACCOUNTS":
            gone = _gone(before, after)
            return f"No longer protected: buckets of {gone}" if gone else None
        case "GUARD_ACCOUNTS":
            return _ask_about_accounts(before, after)
        case "GUARD_MEMBER_ROLE" | "GUARD_EXTERNAL_ID":
            texts = f"{before or 'none'} -> {after or 'none'}"
            return f"{name} has to be the same in every other account ({texts})"
        case "GUARD_ORGANIZATION_FOLDERS":
            gone = _gone(before, after)
            return f"The role of the guard is removed from the accounts in {gone}" if gone else None
        case "GUARD_ORGANIZATION_HOME" if before:
            return f"The stack group stays in {before} until {before} is deployed (home: {after})"
        case "GUARD_ORGANIZATION_BUS" if before:
            return f"Other accounts no longer send events to {before}"
        case _ if name in RECEIVERS and before and not after:
            return f"{name} is gone: its alarms will reach nobody"
        case _:
            return None


def _gone(before: str, after: str) -> str:
    return ", ".join(sorted(set(before.split(",")) - set(after.split(",")) - {""}))


def _ask_about_accounts(before: str, after: str) -> str | None:
    if before == ORGANIZATION:
        kept = f"other than {after}" if after else "other than the own one"
        return f"No longer protected: buckets of accounts of the organization {kept}"
    gone = "" if after == ORGANIZATION else _gone(before, after)
    return f"No longer protected: buckets of {gone}" if gone else None


def _describe_exemptions(before: str, after: str) -> Iterator[str]:
    if before.startswith("file:"):
        yield f"Other exemptions than those of the deployed {before}"
        return
    old, new = (_buckets(_read_exemptions(text)) for text in (before, after))
    if added := sorted(new.keys() - old.keys()):
        yield f"No longer protected: {', '.join(added)}"
    if removed := sorted(old.keys() - new.keys()):
        yield f"No longer exempt, so encrypted: {', '.join(removed)}"
    for bucket in sorted(old.keys() & new.keys()):
        if old[bucket] != new[bucket]:
            yield f"Exempt until another day: {bucket} ({old[bucket]} -> {new[bucket]})"


def _buckets(exemptions: object) -> dict[str, str]:
    """Return the last days by the bucket."""
    entries = exemptions if isinstance(exemptions, list) else [exemptions]
    buckets: dict[str, list[str]] = {}
    for entry in entries:
        fields = entry if isinstance(entry, dict) else {"bucket": entry}
        days = buckets.setdefault(_bucket(fields.get("bucket")), [])
        days.append(str(fields.get("expires") or "no end"))
    return {bucket: ", ".join(sorted(days)) for bucket, days in buckets.items()}


def _bucket(stated: object) -> str:
    """Return the buckets of an exemption in the one form that all exemptions of them share."""
    try:
        bucket = Exemption.read({"bucket": stated, "reason": "not stated here"}).bucket
    # What an older version deployed, and a function ignores.
    except ValueError:
        return str(stated)
    return bucket.removeprefix("acs:osstables:*:*:bucket/")


def _read_exemptions(text: str) -> object:
    try:
        return loads(text or "[]")
    # The name of a file, or what somebody else deployed.
    except ValueError:
        return text


def describe(values: Mapping[str, Value], changes: Sequence[Change]) -> list[tuple[str, ...]]:
    """Return rows of name, deployed value, new value and source, without the web hook's URL."""
    before = {change.name: change.before for change in changes}
    return [
        (name, _shown(name, before.get(name, value.text)), _shown(name, value.text), value.source)
        for name, value in values.items()
        if value.source != "default" or name in before
    ]


def _shown(name: str, text: str) -> str:
    # Anyone who has the URL can call it.
    if name == "GUARD_WEBHOOK" and text:
        return "(set)"
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
