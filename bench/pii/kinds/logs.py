"""Log lines, traces and the output of tools in the formats of about twenty programs; generated.

Addresses in them are those of the own machine only (`127.0.0.1`, `0.0.0.0`), which are nobody's.
"""

import random
from collections.abc import Iterator

from bench.pii.kinds.grammar import endless
from bench.pii.kinds.row import Row


def rows(draw: random.Random) -> Iterator[Row]:
    return (Row((text,)) for text in endless("logs", draw))
