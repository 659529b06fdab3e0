"""Retrain: from raw conversations to a champion, or to the reason why there is no new one."""

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any

from prefect import State, flow, get_run_logger
from prefect.artifacts import (
    create_image_artifact,
    create_markdown_artifact,
    create_table_artifact,
)
from prefect.runtime import flow_run
from prefect.states import Completed

from data_contracts.contract import load_contract
from data_contracts.errors import StackError
from data_contracts.partial import remove_abandoned
from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace
from flows.approval import apply, ask, is_needed, mode_of
from flows.claims import Held, claiming
from flows.evaluation import measure, sets_of
from flows.events import announce_refusal, tell
from flows.report import RetrainReport, as_markdown, facts, row_table
from flows.settings import Settings
from models.adapters import Adapter
from models.base import Base, ModelSettings, resolve_base
from models.preflight import check_positions
from tasks import registry, tracking
from tasks.card import model_card
from tasks.champion import champion_task, require_same_tokenizer, trained_on
from tasks.decide import decide
from tasks.decide.page import forest, page
from tasks.documents import CARD, EVALUATION, LINEAGE, VERDICT
from tasks.evaluate import Evaluation, ModelScore
from tasks.evaluate.privacy import plant_canaries
from tasks.evaluate.samples import save_samples, without_samples
from tasks.ingest import IngestSettings, Source, ingest_task
from tasks.ledger.database import Ledger
from tasks.ledger.episodes import drifted
from tasks.ledger.promotions import taken_back
from tasks.ledger.requests import Refusal, Trigger, story
from tasks.lineage import lineage
from tasks.pictures import as_base64
from tasks.promote import promote
from tasks.replay import Replay, replay_task
from tasks.scrub import detector_task, scrub_task
from tasks.scrub.audit import require
from tasks.scrub.replace import fingerprint, secret_key
from tasks.split import Split, split_task
from tasks.stage import cache_hits, naming_disks, stage_task
from tasks.train import TrainedRun, check_rendezvous, train_task
from tasks.validate import validate_task

PAGE = "verdict.html"
# Room for a converted base model, snapshots and adapters.
FREE_BYTES = 2 * 10**9


@flow(name="retrain", description=__doc__, log_prints=False, validate_parameters=True)
@naming_disks
def retrain(
    settings: Settings, request: str | None = None, trigger: Trigger = "manual"
) -> RetrainReport | State[Any]:
    """Run the pipeline once.

    Args:
        settings: the whole tree of settings; `Settings()` are the defaults.
        request: a request of the ledger: retrain because of drift, on old and new data.
        trigger: who starts it, where there is no request.

    Returns:
        The report; or the state `Refused`, if the ledger says that the request is not to
        be run (another run has it, a limit is reached, the drift is over).

    Raises:
        EvergreenError: with the reason and the fix; nothing half-made is left behind.
    """
    started = perf_counter()
    check_rendezvous(settings.train)
    workspace = Workspace.current()
    workspace.create(free_bytes=FREE_BYTES)
    ledger = Ledger(settings.ledger, workspace)
    champion = champion_task(settings.name, settings.tracking, settings.ledger, workspace)
    with (
        claiming(settings, ledger, request=request, trigger=trigger, champion=champion) as held,
        cache_hits() as cached,
    ):
        if isinstance(held, Refusal):
            return refused(held, unattended=request is not None or trigger == "schedule")
        report = run(settings, held, champion, workspace, cached, started)
        held.outcome = f"{report.verdict.decision}: {report.verdict.reason}"
    publish(report)
    return report


def refused(refusal: Refusal, *, unattended: bool) -> State[Any]:
    """End a run that is not to be. A person gets an error, an automation a quiet state."""
    get_run_logger().info("not run: %s", refusal.reason)
    if not unattended:
        raise StackError(refusal.reason, "wait until it has ended, or stop it")
    if refusal.request.state == "refused":
        announce_refusal(refusal)
    return Completed(name="Refused", message=refusal.reason)


def run(
    settings: Settings,
    held: Held,
    champion: registry.LoadedVersion | None,
    workspace: Workspace,
    cached: Mapping[str, bool],
    started: float,
) -> RetrainReport:
    """The pipeline itself."""
    request = held.claim.request
    policy = load_policy(settings.scrub.policy)
    contract = load_contract(settings.contract.path)
    remove_abandoned(workspace.snapshots)
    replayed = replay_of(settings, held, champion, workspace)
    listing = ingest_task(data_of(settings, replayed), workspace)
    detector = detector_task(policy, settings.scrub.detector, workspace)
    key = fingerprint(secret_key(policy))
    scrubbed = scrub_task(listing, policy, detector, settings.scrub, workspace, key)
    require(scrubbed.report.audit, settings.scrub.audit)
    validated = validate_task(scrubbed, contract, settings.contract, workspace)
    parts = split_task(validated, settings.split, workspace)
    base = base_task(settings.model, workspace)
    check_positions(
        base,
        {
            "train.max_length": settings.train.max_length,
            "evaluate.max_length": settings.evaluate.max_length,
        },
    )
    if champion is not None:
        require_same_tokenizer(champion, base)
    start = champion.adapter if champion is not None and settings.train.warm_start else None
    planted = plant_canaries(parts, settings.evaluate.canaries, workspace)
    trained = train_task(planted, base, start, settings.train, settings.tracking, workspace)
    sets = sets_of(settings, parts, base, policy, detector, held.ledger, workspace)
    evaluation = measure(
        settings, sets, base, trained.adapter, champion, policy, detector, workspace
    )
    verdict = decide(
        evaluation,
        settings.decide,
        is_champion=champion is not None and champion.adapter.digest == trained.adapter.digest,
        taken_back=rolled_back(settings, trained.adapter, held.ledger, workspace),
    )
    report = RetrainReport(
        flow_run_id=str(flow_run.get_id() or ""),
        flow_run_url=str(flow_run.get_flow_run_ui_url() or ""),
        request=request,
        listing_rows=listing.rows_in,
        passed_over=listing.passed_over,
        scrub=scrubbed.report,
        validate_account=validated.snapshot.account,
        validate_quarantined=validated.quarantined,
        data_docs=validated.data_docs,
        set_aside=parts.set_aside,
        train_rows=parts.train.account.rows_out,
        holdout_rows=parts.holdout.account.rows_out,
        base_id=base.id,
        training=trained.metrics,
        mlflow_run_id=trained.run_id,
        evaluation=evaluation,
        verdict=verdict,
        promotion=None,
        new_data=replayed and replayed.account,
        cached=dict(cached),
        seconds=perf_counter() - started,
    )
    report = approved(report, settings, workspace)
    held.require()
    report = promote_task(report, trained, base, parts, planted, champion, settings, workspace)
    return report.model_copy(update={"seconds": perf_counter() - started})


def approved(report: RetrainReport, settings: Settings, workspace: Workspace) -> RetrainReport:
    """The report with its page, and with a person's answer where one has to be asked."""
    report = report.model_copy(update={"page": str(write_page(report, workspace))})
    is_steered = report.new_data is not None and report.new_data.is_steered
    if not is_needed(report.verdict, mode_of(settings.promote, is_steered=is_steered)):
        return report
    approval = ask(report.verdict, as_markdown(report), settings.promote, model=settings.name)
    return report.model_copy(update={"verdict": apply(report.verdict, approval)})


def replay_of(
    settings: Settings,
    held: Held,
    champion: registry.LoadedVersion | None,
    workspace: Workspace,
) -> Replay | None:
    """Old and new data after drift; None for any other retrain.

    Returns:
        (the sources, {what of the traffic is not learnt: conversations})

    Raises:
        RegistryError: the champion does not say what it was trained on.
        DataError: too little can be learnt from the windows that drifted.
    """
    request = held.claim.request
    if request.trigger != "drift" or champion is None:
        return None
    windows = tuple(window.data for window in drifted(held.ledger, request))
    return replay_task(trained_on(champion), windows, settings.name, settings.replay, workspace)


def data_of(settings: Settings, replayed: Replay | None) -> IngestSettings:
    """Which data to train on: the configured sources, or after drift old and new data."""
    if replayed is None:
        return settings.data
    parts = [part for part in (replayed.old, replayed.new) if part.account.rows_out]
    sources = tuple(Source(path=part.path) for part in parts)
    return IngestSettings(sources=sources, seed=settings.data.seed)


def rolled_back(
    settings: Settings, adapter: Adapter, ledger: Ledger, workspace: Workspace
) -> str | None:
    """The version that is this very adapter, if a rollback took it down."""
    client = tracking.connect(settings.tracking, workspace)
    down = taken_back(ledger, settings.name)
    known = registry.versions(client, settings.name)
    return next(
        (v.version for v in known if v.version in down and v.adapter_digest == adapter.digest), None
    )


@stage_task(
    "base model",
    produces="models/base",
    description="The frozen base model, converted or downloaded once.",
    cached=False,
    retries=2,
)
def base_task(settings: ModelSettings, workspace: Workspace) -> Base:
    return resolve_base(settings, workspace.models)


@stage_task(
    "promote",
    produces="models/champion",
    description="The registered model and its aliases.",
    cached=False,
)
def promote_task(
    report: RetrainReport,
    trained: TrainedRun,
    base: Base,
    parts: Split,
    learnt: Split,
    champion: registry.LoadedVersion | None,
    settings: Settings,
    workspace: Workspace,
) -> RetrainReport:
    client = tracking.connect(settings.tracking, workspace)
    ledger = Ledger(settings.ledger, workspace)
    changes = report.verdict.decision != "unchanged"
    if changes:  # before anything is promoted: no champion is without its reasons
        document(client, ledger, report, trained, base, learnt, champion, settings, workspace)
    promotion = promote(
        client,
        settings.name,
        trained=trained,
        evaluation=report.evaluation,
        verdict=report.verdict,
        base=base,
        train=parts.train,
        holdout=parts.holdout,
        run_id=trained.run_id,
        judged_against=champion.version.version if champion else None,
        ledger=ledger,
        by=report.flow_run_id or "command line",
        tags={
            "prefect.flow_run_id": report.flow_run_id,
            registry.REQUEST_TAG: report.request.id,
            "evergreen.evaluate.max_items": str(settings.evaluate.max_items),
            "evergreen.evaluate.max_length": str(settings.evaluate.max_length),
        },
    )
    report = report.model_copy(update={"promotion": promotion})
    if changes:
        summary = report.model_dump(mode="json", exclude={"evaluation"})
        tracking.log_results(client, trained.run_id, documents={"report.json": summary})
    if promotion.changed:
        tell(settings, promotion, "promote", report.verdict.reason)
    return report


def document(
    client: Any,
    ledger: Ledger,
    report: RetrainReport,
    trained: TrainedRun,
    base: Base,
    learnt: Split,
    champion: registry.LoadedVersion | None,
    settings: Settings,
    workspace: Workspace,
) -> None:
    """Keep with the training's MLflow run why it was decided so, and all that led to it; but no
    word of any conversation, which only the home keeps, and not for ever."""
    told = story(ledger, report.request.id)
    came_from = lineage(
        report,
        base=base,
        adapter=trained.adapter,
        parts=learnt,
        champion=champion.version.version if champion else None,
        price_per_hour=settings.limits.price_per_hour,
        asked=told[0].reason if told else None,
    )
    write_page(report, workspace)
    save_samples(report.evaluation, trained.run_id, workspace)
    numbers = without_samples(report.evaluation)
    tracking.log_results(
        client,
        trained.run_id,
        metrics={**losses(report.evaluation), **means(report.evaluation.challenger)},
        tags={"evergreen.decision": report.verdict.decision},
        documents={
            VERDICT: report.verdict.model_dump(mode="json"),
            EVALUATION: numbers.model_dump(mode="json"),
            LINEAGE: came_from.model_dump(mode="json"),
        },
        texts={
            PAGE: page(report.verdict, numbers, facts(report)),
            CARD: model_card(came_from, report.evaluation, report.verdict),
        },
        figures={"plots/gates.png": forest(report.verdict)},
    )


def write_page(report: RetrainReport, workspace: Workspace) -> Path:
    """The verdict with sample answers, for whoever is to approve or to understand it."""
    file = workspace.runs / report.mlflow_run_id / PAGE
    file.parent.mkdir(parents=True, exist_ok=True)
    whole = page(report.verdict, report.evaluation, facts(report))
    file.write_text(whole, encoding="utf-8")
    return file


def means(score: ModelScore) -> dict[str, float]:
    """All that was measured, under names that MLflow takes."""
    return {name.replace(": ", "/").replace(" ", "_"): value for name, value in score.means.items()}


def losses(evaluation: Evaluation) -> dict[str, float]:
    return {f"holdout_loss_{name}": score.loss for name, score in evaluation.scores.items()}


def publish(report: RetrainReport) -> None:
    """Put the report where people look: the Prefect UI and the log."""
    create_table_artifact(
        row_table(report), key="rows", description="Rows in = out + quarantined + duplicates"
    )
    create_markdown_artifact(
        as_markdown(report), key="retrain-report", description="What this retrain did and why"
    )
    if report.verdict.gates:
        create_image_artifact(
            f"data:image/png;base64,{as_base64(forest(report.verdict))}",
            key="verdict",
            description="Gates: where each interval lies, and where the gate passes",
        )
    log: Any = get_run_logger()
    if report.from_cache:
        log.info("from the cache, not done again: %s", ", ".join(report.from_cache))
    log.info("%s: %s", report.verdict.decision, report.verdict.reason)
