"""The `s` command: what is asked of it, and what is read from what it prints."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

# Such as that one should not be root.
_WARNING = re.compile(r"\[[^]]+\]\[WARN\]")
_ERROR = re.compile(r"\[[^]]+\]\[ERROR\]")
# What is not there need not be removed.
NOTHING_THERE = ("stack is not exist", "NotFound")
# A variable with such a name is a whole key, as JSON.
ALIAS_ENDING = "_serverless_devs_key"
TEMPLATE = "template.yaml"
LAST_LINES = 25
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECRET = re.compile("secret|token|webhook", re.IGNORECASE)
# A shorter value is a switch, and would be struck out of words that have nothing to hide.
MIN_SECRET_LENGTH = 12

# What the platform or the network says, and what to do about it; the first that is found counts.
REMEDIES = (
    (
        "NoPermission|Forbidden|AccessDenied|not authorized|Unauthorized",
        "The key lacks a right: see the README's chapter on what the deployer needs.",
    ),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidSecurityToken",
        "The key is not accepted: check it, and whether its token is still valid.",
    ),
    (
        "NotEnabled|NotOpened|not activated|ServiceNotOpen|开通",
        "A service is not activated in this account: activate it in the console, and run it again.",
    ),
    (
        "ENOTFOUND|ECONNREFUSED|ETIMEDOUT|ECONNRESET|EAI_AGAIN|ConnectTimeout",
        "A service could not be reached: check the network (and https_proxy), and run it again.",
    ),
)
OTHERWISE = "Read what it printed; when the cause is mended run it again: a repeat does no harm."


class Failed(Exception):
    """A step did not succeed; `todo` is what a person can do about it."""

    def __init__(self, what: str, todo: str, printed: str = "") -> None:
        super().__init__(what)
        self.todo = todo
        self.printed = printed


@dataclass(frozen=True)
class ServerlessDevs:
    """The `s` command with one region's variables; everything it prints goes to `log` too."""

    command: Sequence[str]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    log: TextIO
    tell: Callable[[str], None]

    def run(self, *arguments: str) -> str:
        """What it prints; raises Failed if it fails."""
        self.log.write(f"$ s {' '.join(arguments)}\n")
        with subprocess.Popen(  # noqa: S603  the command is ours
            (*self.command, *arguments, "-t", TEMPLATE, *self.options),
            env=dict(self.environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        ) as process:
            lines = [self._shown(line) for line in process.stdout or ()]
        printed = "".join(line for line in lines if not _WARNING.match(line))
        if process.returncode:
            what = f"`s {' '.join(arguments[:2])}` ended with {process.returncode}"
            raise Failed(what, remedy(printed), tail(printed))
        return printed

    def _shown(self, line: str) -> str:
        plain = redacted(_COLOUR.sub("", line), self.environment)
        self.log.write(plain)
        self.log.flush()
        self.tell(plain.strip())
        return plain


def redacted(text: str, environment: Mapping[str, str]) -> str:
    """Without any secret of the environment, whoever printed it."""
    for secret in secrets(environment):
        text = text.replace(secret, "****")
    return text


def secrets(environment: Mapping[str, str]) -> set[str]:
    """The values that must never be seen, those within the JSON of a key included."""
    found = {value for name, value in environment.items() if _SECRET.search(name)}
    for name, value in environment.items():
        if name.endswith(ALIAS_ENDING):
            found |= {part for key, part in json.loads(value).items() if _SECRET.search(key)}
    return {value for value in found if len(value) >= MIN_SECRET_LENGTH}


def remedy(printed: str) -> str:
    """What to do about a failure that printed this."""
    for pattern, todo in REMEDIES:
        if re.search(pattern, printed):
            return todo
    return OTHERWISE


def errors_in(printed: str) -> list[str]:
    """What it called an error without failing for it, as when it could not remove something."""
    lines = printed.splitlines()
    return [
        line
        for line in lines
        if _ERROR.match(line) and not any(word in line for word in NOTHING_THERE)
    ]


def tail(printed: str) -> str:
    """The last lines that say something."""
    lines = [line.rstrip() for line in printed.splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:])


def json_in(printed: str) -> Any:
    """The last JSON object or list that begins a line of the output; raises ValueError for none."""
    for begin in reversed([match.start() for match in re.finditer(r"^[{\[]", printed, re.M)]):
        try:
            value, _ = json.JSONDecoder().raw_decode(printed[begin:])
        except ValueError:
            continue
        return value
    raise ValueError("no JSON")
