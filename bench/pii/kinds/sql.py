"""SQL: queries, definitions, inserts, plans and errors; generated. Names of columns (`email`,
`date_of_birth`) are no personal data."""

import random
from collections.abc import Iterator

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import Row


def rows(draw: random.Random) -> Iterator[Row]:
    return (Row((text,)) for text in endless("sql", draw))
