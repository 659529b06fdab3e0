"""Validate: check scrubbed conversations against the data contract with Great Expectations.

Rows that break a rule go to quarantine with the rule's name; the others go on. Data
Docs hold counts and rules, never a value of a row.
"""

import logging
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from open_data_contract_standard.model import OpenDataContractStandard
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DataError
from data_contracts.expectations import compile_suites
from data_contracts.home_keys import ROWS, home_key
from data_contracts.records import Message, Record, Served
from data_contracts.snapshots import Snapshot, SnapshotWriter, quarantine_row
from data_contracts.workspace import HomePath, Workspace
from tasks.scrub import Scrubbed
from tasks.stage import stage_task

if TYPE_CHECKING:
    import pandas as pd


class ValidateSettings(BaseModel):
    """Which contract the data must keep."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str | None = Field(
        default=None,
        description="An ODCS v3 file; default `data_contracts/conversations.odcs.yaml`.",
    )
    max_quarantined: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Stop the run if more than this share of the rows breaks the contract.",
    )


class RuleResult(BaseModel):
    """One expectation: how many values it saw and how many broke it."""

    model_config = ConfigDict(frozen=True)

    rule: str
    expectation: str
    checked: int
    broken: int


class Validated(BaseModel):
    model_config = ConfigDict(frozen=True)

    snapshot: Snapshot
    contract_id: str
    contract_version: str
    rules: tuple[RuleResult, ...]
    quarantined: dict[str, int]
    data_docs: HomePath

    def verify(self) -> None:
        self.snapshot.verify()


class Checked(BaseModel):
    """The contract's verdict on some records; `broken` maps a row's index to its first rule."""

    rules: tuple[RuleResult, ...]
    broken: dict[int, str]


def validate(
    scrubbed: Snapshot,
    contract: OpenDataContractStandard,
    settings: ValidateSettings,
    workspace: Workspace,
) -> Validated:
    """Split a snapshot into rows that keep the contract and quarantine.

    Raises:
        ConfigError: the contract cannot be read or compiled.
        DataError: a rule about a whole table is broken, or too many rows are.
    """
    records = list(scrubbed.records())
    docs = workspace.data_docs / scrubbed.digest[:16]
    checked = check(records, contract, docs)
    counts = Counter(checked.broken.values())
    if records and len(checked.broken) > settings.max_quarantined * len(records):
        rule, count = counts.most_common(1)[0]
        raise DataError(
            f"{len(checked.broken)} of {len(records)} conversations break the contract,"
            f" {count} of them the rule {rule!r}",
            "correct the data, or raise contract.max_quarantined",
        )
    key = home_key(workspace, ROWS)
    with SnapshotWriter(
        str(workspace.snapshots),
        "validate",
        parent=scrubbed.digest,
        provenance={"contract": str(contract.id), "contract_version": str(contract.version)},
    ) as writer:
        for index, record in enumerate(records):
            if rule_broken := checked.broken.get(index):
                writer.quarantine(quarantine_row(record, rule_broken, key))
            else:
                writer.write(record)
        snapshot = writer.commit(rows_in=len(records))
    return Validated(
        snapshot=snapshot,
        contract_id=str(contract.id),
        contract_version=str(contract.version),
        rules=checked.rules,
        quarantined=dict(counts.most_common()),
        data_docs=str(docs / "index.html"),
    )


def check(
    records: list[Record], contract: OpenDataContractStandard, docs: Path | None = None
) -> Checked:
    """Run the contract's suites over `records`; build Data Docs into `docs` if given.

    Raises:
        DataError: a rule about a whole table is broken, or a column is missing.
    """
    tables = as_tables(records)
    rules: list[RuleResult] = []
    broken: dict[int, str] = {}
    for table, results in run_suites(contract, tables, docs).items():
        frame = tables[table]
        for result in results:
            detail = result["result"]
            rule = result["expectation_config"]["meta"]["rule"]
            failed = detail.get("unexpected_index_list") or []
            if result["exception_info"].get("raised_exception"):
                raise DataError(
                    f"the contract's rule {rule!r} cannot be checked on this data",
                    "compare the contract's types with the data",
                )
            if not result["success"] and not failed:
                raise DataError(
                    f"the data breaks {rule!r}, a rule about the whole table",
                    "correct the source or the contract",
                )
            rules.append(
                RuleResult(
                    rule=rule,
                    expectation=result["expectation_config"]["type"],
                    checked=detail.get("element_count", len(frame)),
                    broken=len(failed),
                )
            )
            for position in failed:
                broken.setdefault(int(frame["record"].iloc[position]), rule)
    return Checked(rules=tuple(rules), broken=broken)


def as_tables(records: list[Record]) -> "dict[str, pd.DataFrame]":
    """The tables that a contract may speak of; column `record` is the index of the conversation."""
    import pandas as pd

    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in COLUMNS}
    for index, record in enumerate(records):
        for table, found in rows_of(record).items():
            rows[table] += [{"record": index, **row} for row in found]
    return {
        name: pd.DataFrame(found, columns=["record", *COLUMNS[name]])
        for name, found in rows.items()
    }


# {table: its columns}; `served` is about the answers of inference logs.
COLUMNS: dict[str, tuple[str, ...]] = {
    "conversations": (
        "id",
        "turns",
        "user_turns",
        "assistant_turns",
        "created_at",
        "tools",
        "rating",
    ),
    "messages": ("role", "content", "reasoning"),
    "tool_calls": ("name", "arguments"),
    "served": tuple(name for name in Served.model_fields if name not in ("correction", "user")),
}


def rows_of(record: Record) -> dict[str, list[dict[str, Any]]]:
    """{table: rows} of one conversation. The rejected side of a pair is not learnt, and so not
    checked."""
    messages, served = record.messages, record.served
    conversation = {
        "id": record.id,
        "turns": len(messages),
        "user_turns": sum(message.role == "user" for message in messages),
        "assistant_turns": sum(message.role == "assistant" for message in messages),
        "created_at": record.created_at and datetime.fromisoformat(record.created_at),
        "tools": record.tools,
        "rating": record.rating,
    }
    return {
        "conversations": [conversation],
        "messages": [
            {"role": one.role, "content": said(one), "reasoning": one.reasoning} for one in messages
        ],
        "tool_calls": [
            {"name": call.name, "arguments": call.arguments}
            for message in messages
            for call in message.tool_calls
        ],
        "served": [] if served is None else [served.model_dump(exclude={"correction", "user"})],
    }


def said(message: Message) -> str | None:
    """What a turn says, and None where it need not: it calls tools, or a tool returned nothing."""
    text = message.content or message.refusal or ""
    return None if not text and (message.tool_calls or message.role == "tool") else text


def run_suites(
    contract: OpenDataContractStandard, tables: "dict[str, pd.DataFrame]", docs: Path | None
) -> dict[str, list[Any]]:
    """{table: [expectation result as a dict]} from an in-memory Great Expectations context."""
    import great_expectations as gx

    logging.getLogger("great_expectations").setLevel(logging.WARNING)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    context.delete_data_docs_site("local_site")  # it would write to the system's temporary folder
    if docs is not None:
        docs.mkdir(parents=True, exist_ok=True)
        context.add_data_docs_site(
            site_name="docs",
            site_config={
                "class_name": "SiteBuilder",
                "store_backend": {
                    "class_name": "TupleFilesystemStoreBackend",
                    "base_directory": str(docs),
                },
                "site_index_builder": {"class_name": "DefaultSiteIndexBuilder"},
            },
        )
    source = context.data_sources.add_pandas("scrubbed")
    definitions, frames = [], []
    for table, suite in compile_suites(contract).items():
        if table not in tables:
            raise DataError(
                f"the contract has a table {table!r}", f"its tables are {', '.join(tables)}"
            )
        batch = source.add_dataframe_asset(table).add_batch_definition_whole_dataframe(table)
        definitions.append(
            context.validation_definitions.add(
                gx.ValidationDefinition(name=table, data=batch, suite=context.suites.add(suite))
            )
        )
        frames.append(tables[table])
    results = {}
    for definition, frame in zip(definitions, frames, strict=True):
        outcome = definition.run(
            batch_parameters={"dataframe": frame},
            # COMPLETE gives the positions of the broken rows; their values must not
            # get into the results, and from there into Data Docs.
            result_format={"result_format": "COMPLETE", "exclude_unexpected_values": True},
        )
        results[definition.name] = [result.to_json_dict() for result in outcome.results]
    if docs is not None:
        context.build_data_docs()
    return results


@stage_task(
    "validate",
    produces="conversations/validated",
    description="Scrubbed conversations that keep the data contract.",
)
def validate_task(
    scrubbed: Scrubbed,
    contract: OpenDataContractStandard,
    settings: ValidateSettings,
    workspace: Workspace,
) -> Validated:
    return validate(scrubbed.snapshot, contract, settings, workspace)
