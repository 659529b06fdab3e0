"""Ingest: find the sources, check that they can be read, count and digest them.

Raw text is not copied: the stage's result says which rows of which files the scrub
will read, and the scrub notices if a file changed in between.
"""

from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_contracts.digests import digest_json
from data_contracts.errors import DataError
from data_contracts.formats import Readings
from data_contracts.home_keys import ROWS, home_key
from data_contracts.workspace import Workspace
from tasks.paths import shown, shown_all
from tasks.sources import Row, SourceFile, inspect, rows
from tasks.stage import stage_task


class Source(BaseModel):
    """Where rows come from and how many of them to take."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    path: str = Field(
        min_length=1, description="File, folder, glob, data set, `s3://`, `hf://`, `bundled:NAME`."
    )
    rows: int | None = Field(
        default=None, gt=0, description="Take a seeded sample of this many rows; default all."
    )
    subset: str | None = Field(
        default=None, description="Subset (configuration) of a `datasets` data set."
    )
    split: str | None = Field(
        default=None, description="Split of a `datasets` data set; default `train` or the only one."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class IngestSettings(BaseModel):
    """Which data to train on."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sources: tuple[Source, ...] = Field(
        default=(Source(path="bundled:chitchat"),),
        min_length=1,
        description="Where conversations come from (`--data` replaces the list).",
    )
    seed: int = Field(default=7, ge=0, description="Seed of the samples.")


class Taken(BaseModel):
    """The rows taken from one source file; `positions` None means all."""

    model_config = ConfigDict(frozen=True)

    file: SourceFile
    positions: tuple[int, ...] | None

    @property
    def count(self) -> int:
        return self.file.rows if self.positions is None else len(self.positions)


class Listing(BaseModel):
    """What ingest found: the input of the scrub, and the files that are not read, with why."""

    model_config = ConfigDict(frozen=True)

    taken: tuple[Taken, ...]
    seed: int
    passed_over: dict[str, str] = {}

    @property
    def rows_in(self) -> int:
        return sum(part.count for part in self.taken)

    @property
    def left_out(self) -> Readings:
        """What the sources hold besides the rows that are read."""
        return Readings.total(
            Readings(unread=dict.fromkeys(part.file.left_out, 1)) for part in self.taken
        )

    def rows(self) -> Iterator[tuple[SourceFile, Row]]:
        """Read the rows.

        Raises:
            DataError: a file is not what it was when it was listed.
        """
        for part in self.taken:
            wanted = None if part.positions is None else set(part.positions)
            count = 0
            for row in rows(part.file, seed=self.seed):
                if wanted is None or row.position in wanted:
                    count += 1
                    yield part.file, row
            if count != part.count:
                raise DataError(
                    f"{shown(part.file.uri)} changed while it was read",
                    "run again when it is complete",
                )


def ingest(settings: IngestSettings, key: bytes) -> Listing:
    """List, count and digest the sources.

    Args:
        settings: which sources.
        key: of the digests: the home's, or a passing one where they are not kept.

    Raises:
        DataError: a source is missing, empty, unreadable or named twice.
    """
    taken: list[Taken] = []
    passed_over: dict[str, str] = {}
    for source in settings.sources:
        files, others = inspect(
            source.path, seed=settings.seed, key=key, subset=source.subset, split=source.split
        )
        passed_over |= others
        positions = _sample(files, source.rows, settings.seed)
        taken += [
            Taken(file=file, positions=chosen)
            for file, chosen in zip(files, positions, strict=True)
            if chosen is None or chosen
        ]
    uris = [part.file.uri for part in taken]
    if twice := {uri for uri in uris if uris.count(uri) > 1}:
        raise DataError(f"{shown(sorted(twice)[0])} is given twice", "name each source once")
    return Listing(taken=tuple(taken), seed=settings.seed, passed_over=shown_all(passed_over))


def _sample(files: list[SourceFile], count: int | None, seed: int) -> list[tuple[int, ...] | None]:
    """Positions of a seeded sample of `count` rows over all files; None where all are taken.

    The rows with the smallest digest of (seed, file, position), so that a larger
    sample contains the smaller one.
    """
    if count is None or count >= sum(file.rows for file in files):
        return [None] * len(files)
    ranked = sorted(
        (digest_json([seed, file.name, position]), index, position)
        for index, file in enumerate(files)
        for position in range(file.rows)
    )[:count]
    chosen: list[list[int]] = [[] for _ in files]
    for _, index, position in ranked:
        chosen[index].append(position)
    return [tuple(sorted(positions)) for positions in chosen]


@stage_task(
    "ingest",
    produces="conversations/sources",
    description="Rows of the sources, counted and digested; raw text stays where it is.",
    # Never cached: only looking tells whether a source changed.
    cached=False,
    retries=3,
)
def ingest_task(settings: IngestSettings, workspace: Workspace) -> Listing:
    return ingest(settings, home_key(workspace, ROWS))
