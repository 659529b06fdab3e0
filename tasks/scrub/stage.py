"""The scrub stage: rows of the sources in, a snapshot without personal data out."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from data_contracts.errors import DataError
from data_contracts.formats import Readings
from data_contracts.policy import ScrubPolicy
from data_contracts.snapshots import (
    RECORD_SCHEMA,
    QuarantinedRow,
    RowAccount,
    Snapshot,
    SnapshotWriter,
)
from data_contracts.workspace import Workspace
from tasks.ingest import Listing
from tasks.progress import StageProgress
from tasks.scrub.audit import Audit, AuditSettings, audit
from tasks.scrub.detector import BuiltDetector, DetectorSettings
from tasks.scrub.engine import REPLACED_ID, distinct_id
from tasks.scrub.replace import fingerprint, secret_key
from tasks.scrub.shards import SCHEMA, Shard, counted, shards, without_personal_names
from tasks.scrub.workers import WorkerSettings, searching
from tasks.stage import stage_task

Progress = Callable[[int, int], None]


class ScrubSettings(BaseModel):
    """How personal data is removed."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    policy: str | None = Field(
        default=None, description="A scrub policy file; default `data_contracts/scrub_policy.yaml`."
    )
    detector: DetectorSettings = Field(
        default=DetectorSettings(), description="The learned detector."
    )
    workers: WorkerSettings = Field(default=WorkerSettings(), description="Where texts go.")
    audit: AuditSettings = Field(default=AuditSettings(), description="Proof by planted data.")

    def without_audit(self) -> Self:
        """The same, and nothing is planted."""
        return self.model_copy(update={"audit": self.audit.model_copy(update={"records": 0})})


class ScrubReport(BaseModel):
    """Counts only; no value that was found is in here."""

    model_config = ConfigDict(frozen=True)

    account: RowAccount
    policy_digest: str
    findings: dict[str, int]
    scores: dict[str, int] = Field(
        default={}, description="Findings by score: `9` counts those of 0.9 and more."
    )
    quarantined: dict[str, int]
    readings: Readings = Field(
        default=Readings(), description="Formats of the rows, and what of them is not learnt."
    )
    labelled: dict[str, int] = Field(
        description="Labelled spans of personal data, an entity, where the source brings labels."
    )
    covered: dict[str, int] = Field(description="Those of them that were replaced as a whole.")
    uncovered: dict[str, int] = Field(
        default={}, description="Messages in languages in which only patterns ran, by language."
    )
    ids_replaced: int = Field(
        default=0, description="Rows whose own id was personal data, and is another now."
    )
    audit: Audit | None = Field(default=None, description="What was planted, and survived.")


class Scrubbed(BaseModel):
    model_config = ConfigDict(frozen=True)

    snapshot: Snapshot
    report: ScrubReport

    def verify(self) -> None:
        self.snapshot.verify()


class Clean:
    """Scrubbed rows, as tables of `RECORD_SCHEMA` in order, and the account of all rows.

    With `distinct`, a row that repeats an earlier one is left out; two rows that only the scrub
    made equal are both kept. Ids are distinct.
    """

    def __init__(
        self,
        made: Sequence[Shard],
        policy: ScrubPolicy,
        audited: Audit | None,
        left_out: Readings,
        *,
        distinct: bool,
    ) -> None:
        self._made = made
        self._audit = audited
        self.readings = Readings.total([*(shard.readings() for shard in made), left_out])
        self._keep, self._rename = first_ones(made, distinct=distinct)
        kept = int(self._keep.sum())
        self._found, self._ids_replaced = counted([]), 0
        for table, keep, _ in self._parts(["id", "found"]):
            part = table.filter(keep)
            self._ids_replaced += pc.sum(pc.starts_with(part["id"], REPLACED_ID)).as_py() or 0
            for name, counts in counted([part]).items():
                self._found[name] += counts
        self.quarantine_rules = Counter(row.rule for row in self.quarantined())
        self._policy = policy
        rows_in = sum(shard.rows_in for shard in made)
        quarantined = self.quarantine_rules.total()
        self.account = RowAccount(
            rows_in=rows_in,
            rows_out=kept,
            quarantined=quarantined,
            duplicates=rows_in - kept - quarantined,
        )

    @property
    def source(self) -> str:
        """What a report calls the data: its file, or how many files it is."""
        names = sorted({shard.source for shard in self._made})
        return names[0] if len(names) == 1 else f"{len(names)} files"

    @property
    def uncovered(self) -> Counter[str]:
        """{language that is not covered: messages in it}"""
        return self._found["uncovered"]

    def _parts(
        self, columns: list[str] | None = None
    ) -> Iterator[tuple[pa.Table, pa.Array, NDArray[np.bool_]]]:
        """(a shard's table, which of its rows are kept, which get another id) of each shard."""
        at = 0
        for shard in self._made:
            table = shard.table(columns)
            part = slice(at, at + table.num_rows)
            at += table.num_rows
            yield table, pa.array(self._keep[part]), self._rename[part]

    def tables(self) -> Iterator[pa.Table]:
        for table, keep, rename in self._parts():
            if rename.any():
                ids = [
                    distinct_id(one, digest.hex()) if again else one
                    for one, digest, again in zip(
                        table["id"].to_pylist(), table["clean"].to_pylist(), rename, strict=True
                    )
                ]
                table = table.set_column(0, "id", pa.array(ids, pa.string()))
            yield table.filter(keep).select(RECORD_SCHEMA.names).cast(RECORD_SCHEMA)

    def quarantined(self) -> Iterator[QuarantinedRow]:
        for shard in self._made:
            yield from shard.quarantined()

    def report(self) -> ScrubReport:
        """Counts over the kept rows and the quarantine."""
        return ScrubReport(
            account=self.account,
            policy_digest=self._policy.digest,
            findings=dict(self._found["findings"].most_common()),
            scores=dict(sorted(self._found["scores"].items())),
            quarantined=dict(self.quarantine_rules.most_common()),
            readings=self.readings,
            labelled=dict(self._found["labelled"].most_common()),
            covered=dict(self._found["covered"]),
            uncovered=dict(self.uncovered.most_common()),
            ids_replaced=self._ids_replaced,
            audit=self._audit,
        )


def first_ones(
    made: Sequence[Shard], *, distinct: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """(rows that are kept, rows whose id an earlier row has), each [rows of all shards].

    Takes some 40 bytes a row, whatever the rows hold.
    """
    table = pa.concat_tables(
        [shard.table(["id", "raw"]) for shard in made] or [SCHEMA.empty_table()]
    )
    keep = np.ones(table.num_rows, bool)
    if distinct:
        content = table["raw"].combine_chunks().buffers()[1]
        halves = np.frombuffer(content or b"", np.int64)[: 2 * table.num_rows].reshape(-1, 2)
        keep = ~pd.DataFrame(halves).duplicated().to_numpy()
    ids = pd.util.hash_array(table["id"].to_numpy())
    taken = np.zeros(table.num_rows, bool)
    taken[keep] = pd.Series(ids[keep]).duplicated().to_numpy()
    return keep, taken


@dataclass(frozen=True)
class Job:
    """How to scrub: everything but the rows.

    Attributes:
        policy: what counts as personal data.
        detector: the learned detector; None if the policy does without.
        settings: where texts are searched, and the audit.
        workspace: where shards are kept.
        on_progress: called with (finished rows, total rows).
        on_uncovered: called before anything is written with a sentence that counts the messages in
            languages that are not covered.
    """

    policy: ScrubPolicy
    detector: BuiltDetector | None
    settings: ScrubSettings
    workspace: Workspace
    on_progress: Progress = lambda *_: None
    on_uncovered: Callable[[str], None] = lambda _: None


def cleaned(listing: Listing, job: Job, *, distinct: bool) -> Clean:
    """Scrub every row. A row that cannot be read as a conversation or cannot be scrubbed is
    quarantined. Then plant personal data into some of them and see what survives.

    Args:
        listing: which rows.
        job: how.
        distinct: whether to leave out a row that repeats an earlier one.

    Raises:
        DataError: no row passed, or the policy says to stop at one that cannot be scrubbed, or to
            refuse a language.
        ConfigError: the policy asks for a key or a model that is not there.
    """
    key, policy = secret_key(job.policy), job.policy
    with searching(policy, job.detector, job.settings.workers) as search:
        made = list(shards(listing, search, key, job.detector, job.workspace, job.on_progress))
        audited = audit(listing, search, job.settings.audit)
        names = search.ask(listing.left_out.unread)
        names.wait()
    left_out = without_personal_names(listing.left_out, names)
    clean = Clean(made, policy, audited, left_out, distinct=distinct)
    if not clean.account.rows_out:
        raise no_rows_left(clean)
    if clean.uncovered:
        counts = sentence_on_uncovered(clean.uncovered)
        if policy.uncovered == "refuse":
            raise DataError(
                counts,
                "name a spaCy model for them under `models` in the scrub policy, or accept"
                " what patterns find with `uncovered: patterns`",
            )
        job.on_uncovered(counts)
    return clean


def sentence_on_uncovered(counts: Counter[str]) -> str:
    total = counts.total()
    codes = ", ".join(f"{code} {count}" for code, count in counts.most_common(8))
    return (
        f"{total} {'message is' if total == 1 else 'messages are'} in languages in which names and"
        f" places are not found ({codes}): there, only patterns run"
    )


def scrub(listing: Listing, job: Job) -> Scrubbed:
    """Scrub every row and write those that pass to a snapshot, the same row once.

    Raises:
        DataError: no row passed, or the policy says to stop at one that cannot be scrubbed, or to
            refuse a language.
        ConfigError: the policy asks for a key or a model that is not there.
    """
    clean = cleaned(listing, job, distinct=True)
    with SnapshotWriter(
        str(job.workspace.snapshots),
        "scrub",
        parent=None,
        provenance={
            "policy": job.policy.digest,
            "policy_version": str(job.policy.version),
            "detector": job.detector.digest if job.detector else "none",
            "key": fingerprint(secret_key(job.policy)) or "none",
        },
    ) as writer:
        for table in clean.tables():
            writer.write_table(table)
        for row in clean.quarantined():
            writer.quarantine(row)
        account = clean.account
        snapshot = writer.commit(rows_in=account.rows_in, duplicates=account.duplicates)
    return Scrubbed(snapshot=snapshot, report=clean.report())


def no_rows_left(clean: Clean) -> DataError:
    rule, count = clean.quarantine_rules.most_common(1)[0]
    return DataError(
        f"none of {clean.account.rows_in} rows can be used; {count} broke the rule {rule!r}",
        "see what `evergreen validate` says of it; docs/data.md shows a row of every format",
    )


@stage_task(
    "scrub",
    produces="conversations/scrubbed",
    description="Conversations with personal data replaced by placeholders.",
)
def scrub_task(
    listing: Listing,
    policy: ScrubPolicy,
    detector: BuiltDetector | None,
    settings: ScrubSettings,
    workspace: Workspace,
    key: str | None,  # noqa: ARG001 - its fingerprint: with another key the result is another
) -> Scrubbed:
    progress = StageProgress("scrub", "rows")
    return scrub(listing, Job(policy, detector, settings, workspace, progress, progress.say))
