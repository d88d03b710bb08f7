#!/usr/bin/env bash
# Expected: every pip gives the same verdict on a lock that pins every package with its hash.
# Happens:  pytest-cov requires `coverage[toml]`, the lock pins `coverage==7.11.0`. pip 23.2.1
#           treats the name with the extra as another package, finds its newest release, and refuses
#           the lock: "all requirements must have their versions pinned". pip 26.3 accepts the same
#           file. While the lock pins the newest coverage, the error does not show; it appears with
#           the next release of coverage.
# Version:  pip 23.2.1 (23.3 is the first one that accepts it)
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
pip() { "$python" -m pip --disable-pip-version-check "$@"; }
use() {
    pip install --quiet --no-user "pip==$1" ||
        { echo 'cannot check: the packages could not be installed' >&2; exit 2; }
}

# The lock pins every package that pytest-cov needs.
use 26.3
pip download --quiet --only-binary :all: --dest "$folder/files" \
    'pytest-cov==7.0.0' 'coverage==7.11.0' 'pytest==8.4.2' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }
for file in "$folder"/files/*.whl; do
    name=$(basename "$file")
    version=${name#*-}
    echo "${name%%-*}==${version%%-*} $(pip hash "$file" | tail -n 1)"
done >"$folder/lock.txt"
sed 's/^coverage==/coverage[toml]==/' "$folder/lock.txt" >"$folder/with-extra.txt"

verdict() {
    if pip install --dry-run --quiet --no-user --require-hashes -r "$folder/$1" 2>"$folder/errors"; then
        echo accepted
    elif grep -q 'coverage\[toml\]' "$folder/errors" &&
        grep -q 'all requirements must have their versions pinned' "$folder/errors"; then
        echo refused
    else
        cat "$folder/errors" >&2
        echo 'another error'
    fi
}

new=$(verdict lock.txt)
use 23.2.1
old=$(verdict lock.txt)
grep -m 1 'all requirements' "$folder/errors" || true
extra=$(verdict with-extra.txt)

echo "$("$python" --version), lock with coverage==7.11.0"
echo "pip 26.3:   $new"
echo "pip 23.2.1: $old; with coverage[toml]==7.11.0 instead: $extra"

[ "$new" = accepted ] || { echo 'changed: pip 26.3 does not accept the lock' >&2; exit 1; }
[ "$old" = refused ] || { echo 'changed: pip 23.2.1 does not refuse the lock' >&2; exit 1; }
[ "$extra" = accepted ] || { echo 'changed: naming the extra does not help pip 23.2.1' >&2; exit 1; }
