"""The servers of this home that run, as `evergreen up` notes them, and the logins they ask for.

A noted address counts only while a process of ours listens there: whoever takes the port of a
server that was killed is never sent a password.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import psutil
from pydantic import BaseModel, ConfigDict, SecretStr

from data_contracts.home_keys import home_key
from data_contracts.workspace import Workspace

Name = Literal["the Prefect server", "the MLflow server"]
PREFECT: Name = "the Prefect server"
MLFLOW: Name = "the MLflow server"
HEALTH: dict[Name, str] = {PREFECT: "/api/health", MLFLOW: "/health"}

USER = "evergreen"
# Files of the passwords in the home's folder of keys.
KEYS: dict[Name, str] = {PREFECT: "prefect-login", MLFLOW: "mlflow-login"}
LOOPBACK = ("127.0.0.1", "localhost")


class Login(BaseModel):
    """User and password of one server."""

    model_config = ConfigDict(frozen=True)

    user: str
    password: SecretStr

    @property
    def auth_string(self) -> str:
        """`user:password`, as HTTP's Basic scheme and Prefect's settings take it."""
        return f"{self.user}:{self.password.get_secret_value()}"


class Running(BaseModel):
    """Where a server answers, and the process that runs it."""

    model_config = ConfigDict(frozen=True)

    url: str
    pid: int


def login(workspace: Workspace, name: Name) -> Login:
    """The login of this home's server; the password is made when it is first asked for.

    Raises:
        StackError: the password can be neither read nor made.
    """
    return Login(user=USER, password=SecretStr(home_key(workspace, KEYS[name]).hex()))


def login_at(workspace: Workspace, url: str) -> Login | None:
    """The login for `url` if a server of this home runs there; else None: it is somebody else's."""
    wanted = urlsplit(url)
    for name, address in running_services(workspace).items():
        ours = urlsplit(address)
        if (wanted.scheme, wanted.port) == (ours.scheme, ours.port) and wanted.hostname in LOOPBACK:
            return login(workspace, name)
    return None


def record_services(workspace: Workspace, services: Mapping[Name, Running]) -> None:
    """Note what is running, so that `status`, `retrain` and others use it."""
    file = _record(workspace)
    partial = file.with_suffix(".partial")
    content: dict[str, Any] = {name: service.model_dump() for name, service in services.items()}
    partial.write_text(json.dumps(content, indent=2), encoding="utf-8")
    partial.replace(file)


def forget_services(workspace: Workspace) -> None:
    _record(workspace).unlink(missing_ok=True)


def running_services(workspace: Workspace) -> dict[Name, str]:
    """{name: URL} of the services noted that run and answer now."""
    try:
        noted = json.loads(_record(workspace).read_text(encoding="utf-8"))
        services = {name: Running.model_validate(noted[name]) for name in HEALTH if name in noted}
    except (OSError, ValueError, TypeError):
        return {}
    return {
        name: service.url
        for name, service in services.items()
        if listens(service.pid, service.url) and answers(service.url + HEALTH[name])
    }


def listens(pid: int, url: str) -> bool:
    """Whether this process, if it is ours, or one below it accepts connections at `url`'s port."""
    try:
        root = psutil.Process(pid)
        if root.uids().real != os.getuid():
            return False
        tree = [root, *root.children(recursive=True)]
    except psutil.Error:
        return False
    return any(urlsplit(url).port in _listening_ports(process) for process in tree)


def _listening_ports(process: psutil.Process) -> set[int]:
    try:
        connections = process.net_connections("tcp")
    except psutil.Error:  # it has ended
        return set()
    return {one.laddr.port for one in connections if one.status == psutil.CONN_LISTEN}


def answers(url: str) -> bool:
    """Whether an HTTP GET of `url` gives 200 within two seconds."""
    import httpx

    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == httpx.codes.OK
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _record(workspace: Workspace) -> Path:
    return workspace.home / "services.json"
