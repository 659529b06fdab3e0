"""Ten thousand broken rows a run: none leaves the boundary but as a record or a rejection.

The corpus is every example row below `tests/data`: a format that is added there is fuzzed as well.
"""

import json
import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from data_contracts.errors import RowRejected
from data_contracts.snapshots import RECORD_SCHEMA, as_row
from data_contracts.workspace import Workspace
from tasks.ingest import IngestSettings, Source, ingest
from tasks.logs import WatchSettings, cut, read
from tasks.row_boundary import row_boundary
from tasks.scrub.records import scrub_records
from tasks.scrub.stage import Job, ScrubSettings, cleaned
from tasks.scrub.workers import Search, searching
from tasks.sources import UNREADABLE, Row, contents
from tests.logs import NOW
from tests.test_log_formats import DATA
from tests.test_logs import KEY, KEYS, looked
from tests.test_poison import ONE_PROCESS, all_of, cheap_policy

ROWS = 1_000
RUNS = 10
# Anything that a field may hold instead of what it should.
ODD: list[Any] = [
    *(
        None,
        True,
        0,
        -1,
        2**63,
        10**400,
        0.5,
        float("nan"),
        float("inf"),
        "",
        " ",
        "\x00",
        "\ud800",
    ),
    *("null", "[]", "{}", "[", '{"a": 1}', "data: {}", "up", "1788250000", "2026-09-01T08:00:00Z"),
    *([], [None], [[]], [{}], {}, {"": ""}, {"a": None}, [1, "a", {}], "a@example.com", "x" * 5000),
]


def corpus() -> list[Any]:
    """Every row of every example file that is JSON."""
    rows = []
    for file in sorted(DATA.rglob("*.json*")):
        with suppress(*UNREADABLE):  # an example of a file that is refused as a whole
            for content in contents(str(file)):
                with suppress(RowRejected):
                    rows.append(Row(0, content).decode())
    return rows


CORPUS = corpus()
NAMES = sorted(
    {name for row in CORPUS for inner in (row, *row) if isinstance(inner, dict) for name in inner}
    | {"messages", "role", "content", "tool_calls", "choices", "message", "parts", "type", "text"}
)


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """(container, key) of every value within."""
    keys = value.keys() if isinstance(value, dict) else range(len(value))
    for key in list(keys):
        yield value, key
        if isinstance(value[key], dict | list):
            yield from places(value[key])


def mutated(draw: random.Random) -> bytes:
    """A line of the corpus with some of its values, its structure or its bytes changed."""
    row = deepcopy(draw.choice(CORPUS))
    for _ in range(draw.randint(1, 4)):
        found = list(places(row))
        if not found:
            break
        container, key = draw.choice(found)
        draw.choice(CHANGES)(draw, container, key)
    line = bytearray(json.dumps(row).encode())
    if draw.random() < 0.2:
        at = draw.randrange(len(line))
        line[at : at + draw.randint(0, 8)] = draw.randbytes(draw.randint(0, 4))
    return bytes(line).replace(b"\n", b" ").replace(b"\r", b" ") + b"\n"


Change = Callable[[random.Random, Any, Any], None]


def make_odd(draw: random.Random, container: Any, key: Any) -> None:
    container[key] = deepcopy(draw.choice(ODD))


def move_from_elsewhere(draw: random.Random, container: Any, key: Any) -> None:
    other, name = draw.choice(list(places(draw.choice(CORPUS))) or [([0], 0)])
    container[key] = deepcopy(other[name])


def write_as_text(_: random.Random, container: Any, key: Any) -> None:
    container[key] = json.dumps(container[key])


def wrap(draw: random.Random, container: Any, key: Any) -> None:
    value = container[key]
    container[key] = draw.choice([[value], [value, deepcopy(value)], {draw.choice(NAMES): value}])


def remove(_: random.Random, container: Any, key: Any) -> None:
    del container[key]


def rename(draw: random.Random, container: Any, key: Any) -> None:
    if isinstance(container, dict):
        container[draw.choice([*NAMES, "", "\ud800", "a b", "x" * 100])] = container.pop(key)


CHANGES: list[Change] = [make_odd, move_from_elsewhere, write_as_text, wrap, remove, rename]


@pytest.fixture(scope="module")
def search() -> Iterator[Search]:
    with searching(cheap_policy(), None, ONE_PROCESS) as found:
        yield found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def through_the_watch(file: Path, search: Search) -> None:
    """Looked at, cut into windows, read and scrubbed; the accounts balance."""
    pending = looked(file)
    rows = sum(1 for _ in contents(str(file)))
    told = len(pending.entries) + len(pending.quarantined)
    assert rows == told + pending.duplicates + pending.late + pending.incomplete
    assert not pending.damaged
    assert sum(pending.noted.values()) == len(pending.entries)
    windows, waiting = cut(pending, WatchSettings(min_records=30), NOW)
    assert sum(len(window.entries) for window in windows) + waiting == len(pending.entries)
    if not pending.entries:
        return
    found = list(read(pending.files, all_of(pending).conversations, KEYS))
    assert len(found) == len(all_of(pending).conversations)
    records = [record for _, record in found if not isinstance(record, RowRejected)]
    scrubbed = list(scrub_records(records, search, None))
    assert len(scrubbed) == len(records)
    clean = [one for _, one in scrubbed if not isinstance(one, RowRejected)]
    pa.Table.from_pylist([as_row(record) for record in clean], RECORD_SCHEMA)


def through_training(file: Path, home: Path) -> None:
    """Ingested and scrubbed as training data; the account cannot be made unless it balances."""
    workspace = Workspace(home=home)
    workspace.create()
    listing = ingest(IngestSettings(sources=(Source(path=str(file)),)), KEY)
    scrub = ScrubSettings(workers=ONE_PROCESS).without_audit()
    clean = cleaned(listing, Job(cheap_policy(), None, scrub, workspace), distinct=True)
    assert clean.account.rows_in == listing.rows_in
    assert sum(table.num_rows for table in clean.tables()) == clean.account.rows_out


@settings(
    max_examples=RUNS,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
@given(seed=st.integers(0, 2**32))
def test_a_mutated_corpus(seed: int, search: Search, folder: Path) -> None:
    draw = random.Random(seed)
    file = folder / f"{seed}.jsonl"
    file.write_bytes(b"".join(mutated(draw) for _ in range(ROWS)))
    through_the_watch(file, search)
    through_training(file, folder / "home")
    file.unlink()


VALUES = st.recursive(
    st.sampled_from(ODD) | st.text(max_size=20) | st.integers() | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=5)
    ),
    max_leaves=20,
)


@settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
@given(rows=st.lists(st.dictionaries(st.sampled_from(NAMES), VALUES, max_size=8), max_size=8))
def test_rows_made_of_the_names_of_all_formats(rows: list[dict[str, Any]], search: Search) -> None:
    records = []
    for position, row in enumerate(rows):
        try:
            with row_boundary("row"):
                records.append(Row(position, json.dumps(row).encode()).read("f").record)
        except RowRejected as rejected:
            assert rejected.rule
            assert rejected.__cause__ is None
    scrubbed = list(scrub_records(records, search, None))
    assert len(scrubbed) == len(records)
    clean = [one for _, one in scrubbed if not isinstance(one, RowRejected)]
    pa.Table.from_pylist([as_row(record) for record in clean], RECORD_SCHEMA)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(line=st.binary(max_size=300))
def test_any_bytes(line: bytes) -> None:
    try:
        with row_boundary("row"):
            Row(0, line).read("f")
    except RowRejected as rejected:
        assert rejected.rule


def test_the_corpus_holds_every_format() -> None:
    formats = set()
    for row in CORPUS:
        try:
            with row_boundary("row"):
                formats |= set(Row(0, json.dumps(row).encode()).read("f").readings.formats)
        except RowRejected:
            continue
    logs = {"request and response", "LiteLLM payload", "MLflow trace", "Langfuse export"}
    assert logs | {"OpenTelemetry span", "OpenAI chat", "ShareGPT"} <= formats
    assert RUNS * ROWS >= 10_000
