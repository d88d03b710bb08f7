"""Runs pip with the settings that say where packages come from, and with no others.

pip takes every option from `PIP_*` variables and from pip.conf as well. There an index, a mirror, a
proxy and certificates have to count: without them nothing can be installed. `user = true`,
`PIP_TARGET`, `PIP_DRY_RUN` and the like must not: they change what is installed, or where.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from typing import NoReturn

from pip._internal.configuration import Configuration
from pip._internal.exceptions import ConfigurationError

# pip's options of the network and of package indexes, as its documentation groups them:
# https://pip.pypa.io/en/stable/cli/pip/ and https://pip.pypa.io/en/stable/cli/pip_install/
SOURCES = frozenset(
    {
        *("index-url", "pypi-url", "extra-index-url", "no-index", "find-links", "refresh-package"),
        *("uploaded-prior-to", "trusted-host", "cert", "client-cert", "keyring-provider", "proxy"),
        *("no-proxy-env", "timeout", "default-timeout", "retries", "resume-retries", "cache-dir"),
        *("no-cache-dir", "no-input", "use-feature", "use-deprecated"),
    }
)
VARIABLES = {f"PIP_{name.replace('-', '_').upper()}": name for name in SOURCES}
# The sections of a pip.conf that an installation reads; a later one counts before an earlier one.
SECTIONS = ("global", "download", "install")


def main() -> NoReturn:
    """Become pip, with the arguments of this program."""
    try:
        environment = isolated(dict(os.environ))  # noqa: TID251  pip's settings, not ours
    except ConfigurationError as error:
        sys.exit(f"pip cannot read its own configuration:\n{error}")
    command = [sys.executable, "-m", "pip", *sys.argv[1:]]
    os.execve(command[0], command, environment)  # noqa: S606  nothing here needs a shell


def isolated(surroundings: Mapping[str, str]) -> dict[str, str]:
    """The environment in which pip finds the settings of where packages come from, and no other."""
    return {
        **{name: text for name, text in surroundings.items() if not name.startswith("PIP_")},
        **from_files(),
        **{name: text for name, text in surroundings.items() if text and name in VARIABLES},
        # This one value makes pip read no file at all.
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def from_files() -> dict[str, str]:
    """Those settings as pip itself finds them in its files, by the variables that mean the same.

    `pip config` would not do: where a setting stands in several files it does not tell which one
    counts, and it obeys what it reads, such as `user` and `quiet`.
    """
    configuration = Configuration(isolated=False)
    configuration.load()
    found = {}
    for section in SECTIONS:
        for variable, name in VARIABLES.items():
            with suppress(ConfigurationError):
                found[variable] = str(configuration.get_value(f"{section}.{name}"))
    return found


if __name__ == "__main__":
    main()
