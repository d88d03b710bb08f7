"""WSGI applications for the servers of these tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def application(status: str, **headers: str) -> WSGIApplication:
    """Answers everything with this status and the headers it was sent, a line each."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> list[bytes]:
        start_response(status, list(headers.items()))
        sent = sorted(key for key in environ if key.startswith("HTTP_"))
        return ["".join(f"{key}={environ[key]}\n" for key in sent).encode()]

    return app
