"""The access key of the function's role or of the operator's shell.

Only this module reads the access key.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from encryption_guard.errors import ConfigurationError

# Printable ASCII without the space, which every header accepts.
_HEADER_VALUE = "[!-~]*"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """An access key for one invocation, temporary if it has a security token."""

    access_key_id: str
    access_key_secret: str
    security_token: str | None = None

    def __post_init__(self) -> None:
        parts = (self.access_key_id, self.access_key_secret, self.security_token or "")
        if not all(re.fullmatch(_HEADER_VALUE, text) for text in parts):
            # A library that cannot send such a value would write all of it to its log.
            raise ConfigurationError(
                "ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET or"
                " ALIBABA_CLOUD_SECURITY_TOKEN contains an invalid character, such as a space or a"
                " line break; set the three variables again."
            )

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id[:4]}...)"

    @classmethod
    def read(cls, context: object = None) -> Credentials:
        """Read `context.credentials` if present, else the current environment variables.

        On python3.12 Function Compute no longer sets `context.credentials`. It renews the
        environment variables instead:
        https://www.alibabacloud.com/help/en/functioncompute/fc/environment-variables

        Raises ConfigurationError if neither contains a valid access key.
        """
        from_context = getattr(context, "credentials", None)
        if from_context and from_context.access_key_id:
            token = getattr(from_context, "security_token", None)
            found = cls(from_context.access_key_id, from_context.access_key_secret, token or None)
        else:
            found = cls(
                os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_ID", ""),
                os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ""),
                os.environ.get("ALIBABA_CLOUD_SECURITY_TOKEN") or None,
            )
        if not found.access_key_id or not found.access_key_secret:
            raise _missing_credentials(in_function=context is not None)
        return found


def _missing_credentials(*, in_function: bool) -> ConfigurationError:
    hint = (
        "give the function a role, and check that its setting disableInjectCredentials is None:"
        " Env, Request and All remove the role's credentials"
        if in_function
        else "set them in your shell"
    )
    return ConfigurationError(
        f"ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not both set; {hint}."
    )
