"""Text without personal data, by kind: generated here, or taken from installed packages.

Nothing is shared with `tasks.scrub.synthetic`, which the detector is trained on.
"""

import random
from collections.abc import Callable, Iterator

from bench.pii.kinds import arithmetic, code, data_files, logs, prose, sql, support, tables, talk
from bench.pii.kinds.row import Row

# Endless, or as many rows as the packages hold.
KINDS: dict[str, Callable[[random.Random], Iterator[Row]]] = {
    "arithmetic": arithmetic.rows,
    "python": code.rows,
    "sql": sql.rows,
    "json": data_files.json_rows,
    "yaml": data_files.yaml_rows,
    "logs": logs.rows,
    "tables": tables.rows,
    "support": support.rows,
    "prose": prose.rows,
    "public figures": talk.public_figures,
} | {f"talk {language}": talk.rows_in(language) for language in talk.LANGUAGES}

__all__ = ["KINDS", "Row"]
