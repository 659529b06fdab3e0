"""Brute force: every digest that is found somewhere is tried against texts that it may be of."""

import hashlib
import json
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.digests import canonical, digest_json

HASHES: tuple[Callable[[bytes], Any], ...] = (
    hashlib.sha256,
    hashlib.sha1,
    hashlib.md5,
    hashlib.blake2b,
)
# Digests are cut to no fewer than so many bytes where they are stored, and hexadecimal digits.
BYTES, DIGITS = 8, 12
HEX = re.compile(rb"(?<![0-9a-f])[0-9a-f]{%d,128}(?![0-9a-f])" % DIGITS)


def serialisations(row: Mapping[str, Any]) -> Iterator[bytes]:
    """What may be digested of a row as it stands in its source: the whole, its parts, lists of
    them, and digests of digests."""
    line = json.dumps(row).encode()
    yield from (line, line + b"\n", canonical(dict(row)))
    yield repr(sorted(row.items())).encode()
    response = row.get("response", {})
    identifiers = [row.get("id"), response.get("id"), row.get("workload_id")]
    moments = [None, row.get("created_at"), row.get("timestamp"), iso(row.get("timestamp"))]
    turns = [*row.get("messages", ()), *row.get("request", {}).get("messages", ())]
    turns += [choice["message"] for choice in response.get("choices", ())]
    said = [[turn["role"], turn["content"]] for turn in turns]
    contents = [said[: end + 1] for end in range(len(said))]
    for text in (*identifiers, *(turn["content"] for turn in turns), *row.values()):
        if isinstance(text, str):
            yield text.encode()
            yield canonical(text)
    for content in contents:
        yield canonical(content)
        yield digest_json(content).encode()
        for moment in moments:
            yield canonical([moment, content])
            yield canonical([moment, digest_json(content)])
            for identifier in identifiers:
                yield canonical([moment, identifier, digest_json(content)])
                yield canonical([moment, identifier, content])


def iso(moment: object) -> str | None:
    from tasks.logs import iso

    return iso(int(moment)) if isinstance(moment, int | float) else None


class Attack:
    """All digests of candidates, ready to be met."""

    def __init__(self, contents: Iterable[tuple[str, bytes]]) -> None:
        """`contents` are (what the attacker wants to know, bytes that may have been digested)."""
        self.of: dict[bytes, str] = {}
        secrets: dict[bytes, set[str]] = {}
        for secret, content in contents:
            secrets.setdefault(content, set()).add(secret)
        for content, (secret, *others) in secrets.items():
            if others:  # what is the same for all of them tells none
                continue
            for one in HASHES:
                digest = one(content).digest()
                self.of[digest[:BYTES]] = secret
                self.of[digest.hex()[:DIGITS].encode()] = secret

    def recovered(self, content: bytes) -> set[str]:
        """What is learnt from the digests in a text."""
        starts = {found[0][:DIGITS] for found in HEX.finditer(content)}
        return {self.of[start] for start in starts if start in self.of}

    def recovered_from(self, *paths: Path) -> dict[str, set[str]]:
        """{file: what is learnt} from names, text, Parquet and SQLite files below some paths."""
        files = [
            file
            for path in paths
            for file in ([path] if path.is_file() else path.rglob("*"))
            if file.is_file()
        ]
        assert files
        found = {str(file): self._from(file) for file in files}
        return {file: learnt for file, learnt in found.items() if learnt}

    def _from(self, file: Path) -> set[str]:
        content = file.read_bytes()
        values: list[object] = []
        if file.suffix == ".parquet":
            values = list(leaves(pq.read_table(file)))
            content += repr(pq.read_schema(file).metadata).encode()
        elif content[:6] == b"SQLite":
            values = list(cells(file))
        blobs = [value for value in values if isinstance(value, bytes)]
        text = "\n".join(value for value in values if isinstance(value, str)).encode()
        learnt = {self.of[blob[:BYTES]] for blob in blobs if blob[:BYTES] in self.of}
        names = str(file).encode()
        return learnt | self.recovered(content) | self.recovered(text) | self.recovered(names)


def leaves(table: pa.Table) -> Iterator[object]:
    waiting: list[object] = table.to_pylist()
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
        else:
            yield value


def cells(database: Path) -> Iterator[object]:
    with closing(sqlite3.connect(database)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")
        for (name,) in names.fetchall():
            rows = connection.execute(f'SELECT * FROM "{name}"')  # noqa: S608 - a table's name
            for row in rows:
                yield from row


def attack_with(values: Iterable[str], *files: Path) -> Attack:
    """By somebody who has guessed the lines that hold one of the values, and the whole files."""
    contents = [(str(file), file.read_bytes()) for file in files]
    for file in files:
        for line in file.read_text().splitlines():
            known = [value for value in values if value in line]
            if not known:
                continue
            contents += [(known[0], line.encode()), (known[0], f"{line}\n".encode())]
            try:
                row = json.loads(line)
            except ValueError:
                continue
            contents += [(known[0], content) for content in serialisations(row)]
    return Attack(contents)
