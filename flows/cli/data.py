"""`evergreen scrub`, `detector` and `validate`: single stages, without any server."""

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress
from rich.text import Text

from data_contracts.errors import ConfigError, DataError, RowRejected
from data_contracts.home_keys import ROWS, home_key, passing_key
from data_contracts.workspace import Workspace
from flows.cli.output import (
    JsonFlag,
    advance,
    console,
    progress,
    require_writable,
    show_json,
    show_note,
    show_table,
)
from flows.cli.pipeline import ConfigOption

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.formats import Readings
    from data_contracts.policy import ScrubPolicy
    from data_contracts.records import Record
    from flows.settings import Settings
    from tasks.ingest import Listing
    from tasks.preview import Preview
    from tasks.scrub import BuiltDetector, Job, ScrubReport, ScrubSettings

# Rows that --show-replaced samples.
SAMPLE = 400

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="Scrub policy file; default the shipped one.")
]


def scrub(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="As for `retrain --data`.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A .jsonl or .parquet file.")],
    policy: PolicyOption = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write the report: .html, .md or .json.")
    ] = None,
    audit: Annotated[
        bool,
        typer.Option("--audit", help="Plant personal data into some rows; count what survives."),
    ] = False,
    show_replaced: Annotated[
        bool,
        typer.Option(
            "--show-replaced",
            help="Show what is replaced most in a sample: personal data, on this terminal alone.",
        ),
    ] = False,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove personal data from conversations: INPUT to OUTPUT, which appears only when whole.

    Every row that can be scrubbed is kept. The same command goes on where it was stopped, and does
    only what is new of a file that grew. With --audit it exits 1 if more survives than
    `scrub.audit.max_leak_rate` allows, or more is replaced than `scrub.audit.max_changed`.

    Example: `evergreen scrub raw.jsonl clean.jsonl --audit --report scrub.html`
    """
    from data_contracts.policy import load_policy
    from flows.settings import load_settings
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.scrub.audit import require
    from tasks.scrub.report import KINDS
    from tasks.scrub.report import as_json as report_json
    from tasks.scrub.report import write as write_report
    from tasks.scrub.stage import cleaned

    if show_replaced and as_json:
        raise ConfigError(
            "--show-replaced shows personal data to people, and --json is for programs",
            "leave one of them out",
        )
    settings = load_settings(config).scrub
    if not audit:
        settings = settings.without_audit()
    rules = load_policy(str(policy) if policy else settings.policy)
    require_writable(output, (".jsonl", ".parquet"))
    if report is not None:
        require_writable(report, KINDS)
    workspace = Workspace.current()
    workspace.create()
    key = home_key(workspace, ROWS)
    listing = ingest(IngestSettings(sources=(Source(path=source),)), key)
    with progress(quiet=as_json) as bar:
        job = scrub_job(bar, rules, settings, workspace, listing.rows_in)
        clean = cleaned(listing, job, distinct=False)
        write_rows(clean.tables(), output)
    found = clean.report()
    if report is not None:
        write_report(found, clean.source, report)
    if as_json:
        # Their digests name raw text: they stay in the home.
        quarantined = [row.model_dump(exclude={"digest"}) for row in clean.quarantined()]
        show_json(report_json(found) | {"output": str(output), "rows": quarantined})
    else:
        show_scrub(found, output)
    if show_replaced:
        show_most_replaced(listing, job)
    require(found.audit, settings.audit)


def scrub_job(
    bar: Progress, policy: "ScrubPolicy", settings: "ScrubSettings", workspace: Workspace, rows: int
) -> "Job":
    """How to scrub so many rows, with their progress in the bar."""
    from tasks.scrub.stage import Job

    detector = learned(bar, policy, settings, workspace)
    line = bar.add_task("scrubbing", total=rows)
    return Job(policy, detector, settings, workspace, partial(advance, bar, line), show_note)


def show_scrub(report: "ScrubReport", output: Path) -> None:
    """The account, the tables of what was found, and the audit."""
    from tasks.scrub.report import tables

    console.print(f"{report.account} -> {output}")
    for title, rows in tables(report).items():
        show_table(title, rows)
    if report.audit is not None:
        console.print(f"{report.audit}")


def show_most_replaced(listing: "Listing", job: "Job") -> None:
    """Tables of the strings that are replaced most in a sample of the rows."""
    from tasks.scrub.audit import most_replaced
    from tasks.scrub.workers import searching

    with searching(job.policy, job.detector, job.settings.workers) as search:
        sample = job.settings.audit.model_copy(update={"records": SAMPLE})
        for entity, strings in most_replaced(listing, search, sample).items():
            rows = [{"replaced": text, "times": times} for text, times in strings]
            show_table(entity, rows)


def detector(config: ConfigOption = None, as_json: JsonFlag = False) -> None:
    """Train the learned detector of personal data, if it is not there yet; say where it is.

    `scrub` and `retrain` do this themselves; with this command it can be done beforehand.

    Example: `evergreen detector`
    """
    from data_contracts.policy import load_policy
    from flows.settings import load_settings

    settings = load_settings(config).scrub
    workspace = Workspace.current()
    workspace.create()
    with progress(quiet=as_json) as bar:
        made = learned(bar, load_policy(settings.policy), settings, workspace)
    if made is None:
        raise ConfigError("the scrub policy does without a detector", "set `detector: true` in it")
    if as_json:
        show_json(made.model_dump())
    else:
        console.print(f"{made.path} ({made.digest[:16]})")


def learned(
    bar: Progress, policy: "ScrubPolicy", settings: "ScrubSettings", workspace: Workspace
) -> "BuiltDetector | None":
    """The detector, with a line in the bar if it has to be trained first."""
    from tasks.scrub.detector import built

    line = bar.add_task("building the detector, once", total=None, visible=False)
    return built(policy, settings.detector, workspace, partial(advance, bar, line))


def validate(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="As for `retrain --data`.")],
    contract: Annotated[
        Path | None, typer.Option("--contract", help="ODCS file; default the configured one.")
    ] = None,
    show: Annotated[
        int,
        typer.Option("--show", min=0, help="Show so many conversations as they will be learnt."),
    ] = 0,
    model: Annotated[
        str | None, typer.Option("--model", help="Show them for this base; default `model.base`.")
    ] = None,
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Check conversations: their formats, what of them is left out, the data contract.

    With --show, conversations are scrubbed and rendered by the base model's chat template; what
    is learnt stands out. Exits 1 if a row cannot be read or breaks the contract.

    Example: `evergreen validate chats.jsonl --show 2`
    """
    from data_contracts.contract import load_contract
    from flows.settings import load_settings
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.scrub.report import reading_tables
    from tasks.split import nothing_to_learn
    from tasks.validate import check

    settings = load_settings(config)
    agreed = load_contract(str(contract) if contract else settings.contract.path)
    listing = ingest(IngestSettings(sources=(Source(path=source),)), passing_key())
    rows = read_rows(listing)
    checked = check(rows.records, agreed) if rows.records else None
    broken = checked.broken if checked else {}
    kept = [record for index, record in enumerate(rows.records) if index not in broken]
    reasons = [nothing_to_learn(record, settings.split) for record in kept]
    lessons = [record for record, reason in zip(kept, reasons, strict=True) if reason is None]
    aside = Counter(reason for reason in reasons if reason is not None)
    rules = [rule.model_dump() for rule in checked.rules] if checked else []
    shown = previews(lessons, show, model, settings, quiet=as_json) if show else []
    if as_json:
        show_json(
            {
                "rows": listing.rows_in,
                "unreadable": dict(rows.unreadable),
                "broken": len(broken),
                "rules": rules,
                "set_aside": dict(aside),
                "readings": rows.readings.model_dump(),
                "shown": [one.model_dump() for one in shown],
            }
        )
    else:
        console.print(
            f"{listing.rows_in} rows: {rows.unreadable.total()} unreadable, {len(broken)} break"
            f" the contract {agreed.id} {agreed.version}, {len(kept)} keep it"
        )
        for title, table in reading_tables(rows.readings).items():
            show_table(title, table)
        for title, counts in (("Unreadable", rows.unreadable), ("Not learnt", aside)):
            if counts:
                show_table(title, _counts(dict(counts), "why", "rows"))
        show_table("Rules", rules)
        for one in shown:
            show_preview(one)
    if broken or rows.unreadable:
        raise typer.Exit(1)


@dataclass(frozen=True)
class ReadRows:
    """The rows that are conversations, {rule that another broke: how many}, and the formats."""

    records: "list[Record]"
    unreadable: Counter[str]
    readings: "Readings"


def read_rows(listing: "Listing") -> ReadRows:
    from data_contracts.formats import Readings
    from tasks.row_boundary import row_boundary

    records: list[Record] = []
    unreadable: Counter[str] = Counter()
    readings = [listing.left_out]
    for file, row in listing.rows():
        try:
            with row_boundary("row"):
                reading = row.read(file.name)
        except RowRejected as rejected:
            unreadable[rejected.rule] += 1
        else:
            records.append(reading.record)
            readings.append(reading.readings)
    return ReadRows(records, unreadable, Readings.total(readings))


def previews(
    records: "list[Record]", count: int, model: str | None, settings: "Settings", *, quiet: bool
) -> "list[Preview]":
    """The first `count` of the records that can be scrubbed and rendered.

    Raises:
        DataError: there is none.
    """
    from data_contracts.policy import load_policy
    from models.base import ModelSettings, resolve_base
    from models.template import load_template
    from tasks.preview import preview
    from tasks.scrub.engine import Scrubber

    workspace = Workspace.current()
    workspace.create()
    policy = load_policy(settings.scrub.policy)
    chosen = settings.model.model_dump() | ({"base": model} if model else {})
    with progress(quiet=quiet) as bar:
        detector = learned(bar, policy, settings.scrub, workspace)
        scrubber = Scrubber(policy, Path(detector.path) if detector else None)
        base = resolve_base(ModelSettings.model_validate(chosen), workspace.models)
        template = load_template(base)
    shown: list[Preview] = []
    refused: Counter[str] = Counter()
    for record in records:
        if len(shown) == count:
            break
        try:
            clean, _ = scrubber.record(record)
            shown.append(preview(template, clean, settings.train.max_length))
        except RowRejected as rejected:
            refused[rejected.rule] += 1
    if not shown:
        reason = refused.most_common(1)[0][0] if refused else "nothing is to be learnt"
        raise DataError(f"there is no conversation to show ({reason})", "see the tables of counts")
    return shown


def show_preview(shown: "Preview") -> None:
    """A conversation with what is learnt in another colour, example by example."""
    cut = f", {shown.cut_tokens} more are cut" if shown.cut_tokens else ""
    count = len(shown.lessons)
    for number, lesson in enumerate(shown.lessons, start=1):
        text = Text()
        for segment in lesson.segments:
            text.append(segment.text, style="bold green" if segment.learnt else "dim")
        part = f" (example {number} of {count})" if count > 1 else ""
        learnt = f"{lesson.learnt_tokens} of {lesson.tokens} tokens learnt"
        console.rule(Text(f"{shown.id}{part}: {learnt}{cut}"))
        console.print(text)
    for change in shown.changed:
        console.print(f"Note: {change}")


def write_rows(tables: "Iterable[pa.Table]", output: Path) -> None:
    """Write table after table under another name, and rename it when it is whole.

    Raises:
        DataError: it cannot be written.
    """
    partial_file = output.with_name(f".{output.name}.partial")
    write = _write_jsonl if output.suffix == ".jsonl" else _write_parquet
    try:
        write(tables, partial_file)
        partial_file.replace(output)
    except OSError as error:
        raise DataError(f"cannot write {output} ({error.strerror})", "choose another") from error
    finally:
        partial_file.unlink(missing_ok=True)


def _write_jsonl(tables: "Iterable[pa.Table]", path: Path) -> None:
    """In OpenAI's chat format, which other libraries read too."""
    from data_contracts.formats.openai import as_openai
    from data_contracts.records import Record

    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            for row in table.to_pylist():
                chat = as_openai(Record.model_validate(row))
                file.write(json.dumps(chat, ensure_ascii=False) + "\n")


def _write_parquet(tables: "Iterable[pa.Table]", path: Path) -> None:
    import pyarrow.parquet as pq

    from data_contracts.snapshots import RECORD_SCHEMA

    with pq.ParquetWriter(path, RECORD_SCHEMA, compression="zstd") as file:
        for table in tables:
            file.write_table(table)


def _counts(counts: dict[str, int], name: str, unit: str) -> list[dict[str, Any]]:
    return [{name: key, unit: count} for key, count in counts.items()]
