#!/usr/bin/env bash
# Expected: the ROS CDK refuses every number that is below the minimum of its property.
# Happens:  it checks neither the number 0 nor a minimum of 0. `message_retention_period` of a queue
#           has the minimum 60: `synth()` refuses 59, and writes 0 into the template.
#           `delay_seconds` has the minimum 0: `synth()` refuses a number above the maximum, and
#           writes -5 into the template.
# Version:  ros-cdk-mns 1.15.0, ros-cdk-core 1.15.0
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
command -v node >/dev/null || { echo 'cannot check: Node.js is not installed' >&2; exit 2; }
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'ros-cdk-mns==1.15.0' 'ros-cdk-core==1.15.0' 'jsii==1.85.0' ||
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
from ros_cdk_mns import RosQueue, RosQueueProps


def outcome(name: str, value: int) -> str:
    """The written properties of a queue with this one, or "refused"."""
    with TemporaryDirectory() as folder:
        app = core.App(outdir=folder)
        stack = core.Stack(app, "shop")
        RosQueue(stack, "orders", RosQueueProps(queue_name="orders", **{name: value}), True)
        try:
            app.synth()
        except RuntimeError as error:
            reasons = [f": {value} is {word} than" for word in ("less", "larger")]
            return "refused" if any(each in str(error) for each in reasons) else str(error)
        template = json.loads(Path(folder, "shop.template.json").read_text("utf-8"))
    return json.dumps(template["Resources"]["orders"]["Properties"])


print(f"ros-cdk-mns {version('ros-cdk-mns')}, ros-cdk-core {version('ros-cdk-core')}")
period, delay = "message_retention_period", "delay_seconds"
seen = {
    (name, value): outcome(name, value)
    for name, value in [(period, 59), (period, 0), (delay, 604801), (delay, -5)]
}
limits = {period: "60 to 604800", delay: "0 to 604800"}
for (name, value), what in seen.items():
    print(f"{name}={value} ({limits[name]}): {what}")

if seen[period, 59] != "refused":
    sys.exit("changed: 59 is not refused where the minimum is 60")
if seen[delay, 604801] != "refused":
    sys.exit("changed: 604801 is not refused where the maximum is 604800")
if seen[period, 0] != '{"QueueName": "orders", "MessageRetentionPeriod": 0}':
    sys.exit("changed: 0 is not written where the minimum is 60")
if seen[delay, -5] != '{"QueueName": "orders", "DelaySeconds": -5}':
    sys.exit("changed: -5 is not written where the minimum is 0")
PROGRAM
