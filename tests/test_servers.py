"""Nobody gets in: attacks on the servers that `evergreen up` starts, and who is let in."""

import base64
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import httpx
import mlflow
import psutil
import pytest
from prefect.settings import (
    PREFECT_SERVER_API_AUTH_STRING,
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    temporary_settings,
)
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from data_contracts.errors import StackError
from data_contracts.workspace import Workspace
from infra import guard
from infra.local import Service, free_port, reach_prefect
from tasks import tracking
from tasks.services import PREFECT, Running, login_at, record_services, running_services
from tests import authorized
from tests.commands import assert_one_line_error, evergreen
from tests.stack import (
    Stack,
    processes_below,
    run_flow,
    running_as,
    up,
    without_prefect,
)

ROOT = Path(__file__).parents[1]
# Keys that flows need and servers do not.
KEYS = {
    "EVERGREEN_SCRUB_KEY": "a-scrub-key-that-nobody-sees",
    "OPENAI_API_KEY": "an-openai-key-that-nobody-sees",
    "HF_TOKEN": "a-hub-token-that-nobody-sees",
    "AWS_SECRET_ACCESS_KEY": "a-cloud-key-that-nobody-sees",
    "AWS_SESSION_TOKEN": "a-session-that-nobody-sees",
    "JUDGE_PASSWORD": "a-password-that-nobody-sees",
    "PREFECT_API_KEY": "a-prefect-key-that-nobody-sees",
    "PREFECT_CLIENT_CUSTOM_HEADERS": '{"X-Key": "a-header-that-nobody-sees"}',
    "MLFLOW_TRACKING_TOKEN": "a-tracking-token-that-nobody-sees",
    "PYTHON_KEYRING_TOKEN": "a-keyring-token-that-nobody-sees",
    "LCD_SECRET": "a-secret-that-nobody-sees",
}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All of it, started where keys are in the environment, and a run with an artifact."""
    home = tmp_path_factory.mktemp("servers") / "home"
    ports = ("--prefect-port", str(free_port()), "--mlflow-port", str(free_port()))
    with up(home, *ports, **KEYS) as running:
        run_flow(running)
        yield running


@pytest.fixture
def mlflow_forgets(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No later test is to look for this server."""
    for name in ("USERNAME", "PASSWORD", "TOKEN"):
        monkeypatch.setenv(f"MLFLOW_TRACKING_{name}", "")
        monkeypatch.delenv(f"MLFLOW_TRACKING_{name}")
    yield
    mlflow.set_tracking_uri("")
    mlflow.set_registry_uri("")


# -- attacks -----------------------------------------------------------------------------

# How a request differs from one of our own pages that is logged in.
ATTACKS: dict[str, dict[str, Any]] = {
    "nobody": {"login": None},
    "a guess": {"login": "evergreen:evergreen"},
    "another user": {"login": "admin:{password}"},
    "a page elsewhere": {"Origin": "https://evil.example"},
    "a page on another port": {"Origin": "http://127.0.0.1:9"},
    "a page on the default port": {"Origin": "http://127.0.0.1"},
    "a page in a sandbox": {"Origin": "null"},
    "a page whose name was pointed here": {"Host": "evil.example", "Origin": "http://evil.example"},
    "another name": {"Host": "evil.example"},
    "our name inside another": {"Host": "127.0.0.1.evil.example"},
    "our name as a user": {"Host": "127.0.0.1@evil.example"},
    "no name": {"Host": ""},
    "a form elsewhere": {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"},
    "a script on another port": {"Sec-Fetch-Site": "same-site", "Sec-Fetch-Mode": "no-cors"},
}


def ask(
    method: str, url: str, login: tuple[str, str], attack: dict[str, Any], **more: Any
) -> httpx.Response:
    """A request as our page makes it, logged in, but for the attack."""
    headers = {"Origin": "http://" + urlsplit(url).netloc, **more.pop("headers", {}), **attack}
    given = headers.pop("login", ":".join(login))
    if "Sec-Fetch-Site" in headers:  # then the browser sends no Origin
        del headers["Origin"]
    auth = tuple(given.format(password=login[1]).split(":")) if given else None
    while True:
        answer = httpx.request(method, url, headers=headers, auth=auth, timeout=30, **more)
        if answer.status_code != 503:  # Prefect's SQLite is busy
            return answer
        time.sleep(0.5)


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_deployment_is_not_changed(stack: Stack, attack: str) -> None:
    named = f"{stack.prefect}/api/deployments/name/retrain/retrain"
    before = authorized.get(named, login=stack.auth_string()).json()
    url = f"{stack.prefect}/api/deployments/{before['id']}"
    with httpx.Client(auth=stack.auth()) as own:
        token = authorized.csrf_headers(own, url)

    def change(attack: dict[str, Any], text: str) -> int:
        steps = [{"prefect.deployments.steps.run_shell_script": {"script": text}}]
        json = {"description": text, "pull_steps": steps}
        return ask("PATCH", url, stack.auth(), attack, json=json, headers=token).status_code

    def state() -> Any:
        found = authorized.get(named, login=stack.auth_string()).json()
        return found["description"], found["pull_steps"]

    unchanged = state()
    assert change(ATTACKS[attack], "pwned") in (400, 401, 403)
    assert state() == unchanged
    # Nothing else was in its way.
    assert change({}, f"not {attack}") == 204
    assert state()[0] == f"not {attack}"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("path", ["/", "/api/2.0/mlflow/experiments/search?max_results=9"])
def test_mlflow_tells_nothing(stack: Stack, attack: str, path: str) -> None:
    login = stack.auth("MLflow UI")
    refused = ask("GET", stack.mlflow + path, login, ATTACKS[attack])
    assert refused.status_code in (400, 401, 403), refused.text
    assert "mlflow" not in refused.text.lower()
    assert ask("GET", stack.mlflow + path, login, {}).status_code == 200


@pytest.mark.parametrize("attack", ATTACKS)
def test_nothing_is_put_into_mlflow(stack: Stack, attack: str) -> None:
    name, login = uuid4().hex, stack.auth("MLflow UI")
    url = f"{stack.mlflow}/api/2.0/mlflow/experiments/create"

    def exists() -> bool:
        found = httpx.get(
            f"{stack.mlflow}/api/2.0/mlflow/experiments/get-by-name",
            params={"experiment_name": name},
            auth=login,
        )
        assert found.status_code in (200, 404)
        return found.status_code == 200

    refused = ask("POST", url, login, ATTACKS[attack], json={"name": name})
    assert refused.status_code in (400, 401, 403), refused.text
    assert not exists()
    assert ask("POST", url, login, {}, json={"name": name}).status_code == 200
    assert exists()


def test_without_csrf_token_a_login_changes_nothing(stack: Stack) -> None:
    refused = httpx.post(f"{stack.prefect}/api/flows/", json={"name": "pwned"}, auth=stack.auth())
    assert refused.status_code == 403


def test_no_route_of_prefect_is_open(stack: Stack) -> None:
    with httpx.Client(base_url=stack.prefect, timeout=60) as client:
        routes = client.get("/api/openapi.json", auth=stack.auth()).json()["paths"]
        token = authorized.csrf_headers(httpx.Client(auth=stack.auth()), f"{stack.prefect}/api")
        open_routes = set()
        for path, methods in routes.items():
            filled = "/".join(
                str(uuid4()) if part.startswith("{") else part for part in path.split("/")
            )
            for method in methods:
                answer = client.request(method, f"/api{filled}", headers=token, json={})
                if answer.status_code != 401:
                    open_routes.add((method, path))
    assert len(routes) > 100
    assert open_routes == {("get", "/health"), ("get", "/ready")}


@pytest.mark.parametrize(
    "path",
    ["events/in", "events/out", "logs/out", "task_runs/subscriptions/scheduled"],
)
def test_websockets_ask_for_the_login(stack: Stack, path: str) -> None:
    url = f"{stack.prefect.replace('http', 'ws', 1)}/api/{path}"
    token = stack.auth_string()

    def opened(**options: Any) -> ClientConnection:
        return connect(url, subprotocols=["prefect"], **options)  # type: ignore[list-item]

    for refused in (
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"additional_headers": {"Sec-Fetch-Site": "same-site"}},
    ):
        with pytest.raises(InvalidStatus) as error:
            opened(**refused)
        assert error.value.response.status_code == 403
    port = urlsplit(url).port
    rebound = url.replace("127.0.0.1", "evil.example")
    with pytest.raises(InvalidStatus) as error:
        connect(rebound, sock=_socket(port), subprotocols=["prefect"])  # type: ignore[list-item]
    assert error.value.response.status_code == 400
    for given in ("", "evergreen:guess"):
        with opened() as connection:
            connection.send(json.dumps({"type": "auth", "token": given}))
            with pytest.raises(ConnectionClosed):
                connection.recv(timeout=30)
    with opened(origin=stack.prefect) as connection:
        connection.send(json.dumps({"type": "auth", "token": token}))
        assert json.loads(connection.recv(timeout=30)) == {"type": "auth_success"}


def _socket(port: int | None) -> Any:
    import socket

    assert port is not None
    return socket.create_connection(("127.0.0.1", port))


# -- secrets -----------------------------------------------------------------------------


def test_servers_are_given_no_keys_of_ours(stack: Stack) -> None:
    servers = [*running_as(stack, "infra.guard"), *running_as(stack, "mlflow")]
    assert len(servers) >= 4
    for env in servers:
        assert not KEYS.keys() & env.keys()
        assert not {value for value in env.values() if "that-nobody-sees" in value}
    # The runner has them: flows need keys.
    (runner, *_) = running_as(stack, "flows.deployments")
    assert runner.items() >= KEYS.items()


def test_a_server_gets_its_own_login_and_not_the_other(stack: Stack) -> None:
    for word, other in (("infra.guard:prefect_app", "MLflow UI"), ("mlflow", "Prefect UI")):
        for env in running_as(stack, word):
            assert stack.logins[other]["password"] not in " ".join(env.values())


def test_passwords_are_in_files_of_the_owner_and_nowhere_else(stack: Stack) -> None:
    # Something of each kind was logged: a refusal, a run, a page.
    httpx.get(stack.mlflow, auth=stack.auth("MLflow UI"))
    httpx.get(f"{stack.prefect}/api/flows", auth=("evergreen", "a guess"))
    secrets = {}
    for server, shown in stack.logins.items():
        file = Path(shown["file"])
        assert file.read_text().strip() == shown["password"]
        assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)
        basic = base64.b64encode(stack.auth_string(server).encode())
        secrets[server] = (shown["password"].encode(), basic)
    assert len(set(secrets.values())) == 2, "two servers have one password"
    kept = {Path(shown["file"]) for shown in stack.logins.values()}
    read = [stack.log]
    read += [path for path in stack.home.rglob("*") if path.is_file() and path not in kept]
    assert {"server.log", "runner.log", "prefect.db", "mlflow.db"} <= {path.name for path in read}
    needles = [needle for pair in secrets.values() for needle in pair]
    for path in read:
        content = path.read_bytes()
        assert not [needle for needle in needles if needle in content], path


def test_passwords_are_on_no_command_line(stack: Stack) -> None:
    lines = [line for _, line, _ in processes_below(stack.process.pid)]
    assert len(lines) >= 6
    for process in psutil.process_iter():
        try:
            lines.append(process.cmdline())
        except psutil.Error:
            continue
    for line in lines:
        for shown in stack.logins.values():
            assert shown["password"] not in " ".join(line)


def test_whoever_takes_the_port_of_a_server_is_sent_no_password(tmp_path: Path) -> None:
    """A stack that was killed left its note; another user's server answers where it said."""
    workspace = Workspace(home=tmp_path / "home")
    workspace.create()
    other = subprocess.Popen(["sleep", "600"])
    with Squatter() as url:
        record_services(workspace, {PREFECT: Running(url=url, pid=other.pid)})
        assert running_services(workspace) == {}
        assert login_at(workspace, url) is None
        # The same server, were it ours.
        record_services(workspace, {PREFECT: Running(url=url, pid=os.getpid())})
        assert running_services(workspace) == {PREFECT: url}
        assert login_at(workspace, f"{url}/api") is not None
        assert login_at(workspace, url.replace("127.0.0.1", "127.0.0.1.evil.example")) is None
    other.kill()
    other.wait()


def test_a_server_is_up_when_it_answers_itself(tmp_path: Path) -> None:
    """Somebody takes the port after it was found free: its answers are not our server's."""
    fails = [sys.executable, "-c", "import time; time.sleep(2); print('address in use')"]
    with Squatter() as url:
        service = Service(PREFECT, url, fails, os.environ, tmp_path / "server.log")
        service.start()
        with pytest.raises(StackError, match="did not start: address in use"):
            service.wait()


class Squatter:
    """A server that answers everything with 200."""

    def __enter__(self) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{self.server.server_port}"

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()


# -- who is let in -----------------------------------------------------------------------


def test_commands_find_the_login_by_themselves(stack: Stack) -> None:
    for given in (
        without_prefect(),
        {**without_prefect(), "PREFECT_API_URL": stack.prefect + "/api"},
    ):
        done = evergreen("models", "waiting", "--json", home=stack.home, **given)
        assert (done.returncode, done.stdout.strip()) == (0, "[]"), done.stderr


def test_prefects_and_mlflows_commands_and_workers_log_in(stack: Stack, tmp_path: Path) -> None:
    env = {**os.environ, **stack.shell(), "EVERGREEN_HOME": str(stack.home)}

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", *arguments],
            env=env,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    assert "retrain/retrain" in run("prefect", "deployment", "ls")
    template = str(ROOT / "infra/work_pool.json")
    run(
        *("prefect", "work-pool", "create", "here", "--type", "process"),
        "--base-job-template",
        template,
    )
    deploy = ("prefect", "deploy", "noted.py:noted", "--name", "here", "--pool", "here")
    shutil.copy(run_flow(stack), tmp_path)
    run("prefect", "--no-prompt", *deploy[1:])
    # Who may start a run is not to choose what the worker runs.
    chosen = [f"command=touch {tmp_path / 'pwned'}", f"env.PATH={tmp_path}"]
    options = [option for one in chosen for option in ("--job-variable", one)]
    run("prefect", "deployment", "run", "noted/here", *options)
    worker = run("prefect", "worker", "start", "--pool", "here", "--run-once")
    assert "auth" not in worker.lower()
    (done,) = authorized.post(
        f"{stack.prefect}/api/flow_runs/filter",
        json={"work_pools": {"name": {"any_": ["here"]}}},
        login=stack.auth_string(),
    ).json()
    assert done["state_type"] == "COMPLETED", worker
    assert not (tmp_path / "pwned").exists()
    assert "Default" in run("mlflow", "experiments", "search")


def test_login_is_for_who_asks(stack: Stack, tmp_path: Path) -> None:
    said = stack.log.read_text()
    assert "evergreen login" in said
    shown = evergreen("login", home=stack.home).stdout
    for one in stack.logins.values():
        assert one["address"] in shown
        assert one["password"] in shown
    assert stack.auth_string() in shown
    nothing = evergreen("login", "--shell", home=tmp_path / "home", **without_prefect())
    assert_one_line_error(nothing, "nothing is up", "evergreen up")


def test_a_server_of_ones_own_is_asked_as_the_environment_says(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = "https://prefect.example/api"
    for auth_string in (None, "me:mine"):
        monkeypatch.setenv("PREFECT_API_URL", theirs)
        monkeypatch.setenv("PREFECT_API_AUTH_STRING", auth_string or "")
        if auth_string is None:
            monkeypatch.delenv("PREFECT_API_AUTH_STRING")
        assert reach_prefect(workspace) == theirs
        assert os.environ.get("PREFECT_API_AUTH_STRING") == auth_string
    assert not workspace.key_folder.exists()


@pytest.mark.usefixtures("mlflow_forgets")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_runs_are_logged_to_the_mlflow_server(stack: Stack, host: str, tmp_path: Path) -> None:
    workspace = Workspace(home=stack.home)
    settings = tracking.TrackingSettings(uri=stack.mlflow.replace("127.0.0.1", host))
    client = tracking.connect(settings, workspace)
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter" / "weights.txt").write_text("weights")
    with tracking.training_run(client, "key", tags={"a": "b"}, params={"c": 1}) as run:
        tracking.log_folder(tmp_path / "adapter", "adapter")
    found = client.get_run(run)
    assert [file.path for file in client.list_artifacts(run, "adapter")] == ["adapter/weights.txt"]
    password = stack.logins["MLflow UI"]["password"]
    assert password not in json.dumps(found.to_dictionary())
    assert "@" not in found.info.artifact_uri
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password
    # Another server is not sent it, and files need none.
    tracking.connect(tracking.TrackingSettings(), Workspace(home=tmp_path / "other"))
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == password, "of another home: left alone"
    tracking.connect(tracking.TrackingSettings(uri=f"sqlite:///{tmp_path / 'm.db'}"), workspace)
    assert "MLFLOW_TRACKING_PASSWORD" not in os.environ


# -- the guard by itself -----------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", " , ", "*", "127.0.0.1:4200", "http://127.0.0.1:4200/", "http://", "http://a/b"]
)
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(StackError, match="ORIGINS"):
        guard.parse_origins(text, "ORIGINS")


@pytest.mark.parametrize(
    "missing",
    [
        PREFECT_SERVER_API_AUTH_STRING,
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS,
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED,
    ],
)
def test_a_prefect_server_that_is_open_does_not_start(missing: Any) -> None:
    closed = {
        PREFECT_SERVER_API_AUTH_STRING: "a:b",
        PREFECT_SERVER_CORS_ALLOWED_ORIGINS: "http://127.0.0.1:4200",
        PREFECT_SERVER_CSRF_PROTECTION_ENABLED: True,
    }
    del closed[missing]
    with temporary_settings(closed, restore_defaults={missing}):
        with pytest.raises(StackError, match=missing.name):
            guard.prefect_app()


def test_an_mlflow_server_that_is_open_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_SERVER_CORS_ALLOWED_ORIGINS", "http://127.0.0.1:5000")
    monkeypatch.setenv("MLFLOW_TRACKING_USERNAME", "evergreen")
    monkeypatch.delenv("MLFLOW_TRACKING_PASSWORD", raising=False)
    with pytest.raises(StackError, match="MLFLOW_TRACKING_PASSWORD"):
        guard.mlflow_app()


def test_a_link_elsewhere_may_open_our_pages_but_not_frame_them(stack: Stack) -> None:
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    opened = httpx.get(f"{stack.prefect}/v2/", headers=link | {"Sec-Fetch-Dest": "document"})
    assert opened.status_code == 200
    assert "frame-ancestors 'self'" in opened.headers["Content-Security-Policy"]
    framed = httpx.get(f"{stack.prefect}/v2/", headers=link | {"Sec-Fetch-Dest": "iframe"})
    assert framed.status_code == 403


def test_a_key_opens_mlflow_to_clients_that_know_no_users(stack: Stack) -> None:
    password = stack.logins["MLflow UI"]["password"]
    for scheme, status in ((f"Bearer {password}", 200), ("Bearer x", 401), ("Bearer", 401)):
        answer = httpx.get(f"{stack.mlflow}/version", headers={"Authorization": scheme})
        assert answer.status_code == status
