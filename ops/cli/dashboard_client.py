"""Asking the running dashboard's JSON API, as a browser that is logged in would."""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from typing import Any

import msgspec

from ops import endpoints
from ops.cli.context import CommandError
from ops.dashboard import access
from ops.settings import Settings

TIMEOUT_S = 40.0
COOKIE_S = 60


def get(settings: Settings, path: str, *, timeout_s: float = TIMEOUT_S) -> Any:
    """Return the JSON at `path`. Raises NotRunningError without a stack, CommandError without an answer."""
    url = endpoints.dashboard_url(settings) + path
    request = urllib.request.Request(url)
    if token := settings.metrics.token.get_secret_value():
        cookie = access.session_cookie(token, expires_s=int(time.time()) + COOKIE_S)
        request.add_header("Cookie", f"{access.COOKIE}={cookie}")
    # A proxy of the environment is for other machines.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=timeout_s) as response:
            return msgspec.json.decode(response.read())
    except urllib.error.HTTPError as error:
        said = error.read(1000).decode("utf-8", "replace").strip()
        raise CommandError(f"{url}: {error.code} {error.reason}: {said}") from error
    except (OSError, msgspec.DecodeError) as error:
        raise CommandError(f"{url} gives no answer: {error}") from error
