#!/usr/bin/env bash
# Expected: the provider caches a key from a command if the key has no expiry (a long-lived key).
# Happens:  each `get_credentials()` runs the command again, so each request to sign does. If the
#           answer has an `expiration`, the command runs once.
# Version:  alibabacloud-credentials 1.0.12
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'alibabacloud-credentials==1.0.12' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

# The command appends a line to a file and prints a key; both are its arguments.
cat >"$folder/key" <<'EOF'
#!/bin/sh
echo run >>"$1"
printf '%s\n' "$2"
EOF
chmod +x "$folder/key"

HOME=$folder "$python" -I - "$folder" <<'EOF'
import json
import logging
import shlex
import sys
from importlib.metadata import version
from pathlib import Path

from alibabacloud_credentials.provider.external import ExternalCredentialsProvider

logging.disable()
folder = Path(sys.argv[1])
KEY = {"mode": "AK", "access_key_id": "made-up-id", "access_key_secret": "made-up-secret"}


def runs(name: str, **more: str) -> int:
    """How often the command is run for five requests."""
    command = [str(folder / "key"), str(folder / name), json.dumps({**KEY, **more})]
    provider = ExternalCredentialsProvider(process_command=shlex.join(command))
    for _ in range(5):
        if provider.get_credentials().get_access_key_id() != "made-up-id":
            sys.exit("changed: the key is not that of the command")
    return len((folder / name).read_text("utf-8").splitlines())


lasting = runs("lasting")
expiring = runs("expiring", expiration="2999-01-01T00:00:00Z")

print(f"alibabacloud-credentials {version('alibabacloud-credentials')}")
print(f"key without an expiry, asked for 5 times:  the command ran {lasting} times")
print(f"key that expires, asked for 5 times:       the command ran {expiring} time(s)")

if lasting != 5:
    sys.exit("changed: the command is not run each time for a key without an expiry")
if expiring != 1:
    sys.exit("changed: the command is not run once for a key that expires")
EOF
