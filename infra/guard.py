"""What stands in front of the Prefect and the MLflow server: who may ask, under which address.

A server answers to the addresses it is given and to no other (a page whose name was pointed at
this machine afterwards, "DNS rebinding", is sent away), and no page but its own may ask anything,
whatever a browser adds to the request by itself. Uvicorn starts the servers through here:
`uvicorn --factory infra.guard:prefect_app` and `mlflow server --app-name evergreen`.
"""

import base64
import hmac
import os
from collections.abc import Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from data_contracts.errors import StackError
from tasks.services import HEALTH, MLFLOW

READS = ("GET", "HEAD")


def prefect_app() -> ASGIApp:
    """Prefect's server with its background services, as `prefect server start` runs it.

    Its settings say who may ask: PREFECT_SERVER_CORS_ALLOWED_ORIGINS has the addresses it
    answers to, PREFECT_SERVER_API_AUTH_STRING the login, which Prefect asks for by itself.

    Raises:
        StackError: one of them is missing.
    """
    from prefect.server.api.server import create_app
    from prefect.settings import get_current_settings

    settings = get_current_settings().server.api
    if settings.auth_string is None:
        raise StackError("the Prefect server has no login", "set PREFECT_SERVER_API_AUTH_STRING")
    if not settings.csrf_protection_enabled:
        raise StackError(
            "the Prefect server takes requests of any page",
            "set PREFECT_SERVER_CSRF_PROTECTION_ENABLED=true",
        )
    origins = parse_origins(settings.cors_allowed_origins, "PREFECT_SERVER_CORS_ALLOWED_ORIGINS")
    return guarded(create_app(final=True), origins)


def mlflow_app() -> ASGIApp:
    """MLflow's server behind a login: MLFLOW_TRACKING_USERNAME and _PASSWORD, as its clients.

    MLFLOW_SERVER_CORS_ALLOWED_ORIGINS has the addresses it answers to.

    Raises:
        StackError: one of them is missing.
    """
    from mlflow.server.fastapi_app import app

    user, password = (
        os.environ.get(f"MLFLOW_TRACKING_{part}", "") for part in ("USERNAME", "PASSWORD")
    )
    if not user or not password:
        raise StackError(
            "the MLflow server has no login",
            "set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
        )
    variable = "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
    origins = parse_origins(os.environ.get(variable, ""), variable)
    return guarded(LoginRequired(app, user, password, health=HEALTH[MLFLOW]), origins)


def parse_origins(text: str, variable: str) -> tuple[str, ...]:
    """Addresses like `http://127.0.0.1:4200`, separated by commas.

    Raises:
        StackError: there is none, or one is not an address without a path.
    """
    origins = tuple(part.strip() for part in text.split(",") if part.strip())
    if not origins:
        raise StackError("no addresses to answer to", f"set {variable}")
    for origin in origins:
        address = urlsplit(origin)
        if origin != f"{address.scheme}://{address.netloc}" or not address.hostname:
            raise StackError(
                f"{variable} has {origin!r}", "write addresses like http://127.0.0.1:4200"
            )
    return origins


def guarded(app: ASGIApp, origins: Sequence[str]) -> ASGIApp:
    """`app` for requests to the hosts of these addresses, and of pages from these addresses."""
    hosts = {str(urlsplit(origin).hostname) for origin in origins}
    return TrustedHostMiddleware(OwnPagesOnly(app, origins), sorted(hosts), www_redirect=False)


class OwnPagesOnly:
    """Refuses what pages of other origins ask: reads, writes, frames and websockets alike.

    A browser says where a request comes from, in Origin or in Sec-Fetch-Site. Programs send
    neither and pass. A link on another page may still open ours. Our own pages, in turn, send
    nothing anywhere else: Prefect's has the analytics of a third party in it.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(origins)
        self._policy = (
            f"connect-src 'self' {' '.join(origins)} data: blob:;"
            " frame-ancestors 'self'; form-action 'self'; base-uri 'self'"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_policy(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).append("Content-Security-Policy", self._policy)
            await send(message)

        asks = scope["type"] in ("http", "websocket")
        if asks and self._is_foreign(scope.get("method", ""), Headers(scope=scope)):
            refusal = PlainTextResponse("Requests of other pages are refused", status_code=403)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send_with_policy)

    def _is_foreign(self, method: str, headers: Headers) -> bool:
        if origins := headers.getlist("origin"):
            return not self._origins.issuperset(origins)
        if headers.get("sec-fetch-site", "none") in ("none", "same-origin"):
            return False
        opens_page = (headers.get("sec-fetch-mode"), headers.get("sec-fetch-dest"))
        return method not in READS or opens_page != ("navigate", "document")


class LoginRequired:
    """Asks for a user and password (HTTP's Basic scheme) before anything but the health check.

    Clients that know only keys, such as OpenAI's at MLflow's gateway, give the password as one.
    """

    def __init__(self, app: ASGIApp, user: str, password: str, health: str) -> None:
        self._app = app
        self._health = health
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._accepted = (("basic", basic.encode()), ("bearer", password.encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or self._may_pass(scope):
            await self._app(scope, receive, send)
            return
        refusal = PlainTextResponse(
            "Log in first", status_code=401, headers={"WWW-Authenticate": 'Basic realm="evergreen"'}
        )
        await refusal(scope, receive, send)

    def _may_pass(self, scope: Scope) -> bool:
        if scope["path"] == self._health and scope.get("method") in READS:
            return True
        given = Headers(scope=scope).get("authorization", "")
        scheme, _, credentials = given.partition(" ")
        return any(
            scheme.lower() == name and hmac.compare_digest(credentials.strip().encode(), expected)
            for name, expected in self._accepted
        )
