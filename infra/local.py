"""The local stack: a Prefect server and an MLflow server on SQLite, on loopback ports.

Both ask for a login of this home (tasks.services) and answer nobody but programs that have it and
their own pages (infra.guard). Nothing here imports Prefect or MLflow at the top: `environment` has
to be in place first.
"""

import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

from filelock import FileLock, Timeout

from data_contracts.errors import StackError
from data_contracts.workspace import HOME_VARIABLE, Workspace
from tasks import processes
from tasks.services import (
    HEALTH,
    LOOPBACK,
    MLFLOW,
    PREFECT,
    Name,
    Running,
    answers,
    listens,
    login,
    login_at,
    running_services,
)

START_SECONDS = 180.0
# What pyproject.toml calls infra.guard:mlflow_app.
MLFLOW_APP = "evergreen"
# Variables that say where compiled kernels are kept, and the folders of the cache that they name.
COMPILED = {
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
}
# What a server takes over from the environment it is started in. Keys and tokens (of the scrub, a
# judge, a hub, a cloud) are for the flows and stay out of it.
INHERITED = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ"),
        *("TMPDIR", "TEMP", "TMP", "LD_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"),
        *("PYTHONPATH", "PYTHONHOME", "PYTHONUNBUFFERED", "PYTHONUTF8", "PYTHONIOENCODING"),
        *("PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONHASHSEED", "PYTHONWARNINGS"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
        *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY"),
        *("http_proxy", "https_proxy", "all_proxy", "no_proxy"),
    }
)
# And each server its own settings, such as its database.
INHERITED_SETTINGS: dict[Name, tuple[str, ...]] = {
    PREFECT: (
        *("PREFECT_SERVER_DATABASE_", "PREFECT_API_DATABASE_", "PREFECT_SERVER_SERVICES_"),
        *("PREFECT_SERVER_LOGGING_", "PREFECT_LOGGING_"),
    ),
    MLFLOW: ("MLFLOW_SERVER_", "MLFLOW_GATEWAY_", "MLFLOW_CRYPTO_"),
}


def environment(workspace: Workspace) -> dict[str, str]:
    """Variables that keep every library's state below the workspace and its telemetry off."""
    return {
        HOME_VARIABLE: str(workspace.home),
        "PREFECT_HOME": str(workspace.prefect),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
        "PREFECT_CLI_PROMPT": "false",
        # A run that is silent for three of these is marked as crashed by an automation.
        "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
        "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
        "MLFLOW_LOGGING_LEVEL": "WARNING",
        "GX_ANALYTICS_ENABLED": "false",
        "DO_NOT_TRACK": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
        "MPLCONFIGDIR": str(workspace.cache / "matplotlib"),
        # Compiled kernels are the same wherever they are used: a shared folder is honoured.
        **{
            name: os.environ.get(name) or str(workspace.cache / folder)
            for name, folder in COMPILED.items()
        },
    }


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


class Service:
    """A server of ours: its process, where it answers, its environment, where it writes its log."""

    def __init__(
        self, name: Name, url: str, command: list[str], env: Mapping[str, str], log: Path
    ) -> None:
        self.name = name
        self.url = url
        self.log = log
        self._command = command
        self._env = env
        self._process: subprocess.Popen[str] | None = None

    def start(self, more: Mapping[str, str] | None = None) -> None:
        """Start it, with `more` variables in its environment."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            self._process = processes.start(
                self._command,
                env={**self._env, **(more or {})},
                cwd=str(self.log.parent),
                stdout=log,
            )

    def wait(self) -> Running:
        """Return when it answers: this process, not another that took its port.

        Raises:
            StackError: it ended, or does not answer within START_SECONDS.
        """
        if self._process is None:
            raise StackError(f"{self.name} was not started", "start it before waiting for it")
        running = Running(url=self.url, pid=self._process.pid)
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if answers(self.url + HEALTH[self.name]) and listens(running.pid, self.url):
                return running
            if self.ended:
                raise StackError(
                    f"{self.name} did not start: {self._last_line()}", f"see {self.log}"
                )
            time.sleep(0.2)
        self.stop()
        raise StackError(f"{self.name} does not answer at {self.url}", f"see {self.log}")

    @property
    def ended(self) -> bool:
        return self._process is not None and self._process.poll() is not None

    def _last_line(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "no output")[:200]

    def stop(self) -> None:
        if self._process is not None:
            processes.stop(self._process)


def prefect_server(workspace: Workspace, port: int) -> Service:
    url = address(port)
    return Service(
        PREFECT,
        url,
        [
            *(sys.executable, "-m", "uvicorn", "--factory", "infra.guard:prefect_app"),
            *("--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"),
        ],
        {
            **_server_environment(workspace, PREFECT),
            "PREFECT_SERVER_API_AUTH_STRING": login(workspace, PREFECT).auth_string,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": _addresses(port),
            "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
            # Where the UI in a browser finds the API, and links in notifications the UI.
            "PREFECT_SERVER_UI_API_URL": f"{url}/api",
            "PREFECT_UI_URL": url,
            "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
        },
        workspace.prefect / "server.log",
    )


def mlflow_server(workspace: Workspace, port: int) -> Service:
    """Its artifacts are below the home, so that it needs no key of a cloud.

    Raises:
        StackError: MLflow does not know of the login that stands in front of it.
    """
    if not metadata.entry_points(group="mlflow.app", name=MLFLOW_APP):
        raise StackError("this installation is older than its code", "run `make install`")
    workspace.mlflow.mkdir(parents=True, exist_ok=True)
    own = login(workspace, MLFLOW)
    return Service(
        MLFLOW,
        address(port),
        [
            *(sys.executable, "-m", "mlflow", "server", "--app-name", MLFLOW_APP),
            *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
            *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
            *("--cors-allowed-origins", _addresses(port)),
            *("--backend-store-uri", f"sqlite:///{workspace.mlflow / 'mlflow.db'}"),
            *("--artifacts-destination", str(workspace.mlflow / "artifacts"), "--serve-artifacts"),
        ],
        {
            # Its runners of jobs are six processes for what Evergreen does not use.
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            **_server_environment(workspace, MLFLOW),
            # What it asks for, and what its own jobs say.
            "MLFLOW_TRACKING_USERNAME": own.user,
            "MLFLOW_TRACKING_PASSWORD": own.password.get_secret_value(),
        },
        workspace.mlflow / "server.log",
    )


def address(port: int) -> str:
    return f"http://{LOOPBACK[0]}:{port}"


def _addresses(port: int) -> str:
    """What a browser may call a server of ours."""
    return ",".join(f"http://{host}:{port}" for host in LOOPBACK)


def _server_environment(workspace: Workspace, name: Name) -> dict[str, str]:
    inherited = {
        variable: value
        for variable, value in os.environ.items()
        if variable in INHERITED or variable.startswith(("LC_", *INHERITED_SETTINGS[name]))
    }
    return inherited | environment(workspace)


def log_in(workspace: Workspace, api_url: str) -> None:
    """Point Prefect's client, in this process and those it starts, to an API of this home."""
    os.environ["PREFECT_API_URL"] = api_url
    os.environ["PREFECT_API_AUTH_STRING"] = login(workspace, PREFECT).auth_string
    if "prefect" in sys.modules:
        from prefect.context import refresh_global_settings_context

        refresh_global_settings_context()


def reach_prefect(workspace: Workspace) -> str | None:
    """The API for Prefect's client here: PREFECT_API_URL, or the running stack's, logged in.

    An API that is not of this home is asked with what the environment says, and nothing else.
    """
    url = os.environ.get("PREFECT_API_URL")
    if not url:
        running = running_services(workspace).get(PREFECT)
        url = f"{running}/api" if running else None
    if url and login_at(workspace, url):
        log_in(workspace, url)
    return url


def serve_deployments(
    workspace: Workspace, api_url: str, config: Path | None
) -> "subprocess.Popen[str]":
    """A process that registers the deployments and automations and runs what is asked of them.

    It logs in as this process does. Returns once it serves; its output is in `runner.log` of the
    workspace.

    Raises:
        StackError: it ended instead.
    """
    log = workspace.prefect / "runner.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a", encoding="utf-8") as file:
        before = file.tell()
        runner = processes.start(
            [
                *(sys.executable, "-m", "flows.deployments", "serve"),
                *([str(config.absolute())] if config else []),
            ],
            env={**os.environ, **environment(workspace), "PREFECT_API_URL": api_url},
            stdout=file,
        )
    try:
        while b"being served" not in log.read_bytes()[before:]:
            if runner.poll() is not None:
                raise StackError("the deployments could not be served", f"{log} says why")
            time.sleep(0.2)
    except BaseException:
        processes.stop(runner)
        raise
    return runner


def choose_port(wanted: int | None, usual: int) -> int:
    """`wanted` if given and free; else the usual one if free and not another command's; else any.

    Raises:
        StackError: the wanted port is in use.
    """
    if wanted is not None:
        if not is_free(wanted):
            raise StackError(f"port {wanted} is in use", "choose another or leave the option out")
        return wanted
    return usual if is_free(usual) and _claim(usual) else free_port()


_CLAIMS: list[FileLock] = []


def _claim(port: int) -> bool:
    """Whether no other process of ours has chosen this port; it is this one's until it ends.

    Of two commands that start at once both find it free, as neither serves on it yet.
    """
    lock = FileLock(Path(tempfile.gettempdir()) / f"evergreen-{os.getuid()}-port-{port}.lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    _CLAIMS.append(lock)
    return True


class PrefectApi:
    """A Prefect API to run flows against: PREFECT_API_URL, the running stack's, or our own.

    Make one before anything imports Prefect, which reads the address on import. A server of our
    own is up only inside `running()`; its database stays.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._port: int | None = None
        url = reach_prefect(workspace)
        if url is None:
            # The port that `up` takes too, so that links to runs stay good.
            self._port = choose_port(None, 4200)
            url = f"{address(self._port)}/api"
        os.environ["PREFECT_API_URL"] = self.url = url

    @contextmanager
    def running(self) -> Iterator[None]:
        """The API answers inside this block.

        Raises:
            StackError: our server cannot be started.
        """
        if self._port is None:
            yield
            return
        # Not before there is something to run: the login is a file of the home.
        server = prefect_server(self._workspace, self._port)
        log_in(self._workspace, self.url)
        server.start()
        try:
            server.wait()
            yield
        finally:
            _send_what_is_queued()
            server.stop()


def _send_what_is_queued() -> None:
    """Prefect sends logs and events in the background; wait for them while the server is up."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=10, at_exit=False)
