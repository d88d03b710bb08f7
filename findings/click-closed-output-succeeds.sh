#!/usr/bin/env bash
# Expected: a command that cannot write its results fails, as `echo done >&-` and `cat file >&-` do.
# Happens:  with standard output closed, `click.echo` writes nothing and raises nothing, and the
#           command ends with 0. Python sets such a stream to None, and click skips it. With a full
#           disk it raises.
# Version:  click 8.5.1
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'click==8.5.1' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

cat >"$folder/report.py" <<'EOF_REPORT'
import click


@click.command()
def report() -> None:
    """Print a report."""
    click.echo("three of three are well")


report()
EOF_REPORT

"$python" -c 'import importlib.metadata as m; print("click", m.version("click"))'
closed=0 full=0
"$python" -I "$folder/report.py" >&- 2>"$folder/said" || closed=$?
said=$(wc -c <"$folder/said")
"$python" -I "$folder/report.py" >/dev/full 2>/dev/null || full=$?
echo "standard output closed:  exit status $closed, $said bytes on standard error"
echo "a full disk:             exit status $full"

[ "$closed" = 0 ] && [ "$said" = 0 ] || { echo 'changed: a closed output is reported'; exit 1; }
[ "$full" != 0 ] || { echo 'changed: a full disk is not reported any more'; exit 1; }
