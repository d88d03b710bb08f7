#!/usr/bin/env bash
# Expected: the host that the client takes for a region is `fcv3.<region>.aliyuncs.com`.
# Happens:  for ap-southeast-5 the host in the client's list ends with a tab, so it is no host name.
# Version:  alibabacloud-fc20230330 4.8.3
set -euo pipefail
unset PIP_DRY_RUN PIP_PREFIX PIP_ROOT PIP_TARGET

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
python=$folder/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --no-user \
    'alibabacloud-fc20230330==4.8.3' 'alibabacloud-tea-openapi==0.4.6' 'darabonba-core==1.0.9' ||
    { echo 'cannot check: the packages could not be installed' >&2; exit 2; }

HOME=$folder "$python" -I - <<'EOF'
import sys
from importlib.metadata import version

from alibabacloud_fc20230330.client import Client
from alibabacloud_tea_openapi.models import Config


def host(region: str) -> str:
    """The host that the client takes, without a request."""
    key = {"access_key_id": "made-up-id", "access_key_secret": "made-up-secret"}
    return Client(Config(region_id=region, **key))._endpoint


seen = {region: host(region) for region in ("ap-southeast-1", "ap-southeast-5")}
print(f"alibabacloud-fc20230330 {version('alibabacloud-fc20230330')}")
for region, name in seen.items():
    print(f"{region}: {name!r}")

if seen != {
    "ap-southeast-1": "fcv3.ap-southeast-1.aliyuncs.com",
    "ap-southeast-5": "fcv3.ap-southeast-5.aliyuncs.com\t",
}:
    sys.exit("changed: the host for ap-southeast-5 has no tab any more")
EOF
