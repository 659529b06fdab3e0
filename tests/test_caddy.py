"""infra/caddy in front of the servers: TLS, a login for each person, and what each may do."""

import base64
import os
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from uuid import uuid4

import httpx
import pytest

from data_contracts.workspace import Workspace
from infra.local import free_port, prefect_server
from tasks import processes
from tasks.services import PREFECT, login
from tests import authorized
from tests.browser import browser as browser

if TYPE_CHECKING:
    from playwright.sync_api import Browser

CADDYFILE = Path(__file__).parents[1] / "infra/caddy/Caddyfile"
PEOPLE = {"vera": "viewer", "ann": "approver", "otto": "operator", "adam": "admin"}
PASSWORD = "a password of a person"
SERVICE = "evergreen:of-the-service"

# All that is not GET and that one who only looks may do: Prefect's way to ask with a filter.
PREFECT_READS = {
    *("/artifacts/count", "/artifacts/filter", "/artifacts/latest/count"),
    *("/artifacts/latest/filter", "/automations/count", "/automations/filter"),
    *("/automations/templates/validate", "/block_schemas/filter", "/block_types/filter"),
    *("/concurrency_limits/filter", "/deployments/count", "/deployments/filter"),
    *("/deployments/paginate", "/events/count-by/{countable}", "/events/filter"),
    *("/flow_runs/count", "/flow_runs/filter", "/flow_runs/history", "/flow_runs/lateness"),
    *("/flow_runs/paginate", "/flow_runs/{id}/input/filter", "/flows/count", "/flows/filter"),
    *("/flows/paginate", "/logs/filter", "/saved_searches/filter", "/task_runs/count"),
    *("/task_runs/filter", "/task_runs/history", "/task_runs/paginate", "/task_workers/filter"),
    *("/templates/validate", "/ui/flow_runs/count-task-runs", "/ui/flow_runs/history"),
    *("/ui/flows/count-deployments", "/ui/flows/next-runs", "/ui/schemas/validate"),
    *("/ui/task_runs/count", "/ui/task_runs/dashboard/counts", "/v2/concurrency_limits/filter"),
    *("/variables/count", "/variables/filter", "/work_pools/count", "/work_pools/filter"),
    "/work_pools/{work_pool_name}/queues/filter",
    "/work_pools/{work_pool_name}/workers/filter",
    "/work_queues/filter",
}
ANSWERS = {"/flow_runs/{id}/resume"}
RUNS = {
    "/deployments/{id}/create_flow_run",
    "/deployments/{id}/pause_deployment",
    "/deployments/{id}/resume_deployment",
    "/flow_runs/{id}/set_state",
}
MAY_POST = {
    "viewer": PREFECT_READS,
    "approver": PREFECT_READS | ANSWERS,
    "operator": PREFECT_READS | ANSWERS | RUNS,
}


class Caddy(NamedTuple):
    prefect: str
    mlflow: str
    folder: Path

    def client(self, user: str | None, password: str = PASSWORD) -> httpx.Client:
        """Of a person, who trusts Caddy's own authority."""
        root = self.folder / "caddy/pki/authorities/local/root.crt"
        return httpx.Client(
            auth=(user, password) if user else None,
            verify=ssl.create_default_context(cafile=str(root)),
            timeout=60,
        )


@pytest.fixture(scope="module")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of who is who, one of them without a role."""
    caddy = _installed()
    shown = subprocess.run(
        [caddy, "hash-password", "--plaintext", PASSWORD], capture_output=True, text=True
    )
    hashed = shown.stdout.strip()
    names = [*PEOPLE, "nobody"]
    accounts = "".join(f'\t{name} "{hashed}"\n' for name in names)
    roles = "".join(f"\t{name} {role}\n" for name, role in PEOPLE.items())
    file = tmp_path_factory.mktemp("caddy") / "users"
    file.write_text(f"(accounts) {{\n{accounts}}}\n(roles) {{\n{roles}}}\n", encoding="utf-8")
    return file


def _installed() -> str:
    caddy = shutil.which("caddy")
    if caddy is None:
        pytest.skip("there is no caddy: apt-get install caddy")
    return caddy


class Running:
    """Caddy with our file, in front of these servers."""

    def __init__(self, people: Path, folder: Path, upstreams: dict[str, str]) -> None:
        ports = {"PREFECT_PORT": str(free_port()), "MLFLOW_PORT": str(free_port())}
        file = folder / "Caddyfile"
        # The port of the health check is the container's own.
        text = CADDYFILE.read_text("utf-8").replace("http://:8080", f"http://:{free_port()}")
        file.write_text(text, encoding="utf-8")
        self.env = {
            **{name: os.environ[name] for name in ("PATH", "HOME")},
            **ports,
            **upstreams,
            "USERS": str(people),
            "XDG_DATA_HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder),
        }
        self.command = [_installed(), "run", "--config", str(file), "--adapter", "caddyfile"]
        self.caddy = Caddy(
            f"https://localhost:{ports['PREFECT_PORT']}",
            f"https://localhost:{ports['MLFLOW_PORT']}",
            folder,
        )
        self.log = folder / "caddy.log"

    def __enter__(self) -> Caddy:
        with self.log.open("w") as log:
            self.process = processes.start(self.command, env=self.env, stdout=log)
        deadline = time.monotonic() + 60
        while True:
            try:
                self.caddy.client(None).get(self.caddy.prefect + "/api/health")
                return self.caddy
            except (httpx.HTTPError, OSError):
                assert self.process.poll() is None, self.log.read_text()
                assert time.monotonic() < deadline, self.log.read_text()
                time.sleep(0.2)

    def __exit__(self, *_: object) -> None:
        processes.stop(self.process)


def basic(auth_string: str) -> str:
    return base64.b64encode(auth_string.encode()).decode()


@pytest.fixture(scope="module")
def caddy(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caddy]:
    """In front of a server that says which login it was asked with."""

    class Say(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            said = self.headers.get("Authorization", "").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(said)))
            self.end_headers()
            self.wfile.write(said)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - http.server's

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Say)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"127.0.0.1:{server.server_port}"
    upstreams = {
        "PREFECT": address,
        "MLFLOW": address,
        "PREFECT_BASIC": basic(SERVICE),
        "MLFLOW_BASIC": basic(SERVICE),
    }
    with Running(people, tmp_path_factory.mktemp("caddy"), upstreams) as running:
        yield running
    server.shutdown()


@pytest.fixture(scope="module")
def prefect_routes() -> list[tuple[str, str]]:
    from prefect.server.api.server import create_api_app

    paths = create_api_app().openapi()["paths"]
    return [(method.upper(), path) for path, methods in paths.items() for method in methods]


def filled(path: str) -> str:
    """The path with an id in each place for one."""
    return "/".join(
        str(uuid4()) if part.startswith(("{", "<")) else part for part in path.split("/")
    )


def test_caddy_accepts_the_file_as_the_container_has_it(people: Path, tmp_path: Path) -> None:
    users = tmp_path / "users"
    shutil.copy(people, users)
    shutil.copy(CADDYFILE, tmp_path)
    done = subprocess.run(
        [_installed(), "validate", "--config", "Caddyfile", "--adapter", "caddyfile"],
        cwd=tmp_path,
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "PREFECT_BASIC": "eA==",
            "MLFLOW_BASIC": "eA==",
        },
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "Valid configuration" in done.stdout + done.stderr


@pytest.mark.parametrize("user", [None, "nobody", *PEOPLE])
def test_what_each_may_do_with_prefect(
    caddy: Caddy, prefect_routes: list[tuple[str, str]], user: str | None
) -> None:
    role = PEOPLE.get(user or "")
    allowed = set()
    with caddy.client(user) as client:
        for method, path in prefect_routes:
            answer = client.request(method, f"{caddy.prefect}/api{filled(path)}")
            assert answer.status_code in (200, 401, 403), (method, path, answer.text)
            assert (answer.status_code == 401) == (user is None)
            if answer.status_code == 200:
                assert answer.text == f"Basic {basic(SERVICE)}"
                allowed.add((method, path))
    gets = {(method, path) for method, path in prefect_routes if method == "GET"}
    secrets = {one for one in gets if "block_documents" in one[1]}
    assert len(gets) >= 50
    assert len(secrets) == 3
    posts = {("POST", path) for path in MAY_POST.get(role or "", ())}
    assert posts <= set(prefect_routes)
    expected: set[tuple[str, str]] = set()
    if role == "admin":
        expected = set(prefect_routes)
    elif role is not None:
        expected = (gets - secrets) | posts
    assert allowed == expected


@pytest.mark.parametrize("user", [None, "nobody", *PEOPLE])
def test_what_each_may_do_with_mlflow(caddy: Caddy, user: str | None) -> None:
    from mlflow.server import app
    from mlflow.server.fastapi_app import app as fastapi_app

    routes = {
        (method, rule.rule.replace("<path:", "<"))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    routes |= {
        (method, route.path)
        for route in fastapi_app.routes
        for method in getattr(route, "methods", None) or ()
    } - {("HEAD", "/")}
    assert len(routes) > 200
    role = PEOPLE.get(user or "")
    allowed = set()
    with caddy.client(user) as client:
        for method, path in routes:
            answer = client.request(method, caddy.mlflow + filled(path))
            assert answer.status_code in (200, 401, 403), (method, path, answer.text)
            assert (answer.status_code == 401) == (user is None)
            if answer.status_code == 200:
                allowed.add((method, path))
    if role == "admin":
        assert allowed == routes
        return
    if role is None:
        assert not allowed
        return
    endings = {path.rsplit("/", 1)[-1] for method, path in allowed if method != "GET"}
    assert endings <= {"search", "search-datasets", "graphql"}
    assert ("GET", "/") in allowed
    acts = ("/assistant/", "/gateway/", "gateway-proxy", "/jobs")
    assert not [path for _, path in allowed if any(part in path for part in acts)]


@pytest.mark.parametrize("path", ["/api", "/api/flows", "//api/flows", "/%61pi/flows", "/API/x"])
def test_odd_ways_to_the_api_ask_for_the_login_too(caddy: Caddy, path: str) -> None:
    host, port = caddy.prefect.removeprefix("https://").split(":")
    for user, status in ((None, b"401"), ("vera", b"403")):
        auth = f"Authorization: Basic {basic(f'{user}:{PASSWORD}')}\r\n" if user else ""
        request = (
            f"DELETE {path} HTTP/1.1\r\nHost: {host}:{port}\r\n{auth}Connection: close\r\n\r\n"
        )
        answer = _raw(caddy, host, int(port), request)
        assert answer.split(b" ", 2)[1] == status


def _raw(caddy: Caddy, host: str, port: int, request: str) -> bytes:
    import socket

    root = caddy.folder / "caddy/pki/authorities/local/root.crt"
    context = ssl.create_default_context(cafile=str(root))
    with socket.create_connection((host, port), timeout=60) as plain:
        with context.wrap_socket(plain, server_hostname=host) as secure:
            secure.sendall(request.encode())
            return secure.recv(4096)


def test_a_wrong_password_is_none(caddy: Caddy) -> None:
    with caddy.client("adam", "guess") as client:
        assert client.get(f"{caddy.prefect}/api/flows").status_code == 401
        assert client.get(caddy.mlflow).status_code == 401


def test_the_services_pass_with_their_own_login(caddy: Caddy) -> None:
    user, password = SERVICE.split(":")
    with caddy.client(user, password) as client:
        for url in (f"{caddy.prefect}/api/logs/", f"{caddy.mlflow}/api/2.0/mlflow/runs/update"):
            assert client.post(url).text == f"Basic {basic(SERVICE)}"


def test_the_pages_are_there_before_the_login(caddy: Caddy) -> None:
    with caddy.client(None) as client:
        assert client.get(f"{caddy.prefect}/v2/deployments").status_code == 200
        assert client.get(f"{caddy.prefect}/ui-settings").status_code == 200
        refused = client.get(f"{caddy.prefect}/api/flows")
        assert refused.status_code == 401
        assert "WWW-Authenticate" not in refused.headers, "the browser would ask as well"
        # MLflow's page has no login of its own: there the browser asks.
        assert "WWW-Authenticate" in client.get(caddy.mlflow).headers
        assert client.post(f"{caddy.prefect}/ui-settings").status_code == 401
        with pytest.raises(httpx.HTTPError):
            client.get(caddy.prefect.replace("https", "http")).raise_for_status()


# -- in front of a real Prefect server ---------------------------------------------------


@pytest.fixture(scope="module")
def real(people: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Caddy]:
    folder = tmp_path_factory.mktemp("behind")
    workspace = Workspace(home=folder / "home")
    workspace.create()
    own = login(workspace, PREFECT)
    port = free_port()
    upstreams = {
        "PREFECT": f"127.0.0.1:{port}",
        "MLFLOW": "127.0.0.1:1",
        "PREFECT_BASIC": basic(own.auth_string),
        "MLFLOW_BASIC": basic(SERVICE),
    }
    running = Running(people, folder, upstreams)
    server = prefect_server(workspace, port)
    # As compose.yaml has it.
    server.start(
        {
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": running.caddy.prefect,
            "PREFECT_SERVER_UI_API_URL": "/api",
        }
    )
    try:
        with running as caddy:
            # Its own address is not among those it answers to: it is behind Caddy.
            deadline = time.monotonic() + 180
            user, password = own.auth_string.split(":")
            with caddy.client(user, password) as client:
                while client.get(f"{caddy.prefect}/api/health").status_code != 200:
                    assert time.monotonic() < deadline
                    time.sleep(0.5)
            yield caddy
    finally:
        server.stop()


def ask(caddy: Caddy, user: str, method: str, path: str, **json: Any) -> httpx.Response:
    with caddy.client(user) as client:
        headers = {}
        if method != "GET":
            headers = authorized.csrf_headers(client, f"{caddy.prefect}/api")
        return client.request(method, f"{caddy.prefect}/api{path}", json=json, headers=headers)


def test_roles_before_a_real_server(real: Caddy) -> None:
    flow = ask(real, "adam", "POST", "/flows/", name="roll").json()
    made = ask(real, "adam", "POST", "/deployments/", name="back", flow_id=flow["id"])
    assert made.status_code in (200, 201), made.text
    deployment = f"/deployments/{made.json()['id']}"
    for user in ("vera", "ann", "otto"):
        assert ask(real, user, "GET", deployment).json()["name"] == "back"
        (found,) = ask(real, user, "POST", "/deployments/filter").json()
        assert found["name"] == "back"
        assert ask(real, user, "PATCH", deployment, description="pwned").status_code == 403
        assert ask(real, user, "DELETE", deployment).status_code == 403
        assert ask(real, user, "POST", "/block_documents/filter").status_code == 403
    for user in ("vera", "ann"):
        assert ask(real, user, "POST", f"{deployment}/create_flow_run").status_code == 403
    paused = {"type": "PAUSED", "name": "Paused", "state_details": {"pause_key": "k"}}
    started = ask(real, "otto", "POST", f"{deployment}/create_flow_run")
    assert started.status_code == 201, started.text
    run = f"/flow_runs/{started.json()['id']}"
    running = {"type": "RUNNING"}
    for state in (running, paused):
        set_to = ask(real, "adam", "POST", f"{run}/set_state", state=state, force=True)
        assert set_to.status_code in (200, 201), set_to.text
    assert ask(real, "vera", "POST", f"{run}/resume").status_code == 403
    answered = ask(real, "ann", "POST", f"{run}/resume")
    assert answered.json()["status"] == "ACCEPT", answered.text
    assert ask(real, "vera", "GET", deployment).json()["description"] is None


def test_a_page_elsewhere_is_refused_behind_caddy_too(real: Caddy) -> None:
    with real.client("adam") as client:
        for origin, status in ((real.prefect, 200), ("https://evil.example", 403)):
            answer = client.get(f"{real.prefect}/api/version", headers={"Origin": origin})
            assert answer.status_code == status


@pytest.mark.parametrize("ui", ["", "v2/"])
def test_a_person_logs_in_once(real: Caddy, browser: "Browser", ui: str) -> None:
    ask(real, "adam", "POST", "/variables/", name=f"seen_{ui[:2]}", value="it is there")
    context = browser.new_context(ignore_https_errors=True)
    page = context.new_page()
    page.set_default_timeout(60_000)
    page.goto(f"{real.prefect}/{ui}variables")
    page.get_by_placeholder("admin:pass").fill(f"vera:{PASSWORD}")
    page.get_by_role("button", name="Login").click()
    page.get_by_text("it is there").first.wait_for()
