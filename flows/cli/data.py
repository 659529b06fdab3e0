"""`evergreen scrub` and `validate`: single stages on files, without any server."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from data_contracts.errors import ConfigError, DataError
from flows.cli.output import JsonFlag, console, progress, show_json, show_table

if TYPE_CHECKING:
    from data_contracts.records import Record

PolicyOption = Annotated[
    Path | None, typer.Option("--policy", help="Scrub policy file; default the shipped one.")
]


def scrub(
    source: Annotated[str, typer.Argument(metavar="INPUT", help="As for `retrain --data`.")],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A .jsonl or .parquet file.")],
    policy: PolicyOption = None,
    as_json: JsonFlag = False,
) -> None:
    """Remove personal data from conversations: INPUT to OUTPUT, which appears only when whole.

    Example: `evergreen scrub raw.jsonl clean.jsonl`
    """
    from data_contracts.policy import load_policy
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.scrub.engine import Scrubber
    from tasks.scrub.stage import Tally, no_rows_left, scrub_rows

    write = writer(output)
    rules = load_policy(str(policy) if policy else None)
    listing = ingest(IngestSettings(sources=(Source(path=source),)))
    tally = Tally()
    records: list[Record] = []
    quarantined: list[dict[str, Any]] = []
    with progress(quiet=as_json) as bar:
        line = bar.add_task("scrubbing", total=listing.rows_in)
        scrub_rows(
            listing,
            Scrubber(rules),
            records.append,
            lambda row: quarantined.append(row.model_dump()),
            tally,
            lambda done, _total: bar.update(line, completed=done),
        )
    report = tally.report(rules.digest)
    if not records:
        raise no_rows_left(report)
    write(records, output)
    if as_json:
        show_json(report.model_dump(mode="json") | {"output": str(output), "rows": quarantined})
        return
    console.print(f"{report.account} -> {output}")
    show_table("Personal data replaced", _counts(report.findings, "entity", "found"))
    show_table("Quarantined", _counts(report.quarantined, "rule", "rows"))


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
    from collections import Counter

    from data_contracts.contract import load_contract
    from data_contracts.errors import RowRejected
    from tasks.ingest import IngestSettings, Source, ingest
    from tasks.validate import check

    agreed = load_contract(str(contract) if contract else None)
    listing = ingest(IngestSettings(sources=(Source(path=source),)))
    records: list[Record] = []
    unreadable: Counter[str] = Counter()
    for file, row in listing.rows():
        try:
            records.append(row.parse(file.name))
        except RowRejected as rejected:
            unreadable[rejected.rule] += 1
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


def writer(output: Path) -> "Callable[[list[Record], Path], None]":
    """How to write `output`, checked before any work is done.

    Raises:
        ConfigError: its folder does not exist or its ending is not known.
    """
    if not output.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {output.absolute().parent}", "create it first")
    if output.suffix == ".jsonl":
        return _write_jsonl
    if output.suffix == ".parquet":
        return _write_parquet
    raise ConfigError(f"{output} must end in .jsonl or .parquet", "rename the output")


def _write_jsonl(records: "list[Record]", output: Path) -> None:
    lines = (json.dumps(_row(record), ensure_ascii=False) for record in records)
    _replace(output, "".join(f"{line}\n" for line in lines).encode("utf-8"))


def _write_parquet(records: "list[Record]", output: Path) -> None:
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    from data_contracts.snapshots import RECORD_SCHEMA

    buffer = io.BytesIO()
    pq.write_table(
        pa.Table.from_pylist([_row(record) for record in records], RECORD_SCHEMA), buffer
    )
    _replace(output, buffer.getvalue())


def _row(record: "Record") -> dict[str, Any]:
    return record.model_dump(exclude={"labelled_spans"})


def _replace(output: Path, content: bytes) -> None:
    partial = output.with_name(f".{output.name}.partial")
    try:
        partial.write_bytes(content)
        partial.replace(output)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise DataError(f"cannot write {output} ({error.strerror})", "choose another") from error


def _counts(counts: dict[str, int], name: str, unit: str) -> list[dict[str, Any]]:
    return [{name: key, unit: count} for key, count in counts.items()]
