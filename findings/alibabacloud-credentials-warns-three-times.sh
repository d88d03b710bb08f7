#!/usr/bin/env bash
# Expected: a library's logger has no handlers; the program's handler prints a warning once.
# Happens:  three modules each add a handler to the same logger at import. One warning becomes three
#           lines on standard error, and four once the program sets up its own logging.
# Version:  alibabacloud-credentials 1.0.12
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'alibabacloud-credentials==1.0.12' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

cat >"$folder/program.py" <<'EOF'
import logging
import shlex
import sys

if sys.argv[1:] == ["own"]:
    logging.basicConfig()

from alibabacloud_credentials.provider.external import ExternalCredentialsProvider

KEY = '{"mode": "AK", "access_key_id": "made-up-id", "access_key_secret": "made-up-secret"}'
# A key without an expiry is a reason for one warning.
ExternalCredentialsProvider(process_command=shlex.join(["echo", KEY])).get_credentials()
print(f"handlers of the library's logger: {len(logging.getLogger('credentials').handlers)}")
EOF

HOME=$folder "$python" -I "$folder/program.py" >"$folder/handlers" 2>"$folder/bare"
HOME=$folder "$python" -I "$folder/program.py" own >/dev/null 2>"$folder/own"
bare=$(grep -c 'stale time' "$folder/bare" || true)
own=$(grep -c 'stale time' "$folder/own" || true)

"$python" -m pip list --disable-pip-version-check | grep '^alibabacloud-credentials '
cat "$folder/handlers"
echo "one warning, printed $bare times; with logging.basicConfig() in the program $own times:"
sed 's/^/    /' "$folder/own"

[ "$bare" = 3 ] || { echo "changed: one warning is printed $bare times" >&2; exit 1; }
[ "$own" = 4 ] || { echo "changed: beside the program's own handler it is printed $own times" >&2; exit 1; }
