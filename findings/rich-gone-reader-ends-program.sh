#!/usr/bin/env bash
# Expected: printing to a pipe without a reader raises BrokenPipeError, as `print` does, so that a
#           program can report what it has done so far.
# Happens:  `Console.print` raises SystemExit(1). `except OSError` and `except Exception` do not
#           catch it: the program prints no message and does not run the code after the call.
# Version:  rich 15.0.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'rich==15.0.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

cat >"$folder/show.py" <<'EOF_SHOW'
"""Print three lines to a pipe without a reader, with `print` or rich, and report the error."""

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
