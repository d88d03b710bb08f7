"""Run pip with only those of its settings that say where packages come from.

pip reads every option also from `PIP_*` variables and from pip.conf. An index, a mirror, a proxy
and certificates must stay in force, because an installation may need them. `user = true`,
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

# The options for the network and for package indexes, as pip's documentation groups them:
# https://pip.pypa.io/en/stable/cli/pip/ and https://pip.pypa.io/en/stable/cli/pip_install/
SOURCE_OPTIONS = frozenset(
    {
        *("index-url", "pypi-url", "extra-index-url", "no-index", "find-links", "refresh-package"),
        *("uploaded-prior-to", "trusted-host", "cert", "client-cert", "keyring-provider", "proxy"),
        *("no-proxy-env", "timeout", "default-timeout", "retries", "resume-retries", "cache-dir"),
        *("no-cache-dir", "no-input", "use-feature", "use-deprecated"),
    }
)
VARIABLES = {f"PIP_{name.replace('-', '_').upper()}": name for name in SOURCE_OPTIONS}
# The sections of pip.conf that an installation reads; a later one overrides an earlier one.
SECTIONS = ("global", "download", "install")


def main() -> NoReturn:
    """Replace this process with pip and pass on the arguments."""
    try:
        environment = isolate(dict(os.environ))  # noqa: TID251  pip's settings, not ours
    except ConfigurationError as error:
        sys.exit(f"pip cannot read its own configuration:\n{error}")
    command = [sys.executable, "-m", "pip", *sys.argv[1:]]
    os.execve(command[0], command, environment)  # noqa: S606  nothing here needs a shell


def isolate(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment with the source options as the only settings of pip."""
    return {
        **{name: value for name, value in environment.items() if not name.startswith("PIP_")},
        **read_config_files(),
        **{name: value for name, value in environment.items() if value and name in VARIABLES},
        # With this value pip reads no configuration file.
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }


def read_config_files() -> dict[str, str]:
    """Return the source options of pip's configuration files as `PIP_*` variables.

    `pip config` cannot replace this. It does not show which of several files takes precedence,
    and it obeys options in them, such as `user` and `quiet`.
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
