"""Data sets of Hugging Face's library: read by split, streamed, nothing of them kept on disk."""

import json
from pathlib import Path
from typing import Any

import datasets
import pytest
import yaml

from data_contracts.errors import DataError, RowRejected
from tasks.hugging_face import HUB, is_dataset
from tasks.ingest import IngestSettings, Source, ingest
from tasks.sources import SourceFile, inspect, rows

KEY = b"k" * 32

MARKER = "zanzibar-marker-text"


def call(arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "f", "arguments": arguments}}


def chats(count: int, split: str) -> list[dict[str, Any]]:
    return [
        {
            "messages": [
                {"role": "user", "content": f"{MARKER} {split} {number}"},
                {
                    "role": "assistant",
                    "content": "yes",
                    "tool_calls": [call({"town": "Oslo"} if number % 2 else {"days": number})],
                },
            ]
        }
        for number in range(count)
    ]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    parts = {
        name: datasets.Dataset.from_list(chats(count, name))
        for name, count in (("train", 6), ("test", 3))
    }
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "saved"))
    return tmp_path / "saved"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A copy of a repository of the Hub: two subsets, splits named in its card."""
    folder = tmp_path / "repository"
    (folder / "data").mkdir(parents=True)
    for name, count in {"train": 4, "validation": 4, "small": 2}.items():
        lines = "".join(json.dumps(row) + "\n" for row in chats(count, name))
        (folder / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    card = {
        "configs": [
            {
                "config_name": "default",
                "data_files": [
                    {"split": "train", "path": "data/train.jsonl"},
                    {"split": "validation", "path": "data/validation.jsonl"},
                ],
            },
            {"config_name": "small", "data_files": [{"split": "only", "path": "data/small.jsonl"}]},
        ]
    }
    (folder / "README.md").write_text(f"---\n{yaml.safe_dump(card)}---\n# Chats\n", "utf-8")
    return folder


def read(path: Path, **which: str) -> tuple[SourceFile, list[str]]:
    (file,), _ = inspect(str(path), seed=0, key=KEY, **which)
    found = [row.parse(file.name) for row in rows(file, seed=0)]
    assert file.rows == len(found)
    for number, record in enumerate(found):
        expected = {"town": "Oslo"} if number % 2 else {"days": number}
        assert json.loads(record.messages[1].tool_calls[0].arguments) == expected
    return file, [record.messages[0].content for record in found]


def test_a_saved_data_set_gives_its_training_split(saved: Path) -> None:
    file, asked = read(saved)
    assert asked == [f"{MARKER} train {number}" for number in range(6)]
    assert (file.split, file.left_out) == ("train", ("split test",))
    file, asked = read(saved, split="test")
    assert asked == [f"{MARKER} test {number}" for number in range(3)]
    file, asked = read(saved / "test")
    assert len(asked) == 3


def test_a_copy_of_a_repository_is_read_as_its_card_says(repository: Path) -> None:
    file, asked = read(repository)
    assert asked == [f"{MARKER} train {number}" for number in range(4)]
    assert file.left_out == ("split validation",)
    _, asked = read(repository, subset="small")
    assert asked == [f"{MARKER} small {number}" for number in range(2)]


def test_the_split_is_asked_for_where_none_is_for_training(tmp_path: Path) -> None:
    parts = {name: datasets.Dataset.from_list(chats(2, name)) for name in ("one", "two")}
    datasets.DatasetDict(parts).save_to_disk(str(tmp_path / "d"))
    with pytest.raises(DataError, match=r"has the splits one, two -- say which"):
        inspect(str(tmp_path / "d"), seed=0, key=KEY)
    with pytest.raises(DataError, match="no 'three'"):
        inspect(str(tmp_path / "d"), seed=0, key=KEY, split="three")
    settings = {"sources": [{"path": str(tmp_path / "d"), "split": "two"}]}
    listing = ingest(IngestSettings.model_validate(settings), KEY)
    assert listing.rows_in == 2
    assert listing.left_out.unread == {"split one": 1}


def test_a_changed_data_set_is_noticed(saved: Path) -> None:
    before = inspect(str(saved), seed=0, key=KEY)[0][0].digest
    datasets.Dataset.from_list(chats(6, "other")).save_to_disk(str(saved / "train"))
    assert inspect(str(saved), seed=0, key=KEY)[0][0].digest != before


def test_nothing_raw_is_kept_on_disk(
    saved: Path, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    caches = tmp_path / "caches"
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", caches / "datasets")
    monkeypatch.setattr("tempfile.tempdir", str(caches))
    caches.mkdir()
    for path in (saved, repository):
        before = {file for file in path.rglob("*") if file.is_file()}
        read(path)
        assert {file for file in path.rglob("*") if file.is_file()} == before
    left = [file for file in caches.rglob("*") if file.is_file()]
    assert not any(MARKER.encode() in file.read_bytes() for file in left)


def test_images_are_not_decoded_and_have_a_rule_of_their_own(tmp_path: Path) -> None:
    features = datasets.Features(
        {"prompt": datasets.Value("string"), "response": datasets.Value("string")}
        | {"image": datasets.Image()}
    )
    table = {"prompt": ["a"], "response": ["b"], "image": [{"bytes": b"no image", "path": None}]}
    datasets.Dataset.from_dict(table, features=features).save_to_disk(str(tmp_path / "d"))
    (file,), _ = inspect(str(tmp_path / "d"), seed=0, key=KEY)
    (row,) = rows(file, seed=0)
    with pytest.raises(RowRejected, match="row: images cannot be represented"):
        row.parse("s")


def test_code_of_a_repository_is_never_run(repository: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    script = repository / "repository.py"
    script.write_text(f"open({str(ran)!r}, 'w')", "utf-8")
    with pytest.raises(DataError, match="scripts are no longer supported"):
        inspect(str(repository), seed=0, key=KEY)
    assert not ran.exists()


def test_a_data_set_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "state.json").write_text("{}")
    with pytest.raises(DataError, match="cannot read the data set") as failed:
        inspect(str(tmp_path / "d"), seed=0, key=KEY)
    assert "\n" not in str(failed.value)
    file = tmp_path / "a.jsonl"
    file.write_text('{"prompt": "a", "response": "b"}\n')
    with pytest.raises(DataError, match="not a data set with splits"):
        ingest(IngestSettings(sources=(Source(path=str(file), split="train"),)), KEY)


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("hf://datasets/user/chats", "user/chats"),
        ("hf://user/chats", "user/chats"),
        ("hf://datasets/user/chats@v1.0", "user/chats"),
        ("hf://datasets/squad", "squad"),
        ("hf://datasets/user/chats/train.jsonl", None),
        ("hf://datasets/user/chats/data/*.parquet", None),
        ("s3://bucket/chats", None),
        ("bundled:chitchat", None),
    ],
)
def test_names_of_the_hub(path: str, name: str | None) -> None:
    found = HUB.fullmatch(path)
    assert (found and found["name"]) == name
    assert is_dataset(path) is (name is not None)
