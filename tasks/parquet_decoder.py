"""The process that decodes one Parquet file, with a limit on its memory.

    python -m tasks.parquet_decoder DESCRIPTOR FIRST_ROW_GROUP MEMORY

A few kilobytes of Parquet may decode to gigabytes, and nothing in the file says so. So it is
decoded here, where running out of memory ends nothing else. MEMORY is in bytes, beyond what the
process has when it starts. The descriptor is one end of a socket; `tasks.parquet_rows` is at the
other. What goes out is a letter, a length and so many bytes:

| | |
|---|---|
| `r` | bytes of the file are wanted: offset, count |
| `g` | a row group begins: its number, and its rows as the file says |
| `b` | rows, an Arrow stream |
| `x` | one row is too large: the rule that it breaks |
| `l` | the rest of the row group cannot be decoded |
| `e` | the file cannot be read: why |
| `d` | done |

What comes in is the size of the file first, then answers to `r`: a length and so many bytes.
Numbers have 8 bytes, the highest first.
"""

import io
import resource
import socket
import struct
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from data_contracts.row_limits import MAX_ROW_BYTES, MAX_ROW_PARTS, TOO_LONG, TOO_MANY

# Rows decoded at once; where they take too much memory, one by one.
BATCH_ROWS = (256, 1)
# Of rows that are sent together.
BATCH_BYTES = 8 * MAX_ROW_BYTES
BATCH_PARTS = 10 * MAX_ROW_PARTS
HEADER = struct.Struct(">cQ")
NUMBER = struct.Struct(">Q")
PAIR = struct.Struct(">QQ")


class Channel:
    """One end of the socket."""

    def __init__(self, end: socket.socket) -> None:
        self._stream = end.makefile("rwb", buffering=1 << 16)

    def send(self, kind: bytes, content: bytes = b"") -> None:
        self._stream.write(HEADER.pack(kind, len(content)))
        self.write(content)

    def write(self, content: bytes) -> None:
        self._stream.write(content)
        self._stream.flush()

    def receive(self) -> tuple[bytes, bytes]:
        """Raises EOFError: the other end is gone."""
        kind, length = HEADER.unpack(self.read(HEADER.size))
        return kind, self.read(length)

    def read_number(self) -> int:
        number: int = NUMBER.unpack(self.read(NUMBER.size))[0]
        return number

    def read(self, count: int) -> bytes:
        """Raises EOFError: the other end is gone."""
        content: bytes = self._stream.read(count)
        if len(content) < count:
            raise EOFError("the other end is gone")
        return content


class DistantFile(io.RawIOBase):
    """The file, whose bytes the other end reads."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._size = channel.read_number()
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, count: int | None = -1) -> bytes:
        rest = max(0, self._size - self._at)
        count = rest if count is None or count < 0 else min(count, rest)
        self._channel.send(b"r", PAIR.pack(self._at, count))
        content = self._channel.read(self._channel.read_number())
        self._at += len(content)
        return content


def decode(channel: Channel, first_group: int) -> None:
    """Send every row from a row group on, or what is wrong with it."""
    # Without a buffer of its own a column of a row group is read as a whole.
    file = pq.ParquetFile(DistantFile(channel), buffer_size=1 << 20, pre_buffer=False)
    for group in range(first_group, file.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        channel.send(b"g", PAIR.pack(group, max(0, rows)))
        sent = 0
        for size in BATCH_ROWS:
            try:
                for batch in batches(file, group, size, sent):
                    for piece in pieces(batch):
                        send_rows(channel, piece)
                        sent += piece.num_rows
                break
            except MemoryError:  # Arrow's is one
                continue
        else:
            channel.send(b"l")


def batches(file: Any, group: int, size: int, skip: int) -> Iterator[pa.RecordBatch]:
    """A row group after its first `skip` rows, so many rows at a time."""
    for batch in file.iter_batches(batch_size=size, row_groups=[group], use_threads=False):
        if skip < batch.num_rows:
            yield plain(batch.slice(skip))
        skip = max(0, skip - batch.num_rows)


def plain(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With values in the place of a dictionary's numbers."""
    for place, column in enumerate(batch.columns):
        if pa.types.is_dictionary(column.type):
            batch = batch.set_column(place, batch.schema.names[place], column.dictionary_decode())
    return batch


def pieces(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
    """The batch, or its rows one by one if it is large."""
    if batch.nbytes <= BATCH_BYTES and parts(batch) <= BATCH_PARTS:
        yield batch
    else:
        yield from (batch.slice(row, 1) for row in range(batch.num_rows))


def send_rows(channel: Channel, batch: pa.RecordBatch) -> None:
    if batch.num_rows == 1 and batch.nbytes > MAX_ROW_BYTES:
        channel.send(b"x", TOO_LONG.encode())
    elif batch.num_rows == 1 and parts(batch) > MAX_ROW_PARTS:
        channel.send(b"x", TOO_MANY.encode())
    else:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        channel.send(b"b", sink.getvalue().to_pybytes())


def parts(batch: pa.RecordBatch) -> int:
    """How many values there are in the rows; those in lists one by one."""
    return sum(values(column) for column in batch.columns)


def values(array: pa.Array) -> int:
    kind = array.type
    if pa.types.is_struct(kind):
        return len(array) + sum(values(field) for field in array.flatten())
    if pa.types.is_map(kind):
        start, end = array.offsets[0].as_py(), array.offsets[len(array)].as_py()
        return values(array.keys[start:end]) + values(array.items[start:end])
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return len(array) + values(array.flatten())
    return len(array)


def limit_memory(memory: int) -> None:
    """No more than so many bytes beyond what is mapped now, where the system tells how much."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except FileNotFoundError:  # macOS, which would not hold a process to the limit either
        return
    limit = pages * resource.getpagesize() + memory
    _, allowed = resource.getrlimit(resource.RLIMIT_AS)
    limit = limit if allowed == resource.RLIM_INFINITY else min(limit, allowed)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main(descriptor: str, first_group: str, memory: str) -> None:
    channel = Channel(socket.socket(fileno=int(descriptor)))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    limit_memory(int(memory))
    try:
        decode(channel, int(first_group))
    except (OSError, ValueError, pa.ArrowException) as error:
        channel.send(b"e", (str(error).splitlines() or [""])[0].encode("utf-8", "replace")[:300])
    else:
        channel.send(b"d")


if __name__ == "__main__":
    main(*sys.argv[1:])
