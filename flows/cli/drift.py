"""`evergreen watch`, `drift`, `ledger`: is traffic still what the champion knows, and what
was done about it."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_contracts.errors import ConfigError, DataError
from data_contracts.home_keys import passing_key
from data_contracts.workspace import Workspace
from flows.cli.data import learned
from flows.cli.output import (
    JsonFlag,
    advance,
    bold,
    console,
    progress,
    require_writable,
    show_json,
    show_passed_over,
    show_table,
)
from flows.cli.pipeline import ConfigOption
from infra.local import PrefectApi

if TYPE_CHECKING:
    from data_contracts.formats import Readings
    from flows.settings import Settings
    from flows.watch import WatchReport
    from tasks.drift.compare import Comparison
    from tasks.drift.sides import Side, SideAccount

DRIFT_CODE = 3


def watch(
    logs: Annotated[
        str | None, typer.Option("--logs", help="Inference logs: file, folder, glob or s3://.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Look at new inference logs once; ask for a retrain if traffic has drifted for long.

    Example: `evergreen watch --logs /var/log/llm/`
    """
    api = PrefectApi(Workspace.current())
    from flows.settings import load_settings, require_no_password

    settings = load_settings(config)
    if logs is not None:
        require_no_password(logs, "--logs")
    with api.running():
        from flows.watch import watch as flow

        report: WatchReport = flow(settings, logs)
    if as_json:
        show_json(report.model_dump(mode="json") | {"verdict": report.verdict})
        return
    show_watched(report)


def show_watched(report: "WatchReport") -> None:
    show_table(
        f"Windows of {report.logs}",
        [
            {
                "from": window.start,
                "verdict": window.comparison.verdict,
                "records": window.account.records,
                "compared": window.account.kept,
                "why": window.comparison.reason,
            }
            for window in report.windows
        ],
    )
    counts = {
        "waiting for their window to fill or end": report.waiting,
        "known": report.known,
        "duplicates": report.duplicates,
        "too late": report.late,
        "incomplete": report.incomplete,
    }
    told = [f"{count} {what}" for what, count in counts.items() if count]
    if told:
        console.print(f"Other records: {', '.join(told)}")
    show_left_out("", report.all_quarantined, report.readings)
    show_passed_over(report.passed_over)
    for uri, reason in report.damaged.items():
        console.print(bold("Damaged:"), f"{uri}: {reason}; read as far as it goes")
    for window in report.windows:
        if window.request is not None:
            request = window.request
            console.print(bold("Retrain requested"), f"({request.id}): {request.reason}")
        console.print(f"Report: {window.page}", soft_wrap=True)


def drift(
    reference: Annotated[str, typer.Option("--reference", help="As for `retrain --data`.")],
    current: Annotated[str, typer.Option("--current", help="As for `retrain --data`.")],
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the report page to this .html file.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Compare two files of conversations or inference logs, without any server.

    Exits 0 if they are alike, 3 if they are not, 1 or 2 if it could not tell.

    Example: `evergreen drift --reference may.jsonl --current june.jsonl`
    """
    from data_contracts.policy import load_policy
    from flows.settings import load_settings
    from models.encoder import Encoder
    from tasks.drift.compare import compare
    from tasks.drift.features import describe
    from tasks.drift.report import page
    from tasks.drift.sides import scrub_side
    from tasks.paths import shown
    from tasks.scrub.replace import secret_key
    from tasks.scrub.workers import searching

    settings = load_settings(config)
    if report is not None:
        require_writable(report)
    paths = {"reference": reference, "current": current}
    sides = {name: readable_side(path, settings) for name, path in paths.items()}
    policy, encoder = load_policy(settings.scrub.policy), Encoder(settings.encoder)
    key = secret_key(policy)
    described = {}
    with progress(quiet=as_json) as bar:
        detector = learned(bar, policy, settings.scrub, Workspace.current())
        with searching(policy, detector, settings.scrub.workers) as search:
            for name, side in sides.items():
                scrub, embed = (bar.add_task(f"{what} the {name}") for what in ("scrub", "embed"))
                sides[name] = scrub_side(side, search, key, partial(advance, bar, scrub))
                enough(name, len(sides[name].records), settings)
                described[name] = describe(
                    sides[name].records, encoder, on_progress=partial(advance, bar, embed)
                )
    before, now = described["reference"], described["current"]
    evidence = compare(before, before, now, settings.drift)
    if report is not None:
        about = {
            "reference": shown(reference),
            "now": shown(current),
            "encoder": settings.encoder.encoder,
            "model": "two files",
        }
        write_page(report, page(evidence, about))
    accounts = {name: side.account for name, side in sides.items()}
    show_comparison(evidence.comparison, accounts, as_json=as_json)
    if evidence.comparison.verdict == "drift":
        raise typer.Exit(DRIFT_CODE)


def readable_side(path: str, settings: "Settings") -> "Side":
    """Raises DataError: nothing is there, or too few rows can be read."""
    from tasks.drift.sides import read_side
    from tasks.ingest import IngestSettings, Source, ingest

    sample = Source(path=path, rows=settings.drift.reference_records)
    listing = ingest(IngestSettings(sources=(sample,), seed=settings.drift.seed), passing_key())
    side = read_side(listing)
    enough(path, len(side.records), settings)
    return side


def enough(name: str, count: int, settings: "Settings") -> None:
    from tasks.paths import shown

    least = settings.watch.min_records
    if count < least:
        raise DataError(
            f"{shown(name)}: {count} conversations are too few to tell"
            f" (watch.min_records is {least})",
            "give more, or lower watch.min_records (30 at least)",
        )


def write_page(file: Path, content: str) -> None:
    try:
        file.write_text(content, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"cannot write {file} ({error.strerror})", "choose another") from error


def show_comparison(
    comparison: "Comparison", accounts: "dict[str, SideAccount]", *, as_json: bool
) -> None:
    from tasks.drift.report import headline, test_rows

    if as_json:
        rows = {name: account.rows for name, account in accounts.items()}
        told = {name: account.model_dump(mode="json") for name, account in accounts.items()}
        show_json(comparison.model_dump(mode="json") | {"rows": rows, "accounts": told})
        return
    shown = ("test", "adjusted p", "effect (AUC)", "reference", "now", "drift")
    tests = [{name: row[name] for name in shown} for row in test_rows(comparison)]
    show_table("Tests", tests)
    for name, account in accounts.items():
        show_account(name, account)
    console.print(bold(headline(comparison)), comparison.reason, sep=": ")


def show_account(name: str, account: "SideAccount") -> None:
    """What became of all rows of a side."""
    counts = {
        "in a later request": account.contained,
        "duplicates": account.duplicates,
        "without an answered question": account.unanswered,
        "not in the sample": account.not_sampled,
        "quarantined": sum(account.quarantined.values()),
    }
    others = [f"{count} {what}" for what, count in counts.items() if count]
    console.print(", ".join([f"{name}: {account.rows} rows, {account.compared} compared", *others]))
    show_left_out(f"{name}: ", account.quarantined, account.readings)
    show_passed_over(account.passed_over)


def show_left_out(side: str, quarantined: dict[str, int], readings: "Readings") -> None:
    """Rows that cannot be used, by rule, and what of the others is not read."""
    from tasks.scrub.report import reading_tables

    if quarantined:
        rows = [{"rule": rule, "records": count} for rule, count in quarantined.items()]
        show_table(f"{side}Quarantined, by the rule they broke", rows)
    for title, table in reading_tables(readings).items():
        show_table(f"{side}{title}", table)


def ledger(
    request: Annotated[
        str | None, typer.Argument(metavar="[REQUEST]", help="One request and its history.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Which retrains were asked for, why, and what became of them.

    Example: `evergreen ledger`
    """
    from flows.settings import load_settings
    from tasks.ledger import requests
    from tasks.ledger.database import Ledger

    settings = load_settings(config)
    workspace = Workspace.current()
    workspace.create()
    book = Ledger(settings.ledger, workspace)
    if request is None:
        found = requests.listing(book, settings.name)
        if as_json:
            show_json([one.model_dump(mode="json") for one in found])
            return
        show_table(
            f"Retrain requests of {settings.name}",
            [
                {
                    "request": one.id,
                    "asked": _when(one.requested_at),
                    "by": one.trigger,
                    "champion then": one.champion,
                    "state": one.state,
                    "why": one.reason,
                }
                for one in found
            ],
        )
        return
    one, events = requests.find(book, request), requests.story(book, request)
    if as_json:
        history: list[dict[str, Any]] = [event.model_dump(mode="json") for event in events]
        show_json(one.model_dump(mode="json") | {"history": history})
        return
    console.print(bold(one.id), f"({one.trigger}, champion {one.champion}): {one.state}")
    show_table(
        "History",
        [
            {
                "at": _when(event.at),
                "state": event.state,
                "why": event.reason,
                "flow run": event.flow_run,
            }
            for event in events
        ],
    )


def _when(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%d %H:%M:%S")
