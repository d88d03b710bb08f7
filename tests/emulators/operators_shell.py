"""An operator of the emulated cloud at a shell of their own: the real command, in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from unittest.mock import patch

from click.testing import CliRunner, Result

from encryption_guard.cli import main
from encryption_guard.enforcement import handler
from tests.emulators.access_keys import AccessKey
from tests.emulators.cloud import (
    ACCOUNT,
    EXTERNAL_ID,
    OWNER,
    QUEUE_ARN,
    REPOSITORY,
    EmulatedCloud,
    member_role,
)
from tests.unit.fakes import forget_logger, skipping

PROGRAM = "from encryption_guard.cli import main; main()"
# A RAM user of the account: RAM gives no role to the account itself.
OPERATOR = AccessKey("LTAI-emulated-user", "user-secret", ACCOUNT, user_name="operator")


def admit(cloud: EmulatedCloud, key: AccessKey = OPERATOR) -> None:
    """Let this key call every service, and let the role of each member trust it."""
    services = (cloud.tables, cloud.queue, cloud.api, cloud.sts, cloud.log, cloud.directory)
    for service in services:
        service.admit(key)
    for account_id in cloud.member_roles:
        cloud.sts.plant(member_role(account_id, key))


def environment(
    cloud: EmulatedCloud, *, columns: int | None = None, key: AccessKey = OWNER
) -> dict[str, str]:
    """What such a shell has set: a key (the owner's), where everything is, and its width."""
    exemptions = cloud.function.function.environment.get("GUARD_EXEMPTIONS")
    return {
        **({"GUARD_EXEMPTIONS": exemptions} if exemptions else {}),
        **({"COLUMNS": str(columns)} if columns else {}),
        "PATH": os.environ.get("PATH", ""),  # noqa: TID251  (no setting: a process needs it)
        "PYTHONPATH": str(REPOSITORY / "layers" / "encryption_guard" / "python"),
        "ALIBABA_CLOUD_ACCESS_KEY_ID": key.id,
        "ALIBABA_CLOUD_ACCESS_KEY_SECRET": key.secret,
        "GUARD_DEAD_LETTER_QUEUE": QUEUE_ARN,
        "GUARD_OSS_TABLES_ENDPOINT": cloud.tables.url,
        "GUARD_SMQ_ENDPOINT": cloud.queue.url,
        "GUARD_FC_ENDPOINT": cloud.api.url,
        "GUARD_STS_ENDPOINT": cloud.sts.url,
        "GUARD_LOG_ENDPOINT": cloud.log.url,
        "GUARD_DIRECTORY_ENDPOINT": cloud.directory.url,
        "GUARD_EXTERNAL_ID": EXTERNAL_ID,
        "SSL_CERT_FILE": str(cloud.certificate),
    }


def start(
    cloud: EmulatedCloud,
    *arguments: str,
    program: str = PROGRAM,
    columns: int | None = None,
    key: AccessKey = OWNER,
) -> subprocess.Popen[str]:
    """Begin `encryption-guard` with these arguments."""
    return subprocess.Popen(
        [sys.executable, "-c", program, *arguments],
        env=environment(cloud, columns=columns, key=key),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(
    cloud: EmulatedCloud, *arguments: str, columns: int | None = None, key: AccessKey = OWNER
) -> subprocess.CompletedProcess[str]:
    """Run `encryption-guard` with these arguments to its end."""
    with start(cloud, *arguments, columns=columns, key=key) as process:
        output, errors = process.communicate(timeout=120)
    return subprocess.CompletedProcess(arguments, process.returncode, output, errors)


def invoke(
    cloud: EmulatedCloud,
    *arguments: str,
    columns: int | None = None,
    key: AccessKey = OWNER,
    stdin: bytes = b"",
    **variables: str | None,
) -> Result:
    """Run `encryption-guard` in this process, in such a shell with these variables besides.

    It does not sleep: the queue's time and its own are ahead by what it would have slept.
    """
    shell = dict.fromkeys(name for name in os.environ if name.startswith("GUARD_"))  # noqa: TID251
    forget_logger()
    try:
        given = environment(cloud, columns=columns, key=key)
        with patch.object(handler, "Clock", lambda: skipping(cloud.time)):
            variables = {**shell, **given, **variables}
            return CliRunner().invoke(main, arguments, input=stdin, env=variables)
    finally:
        forget_logger()
