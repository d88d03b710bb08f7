"""Run the `s` command of Serverless Devs and read its output."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TextIO

# For example, the warning that `s` should not run as root.
_WARNING = re.compile(r"\[[^]]+\]\[WARN\]")
_ERROR = re.compile(r"\[[^]]+\]\[ERROR\]")
# `s remove` logs these errors for a resource that does not exist.
ALREADY_GONE = ("stack is not exist", "NotFound")
# A variable whose name ends like this holds a whole access key as JSON.
ALIAS_ENDING = "_serverless_devs_key"
TEMPLATE = "template.yaml"
LAST_LINES = 25
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECRET = re.compile("secret|token|webhook", re.IGNORECASE)
# Shorter values are switches such as "true". Redacting them would garble the output.
MIN_SECRET_LENGTH = 12

# Patterns of error messages from the platform or the network, each with its remedy. The first
# match is used.
REMEDIES = (
    (
        "NoPermission|Forbidden|AccessDenied|not authorized|Unauthorized",
        'The key lacks a right: see "Rights" in docs/deploy.md.',
    ),
    (
        "InvalidAccessKeyId|SignatureDoesNotMatch|InvalidSecurityToken",
        "The key was rejected: check the key, and whether its token has expired.",
    ),
    (
        "NotEnabled|NotOpened|not activated|ServiceNotOpen|开通",
        "A service is not activated in this account: activate it in the console, "
        "then run the command again.",
    ),
    (
        "ENOTFOUND|ECONNREFUSED|ETIMEDOUT|ECONNRESET|EAI_AGAIN|ConnectTimeout",
        "A service cannot be reached: check the network and https_proxy, "
        "then run the command again.",
    ),
)
DEFAULT_REMEDY = (
    "Fix the cause that the output shows, then run the command again: it can be repeated."
)


class StepFailed(Exception):
    """A step that failed, with its remedy and the end of its output."""

    def __init__(self, problem: str, remedy: str, output: str = "") -> None:
        super().__init__(problem)
        self.remedy = remedy
        self.output = output


@dataclass(frozen=True)
class ServerlessDevs:
    """The `s` command with the variables of one region.

    Each line of its output goes to `log` and to `on_line`, without secrets and colours.
    """

    command: Sequence[str]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    log: TextIO
    on_line: Callable[[str], None]

    def run(self, *arguments: str) -> str:
        """Run `s` with these arguments and return its output without warnings.

        Raises StepFailed if `s` does not exit with 0.
        """
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
            lines = [self._log_line(line) for line in process.stdout or ()]
        output = "".join(line for line in lines if not _WARNING.match(line))
        if process.returncode:
            problem = f"`s {' '.join(arguments[:2])}` ended with {process.returncode}"
            raise StepFailed(problem, find_remedy(output), tail(output))
        return output

    def _log_line(self, line: str) -> str:
        plain = redact(_COLOUR.sub("", line), self.environment)
        self.log.write(plain)
        self.log.flush()
        self.on_line(plain.strip())
        return plain


def redact(text: str, environment: Mapping[str, str]) -> str:
    """Replace every secret of the environment in the text with asterisks.

    >>> redact("key made-up-secret", {"ACCESS_KEY_SECRET": "made-up-secret"})
    'key ****'
    """
    for secret in find_secrets(environment):
        text = text.replace(secret, "****")
    return text


def find_secrets(environment: Mapping[str, str]) -> set[str]:
    """Return the secret values of the environment, including those in an access key's JSON."""
    found = {value for name, value in environment.items() if _SECRET.search(name)}
    for name, value in environment.items():
        if name.endswith(ALIAS_ENDING):
            found |= {part for key, part in json.loads(value).items() if _SECRET.search(key)}
    return {value for value in found if len(value) >= MIN_SECRET_LENGTH}


def find_remedy(output: str) -> str:
    """Return the remedy for a command that failed with this output."""
    for pattern, remedy in REMEDIES:
        if re.search(pattern, output):
            return remedy
    return DEFAULT_REMEDY


def find_errors(output: str) -> list[str]:
    """Return the lines that `s` logged as errors.

    `s` exits with 0 in spite of some errors, for example if it cannot remove a resource.
    """
    lines = output.splitlines()
    return [
        line
        for line in lines
        if _ERROR.match(line) and not any(text in line for text in ALREADY_GONE)
    ]


def tail(output: str) -> str:
    """Return the last 25 lines that are not empty."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    return "\n".join(lines[-LAST_LINES:])


def find_json(output: str) -> Any:
    """Return the last JSON object or array that starts at the beginning of a line.

    Raises ValueError if there is none.
    """
    for start in reversed([match.start() for match in re.finditer(r"^[{\[]", output, re.M)]):
        try:
            value, _ = json.JSONDecoder().raw_decode(output[start:])
        except ValueError:
            continue
        return value
    raise ValueError("no JSON")
