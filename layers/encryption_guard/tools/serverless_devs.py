"""Run the `s` command of Serverless Devs and read its output."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Timer
from typing import Any, TextIO
from uuid import uuid4

from encryption_guard.untrusted import as_object

# For example, the warning that `s` should not run as root.
_WARNING = re.compile(r"\[[^]]+\]\[WARN\]")
_ERROR = re.compile(r"\[[^]]+\]\[ERROR\]")
_ID = re.compile(r"[0-9A-Fa-f-]{16,}")
# `s remove` logs these errors for a resource that does not exist.
ALREADY_GONE = ("stack is not exist", "NotFound")
# A variable whose name ends like this holds a whole access key as JSON.
ALIAS_ENDING = "_serverless_devs_key"
TEMPLATE = "template.yaml"
LAST_LINES = 25
# The variable that names the folder for the log of a command, below `logs`.
LOG_FOLDER = "serverless_devs_traceid"
# The longest command creates or deletes a stack, which takes minutes. The ros component waits for
# ever if the clock of this machine is ahead, if a deletion fails, or if GetStack is refused.
MAX_SECONDS = 20 * 60.0
MAX_SAME_ERRORS = 20
_DELETE_FAILED = re.compile(r"stack status\W+DELETE_FAILED", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_SECRET = re.compile("secret|token|webhook", re.IGNORECASE)
# Shorter values are switches such as "true". Redacting them would garble the output.
MIN_SECRET_LENGTH = 12

# Patterns of error messages from the platform or the network, each with its remedy. The first
# match is used.
REMEDIES = (
    (
        "(?i:concurrency.*(?:exceed|limit|quota)|(?:exceed|limit|quota).*concurrency)",
        "The account has fewer instances in this region than are reserved: raise its quota of "
        "Function Compute, or set a larger GUARD_ACCOUNTS_PER_SHARE. Those of a function that was "
        "just removed still count for a while: then run the command again in some minutes.",
    ),
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
LATE_REMEDY = (
    "See the stack and its events in the console of Resource Orchestration Service. Also compare "
    "the clock of this machine with another one: if it is ahead, Serverless Devs waits for ever."
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

    Each line of its output goes to `log` and to `on_line`, without secrets and colours. A command
    that takes more than `max_seconds` is stopped.
    """

    command: Sequence[str]
    options: tuple[str, ...]
    environment: Mapping[str, str]
    log: TextIO
    on_line: Callable[[str], None]
    max_seconds: float = MAX_SECONDS
    # Found before a command starts: an error while its output is read would leave it waiting.
    _secrets: frozenset[str] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_secrets", find_secrets(self.environment))

    def run(self, *arguments: str) -> str:
        """Run `s` with these arguments and return its output without warnings.

        Raises StepFailed if `s` does not exit with 0, or not in time.
        """
        self.log.write(f"$ s {' '.join(arguments)}\n")
        command = f"`s {' '.join(arguments[:2])}`"
        with self._started(arguments) as process, _time_limit(process, self.max_seconds) as late:
            lines: list[str] = []
            for line in process.stdout or ():
                lines.append(self._log_line(line))
                if reason := find_endless(lines):
                    _kill(process)
                    raise StepFailed(
                        f"{command} was stopped: {reason}", LATE_REMEDY, tail("".join(lines))
                    )
        output = "".join(line for line in lines if not _WARNING.match(line))
        if late.is_set():
            raise StepFailed(
                f"{command} was stopped: it did not end within {self.max_seconds / 60:.0f} minutes",
                LATE_REMEDY,
                tail("".join(lines)),
            )
        if process.returncode:
            problem = f"{command} ended with {process.returncode}"
            raise StepFailed(problem, find_remedy(output), tail(output))
        return output

    @contextmanager
    def _started(self, arguments: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
        """Start `s`; kill it with its children if its output is not read to the end."""
        with (
            _log_folder(self.environment) as folder,
            subprocess.Popen(  # noqa: S603  the command is ours
                (*self.command, *arguments, "-t", TEMPLATE, *self.options),
                env={**self.environment, LOG_FOLDER: folder},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            ) as process,
        ):
            try:
                yield process
            except BaseException:
                _kill(process)
                # After a KeyboardInterrupt Popen itself waits for a quarter of a second only.
                process.wait()
                raise

    def _log_line(self, line: str) -> str:
        plain = _replace_all(self._secrets, _COLOUR.sub("", line))
        self.log.write(plain)
        self.log.flush()
        self.on_line(plain.strip())
        return plain


@contextmanager
def _time_limit(process: subprocess.Popen[str], seconds: float) -> Iterator[Event]:
    """Kill the process after so many seconds, and set the event."""
    late = Event()

    def stop() -> None:
        late.set()
        _kill(process)

    timer = Timer(seconds, stop)
    timer.start()
    try:
        yield late
    finally:
        timer.cancel()


@contextmanager
def _log_folder(environment: Mapping[str, str]) -> Iterator[str]:
    """Name a folder for the log of one command, and remove it afterwards.

    The components write their inputs there, also the URL of the web hook.
    """
    name = f"encryption-guard-{uuid4()}"
    try:
        yield name
    finally:
        shutil.rmtree(root_folder(environment) / "logs" / name, ignore_errors=True)


def root_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder where Serverless Devs keeps its aliases and logs."""
    home = environment.get("serverless_devs_config_home") or environment.get("HOME", "")
    return Path(home, ".s")


def _kill(process: subprocess.Popen[str]) -> None:
    # `s` starts other processes, which would keep its output open.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def redact(text: str, environment: Mapping[str, str]) -> str:
    """Replace every secret of the environment in the text with asterisks.

    >>> redact("key made-up-secret", {"ACCESS_KEY_SECRET": "made-up-secret"})
    'key ****'
    """
    return _replace_all(find_secrets(environment), text)


def _replace_all(secrets: frozenset[str], text: str) -> str:
    for secret in secrets:
        text = text.replace(secret, "****")
    return text


def find_secrets(environment: Mapping[str, str]) -> frozenset[str]:
    """Return the secret values of the environment, including those in an access key's JSON."""
    found = {value for name, value in environment.items() if _SECRET.search(name)}
    for name, value in environment.items():
        if name.endswith(ALIAS_ENDING):
            key = as_object(value) or {}
            found |= {str(part) for name, part in key.items() if _SECRET.search(name)}
    return frozenset(value for value in found if len(value) >= MIN_SECRET_LENGTH)


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


def find_endless(lines: Sequence[str]) -> str | None:
    """Return why the last line shows that the command would wait for ever, or None."""
    last = lines[-1]
    if _DELETE_FAILED.search(last):
        return "the stack is in DELETE_FAILED"
    if not _ERROR.match(last):
        return None
    same = [_error_of(line) for line in lines].count(_error_of(last))
    return f"it logged the same error {same} times" if same >= MAX_SAME_ERRORS else None


def _error_of(line: str) -> str:
    """Return a logged error without what differs each time: its time, and ids of requests."""
    return _ID.sub("", _ERROR.sub("", line))


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
