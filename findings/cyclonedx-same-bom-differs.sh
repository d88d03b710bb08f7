#!/usr/bin/env bash
# Expected: one Bom object, written twice, gives the same JSON.
# Happens:  each output has new random values for every `bom-ref` that was not set. (A Bom also has
#           a random serial number, even with `serial_number=None`.) Setting each bom-ref avoids
#           this.
# Version:  cyclonedx-python-lib 11.12.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user 'cyclonedx-python-lib==11.12.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

"$python" -I - <<'EOF'
import json
import sys
from importlib.metadata import version

from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component
from cyclonedx.output.json import JsonV1Dot6


def twice(component: Component) -> tuple[str, str]:
    """The same Bom, written twice."""
    bom = Bom(components=[component])
    return JsonV1Dot6(bom).output_as_string(), JsonV1Dot6(bom).output_as_string()


def references(text: str) -> list[str]:
    return [component["bom-ref"] for component in json.loads(text)["components"]]


one, other = twice(Component(name="shop", version="1.0"))
given, again = twice(Component(name="shop", version="1.0", bom_ref="shop@1.0"))
serial = json.loads(JsonV1Dot6(Bom(serial_number=None)).output_as_string()).get("serialNumber")

print(f"cyclonedx-python-lib {version('cyclonedx-python-lib')}")
print(f"bom-ref not given: equal {one == other}, {references(one)} and then {references(other)}")
print(f"bom-ref given:     equal {given == again}, {references(given)} and then {references(again)}")
print(f"serial_number=None: {serial}")

if references(one) == references(other):
    sys.exit("changed: a bom-ref is the same in both outputs")
if given != again:
    sys.exit("changed: with a bom-ref of one's own the outputs still differ")
if serial is None:
    sys.exit("changed: serial_number=None leaves the serial number out")
EOF
