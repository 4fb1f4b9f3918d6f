"""Who may see the page: a login token beyond loopback, a Host check on loopback, security headers always.

The cookie is derived from the token by HMAC, so it proves that its holder knew the token without holding it.
On loopback without a token the page is open to this machine; the Host check then keeps out other sites'
pages that point their own name at 127.0.0.1 (DNS rebinding).
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
from collections.abc import Callable
from urllib.parse import parse_qs

import msgspec
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import HTTPConnection, Request
from starlette.responses import RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ops.settings import Settings

COOKIE = "relevance_session"
SESSION_S = 7 * 24 * 3600
MAX_LOGIN_BYTES = 4096
#: Reachable without a login: the login form itself and files that hold nothing of anyone.
PUBLIC_PREFIXES = ("/login", "/static/")

#: The one <style> element that plotly.js writes when it loads, by its hash; all else is a file of ours.
PLOTLY_STYLE = "'sha256-ji27qzEtxXZW+7dun6UwjHXJ18e6WAin1VvNtkzIE/o='"
HEADERS = {
    "Content-Security-Policy": (
        f"default-src 'none'; script-src 'self'; style-src 'self' {PLOTLY_STYLE}; img-src 'self' data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class AccessError(RuntimeError):
    """The dashboard would be open to strangers as it is set up."""


def is_loopback(host: str) -> bool:
    """Return whether a host name or address, without a port, can be reached from this machine alone.

    >>> [is_loopback(host) for host in ("127.0.0.1", "::1", "localhost", "0.0.0.0", "shop.example")]
    [True, True, True, False, False]
    """
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def required_token(settings: Settings) -> str:
    """Return the login token, empty where none is needed. Raises AccessError if a needed one is missing."""
    token = settings.metrics.token.get_secret_value()
    if not token and not is_loopback(settings.metrics.host):
        raise AccessError(
            f"metrics.host is {settings.metrics.host!r}, which other machines can reach, so the dashboard "
            "needs a login token: set RELEVANCE_METRICS__TOKEN, or set RELEVANCE_METRICS__HOST=127.0.0.1"
        )
    return token


def session_cookie(token: str, *, expires_s: int) -> str:
    """Return the cookie that opens the page until `expires_s` (epoch seconds)."""
    return f"{expires_s}.{_signature(token, str(expires_s))}"


def opens(cookie: str, token: str, *, now_s: float) -> bool:
    """Return whether a cookie was made from this token and has not expired. Any text may be given.

    >>> opens(session_cookie("secret", expires_s=100), "secret", now_s=99)
    True
    >>> opens(session_cookie("secret", expires_s=100), "secret", now_s=101)
    False
    """
    expires, _, signature = cookie.partition(".")
    if not _same(signature, _signature(token, expires)):
        return False
    return now_s < int(expires)


def _signature(token: str, expires: str) -> str:
    message = b"relevance-dashboard-session:" + expires.encode("utf-8", "surrogateescape")
    return hmac.new(token.encode(), message, hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "surrogateescape"), expected.encode())


def is_allowed(connection: HTTPConnection, token: str, *, now_s: float) -> bool:
    """Return whether a request carries the token (`Authorization: Bearer`) or a session made from it."""
    scheme, _, given = connection.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and _same(given.strip(), token):
        return True
    return opens(connection.cookies.get(COOKIE, ""), token, now_s=now_s)


async def token_in_form(request: Request) -> str:
    """Return the field `token` of an urlencoded form; empty if there is none or the form is too large."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_LOGIN_BYTES:
            return ""
    fields = parse_qs(body.decode("utf-8", "replace"))
    return fields.get("token", [""])[0]


def log_in(request: Request, given: str, token: str, *, now_s: float) -> Response:
    """Answer a login: to the page with a session cookie, or back to the form with a note."""
    if not _same(given, token):
        return RedirectResponse("/login?wrong=1", status_code=303)
    response = RedirectResponse("/", status_code=303)
    response.set_cookie(
        COOKIE,
        session_cookie(token, expires_s=int(now_s) + SESSION_S),
        max_age=SESSION_S,
        httponly=True,
        samesite="strict",
        secure=request.url.scheme == "https",
    )
    return response


class Guard:
    """ASGI middleware: refuses strangers, adds the security headers to every answer."""

    def __init__(self, app: ASGIApp, *, token: str, clock: Callable[[], float]) -> None:
        self.app = app
        self.token = token
        self.clock = clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(scope)
        if refusal is None:
            await self.app(scope, receive, send_guarded)
        else:
            await refusal(scope, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        path: str = scope["path"]
        if not self.token:
            host = _host_name(Headers(scope=scope).get("host", ""))
            if is_loopback(host):
                return None
            return refused(
                403, f"expected a loopback address as the Host, got {host[:80]!r}; open http://127.0.0.1"
            )
        if path.startswith(PUBLIC_PREFIXES) or is_allowed(
            HTTPConnection(scope), self.token, now_s=self.clock()
        ):
            return None
        if path.startswith("/api/"):
            return refused(401, "log in at /login, or send the header Authorization: Bearer TOKEN")
        return RedirectResponse("/login", status_code=303)


def _host_name(header: str) -> str:
    """Return the host of a Host header, without its port.

    >>> [_host_name(header) for header in ("localhost:8080", "[::1]:8080", "127.0.0.1")]
    ['localhost', '[::1]', '127.0.0.1']
    """
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


def refused(status: int, error: str) -> Response:
    """Return an error as JSON: `{"error": ...}`."""
    return Response(
        msgspec.json.encode({"error": error}),
        status,
        headers={"Cache-Control": "no-store"},
        media_type="application/json",
    )
