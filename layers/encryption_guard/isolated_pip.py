"""Runs pip with the settings that say where packages come from, and with no others.

pip takes every option from `PIP_*` variables and from pip.conf as well. There an index, a mirror, a
proxy and certificates have to count: without them nothing can be installed. `user = true`,
`PIP_TARGET`, `PIP_DRY_RUN` and the like must not: they change what is installed, or where.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from typing import NoReturn

# pip's options of the network and of package indexes, as its documentation groups them:
# https://pip.pypa.io/en/stable/cli/pip/ and https://pip.pypa.io/en/stable/cli/pip_install/
SOURCES = frozenset(
    {
        *("index-url", "pypi-url", "extra-index-url", "no-index", "find-links"),
        *(
            "refresh-package",
            "uploaded-prior-to",
            "trusted-host",
            "cert",
            "client-cert",
            "keyring-provider",
        ),
        *("proxy", "no-proxy-env", "timeout", "default-timeout", "retries", "resume-retries"),
        *("cache-dir", "no-cache-dir", "no-input", "use-feature", "use-deprecated"),
    }
)
# The sections of a pip.conf that an installation reads; a later one counts before an earlier one.
SECTIONS = ("global", "download", "install")
PIP = (sys.executable, "-m", "pip")
# `pip config` obeys the files that it reads: with `user = true` it would list no others, with
# `quiet` nothing, with `isolated` no user's, and with `python` those of another Python.
OBEYED = ("USER", "GLOBAL", "SITE", "QUIET", "VERBOSE", "ISOLATED")
PLAIN = {**{f"PIP_{name}": "0" for name in OBEYED}, "PIP_PYTHON": sys.executable}


def main() -> NoReturn:
    """Become pip, with the arguments of this program."""
    surroundings = dict(os.environ)  # noqa: TID251  pip's settings, not ours
    try:
        environment = isolated(surroundings)
    except subprocess.CalledProcessError as error:
        sys.exit(f"pip cannot read its own configuration:\n{error.stderr.strip()}")
    os.execve(PIP[0], [*PIP, *sys.argv[1:]], environment)  # noqa: S606  nothing here needs a shell


def isolated(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The environment in which pip finds the settings of where packages come from, and no other.

    Raises CalledProcessError, with pip's words, for a file that pip cannot read.
    """
    variables = {name: surroundings.get(variable(name), "") for name in SOURCES}
    settings = from_files(surroundings) | {name: text for name, text in variables.items() if text}
    return {
        **without_pip(surroundings),
        **{variable(name): text for name, text in settings.items()},
        # This one value makes pip read no file at all.
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def from_files(surroundings: Mapping[str, str]) -> dict[str, str]:
    """Those settings as pip itself finds them in its files, such as {"index-url": "…"}."""
    file = {name: surroundings[name] for name in ["PIP_CONFIG_FILE"] if name in surroundings}
    environment = {**without_pip(surroundings), **file, **PLAIN}
    listed = [line.partition("=")[::2] for line in ask("list", environment).splitlines()]
    # What stands in several files is listed in the order of their names: only `get` tells which
    # one counts.
    times = Counter(key for key, _ in listed)
    found = {}
    for section in SECTIONS:
        for key, value in listed:
            of, _, name = key.partition(".")
            if of == section and name in SOURCES:
                several = times[key] > 1
                found[name] = ask("get", environment, key) if several else ast.literal_eval(value)
    return found


def ask(command: str, environment: Mapping[str, str], *arguments: str) -> str:
    """What a command of `pip config` prints."""
    return subprocess.run(  # noqa: S603  every part of the command is ours or pip's
        [*PIP, "config", command, *arguments],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.strip()


def without_pip(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The surroundings without pip's variables."""
    return {name: text for name, text in surroundings.items() if not name.startswith("PIP_")}


def variable(name: str) -> str:
    """The variable that pip reads a setting from."""
    return f"PIP_{name.replace('-', '_').upper()}"


if __name__ == "__main__":
    main()
