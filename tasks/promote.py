"""Promote: register the challenger and, if the verdict says so, make it champion. Roll back."""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import RegistryError
from data_contracts.records import Message
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from models.adapters import load_model
from models.base import Base
from models.generate import answer
from models.template import load_template
from tasks import registry
from tasks.champion import load_version
from tasks.decide import Verdict
from tasks.evaluate import Evaluation
from tasks.ledger import promotions
from tasks.ledger.database import Ledger
from tasks.secrets import WebhookUrl
from tasks.train import Trained

Mode = Literal["auto", "manual", "manual-above-risk"]


class PromoteSettings(BaseModel):
    """Who says yes, when to go back, and who is told."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    approval: Mode | None = Field(
        default=None,
        description="Who promotes. `auto`: the gates alone. `manual`: a person."
        " `manual-above-risk`: a person for a first champion and after a warning. Default `auto`,"
        " but `manual-above-risk` where corrections or feedback from users steer what is learnt.",
    )
    approval_hours: float = Field(
        default=24,
        gt=0,
        description="How long a run waits for a person; then the promotion is rejected.",
    )
    webhook: WebhookUrl | None = Field(
        default=None,
        description="A URL that gets `{event, model, version, previous, reason, at}` as JSON by"
        " POST on every promotion and rollback. A secret.",
    )
    rollback_on: tuple[str, ...] = Field(
        default=(),
        description="Prefect events that roll back to `previous`, such as `llm.slo.breached`.",
    )


class Promotion(BaseModel):
    """What the registry looks like afterwards."""

    model_config = ConfigDict(frozen=True)

    model: str
    version: str
    champion: str | None
    previous: str | None
    changed: bool


def rollback(
    client: Any,
    name: str,
    to: str,
    workspace: Workspace,
    ledger: Ledger,
    *,
    by: str,
    reason: str,
    unattended: bool = False,
) -> Promotion:
    """Make an earlier version champion again, once it has been loaded and has answered.

    Args:
        client: an MlflowClient.
        name: the registered model.
        to: a version or an alias, for example `previous`.
        workspace: where base models are.
        ledger: where it is written down.
        by: the flow run or person that does it.
        reason: why, for the history.
        unattended: nobody looks: a version that a rollback took down stays down, or a second
            alarm would undo what the first one did.

    Raises:
        RegistryError: there is no such version, it is champion already, its files are not
            what was registered, it does not answer, or the champion changed meanwhile.
    """
    promotions.settle(client, ledger, name)
    before = registry.champion(client, name)
    version = registry.find(client, name, to)
    if before is not None and before.version == version.version:
        raise RegistryError(f"version {version.version} is champion already", "choose another")
    if unattended and version.version in promotions.taken_back(ledger, name):
        raise RegistryError(
            f"version {version.version} was itself taken back by a rollback",
            "look at the champion; a person may still choose it by `evergreen models rollback`",
        )
    loaded = load_version(version, workspace)
    hello = (Message(role="user", content="Hello"),)
    if not answer(
        load_model(loaded.base, loaded.adapter),
        load_template(loaded.base),
        hello,
        max_new_tokens=8,
    ):
        raise RegistryError(f"version {version.version} answers nothing", "choose another")
    changed = promotions.make_champion(
        client,
        ledger,
        name,
        version.version,
        action="rollback",
        judged_against=before.version if before else None,
        by=by,
        reason=reason,
    )
    return _promotion(client, name, version.version, changed=changed)


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
    ledger: Ledger,
    by: str,
) -> Promotion:
    """Register the challenger (once) and move the aliases as the verdict decided.

    Safe to repeat after a crash at any point. `judged_against` is the version that was
    champion when the challenger was judged; `by` is the flow run or person that promotes.

    Raises:
        RegistryError: the champion changed since the verdict, or the challenger's files are
            not what was registered.
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
    changed = False
    if verdict.decision == "promote":
        registry.load(version)  # what is stored is what was judged
        changed = promotions.make_champion(
            client,
            ledger,
            name,
            version.version,
            action="promote",
            judged_against=judged_against,
            by=by,
            reason=verdict.reason,
        )
    elif verdict.decision == "keep":
        champion = registry.champion(client, name)
        if champion is None or champion.version != version.version:
            client.set_registered_model_alias(name, "challenger", version.version)
    return _promotion(client, name, version.version, changed=changed)


def _promotion(client: Any, name: str, version: str, *, changed: bool) -> Promotion:
    aliases = {
        alias: held.version for held in registry.versions(client, name) for alias in held.aliases
    }
    return Promotion(
        model=name,
        version=version,
        champion=aliases.get("champion"),
        previous=aliases.get("previous"),
        changed=changed,
    )
