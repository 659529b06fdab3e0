"""Notify: tell people, by what they have set up, the log otherwise; and tell programs."""

import logging
import time
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict, Field

from tasks.secrets import WebhookUrl

TIMEOUT_SECONDS = 10.0
# Before the second and the third attempt.
PAUSE_SECONDS = (1.0, 3.0)

_log = logging.getLogger(__name__)
# It logs whole URLs, and one may hold a token.
logging.getLogger("httpx").setLevel(logging.WARNING)


class NotifySettings(BaseModel):
    """Who is told when something fails, is refused or drifts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    block: str | None = Field(
        default=None,
        pattern=r"^[a-z0-9-]+/[a-z0-9-]+$",
        description="A Prefect notification block, `slack-webhook/oncall`; the server sends.",
    )
    webhook: WebhookUrl | None = Field(
        default=None,
        description="A URL that gets `{title, body}` as JSON by POST; the server sends. A secret.",
    )


def post(url: str, payload: Mapping[str, Any]) -> bool:
    """POST JSON in three attempts; whether it was delivered.

    Trouble on the way is a warning, never an error: what is told of has happened. The warning
    names the host only, as the rest of a URL may hold a token.
    """
    problem = ""
    for pause in (0.0, *PAUSE_SECONDS):
        time.sleep(pause)
        try:
            response = httpx.post(url, json=dict(payload), timeout=TIMEOUT_SECONDS)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            problem = type(error).__name__
        else:
            if response.is_success:
                return True
            problem = f"HTTP {response.status_code}"
    _log.warning("the webhook at %s was not told: %s", _host(url), problem)
    return False


def _host(url: str) -> str:
    try:
        return httpx.URL(url).host
    except httpx.InvalidURL:
        return "an invalid URL"
