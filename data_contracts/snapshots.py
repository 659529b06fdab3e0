"""Snapshots: immutable folders of Parquet shards with a manifest.

A snapshot is named by its content and becomes visible only when whole: it is
written under a temporary name and renamed (local disk), or its manifest is
written last (object stores). Readers check every shard against its sha256.
"""

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from data_contracts.digests import digest_bytes, digest_file, digest_model
from data_contracts.errors import DataError
from data_contracts.home_keys import keyed_json
from data_contracts.partial import partial_folder, publish
from data_contracts.records import Record
from data_contracts.workspace import HomePath

MANIFEST = "manifest.json"
QUARANTINE = "quarantine.parquet"

TOOL_CALL_TYPE = pa.struct([("id", pa.string()), ("name", pa.string()), ("arguments", pa.string())])
MESSAGE_TYPE = pa.struct(
    [
        ("role", pa.string()),
        ("content", pa.string()),
        ("name", pa.string()),
        ("tool_calls", pa.list_(TOOL_CALL_TYPE)),
        ("tool_call_id", pa.string()),
        ("reasoning", pa.string()),
        ("refusal", pa.string()),
        ("learnt", pa.bool_()),
    ]
)
RECORD_SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("messages", pa.list_(MESSAGE_TYPE)),
        ("created_at", pa.string()),
        ("source", pa.string()),
        (
            "served",
            pa.struct(
                [
                    ("workload", pa.string()),
                    ("model_version", pa.string()),
                    ("prompt_tokens", pa.int64()),
                    ("completion_tokens", pa.int64()),
                    ("latency_ms", pa.float64()),
                    ("feedback", pa.float64()),
                    ("correction", pa.string()),
                    ("user", pa.string()),
                    ("finish_reason", pa.string()),
                ]
            ),
        ),
        ("tools", pa.string()),
        ("parallel_tool_calls", pa.bool_()),
        ("rejected", pa.list_(MESSAGE_TYPE)),
        ("desirable", pa.bool_()),
        ("rating", pa.float64()),
    ]
)
QUARANTINE_SCHEMA = pa.schema(
    [("id", pa.string()), ("rule", pa.string()), ("digest", pa.string()), ("source", pa.string())]
)


class RowAccount(BaseModel):
    """Rows in = rows out + quarantined + duplicates, or the account cannot be made."""

    model_config = ConfigDict(frozen=True)

    rows_in: int = Field(ge=0)
    rows_out: int = Field(ge=0)
    quarantined: int = Field(ge=0, default=0)
    duplicates: int = Field(ge=0, default=0)

    @model_validator(mode="after")
    def _balances(self) -> Self:
        if self.rows_in != self.rows_out + self.quarantined + self.duplicates:
            raise ValueError(f"rows do not balance: {self}")
        return self

    def __str__(self) -> str:
        return (
            f"{self.rows_in} in = {self.rows_out} out"
            f" + {self.quarantined} quarantined + {self.duplicates} duplicates"
        )


class QuarantinedRow(BaseModel):
    """A row that went no further: its id, the rule it broke, the keyed digest of its content.

    No text. The digest tells the owner of the home which row it was; it is never published.
    """

    model_config = ConfigDict(frozen=True)

    id: str
    rule: str
    digest: str
    source: str


class Shard(BaseModel):
    model_config = ConfigDict(frozen=True)

    name: str
    rows: int
    bytes: int
    sha256: str


class Manifest(BaseModel):
    """What is in a snapshot and how it came to be."""

    model_config = ConfigDict(frozen=True)

    stage: str
    parent: str | None
    provenance: dict[str, str]
    account: RowAccount
    shards: tuple[Shard, ...]
    quarantine: Shard

    @property
    def digest(self) -> str:
        return digest_model(self)


class Snapshot(BaseModel):
    """A reference to a whole snapshot: where it is, what its manifest's digest is."""

    model_config = ConfigDict(frozen=True)

    path: HomePath
    digest: str
    account: RowAccount

    def manifest(self) -> Manifest:
        """Read and check the manifest.

        Raises:
            DataError: missing, unreadable, or not the manifest this snapshot was made with.
        """
        fs, root = fsspec.url_to_fs(self.path)
        try:
            manifest = Manifest.model_validate_json(fs.cat_file(f"{root}/{MANIFEST}"))
        except (OSError, ValidationError, ValueError) as error:
            raise self._broken("its manifest is missing or unreadable") from error
        if manifest.digest != self.digest:
            raise self._broken("its manifest changed after it was written")
        return manifest

    def verify(self) -> None:
        """Check every shard against its sha256.

        Raises:
            DataError: naming the shard that is missing or differs.
        """
        manifest = self.manifest()
        for shard in (*manifest.shards, manifest.quarantine):
            self._read(shard)

    def records(self) -> Iterator[Record]:
        """The records, in the order written; each shard is checked before its rows are given."""
        for shard in self.manifest().shards:
            for row in self._read(shard).to_pylist():
                yield Record.model_validate(row)

    def quarantined(self) -> list[QuarantinedRow]:
        table = self._read(self.manifest().quarantine)
        return [QuarantinedRow.model_validate(row) for row in table.to_pylist()]

    def _read(self, shard: Shard) -> pa.Table:
        fs, root = fsspec.url_to_fs(self.path)
        try:
            content = fs.cat_file(f"{root}/{shard.name}")
        except OSError as error:
            raise self._broken(f"{shard.name} is missing") from error
        if digest_bytes(content) != shard.sha256:
            raise self._broken(f"{shard.name} changed after it was written")
        return pq.read_table(pa.BufferReader(content))

    def _broken(self, what: str) -> DataError:
        return DataError(
            f"snapshot {self.path} is damaged: {what}",
            "run the retrain again; the stage that made it will make it anew",
        )


class SnapshotWriter:
    """Write one snapshot below `root`, or nothing.

    Use as a context manager; call `commit` last. Leaving without `commit`
    (an exception, say) removes what was written.
    """

    def __init__(
        self,
        root: str,
        stage: str,
        *,
        parent: str | None,
        provenance: dict[str, str],
        shard_rows: int = 10_000,
    ) -> None:
        self.root = root
        self.stage = stage
        self.parent = parent
        self.provenance = provenance
        self.shard_rows = shard_rows
        self._fs, self._root = fsspec.url_to_fs(root)
        self._local = isinstance(self._fs, fsspec.get_filesystem_class("file"))
        self._rows: list[dict[str, object]] = []
        self._shards: list[Shard] = []
        self._quarantine: list[QuarantinedRow] = []

    def __enter__(self) -> Self:
        if self._local:
            Path(self._root).mkdir(parents=True, exist_ok=True)
        self._folder = partial_folder(Path(self._root) if self._local else None)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)

    def write(self, record: Record) -> None:
        self._rows.append(as_row(record))
        if len(self._rows) >= self.shard_rows:
            self._flush()

    def write_table(self, table: pa.Table) -> None:
        """Rows of `RECORD_SCHEMA`, as a shard of their own."""
        self._flush()
        if table.num_rows:
            self._add(table)

    def quarantine(self, row: QuarantinedRow) -> None:
        self._quarantine.append(row)

    def commit(self, *, rows_in: int, duplicates: int = 0) -> Snapshot:
        """Make the snapshot visible under its content's name and return its reference.

        Raises:
            DataError: the rows do not balance, or the disk is full.
        """
        self._flush()
        quarantine = self._write_table(
            QUARANTINE,
            pa.Table.from_pylist([row.model_dump() for row in self._quarantine], QUARANTINE_SCHEMA),
        )
        account = RowAccount(
            rows_in=rows_in,
            rows_out=sum(shard.rows for shard in self._shards),
            quarantined=len(self._quarantine),
            duplicates=duplicates,
        )
        manifest = Manifest(
            stage=self.stage,
            parent=self.parent,
            provenance=self.provenance,
            account=account,
            shards=tuple(self._shards),
            quarantine=quarantine,
        )
        content = json.dumps(manifest.model_dump(mode="json"), indent=2, sort_keys=True)
        (self._folder / MANIFEST).write_text(content + "\n", encoding="utf-8")
        name = f"{self.stage}-{manifest.digest[:16]}"
        self._publish(name)
        return Snapshot(
            path=f"{self.root.rstrip('/')}/{name}", digest=manifest.digest, account=account
        )

    def _publish(self, name: str) -> None:
        target = f"{self._root.rstrip('/')}/{name}"
        if self._local:
            publish(self._folder, Path(target))
            return
        for shard in (*self._shards, Shard(name=QUARANTINE, rows=0, bytes=0, sha256="")):
            self._fs.put_file(str(self._folder / shard.name), f"{target}/{shard.name}")
        self._fs.put_file(str(self._folder / MANIFEST), f"{target}/{MANIFEST}")

    def _flush(self) -> None:
        if self._rows:
            self._add(pa.Table.from_pylist(self._rows, RECORD_SCHEMA))
            self._rows = []

    def _add(self, table: pa.Table) -> None:
        self._shards.append(self._write_table(f"part-{len(self._shards):05d}.parquet", table))

    def _write_table(self, name: str, table: pa.Table) -> Shard:
        path = self._folder / name
        pq.write_table(table, path, compression="zstd")
        return Shard(
            name=name, rows=table.num_rows, bytes=path.stat().st_size, sha256=digest_file(path)
        )


def as_row(record: Record) -> dict[str, object]:
    """A record as a row of `RECORD_SCHEMA`."""
    return record.model_dump(exclude={"labelled_spans"})


def quarantine_row(record: Record, rule: str, key: bytes) -> QuarantinedRow:
    """What is kept of a record that breaks a rule.

    The record may be scrubbed: what the scrub overlooked is not to be guessed from a digest of it
    either, so that is keyed.
    """
    digest = keyed_json(key, "quarantine", record.content_digest)
    return QuarantinedRow(id=record.id, rule=rule, digest=digest, source=record.source)


def write_records(
    root: str,
    stage: str,
    records: Iterable[Record],
    *,
    parent: str | None,
    provenance: dict[str, str],
    quarantined: Sequence[QuarantinedRow] = (),
) -> Snapshot:
    """A snapshot of `records` as they are, and of what was set aside beside them."""
    with SnapshotWriter(root, stage, parent=parent, provenance=provenance) as writer:
        count = 0
        for record in records:
            writer.write(record)
            count += 1
        for row in quarantined:
            writer.quarantine(row)
        return writer.commit(rows_in=count + len(quarantined))
