"""Read an access key with `alibabacloud-credentials`, the vendor's library, without its traps.

It is slow to import, and reads variables at import, so only a command that needs it loads it:
- Its loggers print warnings three times and, with DEBUG=sdk, every token: they are silenced.
- A profile that lacks a field takes it from a variable of the environment: it finds none.
- Its switches know only the word `true`: they know each word that says yes.
- It starts a thread for each role of an instance: the thread is switched off.
- Its requests take any HTTP_PROXY, wait long, follow redirects, and trust other certificates than
  the guard's do: they go through the guard's own transport.
- Its errors quote answers, which contain keys: the sentences are the guard's own.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import httpx

from encryption_guard.cli.credential_sources import ASK_SECONDS, Source, is_on, no_credentials
from encryption_guard.credentials import Credentials
from encryption_guard.errors import ConfigurationError
from encryption_guard.http import new_request, send
from encryption_guard.invocation import Invocation
from encryption_guard.untrusted import as_text, lowercase_keys, object_or_empty, shortened

LOGGERS: Final = ("credentials", "alibabacloud-tea")
# The fields of a profile that the library would take from the environment.
FIELDS: Final = (
    *("access_key_id", "access_key_secret", "security_token"),
    *("role_arn", "oidc_provider_arn", "oidc_token_file"),
)
SWITCHES: Final = {
    "ecs_metadata_disabled": "ALIBABA_CLOUD_ECS_METADATA_DISABLED",
    "imds_v1_disabled": "ALIBABA_CLOUD_IMDSV1_DISABLED",
    "enable_vpc": "ALIBABA_CLOUD_VPC_ENDPOINT_ENABLED",
}
_STS_HOST: Final = re.compile(r"sts(-vpc)?(\.[a-z0-9-]+)?\.aliyuncs\.com")


class VendorKey:
    """The access key of one source, as the vendor's provider gives it; not thread-safe."""

    def __init__(self, source: Source, invocation: Invocation) -> None:
        self.source = source
        self._invocation = invocation
        self._provider: Any = None

    def read(self, renew: bool) -> Credentials:
        """Return the provider's key; with `renew` not one that the provider has kept.

        Raises ConfigurationError if the source gives no valid key.
        """
        requests = _Requests(self._invocation, self.source.seconds)
        try:
            with _sending_through(requests):
                if renew or not self._provider:
                    self._provider = _open_provider(self.source)
                key = self._provider.get_credentials()
        except Exception as error:  # whatever the library raises is about this source
            raise self._unusable(requests.failure or _words_of(error)) from None
        return self._checked(
            key.get_access_key_id(), key.get_access_key_secret(), key.get_security_token()
        )

    def _checked(self, key_id: object, secret: object, token: object) -> Credentials:
        if not (isinstance(key_id, str) and isinstance(secret, str) and key_id and secret):
            raise self._unusable("it gives no access key")
        try:
            return Credentials(key_id, secret, as_text(token))
        except ConfigurationError:
            # The sentence of the error is about the variables of the shell.
            raise self._unusable("its access key contains an invalid character") from None

    def _unusable(self, reason: str) -> ConfigurationError:
        source = self.source
        if source.kind == "ecs" and not source.variable:
            return no_credentials(reason)
        name = source.name[0].upper() + source.name[1:]
        return ConfigurationError(
            f"{name} cannot be used: {reason}. No other credentials are tried: {source.advice}."
        )


def _open_provider(source: Source) -> Any:
    providers = _load()
    arguments = source.arguments
    match source.kind:
        case "profile":
            provider = providers.CLIProfileCredentialsProvider(**arguments)
            # It would write each key that a command prints into config.json.
            provider._get_external_credential_update_callback = lambda: None
            return provider
        case "uri":
            return providers.URLCredentialsProvider(**arguments)
        case "oidc":
            return providers.OIDCRoleArnCredentialsProvider(**arguments)
        case "ini":
            return providers.ProfileCredentialsProvider(**arguments)
        case _:
            return providers.EcsRamRoleCredentialsProvider(**arguments)


def _load() -> Any:
    """Import the library, and close its traps."""
    from alibabacloud_credentials import provider
    from alibabacloud_credentials.utils import auth_util

    for name in LOGGERS:
        logger = logging.getLogger(name)
        # Without a handler, Python would print warnings by its last resort.
        logger.handlers, logger.propagate = [logging.NullHandler()], False
    os.environ.pop("DEBUG", None)
    for field in FIELDS:
        setattr(auth_util, f"environment_{field}", None)
    for switch, variable in SWITCHES.items():
        word = "true" if is_on(os.environ.get(variable)) else "false"
        setattr(auth_util, f"environment_{switch}", word)
    defaults = provider.EcsRamRoleCredentialsProvider.__init__.__kwdefaults__
    defaults["async_update_enabled"] = False
    return provider


@contextmanager
def _sending_through(requests: _Requests) -> Iterator[None]:
    """Let the library send its requests through the guard's transport."""
    from Tea.core import TeaCore

    own = TeaCore.__dict__["do_action"]
    TeaCore.do_action = requests.send
    try:
        yield
    finally:
        TeaCore.do_action = own


class _VendorAnswer(NamedTuple):
    """What the library reads of an answer."""

    status_code: int
    body: bytes


class _Requests:
    """The way that the library's requests go, for one question.

    The first answer has to come within `seconds`; then there is time for others. `failure` says
    what was wrong with the last answer. It quotes none, because an answer may contain a key.
    """

    def __init__(self, invocation: Invocation, seconds: float) -> None:
        self._invocation = invocation
        self._seconds = seconds
        self._begun: float | None = None
        self.failure = ""

    def send(self, request: Any, _: object = None) -> _VendorAnswer:
        """Send a `TeaRequest`, as `TeaCore.do_action` does; raises OSError without an answer."""
        from Tea.core import TeaCore

        url = TeaCore.compose_url(request)
        given = {name.lower(): value for name, value in request.headers.items()}
        headers = {name: value for name, value in given.items() if name != "host"}
        host = urlsplit(url).hostname
        until = self._deadline()
        try:
            made = new_request(
                request.method,
                self._routed(url),
                headers=headers,
                content=(request.body or "").encode(),
            )
            answer = send(self._invocation.transport, made, until=until)
        except (httpx.TransportError, httpx.InvalidURL) as error:
            self.failure = f"{host} gave no answer ({type(error).__name__})"
            raise OSError(self.failure) from error
        self._seconds = ASK_SECONDS
        code = as_text(lowercase_keys(object_or_empty(answer.body)).get("code")) or ""
        word = f" {shortened(code)}" if code and answer.status != 200 else ""
        self.failure = f"{host} answered {answer.status}{word} and gave no access key"
        return _VendorAnswer(answer.status, answer.body)

    def _deadline(self) -> float:
        now = self._invocation.clock.monotonic()
        # Not earlier: the import of the library may take longer than an answer may.
        self._begun = now if self._begun is None else self._begun
        if now >= self._begun + self._seconds:
            raise OSError(self.failure)
        return self._begun + self._seconds

    def _routed(self, url: str) -> str:
        """Return the URL at GUARD_STS_ENDPOINT, if that is set, for a request to STS."""
        endpoint, host = self._invocation.settings.sts_endpoint, urlsplit(url).hostname or ""
        if not endpoint or not _STS_HOST.fullmatch(host):
            return url
        return endpoint + url.partition(host)[2]


def _words_of(error: Exception) -> str:
    """Return the first line of an error of the library's own, else only the name of the error."""
    # The text of any other error may quote a file or an answer, and so a key.
    name = type(error).__name__
    if name not in ("CredentialException", "ValueError") or not str(error):
        return f"the vendor's library raised {name}"
    return shortened(str(error).splitlines()[0].rstrip("."))
