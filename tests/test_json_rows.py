"""Rows of JSON files: whatever the layout, every row comes out once, as it stood there."""

import codecs
import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_contracts.errors import DataError
from tasks import sources
from tasks.json_rows import HEAD_BYTES, RowCutter, layout_of
from tasks.sources import Row, inspect, rows

KEY = b"k" * 32

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
ROWS = st.lists(
    st.fixed_dictionaries({"messages": st.lists(st.dictionaries(st.text(), VALUES), min_size=1)}),
    min_size=1,
    max_size=5,
)
CHAT = {"messages": [{"role": "user", "content": 'a "[{,}]" b'}, {"role": "assistant"}]}


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    yield from (content[at : at + size] for at in range(0, len(content), size))


@given(ROWS, st.integers(1, 40), st.sampled_from([None, 2]), st.booleans())
def test_an_array_gives_its_rows_however_it_is_written_and_read(
    found: list[Any], size: int, indent: int | None, ascii_only: bool
) -> None:
    content = json.dumps(found, indent=indent, ensure_ascii=ascii_only)
    cut = RowCutter("array", 10**6).cut(pieces(content.encode("utf-8", "surrogatepass"), size))
    assert [json.loads(row) for row in cut] == found


@given(ROWS, st.integers(1, 40), st.text())
def test_a_wrapped_array_gives_its_rows_and_the_names_beside_it(
    found: list[Any], size: int, title: str
) -> None:
    wrapped = {"version": [1, {"data": title}], "data": found, "licence": {"rows": [1]}}
    cutter = RowCutter("wrapped", 10**6)
    content = json.dumps(wrapped).encode()
    assert [json.loads(row) for row in cutter.cut(pieces(content, size))] == found
    assert cutter.left_out == {"version", "licence"}


@given(ROWS, st.integers(1, 40))
def test_objects_that_span_lines_are_rows(found: list[Any], size: int) -> None:
    content = "\n".join(json.dumps(row, indent=1) for row in found).encode()
    cut = RowCutter("values", 10**6).cut(pieces(content, size))
    assert [json.loads(row) for row in cut] == found


LINE = json.dumps(CHAT)


@pytest.mark.parametrize(
    ("text", "layout", "count"),
    [
        (f"{LINE}\n{LINE}\n", "lines", 2),
        (f"{LINE}\r\n{LINE}\r\n", "lines", 2),
        (LINE, "lines", 1),
        (f"\n\n{LINE}\n", "lines", 1),
        (f"[{LINE},{LINE}]", "array", 2),
        (f"[\n{LINE},\n{LINE}\n]\n", "array", 2),
        (json.dumps([CHAT, CHAT], indent=4), "array", 2),
        (json.dumps(CHAT, indent=4), "values", 1),
        (json.dumps(CHAT, indent=4) + "\n" + json.dumps(CHAT, indent=4), "values", 2),
        (f'{{"data": [{LINE}, {LINE}]}}', "wrapped", 2),
        (f'{{"version": "1", "tools": [{{}}], "rows": [{LINE}]}}', "wrapped", 1),
        (json.dumps({"data": [CHAT]}, indent=2), "wrapped", 1),
        (json.dumps({"conversations": [CHAT, CHAT]}), "wrapped", 2),
        (json.dumps({"conversations": [CHAT["messages"]]}), "wrapped", 1),
        # One conversation, not a file of rows.
        (json.dumps({"conversations": [{"from": "human", "value": "a"}]}), "lines", 1),
        (json.dumps({"data": ["a question", "an answer"]}), "lines", 1),
        (json.dumps({"tools": [{"name": "f"}], "messages": CHAT["messages"]}), "lines", 1),
        (json.dumps(CHAT["messages"]), "lines", 1),
        (json.dumps(CHAT["messages"]) + "\n" + json.dumps(CHAT["messages"]), "lines", 2),
        (json.dumps(CHAT["messages"], indent=2), "values", 1),
        # A damaged row costs itself only, wherever it stands.
        (f'{{"messages": [{{"role": "us\n{LINE}\n{LINE}\n', "lines", 3),
        (f"not JSON\n{LINE}\n", "lines", 2),
        (f"[{LINE}, {{broken}}, {LINE}]", "array", 3),
        (f'[{LINE}, {{"a": NaN}}]', "array", 2),
        (f"[{LINE}, {LINE[:30]}", "array", 2),
        ("[]", "array", 0),
    ],
)
def test_the_layout_is_told_by_what_the_file_begins_with(
    tmp_path: Path, text: str, layout: str, count: int
) -> None:
    assert layout_of(text.encode()) == layout
    file = tmp_path / "chats.json"
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    if count == 0:
        with pytest.raises(DataError, match="has no rows"):
            inspect(str(file), seed=0, key=KEY)
        return
    (source,), _ = inspect(str(file), seed=0, key=KEY)
    found = list(rows(source, seed=0))
    assert source.rows == len(found) == count
    readable = [row for row in found if _is_json(row)]
    assert len(readable) == count - text.count("broken") - ("not JSON" in text) - (
        text.endswith(LINE[:30]) or '"us\n' in text
    )


def _is_json(row: Row) -> bool:
    assert isinstance(row.content, bytes)
    try:
        json.loads(row.content)
    except ValueError:
        return False
    return True


def test_a_file_larger_than_its_head_is_read_whole(tmp_path: Path) -> None:
    found = [{"prompt": "x" * 5_000, "response": str(n)} for n in range(3 * HEAD_BYTES // 5_000)]
    for name, content in {
        "array.json": json.dumps(found),
        "wrapped.json": json.dumps({"data": found}),
        "lines.jsonl": "\n".join(map(json.dumps, found)),
        "long.jsonl": json.dumps({"prompt": "y" * HEAD_BYTES, "response": "a"}),
        "long.json": json.dumps([{"prompt": "y" * HEAD_BYTES, "response": "a"}]),
    }.items():
        file = tmp_path / name
        file.write_text(content, encoding="utf-8")
        packed = tmp_path / f"{name}.gz"
        packed.write_bytes(gzip.compress(content.encode()))
        for path in (file, packed):
            (source,), _ = inspect(str(path), seed=0, key=KEY)
            read = [row.parse("s") for row in rows(source, seed=0)]
            expected = ["a"] if name.startswith("long") else [row["response"] for row in found]
            assert [record.messages[-1].content for record in read] == expected


def test_a_row_that_is_too_long_is_never_held(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "MAX_ROW_BYTES", 100)
    cutter = RowCutter("array", 100)
    endless = (b'[{"a": "' + b"x" * 1000, *[b"x" * 1000] * 1000, b'"}, {"b": 1}]')
    first, second = cutter.cut(endless)
    assert len(first) == 102  # with its line feed
    assert json.loads(second) == {"b": 1}


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    file = tmp_path / "chats.jsonl"
    file.write_bytes(LINE.encode(encoding))
    with pytest.raises(DataError, match="UTF-16 or UTF-32 text: save it as UTF-8"):
        inspect(str(file), seed=0, key=KEY)
