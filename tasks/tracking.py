"""MLflow runs: one a training, found again by what it trained."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.databases import database_url, hide_password, without_password
from data_contracts.errors import RegistryError
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from tasks.home.opening import open_home
from tasks.secrets import Address
from tasks.services import MLFLOW, USER, login, login_at

KEY_TAG = "evergreen.key"


class TrackingSettings(BaseModel):
    """Where MLflow is."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    uri: Address | None = Field(
        default=None,
        description="Tracking and registry URI; default SQLite below EVERGREEN_HOME. A secret if"
        " it holds a password.",
    )
    experiment: str = Field(default="evergreen", min_length=1, description="MLflow experiment.")


def tracking_uri(settings: TrackingSettings, workspace: Workspace) -> str:
    """Raises ConfigError: it cannot be read where the setting says."""
    file = f"sqlite:///{workspace.mlflow / 'mlflow.db'}"
    return database_url(file if settings.uri is None else settings.uri.reveal("tracking.uri"))


def artifact_location(uri: str, workspace: Workspace) -> str | None:
    """Where a new experiment's artifacts go; None leaves it to the server.

    Spoken to directly, a database has no say in it, and MLflow would take ./mlruns.
    """
    return (workspace.mlflow / "artifacts").as_uri() if _is_database(uri) else None


def _is_database(uri: str) -> bool:
    from mlflow.store.db.db_types import DATABASE_ENGINES

    return uri.split(":")[0].split("+")[0] in DATABASE_ENGINES


def connect(settings: TrackingSettings, workspace: Workspace) -> Any:
    """An MlflowClient; also points MLflow's fluent functions to the same place.

    Raises:
        RegistryError: the server or database cannot be reached.
        ConfigError: its address cannot be read where the setting says.
        StackError: the home cannot be opened.
    """
    open_home(workspace)
    import mlflow
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    workspace.mlflow.mkdir(parents=True, exist_ok=True)
    given = tracking_uri(settings, workspace)
    uri = _without_login(given)
    try:
        if _is_database(uri) and not uri.startswith("sqlite:"):
            _check_database(uri)
        _log_in(given, workspace)
        mlflow.set_tracking_uri(uri)
        mlflow.set_registry_uri(uri)
        client = mlflow.MlflowClient()
        experiment = client.get_experiment_by_name(settings.experiment)
        if experiment is None:
            client.create_experiment(
                settings.experiment, artifact_location=artifact_location(uri, workspace)
            )
    except (MlflowException, SQLAlchemyError, ImportError, ValueError) as error:
        raise RegistryError(
            f"MLflow at {without_password(uri)} cannot be used"
            f" ({hide_password(str(error).splitlines()[0], given)[:160]})",
            "check tracking.uri, that the server is up, and that it is of this MLflow's version (a"
            " database of your own: back it up, then `mlflow db upgrade`)",
        ) from error
    mlflow.set_experiment(settings.experiment)
    return client


def _without_login(uri: str) -> str:
    """The URI without user and password, as MLflow prints it and hands it on to child processes.

    Raises:
        RegistryError: it is no URI.
    """
    parts = _server(uri)
    if parts is None:
        return uri
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _log_in(uri: str, workspace: Workspace) -> None:
    """Give MLflow's client, which takes it from the environment, the login that the URI holds, or
    that of the home's server.

    No other server is sent the latter.
    """
    user, password = "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"
    parts = _server(uri)
    if parts and parts.username is not None:
        os.environ[user] = unquote(parts.username)
        os.environ[password] = unquote(parts.password or "")
    elif parts and (own := login_at(workspace, uri)):
        os.environ[user] = own.user
        os.environ[password] = own.password.get_secret_value()
    elif os.environ.get(user) == USER:
        own = login(workspace, MLFLOW)
        if os.environ.get(password) == own.password.get_secret_value():
            del os.environ[user], os.environ[password]


def _server(uri: str) -> SplitResult | None:
    """The parts of a server's address; None of a database's."""
    if not uri.lower().startswith(("http://", "https://")):
        return None
    try:
        parts = urlsplit(uri)
        _ = parts.port  # it raises where that is no number
    except ValueError:  # its message may quote the password
        raise RegistryError("tracking.uri is no URI", "correct it") from None
    return parts


def _check_database(uri: str) -> None:
    """Fail at once where MLflow would try again for more than a minute."""
    from sqlalchemy import create_engine
    from sqlalchemy.pool import NullPool

    with create_engine(uri, poolclass=NullPool).connect():
        pass


@contextmanager
def training_run(
    client: Any, key: str, *, tags: Mapping[str, str], params: Mapping[str, Any]
) -> Iterator[str]:
    """An active MLflow run for the training named by `key`; yields its id.

    A run of the same training that still says RUNNING was killed: it is closed as such.
    """
    import mlflow

    for run in find_runs(client, key, status="RUNNING"):
        client.set_terminated(run.info.run_id, "KILLED")
    with mlflow.start_run(run_name=key, tags={KEY_TAG: key, **tags}) as run:
        mlflow.log_params(dict(params))
        yield str(run.info.run_id)


def find_runs(client: Any, key: str, *, status: str) -> list[Any]:
    experiments = [experiment.experiment_id for experiment in client.search_experiments()]
    found: list[Any] = client.search_runs(
        experiments, f"tags.`{KEY_TAG}` = '{key}' and attributes.status = '{status}'"
    )
    return found


def log_step(step: int, **metrics: float) -> None:
    """Metrics of the active run at one training step."""
    import mlflow

    mlflow.log_metrics(metrics, step=step)


def log_snapshot(name: str, snapshot: Snapshot) -> None:
    """Record a snapshot as a dataset of the active run: where, which, how many rows; no text."""
    import mlflow
    from mlflow.data.meta_dataset import MetaDataset
    from mlflow.data.sources import LocalArtifactDatasetSource

    mlflow.log_input(
        MetaDataset(
            source=LocalArtifactDatasetSource(snapshot.path),
            name=f"{name} ({snapshot.account.rows_out} conversations)",
            digest=snapshot.digest[:32],
        ),
        context=name,
    )


def log_results(
    client: Any,
    run_id: str,
    *,
    metrics: Mapping[str, float] | None = None,
    tags: Mapping[str, str] | None = None,
    documents: Mapping[str, dict[str, Any]] | None = None,
    texts: Mapping[str, str] | None = None,
    figures: Mapping[str, Any] | None = None,
) -> None:
    """Add what later stages found to a run that may have ended. Repeating it changes nothing."""
    for name, value in (metrics or {}).items():
        client.log_metric(run_id, name, value, step=0)
    for name, text in (tags or {}).items():
        client.set_tag(run_id, name, text)
    for file, document in (documents or {}).items():
        client.log_dict(run_id, document, file)
    for file, text in (texts or {}).items():
        client.log_text(run_id, text, file)
    for file, figure in (figures or {}).items():
        client.log_figure(run_id, figure, file)


def log_folder(folder: Path, name: str) -> None:
    """Copy a folder into the active run's artifacts."""
    import mlflow

    mlflow.log_artifacts(str(folder), artifact_path=name)


def log_loss_curve(train: Mapping[int, float], validation: Mapping[int, float]) -> None:
    """A picture of the losses, {step: nats a token}, in the active run."""
    import matplotlib

    matplotlib.use("Agg")
    import mlflow
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4), layout="constrained")
    axes.plot(list(train), list(train.values()), color="#2a7f4f", label="training")
    if validation:
        axes.plot(
            list(validation), list(validation.values()), "o", color="#b5541c", label="validation"
        )
        axes.legend()
    axes.set(xlabel="step", ylabel="loss, nats a supervised token", title="Loss")
    axes.grid(alpha=0.3)
    mlflow.log_figure(figure, "plots/training_loss.png")
    pyplot.close(figure)
