"""Proxies of the environment: used only where GUARD_TRUST_ENV says so, and shown nothing secret.

HTTPS_PROXY, else ALL_PROXY; NO_PROXY names the hosts that are reached directly (each in lower case
too, which counts first). A proxy only carries the connection (CONNECT): TLS ends at the service,
which has to prove its name as ever. A request that is not HTTPS goes to no proxy, which could read
its signature.
"""

from __future__ import annotations

from urllib.request import getproxies_environment, proxy_bypass

import httpcore
import httpx

from encryption_guard.errors import ConfigurationError
from encryption_guard.http import open_transport
from encryption_guard.invocation import DeadlineTransport


class _ProxiedTransport(httpx.BaseTransport):
    """Sends each request through the proxy or directly, as the environment wants it."""

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


def trusting_environment(direct: DeadlineTransport) -> DeadlineTransport:
    """The transport, with the environment's proxy if there is one.

    Raises ConfigurationError for a proxy that is not one of HTTP.
    """
    proxies = getproxies_environment()
    for scheme in ("https", "all"):
        if given := proxies.get(scheme):
            tunnels = open_transport(proxy=_proxy(given, f"{scheme}_PROXY"))
            return DeadlineTransport(_ProxiedTransport(direct, tunnels))
    return direct


def _proxy(given: str, variable: str) -> httpcore.Proxy:
    try:
        url = httpx.URL(given if "://" in given else f"http://{given}")
        if url.scheme not in ("http", "https") or not url.host or (url.port or 0) > 65535:
            raise ValueError
    except (httpx.InvalidURL, ValueError):
        # Not the value: it may hold a password.
        raise ConfigurationError(
            f"{variable.upper()} is not a proxy that can be used; it has to be"
            " http://<host>:<port> or https://<host>:<port>."
        ) from None
    # As bytes: httpcore takes no text beyond ASCII, and complains of it with all of it.
    auth = (url.username.encode(), url.password.encode()) if url.userinfo else None
    return httpcore.Proxy(url=str(url.copy_with(username=None, password=None)), auth=auth)
