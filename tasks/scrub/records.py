"""The scrub of records that are in memory already: a window of traffic, a side of a comparison."""

from collections.abc import Iterable, Iterator
from itertools import count

from data_contracts.errors import RowRejected
from data_contracts.records import Record
from tasks.row_boundary import row_boundary
from tasks.scrub.engine import distinct_id, scrub_record, texts
from tasks.scrub.workers import Search

# Records that are searched together: so many, or fewer that hold so many characters.
TOGETHER = 500
CHARACTERS = 8 << 20


def scrub_records(
    records: Iterable[Record], search: Search, key: bytes | None
) -> Iterator[tuple[Record, Record | RowRejected]]:
    """Each record, and what it is without personal data or why it cannot be scrubbed.

    The ids of those that can are distinct.
    """
    taken: set[str] = set()
    for some in in_batches(records):
        wanted = [_texts(record) for record in some]
        found = search.ask(
            text for asked in wanted if not isinstance(asked, RowRejected) for text in asked
        )
        found.wait()
        for record, asked in zip(some, wanted, strict=True):
            if isinstance(asked, RowRejected):
                yield record, asked
                continue
            try:
                with row_boundary("scrub"):
                    clean, _ = scrub_record(record, found, search.policy, key)
            except RowRejected as rejected:
                yield record, rejected
                continue
            if clean.id in taken:
                other = distinct_id(clean.id, clean.content_digest)
                again = count(2)
                while other in taken:  # the same text once more, under the same id
                    other = f"{distinct_id(clean.id, clean.content_digest)}~{next(again)}"
                clean = clean.model_copy(update={"id": other})
            taken.add(clean.id)
            yield record, clean


def _texts(record: Record) -> list[str] | RowRejected:
    try:
        with row_boundary("scrub"):
            return list(texts(record))
    except RowRejected as rejected:
        return rejected


def in_batches(records: Iterable[Record]) -> Iterator[list[Record]]:
    """Records in order, TOGETHER at a time, or fewer if they are long."""
    batch: list[Record] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record.text)
        if len(batch) >= TOGETHER or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
