"""Inference logs: which records are new, and the windows they make.

Logs are looked through twice. The first pass keeps some 500 bytes a record (when, which,
where it stands) and tells new records from known, late, duplicate and broken ones. A
chat client sends the whole conversation with every request, so that the first turns of
one with ten turns are logged ten times: only its last request counts as a conversation.
The second reads the records of one window at a time. So a folder of any size is read
in bounded memory, and a window is never larger than `max_records`; what a sample
leaves out is counted.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from sys import intern
from typing import Self

import fsspec
from pydantic import BaseModel, ConfigDict, Field, model_validator

from data_contracts.digests import Json, digest_bytes, digest_json
from data_contracts.errors import DataError, RowRejected
from data_contracts.formats import Readings
from data_contracts.home_keys import key_fingerprint, keyed_json
from data_contracts.inference_logs import parse_inference_log
from data_contracts.lenient_json import parse_json
from data_contracts.log_users import user_of
from data_contracts.records import Message, Record
from data_contracts.snapshots import QuarantinedRow
from tasks.found_files import find_files, first_line
from tasks.paths import shown
from tasks.row_boundary import row_boundary
from tasks.sources import UNREADABLE, Row, contents

# Of a window's sample, in the log: the conversations that are in memory together.
SAMPLE_BYTES = 128 << 20
# 2000-01-01 UTC, the contract's earliest, in seconds since 1970.
EARLIEST = 946_684_800


class WatchSettings(BaseModel):
    """Which production traffic is watched, and how it is cut into windows."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    logs: str | None = Field(
        default=None,
        description="Inference logs: file, folder of (hourly) files, glob or `s3://`.",
    )
    window_minutes: int = Field(
        default=60, ge=1, description="Length of a window, by the records' own time."
    )
    min_records: int = Field(
        default=200,
        ge=30,
        description="A window with fewer conversations waits and grows until it has as many.",
    )
    max_records: int = Field(
        default=2000,
        ge=30,
        description="Conversations kept of a window; of a larger one a stated sample.",
    )
    lateness_hours: float = Field(
        default=48,
        gt=0,
        description="Records this much older than the last window are too late to count.",
    )
    future_minutes: float = Field(
        default=5, ge=0, description="Clock error allowed; later records are quarantined."
    )
    retention_days: float = Field(
        default=30, gt=0, description="Windows and their reports are deleted when this old."
    )
    every_minutes: int = Field(default=60, ge=1, description="How often `watch` is scheduled.")

    @model_validator(mode="after")
    def _some_fit(self) -> Self:
        if self.max_records < self.min_records:
            raise ValueError("max_records must not be less than min_records")
        return self


@dataclass(frozen=True)
class LogFile:
    """A file and what tells whether it changed since."""

    uri: str
    version: str


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """One new record: when (seconds since 1970), which, and where it stands.

    `digest` is keyed, as the ledger keeps it. `state`, the digest of the conversation with its
    answer, is not: it never leaves the memory of the process that looks. `size` is about as many
    bytes as the record takes.
    """

    at: int
    digest: bytes
    file: int
    position: int
    state: bytes
    size: int


@dataclass
class Pending:
    """What a look at the logs found that no window has counted yet.

    `noted` counts, for each `Readings` (as JSON), the entries that it is true of; `passed_over`
    names files that are not read, and why.

    `key` is the fingerprint of the key that records are known under.
    """

    key: str = ""
    files: list[LogFile] = field(default_factory=list)
    entries: list[Entry] = field(default_factory=list)
    beginnings: set[bytes] = field(default_factory=set)
    quarantined: list[QuarantinedRow] = field(default_factory=list)
    known: int = 0
    duplicates: int = 0
    late: int = 0
    incomplete: int = 0
    noted: Counter[str] = field(default_factory=Counter)
    damaged: dict[str, str] = field(default_factory=dict)
    passed_over: dict[str, str] = field(default_factory=dict)

    @property
    def readings(self) -> Readings:
        """What the entries were read as, and what of them was not."""
        return Readings.total(
            Readings.model_validate(
                {
                    name: {what: count * entries for what, count in counts.items()}
                    for name, counts in json.loads(told).items()
                }
            )
            for told, entries in self.noted.items()
        )


@dataclass
class LogWindow:
    """Records of one stretch of time, [start, end) in seconds since 1970, in order of time.

    `entries` are all of them, `conversations` those that no later request contains.
    """

    start: int
    end: int
    entries: list[Entry]
    conversations: list[Entry]

    @property
    def id(self) -> str:
        """Named by the records in it: whoever cuts the same window gives it the same name."""
        return digest_bytes(b"".join(sorted(entry.digest for entry in self.entries)))[:16]

    def sample(self, count: int) -> list[Entry]:
        """At most `count` of the conversations, together at most SAMPLE_BYTES: the smallest
        digests, which is a fair draw."""
        chosen: list[Entry] = []
        size = 0
        for entry in sorted(self.conversations, key=lambda entry: entry.digest)[:count]:
            size += entry.size
            if chosen and size > SAMPLE_BYTES:
                break
            chosen.append(entry)
        return sorted(chosen)


@dataclass(frozen=True)
class CountedBefore:
    """What earlier windows have counted.

    Args:
        key: of the digests that records are known by.
        known: which of some digests earlier windows have counted.
        finished: whether nothing new can be in a file.
        newest: the end of the last window, seconds since 1970; None before the first.
        since: records before this are taken for counted, as their digests' key is lost.
    """

    key: bytes
    known: Callable[[list[bytes]], set[bytes]]
    finished: Callable[[LogFile], bool]
    newest: int | None = None
    since: int | None = None

    def oldest(self, lateness_hours: float) -> float:
        """Records from before this are too late to count."""
        late = -1e18 if self.newest is None else self.newest - 3600 * lateness_hours
        return late if self.since is None else max(late, self.since)


@dataclass(frozen=True)
class LogKeys:
    """Keys of the home: what records, users and quarantined rows are known by, and that of
    pseudonyms, if the policy wants any."""

    records: bytes
    users: bytes
    rows: bytes
    pseudonyms: bytes | None = None


@dataclass(frozen=True)
class LogPlace:
    """A log file, and its number among those that are read."""

    uri: str
    file: int


@dataclass(frozen=True)
class _Examined:
    """A record that can be used, before it is known whether it is new."""

    entry: Entry
    beginnings: tuple[bytes, ...]
    noted: str


def look(path: str, settings: WatchSettings, *, now: datetime, before: CountedBefore) -> Pending:
    """First pass: find what is new at `path`.

    Args:
        now: records later than this (and `future_minutes`) are quarantined.
        before: what earlier windows have counted.

    Raises:
        DataError: nothing is at `path`. A file that cannot be read is noted in
            `damaged` and the records before the damage are used.
    """
    found = find_files(path)
    pending = Pending(key=key_fingerprint(before.key), passed_over=found.passed_over)
    latest = now.timestamp() + 60 * settings.future_minutes
    oldest = before.oldest(settings.lateness_hours)
    met: set[bytes] = set()
    for uri in found.uris:
        batch: list[_Examined] = []
        rejected: list[QuarantinedRow] = []
        try:
            file = LogFile(uri, _version(uri))
            if before.finished(file):
                continue
            number = len(pending.files)
            pending.files.append(file)
            for position, content in enumerate(contents(uri)):
                row = Row(position, content)
                try:
                    examined = _examine(row, LogPlace(uri, number), before.key, latest)
                except RowRejected as broken:
                    if isinstance(content, bytes) and not content.endswith(b"\n"):
                        pending.incomplete += 1  # still being written: wait for the rest
                        continue
                    rejected.append(_quarantined(row, uri, broken.rule, before.key))
                    continue
                if examined.entry.digest in met:
                    pending.duplicates += 1
                elif examined.entry.at < oldest:
                    pending.late += 1
                else:
                    met.add(examined.entry.digest)
                    batch.append(examined)
        except UNREADABLE as error:
            pending.damaged[uri] = first_line(error)
        _add_new(pending, batch, rejected, before.known)
    pending.entries.sort()
    return pending


def _examine(row: Row, place: LogPlace, key: bytes, latest: float) -> _Examined:
    """Raises RowRejected: whatever is wrong with the row."""
    with row_boundary("row"):
        reading = parse_inference_log(row.decode(), source=place.uri)
        record = reading.record
        states = _states(record.messages)
        entry = Entry(
            _seconds(record), _digest(record, key), place.file, row.position, states[-1], row.size
        )
        if entry.at > latest:
            raise RowRejected("timestamp: in the future")
        if entry.at < EARLIEST:
            raise RowRejected("timestamp: before 2000")
        return _Examined(
            entry,
            _beginnings(record.messages, states),
            intern(Readings.total([reading.readings]).model_dump_json()),
        )


def _add_new(
    pending: Pending,
    batch: list[_Examined],
    rejected: list[QuarantinedRow],
    known: Callable[[list[bytes]], set[bytes]],
) -> None:
    """Take in what a file has, but for what windows have counted."""
    seen = known([one.entry.digest for one in batch] + [quarantine_digest(row) for row in rejected])
    pending.known += len(seen)
    pending.quarantined += [row for row in rejected if quarantine_digest(row) not in seen]
    for one in batch:
        pending.beginnings.update(one.beginnings)
        if one.entry.digest not in seen:
            pending.entries.append(one.entry)
            pending.noted[one.noted] += 1


def quarantine_digest(row: QuarantinedRow) -> bytes:
    """What a broken row is known by, so that it is counted once."""
    return bytes.fromhex(row.digest)[:16]


def _version(uri: str) -> str:
    fs, path = fsspec.url_to_fs(uri)
    fs.invalidate_cache(fs._parent(path))
    info = fs.info(path)
    changed = info.get("ETag") or info.get("mtime") or info.get("LastModified")
    return f"{info.get('size')}-{changed}"


def _digest(record: Record, key: bytes) -> bytes:
    """The same for a record that was logged twice, whatever file it stands in."""
    content = keyed_json(key, "record", [record.created_at, record.id, record.content_digest])
    return bytes.fromhex(content)[:16]


def _seconds(record: Record) -> int:
    return int(datetime.fromisoformat(str(record.created_at)).timestamp())


def _quarantined(row: Row, uri: str, rule: str, key: bytes) -> QuarantinedRow:
    name = shown(uri.rsplit("/", 1)[-1])
    return QuarantinedRow(
        id=f"{name}:{row.position}", rule=rule, digest=row.digest(key), source=name
    )


def cut(pending: Pending, settings: WatchSettings, now: datetime) -> tuple[list[LogWindow], int]:
    """Cut what is new into windows, the oldest first.

    A window ends at a multiple of `window_minutes` that has passed and takes in as many
    such stretches as give it `min_records` conversations.

    Returns:
        (the windows, how many records wait for more to come)
    """
    length = 60 * settings.window_minutes
    over = int(now.timestamp()) // length * length
    windows: list[LogWindow] = []
    current: list[Entry] = []
    conversations: list[Entry] = []
    for index, entry in enumerate(pending.entries):
        if entry.at >= over:
            break
        current.append(entry)
        if entry.state not in pending.beginnings:
            conversations.append(entry)
        end = entry.at // length * length + length
        is_last = index + 1 == len(pending.entries) or pending.entries[index + 1].at >= end
        if is_last and len(conversations) >= settings.min_records:
            start = current[0].at // length * length
            windows.append(LogWindow(start, end, current, conversations))
            current, conversations = [], []
    counted = sum(len(window.entries) for window in windows)
    return windows, len(pending.entries) - counted


def read(
    files: list[LogFile], entries: Iterable[Entry], keys: LogKeys
) -> Iterator[tuple[Entry, Record | RowRejected]]:
    """Second pass: the records of some entries, file by file, with their users' pseudonyms, or why
    there is none.

    Raises:
        DataError: a file is not what it was when it was looked at.
    """
    wanted: dict[int, dict[int, Entry]] = {}
    for new in entries:
        wanted.setdefault(new.file, {})[new.position] = new
    for number, places in wanted.items():
        uri = files[number].uri
        found = 0
        try:
            for position, content in enumerate(contents(uri)):
                entry = places.get(position)
                if entry is not None:
                    yield entry, _read_again(Row(position, content), uri, entry, keys)
                    found += 1
                    if found == len(places):
                        break
        except UNREADABLE as error:
            raise _changed(uri) from error
        if found < len(places):
            raise _changed(uri)


def _read_again(row: Row, uri: str, entry: Entry, keys: LogKeys) -> Record | RowRejected:
    """Raises DataError: another record stands there now."""
    try:
        with row_boundary("row"):
            content = row.decode()
            record = parse_inference_log(content, source=uri).record
            if _digest(record, keys.records) != entry.digest:
                raise _changed(uri)
            return with_user(record, user_of(content, keys.users))
    except RowRejected as rejected:
        return rejected


def _changed(uri: str) -> DataError:
    return DataError(
        f"{shown(uri)} changed while it was read, or was rotated away", "run again", transient=True
    )


def with_user(record: Record, user: str | None) -> Record:
    if record.served is None or user is None:
        return record
    served = record.served.model_copy(update={"user": user})
    return record.model_copy(update={"served": served})


def whole(records: Sequence[Record]) -> list[Record]:
    """The records that no other one contains the conversation of."""
    states = [_states(record.messages) for record in records]
    beginnings = {
        state
        for record, after in zip(records, states, strict=True)
        for state in _beginnings(record.messages, after)
    }
    return [
        record for record, after in zip(records, states, strict=True) if after[-1] not in beginnings
    ]


def _beginnings(messages: Sequence[Message], states: Sequence[bytes]) -> tuple[bytes, ...]:
    """The states that the conversation was in after each earlier answer."""
    return tuple(
        state
        for message, state in zip(messages[:-1], states, strict=False)
        if message.role == "assistant"
    )


def _states(messages: Iterable[Message]) -> list[bytes]:
    """After each message, the digest of all that was said till then."""
    running = hashlib.sha256()
    states = []
    for message in messages:
        running.update(digest_json(_said(message)).encode())
        states.append(running.digest()[:16])
    return states


def _said(message: Message) -> Json:
    """What a client sends back of a message in its next request: no thoughts, no ids."""
    calls = [[call.name, _normal(call.arguments)] for call in message.tool_calls]
    return [message.role, message.content or message.refusal, *calls]


def _normal(arguments: str) -> str:
    """Arguments without the white space and order in which clients differ."""
    try:
        return json.dumps(parse_json(arguments), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments


def rules(rows: Iterable[QuarantinedRow]) -> dict[str, int]:
    """{rule: rows that broke it}, the most frequent first."""
    return dict(Counter(row.rule for row in rows).most_common())


def iso(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")
