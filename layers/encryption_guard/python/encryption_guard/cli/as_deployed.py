"""The settings of the deployed function, for a sweep that has to decide as it does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from encryption_guard.errors import ConfigurationError
from encryption_guard.invocation import Invocation
from encryption_guard.settings import FunctionArn, Settings
from encryption_guard.untrusted import object_or_empty

# By template.yaml.
SWEEP: Final = "oss-tables-encryption-sweep"
# The settings that decide whether a bucket is encrypted.
NAMES: Final = ("GUARD_EXEMPTIONS", "GUARD_ALLOWED_ACCOUNTS")


def read_deployed(invocation: Invocation, regions: Sequence[str], account_id: str) -> Settings:
    """Return the settings with the exemptions and allowed accounts of the deployed sweep function.

    Raises ConfigurationError if no guard is deployed in a region, if those of two regions differ,
    or if they cannot be read; Unavailable if a later attempt may succeed.
    """
    deployed = {region: _read(invocation, region, account_id) for region in regions}
    first, *others = deployed.values()
    if any(each != first for each in others):
        raise ConfigurationError(
            f"The functions in {', '.join(regions)} have different {' or '.join(NAMES)}: sweep one"
            " region at a time."
        )
    return invocation.settings._replace(**first)


def _read(invocation: Invocation, region: str, account_id: str) -> dict[str, Any]:
    # The vendor's client is slow to import.
    from encryption_guard.services.function_compute import FunctionCompute

    arn = FunctionArn(SWEEP, region, account_id)
    if (function := FunctionCompute(invocation).read_function(arn)) is None:
        raise ConfigurationError(
            f"No guard is deployed in {region} of account {account_id}: run the command without"
            " --as-deployed, or choose another region."
        )
    variables = object_or_empty(function["environmentVariables"])
    given = {name: str(variables.get(name) or "") for name in NAMES}
    if given["GUARD_EXEMPTIONS"].startswith("file:"):
        raise ConfigurationError(
            f"The exemptions of {SWEEP} in {region} are in a file of its code"
            f" ({given['GUARD_EXEMPTIONS']}), which cannot be read: set GUARD_EXEMPTIONS in your"
            " shell, and run the command without --as-deployed."
        )
    settings = Settings.from_environment(given)
    return {
        "exemptions": settings.exemptions,
        "exemption_errors": settings.exemption_errors,
        "allowed_accounts": settings.allowed_accounts,
    }
