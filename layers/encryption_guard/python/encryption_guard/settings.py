"""Settings: what an operator sets in the environment, and what Function Compute says there."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from datetime import date
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

from encryption_guard.arn import ACCOUNT_ID, REGION, is_region
from encryption_guard.errors import ConfigurationError
from encryption_guard.untrusted import loads, quoted

# Texts, and compiled when they are asked for: most instances never read most of them.
_QUEUE_ARN = (
    rf"acs:mns:(?P<region>{REGION}):(?P<account_id>{ACCOUNT_ID})"
    r":/queues/(?P<name>[A-Za-z0-9_-]{1,120})(?:/messages)?"
)
_FC_NAME = "[A-Za-z_][A-Za-z0-9_-]{0,127}"
_FC_PLACE = rf"acs:fc:(?P<region>{REGION}):(?P<account_id>{ACCOUNT_ID}):"
# Below its region and account a function is written in one of these forms; the last one is FC 2.0's
# as FC 3.0 lists it. Both forms of the ARN:
# https://www.alibabacloud.com/help/en/fc/user-guide/result-callback
_FUNCTION_FORMS = (
    rf"functions/(?P<name>{_FC_NAME})",
    rf"services/(?P<service>{_FC_NAME})(?:\.(?P<qualifier>[A-Za-z0-9_-]{{1,128}}))?"
    rf"/functions/(?P<name>{_FC_NAME})",
    rf"(?:functions/)?(?P<service>{_FC_NAME})\$(?P<name>{_FC_NAME})",
)
_ENDPOINT = (
    r"https?://(?:(?:[A-Za-z0-9.-]|\{region\})+|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{1,5}))?/?"
)


class QueueArn(NamedTuple):
    """An SMQ queue, as `acs:mns:<region>:<uid>:/queues/<name>` names it."""

    region: str
    account_id: str
    name: str


class FunctionArn(NamedTuple):
    """A function of FC 3.0, or with `service` one of FC 2.0; a bare name tells no region."""

    name: str
    region: str | None = None
    account_id: str | None = None
    service: str | None = None
    qualifier: str | None = None

    @classmethod
    def parse(cls, text: str) -> FunctionArn:
        """Read a name, `service$name`, or an ARN with or without `acs:fc:<region>:<uid>:`.

        Raises ValueError for anything else.
        """
        place = re.match(_FC_PLACE, text, re.ASCII)
        below = text[place.end() :] if place else text
        # A name alone is no ARN.
        bare = () if place else (f"(?P<name>{_FC_NAME})",)
        for form in (*_FUNCTION_FORMS, *bare):
            if found := re.fullmatch(form, below, re.ASCII):
                return cls(**found.groupdict(), **(place.groupdict() if place else {}))
        raise ValueError

    def __str__(self) -> str:
        """The ARN, as far as it is known."""
        place = f"acs:fc:{self.region}:{self.account_id}:" if self.region else ""
        if not self.service:
            return f"{place}functions/{self.name}"
        version = f".{self.qualifier}" if self.qualifier else ""
        return f"{place}services/{self.service}{version}/functions/{self.name}"


class Exemption(NamedTuple):
    """A bucket, or a glob of buckets, that the guard leaves alone, and why."""

    bucket: str
    reason: str
    expires: date | None = None

    @classmethod
    def read(cls, entry: object) -> Exemption:
        """Read an entry of GUARD_EXEMPTIONS; raises ValueError or TypeError, which says why not."""
        if not isinstance(entry, dict):
            raise TypeError("it is not an object")
        for key in entry.keys() - {"bucket", "reason", "expires"}:
            raise ValueError(f"{quoted(key)} is not known")
        return cls(_filled(entry, "bucket"), _filled(entry, "reason"), _day(entry.get("expires")))

    def matches(self, bucket: str, *, on: date) -> bool:
        """Whether it names this bucket and still counts on this day (UTC), the last included."""
        return fnmatchcase(bucket, self.bucket) and (self.expires is None or on <= self.expires)

    def as_dict(self) -> dict[str, str | None]:
        """The entry again, for JSON."""
        return self._asdict() | {"expires": self.expires.isoformat() if self.expires else None}

    @property
    def warning(self) -> str:
        """What to know before it ends."""
        return (
            f"The exemption of {quoted(self.bucket)} ({quoted(self.reason)}) ends with"
            f" {self.expires}: afterwards its buckets are encrypted. Renew it in GUARD_EXEMPTIONS"
            " if they are not to be."
        )


def _filled(entry: Mapping[str, object], key: str) -> str:
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f'"{key}" is not a text with something in it')
    return value.strip()


def _day(value: object) -> date | None:
    if value is None:
        return None
    # A typing error must not become another day than the one that was meant.
    if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d{2}-\d{2}", value, re.ASCII):
        raise ValueError('"expires" is not a day in the form YYYY-MM-DD')
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError('"expires" is no day of the calendar') from None


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


def _regions(text: str) -> tuple[str, ...]:
    """Each region once, in the order given."""
    regions = [part.strip() for part in text.split(",") if part.strip()]
    if not all(is_region(region) for region in regions):
        raise ValueError
    return tuple(dict.fromkeys(regions))


def _one_endpoint(text: str) -> str:
    if "{" in text:
        raise ValueError
    return _endpoint(text)


def _endpoint(text: str) -> str:
    match = re.fullmatch(_ENDPOINT, text, re.ASCII)
    if not match or int(match["port"] or 443) > 65535:
        raise ValueError
    return text.rstrip("/")


def _in_the_form(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError
    return text


def _one_of(*allowed: str) -> Callable[[str], str]:
    return partial(_in_the_form, "|".join(allowed))


def _seconds(text: str) -> float:
    seconds = float(_in_the_form(r"[0-9]+(?:\.[0-9]+)?", text))
    if not 0 < seconds <= 60:
        raise ValueError
    return seconds


def _sweep_every(text: str) -> float:
    seconds = int(_in_the_form("[0-9]{1,5}", text))
    if seconds > 24 * 60 * 60:
        raise ValueError
    return float(seconds)


def _attempts(text: str) -> int:
    attempts = int(_in_the_form("[0-9]+", text))
    if not 1 <= attempts <= 20:
        raise ValueError
    return attempts


def _is_true(text: str) -> bool:
    return _in_the_form("true|false", text) == "true"


class Variable(NamedTuple):
    """A variable of the environment; `read` makes a value of its text or raises ValueError."""

    name: str
    read: Callable[[str], object]
    allowed: str


class Settings(NamedTuple):
    """Everything an operator can set, and what Function Compute says of the function itself."""

    mode: Literal["enforce", "detect"] = "enforce"
    dead_letter_queue: QueueArn | Path | None = None
    allowed_accounts: frozenset[str] = frozenset()
    addressing: Literal["path", "virtual"] = "path"
    network: Literal["public", "internal"] = "public"
    oss_tables_endpoint: str | None = None
    function: FunctionArn | None = None
    fc_endpoint: str | None = None
    smq_endpoint: str | None = None
    http_timeout_seconds: float = 5.0
    max_attempts: int = 4
    sweep_regions: tuple[str, ...] = ()
    sweep_every: float = 300.0
    audit_tables: bool = False
    trust_env: bool = False
    exemptions: tuple[Exemption, ...] = ()
    # What was wrong with GUARD_EXEMPTIONS: logged as errors, because stopping the function for it
    # would leave buckets unencrypted.
    exemption_errors: tuple[str, ...] = ()
    region: str | None = None
    account_id: str | None = None
    function_name: str | None = None

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str] | None = None,
        *,
        account_id: str | None = None,
        region: str | None = None,
        overrides: Mapping[str, str | None] | None = None,
    ) -> Settings:
        """Read the environment (or the given one); an empty variable counts as not set.

        `account_id` and `region` stand in for FC_ACCOUNT_ID and FC_REGION where those are not set;
        `overrides` count before the environment where they are not None.
        Raises ConfigurationError, one sentence that names the variable, its value and what is
        allowed.
        """
        source = dict(os.environ if environment is None else environment)
        source |= {k: v for k, v in (overrides or {}).items() if v is not None}
        known = {"FC_ACCOUNT_ID": account_id, "FC_REGION": region}
        given = {k: v for k, v in known.items() if v} | {k: v for k, v in source.items() if v}
        exemptions, errors = _exemptions(given)
        settings = cls(
            **{
                setting: _read(variable, given)
                for setting, variable in VARIABLES.items()
                if variable.name in given
            },
            exemptions=exemptions,
            exemption_errors=errors,
        )
        if settings.function_name and not isinstance(settings.dead_letter_queue, QueueArn):
            raise _queue_required(given)
        return settings


# Which variable each setting is read from, but for GUARD_EXEMPTIONS.
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
    "addressing": Variable(
        "GUARD_OSS_TABLES_ADDRESSING", _one_of("path", "virtual"), "path or virtual"
    ),
    "network": Variable(
        "GUARD_OSS_TABLES_NETWORK", _one_of("public", "internal"), "public or internal"
    ),
    "oss_tables_endpoint": Variable(
        "GUARD_OSS_TABLES_ENDPOINT",
        _endpoint,
        "http(s)://<host>[:<port>], in which {region} is filled in",
    ),
    "function": Variable(
        "GUARD_FUNCTION",
        FunctionArn.parse,
        "a function's name or ARN, acs:fc:<region>:<account id>:functions/<name>;"
        " of FC 2.0: <service>$<name> or ...:services/<service>/functions/<name>",
    ),
    "fc_endpoint": Variable("GUARD_FC_ENDPOINT", _one_endpoint, "http(s)://<host>[:<port>]"),
    "smq_endpoint": Variable("GUARD_SMQ_ENDPOINT", _one_endpoint, "http(s)://<host>[:<port>]"),
    "http_timeout_seconds": Variable(
        "GUARD_HTTP_TIMEOUT_SECONDS", _seconds, "a number of seconds above 0, at most 60"
    ),
    "max_attempts": Variable("GUARD_MAX_ATTEMPTS", _attempts, "a whole number from 1 to 20"),
    "sweep_regions": Variable(
        "GUARD_SWEEP_REGIONS", _regions, "region ids such as cn-hangzhou, separated by commas"
    ),
    "sweep_every": Variable(
        "GUARD_SWEEP_EVERY", _sweep_every, "a whole number of seconds, at most 86400"
    ),
    "audit_tables": Variable("GUARD_AUDIT_TABLES", _is_true, "true or false"),
    "trust_env": Variable("GUARD_TRUST_ENV", _is_true, "true or false"),
    "region": Variable(
        "FC_REGION", partial(_in_the_form, REGION), "a region id such as cn-hangzhou"
    ),
    "account_id": Variable(
        "FC_ACCOUNT_ID", partial(_in_the_form, ACCOUNT_ID), "an account id of 5 to 20 digits"
    ),
    "function_name": Variable("FC_FUNCTION_NAME", str, "a function's name"),
}


def _read(variable: Variable, given: Mapping[str, str]) -> Any:
    try:
        return variable.read(given[variable.name])
    except ValueError:
        raise ConfigurationError(
            f"{variable.name} is {_shown(given[variable.name], given)}, but has to be"
            f" {variable.allowed}; correct the variable."
        ) from None


def _shown(value: str, given: Mapping[str, str]) -> str:
    """The value of a variable, but for a secret that was put there by mistake."""
    for name in ("ALIBABA_CLOUD_ACCESS_KEY_SECRET", "ALIBABA_CLOUD_SECURITY_TOKEN"):
        if name in given:
            value = value.replace(given[name], "[redacted]")
    return quoted(re.sub(r"//\S*:\S*@", "//[redacted]@", value))


def _queue_required(given: Mapping[str, str]) -> ConfigurationError:
    value = given.get("GUARD_DEAD_LETTER_QUEUE")
    found = f"is {_shown(value, given)}" if value else "is not set"
    return ConfigurationError(
        f"GUARD_DEAD_LETTER_QUEUE {found}, but on Function Compute, whose disk does not last, it"
        " has to be acs:mns:<region>:<account id>:/queues/<name>; set the variable."
    )


def _exemptions(given: Mapping[str, str]) -> tuple[tuple[Exemption, ...], tuple[str, ...]]:
    """The readable entries of GUARD_EXEMPTIONS, and a sentence for each that is not."""
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
            f"GUARD_EXEMPTIONS is {_shown(value, given)}, but cannot be read ({why}); nothing is"
            " exempt.",
        )
    kept, errors = [], []
    for number, entry in enumerate(entries, start=1):
        try:
            kept.append(Exemption.read(entry))
        except (TypeError, ValueError) as error:
            errors.append(
                f"GUARD_EXEMPTIONS, entry {number}: {error}; the entry is dropped. It has to be"
                ' {"bucket": glob, "reason": text, "expires": "YYYY-MM-DD"}.'
            )
    return tuple(kept), tuple(errors)


def _level(text: str) -> str:
    return _in_the_form("DEBUG|INFO|WARNING|WARN|ERROR", text.upper())


def _switch(text: str) -> str:
    return _in_the_form("1|y|yes|t|true|on|0|n|no|f|false|off", text.lower())


def _share(text: str) -> float:
    share = float(_in_the_form(r"[0-9]*\.?[0-9]+", text))
    if share > 1:
        raise ValueError
    return share


# What aws-lambda-powertools reads by itself for a Logger. It raises for what it does not know, and
# for a level or a switch that is empty. Of the levels the first that is set counts. CRITICAL is not
# allowed: it would silence a letter that the queue did not take, which only the log has then.
_LEVELS = tuple(
    Variable(name, _level, "DEBUG, INFO, WARNING or ERROR")
    for name in ("AWS_LAMBDA_LOG_LEVEL", "POWERTOOLS_LOG_LEVEL", "LOG_LEVEL")
)
_LOG_VARIABLES = (
    *_LEVELS,
    Variable("POWERTOOLS_LOGGER_SAMPLE_RATE", _share, "a number from 0 to 1"),
    Variable("POWERTOOLS_DEBUG", _switch, "true or false"),
    Variable("POWERTOOLS_DEV", _switch, "true or false"),
    Variable("POWERTOOLS_LOG_DEDUPLICATION_DISABLED", _switch, "true or false"),
)


class LogSettings(NamedTuple):
    """The level of the log, and a sentence for each variable of it that is wrong."""

    level: str
    errors: tuple[str, ...]

    @classmethod
    def from_environment(cls) -> LogSettings:
        """Read the log's variables, and take those that are empty or wrong out of the environment.

        A log that is not as somebody wanted it must not keep a bucket open, and the logger would
        raise: for some of them while it is imported.
        """
        errors = []
        for variable in _LOG_VARIABLES:
            if variable.name in os.environ:
                try:
                    if os.environ[variable.name]:
                        _read(variable, os.environ)
                        continue
                except ConfigurationError as error:
                    errors.append(str(error))
                del os.environ[variable.name]
        given = (os.environ.get(variable.name) for variable in _LEVELS)
        level = next((level for level in given if level), "INFO")
        return cls(level.upper(), tuple(errors))
