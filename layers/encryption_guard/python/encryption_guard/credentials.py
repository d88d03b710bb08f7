"""An access key: of the function's role, or of an operator's shell; its only reader."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from encryption_guard.errors import ConfigurationError

# What a key may consist of, since it has to fit into a header.
_SENDABLE = "[!-~]*"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """An access key, temporary if it comes with a token; it belongs to one invocation."""

    access_key_id: str
    access_key_secret: str
    security_token: str | None = None

    def __post_init__(self) -> None:
        parts = (self.access_key_id, self.access_key_secret, self.security_token or "")
        if not all(re.fullmatch(_SENDABLE, text) for text in parts):
            # Whichever it is: a library that cannot send it would tell all of it to its log.
            raise ConfigurationError(
                "ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET or"
                " ALIBABA_CLOUD_SECURITY_TOKEN holds what no key does, such as a space or the end"
                " of a line; set them anew."
            )

    def __repr__(self) -> str:
        return f"Credentials({self.access_key_id[:4]}...)"

    @classmethod
    def read(cls, context: object = None) -> Credentials:
        """Take `context.credentials` where there is one, else what the environment holds now.

        Function Compute has dropped `context.credentials` on python3.12 and renews the environment
        variables instead:
        https://www.alibabacloud.com/help/en/functioncompute/fc/environment-variables

        Raises ConfigurationError where neither holds an access key.
        """
        held = getattr(context, "credentials", None)
        if held and held.access_key_id:
            token = getattr(held, "security_token", None)
            found = cls(held.access_key_id, held.access_key_secret, token or None)
        else:
            found = cls(
                os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_ID", ""),
                os.environ.get("ALIBABA_CLOUD_ACCESS_KEY_SECRET", ""),
                os.environ.get("ALIBABA_CLOUD_SECURITY_TOKEN") or None,
            )
        if not found.access_key_id or not found.access_key_secret:
            raise _no_credentials(in_function=context is not None)
        return found


def _no_credentials(*, in_function: bool) -> ConfigurationError:
    hint = (
        "give the function a role, and see that its setting disableInjectCredentials is None: Env,"
        " Request and All take the role's credentials away"
        if in_function
        else "set them in your shell"
    )
    return ConfigurationError(
        f"ALIBABA_CLOUD_ACCESS_KEY_ID and ALIBABA_CLOUD_ACCESS_KEY_SECRET are not both set; {hint}."
    )
