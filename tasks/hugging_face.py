"""Data sets of Hugging Face's `datasets`: of the Hub, and folders in the library's own forms.

| path                                                | what it is                             |
|-----------------------------------------------------|----------------------------------------|
| `hf://datasets/user/name`, `hf://user/name`         | a data set of the Hub                  |
| `folder/` with `state.json` or `dataset_dict.json`  | what `save_to_disk` wrote              |
| `folder/` with a `README.md` that describes a data set    | a copy of a repository of the Hub |

Rows are streamed: none is downloaded or converted into the library's cache. Code of a repository
is never run (the library no longer can). A file in a repository,
`hf://datasets/user/name/train.jsonl`, is an ordinary file.
"""

import json
import logging
import re
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_contracts.digests import digest_folder, digest_json
from data_contracts.errors import DataError
from tasks.paths import shown

HUB = re.compile(r"hf://(?:datasets/)?(?P<name>[\w.-]+(?:/[\w.-]+)?)(?:@(?P<revision>[\w./-]+))?/?")
SAVED = ("dataset_dict.json", "state.json")
TRAIN = "train"
CARD = re.compile(rb"^---\s.*?^(?:configs|dataset_info):", re.DOTALL | re.MULTILINE)
CARD_BYTES = 1 << 16
# Besides the library's own; a repository that brings a script is a RuntimeError.
ERRORS = (OSError, ValueError, RuntimeError, pa.ArrowException)


@dataclass(frozen=True)
class Part:
    """One split of a data set; `others` are the splits that are not read."""

    path: str
    subset: str | None
    split: str
    revision: str | None
    others: tuple[str, ...]
    digest: str


def is_dataset(path: str) -> bool:
    """Whether `path` is a data set's rather than a file's or a folder's of files."""
    return bool(HUB.fullmatch(path)) or _is_saved(path) or _is_repository(path)


def _is_saved(path: str) -> bool:
    return any(Path(path, name).is_file() for name in SAVED)


def _is_repository(path: str) -> bool:
    card = Path(path, "README.md")
    if not card.is_file():
        return False
    with card.open("rb") as file:
        return CARD.match(file.read(CARD_BYTES)) is not None


def find_part(path: str, subset: str | None, split: str | None) -> Part:
    """The split to read: the one asked for, else `train`, else the only one.

    Raises:
        DataError: there is no such data set, subset or split, or it is not said which.
    """
    revision = _revision(path)
    loaded = _load(path, subset, revision)
    names = [str(name) for name in loaded]
    if split is None:
        split = TRAIN if TRAIN in names else names[0] if len(names) == 1 else None
    if split not in names:
        raise DataError(
            f"{shown(path)} has the splits {', '.join(names)}"
            + (f", and no {split!r}" if split else ""),
            f"say which: data.sources: [{{path: {shown(path)}, split: {names[0]}}}]",
        )
    return Part(
        path=path,
        subset=subset,
        split=split,
        revision=revision,
        others=tuple(name for name in names if name != split),
        digest=digest_json([_content_digest(path, revision), subset, split]),
    )


def part_rows(part: Part) -> Iterator[bytes]:
    """The rows of a split, in order, as JSON.

    Raises:
        DataError: it cannot be read.
    """
    from datasets.exceptions import DatasetsError

    rows = _load(part.path, part.subset, part.revision)[part.split]
    try:
        features = rows.features or {}
        # Images and sound stay what they are in the file.
        plain = rows.cast(_undecoded(features)) if features else rows
        for row in plain:
            found = {name: _unpadded(value, features.get(name)) for name, value in row.items()}
            yield json.dumps(found, ensure_ascii=False, default=_as_text).encode("utf-8", "replace")
    except (DatasetsError, *ERRORS) as error:
        raise _unreadable(part.path, error) from error


def _as_text(value: Any) -> str:
    """What JSON has no form for: a moment in time as text, the bytes of a picture as a word."""
    return "bytes" if isinstance(value, bytes) else str(value)


def _undecoded(feature: Any) -> Any:
    """The same features, with those of media not decoded."""
    from datasets import Features, Json

    if isinstance(feature, Mapping):
        inner = {name: _undecoded(part) for name, part in feature.items()}
        return Features(inner) if isinstance(feature, Features) else inner
    if hasattr(feature, "feature"):
        return replace(feature, feature=_undecoded(feature.feature))
    if hasattr(feature, "decode") and not isinstance(feature, Json):
        return replace(feature, decode=False)
    return feature


def _unpadded(value: Any, feature: Any) -> Any:
    """A value without the nulls that Arrow fills its objects up with; JSON's own nulls stay."""
    if isinstance(value, Mapping) and isinstance(feature, Mapping):
        return {
            name: _unpadded(part, feature.get(name))
            for name, part in value.items()
            if part is not None
        }
    if isinstance(value, list) and hasattr(feature, "feature"):
        return [_unpadded(part, feature.feature) for part in value]
    return value


def _load(path: str, subset: str | None, revision: str | None) -> Mapping[str, Any]:
    """{split: streamed rows}"""
    import datasets
    from datasets.exceptions import DatasetsError

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(logging.CRITICAL)  # what it logs, its exceptions say too
    try:
        if _is_saved(path):
            saved = datasets.load_from_disk(path)
            splits = saved if isinstance(saved, dict) else {str(saved.split or TRAIN): saved}
            return {name: part.to_iterable_dataset() for name, part in splits.items()}
        hub = HUB.fullmatch(path)
        with tempfile.TemporaryDirectory(prefix="evergreen-datasets-") as cache:
            streamed: Mapping[str, Any] = datasets.load_dataset(
                f"hf://datasets/{hub['name']}" if hub else path,
                subset,
                revision=revision,
                streaming=True,
                cache_dir=cache,
            )
        return streamed
    except (DatasetsError, *ERRORS) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> DataError:
    lines = str(error).splitlines() or [type(error).__name__]
    return DataError(
        f"cannot read the data set {shown(path)} ({shown(lines[0][:200])})",
        "check its name, subset and split, the network and HF_TOKEN",
        transient=isinstance(error, OSError) and not isinstance(error, FileNotFoundError),
    )


def _revision(path: str) -> str | None:
    """The commit that a name of the Hub means now; None for a folder."""
    hub = HUB.fullmatch(path)
    if hub is None:
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(hub["name"], revision=hub["revision"]).sha)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error


def _content_digest(path: str, revision: str | None) -> str:
    return digest_json([path, revision]) if revision else digest_folder(Path(path))
