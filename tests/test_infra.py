"""The team server's files: read, not run, for what would break or leak when they are."""

import base64
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.flows import load_flow_from_entrypoint

from data_contracts.workspace import Workspace
from flows.settings import Settings
from infra import guard
from infra.guard import parse_origins
from infra.local import COMPILED, MLFLOW_APP, environment
from tests import authorized
from tests.deployed import served

ROOT = Path(__file__).parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.yaml").read_text("utf-8"))
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
LOCAL: dict[str, Any] = yaml.safe_load((ROOT / "infra/compose.local.yaml").read_text("utf-8"))
DOCKERFILE = (ROOT / "infra/Dockerfile").read_text("utf-8").replace("\\\n", " ")
ENV_EXAMPLE = (ROOT / "infra/evergreen.env.example").read_text("utf-8")
PREFECT: dict[str, Any] = yaml.safe_load((ROOT / "prefect.yaml").read_text("utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))

REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")


def texts(tree: Any) -> Iterator[str]:
    if isinstance(tree, dict):
        tree = list(tree.values())
    if isinstance(tree, list):
        for part in tree:
            yield from texts(part)
    else:
        yield str(tree)


# -- compose.yaml --------------------------------------------------------------------


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned(name: str) -> None:
    assert re.search(r":\d+(\.\d+)+$", SERVICES[name]["image"])


def test_the_base_image_has_the_python_of_the_project() -> None:
    (base,) = re.findall(r"^FROM (\S+)", DOCKERFILE, re.M)
    assert base.split("@")[0] == "python:3.11-trixie"
    assert PYPROJECT["project"]["requires-python"].startswith(">=3.11")


def test_passwords_are_asked_for_and_have_no_default() -> None:
    for service in SERVICES.values():
        for name, text in service.get("environment", {}).items():
            if re.search("PASSWORD|SECRET", name):
                assert REQUIRED.fullmatch(text), name
    for text in texts(COMPOSE):
        for secret in re.findall(r"//\w+:(.+?)@", text):
            assert REQUIRED.fullmatch(secret), text


def test_the_example_names_every_required_variable_and_gives_none() -> None:
    required = {name for text in texts(COMPOSE) for name in REQUIRED.findall(text)}
    given = dict(re.findall(r"^(\w+)=(.*)$", ENV_EXAMPLE, re.M))
    assert given == dict.fromkeys(required, "")
    optional = {name for text in texts(COMPOSE) for name in re.findall(r"\$\{(\w+):-", text)}
    assert optional == set(re.findall(r"^#(\w+)=", ENV_EXAMPLE, re.M))


def test_only_caddy_has_ports_and_on_loopback_unless_asked() -> None:
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["caddy"]
    assert SERVICES["caddy"]["profiles"] == ["caddy"]
    for port in SERVICES["caddy"]["ports"]:
        assert port.startswith("${BIND_ADDRESS:-127.0.0.1}:")


def test_without_caddy_the_servers_are_for_this_machine() -> None:
    assert set(LOCAL["services"]) == {"prefect", "mlflow"}
    for service in LOCAL["services"].values():
        assert service.keys() == {"ports"}
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def given(service: str) -> dict[str, str]:
    """The environment of a service where the env file has no more than it must."""
    secrets = {name: f"{name}-value" for name in REQUIRED.findall("".join(texts(COMPOSE)))}

    def value(text: str) -> str:
        text = REQUIRED.sub(lambda found: secrets[found[1]], text)
        return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)

    return {name: value(text) for name, text in SERVICES[service]["environment"].items()}


def test_the_servers_ask_for_a_login_and_the_services_have_it() -> None:
    server = given("prefect")
    assert server["PREFECT_SERVER_API_AUTH_STRING"] == "evergreen:PREFECT_PASSWORD-value"
    assert server["PREFECT_SERVER_CSRF_PROTECTION_ENABLED"] == "true"
    addresses = parse_origins(server["PREFECT_SERVER_CORS_ALLOWED_ORIGINS"], "")
    assert "https://localhost" in addresses  # Caddy's
    for client in ("deploy", "worker"):
        env = given(client)
        assert env["PREFECT_API_AUTH_STRING"] == server["PREFECT_SERVER_API_AUTH_STRING"]
        assert env["PREFECT_API_URL"].removesuffix("/api") in addresses
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        assert given("worker")[name] == given("mlflow")[name]
    assert SERVICES["prefect"]["command"][:3] == ["uvicorn", "--factory", "infra.guard:prefect_app"]
    assert callable(guard.prefect_app)


def test_caddy_knows_the_logins_of_the_servers() -> None:
    script = SERVICES["caddy"]["command"][-1].replace("$$", "$")
    assert "exec caddy run" in script
    shown = re.sub("exec caddy run .*", 'echo "$PREFECT_BASIC $MLFLOW_BASIC"', script)
    env = {**given("caddy"), "PATH": os.environ["PATH"]}
    done = subprocess.run([*SERVICES["caddy"]["entrypoint"], shown], env=env, capture_output=True)
    logins = [base64.b64decode(one).decode() for one in done.stdout.split()]
    assert logins == [
        given("prefect")["PREFECT_SERVER_API_AUTH_STRING"],
        ":".join(given("mlflow")[f"MLFLOW_TRACKING_{part}"] for part in ("USERNAME", "PASSWORD")),
    ]


def test_who_is_who_stays_out_of_the_repository_and_of_images() -> None:
    for file in (".gitignore", ".dockerignore"):
        assert "infra/caddy/users" in (ROOT / file).read_text("utf-8").splitlines()


def test_services_wait_for_what_they_need() -> None:
    for name, service in SERVICES.items():
        once = service["restart"] == "no"
        assert once or "healthcheck" in service, name
        for other, how in service.get("depends_on", {}).items():
            done = SERVICES[other]["restart"] == "no"
            wanted = "service_completed_successfully" if done else "service_healthy"
            assert how["condition"] == wanted, f"{name} on {other}"


def test_state_is_in_named_volumes() -> None:
    mounted = {
        name: dict(volume.split(":") for volume in service["volumes"] if volume[0] != ".")
        for name, service in SERVICES.items()
        if "volumes" in service
    }
    assert {volume for volumes in mounted.values() for volume in volumes} == set(COMPOSE["volumes"])
    assert f"EVERGREEN_HOME={mounted['worker']['home']} " in DOCKERFILE


def test_mlflow_understands_its_options() -> None:
    from mlflow.cli import cli

    program, command, *options = SERVICES["mlflow"]["command"]
    assert (program, command) == ("mlflow", "server")
    parsed = cli.commands["server"].make_context("server", options).params
    assert parsed["serve_artifacts"] is True
    assert "mlflow:5000" in parsed["allowed_hosts"].split(",")
    assert parsed["app_name"] == MLFLOW_APP
    addresses = parse_origins(parsed["cors_allowed_origins"], "")
    assert {"http://mlflow:5000", "https://${PUBLIC_HOST:-localhost}:8443"} <= set(addresses)


def test_the_deployments_of_the_stack_are_those_of_prefect_yaml() -> None:
    script = SERVICES["deploy"]["command"][-1]
    deployments = PREFECT["deployments"]
    (pool,) = {deployment["work_pool"]["name"] for deployment in deployments}
    assert f"work-pool create {pool} " in script
    (looped,) = re.findall(r"for name in ([a-z ]+);", script)
    alone = {"notify", "train"}  # they take no settings
    assert all(f"deploy --name {name}\n" in script for name in alone)
    assert {*looped.split(), *alone} == {deployment["name"] for deployment in deployments}
    assert "flows.deployments automate" in script
    assert SERVICES["worker"]["command"][:5] == ["prefect", "worker", "start", "--pool", pool]
    (given,) = re.findall(r"--param 'settings=(.+)'", script)
    settings = Settings.model_validate(json.loads(given))
    assert settings.tracking.uri is not None
    assert settings.tracking.uri.reveal("tracking.uri") == "http://mlflow:5000"


def test_compose_accepts_it() -> None:
    docker = shutil.which("docker")
    if not docker or subprocess.run([docker, "compose", "version"], capture_output=True).returncode:
        pytest.skip("no `docker compose` here")
    secrets = dict.fromkeys(REQUIRED.findall("".join(texts(COMPOSE))), "x")
    files = ("-f", str(ROOT / "infra/compose.yaml"), "-f", str(ROOT / "infra/compose.local.yaml"))
    command = [docker, "compose", *files, "--profile", "caddy", "config", "--quiet"]
    checked = subprocess.run(command, env=os.environ | secrets, capture_output=True, text=True)
    assert checked.returncode == 0, checked.stderr


# -- Dockerfile ----------------------------------------------------------------------


def test_the_image_has_all_packages() -> None:
    for package in PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]:
        assert f"COPY {package.rstrip('*')} {package.rstrip('*')}\n" in DOCKERFILE


def test_the_image_does_not_run_as_root() -> None:
    assert re.findall(r"^USER (\S+)", DOCKERFILE, re.M) == ["evergreen"]


def test_the_image_is_as_quiet_as_the_local_stack(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for honoured in COMPILED:
        monkeypatch.delenv(honoured, raising=False)
    folder = "/var/lib/evergreen"
    wanted = {
        name: value.replace(str(workspace.home), folder)
        for name, value in environment(workspace).items()
    }
    assert set(wanted.items()) <= set(re.findall(r"(\w+)=(\S+)", DOCKERFILE))


@pytest.mark.parametrize("package", ["fastapi==0.150.0", "prefect==3.8.8"])
def test_prefects_server_gets_the_fastapi_it_starts_with(package: str) -> None:
    assert package in PYPROJECT["project"]["dependencies"]


# -- prefect.yaml --------------------------------------------------------------------


def test_the_entrypoints_are_flows_that_take_the_parameters() -> None:
    for deployment in PREFECT["deployments"]:
        flow = load_flow_from_entrypoint(str(ROOT / deployment["entrypoint"]))
        assert flow.name == deployment["name"]
        if "parameters" in deployment:
            given = flow.validate_parameters(deployment["parameters"])
            assert given["settings"] == Settings()


def test_what_is_served_is_what_prefect_yaml_has() -> None:
    from flows.deployments import deployments

    served = {(one.flow_name, one.name, *one.tags) for one in deployments(Settings())}
    assert served == {(one["name"], one["name"], *one["tags"]) for one in PREFECT["deployments"]}


def test_prefect_deploys_it(prefect_api: str, tmp_path: Path) -> None:
    for command in (
        [
            *("work-pool", "create", "evergreen", "--type", "process", "--overwrite"),
            *("--base-job-template", "infra/work_pool.json"),
        ],
        ["deploy", "--all"],
    ):
        done = subprocess.run(
            [sys.executable, "-m", "prefect", *command],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stdout + done.stderr
    deployment = authorized.get(
        f"{prefect_api}/deployments/name/retrain/retrain", timeout=30
    ).json()
    assert deployment["work_pool_name"] == "evergreen"
    assert deployment["parameters"] == {"settings": {}}
    assert [schedule["active"] for schedule in deployment["schedules"]] == [False]
    automate = [sys.executable, "-m", "flows.deployments", "automate"]
    for _ in range(2):
        done = subprocess.run(automate, cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    filtered = authorized.post(f"{prefect_api}/automations/filter", json={"limit": 100})
    names = [found["name"] for found in filtered.json()]
    ours = [name for name in names if name.startswith("evergreen: ")]
    assert len(ours) == len(set(ours)) == 8
    # And `evergreen up` takes over what a pool had.
    workspace = Workspace(home=tmp_path / "home")
    workspace.create()
    with served(workspace, prefect_api, None):
        watch = authorized.get(f"{prefect_api}/deployments/name/watch/watch").json()
        assert [(one["slug"], one["active"]) for one in watch["schedules"]] == [("regular", False)]
        assert (watch["work_pool_name"], watch["path"]) == (None, ".")
