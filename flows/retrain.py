"""Retrain: from raw conversations to a champion, or to the reason why there is no new one."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter
from typing import Any

from filelock import FileLock, Timeout
from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact, create_table_artifact
from prefect.runtime import flow_run

from data_contracts.contract import load_contract
from data_contracts.errors import ModelError, StackError
from data_contracts.partial import remove_abandoned
from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace
from flows.report import RetrainReport, as_markdown, row_table
from flows.settings import Settings
from models.adapters import Adapter
from models.base import Base, ModelSettings, resolve_base
from tasks import registry, tracking
from tasks.decide import decide
from tasks.evaluate import Evaluation, ModelScore, evaluate_task
from tasks.ingest import ingest_task
from tasks.promote import promote
from tasks.scrub import scrub_task
from tasks.serving import local_base
from tasks.split import Split, split_task
from tasks.stage import cache_hits, stage_task
from tasks.train import TrainedRun, train_task
from tasks.validate import validate_task

# Room for a converted base model, snapshots and adapters.
FREE_BYTES = 2 * 10**9


@flow(name="retrain", description=__doc__, log_prints=False, validate_parameters=True)
def retrain(settings: Settings) -> RetrainReport:
    """Run the pipeline once.

    Args:
        settings: the whole tree of settings; `Settings()` are the defaults.

    Raises:
        EvergreenError: with the reason and the fix; nothing half-made is left behind.
    """
    started = perf_counter()
    workspace = Workspace.current()
    workspace.create(free_bytes=FREE_BYTES)
    policy = load_policy(settings.scrub.policy)
    contract = load_contract(settings.contract.path)
    with only_one(settings.name, workspace), cache_hits() as cached:
        remove_abandoned(workspace.snapshots)
        listing = ingest_task(settings.data)
        scrubbed = scrub_task(listing, policy, workspace)
        validated = validate_task(scrubbed, contract, settings.contract, workspace)
        parts = split_task(validated, settings.split, workspace)
        base = base_task(settings.model, workspace)
        champion = champion_task(settings.name, base, settings.tracking, workspace)
        trained = train_task(parts, base, settings.train, settings.tracking, workspace)
        evaluation = Evaluation(
            challenger=evaluate_as("challenger", base, trained.adapter, parts, settings),
            champion=champion
            and evaluate_as("champion", champion.base, champion.adapter, parts, settings),
            base=evaluate_as("base", base, None, parts, settings),
        )
        verdict = decide(
            evaluation,
            settings.decide,
            is_champion=champion is not None and champion.adapter.digest == trained.adapter.digest,
        )
        report = RetrainReport(
            flow_run_id=str(flow_run.get_id() or ""),
            flow_run_url=str(flow_run.get_flow_run_ui_url() or ""),
            listing_rows=listing.rows_in,
            scrub=scrubbed.report,
            validate_account=validated.snapshot.account,
            validate_quarantined=validated.quarantined,
            data_docs=validated.data_docs,
            train_rows=parts.train.account.rows_out,
            holdout_rows=parts.holdout.account.rows_out,
            base_id=base.id,
            training=trained.metrics,
            mlflow_run_id=trained.run_id,
            evaluation=evaluation,
            verdict=verdict,
            promotion=None,
            cached=dict(cached),
            seconds=perf_counter() - started,
        )
        report = promote_task(report, trained, base, parts, champion, settings, workspace)
        report = report.model_copy(update={"seconds": perf_counter() - started})
    publish(report)
    return report


def evaluate_as(
    role: str, base: Base, adapter: Adapter | None, parts: Split, settings: Settings
) -> ModelScore:
    named = evaluate_task.with_options(task_run_name=f"evaluate {role}")
    return named(base, adapter, parts, settings.evaluate)


@contextmanager
def only_one(name: str, workspace: Workspace) -> Iterator[None]:
    """Hold the model's lock: two retrains of one model never run at once.

    The operating system lets go of it when the process ends, however it ends.
    """
    workspace.runs.mkdir(parents=True, exist_ok=True)
    lock = FileLock(workspace.runs / f"retrain-{name}.lock")
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise StackError(
            f"another retrain of {name!r} is running", "wait until it has ended, or stop it"
        ) from error
    try:
        yield
    finally:
        lock.release()


@stage_task(
    "base model",
    produces="models/base",
    description="The frozen base model, converted or downloaded once.",
    code=None,
    retries=2,
)
def base_task(settings: ModelSettings, workspace: Workspace) -> Base:
    return resolve_base(settings, workspace.models)


@task(name="champion", task_run_name="champion", persist_result=False)
def champion_task(
    name: str, base: Base, connection: tracking.TrackingSettings, workspace: Workspace
) -> registry.LoadedVersion | None:
    """The reigning champion, if there is one, ready to be scored.

    Raises:
        ModelError: it was trained on another base, so that losses cannot be compared.
    """
    client = tracking.connect(connection, workspace)
    version = registry.champion(client, name)
    if version is None:
        return None
    loaded = registry.load(version)
    loaded = loaded.model_copy(update={"base": local_base(loaded.base, workspace)})
    if loaded.base.tokenizer_digest != base.tokenizer_digest:
        raise ModelError(
            f"champion version {version.version} of {name!r} has another tokenizer than {base.id}",
            "set `name` to start a model line of its own, or model.base to the champion's"
            f" ({loaded.base.id})",
        )
    return loaded


@stage_task(
    "promote",
    produces="models/champion",
    description="The registered model and its aliases.",
    code=None,
)
def promote_task(
    report: RetrainReport,
    trained: TrainedRun,
    base: Base,
    parts: Split,
    champion: registry.LoadedVersion | None,
    settings: Settings,
    workspace: Workspace,
) -> RetrainReport:
    client = tracking.connect(settings.tracking, workspace)
    promotion = promote(
        client,
        settings.name,
        trained=trained,
        evaluation=report.evaluation,
        verdict=report.verdict,
        base=base,
        holdout=parts.holdout,
        run_id=trained.run_id,
        judged_against=champion.version.version if champion else None,
        tags={
            "prefect.flow_run_id": report.flow_run_id,
            "evergreen.evaluate.max_items": str(settings.evaluate.max_items),
            "evergreen.evaluate.max_length": str(settings.evaluate.max_length),
        },
    )
    report = report.model_copy(update={"promotion": promotion})
    if report.verdict.decision != "unchanged":
        tracking.log_results(
            client,
            trained.run_id,
            metrics=losses(report.evaluation),
            tags={"evergreen.decision": report.verdict.decision},
            documents={
                "verdict.json": report.verdict.model_dump(mode="json"),
                "report.json": report.model_dump(mode="json"),
            },
        )
    return report


def losses(evaluation: Evaluation) -> dict[str, float]:
    scores = {"challenger": evaluation.challenger, "base": evaluation.base}
    if evaluation.champion:
        scores["champion"] = evaluation.champion
    return {f"holdout_loss_{name}": score.loss for name, score in scores.items()}


def publish(report: RetrainReport) -> None:
    """Put the report where people look: the Prefect UI and the log."""
    create_table_artifact(
        row_table(report), key="rows", description="Rows in = out + quarantined + duplicates"
    )
    create_markdown_artifact(
        as_markdown(report), key="retrain-report", description="What this retrain did and why"
    )
    log: Any = get_run_logger()
    if report.from_cache:
        log.info("from the cache, not done again: %s", ", ".join(report.from_cache))
    log.info("%s: %s", report.verdict.decision, report.verdict.reason)
