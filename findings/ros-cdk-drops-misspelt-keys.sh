#!/usr/bin/env bash
# Expected: the ROS CDK refuses a key that it does not know, or writes it into the template.
# Happens:  it drops such a key of a dict without an error. In the full-text index of a log store it
#           knows `includeChinese`. A misspelt key, `IncludeChinese`, which a template has, and
#           `include_chinese`, the name in the CDK's Python class, are not written. The class itself
#           raises TypeError for a misspelt key.
# Version:  ros-cdk-sls 1.15.0, ros-cdk-core 1.15.0, jsii 1.85.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v node >/dev/null || { echo 'cannot check: Node.js is not installed' >&2; exit 2; }
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'ros-cdk-sls==1.15.0' 'ros-cdk-core==1.15.0' 'jsii==1.85.0' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

# The CDK runs in Node.js, and prints a warning about the version of Node.js: drop it.
cat >"$folder/node" <<'EOF'
#!/bin/sh
exec node "$@" 2>/dev/null
EOF
chmod +x "$folder/node"

env -i PATH="$PATH" HOME="$folder" TMPDIR="$folder" JSII_NODE="$folder/node" "$python" -I - <<'PROGRAM'
import json
import sys
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import ros_cdk_core as core
from ros_cdk_sls import RosIndex, RosIndexProps


def write(full_text: object) -> str:
    """The full-text index of a log store as it is written, or the error of `synth()`."""
    with TemporaryDirectory() as folder:
        try:
            app = core.App(outdir=folder)
            stack = core.Stack(app, "shop")
            names = {"project_name": "shop-logs", "logstore_name": "orders"}
            RosIndex(stack, "index", RosIndexProps(full_text_index=full_text, **names), True)
            app.synth()
        except (RuntimeError, TypeError) as error:
            return type(error).__name__
        template = json.loads(Path(folder, "shop.template.json").read_text("utf-8"))
    index = template["Resources"]["index"]["Properties"]["FullTextIndex"]
    return json.dumps(index, sort_keys=True)


def write_typed(key: str) -> str:
    """The same with an object of the CDK's class instead of a dict."""
    try:
        return write(RosIndex.FullTextIndexProperty(enable=True, **{key: True}))
    except TypeError as error:
        return type(error).__name__


versions = [f"{name} {version(name)}" for name in ("ros-cdk-sls", "ros-cdk-core", "jsii")]
print(", ".join(versions))
KEYS = ["includeChinese", "IncludeChinese", "include_chinese", "includeChines"]
dicts = {key: write({"enable": True, key: True}) for key in KEYS}
typed = {key: write_typed(key) for key in ("include_chinese", "include_chines")}
for key, written in dicts.items():
    print(f"dict with {key}: {written}")
for key, written in typed.items():
    print(f"class with {key}: {written}")

whole = json.dumps({"Enable": True, "IncludeChinese": True})
if dicts["includeChinese"] != whole:
    sys.exit("changed: includeChinese in a dict is not written as IncludeChinese")
if typed != {"include_chinese": whole, "include_chines": "TypeError"}:
    sys.exit("changed: the class does not write include_chinese and refuse include_chines")
for key in KEYS[1:]:
    if dicts[key] != json.dumps({"Enable": True}):
        sys.exit(f"changed: {key} in a dict is not dropped any more")
PROGRAM
