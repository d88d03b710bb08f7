"""The settings, which the operator and Function Compute provide in the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import date
from fnmatch import fnmatchcase
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from encryption_guard.arn import ACCOUNT_ID, REGION, SERVICE, TableBucketArn, is_region
from encryption_guard.errors import ConfigurationError
from encryption_guard.untrusted import loads, plain_json, quoted, shortened

# Strings, because `re` compiles them on first use: most instances never use most of them.
_QUEUE_ARN = (
    rf"acs:mns:(?P<region>{REGION}):(?P<account_id>{ACCOUNT_ID})"
    r":/queues/(?P<name>[A-Za-z0-9_-]{1,120})(?:/messages)?"
)
_FC_NAME = "[A-Za-z_][A-Za-z0-9_-]{0,127}"
_FC_PREFIX = rf"acs:fc:(?P<region>{REGION}):(?P<account_id>{ACCOUNT_ID}):"
# The forms of a function after its region and account. FC 3.0 uses the last one for a function of
# FC 2.0. Both forms of the ARN:
# https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
_FUNCTION_FORMS = (
    rf"functions/(?P<name>{_FC_NAME})",
    rf"services/(?P<service>{_FC_NAME})(?:\.(?P<qualifier>[A-Za-z0-9_-]{{1,128}}))?"
    rf"/functions/(?P<name>{_FC_NAME})",
    rf"(?:functions/)?(?P<service>{_FC_NAME})\$(?P<name>{_FC_NAME})",
)
_LABEL_END = r"(?:[A-Za-z0-9]|\{region\})"
_LABEL = rf"{_LABEL_END}(?:(?:{_LABEL_END}|-)*{_LABEL_END})?"
_ENDPOINT = (
    rf"(?P<scheme>https?)://(?:(?P<host>{_LABEL}(?:\.{_LABEL})*\.?)|\[(?P<ipv6>[0-9A-Fa-f:.]+)\])"
    r"(?::(?P<port>[0-9]{1,5}))?/?"
)
_HTTP = "or http:// to this machine (localhost, 127.0.0.1, [::1])"
# The buckets of an exemption, as an ARN whose region, account id and name may be wildcards.
_EXEMPT_ARN = (
    rf"acs:{SERVICE}:(?P<region>{REGION}|\*):(?P<account_id>{ACCOUNT_ID}|\*):bucket/(?P<name>.+)"
)
EXEMPTION_FORM = (
    '{"bucket": "<glob of names>" or "acs:osstables:<region or *>:<account id or *>:bucket/<glob>",'
    ' "reason": "<text>", "expires": "YYYY-MM-DD"}, where "expires" is optional'
)
# The characters and the length of a bucket name, as in `arn.BUCKET_NAME`.
_NAME_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
MIN_NAME_LENGTH, MAX_NAME_LENGTH = 3, 63

# Which tables are checked: those of a bucket that was encrypted late, all, or none.
TableAudit = Literal["late", "true", "false"]

# Every member of the resource directory, instead of a list of account ids.
ORGANIZATION: Final = "organization"
# https://www.alibabacloud.com/help/en/ram/developer-reference/api-ram-2015-05-01-createrole
_ROLE_NAME = "[A-Za-z0-9._-]{1,64}"
# https://www.alibabacloud.com/help/en/ram/developer-reference/api-sts-2015-04-01-assumerole
_EXTERNAL_ID = "[A-Za-z0-9_+=,.@:/-]{2,1224}"


class QueueArn(NamedTuple):
    """An SMQ queue, written as `acs:mns:<region>:<account id>:/queues/<name>`."""

    region: str
    account_id: str
    name: str


class FunctionArn(NamedTuple):
    """A function of FC 3.0, or of FC 2.0 if it has a `service`; a bare name has no region."""

    name: str
    region: str | None = None
    account_id: str | None = None
    service: str | None = None
    qualifier: str | None = None

    @classmethod
    def parse(cls, text: str) -> FunctionArn:
        """Parse a name, `service$name`, or an ARN with or without `acs:fc:<region>:<account id>:`.

        Raises ValueError for any other text.
        """
        prefix = re.match(_FC_PREFIX, text, re.ASCII)
        rest = text[prefix.end() :] if prefix else text
        # A bare name after a region and an account is not an ARN.
        bare_name = () if prefix else (f"(?P<name>{_FC_NAME})",)
        for form in (*_FUNCTION_FORMS, *bare_name):
            if match := re.fullmatch(form, rest, re.ASCII):
                return cls(**match.groupdict(), **(prefix.groupdict() if prefix else {}))
        raise ValueError

    def __str__(self) -> str:
        """Return the ARN, without its prefix if the region is unknown."""
        prefix = f"acs:fc:{self.region}:{self.account_id}:" if self.region else ""
        if not self.service:
            return f"{prefix}functions/{self.name}"
        qualifier = f".{self.qualifier}" if self.qualifier else ""
        return f"{prefix}services/{self.service}{qualifier}/functions/{self.name}"


class Exemption(NamedTuple):
    """Buckets that the guard does not encrypt, with the reason.

    `bucket` is a glob of names, which counts in every account and region, or
    `acs:osstables:<region or *>:<account id or *>:bucket/<glob>`.
    """

    bucket: str
    reason: str
    expires: date | None = None

    @classmethod
    def read(cls, entry: object) -> Exemption:
        """Read an entry of GUARD_EXEMPTIONS; raises TypeError or ValueError with the problem."""
        if not isinstance(entry, dict):
            raise TypeError("it is not a JSON object")
        for key in sorted(entry.keys() - {"bucket", "reason", "expires"}):
            raise ValueError(f"{quoted(key)} is not a known key")
        bucket, reason = _required_text(entry, "bucket"), _required_text(entry, "reason")
        return cls(_exempt_buckets(bucket), reason, _last_day(entry.get("expires")))

    @property
    def place(self) -> tuple[str, str, str]:
        """Return the region, the account id (each may be `*`) and the glob of names."""
        if not self.bucket.startswith("acs:"):
            return "*", "*", self.bucket
        _, _, region, account_id, path = self.bucket.split(":", 4)
        return region, account_id, path.removeprefix("bucket/")

    @property
    def where(self) -> str:
        """The region and the account that the exemption is limited to, in words; empty if none."""
        region, account_id, _ = self.place
        words = f" of region {region}" if region != "*" else ""
        return words + (f" of account {account_id}" if account_id != "*" else "")

    def is_over(self, today: date) -> bool:
        """Return whether the last day of the exemption has passed."""
        return self.expires is not None and self.expires < today

    @property
    def has_every_name(self) -> bool:
        """Whether no name of a bucket, within the region and the account, is left to protect."""
        chars = _chars_of(self.place[2])
        fixed = [each for each in chars if each is not None]
        is_open = len(fixed) < len(chars)
        # No name begins or ends with a hyphen.
        inner, ends = chars[1:-1], (chars[0], chars[-1])
        return (
            is_open
            and len(fixed) <= MIN_NAME_LENGTH
            and all(each in (None, _NAME_CHARS) for each in inner)
            and all(each is None or each >= _NAME_CHARS - {"-"} for each in ends)
        )

    def matches(self, arn: TableBucketArn, *, on: date) -> bool:
        """Return whether the exemption covers a bucket on a day (UTC), its last day included."""
        region, account_id, name = self.place
        return (
            region in ("*", arn.region)
            and account_id in ("*", arn.account_id)
            and fnmatchcase(arn.name, name)
            and (self.expires is None or on <= self.expires)
        )

    def as_dict(self) -> dict[str, str | None]:
        """Return the entry as a dict for JSON."""
        return self._asdict() | {"expires": self.expires.isoformat() if self.expires else None}

    @property
    def warning(self) -> str:
        """The warning for the days before the exemption ends."""
        return (
            f"The exemption of {quoted(self.bucket)} ({quoted(self.reason)}) ends after"
            f" {self.expires}; then the guard encrypts its buckets. To keep them exempt, renew it"
            " in GUARD_EXEMPTIONS."
        )


def _exempt_buckets(text: str) -> str:
    """Return the buckets of an exemption with the service spelled `osstables`.

    Raises ValueError if they can match no bucket.
    """
    if not text.startswith("acs:"):
        if not can_match(text):
            raise ValueError('"bucket" can match no bucket name')
        return text
    match = re.fullmatch(_EXEMPT_ARN, text, re.ASCII)
    if not match or not (match["region"] == "*" or is_region(match["region"])):
        raise ValueError('"bucket" can match no ARN of a table bucket')
    if not can_match(match["name"]):
        raise ValueError('"bucket" can match no bucket name')
    return "acs:osstables:{region}:{account_id}:bucket/{name}".format(**match.groupdict())


def can_match(glob: str) -> bool:
    """Return whether a bucket name can match: 3 to 63 of a-z, 0-9 and -, but no - at either end."""
    if not glob:
        return False
    chars = _chars_of(glob)
    fixed = [each for each in chars if each is not None]
    is_open = len(fixed) < len(chars)
    ends = [each for each in (chars[0], chars[-1]) if each is not None]
    return (
        all(fixed)
        and len(fixed) <= MAX_NAME_LENGTH
        and (is_open or len(fixed) >= MIN_NAME_LENGTH)
        and all(each - {"-"} for each in ends)
    )


def _chars_of(glob: str) -> list[frozenset[str] | None]:
    """Return the characters of a name that each part of a glob matches; None for any number."""
    return [
        None if part[0] == "*" else _chars_of_part(part)
        for part in re.findall(r"\*+|\?|\[!?\]?[^]]*\]|.", glob, re.DOTALL)
    ]


def _chars_of_part(part: str) -> frozenset[str]:
    if part == "?":
        return _NAME_CHARS
    if len(part) == 1:
        return _NAME_CHARS & {part}
    return frozenset(char for char in _NAME_CHARS if fnmatchcase(char, part))


def _required_text(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{key}" is missing, empty or not a string')
    return value.strip()


def _last_day(value: object) -> date | None:
    if value is None:
        return None
    # A misspelled date must not become a different date.
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError('"expires" is not a date in the form YYYY-MM-DD')
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError('"expires" is a date that does not exist') from None


def _queue_or_file(text: str) -> QueueArn | Path:
    if text.startswith("file:") and len(text) > len("file:"):
        return Path(text.removeprefix("file:"))
    match = re.fullmatch(_QUEUE_ARN, text, re.ASCII)
    if not match:
        raise ValueError
    return QueueArn(**match.groupdict())


def _account_ids(text: str) -> frozenset[str]:
    accounts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(ACCOUNT_ID, account, re.ASCII) for account in accounts):
        raise ValueError
    return frozenset(accounts)


def _accounts(text: str) -> frozenset[str] | Literal["organization"]:
    return ORGANIZATION if text == ORGANIZATION else _account_ids(text)


def _regions(text: str) -> tuple[str, ...]:
    """Return each region once, in the given order."""
    regions = [part.strip() for part in text.split(",") if part.strip()]
    if not all(is_region(region) for region in regions):
        raise ValueError
    return tuple(dict.fromkeys(regions))


def _fixed_endpoint(text: str) -> str:
    if "{" in text:
        raise ValueError
    return _endpoint(text)


def _endpoint(text: str) -> str:
    match = re.fullmatch(_ENDPOINT, text, re.ASCII)
    if not match or not 0 < int(match["port"] or 443) <= 65535:
        raise ValueError
    is_local = _is_this_machine(match["host"], match["ipv6"])
    # A token and a signature must not cross a network in clear text.
    if match["scheme"] == "http" and not is_local:
        raise ValueError
    return text.rstrip("/")


def _is_this_machine(host: str | None, ipv6: str | None) -> bool:
    """Return whether a host is this machine by its own name; raises ValueError if it is invalid.

    Other names that lead to it, such as 127.1 or a name of a DNS server, do not count: libraries
    and servers disagree about them.
    """
    if host is None:
        return IPv6Address(ipv6) == IPv6Address("::1")
    if re.fullmatch(r"[0-9.]+", host, re.ASCII):
        return IPv4Address(host).is_loopback
    if any(len(label) > 63 for label in host.split(".")):
        raise ValueError
    return host.lower() == "localhost"


def _matching(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError
    return text


def _one_of(*allowed: str) -> Callable[[str], str]:
    return partial(_matching, "|".join(allowed))


def _timeout(text: str) -> float:
    seconds = float(_matching(r"[0-9]+(?:\.[0-9]+)?", text))
    if not 0 < seconds <= 60:
        raise ValueError
    return seconds


def _whole_number(least: int, most: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        number = int(_matching("[0-9]{1,9}", text))
        if not least <= number <= most:
            raise ValueError
        return number

    return read


def _whole_seconds(most: int) -> Callable[[str], float]:
    return lambda text: float(_whole_number(0, most)(text))


def _is_true(text: str) -> bool:
    return _matching("true|false", text) == "true"


class Variable(NamedTuple):
    """An environment variable.

    `read` converts its text or raises ValueError; `allowed` describes the valid values.
    """

    name: str
    read: Callable[[str], object]
    allowed: str


class Settings(NamedTuple):
    """The settings of the operator, and the function's own data from Function Compute."""

    mode: Literal["enforce", "detect"] = "enforce"
    dead_letter_queue: QueueArn | Path | None = None
    allowed_accounts: frozenset[str] = frozenset()
    # The accounts that the guard enters by the member role, beside its own.
    accounts: frozenset[str] | Literal["organization"] = frozenset()
    member_role: str = "oss-tables-encryption-guard-member"
    external_id: str | None = None
    # The most accounts that one call of the sweep function sweeps.
    accounts_per_share: int = 10
    addressing: Literal["path", "virtual"] = "path"
    network: Literal["public", "internal"] = "public"
    oss_tables_endpoint: str | None = None
    function: FunctionArn | None = None
    fc_endpoint: str | None = None
    smq_endpoint: str | None = None
    sts_endpoint: str | None = None
    directory_endpoint: str | None = None
    log_endpoint: str | None = None
    http_timeout_seconds: float = 5.0
    max_attempts: int = 4
    sweep_regions: tuple[str, ...] = ()
    sweep_every: float = 300.0
    watch_seconds: float = 5.0
    audit_tables: TableAudit = "late"
    trust_env: bool = False
    exemptions: tuple[Exemption, ...] = ()
    # The problems of GUARD_EXEMPTIONS. They are logged and do not stop the function, because a
    # stopped function would leave buckets unencrypted.
    exemption_errors: tuple[str, ...] = ()
    region: str | None = None
    account_id: str | None = None
    function_name: str | None = None

    @property
    def audits_late(self) -> bool:
        """Whether the tables of a bucket that was encrypted late are checked."""
        return self.audit_tables != "false"

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        account_id: str | None = None,
        region: str | None = None,
        overrides: Mapping[str, str | None] | None = None,
    ) -> Settings:
        """Read the settings from `environment`, or from the environment of the process.

        An empty variable counts as not set. `account_id` and `region` replace FC_ACCOUNT_ID and
        FC_REGION if those are not set. An override that is not None replaces its variable.

        Raises ConfigurationError, which names the variable, its value and the valid values.

        >>> Settings.from_environment({"GUARD_MODE": "detect"}).mode
        'detect'
        """
        source = dict(os.environ if environment is None else environment)
        source |= {k: v for k, v in (overrides or {}).items() if v is not None}
        known = {"FC_ACCOUNT_ID": account_id, "FC_REGION": region}
        given = {k: v for k, v in known.items() if v} | {k: v for k, v in source.items() if v}
        exemptions, errors = _read_exemptions(given)
        settings = cls(
            **{
                setting: _read_variable(variable, given)
                for setting, variable in VARIABLES.items()
                if variable.name in given
            },
            exemptions=exemptions,
            exemption_errors=errors,
        )
        if settings.function_name and not isinstance(settings.dead_letter_queue, QueueArn):
            raise _missing_queue(given)
        return settings


# The variable of each setting, except GUARD_EXEMPTIONS.
VARIABLES: Final = {
    "mode": Variable("GUARD_MODE", _one_of("enforce", "detect"), "enforce or detect"),
    "dead_letter_queue": Variable(
        "GUARD_DEAD_LETTER_QUEUE",
        _queue_or_file,
        "acs:mns:<region>:<account id>:/queues/<name>, or outside Function Compute file:<path>",
    ),
    "allowed_accounts": Variable(
        "GUARD_ALLOWED_ACCOUNTS",
        _account_ids,
        "account ids of 5 to 20 digits, separated by commas",
    ),
    "accounts": Variable(
        "GUARD_ACCOUNTS",
        _accounts,
        f"account ids of 5 to 20 digits, separated by commas, or {ORGANIZATION}",
    ),
    "member_role": Variable(
        "GUARD_MEMBER_ROLE",
        partial(_matching, _ROLE_NAME),
        "the name of a role, not its ARN: 1 to 64 letters, digits and . _ -",
    ),
    "external_id": Variable(
        "GUARD_EXTERNAL_ID",
        partial(_matching, _EXTERNAL_ID),
        "2 to 1224 letters, digits and _ + = , . @ : / -",
    ),
    "accounts_per_share": Variable(
        "GUARD_ACCOUNTS_PER_SHARE", _whole_number(1, 1000), "a whole number from 1 to 1000"
    ),
    "addressing": Variable(
        "GUARD_OSS_TABLES_ADDRESSING", _one_of("path", "virtual"), "path or virtual"
    ),
    "network": Variable(
        "GUARD_OSS_TABLES_NETWORK", _one_of("public", "internal"), "public or internal"
    ),
    "oss_tables_endpoint": Variable(
        "GUARD_OSS_TABLES_ENDPOINT",
        _endpoint,
        f"https://<host>[:<port>], {_HTTP}; {{region}} stands for the region id",
    ),
    "function": Variable(
        "GUARD_FUNCTION",
        FunctionArn.parse,
        "a function's name or ARN, acs:fc:<region>:<account id>:functions/<name>;"
        " in FC 2.0 <service>$<name> or ...:services/<service>/functions/<name>",
    ),
    **{
        f"{service}_endpoint": Variable(
            f"GUARD_{service.upper()}_ENDPOINT",
            _fixed_endpoint,
            f"https://<host>[:<port>], {_HTTP}",
        )
        for service in ("fc", "smq", "sts", "directory", "log")
    },
    "http_timeout_seconds": Variable(
        "GUARD_HTTP_TIMEOUT_SECONDS", _timeout, "a number of seconds above 0, at most 60"
    ),
    "max_attempts": Variable(
        "GUARD_MAX_ATTEMPTS", _whole_number(1, 20), "a whole number from 1 to 20"
    ),
    "sweep_regions": Variable(
        "GUARD_SWEEP_REGIONS", _regions, "region ids such as cn-hangzhou, separated by commas"
    ),
    "sweep_every": Variable(
        "GUARD_SWEEP_EVERY", _whole_seconds(86400), "a whole number of seconds, at most 86400"
    ),
    "watch_seconds": Variable(
        "GUARD_WATCH_SECONDS", _whole_seconds(60), "a whole number of seconds, at most 60"
    ),
    "audit_tables": Variable(
        "GUARD_AUDIT_TABLES", _one_of("late", "true", "false"), "late, true or false"
    ),
    "trust_env": Variable("GUARD_TRUST_ENV", _is_true, "true or false"),
    "region": Variable("FC_REGION", partial(_matching, REGION), "a region id such as cn-hangzhou"),
    "account_id": Variable(
        "FC_ACCOUNT_ID", partial(_matching, ACCOUNT_ID), "an account id of 5 to 20 digits"
    ),
    "function_name": Variable("FC_FUNCTION_NAME", str, "a function's name"),
}

# What only a deployment uses. template.yaml leaves some of it in the sweep's environment, where the
# next deployment reads it.
OF_DEPLOYMENTS: Final = frozenset(
    {
        *("GUARD_CONTACT_GROUP", "GUARD_WEBHOOK", "GUARD_HAS_WEBHOOK", "GUARD_ACTION_POLICY"),
        *("GUARD_SLOW_AFTER_MS", "GUARD_RUNTIME", "GUARD_SWEEP_CONCURRENCY"),
        *("GUARD_ORGANIZATION_HOME", "GUARD_ORGANIZATION_FOLDERS", "GUARD_ORGANIZATION_BUS"),
    }
)
_PREFIX: Final = "GUARD_"
# Each name that functions, commands or deployments read: none of them takes it for a misspelt one.
KNOWN_NAMES: Final = frozenset(
    {
        *(v.name for v in VARIABLES.values() if v.name.startswith(_PREFIX)),
        *("GUARD_EXEMPTIONS", *OF_DEPLOYMENTS),
    }
)


def unknown_names(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the names of GUARD_* variables that nobody reads, each with the advice for it.

    An empty variable counts as not set.

    >>> unknown_names({"GUARD_MOD": "detect"})
    {'GUARD_MOD': 'Did you mean GUARD_MODE?'}
    """
    given = os.environ if environment is None else environment
    found = (name for name, value in given.items() if value and name.upper().startswith(_PREFIX))
    return {name: _advice(name) for name in sorted(found) if name not in KNOWN_NAMES}


def _advice(unknown: str) -> str:
    # Only an unknown name needs this import.
    from difflib import get_close_matches

    # The prefix that all of them share makes none of them similar.
    ends = sorted(name.removeprefix(_PREFIX) for name in KNOWN_NAMES)
    similar = get_close_matches(unknown.upper().removeprefix(_PREFIX), ends, n=1)
    return f"Did you mean {_PREFIX}{similar[0]}?" if similar else "Unset it."


def _read_variable(variable: Variable, given: Mapping[str, str]) -> Any:
    try:
        return variable.read(given[variable.name])
    except ValueError:
        raise ConfigurationError(
            f"{variable.name} is {_redacted(given[variable.name], given)}, but has to be"
            f" {variable.allowed}; correct the variable."
        ) from None


def _redacted(value: str, given: Mapping[str, str]) -> str:
    """Quote the value of a variable, and redact a secret that is there by mistake."""
    return quoted(_without_secrets(value, given))


def _without_secrets(value: str, given: Mapping[str, str]) -> str:
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"):
        if name in given:
            value = value.replace(given[name], "[redacted]")
    return re.sub(r"//\S*:\S*@", "//[redacted]@", value)


def _missing_queue(given: Mapping[str, str]) -> ConfigurationError:
    value = given.get("GUARD_DEAD_LETTER_QUEUE")
    found = f"is {_redacted(value, given)}" if value else "is not set"
    return ConfigurationError(
        f"GUARD_DEAD_LETTER_QUEUE {found}, but on Function Compute it has to be"
        " acs:mns:<region>:<account id>:/queues/<name>, because the function's disk is temporary;"
        " set the variable."
    )


def _read_exemptions(given: Mapping[str, str]) -> tuple[tuple[Exemption, ...], tuple[str, ...]]:
    """Return the valid entries of GUARD_EXEMPTIONS, and a message for each problem."""
    value = text = given.get("GUARD_EXEMPTIONS", "[]")
    try:
        if value.startswith("file:"):
            folder = Path(given.get("FC_FUNC_CODE_PATH", ""))
            text = (folder / value.removeprefix("file:")).read_text("utf-8")
        entries = loads(text)
        if not isinstance(entries, list):
            raise TypeError
    except (OSError, TypeError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not a JSON list"
        return (), (
            f"GUARD_EXEMPTIONS is {_redacted(value, given)}, but cannot be read ({why}); no bucket"
            " is exempt until you correct it.",
        )
    exemptions, errors = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            exemptions.append(Exemption.read(entry))
        # Some versions of Python 3.10 raise re.error for a range such as [z-a].
        except (TypeError, ValueError, re.error) as error:
            errors.append(
                f"GUARD_EXEMPTIONS, entry {number}: {error}, in"
                f" {shortened(_without_secrets(plain_json(entry), given))}. An entry has to be"
                f" {EXEMPTION_FORM}; correct the variable."
            )
    return tuple(exemptions), tuple(errors)


def _log_level(text: str) -> str:
    return _matching("DEBUG|INFO|WARNING|WARN|ERROR", text.upper())


def _boolean(text: str) -> str:
    return _matching("1|y|yes|t|true|on|0|n|no|f|false|off", text.lower())


def _sample_rate(text: str) -> float:
    share = float(_matching(r"[0-9]*\.?[0-9]+", text))
    if share > 1:
        raise ValueError
    return share


# The variables that aws-lambda-powertools reads itself for a Logger. It raises for unknown values
# and for an empty level or switch. The first level that is set counts. CRITICAL is not allowed: it
# would suppress a dead letter that the queue did not accept and that only the log contains.
_LEVELS = tuple(
    Variable(name, _log_level, "DEBUG, INFO, WARNING or ERROR")
    for name in ("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL", "LOG_LEVEL")
)
_LOG_VARIABLES = (
    *_LEVELS,
    Variable("POWERTOOLS_LOGGER_SAMPLE_RATE", _sample_rate, "a number from 0 to 1"),
    Variable("POWERTOOLS_DEBUG", _boolean, "true or false"),
    Variable("POWERTOOLS_DEV", _boolean, "true or false"),
    Variable("POWERTOOLS_LOG_DEDUPLICATION_DISABLED", _boolean, "true or false"),
)


class LogSettings(NamedTuple):
    """The log level, and a message for each log variable that is wrong."""

    level: str
    errors: tuple[str, ...]

    @classmethod
    def from_environment(cls) -> LogSettings:
        """Read the log variables, and remove empty and wrong ones from the environment.

        The logger would raise for them, for some even during its import. A wrong log setting must
        not leave a bucket unencrypted.
        """
        errors = []
        for variable in _LOG_VARIABLES:
            if variable.name in os.environ:
                try:
                    if os.environ[variable.name]:
                        _read_variable(variable, os.environ)
                        continue
                except ConfigurationError as error:
                    errors.append(str(error))
                del os.environ[variable.name]
        given = (os.environ.get(variable.name) for variable in _LEVELS)
        level = next((level for level in given if level), "INFO")
        return cls(level.upper(), tuple(errors))
