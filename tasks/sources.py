"""Where rows come from: files anywhere fsspec reaches, data sets, and two bundled ones.

| path                                   | what it is                                         |
|----------------------------------------|----------------------------------------------------|
| `chats.jsonl`, `chats.json`, also `.gz` | JSON: a row a line, or an array (`tasks.json_rows`) |
| `app.log`, `app.jsonl.1`, `app.jsonl.2.gz` | the same, rotated (`tasks.found_files`)        |
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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Any, Literal, TypeAlias

import fsspec
import pyarrow as pa
from pydantic import BaseModel, ConfigDict

from data_contracts.digests import digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.formats import Reading, read_row
from data_contracts.formats.fields import is_list, safe_name
from data_contracts.home_keys import keyed_digest, keyed_json
from data_contracts.inference_logs import is_inference_log, parse_inference_log
from data_contracts.lenient_json import parse_json
from data_contracts.log_formats.opentelemetry import EXPORTS, is_export, spans_of_export
from data_contracts.records import Record
from data_contracts.row_limits import (
    MAX_ROW_BYTES,
    MAX_ROW_PARTS,
    TOO_LONG,
    TOO_MANY,
    LostRow,
)
from data_contracts.snapshots import MANIFEST
from tasks.decompress import DAMAGED, opened
from tasks.found_files import file_format, find_files, first_line
from tasks.hugging_face import Part, find_part, is_dataset, part_rows
from tasks.json_rows import BOM, HEAD_BYTES, NotUtf8, RowCutter, layout_of
from tasks.parquet_rows import count_parquet_rows, parquet_rows
from tasks.paths import shown

EXPORT_NAMES = tuple(f'"{name}"'.encode() for name in EXPORTS)

# A row as it stands in its source: JSON text, columns, or nothing that can be had.
RowContent: TypeAlias = bytes | Mapping[str, Any] | LostRow


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
UNREADABLE = DAMAGED


@dataclass(frozen=True)
class Row:
    """A row of a source, and its place in it."""

    position: int
    content: RowContent

    def digest(self, key: bytes) -> str:
        """Keyed digest of the raw content; all that quarantine keeps of a row that cannot be
        parsed."""
        if isinstance(self.content, bytes):
            return keyed_digest(key, b"row:" + self.content)
        if isinstance(self.content, LostRow):
            return keyed_json(key, "lost row", f"{self.content.rule} {self.content.place}")
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
            reading = parse_inference_log(content, source=source)
            named = {"id": reading.record.id or f"{source}:{self.position}"}
            return reading.model_copy(update={"record": reading.record.model_copy(update=named)})
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
        if isinstance(content, LostRow):
            raise RowRejected(content.rule)
        if not isinstance(content, bytes):
            return without_padding(content)
        refuse_large(content)
        try:
            return parse_json(content.decode("utf-8-sig"))
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


def refuse_large(line: bytes) -> None:
    """Raises RowRejected: as a row it would take more memory than one may."""
    if len(line) > MAX_ROW_BYTES:
        raise RowRejected(TOO_LONG)
    if line.count(b"{") + line.count(b"[") > MAX_ROW_PARTS:
        raise RowRejected(TOO_MANY)


def inspect(
    path: str, *, seed: int, key: bytes, subset: str | None = None, split: str | None = None
) -> tuple[list[SourceFile], dict[str, str]]:
    """Count and digest every row source that `path` stands for, without keeping any text.

    Args:
        path: see above.
        seed: of generated rows.
        key: of the digests.
        subset, split: of a data set; None for its default subset, and `train` or its only split.

    Returns:
        (the sources, {file that is passed over: why})

    Raises:
        DataError: missing, unreadable, empty or damaged.
    """
    if path.startswith("bundled:"):
        return [_inspect_bundled(path, seed)], {}
    if is_dataset(path):
        return [_inspect_dataset(path, key, subset, split)], {}
    if subset or split:
        raise DataError(
            f"{shown(path)} is not a data set with splits", "leave out subset and split"
        )
    found = find_files(path)
    files = [_inspect_file(uri, key) for uri in found.uris]
    empty = {file.uri: "no rows in it" for file in files if file.rows == 0}
    if len(empty) == len(files):
        raise DataError(f"{shown(files[0].uri)} has no rows", "remove it or fill it")
    return [file for file in files if file.rows], found.passed_over | empty


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
    kind = file_format(uri)
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
            lines = count_parquet_rows(uri)
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


def rows(file: SourceFile, *, seed: int) -> Iterator[Row]:
    """Every row of a source, in order."""
    for position, content in enumerate(_contents(file, seed)):
        yield Row(position, content)


def _contents(file: SourceFile, seed: int) -> Iterable[RowContent]:
    if file.format in ("jsonl", "parquet"):
        return contents(file.uri)
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


def contents(uri: str) -> Iterator[RowContent]:
    """The rows of a file, in order; lines with their line feed.

    Raises:
        one of UNREADABLE: after all rows that could be had.
    """
    return iter(parquet_rows(uri) if file_format(uri) == "parquet" else _json_rows(uri))


def _json_rows(uri: str, left_out: set[str] | None = None) -> Iterator[bytes]:
    """The rows of a JSON file; names what it holds besides rows in `left_out`.

    An export of OpenTelemetry's is as many rows as it has spans.
    """
    with opened(uri) as chunks:
        start = Start(chunks)
        layout = layout_of(start.head)
        rows_of_file: Iterator[bytes]
        if layout == "lines":
            rows_of_file = (line for line in split_lines(start) if line.strip())
        else:
            cutter = RowCutter(layout, MAX_ROW_BYTES)
            rows_of_file = cutter.cut(start)
        for row in rows_of_file:
            yield from spans_of_row(row) or (row,)
        if layout != "lines" and left_out is not None:
            left_out |= cutter.left_out


class Start:
    """Chunks that were looked into: they are given from their beginning again.

    A damaged file gives all that can be had of it before it raises.
    """

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self.head = b""
        self._error: Exception | None = None
        try:
            while len(self.head) < HEAD_BYTES and (more := next(chunks, b"")):
                self.head += more
        except UNREADABLE as error:
            self._error = error

    def __iter__(self) -> Iterator[bytes]:
        """Raises one of UNREADABLE, at last: the file is damaged from here on."""
        yield self.head.removeprefix(BOM)
        if self._error is not None:
            raise self._error
        yield from self._chunks


def spans_of_row(row: bytes) -> list[bytes]:
    """The spans of a row that is an export, each as a row; none of any other row."""
    if not any(name in row for name in EXPORT_NAMES):
        return []
    end = b"\n" if row.endswith(b"\n") else b""
    try:
        refuse_large(row)
        document = parse_json(row)
        spans = spans_of_export(document) if is_export(document) else ()
        return [json.dumps(span).encode() + end for span in spans]
    except (RowRejected, ValueError, RecursionError, MemoryError):
        return []  # it is refused when it is decoded, as any row


def split_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their line feed; of one longer than MAX_ROW_BYTES only that much and one more."""
    rest, skipping = b"", False
    for chunk in chunks:
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
