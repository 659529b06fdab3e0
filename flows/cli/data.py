"""`evergreen scrub`, `detector` and `validate`: single stages, without any server."""

import json
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import Progress

from data_contracts.errors import ConfigError, DataError, RowRejected
from data_contracts.workspace import Workspace
from flows.cli.output import (
    JsonFlag,
    advance,
    console,
    progress,
    require_writable,
    show_json,
    show_table,
)
from flows.cli.pipeline import ConfigOption

if TYPE_CHECKING:
    import pyarrow as pa

    from data_contracts.policy import ScrubPolicy
    from data_contracts.records import Record
    from tasks.ingest import Listing
    from tasks.scrub import BuiltDetector, ScrubSettings

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
    config: ConfigOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove personal data from conversations: INPUT to OUTPUT, which appears only when whole.

    The same command goes on where it was stopped, and does only what is new of a file that grew.
    With --audit it exits 1 if more survives than `scrub.audit.max_leak_rate` allows.

    Example: `evergreen scrub raw.jsonl clean.jsonl --audit --report scrub.html`
    """
    from data_contracts.policy import load_policy
    from flows.settings import load_settings
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.scrub.audit import require
    from tasks.scrub.report import KINDS, tables
    from tasks.scrub.report import as_json as report_json
    from tasks.scrub.report import write as write_report
    from tasks.scrub.stage import cleaned

    settings = load_settings(config).scrub
    if not audit:
        settings = settings.without_audit()
    rules = load_policy(str(policy) if policy else settings.policy)
    require_writable(output, (".jsonl", ".parquet"))
    if report is not None:
        require_writable(report, KINDS)
    workspace = Workspace.current()
    workspace.create()
    listing = ingest(IngestSettings(sources=(Source(path=source),)))
    with progress(quiet=as_json) as bar:
        detector = learned(bar, rules, settings, workspace)
        line = bar.add_task("scrubbing", total=listing.rows_in)
        clean = cleaned(listing, rules, detector, settings, workspace, partial(advance, bar, line))
        write_rows(clean.tables(), output)
    found = clean.report()
    if report is not None:
        write_report(found, source, report)
    if as_json:
        quarantined = [row.model_dump() for row in clean.quarantined()]
        show_json(report_json(found) | {"output": str(output), "rows": quarantined})
    else:
        console.print(f"{found.account} -> {output}")
        for title, rows in tables(found).items():
            show_table(title, rows)
        if found.audit is not None:
            console.print(f"{found.audit}")
    require(found.audit, settings.audit)


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
        Path | None, typer.Option("--contract", help="ODCS file; default the shipped one.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check conversations against the data contract. Exits 1 if a row breaks it.

    Example: `evergreen validate chats.jsonl`
    """
    from data_contracts.contract import load_contract
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.validate import check

    agreed = load_contract(str(contract) if contract else None)
    listing = ingest(IngestSettings(sources=(Source(path=source),)))
    records, unreadable = readable(listing)
    checked = check(records, agreed) if records else None
    broken = len(checked.broken) if checked else 0
    rules = [rule.model_dump() for rule in checked.rules] if checked else []
    if as_json:
        show_json(
            {
                "rows": listing.rows_in,
                "unreadable": dict(unreadable),
                "broken": broken,
                "rules": rules,
            }
        )
    else:
        console.print(
            f"{listing.rows_in} rows: {unreadable.total()} unreadable, {broken} break the"
            f" contract {agreed.id} {agreed.version}, {len(records) - broken} keep it"
        )
        if unreadable:
            show_table("Unreadable", _counts(dict(unreadable), "why", "rows"))
        show_table("Rules", rules)
    if broken or unreadable:
        raise typer.Exit(1)


def readable(listing: "Listing") -> "tuple[list[Record], Counter[str]]":
    """(the rows that are conversations, {rule that a row broke: how many})."""
    records: list[Record] = []
    unreadable: Counter[str] = Counter()
    for file, row in listing.rows():
        try:
            records.append(row.parse(file.name))
        except RowRejected as rejected:
            unreadable[rejected.rule] += 1
    return records, unreadable


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
    with path.open("w", encoding="utf-8") as file:
        for table in tables:
            for row in table.to_pylist():
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _write_parquet(tables: "Iterable[pa.Table]", path: Path) -> None:
    import pyarrow.parquet as pq

    from data_contracts.snapshots import RECORD_SCHEMA

    with pq.ParquetWriter(path, RECORD_SCHEMA, compression="zstd") as file:
        for table in tables:
            file.write_table(table)


def _counts(counts: dict[str, int], name: str, unit: str) -> list[dict[str, Any]]:
    return [{name: key, unit: count} for key, count in counts.items()]
