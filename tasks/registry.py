"""The model registry: versions of adapters in MLflow, and which of them is champion.

Versions are found by their adapter's digest, so registering the same adapter twice
gives one version. Everything needed to use a version is in its tags and artifacts.
"""

import tempfile
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RegistryError
from data_contracts.snapshots import Snapshot
from models.adapters import Adapter
from models.base import Base

Alias = Literal["champion", "challenger", "previous"]
ALIASES: tuple[Alias, ...] = ("champion", "challenger", "previous")

ADAPTER_TAG = "evergreen.adapter_digest"
HOLDOUT_TAG = "evergreen.holdout"
LOSS_TAG = "evergreen.holdout_loss"
DECISION_TAG = "evergreen.decision"
REASON_TAG = "evergreen.reason"
REQUEST_TAG = "evergreen.request"


class Version(BaseModel):
    """One registered adapter."""

    model_config = ConfigDict(frozen=True)

    name: str
    version: str
    aliases: tuple[str, ...]
    adapter_digest: str
    holdout_loss: float | None
    decision: str
    reason: str
    request: str
    run_id: str
    created_at: int


class LoadedVersion(BaseModel):
    """A version's files on this machine: all that scoring or asking it needs."""

    model_config = ConfigDict(frozen=True)

    version: Version
    base: Base
    adapter: Adapter
    holdout: Snapshot
    train: Snapshot | None


def versions(client: Any, name: str) -> list[Version]:
    """All versions of a model, newest first; empty if there is no such model."""
    aliases = _aliases(client, name)
    found = client.search_model_versions(f"name = '{name}'")
    return sorted(
        (_version(entry, aliases) for entry in found),
        key=lambda entry: int(entry.version),
        reverse=True,
    )


def find(client: Any, name: str, which: str) -> Version:
    """The version with this alias or number.

    Raises:
        RegistryError: there is none.
    """
    known = versions(client, name)
    for version in known:
        if which == version.version or which in version.aliases:
            return version
    have = ", ".join(version.version for version in reversed(known)) or "none"
    raise RegistryError(
        f"model {name!r} has no {which if not which.isdigit() else 'version ' + which}",
        f"versions there are: {have}; `evergreen retrain` makes one",
    )


def champion(client: Any, name: str) -> Version | None:
    return next((v for v in versions(client, name) if "champion" in v.aliases), None)


def _aliases(client: Any, name: str) -> dict[str, list[str]]:
    from mlflow.exceptions import MlflowException

    try:
        model = client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return {}
        raise
    by_version: dict[str, list[str]] = {}
    for alias, version in model.aliases.items():
        by_version.setdefault(str(version), []).append(alias)
    return by_version


def _version(entry: Any, aliases: dict[str, list[str]]) -> Version:
    loss = entry.tags.get(LOSS_TAG)
    return Version(
        name=entry.name,
        version=str(entry.version),
        aliases=tuple(sorted(aliases.get(str(entry.version), []))),
        adapter_digest=entry.tags.get(ADAPTER_TAG, ""),
        holdout_loss=float(loss) if loss is not None else None,
        decision=entry.tags.get(DECISION_TAG, ""),
        reason=entry.tags.get(REASON_TAG, ""),
        request=entry.tags.get(REQUEST_TAG, ""),
        run_id=entry.run_id or "",
        created_at=entry.creation_timestamp,
    )


def load(version: Version) -> LoadedVersion:
    """Fetch a version's files through `models:/NAME/VERSION` and check the adapter's digest.

    Raises:
        RegistryError: an artifact is missing or is not the one registered.
    """
    import mlflow
    from mlflow.exceptions import MlflowException

    uri = f"models:/{version.name}/{version.version}"
    try:
        folder = Path(mlflow.artifacts.download_artifacts(uri)) / "artifacts"
        base = Base.model_validate_json((folder / "base.json").read_text(encoding="utf-8"))
        holdout = Snapshot.model_validate_json(
            (folder / "holdout.json").read_text(encoding="utf-8")
        )
        # Versions made before drift was watched have none.
        trained_on = folder / "train.json"
        train = (
            Snapshot.model_validate_json(trained_on.read_text(encoding="utf-8"))
            if trained_on.is_file()
            else None
        )
        adapter = Adapter.at(folder / "adapter")
    except (MlflowException, OSError, ValueError) as error:
        raise RegistryError(
            f"the files of {uri} cannot be read ({type(error).__name__})",
            "restore MLflow's artifact folder, or retrain",
        ) from error
    if adapter.digest != version.adapter_digest:
        raise RegistryError(
            f"the adapter of {uri} is not the one that was registered",
            "restore MLflow's artifact folder, or retrain",
        )
    return LoadedVersion(version=version, base=base, adapter=adapter, holdout=holdout, train=train)


def register(
    client: Any,
    name: str,
    *,
    adapter: Adapter,
    base: Base,
    train: Snapshot,
    holdout: Snapshot,
    run_id: str,
    tags: dict[str, str],
) -> Version:
    """The version that holds this adapter, made if there is none yet; its tags are the newest."""
    import mlflow

    for version in versions(client, name):
        if version.adapter_digest == adapter.digest:
            for tag, value in tags.items():
                client.set_model_version_tag(name, version.version, tag, value)
            return version
    _ensure_model(client, name)
    with tempfile.TemporaryDirectory() as scratch:
        documents: dict[str, BaseModel] = {"base": base, "holdout": holdout, "train": train}
        files = {key: Path(scratch) / f"{key}.json" for key in documents}
        for key, document in documents.items():
            files[key].write_text(document.model_dump_json(indent=2), encoding="utf-8")
        # MLflow copies the file with its permissions: those of the installed one are others'.
        code = Path(scratch) / "serving.py"
        code.write_bytes(resources.files("tasks").joinpath("serving.py").read_bytes())
        with mlflow.start_run(run_id=run_id):
            logged = mlflow.pyfunc.log_model(
                name="adapter",
                python_model=str(code),
                artifacts={
                    "adapter": adapter.path,
                    **{key: str(path) for key, path in files.items()},
                },
                pip_requirements=["evergreen-llm"],
            )
    # The digest goes in with the version, in one call: a crash before it leaves no
    # version, a crash after it leaves one that the next attempt finds.
    entry = client.create_model_version(
        name,
        logged.model_uri,
        run_id=run_id,
        tags={**tags, ADAPTER_TAG: adapter.digest},
        # A server looks whether this is the model of the URI.
        model_id=logged.model_id,
    )
    return _version(entry, {})


def _ensure_model(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name, description="LoRA adapters kept fresh by Evergreen.")
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
