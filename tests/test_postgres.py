"""Prefect and MLflow on a real Postgres, as the team server has them."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from data_contracts.errors import RegistryError
from data_contracts.snapshots import RowAccount, Snapshot
from data_contracts.workspace import Workspace
from infra.local import environment, free_port, prefect_server
from models.adapters import Adapter
from models.base import Base
from tasks import registry, tracking
from tasks.services import PREFECT, login
from tests import authorized
from tests.leaks import leaks, leaks_in, needles
from tests.postgres import Postgres, execute
from tests.postgres import postgres as postgres

FLOW = """
from prefect import flow, task

@task
def double(number: int) -> int:
    return number * 2

@flow(name="on-postgres")
def doubled(number: int) -> int:
    return double(number)

print("answer", doubled(21))
"""


@pytest.fixture(autouse=True)
def mlflow_forgets() -> Iterator[None]:
    """No later test is to look for this Postgres."""
    yield
    mlflow.set_tracking_uri("")
    mlflow.set_registry_uri("")


def test_prefect_keeps_flow_runs_on_postgres(
    postgres: Postgres, workspace: Workspace, tmp_path: Path
) -> None:
    service, own = prefect_server(workspace, free_port()), login(workspace, PREFECT)
    database = postgres.url("prefect", "postgresql+asyncpg")
    service.start({"PREFECT_API_DATABASE_CONNECTION_URL": database})
    try:
        service.wait()
        api = f"{service.url}/api"
        script = tmp_path / "doubled.py"
        script.write_text(FLOW, encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, str(script)],
            env={
                **os.environ,
                **environment(workspace),
                "PREFECT_API_URL": api,
                "PREFECT_API_AUTH_STRING": own.auth_string,
            },
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert "answer 42" in ran.stdout, ran.stderr
        found = authorized.post(f"{api}/flow_runs/filter", json={}, login=own.auth_string)
        (run,) = found.json()
    finally:
        service.stop()
    assert run["state_type"] == "COMPLETED"
    assert run["parameters"] == {"number": 21}
    stored = execute(postgres, "prefect", "SELECT id::text, state_type::text FROM flow_run")
    assert stored == [(run["id"], "COMPLETED")]
    assert not list(workspace.prefect.glob("*.db"))


def test_a_champion_is_kept_on_postgres(
    postgres: Postgres, workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    settings = tracking.TrackingSettings(uri=postgres.url("mlflow"))
    client = tracking.connect(settings, workspace)
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    adapter = Adapter.at(folder)
    base = Base(
        id="tiny",
        revision=None,
        path=str(tmp_path),
        digest="0" * 64,
        tokenizer_digest="1" * 64,
        dtype="float32",
    )
    holdout = Snapshot(
        path=str(tmp_path), digest="2" * 64, account=RowAccount(rows_in=1, rows_out=1)
    )
    with tracking.training_run(client, "one", tags={}, params={"rank": 8}) as run_id:
        tracking.log_step(1, loss=2.0)

    def register() -> registry.Version:
        return registry.register(
            client,
            "tiny",
            adapter=adapter,
            base=base,
            train=holdout,
            holdout=holdout,
            run_id=run_id,
            tags={registry.LOSS_TAG: "1.5", registry.REASON_TAG: "the first"},
        )

    version = register()
    assert register().version == version.version == "1"
    assert registry.champion(client, "tiny") is None

    client.set_registered_model_alias("tiny", "champion", version.version)

    reigning = registry.champion(tracking.connect(settings, workspace), "tiny")
    assert reigning is not None
    assert (reigning.version, reigning.holdout_loss) == ("1", 1.5)
    loaded = registry.load(reigning)
    assert loaded.adapter.digest == adapter.digest
    assert loaded.base == base
    stored = execute(postgres, "mlflow", "SELECT alias, version FROM registered_model_aliases")
    assert stored == [("champion", 1)]
    # Artifacts are below the workspace, not in ./mlruns.
    assert (workspace.mlflow / "artifacts").is_dir()
    assert not list(elsewhere.iterdir())
    # The password that all of it went through was not written down.
    wanted = needles([postgres.password])
    assert leaks(workspace.home, wanted=wanted) == {}
    tables = "SELECT tablename FROM pg_tables WHERE schemaname = 'public'"
    for (table,) in execute(postgres, "mlflow", tables):
        rows = execute(postgres, "mlflow", f'SELECT t::text FROM "{table}" t')  # noqa: S608
        assert leaks_in(repr(rows).encode(), wanted) == set(), table


def test_a_refused_connection_does_not_show_the_password(
    postgres: Postgres, workspace: Workspace
) -> None:
    wrong = postgres._replace(password="not-the-password")
    settings = tracking.TrackingSettings(uri=wrong.url("mlflow"))
    with pytest.raises(RegistryError) as refused:
        tracking.connect(settings, workspace)
    assert "127.0.0.1" in str(refused.value)
    assert "not-the-password" not in str(refused.value)


@pytest.mark.parametrize(
    ("uri", "ours"),
    [
        ("sqlite:////somewhere/mlflow.db", True),
        ("postgresql://user@host/mlflow", True),
        ("postgresql+psycopg2://user@host/mlflow", True),
        ("http://mlflow:5000", False),
        ("https://mlflow.example.com", False),
    ],
)
def test_artifacts_are_a_servers_business_and_otherwise_ours(
    uri: str, ours: bool, workspace: Workspace
) -> None:
    location = tracking.artifact_location(uri, workspace)
    assert location == ((workspace.mlflow / "artifacts").as_uri() if ours else None)
