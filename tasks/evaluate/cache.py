"""What was measured of a known model on a known item, so that it is never measured twice."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

from data_contracts.digests import digest_json

# Its name below the home's cache.
EVALUATIONS = "evaluations.db"
# Keys in one query; SQLite takes so many variables at least.
CHUNK = 500

T = TypeVar("T")


class ItemCache:
    """Results on one model, in a SQLite file that may be deleted at any time.

    Args:
        file: the database; made if it is missing.
        model: digest of the weights that answer.
        code: digest of the code that measures.
    """

    def __init__(self, file: Path, model: str, code: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        self._file = file
        self._model = digest_json([model, code])
        with closing(connected(file)) as connection, connection:
            _make_table(connection)

    def fill(
        self,
        kind: Any,
        items: Iterable[tuple[str, T]],
        measure: Callable[[Sequence[T]], Sequence[Any]],
    ) -> list[Any]:
        """The result of each item; `measure` is called with those that are not known.

        Args:
            kind: what is measured and with which settings, as JSON.
            items: (digest of the content, what `measure` takes of it).
            measure: results as JSON, one an item, in order.
        """
        listed = [(digest_json([self._model, kind, key]), item) for key, item in items]
        known = self._read([key for key, _ in listed])
        missing = {key: item for key, item in listed if key not in known}
        if missing:
            found = dict(zip(missing, measure(list(missing.values())), strict=True))
            with closing(connected(self._file)) as connection, connection:
                connection.executemany(
                    "INSERT OR REPLACE INTO items VALUES (?, ?, ?)",
                    [(key, json.dumps(value), time.time()) for key, value in found.items()],
                )
            known |= found
        return [known[key] for key, _ in listed]

    def _read(self, keys: list[str]) -> dict[str, Any]:
        known: dict[str, Any] = {}
        with closing(connected(self._file)) as connection:
            for at in range(0, len(keys), CHUNK):
                part = keys[at : at + CHUNK]
                marks = ",".join("?" * len(part))
                rows = connection.execute(
                    f"SELECT key, value FROM items WHERE key IN ({marks})",  # noqa: S608 - marks
                    part,
                )
                known |= {key: json.loads(value) for key, value in rows}
        return known


def forget_items(file: Path, oldest: float) -> None:
    """Delete what was measured before `oldest`, seconds since 1970: answers quote conversations."""
    if file.exists():
        with closing(connected(file)) as connection, connection:
            _make_table(connection)
            connection.execute("DELETE FROM items WHERE at < ?", (oldest,))


def connected(file: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(file, timeout=60)
    # What is deleted is overwritten, not just marked as free.
    connection.execute("PRAGMA secure_delete = ON")
    return connection


def _make_table(connection: sqlite3.Connection) -> None:
    columns = {name for _, name, *_ in connection.execute("PRAGMA table_info(items)")}
    if columns and "at" not in columns:  # of an earlier Evergreen: nobody knows how old it is
        connection.execute("DROP TABLE items")
    connection.execute(
        "CREATE TABLE IF NOT EXISTS items"
        " (key TEXT PRIMARY KEY, value TEXT NOT NULL, at REAL NOT NULL)"
    )
