"""The reigning champion, ready to be scored, watched or asked on this machine."""

from prefect import task

from data_contracts.errors import ModelError, RegistryError
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.base import Base, local_base
from tasks import registry, tracking
from tasks.ledger import promotions
from tasks.ledger.database import Ledger, LedgerSettings


def load_version(version: registry.Version, workspace: Workspace) -> registry.LoadedVersion:
    """A version's files, with its base where it is on this machine.

    Raises:
        RegistryError: its files are not what was registered.
    """
    loaded = registry.load(version)
    return loaded.model_copy(update={"base": local_base(loaded.base, workspace.models)})


@task(name="champion", task_run_name="champion", persist_result=False)
def champion_task(
    name: str,
    connection: tracking.TrackingSettings,
    ledger_settings: LedgerSettings,
    workspace: Workspace,
) -> registry.LoadedVersion | None:
    """The champion of a model; None before there is one. A promotion cut off is settled first."""
    client = tracking.connect(connection, workspace)
    promotions.settle(client, Ledger(ledger_settings, workspace), name)
    version = registry.champion(client, name)
    return None if version is None else load_version(version, workspace)


def require_same_tokenizer(champion: registry.LoadedVersion, base: Base) -> None:
    """Losses of models with different tokenizers cannot be compared.

    Raises:
        ModelError: the champion has another tokenizer than the base.
    """
    if champion.base.tokenizer_digest != base.tokenizer_digest:
        version = champion.version
        raise ModelError(
            f"champion version {version.version} of {version.name!r} has another tokenizer"
            f" than {base.id}",
            "set `name` to start a model line of its own, or model.base to the champion's"
            f" ({champion.base.id})",
        )


def trained_on(champion: registry.LoadedVersion) -> tuple[Snapshot, Snapshot]:
    """The conversations that the champion was trained on and judged by.

    Raises:
        RegistryError: it was registered before Evergreen wrote that down.
    """
    if champion.train is None:
        version = champion.version
        raise RegistryError(
            f"version {version.version} of {version.name!r} does not say what it was trained on",
            "retrain once with this version of Evergreen",
        )
    return champion.train, champion.holdout
