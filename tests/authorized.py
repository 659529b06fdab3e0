"""Requests to a Prefect server with the login and the CSRF token that it asks for."""

import os
from typing import Any

import httpx


def get(url: str, *, login: str | None = None, timeout: float = 30) -> httpx.Response:
    return _client(login, timeout).get(url)


def post(url: str, *, json: Any, login: str | None = None, timeout: float = 30) -> httpx.Response:
    """`login` is user:password; by default that of the server that all tests share."""
    client = _client(login, timeout)
    return client.post(url, json=json, headers=csrf_headers(client, url))


def csrf_headers(client: httpx.Client, url: str) -> dict[str, str]:
    """What a change of state needs besides the login."""
    api = url[: url.index("/api") + len("/api")]
    answer = client.get(f"{api}/csrf-token", params={"client": "tests"}).raise_for_status()
    return {"Prefect-Csrf-Token": answer.json()["token"], "Prefect-Csrf-Client": "tests"}


def _client(login: str | None, timeout: float) -> httpx.Client:
    user, _, password = (login or os.environ["PREFECT_API_AUTH_STRING"]).partition(":")
    return httpx.Client(auth=(user, password), timeout=timeout)
