"""One boundary around everything that is done to one row.

Whatever goes wrong with a row (any exception, lack of memory or depth included) is told as the
rule that the row broke: what was being done, and the exception's type. An exception's message may
quote the row and goes no further.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from data_contracts.errors import EvergreenError, RowRejected

Step = Literal["row", "scrub", "score"]


@contextmanager
def row_boundary(step: Step) -> Iterator[None]:
    """Raises RowRejected for whatever the block raises, but for errors that a user must mend."""
    try:
        yield
    except (RowRejected, EvergreenError):
        raise
    except Exception as error:  # noqa: BLE001 - that is what it is for
        raise RowRejected(f"{step}: {type(error).__name__}") from None
