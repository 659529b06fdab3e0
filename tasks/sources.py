"""Where rows come from: files anywhere fsspec reaches, data sets, and two bundled ones.

| path                                   | what it is                                         |
|----------------------------------------|----------------------------------------------------|
| `chats.jsonl`, `chats.json`, also `.gz` | JSON: a row a line, or an array (`tasks.json_rows`) |
| `chats.parquet`                        | Parquet                                            |
| `folder/`, `folder/**/*.jsonl`         | every such file below, or that matches             |
| `s3://...`, `hf://datasets/USER/NAME/FILE` | the same, there                                |
| `hf://datasets/USER/NAME`, a folder of `datasets` | a data set (`tasks.hugging_face`)       |
| `bundled:chitchat`                     | 7,168 human conversations (`chitchat-dataset`)     |
| `bundled:pii`                          | generated rows with labelled personal data         |
"""

import contextlib
import hmac
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict

from data_contracts.digests import digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.formats import Reading, Readings, read_row
from data_contracts.formats.fields import is_list, safe_name
from data_contracts.home_keys import keyed_digest, keyed_json
from data_contracts.inference_logs import is_inference_log, parse_inference_log
from data_contracts.printable import is_text
from data_contracts.records import Record
from data_contracts.snapshots import MANIFEST, QUARANTINE
from tasks.hugging_face import Part, find_part, is_dataset, part_rows
from tasks.json_rows import BOM, HEAD_BYTES, NotUtf8, RowCutter, layout_of
from tasks.paths import shown

SUFFIXES: dict[str, Literal["jsonl", "parquet"]] = {
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson.gz": "jsonl",
    ".json.gz": "jsonl",
    ".parquet": "parquet",
}


class SourceFile(BaseModel):
    """One readable source with a keyed digest of its content, so that a changed file is noticed.

    `left_out` names what else is in it and is not read: other splits of a data set, what stands
    beside the rows in a JSON object.
    """

    model_config = ConfigDict(frozen=True)

    uri: str
    name: str
    format: Literal["jsonl", "parquet", "dataset", "chitchat", "pii"]
    rows: int
    bytes: int
    digest: str
    subset: str | None = None
    split: str | None = None
    revision: str | None = None
    left_out: tuple[str, ...] = ()


# What reading a file that is damaged, or gone, or not ours to read raises.
UNREADABLE = (OSError, EOFError, zlib.error, pa.ArrowException)

# What one row may hold: a longer line is never held in memory as a whole.
MAX_ROW_BYTES = 32 << 20


@dataclass(frozen=True)
class Row:
    """A row as it stands in its source: JSONL bytes, or a mapping."""

    position: int
    content: bytes | Mapping[str, Any]

    def digest(self, key: bytes) -> str:
        """Keyed digest of the raw content; all that quarantine keeps of a row that cannot be
        parsed."""
        if isinstance(self.content, bytes):
            return keyed_digest(key, b"row:" + self.content)
        columns = repr(sorted(self.content.items())).encode("utf-8", "surrogatepass")
        return keyed_digest(key, b"columns:" + columns)

    @property
    def size(self) -> int:
        """Bytes, or about as many characters."""
        return len(self.content if isinstance(self.content, bytes) else repr(self.content))

    def parse(self, source: str) -> Record:
        """The row as a record: a conversation, or an inference log's request and answer.

        Raises:
            RowRejected: with the rule it broke. No text of the row is in the exception
                or its context.
        """
        return self.read(source).record

    def read(self, source: str) -> Reading:
        """The row as a record, and what of the row is not in it. Raises as `parse` does."""
        content = self._decoded()
        if isinstance(content, Mapping) and is_inference_log(content):
            record = parse_inference_log(content, source=source)
            named = {"id": record.id or f"{source}:{self.position}"}
            record = record.model_copy(update=named)
            return Reading(record=record, readings=Readings(formats={"inference log": 1}))
        return read_row(content, source=source, position=self.position)

    def decode(self) -> Mapping[str, Any]:
        """The row's columns.

        Raises:
            RowRejected: it is not a JSON object.
        """
        content = self._decoded()
        if not isinstance(content, Mapping):
            raise RowRejected("row: not a JSON object")
        return content

    def _decoded(self) -> Any:
        content = self.content
        if not isinstance(content, bytes):
            return without_padding(content)
        if len(content) > MAX_ROW_BYTES:
            raise RowRejected(f"row: longer than {MAX_ROW_BYTES >> 20} MiB")
        try:
            return json.loads(content.decode("utf-8-sig"))
        except UnicodeDecodeError:
            raise RowRejected("row: not valid UTF-8") from None
        except (ValueError, RecursionError):
            raise RowRejected("row: not JSON") from None


def without_padding(value: Any) -> Any:
    """A value from Arrow without the fields that are null.

    All rows of a column have the same fields there: `{"town": "Oslo"}` comes with a null for
    every other field that an argument of some call has.

    Raises:
        RowRejected: it is nested too deep.
    """
    try:
        return _pruned(value)
    except RecursionError:
        raise RowRejected("row: nested too deep") from None


def _pruned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _pruned(part) for name, part in value.items() if part is not None}
    return [_pruned(part) for part in value] if is_list(value) else value


def find_files(path: str) -> list[str]:
    """The files that `path` (a file, folder, glob or URL) stands for, sorted.

    Raises:
        DataError: nothing is there, or nothing of a known format.
    """
    try:
        fs, root = fsspec.url_to_fs(path)
        if fs.isdir(root):
            found = fs.find(root)
        elif any(character in root for character in "*?["):
            found = fs.glob(root)
        else:
            found = [root] if fs.exists(root) else []
    except (OSError, ValueError, ImportError) as error:
        raise DataError(
            f"cannot look at {shown(path)} ({first_line(error)})",
            "check the address, the network and the credentials",
            transient=isinstance(error, OSError),
        ) from error
    if not found:
        raise DataError(
            f"nothing at {shown(path)}", "check the path given with --data or in data.sources"
        )
    known = sorted(file for file in found if _format(file) and not file.endswith(QUARANTINE))
    if not known:
        raise DataError(
            f"no JSONL or Parquet file at {shown(path)}", f"files must end in {', '.join(SUFFIXES)}"
        )
    uris = [str(fs.unstrip_protocol(file)) for file in known]
    if odd := [uri for uri in uris if not is_text(uri)]:
        raise DataError(f"the name of {shown(odd[0])} is not UTF-8", "rename the file")
    return uris


def _format(name: str) -> Literal["jsonl", "parquet"] | None:
    for suffix, kind in SUFFIXES.items():
        if name.lower().endswith(suffix):
            return kind
    return None


def inspect(
    path: str, *, seed: int, key: bytes, subset: str | None = None, split: str | None = None
) -> list[SourceFile]:
    """Count and digest every row source that `path` stands for, without keeping any text.

    Args:
        path: see above.
        seed: of generated rows.
        key: of the digests.
        subset, split: of a data set; None for its default subset, and `train` or its only split.

    Raises:
        DataError: missing, unreadable, empty or damaged.
    """
    if path.startswith("bundled:"):
        return [_inspect_bundled(path, seed)]
    if is_dataset(path):
        return [_inspect_dataset(path, key, subset, split)]
    if subset or split:
        raise DataError(
            f"{shown(path)} is not a data set with splits", "leave out subset and split"
        )
    return [_inspect_file(uri, key) for uri in find_files(path)]


def _inspect_dataset(path: str, key: bytes, subset: str | None, split: str | None) -> SourceFile:
    part = find_part(path, subset, split)
    count = sum(1 for _ in part_rows(part))
    if count == 0:
        raise DataError(f"the split {part.split!r} of {shown(path)} has no rows", "choose another")
    return SourceFile(
        uri=path,
        name=path.rstrip("/").rpartition("/")[2],
        format="dataset",
        rows=count,
        bytes=0,
        digest=keyed_json(key, "data set", part.digest),
        subset=subset,
        split=part.split,
        revision=part.revision,
        left_out=tuple(f"split {safe_name(name)}" for name in part.others),
    )


def _inspect_file(uri: str, key: bytes) -> SourceFile:
    kind = _format(uri)
    if kind is None:
        raise DataError(f"{shown(uri)} is not JSONL or Parquet", "rename or convert it")
    digest, size, lines = hmac.new(key, b"file:", "sha256"), 0, 0
    left_out: set[str] = set()
    try:
        with fsspec.open(uri, "rb") as file:
            while chunk := file.read(1 << 20):
                digest.update(chunk)
                size += len(chunk)
        if kind == "parquet":
            with fsspec.open(uri, "rb") as file:
                lines = pq.read_metadata(file).num_rows
        else:
            lines = sum(1 for _ in _json_rows(uri, left_out))
    except NotUtf8 as error:
        raise DataError(f"cannot read {shown(uri)}: {error}", "or leave it out") from error
    except UNREADABLE as error:
        raise DataError(
            f"cannot read {shown(uri)} ({first_line(error)})",
            "check the file",
            transient=isinstance(error, OSError) and not isinstance(error, pa.ArrowException),
        ) from error
    if lines == 0:
        raise DataError(f"{shown(uri)} has no rows", "remove it or fill it")
    return SourceFile(
        uri=uri,
        name=_name(uri),
        format=kind,
        rows=lines,
        bytes=size,
        digest=digest.hexdigest(),
        left_out=tuple(sorted(left_out)),
    )


def _name(uri: str) -> str:
    """The file's name; a snapshot's shards go by their snapshot's."""
    fs, path = fsspec.url_to_fs(uri)
    folder, _, name = path.rpartition("/")
    return f"{folder.rpartition('/')[2]}/{name}" if fs.exists(f"{folder}/{MANIFEST}") else name


def first_line(error: BaseException) -> str:
    """What went wrong, without the path: the file's name may be personal data."""
    if isinstance(error, FileNotFoundError):
        return "no such file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return shown((str(error).splitlines() or [type(error).__name__])[0][:200])


def rows(file: SourceFile, *, seed: int) -> Iterator[Row]:
    """Every row of a source, in order."""
    for position, content in enumerate(_contents(file, seed)):
        yield Row(position, content)


def _contents(file: SourceFile, seed: int) -> Iterable[bytes | Mapping[str, Any]]:
    if file.format == "jsonl":
        return _json_rows(file.uri)
    if file.format == "parquet":
        return _parquet_rows(file.uri)
    if file.format == "dataset":
        return part_rows(_part(file))
    if file.format == "chitchat":
        return chitchat_rows()
    return _pii_rows(file.rows, seed)


def _part(file: SourceFile) -> Part:
    return Part(
        path=file.uri,
        subset=file.subset,
        split=str(file.split),
        revision=file.revision,
        others=(),
        digest=file.digest,
    )


def contents(uri: str) -> Iterator[bytes | Mapping[str, Any]]:
    """The rows of a file, in order; lines with their line feed.

    Raises:
        one of UNREADABLE: after all rows that could be had.
    """
    return iter(_parquet_rows(uri) if _format(uri) == "parquet" else _json_rows(uri))


def _json_rows(uri: str, left_out: set[str] | None = None) -> Iterator[bytes]:
    """The rows of a JSON file; names what it holds besides rows in `left_out`."""
    with fsspec.open(uri, "rb", compression="infer") as file:
        start = Start(file)
        layout = layout_of(start.head)
        if layout == "lines":
            yield from (line for line in split_lines(start) if line.strip())
            return
        cutter = RowCutter(layout, MAX_ROW_BYTES)
        yield from cutter.cut(iter(lambda: start.read(1 << 20), b""))
        if left_out is not None:
            left_out |= cutter.left_out


class Start:
    """A file that was looked into: it is read from its beginning again.

    A damaged gzip file gives all that can be had of it before it raises.
    """

    def __init__(self, file: Any) -> None:
        self._read = getattr(file, "read1", file.read)
        self.head = b""
        self._error: Exception | None = None
        try:
            while len(self.head) < HEAD_BYTES and (more := self._read(HEAD_BYTES)):
                self.head += more
        except UNREADABLE as error:
            self._error = error
        self._rest = self.head.removeprefix(BOM)

    def read(self, size: int) -> bytes:
        """At most `size` bytes. Raises one of UNREADABLE: the file is damaged from here on."""
        if not self._rest:
            if self._error is not None:
                raise self._error
            return bytes(self._read(size))
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece


def split_lines(file: Any) -> Iterator[bytes]:
    """Lines with their line feed; of one longer than MAX_ROW_BYTES only that much and one more."""
    # A damaged gzip file then gives all that can be had of it before it raises.
    read = getattr(file, "read1", file.read)
    rest, skipping = b"", False
    while chunk := read(1 << 20):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if not skipping:
                yield line + b"\n"
            skipping = False
        if len(rest) > MAX_ROW_BYTES:
            if not skipping:
                yield rest[: MAX_ROW_BYTES + 1] + b"\n"
            rest, skipping = b"", True
    if rest and not skipping:
        yield rest


def _parquet_rows(uri: str) -> Iterator[Mapping[str, Any]]:
    with fsspec.open(uri, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=1024):
            yield from batch.to_pylist()


# -- bundled data sets -------------------------------------------------------------


def _inspect_bundled(path: str, seed: int) -> SourceFile:
    name = path.removeprefix("bundled:")
    package = {"chitchat": "chitchat-dataset", "pii": "presidio-evaluator"}.get(name)
    if package is None:
        raise DataError(
            f"there is no bundled data set {name!r}", "use bundled:chitchat or bundled:pii"
        )
    version = metadata.version(package)
    count = sum(1 for _ in chitchat_rows()) if name == "chitchat" else PII_ROWS
    return SourceFile(
        uri=path,
        name=name,
        format="chitchat" if name == "chitchat" else "pii",
        rows=count,
        bytes=0,
        digest=digest_json([package, version, seed if name == "pii" else 0]),
    )


def chitchat_rows() -> Iterator[Mapping[str, Any]]:
    """Human conversations (BYU Chit-Chat Challenge): who speaks first is the user."""
    from chitchat_dataset import Dataset

    for identifier, conversation in Dataset().items():
        utterances = [turn for group in conversation["messages"] for turn in group]
        messages: list[dict[str, str]] = []
        for utterance in utterances:
            role = "user" if utterance["sender"] == utterances[0]["sender"] else "assistant"
            if messages and messages[-1]["role"] == role:
                messages[-1]["content"] += "\n" + utterance["text"]
            else:
                messages.append({"role": role, "content": utterance["text"]})
        yield {
            "id": identifier,
            "messages": messages,
            "created_at": utterances[0]["timestamp"] if utterances else None,
        }


PII_ROWS = 1000


def pii_sentences(count: int, seed: int) -> list[Any]:
    """`presidio-evaluator` InputSamples: generated sentences with labelled personal data.

    The same for the same seed, but for moments in time, which it counts back from now.
    """
    from presidio_evaluator.data_generator import PresidioSentenceFaker
    from presidio_evaluator.data_generator.faker_extensions import HospitalProvider
    from presidio_evaluator.data_generator.presidio_sentence_faker import (
        presidio_additional_entity_providers,
    )

    class OfflineHospitals(HospitalProvider):  # type: ignore[misc]
        """The provider's built-in list; by default it asks Wikidata."""

        def load_wiki_hospitals(self) -> list[str]:
            names: list[str] = self.default_list
            return names

    providers = [
        OfflineHospitals if provider is HospitalProvider else provider
        for provider in presidio_additional_entity_providers
    ]
    quiet = io.StringIO()  # it prints, and draws a progress bar
    with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
        PresidioSentenceFaker.seed(seed)  # it draws people's initials before it seeds itself
        faker = PresidioSentenceFaker(
            "en_US", lower_case_ratio=0.05, entity_providers=providers, random_seed=seed
        )
        samples: list[Any] = faker.generate_new_fake_sentences(count)
    return samples


def _pii_rows(count: int, seed: int) -> Iterator[Mapping[str, Any]]:
    """Two sentences make a conversation; where personal data stands is labelled, not repeated."""
    samples = pii_sentences(2 * count, seed)
    for position in range(count):
        pair = samples[2 * position : 2 * position + 2]
        yield {
            "id": f"pii-{position}",
            "messages": [
                {"role": role, "content": sample.full_text}
                for role, sample in zip(("user", "assistant"), pair, strict=True)
            ],
            "labelled_spans": [
                {
                    "turn": turn,
                    "start": span.start_position,
                    "end": span.end_position,
                    "entity": span.entity_type,
                }
                for turn, sample in enumerate(pair)
                for span in sample.spans
            ],
        }
