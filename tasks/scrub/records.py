"""The scrub of records that are in memory already: a window of traffic, a side of a comparison."""

from collections.abc import Iterable, Iterator
from itertools import count, islice

from data_contracts.errors import RowRejected
from data_contracts.records import Record
from tasks.scrub.engine import distinct_id, scrub_record, texts
from tasks.scrub.workers import Search

TOGETHER = 500


def scrub_records(
    records: Iterable[Record], search: Search, key: bytes | None
) -> Iterator[tuple[Record, Record | RowRejected]]:
    """Each record, and what it is without personal data or why it cannot be scrubbed.

    The ids of those that can are distinct.
    """
    taken: set[str] = set()
    source = iter(records)
    while some := list(islice(source, TOGETHER)):
        found = search.ask(text for record in some for text in texts(record))
        found.wait()
        for record in some:
            try:
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
