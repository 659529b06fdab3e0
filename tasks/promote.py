"""Promote: register the challenger and, if the verdict says so, make it champion. Roll back."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from data_contracts.errors import RegistryError
from data_contracts.records import Message
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.adapters import load_model
from models.base import Base, load_tokenizer
from models.generate import answer
from tasks import registry
from tasks.champion import load_version
from tasks.decide import Verdict
from tasks.evaluate import Evaluation
from tasks.train import Trained


class Promotion(BaseModel):
    """What the registry looks like afterwards."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    champion: str | None
    previous: str | None
    changed: bool


def rollback(client: Any, name: str, to: str, workspace: Workspace) -> Promotion:
    """Make an earlier version champion again, once it has been loaded and has answered.

    Args:
        client: an MlflowClient.
        name: the registered model.
        to: a version or an alias, for example `previous`.
        workspace: where base models are.

    Raises:
        RegistryError: there is no such version, it is champion already, its files are not
            what was registered, or it does not answer.
    """
    version = registry.find(client, name, to)
    before = registry.champion(client, name)
    if before is not None and before.version == version.version:
        raise RegistryError(f"version {version.version} is champion already", "choose another")
    loaded = load_version(version, workspace)
    hello = (Message(role="user", content="Hello"),)
    if not answer(
        load_model(loaded.base, loaded.adapter),
        load_tokenizer(loaded.base),
        hello,
        max_new_tokens=8,
    ):
        raise RegistryError(f"version {version.version} answers nothing", "choose another")
    if before is not None:
        client.set_registered_model_alias(name, "previous", before.version)
    client.set_registered_model_alias(name, "champion", version.version)
    return Promotion(
        model=name,
        version=version.version,
        champion=version.version,
        previous=before.version if before else None,
        changed=True,
    )


def promote(
    client: Any,
    name: str,
    *,
    trained: Trained,
    evaluation: Evaluation,
    verdict: Verdict,
    base: Base,
    train: Snapshot,
    holdout: Snapshot,
    run_id: str,
    judged_against: str | None,
    tags: dict[str, str],
) -> Promotion:
    """Register the challenger (once) and move the aliases as the verdict decided.

    Safe to repeat after a crash at any point: each step looks before it writes, and
    `previous` is set before `champion` moves. `judged_against` is the version that was
    champion when the challenger was judged.

    Raises:
        RegistryError: another promotion changed the champion since the verdict.
    """
    judged = {
        **tags,
        registry.HOLDOUT_TAG: holdout.digest,
        registry.LOSS_TAG: f"{evaluation.challenger.loss:.6f}",
        registry.DECISION_TAG: verdict.decision,
        registry.REASON_TAG: verdict.reason,
    }
    version = registry.register(
        client,
        name,
        adapter=trained.adapter,
        base=base,
        train=train,
        holdout=holdout,
        run_id=run_id,
        # An unchanged champion keeps the verdict that made it champion.
        tags=judged if verdict.decision != "unchanged" else {},
    )
    before = registry.champion(client, name)
    changed = False
    if verdict.decision == "promote" and (before is None or before.version != version.version):
        if judged_against != (before and before.version):
            raise RegistryError(
                f"the champion of {name!r} changed while this challenger was judged",
                "run the retrain again; it will be judged against the new one",
            )
        if before is not None:
            client.set_registered_model_alias(name, "previous", before.version)
        client.set_registered_model_alias(name, "champion", version.version)
        changed = True
    elif verdict.decision == "keep":
        client.set_registered_model_alias(name, "challenger", version.version)
    after = {
        alias: held.version for held in registry.versions(client, name) for alias in held.aliases
    }
    if after.get("challenger") == after.get("champion") is not None:
        client.delete_registered_model_alias(name, "challenger")
    return Promotion(
        model=name,
        version=version.version,
        champion=after.get("champion"),
        previous=after.get("previous"),
        changed=changed,
    )
