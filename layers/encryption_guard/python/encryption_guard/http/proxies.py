"""Proxies of the environment, which the guard uses only if GUARD_TRUST_ENV is true.

HTTPS_PROXY counts before ALL_PROXY, and NO_PROXY lists the hosts that need no proxy. The lower-case
form of each name counts first. The proxy only opens a tunnel (CONNECT): the guard verifies the TLS
certificate of the service as usual. A request without TLS uses no proxy, because the proxy could
read its signature.
"""

from __future__ import annotations

from urllib.request import getproxies_environment, proxy_bypass

import httpcore
import httpx

from encryption_guard.errors import ConfigurationError
from encryption_guard.http import open_transport
from encryption_guard.invocation import DeadlineTransport


class _ProxiedTransport(httpx.BaseTransport):
    """A transport that sends each request directly or through the proxy of the environment."""

    def __init__(self, direct: DeadlineTransport, through_proxy: DeadlineTransport) -> None:
        self._direct = direct
        self._through_proxy = through_proxy

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request."""
        bypassed = proxy_bypass(request.url.netloc.decode("ascii"))
        is_direct = request.url.scheme != "https" or bypassed
        return (self._direct if is_direct else self._through_proxy).handle_request(request)

    def close(self) -> None:
        """Close every connection."""
        self._direct.close()
        self._through_proxy.close()


def with_environment_proxy(direct: DeadlineTransport) -> DeadlineTransport:
    """Return a transport that uses the environment's proxy, or `direct` if there is none.

    Raises ConfigurationError if the variable does not contain the URL of an HTTP proxy.
    """
    proxies = getproxies_environment()
    for scheme in ("https", "all"):
        if given := proxies.get(scheme):
            through_proxy = open_transport(proxy=_parse_proxy(given, f"{scheme}_PROXY"))
            return DeadlineTransport(_ProxiedTransport(direct, through_proxy))
    return direct


def _parse_proxy(given: str, variable: str) -> httpcore.Proxy:
    try:
        url = httpx.URL(given if "://" in given else f"http://{given}")
        if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
            raise ValueError
    except (httpx.InvalidURL, ValueError):
        # The message omits the value, which may contain a password.
        raise ConfigurationError(
            f"{variable.upper()} is not a valid proxy URL: it has to be"
            " http://<host>:<port> or https://<host>:<port>; correct or unset the variable."
        ) from None
    # As bytes: httpcore accepts only ASCII text, and its error would quote the whole value.
    auth = (url.username.encode(), url.password.encode()) if url.userinfo else None
    return httpcore.Proxy(url=str(url.copy_with(username=None, password=None)), auth=auth)
