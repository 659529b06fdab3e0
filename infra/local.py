"""The local stack: a Prefect server and an MLflow server on SQLite, on loopback ports.

Nothing here imports Prefect or MLflow at the top: `environment` has to be in place first.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from data_contracts.errors import StackError
from data_contracts.workspace import HOME_VARIABLE, Workspace
from tasks import processes

START_SECONDS = 180.0
# Variables that say where compiled kernels are kept, and the folders of the cache that they name.
COMPILED = {
    "TORCH_EXTENSIONS_DIR": "torch_extensions",
    "TRITON_CACHE_DIR": "triton",
    "TORCHINDUCTOR_CACHE_DIR": "inductor",
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


def answers(url: str) -> bool:
    """Whether an HTTP GET of `url` gives 200 within two seconds."""
    try:
        with urllib.request.urlopen(url, timeout=2) as response:  # noqa: S310 - our own URLs
            status: int = response.status
            return status == 200
    except (OSError, urllib.error.URLError, ValueError):
        return False


class Service:
    """A server of ours: its process, where it answers, where it writes its log."""

    def __init__(self, name: str, url: str, health: str, command: list[str], log: Path) -> None:
        self.name = name
        self.url = url
        self.health = health
        self.log = log
        self._command = command
        self._process: subprocess.Popen[str] | None = None

    def start(self, env: dict[str, str]) -> None:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("a", encoding="utf-8") as log:
            self._process = processes.start(
                self._command, env={**os.environ, **env}, cwd=str(self.log.parent), stdout=log
            )

    def wait(self) -> None:
        """Return when it answers.

        Raises:
            StackError: it ended, or does not answer within START_SECONDS.
        """
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            if answers(self.url + self.health):
                return
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
    return Service(
        "the Prefect server",
        f"http://127.0.0.1:{port}",
        "/api/health",
        [
            *(sys.executable, "-m", "prefect", "server", "start"),
            *("--host", "127.0.0.1", "--port", str(port)),
        ],
        workspace.prefect / "server.log",
    )


def mlflow_server(workspace: Workspace, port: int) -> Service:
    workspace.mlflow.mkdir(parents=True, exist_ok=True)
    return Service(
        "the MLflow server",
        f"http://127.0.0.1:{port}",
        "/health",
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1"),
            *("--host", "127.0.0.1", "--port", str(port)),
            *("--allowed-hosts", f"127.0.0.1:{port},localhost:{port}"),
            *("--backend-store-uri", f"sqlite:///{workspace.mlflow / 'mlflow.db'}"),
            *("--artifacts-destination", str(workspace.mlflow / "artifacts"), "--serve-artifacts"),
        ],
        workspace.mlflow / "server.log",
    )


def serve_deployments(
    workspace: Workspace, api_url: str, config: Path | None
) -> "subprocess.Popen[str]":
    """A process that registers the deployments and automations and runs what is asked of them.

    Returns once it serves; its output is in `runner.log` of the workspace.

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


# -- which services are up, for the other commands to find ---------------------------


def record_services(workspace: Workspace, services: list[Service]) -> None:
    """Note what is running, so that `status`, `retrain` and others use it."""
    running = {service.name: service.url for service in services}
    file = _record(workspace)
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(running, indent=2), encoding="utf-8")
    partial.replace(file)


def forget_services(workspace: Workspace) -> None:
    _record(workspace).unlink(missing_ok=True)


def running_services(workspace: Workspace) -> dict[str, str]:
    """{name: URL} of the services noted that answer now."""
    try:
        noted: dict[str, str] = json.loads(_record(workspace).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    health = {"the Prefect server": "/api/health", "the MLflow server": "/health"}
    return {name: url for name, url in noted.items() if answers(url + health.get(name, "/"))}


def _record(workspace: Workspace) -> Path:
    return workspace.home / "services.json"


class PrefectApi:
    """A Prefect API to run flows against: PREFECT_API_URL, the running stack's, or our own.

    Make one before anything imports Prefect, which reads the address on import. A
    server of our own is up only inside `running()`; its database stays.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._server: Service | None = None
        running = running_services(workspace).get("the Prefect server")
        url = os.environ.get("PREFECT_API_URL") or (running and f"{running}/api")
        if not url:
            # The port that `up` takes too, so that links to runs stay good.
            self._server = prefect_server(workspace, choose_port(None, 4200))
            url = f"{self._server.url}/api"
        os.environ["PREFECT_API_URL"] = self.url = url

    @contextmanager
    def running(self) -> Iterator[None]:
        """The API answers inside this block.

        Raises:
            StackError: our server cannot be started.
        """
        if self._server is None:
            yield
            return
        self._server.start(dict(os.environ))
        try:
            self._server.wait()
            yield
        finally:
            _send_what_is_queued()
            self._server.stop()


def _send_what_is_queued() -> None:
    """Prefect sends logs and events in the background; wait for them while the server is up."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        for worker in (APILogWorker, EventsWorker):
            worker.drain_all(timeout=10, at_exit=False)
