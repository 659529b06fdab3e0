"""The rows of a Parquet file, decoded in a process of their own (`tasks.parquet_decoder`)."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import fsspec
import pyarrow as pa

from data_contracts.row_limits import LostRow
from tasks.parquet_decoder import BATCH_BYTES, NUMBER, PAIR, Channel

CANNOT_DECODE = "row: takes more memory or time to decode than there is for it"
# Bytes that decoding may take, beyond what the process has when it starts.
MEMORY = 600 << 20
# Seconds without a row that can be used.
PATIENCE = 60.0
# A row group that is lost says itself how many rows it has.
MOST_LOST = 100_000
# The C library's allocator in the place of Arrow's, which maps a gigabyte beforehand.
ENVIRONMENT = {"ARROW_DEFAULT_MEMORY_POOL": "system", "MALLOC_ARENA_MAX": "1"}


def parquet_rows(uri: str) -> Iterator[Mapping[str, Any] | LostRow]:
    """Every row of a file in order; what cannot be decoded within the limits is a `LostRow`.

    Raises:
        OSError: it is not a Parquet file, or cannot be read. Rows before that were given.
    """
    for batch in parquet_batches(uri):
        if isinstance(batch, LostRow):
            yield batch
        else:
            yield from batch.to_pylist()


def count_parquet_rows(uri: str) -> int:
    """Raises as `parquet_rows` does."""
    return sum(
        1 if isinstance(batch, LostRow) else batch.num_rows for batch in parquet_batches(uri)
    )


def parquet_batches(uri: str) -> Iterator[pa.RecordBatch | LostRow]:
    """Raises as `parquet_rows` does."""
    with fsspec.open(uri, "rb") as file:
        group = 0
        while True:
            with _decoder(file, group) as channel:
                found = _Decoding(uri)
                yield from found.batches(channel, file)
            if found.done:
                return
            if found.group is None:
                raise OSError("the process that decodes it ended before its first row")
            group = found.group + 1  # it died of that one


class _Decoding:
    """What one decoder gives, until it is done or dies."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        self.done = False
        self.group: int | None = None
        self._left = 0
        self._last_row = time.monotonic()

    def batches(self, channel: Channel, file: Any) -> Iterator[pa.RecordBatch | LostRow]:
        """Raises OSError: the file cannot be read."""
        while not self.done:
            try:
                kind, content = channel.receive()
            except (EOFError, TimeoutError):
                kind, content = b"", b""
            if not kind or time.monotonic() - self._last_row > PATIENCE:
                yield from self._lost(self._left, CANNOT_DECODE)
                return
            if kind == b"r":
                asked = time.monotonic()
                _send_bytes(channel, file, *PAIR.unpack(content))
                self._last_row += time.monotonic() - asked  # a slow network is not its fault
            elif kind == b"g":
                self.group, self._left = PAIR.unpack(content)
            elif kind == b"b":
                with pa.ipc.open_stream(content) as batches:
                    for batch in batches:
                        self._left -= batch.num_rows
                        yield batch
                self._last_row = time.monotonic()
            elif kind == b"x":
                yield from self._lost(1, content.decode())
            elif kind == b"l":
                yield from self._lost(self._left, CANNOT_DECODE)
            elif kind == b"e":
                raise OSError(content.decode("utf-8", "replace"))
            else:
                self.done = True

    def _lost(self, count: int, rule: str) -> Iterator[LostRow]:
        for _ in range(min(max(count, 0), MOST_LOST)):
            self._left -= 1
            yield LostRow(rule, f"{self.uri}:{self.group}:{self._left}")


def _send_bytes(channel: Channel, file: Any, offset: int, count: int) -> None:
    """What the decoder asks for; no more at once than the limit of what it sends."""
    file.seek(offset)
    content = file.read(min(count, BATCH_BYTES))
    channel.write(NUMBER.pack(len(content)) + content)


@contextmanager
def _decoder(file: Any, first_group: int) -> Iterator[Channel]:
    """A decoder of the file, from a row group on. It ends with the block."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tasks.parquet_decoder"),
                *map(str, (theirs.fileno(), first_group, MEMORY)),
            ],
            pass_fds=[theirs.fileno()],
            env={**os.environ, **ENVIRONMENT},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        theirs.close()
        ours.settimeout(PATIENCE)
        try:
            channel = Channel(ours)
            channel.write(NUMBER.pack(file.seek(0, os.SEEK_END)))
            yield channel
        finally:
            process.kill()
            process.wait()
