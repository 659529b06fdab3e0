"""Watch: from new inference logs to a drift report, and to a retrain request if it lasts."""

import json
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger, task
from prefect.artifacts import create_markdown_artifact
from pydantic import BaseModel, ConfigDict

from data_contracts.contract import INFERENCE_LOGS, load_contract
from data_contracts.errors import ConfigError, RegistryError
from data_contracts.formats import Readings
from data_contracts.home_keys import LOGS, home_key, key_fingerprint
from data_contracts.policy import load_policy
from data_contracts.workspace import Workspace
from flows.events import announce
from flows.retention import delete_expired
from flows.settings import Settings
from models.encoder import Encoder
from tasks.champion import champion_task, trained_on
from tasks.drift.compare import Comparison, DriftVerdict, Evidence, compare
from tasks.drift.features import Features
from tasks.drift.report import markdown, page
from tasks.ledger import episodes
from tasks.ledger.database import Ledger
from tasks.ledger.episodes import CountedRecords, JudgedWindow, Outcome
from tasks.ledger.requests import Request
from tasks.logs import CountedBefore, LogWindow, Pending, cut, iso, look, quarantine_digest, rules
from tasks.paths import shown, shown_all
from tasks.registry import LoadedVersion
from tasks.scrub import detector_task
from tasks.scrub.replace import secret_key
from tasks.scrub.workers import searching
from tasks.stage import naming_disks
from tasks.watch import (
    KeptWindow,
    WindowAccount,
    describe_window_task,
    keep_window_task,
    reference_task,
    settled,
)

REPORT_PAGE, REPORT_JSON = "report.html", "report.json"


class WindowReport(BaseModel):
    """What became of one window."""

    model_config = ConfigDict(frozen=True)

    id: str
    start: str
    end: str
    account: WindowAccount
    quarantined: dict[str, int]
    comparison: Comparison
    page: str
    counted: bool
    episode: str | None
    closed: str | None
    request: Request | None


class WatchReport(BaseModel):
    """What a look at the logs found. Counts are of log records."""

    model_config = ConfigDict(frozen=True)

    logs: str
    champion: str
    windows: tuple[WindowReport, ...]
    waiting: int
    known: int
    duplicates: int
    late: int
    incomplete: int
    quarantined: dict[str, int]
    readings: Readings
    damaged: dict[str, str]
    passed_over: dict[str, str]

    @property
    def all_quarantined(self) -> dict[str, int]:
        """{rule: records} of those that no window can claim and of those of the windows."""
        counts = Counter(self.quarantined)
        for window in self.windows:
            counts.update(window.quarantined)
        return dict(counts.most_common())

    @property
    def verdict(self) -> DriftVerdict:
        """Of all windows together: drift if there was any."""
        found = {window.comparison.verdict for window in self.windows}
        return "drift" if "drift" in found else "quiet" if "quiet" in found else "not enough data"


@flow(name="watch", description=__doc__, log_prints=False, validate_parameters=True)
@naming_disks
def watch(settings: Settings, logs: str | None = None) -> WatchReport:
    """Look at the logs once and judge every window that is complete.

    Args:
        settings: the whole tree of settings.
        logs: replaces `watch.logs`.

    Raises:
        EvergreenError: there are no logs, or no champion to compare them with.
    """
    path = logs or settings.watch.logs
    if path is None:
        raise ConfigError("no logs to watch", "set watch.logs, or give --logs")
    workspace = Workspace.current()
    workspace.create()
    ledger = Ledger(settings.ledger, workspace)
    delete_expired(settings, ledger, workspace)
    champion = champion_task(settings.name, settings.tracking, settings.ledger, workspace)
    if champion is None:
        raise RegistryError(
            f"model {settings.name!r} has no champion to compare traffic with",
            "`evergreen retrain` makes one",
        )
    now = datetime.now(UTC)
    log_key = home_key(workspace, LOGS)
    pending = look_task(path, settings, ledger, log_key, now)
    windows, waiting = cut(pending, settings.watch, now)
    judged = judge(windows, pending, settings, champion, ledger, workspace) if windows else []
    for window in judged:
        if window.request is not None:  # now that every window is counted
            announce(window.request)
    finish_files(pending, windows, settings, ledger)
    report = WatchReport(
        logs=shown(path),
        champion=champion.version.version,
        windows=tuple(judged),
        waiting=waiting,
        known=pending.known,
        duplicates=pending.duplicates,
        late=pending.late,
        incomplete=pending.incomplete,
        quarantined=rules(pending.quarantined),
        readings=pending.readings,
        damaged=shown_all(pending.damaged),
        passed_over=shown_all(pending.passed_over),
    )
    tell(report)
    return report


@task(name="look at logs", task_run_name="look at logs", persist_result=False)
def look_task(path: str, settings: Settings, ledger: Ledger, key: bytes, now: datetime) -> Pending:
    since = episodes.take_key(ledger, settings.name, key_fingerprint(key))
    done = episodes.finished_files(ledger, settings.name)
    before = CountedBefore(
        key=key,
        known=lambda digests: episodes.known(ledger, settings.name, digests),
        finished=lambda file: (file.uri, file.version) in done,
        newest=episodes.newest(ledger, settings.name),
        since=since,
    )
    return look(path, settings.watch, now=now, before=before)


def judge(
    windows: list[LogWindow],
    pending: Pending,
    settings: Settings,
    champion: LoadedVersion,
    ledger: Ledger,
    workspace: Workspace,
) -> list[WindowReport]:
    """Scrub, describe, compare and count each window in turn; models are loaded once."""
    data = trained_on(champion)
    reference = Features.load(
        Path(reference_task(data, settings.encoder, settings.drift, workspace).path)
    )
    contract = load_contract(default=INFERENCE_LOGS)
    policy, encoder = load_policy(settings.scrub.policy), Encoder(settings.encoder)
    detector = detector_task(policy, settings.scrub.detector, workspace)
    key = secret_key(policy)
    reports = []
    with searching(policy, detector, settings.scrub.workers) as search:
        for number, window in enumerate(windows):
            kept = keep_window_task(
                window, pending, settings.watch, search, key, contract, workspace
            )
            features, file = describe_window_task(
                kept, champion, encoder, settings.drift, workspace
            )
            before = episodes.judged(ledger, settings.name, champion.version.version)
            evidence = compare(reference, settled(before, settings.drift), features, settings.drift)
            about = describe(kept, champion, settings)
            write_report(evidence, about, kept, file.parent)
            # Rows that no window can claim, because they say no time, are counted with the first.
            broken = [quarantine_digest(row) for row in pending.quarantined] if number == 0 else []
            counted = CountedRecords(
                [(e.digest, e.at) for e in window.entries] + [(one, kept.end) for one in broken],
                key=pending.key,
                forget_before=int(kept.end - 3600 * settings.watch.lateness_hours),
            )
            outcome = count(kept, evidence, counted, file, settings, champion, ledger)
            report_page = str(file.parent / REPORT_PAGE)
            publish(evidence.comparison, {**about, "report": report_page}, kept, outcome)
            reports.append(
                WindowReport(
                    id=kept.id,
                    start=iso(kept.start),
                    end=iso(kept.end),
                    account=kept.account,
                    quarantined=kept.quarantined,
                    comparison=evidence.comparison,
                    page=report_page,
                    counted=outcome.counted,
                    episode=outcome.episode,
                    closed=outcome.closed,
                    request=outcome.request,
                )
            )
    return reports


def describe(kept: KeptWindow, champion: LoadedVersion, settings: Settings) -> dict[str, str]:
    """What a report says about its window."""
    account = kept.account
    return {
        "model": f"{champion.version.name}, version {champion.version.version}",
        "window": f"{iso(kept.start)} to {iso(kept.end)}",
        "log records": f"{account.records}: {account.kept} conversations compared,"
        f" {account.contained} contained in a later request, {account.quarantined} quarantined,"
        f" {account.not_sampled} not in the sample",
        "sentence encoder": settings.encoder.encoder,
    }


def write_report(
    evidence: Evidence, about: Mapping[str, str], kept: KeptWindow, folder: Path
) -> None:
    (folder / REPORT_PAGE).write_text(page(evidence, about), encoding="utf-8")
    document = {
        "window": kept.model_dump(mode="json"),
        "comparison": evidence.comparison.model_dump(mode="json"),
    }
    (folder / REPORT_JSON).write_text(json.dumps(document, indent=2), encoding="utf-8")


def count(
    kept: KeptWindow,
    evidence: Evidence,
    counted: CountedRecords,
    file: Path,
    settings: Settings,
    champion: LoadedVersion,
    ledger: Ledger,
) -> Outcome:
    """Write the window into the ledger and tell the automations what follows from it."""
    comparison = evidence.comparison
    return episodes.count_window(
        ledger,
        JudgedWindow(
            id=kept.id,
            model=settings.name,
            champion=champion.version.version,
            start=kept.start,
            end=kept.end,
            verdict=comparison.verdict,
            strong=comparison.strong,
            snapshot=kept.snapshot.model_dump_json(),
            features=str(file),
            report=str(file.parent / REPORT_PAGE),
        ),
        counted,
        settings.episode,
        reason=comparison.reason,
    )


def finish_files(
    pending: Pending, windows: list[LogWindow], settings: Settings, ledger: Ledger
) -> None:
    """Files all of whose records are counted need not be opened again until they change."""
    counted = {entry.digest for window in windows for entry in window.entries}
    waiting = {entry.file for entry in pending.entries if entry.digest not in counted}
    unsettled = pending.quarantined and not windows
    done = [
        (file.uri, file.version)
        for number, file in enumerate(pending.files)
        if number not in waiting and file.uri not in pending.damaged and not unsettled
    ]
    episodes.finish_files(ledger, settings.name, done)


def publish(
    comparison: Comparison, about: Mapping[str, str], kept: KeptWindow, outcome: Outcome
) -> None:
    """Put the report where people look: the Prefect UI and the log."""
    create_markdown_artifact(
        markdown(comparison, about),
        key="drift-report",
        description=f"Window from {iso(kept.start)}",
    )
    log: Any = get_run_logger()
    log.info("%s: %s: %s", iso(kept.start), comparison.verdict, comparison.reason)
    if not outcome.counted:
        log.info("another watcher counted this window before; it changes nothing")
    if outcome.closed:
        log.info("drift episode closed: %s", outcome.closed)
    if outcome.request is not None:
        log.warning("retrain requested (%s): %s", outcome.request.id, outcome.request.reason)


def tell(report: WatchReport) -> None:
    log: Any = get_run_logger()
    log.info(
        "%d windows judged; %d records wait for their window to fill or end; %d known,"
        " %d duplicates, %d too late, %d incomplete, %d quarantined; %d files passed over",
        len(report.windows),
        report.waiting,
        report.known,
        report.duplicates,
        report.late,
        report.incomplete,
        sum(report.all_quarantined.values()),
        len(report.passed_over),
    )
    for rule, count in report.all_quarantined.items():
        log.warning("%d records quarantined: %s", count, rule)
    for uri, reason in report.damaged.items():
        log.warning("%s is damaged and was read as far as it goes: %s", uri, reason)
