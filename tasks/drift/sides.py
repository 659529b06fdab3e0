"""One side of a comparison of two files: a sample of its conversations, and all that became of
its rows."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from data_contracts.errors import RowRejected
from data_contracts.formats import Readings
from data_contracts.records import Record
from tasks.drift.features import one_exchange
from tasks.ingest import Listing
from tasks.logs import whole
from tasks.row_boundary import row_boundary
from tasks.scrub.records import scrub_records
from tasks.scrub.workers import Search
from tasks.sources import Row, SourceFile


class SideAccount(BaseModel):
    """Rows of a side = compared + quarantined + duplicates + contained + unanswered + not sampled.

    `contained` are requests whose conversation a later request has, `unanswered` conversations in
    which no user's message is answered.
    """

    model_config = ConfigDict(frozen=True)

    rows: int
    compared: int
    quarantined: dict[str, int]
    duplicates: int
    contained: int
    unanswered: int
    not_sampled: int
    readings: Readings
    passed_over: dict[str, str]

    @model_validator(mode="after")
    def _balances(self) -> Self:
        counted = (
            self.compared
            + sum(self.quarantined.values())
            + self.duplicates
            + self.contained
            + self.unanswered
            + self.not_sampled
        )
        if self.rows != counted:
            raise ValueError(f"rows do not balance: {self}")
        return self


@dataclass
class Side:
    """The exchanges of a side that can be compared, not scrubbed yet."""

    records: list[Record]
    account: SideAccount


def read_side(listing: Listing) -> Side:
    """The exchanges of a sample of rows."""
    records: list[Record] = []
    quarantined: Counter[str] = Counter()
    readings = [listing.left_out]
    met: set[tuple[str | None, str, str]] = set()
    duplicates = 0
    for file, row in listing.rows():
        try:
            with row_boundary("row"):
                reading = row.read(file.name)
                record = reading.record
                key = (record.created_at, own_id(record, file, row), record.content_digest)
        except RowRejected as rejected:
            quarantined[rejected.rule] += 1
            continue
        if key in met:  # rotated files may hold the same records
            duplicates += 1
            continue
        met.add(key)
        records.append(record)
        readings.append(reading.readings)
    kept = whole(records)
    narrow = [narrowed for record in kept if (narrowed := one_exchange(record))]
    total = sum(part.file.rows for part in listing.taken)
    account = SideAccount(
        rows=total,
        compared=len(narrow),
        quarantined=dict(quarantined.most_common()),
        duplicates=duplicates,
        contained=len(records) - len(kept),
        unanswered=len(kept) - len(narrow),
        not_sampled=total - listing.rows_in,
        readings=Readings.total(readings),
        passed_over=listing.passed_over,
    )
    return Side(narrow, account)


def own_id(record: Record, file: SourceFile, row: Row) -> str:
    """The id that a log record brings; a conversation without one goes by its place."""
    placed = record.id == f"{file.name}:{row.position}"
    return "" if placed and record.served is not None else record.id


def scrub_side(
    side: Side, search: Search, key: bytes | None, on_progress: Callable[[int, int], None]
) -> Side:
    """The side without personal data; what cannot be scrubbed is quarantined."""
    clean: list[Record] = []
    quarantined = Counter(side.account.quarantined)
    for done, (_, scrubbed) in enumerate(scrub_records(side.records, search, key), start=1):
        if isinstance(scrubbed, RowRejected):
            quarantined[scrubbed.rule] += 1
        else:
            clean.append(scrubbed)
        on_progress(done, len(side.records))
    update = {"compared": len(clean), "quarantined": dict(quarantined.most_common())}
    account = SideAccount.model_validate({**side.account.model_dump(), **update})
    return Side(clean, account)
