"""How large one row may be, wherever it comes from, so that no row takes all memory."""

from dataclasses import dataclass

# A longer line is never held in memory as a whole.
MAX_ROW_BYTES = 8 << 20
# Objects and lists in a row of JSON, values in one of Parquet. Each takes some hundred bytes once
# it is read, however few it had in its file.
MAX_ROW_PARTS = 100_000

TOO_LONG = f"row: longer than {MAX_ROW_BYTES >> 20} MiB"
TOO_MANY = f"row: of more than {MAX_ROW_PARTS} parts"


@dataclass(frozen=True)
class LostRow:
    """A row that its file cannot give: the rule it breaks, and where it stands."""

    rule: str
    place: str
