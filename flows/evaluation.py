"""The evaluation of a retrain: its sets, and what every model makes of them."""

from data_contracts.policy import ScrubPolicy
from data_contracts.snapshots import Snapshot
from data_contracts.workspace import Workspace
from flows.settings import Settings
from models.adapters import Adapter
from models.base import Base
from tasks.evaluate import Evaluation, MetricName, ModelScore, evaluate_task
from tasks.evaluate.judge import judge_task
from tasks.evaluate.measures import Measures
from tasks.evaluate.regression import current
from tasks.evaluate.sets import EvaluationSets, general_task, slices_task
from tasks.ingest import IngestSettings, Source, ingest_task
from tasks.ledger.database import Ledger
from tasks.registry import LoadedVersion
from tasks.scrub import BuiltDetector, scrub_task
from tasks.scrub.replace import fingerprint, secret_key
from tasks.split import Split


def sets_of(
    settings: Settings,
    parts: Split,
    base: Base,
    policy: ScrubPolicy,
    detector: BuiltDetector | None,
    ledger: Ledger,
    workspace: Workspace,
) -> EvaluationSets:
    """The frozen sets of this retrain. Those of the user are scrubbed like the training data."""
    chosen = settings.evaluate
    sets: dict[str, Snapshot] = {"holdout": parts.holdout}
    if (failures := current(ledger, settings.name)) is not None:
        sets["regression"] = failures
    key = fingerprint(secret_key(policy))
    for own in chosen.sets:
        listing = ingest_task.with_options(task_run_name=f"ingest {own.name}")(
            IngestSettings(sources=(Source(path=own.path),)), workspace
        )
        scrub = scrub_task.with_options(task_run_name=f"scrub {own.name}")
        unaudited = settings.scrub.without_audit()
        sets[own.name] = scrub(listing, policy, detector, unaudited, workspace, key).snapshot
    if chosen.general:
        sets["general"] = general_task(base, chosen.max_new_tokens, workspace)
    return EvaluationSets(conversations=sets, training=parts.train, canaries=chosen.canaries)


def measure(
    settings: Settings,
    sets: EvaluationSets,
    base: Base,
    challenger: Adapter,
    champion: LoadedVersion | None,
    policy: ScrubPolicy,
    detector: BuiltDetector | None,
    workspace: Workspace,
) -> Evaluation:
    """Every model on the same sets.

    Args:
        base: the base model of the challenger.
        champion: None before there is one.
    """

    def evaluated(role: str, weights: Base, adapter: Adapter | None) -> ModelScore:
        named = evaluate_task.with_options(task_run_name=f"evaluate {role}")
        return named(
            weights, adapter, sets, settings.evaluate, settings.encoder, policy, detector, workspace
        )

    found = Evaluation(
        challenger=evaluated("challenger", base, challenger),
        base=evaluated("base", base, None),
        champion=champion and evaluated("champion", champion.base, champion.adapter),
        slices=slices_task(
            sets.conversations["holdout"], settings.evaluate.max_items, settings.encoder
        ),
        sets={name: snapshot.digest for name, snapshot in sets.conversations.items()},
    )
    if settings.evaluate.judge.url is None:
        return found
    _, bar = found.bar
    preferred = judge_task(
        settings.evaluate.judge,
        found.challenger.samples,
        bar.samples,
        policy,
        detector,
        fingerprint(secret_key(policy)),
    )
    pairwise: dict[MetricName, Measures] = {"preferred": preferred}
    return found.model_copy(update={"pairwise": pairwise})
