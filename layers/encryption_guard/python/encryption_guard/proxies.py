"""Proxies of the environment: asked only where GUARD_TRUST_ENV says so, and told nothing secret.

HTTPS_PROXY, else ALL_PROXY; NO_PROXY names what is asked directly (each in small letters too, which
win). A proxy only carries the connection (CONNECT): TLS ends at the service, which has to prove
itself as ever. What is not HTTPS goes to no proxy, for that would see the signed request.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any
from urllib.request import getproxies_environment, proxy_bypass

import httpcore
import httpx

from encryption_guard.connections import KEEP_ALIVE_SECONDS, seconds_until
from encryption_guard.errors import ConfigurationError
from encryption_guard.transport import CONNECTIONS, tls_context


class ProxiedTransport(httpx.BaseTransport):
    """Sends each request through the proxy or directly, as the environment wants it."""

    def __init__(self, direct: httpx.BaseTransport, through_proxy: httpx.BaseTransport) -> None:
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


def trusting_environment(direct: httpx.BaseTransport) -> httpx.BaseTransport:
    """The transport, with the environment's proxy if there is one.

    Raises ConfigurationError for a proxy that is not one of HTTP.
    """
    proxies = getproxies_environment()
    for scheme in ("https", "all"):
        if given := proxies.get(scheme):
            return ProxiedTransport(direct, _Tunnels(_proxy(given, f"{scheme}_PROXY")))
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


class _Tunnels(httpx.HTTPTransport):
    """httpx's own, on a pool that connects through the proxy and whose time-outs are instants."""

    def __init__(self, proxy: httpcore.Proxy) -> None:
        context = tls_context()
        super().__init__(verify=context)
        self._pool = httpcore.ConnectionPool(
            ssl_context=context,
            max_connections=CONNECTIONS,
            keepalive_expiry=KEEP_ALIVE_SECONDS,
            network_backend=_InstantBackend(),
            proxy=proxy,
        )


class _InstantBackend(httpcore.SyncBackend):
    """Reads a time-out as the instant at which to stop, as connections.py does."""

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        # Of a proxy with several addresses, each that is silent takes this long.
        seconds = _seconds(timeout)
        return _InstantStream(
            super().connect_tcp(host, port, seconds, local_address, socket_options)
        )


class _InstantStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _seconds(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _seconds(timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        stream = self._stream.start_tls(ssl_context, server_hostname, _seconds(timeout))
        return _InstantStream(stream)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _seconds(instant: float | None) -> float | None:
    return None if instant is None else seconds_until(instant)
