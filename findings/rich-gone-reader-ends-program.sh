#!/usr/bin/env bash
# Expected: printing to a pipe whose reader has gone raises BrokenPipeError, as `print` does, so that a
#           program can say what it has done so far.
# Happens:  `Console.print` raises SystemExit(1): `except OSError` and `except Exception` do not see it,
#           nothing is said, and what comes after the call is not done.
# Version:  rich 15.0.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'rich==15.0.0' ||
    { echo 'could not look: the packages were not to be had' >&2; exit 2; }

cat >"$folder/show.py" <<'EOF_SHOW'
"""Prints three lines with what it is told to, to a reader that has gone, and tells what it met."""

import os
import sys

from rich.console import Console

ours, theirs = os.pipe()
os.close(ours)
os.dup2(theirs, 1)
write = Console().print if sys.argv[1] == "rich" else lambda line: print(line, flush=True)
try:
    for number in range(3):
        write(f"line {number}")
except BaseException as error:
    print(f"{type(error).__name__}, an Exception: {isinstance(error, Exception)}", file=sys.stderr)
os._exit(0)
EOF_SHOW

"$python" -c 'import importlib.metadata as m; print("rich", m.version("rich"))'
plain=$("$python" -I "$folder/show.py" print 2>&1)
rich=$("$python" -I "$folder/show.py" rich 2>&1)
echo "print:          $plain"
echo "Console.print:  $rich"

[ "$plain" = 'BrokenPipeError, an Exception: True' ] || { echo 'changed: print has another error'; exit 1; }
[ "$rich" = 'SystemExit, an Exception: False' ] || { echo 'changed: rich does not end the program'; exit 1; }
